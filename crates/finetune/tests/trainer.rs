//! Training on the tiny model: against float64 PyTorch, against itself after a resume, and with numbers that are not finite.

#[path = "trainer/driver.rs"]
mod driver;

use std::ops::ControlFlow;
use std::sync::Arc;

use adapter_engine::adapter::{AdapterFile, GateKind, Method};
use adapter_engine::formats::Gguf;
use adapter_engine::gpu::GpuOptions;
use adapter_engine::train::{Batch, gradients};
use adapter_finetune::frozen::{CpuLlama, GpuLlama};
use adapter_finetune::recipe::Schedule;
use adapter_finetune::{AdapterShape, Frozen, Recipe, Snapshot, TrainError, Trainable, Trainer};
use adapter_tests::{families, gpu, ids, json, load_tiny, one_at_a_time, tensor};
use pollster::block_on;

const KINDS: [(&str, GateKind); 3] =
    [("paper", GateKind::PAPER), ("linear", GateKind::LINEAR), ("peft", GateKind::PEFT)];

fn on_gpu() -> Frozen {
    Frozen::Gpu(Arc::new(GpuLlama::new(&load_tiny(gpu(), "f32"), 3, 10, 256).expect("a trainer")))
}

fn on_cpu() -> Frozen {
    let file = adapter_tests::read("tiny-llama/tiny-f32.gguf");
    let gguf = Gguf::read(&file).expect("a valid file");
    Frozen::Cpu(Arc::new(CpuLlama::load(&gguf, &file, &mut |_, _| ControlFlow::Continue(())).expect("weights")))
}

fn both() -> [(&'static str, Frozen); 2] {
    [("gpu", on_gpu()), ("cpu", on_cpu())]
}

fn shape(frozen: &Frozen, kind: GateKind) -> AdapterShape {
    AdapterShape::new(frozen.config(), 3, 10, kind)
}

/// The text of the golden files; targets from `first_target` on.
fn golden_batch() -> Batch {
    let golden = json("tiny-llama/base.json");
    let ids = ids(&golden["ids"]);
    let first = golden["first_target"].as_u64().expect("a number") as usize;
    let trained: Vec<bool> = (0..ids.len()).map(|t| t >= first).collect();
    let mut batch = Batch::default();
    batch.push(&ids, &trained);
    batch
}

/// Eight short texts of chance ids.
fn eight_rows() -> Batch {
    let mut batch = Batch::default();
    for row in 0..8u32 {
        let ids: Vec<u32> = (0..12).map(|t| (row * 37 + t * 11 + (row * t) % 7) % 320).collect();
        let trained: Vec<bool> = (0..12).map(|t| t >= 4).collect();
        batch.push(&ids, &trained);
    }
    batch
}

/// No warm-up, no decay of the rate, no clipping: what the golden runs did.
fn plain_recipe(steps: u64) -> Recipe {
    Recipe { schedule: Schedule::Constant, max_grad_norm: None, ..Recipe::new(3e-2, 0, steps) }
}

fn golden_start(name: &str, kind: GateKind) -> AdapterFile {
    let prompts = tensor(&format!("tiny-llama/golden-{name}.safetensors"), "train.init_prompts");
    let width = if kind == GateKind::PEFT { 1 } else { 4 };
    AdapterFile {
        kind,
        n_layers: 3,
        adapter_len: 10,
        n_channels: 256,
        prompts,
        gates: vec![0.0; 3 * width],
        base_model: None,
        base_layers: None,
        base_hash: None,
        chat_template: None,
    }
}

fn relative(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = square(&mut found.iter().zip(wanted).map(|(a, b)| f64::from(a - b)));
    difference / square(&mut wanted.iter().map(|v| f64::from(*v)))
}

/// Validation reads rows; the backward pass, the longer half of a step, is not for it.
#[test]
fn a_loss_alone_computes_no_gradients() {
    let _guard = one_at_a_time();
    let gpu = adapter_tests::open(&GpuOptions { profile: true, ..GpuOptions::default() });
    let frozen = GpuLlama::new(&load_tiny(&gpu, "q4_1"), 3, 10, 256).expect("a trainer");
    let frozen = Frozen::Gpu(Arc::new(frozen));
    let shape = shape(&frozen, GateKind::PAPER);
    let mut trainer = Trainer::new(frozen, shape, plain_recipe(10), 0).expect("a trainer");
    let batch = eight_rows();
    let kernels = || gpu.take_profile().into_iter().map(|time| time.kernel).collect::<Vec<_>>();
    let backward = |kernels: &[&str]| kernels.iter().filter(|kernel| kernel.contains("backward")).count();

    let report = block_on(trainer.train(&batch)).expect("a step");
    let of_a_step = kernels();
    assert!(backward(&of_a_step) > 3, "{of_a_step:?}");
    block_on(trainer.loss(&batch)).expect("a loss");
    let of_a_loss = kernels();
    assert!(!of_a_loss.is_empty() && backward(&of_a_loss) == 0, "{of_a_loss:?}");
    assert!(report.loss.is_finite());
}

#[test]
fn ten_adamw_steps_equal_float64_pytorch() {
    let _guard = one_at_a_time();
    let batch = golden_batch();
    for (backend, frozen) in both() {
        for (name, kind) in KINDS {
            let start = golden_start(name, kind);
            let shape = shape(&frozen, kind);
            let mut trainer =
                Trainer::with_adapter(frozen.clone(), shape, plain_recipe(10), &start).expect("a trainer");
            let wanted = tensor(&format!("tiny-llama/golden-{name}.safetensors"), "train.losses");
            for (step, wanted) in wanted.iter().enumerate() {
                let report = block_on(trainer.train(&batch)).expect("a step");
                // f32 PyTorch is within 1.2e-7; a recipe that forgets to let gates decay is 4e-4 off.
                let error = (report.loss - wanted).abs() / wanted;
                assert!(error < 1e-5, "{backend} {name} step {step}: {} for {wanted}", report.loss);
            }
            let trained = block_on(trainer.adapter()).expect("an adapter");
            for (what, found, wanted) in
                [("prompts", &trained.prompts, "train.prompts"), ("gates", &trained.gates, "train.gates")]
            {
                // Adam divides by the root of the second moment: where that is near 0, rounding shows most. f32 PyTorch is
                // within 2e-6.
                let error = relative(found, &tensor(&format!("tiny-llama/golden-{name}.safetensors"), wanted));
                eprintln!("{backend} {name} {what}: {error:.1e}");
                assert!(error < 1e-4, "{backend} {name} {what}: {error}");
            }
        }
    }
}

/// The same for the other families: their own prompt keys, biases and norms, on both backends.
#[test]
fn ten_adamw_steps_of_other_families_equal_float64_pytorch() {
    let _guard = one_at_a_time();
    for family in families::FAMILIES {
        let batch = families::batch(family);
        let on_gpu = GpuLlama::new(&families::load(gpu(), family, "f32"), families::LAYERS, families::LENGTH, 64);
        let file = adapter_tests::read(&families::file(family, "f32"));
        let gguf = Gguf::read(&file).expect("a valid file");
        let on_cpu = CpuLlama::load(&gguf, &file, &mut |_, _| ControlFlow::Continue(())).expect("weights");
        let both = [("gpu", Frozen::Gpu(Arc::new(on_gpu.expect("a trainer")))), ("cpu", Frozen::Cpu(Arc::new(on_cpu)))];
        for (backend, frozen) in both {
            for (name, kind) in families::KINDS {
                let start = families::start(family, name, kind);
                let shape = AdapterShape::new(frozen.config(), families::LAYERS, families::LENGTH, kind);
                let trainer = Trainer::with_adapter(frozen.clone(), shape, plain_recipe(10), &start);
                let mut trainer = trainer.expect("a trainer");
                let golden = |what: &str| families::golden(family, &format!("{name}.train.{what}"));
                for (step, wanted) in golden("losses").into_iter().map(f64::from).enumerate() {
                    let report = block_on(trainer.train(&batch)).expect("a step");
                    let error = (f64::from(report.loss) - wanted).abs() / wanted;
                    assert!(error < 1e-5, "{family} {backend} {name} step {step}: {} for {wanted}", report.loss);
                }
                let trained = block_on(trainer.adapter()).expect("an adapter");
                for (what, found) in [("prompts", &trained.prompts), ("gates", &trained.gates)] {
                    let error = relative(found, &golden(what));
                    eprintln!("{family} {backend} {name} {what}: {error:.1e}");
                    assert!(error < 1e-4, "{family} {backend} {name} {what}: {error}");
                }
            }
        }
    }
}

#[test]
fn burns_own_backward_pass_agrees_with_the_kernels() {
    let _guard = one_at_a_time();
    let model = load_tiny(gpu(), "q4_k");
    let file = adapter_tests::read("tiny-llama/tiny-q4_k.gguf");
    let gguf = Gguf::read(&file).expect("a valid file");
    let cpu = CpuLlama::load(&gguf, &file, &mut |_, _| ControlFlow::Continue(())).expect("weights");
    let cpu = Frozen::Cpu(Arc::new(cpu));
    let batch = eight_rows();
    for (name, kind) in KINDS {
        let adapter = adapter_tests::tiny_adapter(kind);
        let shape = shape(&cpu, kind);
        let device = cpu.device();
        let trainable = Trainable::from_file(&adapter, Method::AdaptionPrompt(shape), device).expect("fits");
        let applied = trainable.applied().expect("numbers of the method");
        let loss = cpu.loss(applied, trainable.method(), &batch).expect("a loss");
        let found = block_on(gradients(&model, &adapter, &batch)).expect("gradients");
        let value: f32 = loss.clone().into_scalar();
        assert!((f64::from(value) - found.loss).abs() < 1e-4, "{name}: {value} and {}", found.loss);
        let grads = loss.backward();
        let gradient = trainable.numbers().grad(&grads).expect("a gradient").into_data();
        let gradient = gradient.try_into_vec::<f32>().expect("f32");
        let part = |name| trainable.table().part(name, &gradient);
        let (p, g) = (relative(&found.dprompts, part("prompts")), relative(&found.dgates, part("gates")));
        assert!(p < 1e-4 && g < 1e-4, "{name}: prompts {p}, gates {g}");
    }
}

#[test]
fn the_first_step_moves_gates_alone() {
    let _guard = one_at_a_time();
    for (backend, frozen) in both() {
        let shape = shape(&frozen, GateKind::PAPER);
        // Decay would move the prompts, too.
        let recipe = Recipe { weight_decay: 0.0, ..plain_recipe(10) };
        let mut trainer = Trainer::new(frozen, shape, recipe, 1).expect("a trainer");
        let before = block_on(trainer.adapter()).expect("an adapter");
        assert!(before.gates.iter().all(|gate| *gate == 0.0));
        block_on(trainer.train(&golden_batch())).expect("a step");
        let after = block_on(trainer.adapter()).expect("an adapter");
        assert!(adapter_tests::same_bits(&before.prompts, &after.prompts), "{backend}: a prompt moved");
        assert!(after.gates.iter().all(|gate| *gate != 0.0), "{backend}: {:?}", after.gates);
        // What is shown while it learns is what the engine will multiply with.
        assert_eq!(block_on(trainer.gates()).expect("gates"), after.effective_gates(4), "{backend}");
        for _ in 1..10 {
            block_on(trainer.train(&golden_batch())).expect("a step");
        }
        let later = block_on(trainer.adapter()).expect("an adapter");
        assert!(later.prompts.iter().zip(&before.prompts).filter(|(a, b)| a != b).count() > before.prompts.len() / 2);
    }
}

#[test]
fn forty_steps_equal_twenty_and_twenty() {
    let _guard = one_at_a_time();
    let batches = [eight_rows(), golden_batch()];
    let run = |trainer: &mut Trainer, steps: std::ops::Range<usize>| -> Vec<u32> {
        steps.map(|step| block_on(trainer.train(&batches[step % 2])).expect("a step").loss.to_bits()).collect()
    };
    for (backend, frozen) in both() {
        let shape = shape(&frozen, GateKind::PAPER);
        let recipe = Recipe::new(1e-2, 5, 40);
        let mut whole = Trainer::new(frozen.clone(), shape, recipe.clone(), 3).expect("a trainer");
        let wanted = run(&mut whole, 0..40);
        let mut first = Trainer::new(frozen.clone(), shape, recipe.clone(), 3).expect("a trainer");
        let mut found = run(&mut first, 0..20);
        let snapshot: Snapshot = block_on(first.snapshot()).expect("a snapshot");
        drop(first);
        let mut second = Trainer::resume(frozen, shape, recipe, &snapshot).expect("a trainer");
        found.extend(run(&mut second, 20..40));
        assert_eq!(wanted, found, "{backend}");
        let (a, b) = (block_on(whole.adapter()).expect("a"), block_on(second.adapter()).expect("b"));
        assert!(adapter_tests::same_bits(&a.prompts, &b.prompts) && adapter_tests::same_bits(&a.gates, &b.gates));
    }
}

#[test]
fn an_infinite_gradient_is_left_out_and_three_in_a_row_stop() {
    let _guard = one_at_a_time();
    let frozen = on_gpu();
    let shape = shape(&frozen, GateKind::PAPER);
    let mut trainer = Trainer::new(frozen.clone(), shape, Recipe::new(1e-2, 0, 40), 3).expect("a trainer");
    trainer.inject_infinity(5..7);
    for step in 1..=8 {
        let before = block_on(trainer.adapter()).expect("an adapter");
        let report = block_on(trainer.train(&eight_rows())).expect("a step");
        let after = block_on(trainer.adapter()).expect("an adapter");
        let bad = (5..7).contains(&step);
        assert_eq!(report.skipped, bad.then_some("gradient of the prompts"), "step {step}");
        assert_eq!(adapter_tests::same_bits(&before.gates, &after.gates), bad, "step {step}");
        after.check().expect("finite numbers");
    }
    assert_eq!(trainer.skipped(), 2);
    trainer.inject_infinity(9..100);
    let good = block_on(trainer.adapter()).expect("an adapter");
    let error = (0..10).find_map(|_| block_on(trainer.train(&eight_rows())).err()).expect("it stops");
    assert!(matches!(error, TrainError::Diverged { steps: 3, step: 11, .. }), "{error}");
    let kept = block_on(trainer.adapter()).expect("an adapter");
    assert!(adapter_tests::same_bits(&good.prompts, &kept.prompts));
}

#[test]
fn eight_rows_are_learnt_by_heart() {
    let _guard = one_at_a_time();
    let frozen = on_gpu();
    let shape = shape(&frozen, GateKind::PAPER);
    let mut trainer = Trainer::new(frozen, shape, Recipe::new(5e-2, 10, 200), 3).expect("a trainer");
    let batch = eight_rows();
    let first = block_on(trainer.train(&batch)).expect("a step").loss;
    let mut last = first;
    for _ in 1..200 {
        last = block_on(trainer.train(&batch)).expect("a step").loss;
    }
    assert!(first > 2.0, "{first}");
    assert!(last < first / 4.0, "{first} to {last}");
}

/// A driver that miscompiles a kernel of the gradients would teach something wrong without a word: nothing is learnt there.
#[test]
fn a_gpu_with_a_wrong_kernel_is_not_trained_on() {
    let _guard = one_at_a_time();
    for (kernel, text, replacement) in [
        ("rms_norm_backward", "params.eps", "0.1"),
        ("swiglu_backward", "dy[at] * gate", "1.01 * dy[at] * gate"),
        ("attention_backward_kv", "params.scale", "(params.scale * 1.01)"),
        ("cross_entropy", "params.scale", "(params.scale * 1.01)"),
    ] {
        let poison = Some((kernel, text, replacement));
        let gpu = adapter_tests::open(&GpuOptions { poison, ..GpuOptions::default() });
        let frozen = GpuLlama::new(&load_tiny(&gpu, "q4_1"), 3, 10, 256).expect("a trainer");
        let frozen = Frozen::Gpu(Arc::new(frozen));
        let shape = shape(&frozen, GateKind::PAPER);
        let mut trainer = Trainer::new(frozen, shape, plain_recipe(10), 0).expect("a trainer");
        let before = block_on(trainer.adapter()).expect("an adapter");
        for error in [block_on(trainer.train(&eight_rows())).err(), block_on(trainer.loss(&eight_rows())).err()] {
            let error = error.unwrap_or_else(|| panic!("a wrong {kernel} was trained with"));
            let said = error.to_string();
            assert!(said.contains(kernel) && said.contains("wrong numbers"), "{said}");
            assert!(said.contains(&gpu.summary().name), "{said}");
            assert!(error.hint().is_some_and(|hint| hint.contains("driver")), "{:?}", error.hint());
        }
        assert_eq!(trainer.step(), 0, "{kernel}");
        let after = block_on(trainer.adapter()).expect("an adapter");
        assert!(adapter_tests::same_bits(&before.prompts, &after.prompts), "{kernel}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let _guard = one_at_a_time();
    for (backend, frozen) in both() {
        let shape = shape(&frozen, GateKind::PAPER);
        let mut trainer = Trainer::new(frozen, shape, Recipe::new(1e-2, 0, 40), 3).expect("a trainer");
        let mut no_target = Batch::default();
        no_target.push(&[1, 2, 3], &[false, false, false]);
        let mut outside = Batch::default();
        outside.push(&[1, 320, 3], &[true, true, true]);
        for batch in [no_target, outside, Batch::default()] {
            let error = block_on(trainer.train(&batch)).expect_err("refused");
            assert!(matches!(error, TrainError::Engine(_)), "{backend}: {error}");
        }
        assert_eq!(trainer.step(), 0, "{backend}");
        block_on(trainer.train(&golden_batch())).expect("it goes on");
    }
}
