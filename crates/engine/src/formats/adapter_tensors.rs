//! Names by which an adapter is found inside a GGUF file, whoever reads it: a model that leaves it out, or the adapter itself.

use super::{Gguf, GgufError};

/// The metadata key that says which method an adapter is of; llama.cpp writes `lora` there.
pub const TYPE_KEY: &str = "adapter.type";
/// A prompt `[C, A]` of a LLaMA-Adapter, behind `blk.N.`.
pub const PROMPT: &str = "adapter_prompt.weight";
/// The gates `[H]` or `[1]` of a LLaMA-Adapter, behind `blk.N.`.
pub const GATE: &str = "adapter_gate.weight";

/// A layer as names have it: no sign, no zeros in front, and not the largest number, so that one more is a number.
pub fn layer_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|layer: &u32| *layer < u32::MAX && layer.to_string() == text)
}

/// The layer and part of a tensor that belongs to an adapter: `blk.3.adapter_gate.weight`.
pub fn part_of(name: &str) -> Option<(u32, &str)> {
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer_number(layer)?, part)).filter(|_| [PROMPT, GATE].contains(&part))
}

/// Whether a tensor of a model's file belongs to the adapter in it.
pub fn is_adapter_tensor(name: &str) -> bool {
    part_of(name).is_some()
}

/// The method of a file that holds nothing but an adapter (`general.type` = `adapter`), empty where it names none; `None` for
/// every other file.
///
/// # Errors
/// Keys of another type than text.
pub fn lone_adapter(gguf: &Gguf) -> Result<Option<&str>, GgufError> {
    match gguf.metadata.optional::<&str>("general.type")? {
        Some("adapter") => Ok(Some(gguf.metadata.optional::<&str>(TYPE_KEY)?.unwrap_or_default())),
        _ => Ok(None),
    }
}
