//! Models and adapters on this machine: where the user's files lie, how a path becomes a model or an adapter, and the one check
//! and measurement of a GPU's kernels. The engine has no file system; what the terminal program and the window share of it is here.
//!
//! With the feature `train`, what a program on this machine needs to train adapters, too; without it nothing here needs burn.

mod adapter;
mod card;
pub mod checked_devices;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod figures;
pub mod folders;
mod model;
mod problem;
pub mod pth;
pub mod surroundings;
pub mod tuning;
#[cfg(feature = "train")]
pub mod worker;

pub use adapter::{FoundAdapter, adapter_file, built_in, fitting_adapter, is_pth, read_small};
pub use card::ModelCard;
pub use model::{DEFAULT_MODEL, ModelFile, Stage, default_model, file_name, open_file};
pub use problem::Problem;
