//! The optimizer's moments and the progress of a run as bytes.

use std::collections::HashMap;

use adapter_engine::adapter::ParameterTable;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::recipe::Schedule;
use crate::{Moments, Recipe, Snapshot, TrainError};

/// Metadata key: steps that the moments hold.
const TIME: &str = "time";
/// The tensors of a parameter: mean of the gradient and of its square.
fn tensor_names(parameter: &str) -> [String; 2] {
    [format!("{parameter}.moment_1"), format!("{parameter}.moment_2")]
}

/// `optimizer.safetensors`: two F32 tensors a parameter (`prompts.moment_1`, ...) shaped like it, metadata `time`; none before the
/// first step.
pub(super) fn optimizer_bytes(snapshot: &Snapshot) -> Result<Vec<u8>, TrainError> {
    let wrong = |found: String, wanted: &str| TrainError::Setting {
        field: "the optimizer's state",
        found,
        wanted: wanted.to_owned(),
    };
    let mut tensors = Vec::new();
    let mut time = None;
    let table = snapshot.adapter.parameters();
    if let Some(Moments { time: done, first, second }) = &snapshot.moments {
        for moment in [first, second] {
            if moment.len() != table.n_numbers() {
                let wanted = format!("{}, as the adapter has", table.n_numbers());
                return Err(wrong(format!("{} numbers", moment.len()), &wanted));
            }
            if let n @ 1.. = moment.iter().filter(|value| !value.is_finite()).count() {
                return Err(wrong(format!("{n} numbers that are not finite"), "finite"));
            }
        }
        for parameter in &table {
            for (name, moment) in tensor_names(parameter.name).into_iter().zip([first, second]) {
                let numbers = table.part(parameter.name, moment);
                let bytes: Vec<u8> = numbers.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((name, parameter.shape.clone(), bytes));
            }
        }
        time = Some(HashMap::from([(TIME.to_owned(), done.to_string())]));
    }
    let refused = |error: safetensors::SafeTensorError| TrainError::Burn {
        doing: "packing the optimizer's state",
        reason: error.to_string(),
    };
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    safetensors::serialize(views, time).map_err(refused)
}

/// Reads [`optimizer_bytes`] of an adapter with these parameters.
pub(super) fn moments(bytes: &[u8], table: &ParameterTable) -> Result<Option<Moments>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    if file.is_empty() {
        return Ok(None);
    }
    let time = header.metadata().as_ref().and_then(|metadata| metadata.get(TIME)).ok_or("no time in its metadata")?;
    let time = time.parse().map_err(|_| format!("the time {time:?} in its metadata is no number"))?;
    let [mut first, mut second] = [Vec::new(), Vec::new()];
    for parameter in table {
        for (name, moment) in tensor_names(parameter.name).into_iter().zip([&mut first, &mut second]) {
            let tensor = file.tensor(&name).map_err(|error| error.to_string())?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != parameter.shape {
                let (dtype, shape) = (tensor.dtype(), tensor.shape());
                return Err(format!("{name} is {dtype:?} {shape:?} instead of F32 {:?}", parameter.shape));
            }
            let (numbers, _) = tensor.data().as_chunks();
            moment.extend(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
    }
    Ok(Some(Moments { time, first, second }))
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
