//! The GPU: one device, its pipelines, buffers and launch plans. No kernel names and no model knowledge in here.

mod buffer;
mod device;
mod kernel;
mod plan;
mod preprocess;
mod profile;

pub use buffer::Buffer;
pub use device::{AdapterSummary, Gpu, GpuError, GpuOptions, MatrixUnits, Tier, Tuning};
pub use kernel::{BindingKind, FRAGMENTS, KERNELS, Kernel, Pipeline, reflect_bindings, shader_source};
pub use plan::{Arg, Plan, PlanBuilder, Step, fold_groups};
pub use preprocess::{Constants, PreprocessError, preprocess};
pub use profile::{KernelTime, Profile};

/// The constants of a variant: `constants([("ROWS", 4.to_string())])`.
pub fn constants<const N: usize>(pairs: [(&'static str, String); N]) -> Constants {
    pairs.into_iter().collect()
}
