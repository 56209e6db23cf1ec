//! The table of choices: none of them changes a bit, and measuring it ends in time.

use std::time::Instant;

use adapter_engine::check::inputs::{self, Scales};
use adapter_engine::check::tuning::{measure, measure_slots};
use adapter_engine::formats::TensorType;
use adapter_engine::gpu::{Gpu, GpuOptions, PlanBuilder, Tier, Tuning};
use adapter_engine::ops::matmul::{self, Epilogue, MANY_ROWS, MANY_TOKENS, Operands, Shape, Slot, Variant};
use adapter_engine::ops::matrix::Matrix;
use adapter_tests::{gpu, one_at_a_time, same_bits, uniform};

/// What a product gives with a choice.
fn product(gpu: &Gpu, variant: Variant, matrix: &Matrix, x: &[f32], n_tokens: u32) -> Vec<f32> {
    let n = (n_tokens * matrix.n_rows) as usize;
    let x = gpu.buffer_with("x", x).expect("memory");
    let y = gpu.buffer("y", n as u64 * 4).expect("memory");
    let shape = Shape { n_tokens, y_stride: matrix.n_rows, y_offset: 0 };
    let mut plan = PlanBuilder::new(gpu);
    let operands = Operands::new(matrix, &x, &y, shape, Epilogue::Store);
    matmul::launch_variant(&mut plan, variant, operands).expect("a plan");
    let plan = plan.build().expect("a plan");
    let mut encoder = gpu.encoder();
    plan.encode(gpu, &mut encoder);
    gpu.submit(encoder);
    pollster::block_on(gpu.read(&y, 0, n)).expect("numbers")
}

#[test]
fn no_choice_changes_a_bit() {
    let _alone = one_at_a_time();
    let gpu = gpu();
    let mut tiers = vec![Tier { cpu: true, ..Tier::default() }, Tier::default()];
    if gpu.tier().broadcast {
        tiers.push(Tier { cpu: true, broadcast: true, ..Tier::default() });
    }
    let mut compared = 0;
    for tier in tiers {
        // What prompts are computed from may round: `tiles_that_do_not_work_are_not_chosen` and `golden_logits.rs` bound that.
        for slot in Slot::ALL.into_iter().filter(|slot| *slot != Slot::Tiles) {
            let (n_rows, n_tokens) = match slot {
                Slot::Tiles => continue,
                Slot::Matvec | Slot::Lanes => (203, 1),
                Slot::MatvecManyRows => (MANY_ROWS as usize + 3, 1),
                Slot::Matmul => (203, 9),
                Slot::MatmulManyTokens => (75, MANY_TOKENS + 3),
            };
            let n_cols = 160;
            let bytes = inputs::weights(TensorType::Q4_1, n_rows * n_cols, Scales::Ordinary);
            let matrix = inputs::matrix(gpu, TensorType::Q4_1, &bytes, [n_rows, n_cols]).expect("a matrix");
            let x = uniform(7, n_tokens as usize * n_cols, -2.0, 2.0);
            let results: Vec<(Variant, Vec<f32>)> = (0..slot.choices(tier).len())
                .map(|choice| {
                    let tuning = slot.set(Tuning::default(), choice);
                    let variant = Variant::of(tier, tuning, n_tokens, n_rows as u32, n_cols as u32);
                    (variant, product(gpu, variant, &matrix, &x, n_tokens))
                })
                .collect();
            assert!(results[0].1.iter().any(|value| value.abs() > 0.1), "{slot:?} on {tier} computes something");
            for pair in results.windows(2) {
                assert_ne!(pair[0].0, pair[1].0, "{slot:?} on {tier}: two choices are one");
                assert!(same_bits(&pair[0].1, &pair[1].1), "{:?} and {:?} differ", pair[0].0, pair[1].0);
                compared += 1;
            }
        }
    }
    assert!(compared >= 7, "{compared} pairs");
}

/// What the table offers for prompts is right before it is fast: a kernel that computes something else, or that the driver does
/// not take, is not chosen.
#[test]
fn tiles_that_do_not_work_are_not_chosen() {
    let _alone = one_at_a_time();
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64();
    let poisons = [
        None,
        Some(("matmul_tiled", "sum0_0 *= scale0;", "sum0_0 *= 1.1 * scale0;")),
        Some(("matmul_tiled", "sum0_0 *= scale0;", "sum0_0 *= nothing_of_this_name;")),
    ];
    for poison in poisons {
        let gpu = adapter_tests::open(&GpuOptions { like_a_gpu: true, poison, ..GpuOptions::default() });
        assert!(gpu.tier().f16, "lavapipe has f16");
        let (tuning, measured) =
            pollster::block_on(measure_slots(&gpu, &[Slot::Tiles], 600.0, &now)).expect("measured");
        let tiles = &measured[0];
        eprintln!("{poison:?}: {:?}", tiles.seconds);
        assert_eq!(tiles.seconds[1].is_finite(), poison.is_none(), "{poison:?}: {:?}", tiles.seconds);
        assert!(poison.is_none() || tiles.chosen != 1);
        assert_eq!(tuning, Slot::Tiles.set(Tuning::default(), tiles.chosen));
        gpu.check().expect("what failed was tried on purpose");
    }
}

#[test]
fn it_is_measured_within_its_time_and_used() {
    let _alone = one_at_a_time();
    // A GPU of its own: what is chosen here must not reach other tests.
    let gpu = adapter_tests::open(&Default::default());
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64();
    let (tuning, measured) = pollster::block_on(measure(&gpu, 1.0, &now)).expect("measured");
    let took = now();
    let tier = gpu.tier();
    for row in &measured {
        let figures: Vec<String> =
            row.seconds.iter().zip(row.slot.choices(tier)).map(|(s, c)| format!("{c:?} {:.0} us", s * 1e6)).collect();
        eprintln!("{}: {} -> {:?}", row.slot.name(), figures.join(", "), row.slot.chosen(tier, tuning));
        assert!(row.seconds.iter().all(|seconds| *seconds > 0.0 && seconds.is_finite()));
        assert_eq!(row.slot.chosen(tier, tuning), row.slot.choices(tier)[row.chosen]);
    }
    eprintln!("{took:.2} s");
    assert!(!measured.is_empty());
    // Nothing is begun after the budget; what was begun compiles and ends. Debug builds on a busy machine take their time.
    assert!(took < 30.0, "{took:.1} s");

    let other = Slot::ALL.into_iter().find(|slot| slot.choices(tier).len() > 1).expect("something to choose");
    let size = [1, if other == Slot::MatvecManyRows { MANY_ROWS } else { 64 }, 64];
    let usual = Variant::choose(&gpu, size[0], size[1], size[2]);
    gpu.set_tuning(other.set(Tuning::default(), 1));
    assert_ne!(Variant::choose(&gpu, size[0], size[1], size[2]), usual, "the table is used");
    // No time at all: the usual choices.
    assert_eq!(pollster::block_on(measure(&gpu, -1.0, &now)).expect("nothing").0, Tuning::default());
}
