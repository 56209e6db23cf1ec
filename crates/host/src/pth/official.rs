//! Checkpoints of the paper's own code: one tensor with the prompts of all layers, and gates of all layers.

use std::collections::BTreeMap;

use adapter_engine::adapter::{AdapterFile, GateActivation, GateKind, GateShape};
use adapter_engine::formats::adapter_tensors::layer_number;

use super::archive::Checkpoint;
use super::error::PthError;
use super::{PthAdapter, PthOptions};

/// `[L*A, C]`, the lowest adapted layer first.
pub(super) const PROMPTS: &str = "adapter_query.weight";
/// A of every run of that code; its own inference takes it for granted, too.
const USUAL_LEN: u32 = 10;
/// N of any model.
const MAX_LAYERS: u64 = 1024;
/// H of any model.
const MAX_HEADS: u32 = 1024;

pub(super) fn read(checkpoint: &Checkpoint, options: PthOptions) -> Result<PthAdapter, PthError> {
    if !checkpoint.has(PROMPTS) {
        return Err(checkpoint.missing(PROMPTS));
    }
    let shape = checkpoint.shape(PROMPTS)?;
    let &[rows @ 1..=u32::MAX, n_channels @ 1..=u32::MAX] = shape.as_slice() else {
        return Err(checkpoint.wrong(PROMPTS, "[layers x length, channels]"));
    };
    let layers = gates(checkpoint)?;
    let n_layers = layers.len() as u32;
    let open = layers.iter().position(|gates| gates.iter().any(|gate| *gate != 0.0));
    let n_open = open.map_or(0, |first| n_layers - first as u32);
    let adapter_len = length(rows, n_layers, n_open, options.adapter_len)?;
    let adapted = rows / adapter_len;
    let scalar = layers.first().is_some_and(|gates| gates.len() == 1);
    let usual = if scalar { GateActivation::None } else { GateActivation::Tanh };
    let shape = if scalar { GateShape::Scalar } else { GateShape::PerHead };
    let file = AdapterFile {
        kind: GateKind { shape, activation: options.gates.map_or(usual, super::PthGates::activation) },
        n_layers: adapted,
        adapter_len,
        n_channels,
        prompts: checkpoint.floats(PROMPTS)?,
        gates: layers.into_iter().skip((n_layers - adapted) as usize).flatten().collect(),
        base_model: None,
        base_layers: Some(n_layers),
        base_hash: None,
        chat_template: None,
    };
    Ok(PthAdapter { file, gates_assumed: options.gates.is_none() })
}

/// The gates of all layers, `[N][H]` or `[N][1]`, and that nothing else is there but the weights of the model.
fn gates(checkpoint: &Checkpoint) -> Result<Vec<Vec<f32>>, PthError> {
    let mut layers: BTreeMap<u32, &str> = BTreeMap::new();
    let mut model_layers = 0;
    for name in checkpoint.names() {
        let in_layer = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
        let in_layer = in_layer.and_then(|(layer, part)| Some((layer_number(layer)?, part)));
        match (name, in_layer) {
            (_, Some((layer, "attention.gate"))) => {
                layers.insert(layer, name);
            }
            (_, Some((layer, part))) if is_of_a_layer(part) => model_layers = model_layers.max(layer + 1),
            (PROMPTS | "tok_embeddings.weight" | "norm.weight" | "output.weight" | "rope.freqs", _) => {}
            _ => return Err(PthError::Unknown { name: super::archive::shortened(name) }),
        }
    }
    let n_layers = layers.last_key_value().map_or(0, |(last, _)| last + 1).max(model_layers);
    if u64::from(n_layers) > MAX_LAYERS {
        let what = "number of layers".to_owned();
        return Err(PthError::TooLarge { what, found: n_layers.into(), limit: MAX_LAYERS });
    }
    let mut found: Vec<Vec<f32>> = Vec::new();
    for layer in 0..n_layers.max(1) {
        let Some(name) = layers.get(&layer) else {
            return Err(checkpoint.missing(&format!("layers.{layer}.attention.gate")));
        };
        match checkpoint.shape(name)?.as_slice() {
            [1, 1..=MAX_HEADS, 1, 1] | [1] => {}
            _ => return Err(checkpoint.wrong(name, "[1, heads, 1, 1]")),
        }
        let gates = checkpoint.floats(name)?;
        if let Some(first) = found.first().filter(|first| first.len() != gates.len()) {
            return Err(checkpoint.wrong(name, format!("{} gates, as the other layers have", first.len())));
        }
        found.push(gates);
    }
    Ok(found)
}

/// Whether a layer of the frozen model has a tensor of that name.
fn is_of_a_layer(part: &str) -> bool {
    matches!(
        part,
        "attention.wq.weight"
            | "attention.wk.weight"
            | "attention.wv.weight"
            | "attention.wo.weight"
            | "feed_forward.w1.weight"
            | "feed_forward.w2.weight"
            | "feed_forward.w3.weight"
            | "attention_norm.weight"
            | "ffn_norm.weight"
    )
}

/// A, which the file does not say: L*A rows are divided among the last L layers, and the gates below those are zeros
/// that were never trained. `n_open`: layers from the lowest with an open gate up.
fn length(rows: u32, n_layers: u32, n_open: u32, wanted: Option<u32>) -> Result<u32, PthError> {
    let fits = |adapter_len: u32| {
        adapter_len > 0
            && rows.is_multiple_of(adapter_len)
            && (n_open.max(1)..=n_layers).contains(&(rows / adapter_len))
    };
    if let Some(adapter_len) = wanted {
        let reason = match adapter_len {
            _ if fits(adapter_len) => return Ok(adapter_len),
            0 => "a prompt has at least one token".to_owned(),
            _ if !rows.is_multiple_of(adapter_len) => format!("{rows} is no multiple of {adapter_len}"),
            _ if rows / adapter_len > n_layers => {
                format!("that would be {} layers, and the model has {n_layers}", rows / adapter_len)
            }
            _ => format!("that would be {} layers, and the gates of {n_open} are open", rows / adapter_len),
        };
        return Err(PthError::Length { rows, adapter_len, reason });
    }
    // Exactly the layers with open gates, where they divide the rows.
    let by_gates = rows.checked_div(n_open).filter(|adapter_len| rows.is_multiple_of(n_open) && fits(*adapter_len));
    match (by_gates, fits(USUAL_LEN)) {
        (Some(USUAL_LEN), _) | (None, true) => Ok(USUAL_LEN),
        (Some(adapter_len), false) => Ok(adapter_len),
        (Some(adapter_len), true) => Err(PthError::AmbiguousLength {
            rows,
            n_layers,
            reason: format!(
                "gates are open in the last {n_open} layers, which would have {adapter_len} rows each, but the usual \
                 {USUAL_LEN} rows would make {} layers",
                rows / USUAL_LEN
            ),
        }),
        (None, false) => Err(PthError::AmbiguousLength {
            rows,
            n_layers,
            reason: format!("gates are open in the last {n_open} layers, and the usual {USUAL_LEN} rows do not fit"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn the_length_follows_from_rows_and_open_gates() {
        // The released file: 300 rows, 32 layers, gates open in 30.
        assert_eq!(length(300, 32, 30, None).unwrap(), 10);
        // An untrained adapter has no open gates.
        assert_eq!(length(300, 32, 0, None).unwrap(), 10);
        // One trained gate that happens to be zero.
        assert_eq!(length(300, 32, 29, None).unwrap(), 10);
        // Other lengths, which 10 rows a layer exclude.
        assert_eq!(length(3 * 16, 4, 3, None).unwrap(), 16);
        assert_eq!(length(30 * 20, 32, 30, None).unwrap(), 20);
        assert_eq!(length(30, 4, 3, Some(10)).unwrap(), 10);
        // Two readings: 2 layers of 20, or 4 of 10 whose lower gates are zero.
        let error = length(40, 4, 2, None).unwrap_err().to_string();
        assert!(error.contains("20 rows each") && error.contains("10 rows would make 4 layers"), "{error}");
        assert_eq!(length(40, 4, 2, Some(20)).unwrap(), 20);
        assert_eq!(length(40, 4, 2, Some(10)).unwrap(), 10);
        assert!(length(7, 4, 3, None).unwrap_err().to_string().contains("do not fit"));
        for (wanted, reason) in [
            (0, "at least one token"),
            (7, "no multiple of 7"),
            (5, "8 layers, and the model has 4"),
            (40, "1 layers, and the gates of 2 are open"),
        ] {
            let error = length(40, 4, 2, Some(wanted)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(length(0, 0, 0, None).is_err() && length(0, 0, 0, Some(1)).is_err());
    }
}
