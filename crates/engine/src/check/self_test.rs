//! Does this GPU compute right? A driver may accept a kernel and return wrong numbers without an error (llama.cpp #28502,
//! #23133): every kernel in the variants this GPU gets runs once on small fixed inputs and is compared with stored answers.
//!
//! There are three [sets](Set): what a chat runs, what only a training and what only an encoder runs. The answers
//! (`self_test_answers.json`) come from the plain-Rust twins in f64; `tests/tests/self_test.rs` makes and checks them.

use std::collections::BTreeMap;

use super::bench::{Bench, F16, VARIANT};
use super::inputs::{BUDGET, nmse};
use super::{encoders, forward, gradients};
use crate::Error;
use crate::formats::TensorType;
use crate::gpu::{Gpu, GpuError};

pub use super::bench::Outcome;

const ANSWERS: &str = include_str!("self_test_answers.json");

/// Which kernels are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Set {
    /// What answers run: before the first chat.
    Forward,
    /// What gradients run beside that: before the first training.
    Training,
    /// What an encoder runs beside a chat's products: before the first picture.
    Encoder,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Training, Self::Encoder];
    /// What a training of a decoder runs.
    pub const OF_TRAINING: [Self; 2] = [Self::Forward, Self::Training];

    /// `forward`, `training` or `encoder`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Training => "training",
            Self::Encoder => "encoder",
        }
    }
}

/// One case on one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What ran, such as `matvec Q4_1`.
    pub name: String,
    /// The kernels it launched.
    pub kernels: Vec<&'static str>,
    /// Normalized mean squared error against the stored answer.
    pub error: f64,
    /// Whether that is rounding.
    pub good: bool,
}

impl Check {
    /// The kernels and the case, for a sentence.
    #[must_use]
    pub fn kernel(&self) -> String {
        format!("{} (case {:?})", self.kernels.join(" or "), self.name)
    }
}

/// Runs every kernel of a set in the variants this GPU gets, with products in `formats`.
///
/// # Errors
/// A lost GPU or too little memory; wrong numbers are in the checks.
pub async fn run(gpu: &Gpu, set: Set, formats: &[TensorType]) -> Result<Vec<Check>, Error> {
    let answers: BTreeMap<String, Vec<f32>> = serde_json::from_str(ANSWERS).unwrap_or_default();
    let mut checks = Vec::new();
    for Outcome { name, kernels, values } in results(gpu, set, formats).await? {
        let wanted = answers.get(answer_of(&name)).map_or(&[][..], Vec::as_slice);
        let error = nmse(&values, wanted);
        checks.push(Check { good: error <= budget(&name), name, kernels, error });
    }
    Ok(checks)
}

/// What a case may be off by.
fn budget(name: &str) -> f64 {
    // `silu(g) u` moves by up to `1 + |g|` times what g moves by, both relative. The gates of these cases go beyond 8, so what rounding
    // the input to f16 leaves in a product grows to (1 + 8)^2 times the budget; a wrong index is at 1.
    let amplified = name.contains(" swiglu ") && name.ends_with(F16);
    if amplified { BUDGET * 81.0 } else { BUDGET }
}

/// The name of a case's answer: variants share one.
#[must_use]
pub fn answer_of(name: &str) -> &str {
    name.split(VARIANT).next().unwrap_or(name)
}

/// As [`run`], and the first wrong kernel is an error.
///
/// # Errors
/// [`GpuError::SelfTest`] with the kernel's name, or as [`run`].
pub async fn require(gpu: &Gpu, set: Set, formats: &[TensorType]) -> Result<(), Error> {
    match run(gpu, set, formats).await?.into_iter().find(|check| !check.good) {
        None => {
            trust(gpu, set, formats);
            Ok(())
        }
        Some(check) => Err(GpuError::SelfTest {
            kernel: check.kernel(),
            gpu: gpu.summary().name.clone(),
            detail: format!("NMSE {:.1e} where {:.0e} is allowed", check.error, budget(&check.name)),
        }
        .into()),
    }
}

/// [`require`], unless this very GPU, tuned as it is, passed before or is [trusted](trust).
///
/// # Errors
/// As [`require`].
pub async fn ensure(gpu: &Gpu, set: Set, formats: &[TensorType]) -> Result<(), Error> {
    if is_trusted(gpu, set, formats) { Ok(()) } else { require(gpu, set, formats).await }
}

/// Takes it for passed on this open GPU, tuned as it is: for programs that remember a pass of the same GPU, driver, kernels and
/// formats from one start to the next.
pub fn trust(gpu: &Gpu, set: Set, formats: &[TensorType]) {
    for format in formats {
        gpu.set_mark(mark(gpu, set, *format));
    }
}

/// Whether it passed on this open GPU, tuned as it is, or is [trusted](trust).
#[must_use]
pub fn is_trusted(gpu: &Gpu, set: Set, formats: &[TensorType]) -> bool {
    !formats.is_empty() && formats.iter().all(|format| gpu.has_mark(&mark(gpu, set, *format)))
}

fn mark(gpu: &Gpu, set: Set, format: TensorType) -> String {
    format!("self-test {} {format} {:?}", set.name(), gpu.tuning())
}

/// What the kernels of a set return, by name; [`run`] compares it.
///
/// # Errors
/// A lost GPU or too little memory.
pub async fn results(gpu: &Gpu, set: Set, formats: &[TensorType]) -> Result<Vec<Outcome>, Error> {
    let mut bench = Bench { gpu, out: Vec::new() };
    match set {
        Set::Forward => forward::run(&mut bench, formats).await?,
        Set::Training => gradients::run(&mut bench, formats).await?,
        Set::Encoder => encoders::run(&mut bench).await?,
    }
    gpu.check()?;
    Ok(bench.out)
}
