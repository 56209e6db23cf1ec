//! Gradients of prompts and gates against float64 autograd (tests/data/tiny-llama), through a frozen model on the GPU.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use adapter_engine::Model;
use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::train::{AdapterGradients, Batch, gradients};
use adapter_tests::{baseline_gpu, gpu, ids, json, load_tiny, one_at_a_time, tensor, tiny_adapter};
use pollster::block_on;

fn step(model: &Model, file: &AdapterFile, batch: &Batch) -> AdapterGradients {
    block_on(gradients(model, file, batch)).unwrap()
}

fn tiny_batch() -> Batch {
    let base = json("tiny-llama/base.json");
    let ids = ids(&base["ids"]);
    let first = base["first_target"].as_u64().unwrap() as usize;
    let trained: Vec<bool> = (0..ids.len()).map(|t| t >= first).collect();
    let mut batch = Batch::default();
    batch.push(&ids, &trained);
    batch
}

/// Largest difference over largest value.
fn relative(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let top = wanted.iter().fold(0f32, |top, value| top.max(value.abs()));
    let worst = found.iter().zip(wanted).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    f64::from(worst) / f64::from(top)
}

#[test]
fn prompts_and_gates_have_the_gradients_of_float64_autograd() {
    let _turn = one_at_a_time();
    for gpu in [gpu(), baseline_gpu()] {
        let model = load_tiny(gpu, "f32");
        for kind in [GateKind::PAPER, GateKind::LINEAR, GateKind::PEFT] {
            let result = step(&model, &tiny_adapter(kind), &tiny_batch());
            let golden = format!("tiny-llama/golden-{}.safetensors", kind.name());
            let dprompts = relative(&result.dprompts, &tensor(&golden, "d_prompts"));
            let dgates = relative(&result.dgates, &tensor(&golden, "d_gates"));
            println!(
                "gradients::{} loss {:.7} d_prompts {dprompts:.1e} d_gates {dgates:.1e}",
                kind.name(),
                result.loss
            );
            assert!(dprompts <= 1e-4 && dgates <= 1e-4, "{}: {dprompts} {dgates}", kind.name());
        }
    }
}

/// Zero-init: at step 0 the prompt's gradient is exactly 0 and the gate's is not.
#[test]
fn a_closed_gate_passes_no_gradient_to_the_prompt() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q4_1");
    let mut file = tiny_adapter(GateKind::PAPER);
    file.gates.fill(0.0);
    let result = step(&model, &file, &tiny_batch());
    assert!(result.dprompts.iter().all(|value| *value == 0.0));
    assert!(result.dgates.iter().all(|value| *value != 0.0), "{:?}", result.dgates);
}

/// Texts side by side learn what they learn alone: the gradient of a pack is the mean over all its targets.
#[test]
fn a_pack_of_texts_equals_the_texts_apart() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q8_0");
    let file = tiny_adapter(GateKind::PAPER);
    let texts: [(Vec<u32>, usize); 3] = [
        ((0..23).map(|i| i * 13 % 320).collect(), 5),
        ((0..9).map(|i| i * 7 % 320).collect(), 1),
        ((0..40).rev().collect(), 30),
    ];
    let mut pack = Batch::default();
    let (mut loss, mut dprompts, mut dgates, mut targets) =
        (0.0, vec![0f64; file.prompts.len()], vec![0f64; file.gates.len()], 0.0);
    for (ids, first) in &texts {
        let trained: Vec<bool> = (0..ids.len()).map(|t| t >= *first).collect();
        pack.push(ids, &trained);
        let mut alone = Batch::default();
        alone.push(ids, &trained);
        let n = f64::from(alone.n_targets());
        let result = step(&model, &file, &alone);
        loss += result.loss * n;
        targets += n;
        dprompts.iter_mut().zip(&result.dprompts).for_each(|(sum, d)| *sum += f64::from(*d) * n);
        dgates.iter_mut().zip(&result.dgates).for_each(|(sum, d)| *sum += f64::from(*d) * n);
    }
    let packed = step(&model, &file, &pack);
    assert!((packed.loss - loss / targets).abs() <= 1e-5, "{} {}", packed.loss, loss / targets);
    let mean = |sums: Vec<f64>| sums.iter().map(|sum| (sum / targets) as f32).collect::<Vec<_>>();
    assert!(relative(&packed.dprompts, &mean(dprompts)) <= 1e-5);
    assert!(relative(&packed.dgates, &mean(dgates)) <= 1e-5);
}
