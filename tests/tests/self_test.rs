//! The self-test: its stored answers are the twins', it passes here, and it notices a wrong kernel.

use adapter_engine::formats::TensorType;
use adapter_engine::gpu::{GpuOptions, KERNELS, Tuning};
use adapter_engine::self_test::{HEADS, LENGTHS, PRODUCT, inputs, results, run, weights};
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::{baseline_gpu, gpu, like_a_gpu, nmse, one_at_a_time, open, tiles};
use pollster::block_on;
use std::collections::BTreeMap;
use std::path::Path;

fn formats() -> Vec<TensorType> {
    TensorType::supported().collect()
}

/// All answers, from the plain-Rust twins.
fn answers() -> BTreeMap<String, Vec<f32>> {
    let mut out = BTreeMap::new();
    let (n_rows, n_cols, n_tokens) = PRODUCT;
    let wide = |seed, n| widen(&inputs(seed, n));
    for format in formats() {
        let data = weights(format, n_rows * n_cols);
        let w = widen(&twin::dequantize::dequantize(format.ggml_id(), &data).unwrap());
        let x = wide(1, n_tokens * n_cols);
        let one = twin::matmul::forward(&x[..n_cols], &w, n_cols);
        let sum = twin::residual_add::forward(&one, &wide(2, n_rows));
        out.insert(format!("matvec {format}"), narrow(&one));
        out.insert(format!("matvec add {format}"), narrow(&sum));
        out.insert(format!("matmul {format}"), narrow(&twin::matmul::forward(&x, &w, n_cols)));
        out.insert(format!("embedding {format}"), narrow(&twin::embedding::forward(&[7], &w, n_cols)[..64]));
    }
    let (a, b) = (wide(1, 192), wide(2, 192));
    out.insert("rms_norm".into(), narrow(&twin::rms_norm::forward(&a[64..], &b[..64], f64::from(1e-5f32)).0));
    out.insert("swiglu".into(), narrow(&twin::swiglu::forward(&a, &b)));
    out.insert("residual_add".into(), narrow(&twin::residual_add::forward(&a, &b)));
    let rope = twin::rope::Rope { n_rot: 32, theta: 10_000.0, scaling: twin::rope::Scaling::None };
    out.insert("rope".into(), narrow(&twin::rope::backward(&rope, &a, 32, &[9, 10, 11])));

    let heads = twin::attention::Heads {
        n_heads: HEADS.n_heads as usize,
        n_kv_heads: HEADS.n_kv_heads as usize,
        head_dim: HEADS.head_dim as usize,
    };
    let (past, n_tokens, adapter_len) = LENGTHS;
    let width = (heads.n_heads + 2 * heads.n_kv_heads) * heads.head_dim;
    let mut cache = twin::kv_cache::KvCache::default();
    let old = twin::kv_cache::write(&mut cache, &rope, heads, &wide(1, past as usize * width));
    out.insert("kv_cache_write of the past".into(), narrow(&old));
    let q = twin::kv_cache::write(&mut cache, &rope, heads, &wide(2, n_tokens as usize * width));
    out.insert("kv_cache_write".into(), narrow(&q));
    let (mut o, _) = twin::attention::forward(heads, &q, &cache.k, &cache.v, &[]);
    out.insert("attention".into(), narrow(&o));
    out.insert("attention in stretches".into(), narrow(&o));
    out.insert("attention of many tokens".into(), narrow(&o));
    let row = adapter_len as usize * heads.n_kv_heads * heads.head_dim;
    twin::gated_attention::forward(heads, &q, &wide(6, row), &wide(7, row), &wide(8, heads.n_heads), &mut o);
    out.insert("gated_attention".into(), narrow(&o));
    twin::gated_attention::forward(heads, &q, &wide(6, row), &wide(7, row), &wide(8, heads.n_heads), &mut o);
    out.insert("gated_attention of many tokens".into(), narrow(&o));

    let logits = wide(11, 1000);
    let mut penalized = logits.clone();
    twin::sampling::repeat_penalty(&mut penalized, &[3], 1.5);
    let default = twin::sampling::Sampling {
        temperature: f64::from(0.8f32),
        top_k: 40,
        top_p: f64::from(0.95f32),
        min_p: f64::from(0.05f32),
    };
    let id = |id: Option<u32>| vec![id.unwrap() as f32];
    out.insert("argmax".into(), id(twin::sampling::argmax(&penalized)));
    out.insert("sample".into(), id(twin::sampling::choose(default, &logits, 0.5)));
    out.insert("repeat_penalty before argmax".into(), narrow(&penalized[..8]));
    out.insert("repeat_penalty before sample".into(), narrow(&logits[..8]));
    out
}

/// `UPDATE_ANSWERS=1 cargo test --test self_test` writes the file anew.
#[test]
fn stored_answers_are_the_twins() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/engine/src/self_test_answers.json");
    let wanted = answers();
    if std::env::var_os("UPDATE_ANSWERS").is_some() {
        std::fs::write(&path, serde_json::to_string(&wanted).unwrap() + "\n").unwrap();
    }
    let stored: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(stored.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, values) in &wanted {
        assert!(nmse(&stored[name], values) <= 1e-14, "{name}");
    }
}

#[test]
fn this_gpu_passes() {
    let _turn = one_at_a_time();
    for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
        for (choice, tuning) in tiles(gpu) {
            gpu.set_tuning(tuning);
            let checks = block_on(run(gpu, &formats())).unwrap();
            let bad: Vec<_> = checks.iter().filter(|check| !check.good).collect();
            assert!(bad.is_empty(), "{choice:?}: {bad:?}");
            let rounded = if choice[0] == 16 { formats().len() } else { 0 };
            assert_eq!(checks.len(), answers().len() + rounded, "{choice:?}");
        }
        gpu.set_tuning(Tuning::default());
    }
}

/// Reliability G5 and N9: one changed constant in any kernel is caught.
#[test]
fn a_poisoned_kernel_is_caught() {
    let _turn = one_at_a_time();
    let poisons = [
        ("argmax", "logit > value", "logit < value"),
        ("attention", "params.scale", "(params.scale * 1.01)"),
        ("attention_keys", "params.scale", "(params.scale * 1.01)"),
        ("attention_lanes", "params.scale", "(params.scale * 1.01)"),
        ("attention_merge", "sum / total", "sum / (total * 1.01)"),
        ("attention_queries", "params.scale", "(params.scale * 1.01)"),
        ("embedding", "row & 7u", "row & 3u"),
        ("gated_attention", "params.scale", "(params.scale * 1.01)"),
        ("gated_attention_queries", "params.scale", "(params.scale * 1.01)"),
        ("half_rows", "257u - exponent", "258u - exponent"),
        ("kv_cache_write", "position * d;", "(position + 1u) * d;"),
        ("matmul", "b < params.n_blocks", "b + 1u < params.n_blocks"),
        ("matmul_cooperative", "b < params.n_blocks", "b + 1u < params.n_blocks"),
        ("matmul_lanes", "row & 7u", "row & 3u"),
        ("matmul_tiled", "b < params.n_blocks", "b + 1u < params.n_blocks"),
        ("matvec", "b < params.n_blocks", "b + 1u < params.n_blocks"),
        ("repeat_penalty", "logit > 0.0", "logit < 0.0"),
        ("residual_add", "+= x[at]", "+= x[at] * 1.01"),
        ("rms_norm", "params.eps", "0.1"),
        ("rope", "params.sign", "1.0"),
        ("sample", "step.draw", "(1.0 - step.draw * 0.25)"),
        ("swiglu", "* u;", "* u * 1.01;"),
    ];
    let names: Vec<_> = poisons.iter().map(|poison| poison.0).collect();
    // The gradients' kernels are tried before a training, by `tests/gradients.rs` here; they are no part of `run`.
    let training = ["_backward", "cross_entropy", "_reduce"];
    let chat = KERNELS.iter().map(|kernel| kernel.name).filter(|name| !training.iter().any(|part| name.contains(part)));
    assert_eq!(names, chat.collect::<Vec<_>>(), "every kernel is poisoned once");
    for poison in poisons {
        // A kernel is tried on the tier that uses it.
        let caught = [(false, false), (true, false), (false, true)].into_iter().any(|(baseline, like_a_gpu)| {
            let gpu = open(&GpuOptions { poison: Some(poison), baseline, like_a_gpu, ..GpuOptions::default() });
            tiles(&gpu).into_iter().any(|(_, tuning)| {
                gpu.set_tuning(tuning);
                let checks = block_on(run(&gpu, &[TensorType::Q4_1])).unwrap();
                checks.iter().any(|check| !check.good)
            })
        });
        let unused = poison.0 == "matmul_cooperative" && gpu().tier().matrix_units.is_none();
        assert!(caught || unused, "a wrong {} passed", poison.0);
    }
}

#[test]
fn results_are_the_same_in_every_run() {
    let _turn = one_at_a_time();
    let first = block_on(results(gpu(), &[TensorType::Q4_K])).unwrap();
    let second = block_on(results(gpu(), &[TensorType::Q4_K])).unwrap();
    assert_eq!(first, second);
}
