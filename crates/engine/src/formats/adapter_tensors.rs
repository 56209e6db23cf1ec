//! Names of the tensors that an adapter has in GGUF, alone or inside its model's file: `blk.3.adapter_gate.weight`.

use super::{Gguf, GgufError};

/// The prompt of a layer.
pub const PROMPT: &str = "adapter_prompt.weight";
/// The gates of a layer.
pub const GATE: &str = "adapter_gate.weight";

/// The layer and part of a tensor that belongs to an adapter.
pub fn part_of(name: &str) -> Option<(u32, &str)> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer_number(layer)?, part)).filter(|_| [PROMPT, GATE].contains(&part))
}

/// Whether a tensor of a model's file belongs to the adapter in it.
pub fn is_adapter_tensor(name: &str) -> bool {
    part_of(name).is_some()
}

/// Whether the file holds an adapter and no model.
///
/// # Errors
/// A `general.type` that is no text.
pub fn holds_adapter_only(gguf: &Gguf) -> Result<bool, GgufError> {
    Ok(gguf.metadata.optional::<&str>("general.type")? == Some("adapter"))
}

/// A layer as names have it: no sign, no zeros in front, and not the largest number, so that one more is a number.
pub fn layer_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|layer: &u32| *layer < u32::MAX && layer.to_string() == text)
}
