//! Before a GPU answers for the first time, its kernels are compared with stored answers: drivers accept kernels that they
//! compute wrongly. A pass is remembered until the driver, the kernels or the formats change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use adapter_engine::formats::{TensorInfo, TensorType};
use adapter_engine::gpu::{FRAGMENTS, Gpu, KERNELS};
use adapter_engine::self_test;
use pollster::block_on;

use crate::{Problem, folders};

/// Formats of these tensors that have kernels, each once.
#[must_use]
pub fn formats(tensors: &[TensorInfo]) -> Vec<TensorType> {
    let used = |format: &TensorType| tensors.iter().any(|tensor| tensor.tensor_type == *format);
    TensorType::supported().filter(used).collect()
}

/// Whether this very GPU, driver and program passed the self-test before.
#[must_use]
pub fn is_remembered(gpu: &Gpu, formats: &[TensorType]) -> bool {
    stamp(gpu, formats).is_some_and(|path| path.is_file())
}

/// Runs the self-test and remembers that it passed.
///
/// # Errors
/// The first kernel that computes wrong numbers, or a GPU that fails.
pub fn require(gpu: &Gpu, formats: &[TensorType]) -> Result<(), Problem> {
    block_on(self_test::require(gpu, formats))?;
    if let Some(path) = stamp(gpu, formats) {
        // Where nothing can be kept, the test is run again next time.
        let _ = path.parent().map_or(Ok(()), folders::make_private).and_then(|()| std::fs::write(&path, ""));
    }
    Ok(())
}

/// An empty file whose name says what passed: these formats, in the variants that were chosen.
fn stamp(gpu: &Gpu, formats: &[TensorType]) -> Option<PathBuf> {
    let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    let fingerprint = fingerprint(gpu, (names, gpu.tuning().0));
    Some(folders::cache()?.join("self-test").join(format!("{fingerprint:016x}")))
}

/// Other for another GPU, driver, program, kernel or `what`.
pub(crate) fn fingerprint(gpu: &Gpu, what: impl Hash) -> u64 {
    let summary = gpu.summary();
    let mut hasher = DefaultHasher::new();
    (&summary.name, &summary.backend, &summary.driver, gpu.tier().to_string(), env!("CARGO_PKG_VERSION"))
        .hash(&mut hasher);
    for part in KERNELS.iter().chain(FRAGMENTS) {
        (part.name, part.text).hash(&mut hasher);
    }
    what.hash(&mut hasher);
    hasher.finish()
}
