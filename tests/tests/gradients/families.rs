//! The other families: float64 autograd (tests/data/tiny-qwen), and the plain-Rust model where there is no golden file.

use adapter_engine::adapter::GateKind;
use adapter_engine::formats::Gguf;
use adapter_engine::gpu::GpuOptions;
use adapter_engine::model::{Config, weight_bytes};
use adapter_engine::train::{Batch, Trainer, gradients_with, memory};
use adapter_reference::adaption_prompt::{AdaptionPrompt, GateKind as TwinKind};
use adapter_reference::{narrow, widen};
use adapter_tests::families::{FAMILIES, KINDS, adapter, batch, file, golden, load};
use adapter_tests::{baseline_gpu, gpu, like_a_gpu, one_at_a_time, open, read};
use pollster::block_on;

use crate::{models, relative, step};

#[test]
fn other_families_have_the_gradients_of_float64_autograd() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
            let model = load(gpu, family, "f32");
            for (name, kind) in KINDS {
                let found = step(&model, &adapter(family, name, kind), &batch(family));
                let loss = f64::from(golden(family, &format!("{name}.loss"))[0]);
                let dprompts = relative(&found.dprompts, &golden(family, &format!("{name}.d_prompts")));
                let dgates = relative(&found.dgates, &golden(family, &format!("{name}.d_gates")));
                println!("gradients::{family} {name} d_prompts {dprompts:.1e} d_gates {dgates:.1e} <= 1e-4");
                assert!((found.loss - loss).abs() <= 1e-5 * loss, "{family} {name}: {} for {loss}", found.loss);
                assert!(dprompts <= 1e-4 && dgates <= 1e-4, "{family} {name}: {dprompts} {dgates}");
            }
        }
    }
}

/// Quantized weights, two texts side by side, and blocks that save little: the same gradients as the plain-Rust model, in float64.
#[test]
fn packed_texts_of_other_families_have_the_gradients_of_the_plain_model() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        for format in ["q8_0", "q4_0"] {
            let bytes = read(&file(family, format));
            let twin = models::reference(&bytes);
            let adapter = adapter(family, "paper", GateKind::PAPER);
            let (mut batch, mut targets) = (Batch::default(), Vec::new());
            let texts: [(Vec<u32>, usize); 2] =
                [((0..21).map(|i| i * 13 % 280).collect(), 6), ((0..12).map(|i| 270 - i * 7).collect(), 1)];
            for (ids, first) in &texts {
                batch.push(ids, &(0..ids.len()).map(|t| t >= *first).collect::<Vec<_>>());
                targets.extend((1..=ids.len()).map(|t| ids.get(t).copied().filter(|_| t >= *first)));
            }
            let adaption = AdaptionPrompt {
                kind: TwinKind::Paper,
                n_layers: adapter.n_layers as usize,
                adapter_len: adapter.adapter_len as usize,
                prompts: widen(&adapter.prompts),
                gates: widen(&adapter.gates),
            };
            let all: Vec<u32> = texts.iter().flat_map(|(ids, _)| ids.clone()).collect();
            let wanted = twin.packed_loss_and_gradients(&all, &targets, &[0, texts[0].0.len()], &adaption).unwrap();
            for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
                let model = load(gpu, family, format);
                for saved_blocks in [1, adapter.n_layers] {
                    let trainer =
                        Trainer::with_saved_blocks(&model, adapter.n_layers, adapter.adapter_len, 40, saved_blocks)
                            .unwrap();
                    let found = block_on(gradients_with(&trainer, &adapter, &batch)).unwrap();
                    let dprompts = relative(&found.dprompts, &narrow(&wanted.dprompts));
                    let dgates = relative(&found.dgates, &narrow(&wanted.dgates));
                    println!(
                        "gradients::{family} {format} {saved_blocks} blocks saved: {dprompts:.1e} {dgates:.1e} <= 1e-4"
                    );
                    assert!((found.loss - wanted.loss).abs() <= 1e-5 * wanted.loss, "{} {}", found.loss, wanted.loss);
                    assert!(
                        dprompts <= 1e-4 && dgates <= 1e-4,
                        "{family} {format} {saved_blocks}: {dprompts} {dgates}"
                    );
                }
            }
        }
    }
}

/// Biases, norms and what the backward pass saves for them are in the prediction, too.
#[test]
fn the_memory_of_training_other_families_is_predicted() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        let bytes = read(&file(family, "q8_0"));
        let gguf = Gguf::read(&bytes).unwrap();
        let config = Config::from_gguf(&gguf, &bytes).unwrap();
        for (n_layers, adapter_len, max_tokens) in [(1, 7, 64), (3, 10, 128)] {
            let gpu = open(&GpuOptions::default());
            let model = models::load_bytes(&gpu, &bytes);
            let _trainer = Trainer::new(&model, n_layers, adapter_len, max_tokens).unwrap();
            let predicted = memory(&config, weight_bytes(&gguf).unwrap(), n_layers, adapter_len, max_tokens);
            let (wanted, found) = (gpu.used_bytes(), predicted.weights + predicted.trainer());
            println!(
                "gradients::{family} memory[L_a={n_layers},A={adapter_len},T={max_tokens}] {found} of {wanted} bytes"
            );
            // Weights are rounded up to 16 bytes a buffer.
            assert!(found <= wanted && wanted - found < 4096, "{family}: {found} predicted, {wanted} in use");
        }
    }
}
