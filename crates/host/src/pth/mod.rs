//! Adapters in PyTorch checkpoints (`.pth`): what the paper's code and lit-llama save.
//!
//! | file | tensors | gates |
//! |---|---|---|
//! | the paper's code (alpaca_finetuning_v1) | `adapter_query.weight [L*A, C]`, `layers.N.attention.gate [1, H, 1, 1]` of **all** layers | a head each, through `tanh` |
//! | its first release | the same, gates `[1]` | a layer each, raw |
//! | a training checkpoint of either | the same under `model`, with the weights of the model | the same |
//! | lit-llama | `transformer.h.N.attn.adapter_wte.weight [A, C]`, `.gating_factor [1, H, 1, 1]` (old: one number) | a head each (old: a layer), raw |
//!
//! **Raw or through `tanh`?** The paper's training code takes `tanh` of its gates, but the inference code published beside it
//! does not, and for the released files nobody wrote down which is meant. Unless [`PthOptions::gates`] says otherwise, gates
//! of the paper's shape are read as the training code means them. Both readings are the same function near 0 and differ
//! the more a gate is open.
//!
//! litgpt's files look like lit-llama's, but since December 2024 litgpt computes its prompts' keys and values from wrong
//! rows of the fused projection, so its adapters only mean something inside litgpt. They are refused, and so are the
//! successors of the method, which train other parts of the model.
//!
//! Nothing in a pickle is run, and a hostile file costs bounded memory.

mod archive;
mod error;
mod lit;
mod official;

use std::io::Read;
use std::path::Path;

use adapter_engine::adapter::{AdapterFile, GateActivation, foreign_method};

use archive::Checkpoint;
pub use error::PthError;

/// What the gates of a checkpoint mean, which no checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PthGates {
    /// Through `tanh`, as the paper's training code has it.
    Tanh,
    /// As they are.
    Raw,
}

impl PthGates {
    fn activation(self) -> GateActivation {
        match self {
            Self::Tanh => GateActivation::Tanh,
            Self::Raw => GateActivation::None,
        }
    }
}

/// What a checkpoint does not say about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PthOptions {
    /// What the gates mean; `None`: what the code that wrote the file trains.
    pub gates: Option<PthGates>,
    /// A: prompt tokens a layer, which only the paper's files need; `None`: found from rows and open gates.
    pub adapter_len: Option<u32>,
}

/// An adapter from a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct PthAdapter {
    /// Its numbers.
    pub file: AdapterFile,
    /// Whether what its gates mean is a guess: [`PthOptions::gates`] was `None` for a file of the paper's code.
    pub gates_assumed: bool,
}

/// Whether a regular file begins as a checkpoint of PyTorch 1.6 or newer does. A file that cannot be read does not.
pub fn is_pth(path: &Path) -> bool {
    let mut head = [0; 9];
    let read = path.is_file() && std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok());
    // A safetensors file whose header has 64 MiB begins with the same four letters, and then has a brace.
    read && head.starts_with(b"PK\x03\x04") && !head.ends_with(b"{")
}

/// Reads an adapter from a PyTorch checkpoint.
///
/// `base_layers` of the result is known, because all these files number layers from the model's first; the name of the
/// model is not.
///
/// # Errors
/// [`PthError`]: a file that is damaged, hostile, ambiguous, of another method, or whose tensors do not belong together.
pub fn import_pth(path: &Path, options: PthOptions) -> Result<PthAdapter, PthError> {
    let checkpoint = Checkpoint::open(path)?;
    refuse_foreign(&checkpoint)?;
    let names: Vec<&str> = checkpoint.names().collect();
    let is_lit = |name: &str| name.ends_with(lit::PROMPT) || name.ends_with(lit::GATE);
    let found = if names.iter().any(|name| is_lit(name)) {
        lit::read(&checkpoint, options)?
    } else {
        let nested = names.iter().any(|name| name.starts_with("model.")) && !checkpoint.has(official::PROMPTS);
        // A training checkpoint has `optimizer`, `epoch` and more beside `model`.
        let checkpoint = if nested { checkpoint.below("model.") } else { checkpoint };
        let ours = |name: &str| name == official::PROMPTS || name.ends_with(".attention.gate");
        if !checkpoint.names().any(ours)
            && let Some(error) = foreign_method(checkpoint.names())
        {
            return Err(error.into());
        }
        official::read(&checkpoint, options)?
    };
    found.file.check()?;
    Ok(found)
}

/// By which names of tensors another kind of file is known, what it is, and why it cannot run here.
type Foreign = (fn(&str) -> bool, &'static str, &'static str);

/// Names what looks like an adapter of this method and is another.
fn refuse_foreign(checkpoint: &Checkpoint) -> Result<(), PthError> {
    // Methods of PEFT, saved as a pickle.
    let of_peft = checkpoint.names().filter(|name| name.starts_with("base_model.model."));
    if let Some(error) = foreign_method(of_peft) {
        return Err(error.into());
    }
    let tunes_more = "it also trains biases, scales or norms of the model, which stays frozen here";
    let kinds: [Foreign; 6] = [
        (
            |name| name.starts_with("prefix_query.") || name.starts_with("image_bind"),
            "ImageBind-LLM's",
            "it answers to pictures and sounds, and trains biases and norms of the model, which stays frozen here",
        ),
        (
            |name| {
                let part = name.split('.').next().unwrap_or_default();
                part.starts_with("visual_") || part.starts_with("clip") || part == "llama"
            },
            "a LLaMA-Adapter V2 multimodal one",
            "it answers to pictures, and trains biases and norms of the model, which stays frozen here",
        ),
        (
            |name| matches!(name.rsplit('.').next(), Some("prefix_gate")),
            "LLaMA2-Accessory's",
            "that code gives the prompts other keys and values, and trains norms of the model, which stays frozen here",
        ),
        (
            |name| matches!(name.rsplit('.').next(), Some("adapter_bias" | "adapter_scale")),
            "a LLaMA-Adapter V2 of lit-llama or litgpt",
            tunes_more,
        ),
        (
            |name| {
                let in_layer = name.contains(".attention.w") || name.contains(".feed_forward.w");
                name.contains(".lora_") || name.ends_with("new_gate") || (in_layer && name.ends_with(".bias"))
            },
            "a LLaMA-Adapter V2 or a LoRA",
            tunes_more,
        ),
        (
            |name| name.ends_with(".adaption_prompt") || name.ends_with(".adaption_gate"),
            "Hugging Face PEFT's, as a pickle",
            "its folder with adapter_config.json and adapter_model.safetensors is read instead: save it with \
             save_pretrained(..., safe_serialization=True)",
        ),
    ];
    for (is_it, what, why) in kinds {
        // A training checkpoint of any of them nests its tensors.
        if checkpoint.names().any(|name| is_it(name.strip_prefix("model.").unwrap_or(name))) {
            return Err(PthError::Foreign { what, why });
        }
    }
    Ok(())
}
