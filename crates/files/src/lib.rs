//! Models and adapters on this machine: where the user's files lie, how a path becomes a model or an adapter, and the one check
//! and measurement of a GPU's kernels. The engine has no file system; what the terminal program and the window share of it is here.

mod adapter;
pub mod folders;
mod model;
mod problem;
pub mod trust;
pub mod tuning;

pub use adapter::{FoundAdapter, adapter_file, built_in, fitting_adapter, is_pth, read_small};
pub use model::{DEFAULT_MODEL, ModelFile, Stage, default_model, file_name, main_type, open_file};
pub use problem::Problem;
