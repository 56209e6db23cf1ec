//! The tiny models of other families than LLaMA: `tests/data/tiny-qwen`.

use adapter_engine::Model;
use adapter_engine::adapter::{AdapterFile, GateActivation, GateKind, GateShape};
use adapter_engine::gpu::Gpu;
use adapter_engine::train::Batch;

use crate::{data, json, tensor};

/// Their names.
pub const FAMILIES: [&str; 2] = ["qwen2", "qwen3"];

/// Every kind of gates by the name it has in the golden files.
pub const KINDS: [(&str, GateKind); 4] = [
    ("paper", GateKind::PAPER),
    ("linear", GateKind::LINEAR),
    ("peft", GateKind::PEFT),
    ("scalar-tanh", GateKind { shape: GateShape::Scalar, activation: GateActivation::Tanh }),
];

/// L_a and A of the adapters.
pub const LAYERS: u32 = 2;
/// See [`LAYERS`].
pub const LENGTH: u32 = 7;

/// The model's file under `tests/data`.
#[must_use]
pub fn file(family: &str, format: &str) -> String {
    format!("tiny-qwen/{family}-{format}.gguf")
}

/// The model.
///
/// # Panics
/// When it cannot be loaded.
pub fn load(gpu: &Gpu, family: &str, format: &str) -> Model {
    crate::load(gpu, &data(&file(family, format)))
}

/// The tokens of the golden files.
///
/// # Panics
/// When they are not there.
pub fn ids(family: &str) -> Vec<u32> {
    crate::ids(&json(&format!("tiny-qwen/{family}.json"))["ids"])
}

/// A golden tensor.
///
/// # Panics
/// When it is not there.
pub fn golden(family: &str, name: &str) -> Vec<f32> {
    tensor(&format!("tiny-qwen/{family}-golden.safetensors"), name)
}

/// The adapter of a kind; `prefix` is the kind's name, or `KIND.train.init_` before a training from zero gates.
///
/// # Panics
/// When it is not there.
pub fn adapter(family: &str, name: &str, kind: GateKind) -> AdapterFile {
    let prompts = golden(family, &format!("{name}.prompts"));
    AdapterFile {
        kind,
        n_layers: LAYERS,
        adapter_len: LENGTH,
        n_channels: prompts.len() as u32 / LAYERS / LENGTH,
        prompts,
        gates: golden(family, &format!("{name}.gates")),
        base_model: None,
        base_layers: None,
        base_hash: None,
        chat_template: None,
    }
}

/// Where ten steps of training begin: given prompts, closed gates.
///
/// # Panics
/// When it is not there.
pub fn start(family: &str, name: &str, kind: GateKind) -> AdapterFile {
    let adapter = adapter(family, name, kind);
    let prompts = golden(family, &format!("{name}.train.init_prompts"));
    AdapterFile { prompts, gates: vec![0.0; adapter.gates.len()], ..adapter }
}

/// The golden text with its targets.
///
/// # Panics
/// When it is not there.
pub fn batch(family: &str) -> Batch {
    let (ids, first) = (ids(family), &json(&format!("tiny-qwen/{family}.json"))["first_target"]);
    let first = first.as_u64().expect("a number") as usize;
    let mut batch = Batch::default();
    batch.push(&ids, &(0..ids.len()).map(|t| t >= first).collect::<Vec<_>>());
    batch
}
