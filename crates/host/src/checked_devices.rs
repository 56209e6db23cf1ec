//! Before a GPU answers, or trains, for the first time, the kernels of that are compared with stored answers: drivers accept
//! kernels that they compute wrongly. A pass is remembered until the driver, the kernels or the formats change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use adapter_engine::check::self_test::{self, Set};
use adapter_engine::formats::TensorType;
use adapter_engine::gpu::{FRAGMENTS, Gpu, KERNELS};
use pollster::block_on;

use crate::{Problem, folders};

/// Whether this very GPU, driver and program passed this set of the self-test before. Then it is taken for passed.
#[must_use]
pub fn is_remembered(gpu: &Gpu, set: Set, formats: &[TensorType]) -> bool {
    let remembered = stamp(gpu, set, formats).is_some_and(|path| path.is_file());
    if remembered {
        self_test::trust(gpu, set, formats);
    }
    remembered || self_test::is_trusted(gpu, set, formats)
}

/// Runs a set of the self-test and remembers that it passed.
///
/// # Errors
/// The first kernel that computes wrong numbers, or a GPU that fails.
pub fn require(gpu: &Gpu, set: Set, formats: &[TensorType]) -> Result<(), Problem> {
    block_on(self_test::require(gpu, set, formats))?;
    if let Some(path) = stamp(gpu, set, formats) {
        // Where nothing can be kept, the test is run again next time.
        let _ = path.parent().map_or(Ok(()), folders::make_private).and_then(|()| std::fs::write(&path, ""));
    }
    Ok(())
}

/// [`require`] before the first training, unless that [is remembered](is_remembered); says so through `begins` before the seconds
/// it takes.
///
/// # Errors
/// As [`require`].
pub fn before_training(gpu: &Gpu, formats: &[TensorType], begins: impl FnOnce()) -> Result<(), Problem> {
    before(gpu, &Set::OF_TRAINING, formats, begins)
}

/// [`before_training`] for other sets.
///
/// # Errors
/// As [`require`].
pub fn before(gpu: &Gpu, sets: &[Set], formats: &[TensorType], begins: impl FnOnce()) -> Result<(), Problem> {
    let missing: Vec<Set> = sets.iter().copied().filter(|set| !is_remembered(gpu, *set, formats)).collect();
    if !missing.is_empty() {
        begins();
    }
    missing.into_iter().try_for_each(|set| require(gpu, set, formats))
}

/// An empty file whose name says what passed: this set with these formats, in the variants that were chosen.
fn stamp(gpu: &Gpu, set: Set, formats: &[TensorType]) -> Option<PathBuf> {
    let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    let fingerprint = fingerprint(gpu, (set, names, gpu.tuning()));
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
