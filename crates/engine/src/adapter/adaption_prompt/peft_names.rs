//! Names of PEFT's tensors.

use crate::formats::adapter_tensors::layer_number;

/// The layer of a tensor as PEFT names it, its method's alone.
pub(super) fn layer_of(name: &str) -> Option<u32> {
    let (layer, part) = name.strip_prefix("base_model.model.model.layers.")?.split_once(".self_attn.")?;
    layer_number(layer).filter(|_| ["adaption_prompt", "adaption_gate"].contains(&part))
}

/// Whether a tensor has a name of PEFT's files.
pub(super) fn is_peft_name(name: &str) -> bool {
    layer_of(name).is_some()
}
