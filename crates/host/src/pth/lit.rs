//! lit-llama's checkpoints: prompts and gates a layer, and nothing else.

use std::collections::BTreeSet;

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::formats::adapter_tensors::layer_number;

use super::archive::{Checkpoint, shortened};
use super::error::PthError;
use super::{PthAdapter, PthGates, PthOptions};

/// `[A, C]`
pub(super) const PROMPT: &str = ".attn.adapter_wte.weight";
/// `[1, H, 1, 1]`, in the first checkpoints one number
pub(super) const GATE: &str = ".attn.gating_factor";
/// H of any model.
const MAX_HEADS: u32 = 1024;

const LITGPT: PthError = PthError::Foreign {
    what: "litgpt's",
    why: "since December 2024 litgpt cuts the prompts' keys and values from wrong rows of the fused projection, so its \
          adapters are trained for a computation that no other program does",
};

pub(super) fn read(checkpoint: &Checkpoint, options: PthOptions) -> Result<PthAdapter, PthError> {
    let mut layers = BTreeSet::new();
    for name in checkpoint.names() {
        if name.starts_with("model.") {
            return Err(LITGPT);
        }
        let inner = name.strip_prefix("transformer.h.");
        let layer = inner.and_then(|rest| rest.strip_suffix(PROMPT).or_else(|| rest.strip_suffix(GATE)));
        match layer.and_then(layer_number) {
            Some(layer) => layers.insert(layer),
            None => return Err(PthError::Unknown { name: shortened(name) }),
        };
    }
    let (Some(first), Some(last)) = (layers.first().copied(), layers.last().copied()) else {
        return Err(checkpoint.missing("transformer.h.2.attn.adapter_wte.weight"));
    };
    let (mut prompts, mut gates, mut sizes, mut heads) = (Vec::new(), Vec::new(), None, None);
    for layer in first..=last {
        let (prompt, gate) = (format!("transformer.h.{layer}{PROMPT}"), format!("transformer.h.{layer}{GATE}"));
        // Stops at the first gap, however far apart the numbers are.
        if let Some(name) = [&prompt, &gate].into_iter().find(|name| !checkpoint.has(name)) {
            return Err(checkpoint.missing(name));
        }
        let shape = checkpoint.shape(&prompt)?;
        let &[adapter_len @ 1..=u32::MAX, n_channels @ 1..=u32::MAX] = shape.as_slice() else {
            return Err(checkpoint.wrong(&prompt, "[length, channels]"));
        };
        if *sizes.get_or_insert((adapter_len, n_channels)) != (adapter_len, n_channels) {
            return Err(checkpoint.wrong(&prompt, "the same shape in all layers"));
        }
        match checkpoint.shape(&gate)?.as_slice() {
            [1, 1..=MAX_HEADS, 1, 1] | [1] | [] => {}
            [1, 1, 2..=u32::MAX, 1] => return Err(LITGPT),
            _ => return Err(checkpoint.wrong(&gate, "[1, heads, 1, 1]")),
        }
        let values = checkpoint.floats(&gate)?;
        if *heads.get_or_insert(values.len()) != values.len() {
            return Err(checkpoint.wrong(&gate, "as many gates as the other layers have"));
        }
        prompts.extend(checkpoint.floats(&prompt)?);
        gates.extend(values);
    }
    if options.gates == Some(PthGates::Tanh) {
        return Err(PthError::GatesAreRaw { written_by: "lit-llama" });
    }
    let (adapter_len, n_channels) = sizes.unwrap_or_default();
    let file = AdapterFile {
        kind: if heads == Some(1) { GateKind::PEFT } else { GateKind::LINEAR },
        n_layers: last - first + 1,
        adapter_len,
        n_channels,
        prompts,
        gates,
        base_model: None,
        // The last adapted layer is the model's last.
        base_layers: Some(last + 1),
        base_hash: None,
        chat_template: None,
    };
    if let Some(wanted) = options.adapter_len.filter(|wanted| *wanted != adapter_len) {
        let (rows, reason) =
            (file.n_layers.saturating_mul(adapter_len), format!("each layer of the file has {adapter_len}"));
        return Err(PthError::Length { rows, adapter_len: wanted, reason });
    }
    Ok(PthAdapter { file, gates_assumed: false })
}
