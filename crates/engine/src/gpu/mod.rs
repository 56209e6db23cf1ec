//! The GPU: one device, its pipelines, buffers and launch plans. No kernel names and no model knowledge in here.

mod buffer;
mod compile;
mod device;
mod error;
mod kernel;
mod list;
mod pipeline;
mod plan;
mod preprocess;
mod profile;
mod tier;
mod transfer;

pub use buffer::Buffer;
pub use device::{Gpu, GpuOptions};
pub use error::GpuError;
pub use kernel::{FRAGMENTS, KERNELS, Kernel, shader_source};
pub use list::AdapterSummary;
pub use pipeline::{BindingKind, Pipeline, reflect_bindings};
pub use plan::{Arg, Plan, PlanBuilder, Step, fold_groups};
pub use preprocess::{Constants, PreprocessError, preprocess};
pub use profile::{KernelTime, Profile};
pub use tier::{MatrixUnits, Tier, Tuning};

/// The constants of a variant: `constants([("ROWS", 4.to_string())])`.
pub fn constants<const N: usize>(pairs: [(&'static str, String); N]) -> Constants {
    pairs.into_iter().collect()
}
