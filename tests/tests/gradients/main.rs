//! Gradients of prompts and gates against float64 autograd (tests/data/tiny-llama), through a frozen model on the GPU.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

mod families;
mod models;

use adapter_engine::Model;
use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::formats::TensorType;
use adapter_engine::gpu::{GpuOptions, Tuning};
use adapter_engine::model::{Config, weight_bytes};
use adapter_engine::train::{AdapterGradients, Batch, Operands, Trainer, gradients, gradients_with, memory};
use adapter_engine::{Error, formats::Gguf};
use adapter_reference::adaption_prompt::{AdaptionPrompt, GateKind as TwinKind};
use adapter_reference::{narrow, widen};
use adapter_tests::{baseline_gpu, gpu, ids, json, like_a_gpu, load_tiny, one_at_a_time, tensor, tiles, tiny_adapter};
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
    for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
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

/// Formats of ffn_gate and ffn_up that differ: two products instead of one. Against the plain-Rust model in float64.
#[test]
fn gate_and_up_of_different_formats_train() {
    let _turn = one_at_a_time();
    let file = tiny_adapter(GateKind::PAPER);
    for (gate, up) in [("q4_0", "q8_0"), ("q6_k", "f16")] {
        let bytes = models::mixed(gate, &[("ffn_up", up)]);
        let twin = models::reference(&bytes);
        let mut batch = Batch::default();
        let mut targets = Vec::new();
        let texts: [(Vec<u32>, usize); 2] =
            [((0..21).map(|i| i * 13 % 320).collect(), 6), ((0..12).map(|i| 300 - i * 7).collect(), 1)];
        for (ids, first) in &texts {
            batch.push(ids, &(0..ids.len()).map(|t| t >= *first).collect::<Vec<_>>());
            targets.extend((1..=ids.len()).map(|t| ids.get(t).copied().filter(|_| t >= *first)));
        }
        let adaption = AdaptionPrompt {
            kind: TwinKind::Paper,
            n_layers: file.n_layers as usize,
            adapter_len: file.adapter_len as usize,
            prompts: widen(&file.prompts),
            gates: widen(&file.gates),
        };
        let all: Vec<u32> = texts.iter().flat_map(|(ids, _)| ids.clone()).collect();
        let wanted = twin.packed_loss_and_gradients(&all, &targets, &[0, texts[0].0.len()], &adaption).unwrap();
        for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
            let model = models::load_bytes(gpu, &bytes);
            for saved_blocks in [1, file.n_layers] {
                let trainer =
                    Trainer::with_saved_blocks(&model, file.n_layers, file.adapter_len, 40, saved_blocks).unwrap();
                let found = block_on(gradients_with(&trainer, &file, &batch)).unwrap();
                let dprompts = relative(&found.dprompts, &narrow(&wanted.dprompts));
                let dgates = relative(&found.dgates, &narrow(&wanted.dgates));
                println!(
                    "gradients::{gate}+{up} {saved_blocks} blocks saved: d_prompts {dprompts:.1e} d_gates {dgates:.1e} <= 1e-4"
                );
                assert!((found.loss - wanted.loss).abs() <= 1e-5, "{} {}", found.loss, wanted.loss);
                assert!(dprompts <= 1e-4 && dgates <= 1e-4, "{gate}+{up} {saved_blocks}: {dprompts} {dgates}");
            }
        }
    }
}

/// What is computed again has the same bits as what was kept, in a batch long enough for the variants of long batches.
#[test]
fn blocks_that_keep_only_their_input_have_the_same_gradients() {
    let _turn = one_at_a_time();
    let (model, file) = (load_tiny(gpu(), "q4_1"), tiny_adapter(GateKind::PAPER));
    let mut batch = Batch::default();
    for (text, length) in [(1u32, 90), (2, 61)] {
        let ids: Vec<u32> = (0..length).map(|i| (i * 31 + text * 17) % 320).collect();
        batch.push(&ids, &vec![true; ids.len()]);
    }
    let all: Vec<_> = (1..=file.n_layers)
        .map(|saved_blocks| {
            let trainer =
                Trainer::with_saved_blocks(&model, file.n_layers, file.adapter_len, 160, saved_blocks).unwrap();
            let first = block_on(gradients_with(&trainer, &file, &batch)).unwrap();
            // Buffers hold the last step's numbers now: the same again.
            assert_eq!(
                block_on(gradients_with(&trainer, &file, &batch)).unwrap(),
                first,
                "{saved_blocks} blocks saved"
            );
            first
        })
        .collect();
    assert!(all.len() > 2 && all.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Rounded on request: the loss and the direction of the gradients stay.
#[test]
fn rounded_gradients_are_off_by_thousandths() {
    let _turn = one_at_a_time();
    let gpu = like_a_gpu();
    for format in ["q8_0", "q4_1", "q6_k"] {
        let (model, file) = (load_tiny(gpu, format), tiny_adapter(GateKind::PAPER));
        let (batch, n_tokens) = (tiny_batch(), 48);
        let exact = step(&model, &file, &batch);
        for (choice, tuning) in tiles(gpu) {
            gpu.set_tuning(tuning);
            let trainer = Trainer::new(&model, file.n_layers, file.adapter_len, n_tokens).unwrap();
            let unasked = block_on(gradients_with(&trainer, &file, &batch)).unwrap();
            let found = block_on(gradients_with(&trainer.rounded(true), &file, &batch)).unwrap();
            gpu.set_tuning(Tuning::default());
            assert_eq!(unasked, exact, "nobody asked for it");
            let dprompts = relative(&found.dprompts, &exact.dprompts);
            let dgates = relative(&found.dgates, &exact.dgates);
            println!(
                "gradients::{format} in tiles {choice:?}: loss {:.6} of {:.6}, d_prompts {dprompts:.1e} d_gates {dgates:.1e} <= 5e-3",
                found.loss, exact.loss
            );
            assert!((found.loss - exact.loss).abs() <= 1e-3, "{} {}", found.loss, exact.loss);
            assert_eq!(choice[0] == 32, found == exact);
            assert!(dprompts <= 5e-3 && dgates <= 5e-3, "{format} {choice:?}: {dprompts} {dgates}");
        }
    }
}

#[test]
fn memory_is_predicted() {
    let _turn = one_at_a_time();
    for format in ["f32", "q4_1", "q6_k"] {
        for (n_layers, adapter_len, max_tokens) in [(3, 10, 48), (1, 1, 1), (4, 30, 333)] {
            // A device of its own: nothing else is counted.
            let gpu = adapter_tests::open(&GpuOptions::default());
            let model = load_tiny(&gpu, format);
            let trainer = Trainer::new(&model, n_layers, adapter_len, max_tokens).unwrap();
            let bytes = adapter_tests::read(&format!("tiny-llama/tiny-{format}.gguf"));
            let gguf = Gguf::read(&bytes).unwrap();
            let config = Config::from_gguf(&gguf, &bytes).unwrap();
            let predicted = memory(&config, weight_bytes(&gguf).unwrap(), n_layers, adapter_len, max_tokens);
            let (wanted, found) = (gpu.used_bytes(), predicted.weights + predicted.trainer());
            println!("memory::{format}[L_a={n_layers},A={adapter_len},T={max_tokens}] {found} of {wanted} bytes");
            assert!(found.abs_diff(wanted) * 1000 <= wanted, "{found} predicted, {wanted} in use");
            assert_eq!(trainer.saved_blocks(), predicted.saved_blocks);
        }
    }
}

/// Rounding takes its memory in the first step.
#[test]
fn memory_for_rounding_is_predicted() {
    let _turn = one_at_a_time();
    for (format, max_tokens) in [("f32", 48), ("q4_1", 48), ("q6_k", 333)] {
        let gpu = adapter_tests::open(&GpuOptions { like_a_gpu: true, ..GpuOptions::default() });
        gpu.set_tuning(tiles(&gpu).pop().unwrap().1);
        let (model, file) = (load_tiny(&gpu, format), tiny_adapter(GateKind::PAPER));
        let trainer = Trainer::new(&model, file.n_layers, file.adapter_len, max_tokens).unwrap().rounded(true);
        let before = gpu.used_bytes();
        let ids: Vec<u32> = (0..max_tokens).map(|i| i % 320).collect();
        let mut batch = Batch::default();
        batch.push(&ids, &vec![true; ids.len()]);
        block_on(gradients_with(&trainer, &file, &batch)).unwrap();
        let predicted = memory(model.config(), 0, file.n_layers, file.adapter_len, max_tokens);
        let predicted = predicted.rounded(model.config(), max_tokens).rounding;
        // The weights are f32 in one of them: nothing is rounded there.
        let (wanted, found) = (gpu.used_bytes() - before, if format == "f32" { 0 } else { predicted });
        println!("memory::{format}[T={max_tokens}] rounding {found} of {wanted} bytes");
        assert!(found.abs_diff(wanted) <= 64, "{found} predicted, {wanted} in use");
    }
}

/// A model of 7B weights from its header alone.
#[test]
fn seven_billion_weights_train_in_five_gigabytes() {
    let header = models::header_7b(TensorType::Q4_0);
    let gguf = Gguf::read(&header).unwrap();
    let config = Config::from_gguf(&gguf, &header).unwrap();
    let weights = weight_bytes(&gguf).unwrap();
    for max_tokens in [256, 512, 1024, 1524, 4096] {
        let memory = memory(&config, weights, 30, 10, max_tokens);
        println!("memory::7B[T={max_tokens}] {:.2} GB: {memory:?}", memory.total() as f64 / 1e9);
        if max_tokens == 512 {
            assert!(memory.total() < 5_000_000_000, "{memory:?}");
        }
        // What WebGPU promises a binding may be.
        assert_eq!(memory.largest.1 <= 128 << 20, max_tokens <= 1524, "{memory:?}");
    }
}

#[test]
fn a_batch_over_the_binding_limit_names_the_longest_that_fits() {
    let _turn = one_at_a_time();
    let options = GpuOptions { max_binding_bytes: Some(1 << 20), ..Default::default() };
    let small = adapter_tests::open(&options);
    let model = load_tiny(&small, "q4_1");
    let Err(error) = Trainer::new(&model, 3, 10, 4096) else { panic!("a buffer over the limit") };
    println!("{error}");
    let Error::TrainingBufferTooLarge { fits, needed_bytes, limit_bytes, .. } = error else { panic!("{error}") };
    assert!(needed_bytes > limit_bytes && fits > 0 && fits < 4096, "{fits}");
    assert!(Trainer::new(&model, 3, 10, fits).is_ok());
    assert!(matches!(Trainer::new(&model, 3, 10, fits + 1), Err(Error::TrainingBufferTooLarge { .. })));
}

/// Every wrong batch is an error with its figure, before anything is computed; the next good one goes on.
#[test]
fn wrong_batches_are_errors_with_their_figure() {
    let _turn = one_at_a_time();
    let (model, file) = (load_tiny(gpu(), "q4_1"), tiny_adapter(GateKind::PAPER));
    let trainer = Trainer::new(&model, file.n_layers, file.adapter_len, 16).unwrap();
    let batch = |ids: &[u32], trained: bool| {
        let mut batch = Batch::default();
        batch.push(ids, &vec![trained; ids.len()]);
        batch
    };
    let good = batch(&[5, 6, 7, 8], true);
    let before = block_on(gradients_with(&trainer, &file, &good)).unwrap();
    let many: Vec<u32> = (0..17).collect();
    for (wrong, figure) in [
        (batch(&[1, 320, 2], true), "320"),
        (batch(&[1, 2, u32::MAX], true), "4294967295"),
        (batch(&many, true), "17"),
        (batch(&[1, 2, 3], false), "3 tokens"),
        (batch(&[1], true), "1 token"),
        (batch(&[], true), "0 tokens"),
    ] {
        let error = block_on(gradients_with(&trainer, &file, &wrong)).unwrap_err();
        println!("{error} [{}]", error.code());
        assert!(error.to_string().contains(figure), "{error} names {figure}");
        assert!(error.hint().is_some());
    }
    let after = block_on(gradients_with(&trainer, &file, &good)).unwrap();
    assert_eq!(before, after);
    // One text of one token beside others costs nothing and changes nothing.
    let mut with_one = batch(&[9], true);
    with_one.push(&[5, 6, 7, 8], &[true; 4]);
    let found = block_on(gradients_with(&trainer, &file, &with_one)).unwrap();
    assert!(found.dprompts.iter().chain(&found.dgates).all(|value| value.is_finite()));
    assert!(relative(&found.dprompts, &before.dprompts) <= 1e-5);
    for (layers, length, tokens) in [(0, 10, 8), (5, 10, 8), (3, 0, 8), (3, 257, 8), (3, 10, 0), (3, 10, 1 << 17)] {
        assert!(matches!(Trainer::new(&model, layers, length, tokens), Err(Error::Config { .. })), "{layers} {length}");
    }
}

/// Buffers that are too small for the adapter would be read past their end.
#[test]
fn operands_that_are_too_small_are_an_error() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q4_1");
    let trainer = Trainer::new(&model, 3, 10, 16).unwrap();
    let mut batch = Batch::default();
    batch.push(&[1, 2, 3], &[true; 3]);
    let (large, small) = (gpu().buffer("large", 1 << 20).unwrap(), gpu().buffer("small", 64).unwrap());
    for short in 0..4 {
        let [numbers, gradient] = [0, 2].map(|at| if at == short { small.raw() } else { large.raw() });
        let offset = |at| if at == short { (1 << 20) - 4 } else { 0 };
        let operands = Operands { numbers, numbers_offset: offset(1), gradient, gradient_offset: offset(3) };
        let error = trainer.submit(&batch, operands, true).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
    gpu().check().unwrap();
}
