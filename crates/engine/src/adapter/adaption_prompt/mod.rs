//! Zero-init attention (arXiv:2303.16199): prompts beside the attention of the last layers, behind gates that begin closed.

mod file;
mod gate;
mod gguf;
mod peft;
mod peft_names;
pub(super) mod resident;
mod safetensors;
mod shape;

pub use file::AdapterFile;
pub use gate::{GateActivation, GateKind, GateShape, UnknownGateKind};
pub use gguf::merge;
pub use shape::AdapterShape;
