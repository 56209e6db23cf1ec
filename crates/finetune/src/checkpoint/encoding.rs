//! The optimizer's moments and the progress of a run as bytes.

use std::collections::HashMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::recipe::Schedule;
use crate::{Moments, Recipe, Snapshot, TrainError};

/// Metadata key: steps that the moments hold.
const TIME: &str = "time";
/// In the order of [`Moments`]: mean and square of the prompts' gradient, then of the gates'.
const TENSORS: [&str; 4] = ["prompts.moment_1", "prompts.moment_2", "gates.moment_1", "gates.moment_2"];

/// `optimizer.safetensors`: four F32 tensors shaped like what they belong to, metadata `time`; none before the first step.
pub(super) fn optimizer_bytes(snapshot: &Snapshot) -> Result<Vec<u8>, TrainError> {
    let wrong = |found: String, wanted: &str| TrainError::Setting {
        field: "the optimizer's state",
        found,
        wanted: wanted.to_owned(),
    };
    let mut bytes = Vec::new();
    let mut time = None;
    if let Some(Moments { time: done, prompts: [p1, p2], gates: [g1, g2] }) = &snapshot.moments {
        let adapter = &snapshot.adapter;
        let layers = adapter.n_layers as usize;
        let prompts = vec![layers, adapter.adapter_len as usize, adapter.n_channels as usize];
        let gates = vec![layers, adapter.gates.len() / layers.max(1)];
        for (moment, numbers, shape) in [
            (p1, adapter.prompts.len(), &prompts),
            (p2, adapter.prompts.len(), &prompts),
            (g1, adapter.gates.len(), &gates),
            (g2, adapter.gates.len(), &gates),
        ] {
            if moment.len() != numbers {
                return Err(wrong(format!("{} numbers", moment.len()), &format!("{numbers}, as the adapter has")));
            }
            if let n @ 1.. = moment.iter().filter(|value| !value.is_finite()).count() {
                return Err(wrong(format!("{n} numbers that are not finite"), "finite"));
            }
            bytes.push((shape.clone(), moment.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
        }
        time = Some(HashMap::from([(TIME.to_owned(), done.to_string())]));
    }
    let refused = |error: safetensors::SafeTensorError| TrainError::Burn {
        doing: "packing the optimizer's state",
        reason: error.to_string(),
    };
    let tensors = TENSORS
        .into_iter()
        .zip(&bytes)
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    safetensors::serialize(tensors, time).map_err(refused)
}

/// Reads [`optimizer_bytes`].
pub(super) fn moments(bytes: &[u8]) -> Result<Option<Moments>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    if file.is_empty() {
        return Ok(None);
    }
    let time = header.metadata().as_ref().and_then(|metadata| metadata.get(TIME)).ok_or("no time in its metadata")?;
    let time = time.parse().map_err(|_| format!("the time {time:?} in its metadata is no number"))?;
    let floats = |name: &str| {
        let tensor = file.tensor(name).map_err(|error| error.to_string())?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?} instead of F32", tensor.dtype()));
        }
        let (numbers, _) = tensor.data().as_chunks();
        Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>())
    };
    let [p1, p2, g1, g2] = TENSORS.map(floats);
    Ok(Some(Moments { time, prompts: [p1?, p2?], gates: [g1?, g2?] }))
}

/// `progress.json`
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) step: u64,
    pub(super) skipped: u64,
    pub(super) skipped_in_a_row: u32,
    pub(super) progress: Progress,
}

pub(super) fn progress_bytes(snapshot: &Snapshot, progress: &Progress) -> Result<Vec<u8>, TrainError> {
    let Snapshot { step, skipped, skipped_in_a_row, .. } = *snapshot;
    serde_json::to_vec_pretty(&Stored { step, skipped, skipped_in_a_row, progress: progress.clone() })
        .map_err(|error| TrainError::Burn { doing: "packing the progress", reason: error.to_string() })
}

pub(super) fn progress(bytes: &[u8]) -> Result<Stored, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// [`Recipe`] with its floating-point numbers as strings. A field that is added there must be added here: it does not
/// compile otherwise.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Recipe")]
pub(super) struct StoredRecipe {
    #[serde(with = "crate::exact")]
    learning_rate: f64,
    warmup_steps: u64,
    n_steps: u64,
    schedule: Schedule,
    #[serde(with = "crate::exact")]
    beta_1: f32,
    #[serde(with = "crate::exact")]
    beta_2: f32,
    #[serde(with = "crate::exact")]
    epsilon: f32,
    #[serde(with = "crate::exact")]
    weight_decay: f32,
    #[serde(with = "exact_or_none")]
    max_grad_norm: Option<f32>,
}

mod exact_or_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Exact(#[serde(with = "crate::exact")] f32);

    pub(super) fn serialize<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Exact).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
        Ok(Option::<Exact>::deserialize(deserializer)?.map(|Exact(value)| value))
    }
}
