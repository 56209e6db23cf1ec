//! Tile shapes of products on this GPU: a small table of choices, measured once for each driver in about a second.
//!
//! Only shapes that add up in the same order are in it, so that no choice changes a bit of any answer: a run resumes exactly,
//! and what was measured elsewhere cannot matter. The one exception, [`Slot::Tiles`], is for prompts, where a plan
//! [takes products of f16](PlanBuilder::f16_products): what it offers has to be right on this very GPU before it may be faster.

use super::inputs::{self, Scales};
use crate::Error;
use crate::formats::TensorType;
use crate::gpu::{Buffer, Gpu, GpuError, Plan, PlanBuilder, Tier, Tuning};
use crate::ops::matmul::{self, Epilogue, MANY_ROWS, MANY_TOKENS, Operands, Shape, Slot, Variant};
use crate::ops::matrix::Matrix;

/// Rows, columns and tokens it is measured with: a CPU shows a difference in a millisecond, a GPU of its own needs weights
/// that its caches cannot hold.
fn size_of(slot: Slot, tier: Tier) -> [u32; 3] {
    match (slot, tier.cpu) {
        (Slot::Tiles, _) => [2048, 2048, 512],
        (Slot::Matvec, true) => [1536, 576, 1],
        (Slot::MatvecManyRows, true) => [MANY_ROWS * 2, 576, 1],
        (Slot::Matvec, false) => [1536, 4096, 1],
        (Slot::MatvecManyRows, false) => [32_768, 4096, 1],
        (Slot::Matmul, _) => [576, 576, 64],
        (Slot::MatmulManyTokens, _) => [576, 576, MANY_TOKENS],
        (Slot::Lanes, _) => [1536, 576, 1],
    }
}

/// What was measured for a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Which one.
    pub slot: Slot,
    /// The shortest time of each choice in seconds, the usual one first; shorter where the time was up. Infinite: the choice
    /// does not work on this GPU.
    pub seconds: Vec<f64>,
    /// The one that is taken.
    pub chosen: usize,
}

/// A choice has to take less than this share of the usual one's time: the rest is noise.
const GAIN: f64 = 0.95;
/// Times each choice is measured, in turn with the others; the shortest counts, since nothing makes a GPU faster than it is.
const ROUNDS: usize = 3;
/// A launch is repeated until it takes this long: clocks in browsers are coarse.
const LEAST_SECONDS: f64 = 2e-3;
/// Most repetitions of a launch.
const MOST_REPEATS: usize = 64;

/// Measures the choices on `gpu` for about `budget` seconds and returns the fastest, with the times of every slot that was
/// measured: slots the budget does not reach keep the usual choice. `now` is a clock in seconds.
///
/// # Errors
/// A lost GPU or too little memory.
pub async fn measure(gpu: &Gpu, budget: f64, now: &dyn Fn() -> f64) -> Result<(Tuning, Vec<Measured>), Error> {
    measure_slots(gpu, &Slot::ALL, budget, now).await
}

/// [`measure`] of some slots.
///
/// # Errors
/// As [`measure`].
pub async fn measure_slots(
    gpu: &Gpu,
    slots: &[Slot],
    budget: f64,
    now: &dyn Fn() -> f64,
) -> Result<(Tuning, Vec<Measured>), Error> {
    let (tier, start) = (gpu.tier(), now());
    let (mut tuning, mut measured) = (Tuning::default(), Vec::new());
    for slot in slots.iter().copied() {
        let n = slot.choices(tier).len();
        if n < 2 {
            continue;
        }
        let time_is_up = || now() - start > budget;
        if time_is_up() {
            break;
        }
        let bench = Bench::new(gpu, slot)?;
        let (mut runs, mut once, mut usual) = (Vec::new(), 0.0, Vec::new());
        for choice in 0..n {
            // Compiling takes most of the time.
            if choice > 0 && time_is_up() {
                break;
            }
            let run = match bench.run(slot.set(Tuning::default(), choice), now).await {
                // A driver that offers what it cannot compile: experimental features are that.
                Err(Error::Gpu(GpuError::Validation { .. })) if slot == Slot::Tiles && choice > 0 => None,
                run => Some(run?),
            };
            let Some((plan, y, seconds)) = run else {
                runs.push(None);
                continue;
            };
            if slot == Slot::Tiles {
                let found = gpu.read(&y, 0, (bench.n_tokens * bench.matrix.n_rows) as usize).await?;
                if choice == 0 {
                    usual = found;
                } else if inputs::nmse(&found, &usual) > inputs::BUDGET {
                    runs.push(None);
                    continue;
                }
            }
            once = seconds;
            runs.push(Some(plan));
        }
        let repeats = ((LEAST_SECONDS / f64::max(once, 1e-6)).ceil() as usize).clamp(1, MOST_REPEATS);
        let mut seconds = vec![f64::INFINITY; runs.len()];
        for _ in 0..ROUNDS {
            for (plan, shortest) in runs.iter().zip(&mut seconds) {
                let Some(plan) = plan else { continue };
                *shortest = shortest.min(bench.time(plan, repeats, now).await? / repeats as f64);
            }
        }
        let chosen = fastest(&seconds);
        tuning = slot.set(tuning, chosen);
        measured.push(Measured { slot, seconds, chosen });
    }
    Ok((tuning, measured))
}

/// The choice with the shortest time, if it is clearly shorter than that of the usual one.
fn fastest(seconds: &[f64]) -> usize {
    let usual = seconds.first().copied().unwrap_or_default();
    let best = seconds.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
    best.filter(|(_, shortest)| **shortest < usual * GAIN).map_or(0, |(choice, _)| choice)
}

/// One product, to be computed in several ways.
struct Bench<'g> {
    gpu: &'g Gpu,
    slot: Slot,
    matrix: Matrix,
    x: Buffer,
    n_tokens: u32,
}

impl<'g> Bench<'g> {
    fn new(gpu: &'g Gpu, slot: Slot) -> Result<Self, Error> {
        let [n_rows, n_cols, n_tokens] = size_of(slot, gpu.tier());
        // What the weights are does not matter, how many there are does.
        let data = inputs::weights(TensorType::Q4_0, n_cols as usize, Scales::Ordinary).repeat(n_rows as usize);
        let matrix = inputs::matrix(gpu, TensorType::Q4_0, &data, [n_rows as usize, n_cols as usize])?;
        let x = gpu.buffer_with("x", &inputs::inputs(1, (n_tokens * n_cols) as usize))?;
        Ok(Self { gpu, slot, matrix, x, n_tokens })
    }

    /// The product with a choice, its result, and the seconds it takes once it is compiled.
    async fn run(&self, tuning: Tuning, now: &dyn Fn() -> f64) -> Result<(Plan, Buffer, f64), Error> {
        let Self { gpu, slot, matrix, x, n_tokens } = self;
        let y = gpu.buffer("y", u64::from(n_tokens * matrix.n_rows) * 4)?;
        let shape = Shape { n_tokens: *n_tokens, y_stride: matrix.n_rows, y_offset: 0 };
        let usual = || Variant::of(gpu.tier(), tuning, *n_tokens, matrix.n_rows, matrix.n_cols);
        let f16 = if *slot == Slot::Tiles { Variant::f16_products(gpu.tier(), tuning) } else { None };
        let mut plan = PlanBuilder::new(gpu);
        let operands = Operands::new(matrix, x, &y, shape, Epilogue::Store);
        matmul::launch_variant(&mut plan, f16.unwrap_or_else(usual), operands)?;
        let plan = plan.build()?;
        self.time(&plan, 1, now).await?;
        let seconds = self.time(&plan, 1, now).await?;
        Ok((plan, y, seconds))
    }

    async fn time(&self, plan: &Plan, repeats: usize, now: &dyn Fn() -> f64) -> Result<f64, Error> {
        let start = now();
        let mut encoder = self.gpu.encoder();
        for _ in 0..repeats {
            plan.encode(self.gpu, &mut encoder);
        }
        self.gpu.submit(encoder);
        self.gpu.finished().await?;
        Ok(now() - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIERS: [Tier; 5] = [
        tier(true, true, false),
        tier(true, false, true),
        tier(false, true, false),
        tier(false, false, false),
        tier(false, true, true),
    ];

    const fn tier(cpu: bool, broadcast: bool, f16: bool) -> Tier {
        Tier { cpu, broadcast, f16, matrix_units: None }
    }

    #[test]
    fn a_damaged_table_is_the_usual_one() {
        let damaged: Tuning = serde_json::from_str("[4,9,255,1,0,7]").expect("six numbers");
        for tier in TIERS {
            for slot in [Slot::Tiles, Slot::Matvec, Slot::MatvecManyRows, Slot::Lanes] {
                assert_eq!(slot.chosen(tier, damaged), slot.chosen(tier, Tuning::default()), "{slot:?} on {tier}");
            }
        }
        assert!(serde_json::from_str::<Tuning>("[1,2]").is_err());
    }

    #[test]
    fn a_choice_is_taken_when_it_is_clearly_faster() {
        assert_eq!(fastest(&[1.0, 0.97, 1.2]), 0, "noise");
        assert_eq!(fastest(&[1.0, 0.9, 0.8]), 2);
        assert_eq!(fastest(&[1.0, f64::INFINITY, 0.5]), 2, "one that does not work is none");
        assert_eq!(fastest(&[]), 0);
    }

    #[test]
    fn gate_and_up_stay_in_one_thread() {
        for tier in TIERS {
            for slot in [Slot::Matvec, Slot::MatvecManyRows, Slot::Matmul, Slot::MatmulManyTokens] {
                assert!(slot.choices(tier).iter().all(|[rows, _]| rows.is_multiple_of(2)), "{slot:?} on {tier}");
            }
        }
    }
}
