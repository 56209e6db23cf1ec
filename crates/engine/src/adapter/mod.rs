//! Adapters: their files, what trains in them, and what a resident one adds to a model's blocks. [`Method`] is the list of methods;
//! each has a folder.

pub mod adaption_prompt;
mod base;
mod error;
mod foreign;
mod method;
mod parameters;
mod write_error;

pub use adaption_prompt::{AdapterFile, AdapterShape, GateActivation, GateKind, GateShape, UnknownGateKind, merge};
pub use base::{BaseMatch, BaseModel, base_hash};
pub use error::AdapterError;
pub use foreign::of_tensors as foreign_method;
pub(crate) use method::Applied;
pub use method::{Adapter, Method};
pub use parameters::{Parameter, ParameterTable};
pub use write_error::AdapterWriteError;
