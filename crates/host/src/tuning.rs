//! Tile shapes of products on a GPU, measured when it answers for the first time and kept until the driver or the kernels
//! change.

use std::path::PathBuf;
use std::time::Instant;

use adapter_engine::check::tuning::{Measured, measure};
use adapter_engine::gpu::{Gpu, Tuning};
use adapter_engine::ops::matmul::Slot;
use pollster::block_on;

use crate::{Problem, checked_devices, folders};

/// Seconds it may take, about.
const BUDGET: f64 = 1.0;

/// Chooses what was measured before on this very GPU, driver and program. False: nothing was.
#[must_use]
pub fn recall(gpu: &Gpu) -> bool {
    let kept = path(gpu).and_then(|path| std::fs::read(path).ok());
    let Some(tuning) = kept.and_then(|bytes| serde_json::from_slice::<Tuning>(&bytes).ok()) else { return false };
    gpu.set_tuning(tuning);
    true
}

/// Measures, chooses the fastest and keeps that.
///
/// # Errors
/// A GPU that fails.
pub fn renew(gpu: &Gpu) -> Result<Vec<Measured>, Problem> {
    let start = Instant::now();
    let (tuning, measured) = block_on(measure(gpu, BUDGET, &|| start.elapsed().as_secs_f64()))?;
    gpu.set_tuning(tuning);
    if let Some(path) = path(gpu)
        && let Ok(text) = serde_json::to_string(&tuning)
    {
        // Where nothing can be kept, it is measured again next time.
        let _ = path.parent().map_or(Ok(()), folders::make_private).and_then(|()| std::fs::write(&path, text));
    }
    Ok(measured)
}

/// A file whose name says for what it was measured.
fn path(gpu: &Gpu) -> Option<PathBuf> {
    let choices: Vec<_> = Slot::ALL.iter().map(|slot| slot.choices(gpu.tier())).collect();
    Some(folders::cache()?.join("tuning").join(format!("{:016x}.json", checked_devices::fingerprint(gpu, &choices))))
}
