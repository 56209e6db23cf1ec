//! Before a GPU answers for the first time, its kernels are compared with stored answers: drivers accept kernels that they
//! compute wrongly. A pass is remembered until the driver, the kernels or the formats change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use adapter_engine::formats::{TensorInfo, TensorType};
use adapter_engine::gpu::{Gpu, KERNELS};
use adapter_engine::self_test;
use pollster::block_on;

use crate::failure::Failure;
use crate::{folders, output};

/// Formats of these tensors that have kernels, each once.
pub fn formats(tensors: &[TensorInfo]) -> Vec<TensorType> {
    let used = |format: &TensorType| tensors.iter().any(|tensor| tensor.tensor_type == *format);
    TensorType::supported().filter(used).collect()
}

/// Runs the self-test unless this very GPU, driver and program passed it before.
///
/// # Errors
/// The first kernel that computes wrong numbers, or a GPU that fails.
pub fn require(gpu: &Gpu, formats: &[TensorType]) -> Result<(), Failure> {
    let stamp = stamp(gpu, formats);
    if stamp.as_ref().is_some_and(|path| path.is_file()) {
        return Ok(());
    }
    let spinner = output::bar(1, "Checking the GPU's kernels, once for each driver");
    spinner.tick();
    let outcome = block_on(self_test::require(gpu, formats));
    spinner.finish_and_clear();
    outcome?;
    if let Some(path) = stamp {
        // Where nothing can be kept, the test is run again next time.
        let _ = path.parent().map_or(Ok(()), folders::make_private).and_then(|()| std::fs::write(&path, ""));
    }
    Ok(())
}

/// An empty file whose name says what passed.
fn stamp(gpu: &Gpu, formats: &[TensorType]) -> Option<PathBuf> {
    let summary = gpu.summary();
    let mut hasher = DefaultHasher::new();
    (&summary.name, &summary.backend, &summary.driver, gpu.tier().to_string(), env!("CARGO_PKG_VERSION"))
        .hash(&mut hasher);
    for format in formats {
        format.name().hash(&mut hasher);
    }
    for kernel in KERNELS {
        (kernel.name, kernel.text).hash(&mut hasher);
    }
    Some(folders::cache()?.join("self-test").join(format!("{:016x}", hasher.finish())))
}
