//! Logits against float64 (tests/data/tiny-llama, made by an independent PyTorch script) and against transformers in f32
//! (tests/data/smollm2, the real model).
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

mod families;
mod qwen;

use adapter_engine::gpu::{Gpu, Tuning};
use adapter_engine::sampler::Sampling;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Model, Session};
use adapter_tests::{
    baseline_gpu, gpu, ids, json, like_a_gpu, load, load_tiny, nmse, one_at_a_time, same_bits, smollm2_path, tensor,
    tiles,
};
use pollster::block_on;
use std::ops::ControlFlow;

const FORMATS: [&str; 12] =
    ["f32", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"];

fn golden(format: &str) -> Vec<f32> {
    match format {
        "f32" => tensor("tiny-llama/base.safetensors", "logits"),
        other => tensor("tiny-llama/golden-quant.safetensors", other),
    }
}

fn session(model: &Model) -> Session {
    Session::new(model, &SessionOptions::default()).expect("a session")
}

fn check_all_formats(gpu: &Gpu) {
    check_formats(gpu, &SessionOptions::default(), 1e-6);
}

fn check_formats(gpu: &Gpu, options: &SessionOptions, budget: f64) {
    let tokens = ids(&json("tiny-llama/base.json")["ids"]);
    for format in FORMATS {
        let mut session = Session::new(&load_tiny(gpu, format), options).expect("a session");
        let logits = block_on(session.logits(&tokens, Rows::All)).unwrap();
        let error = nmse(&logits, &golden(format));
        println!("golden_logits::{format} {error:.1e} <= {budget:.0e}");
        assert!(error <= budget, "{format}: NMSE {error}");
    }
}

#[test]
fn tiny_llama_in_every_format() {
    let _turn = one_at_a_time();
    check_all_formats(gpu());
}

#[test]
fn tiny_llama_in_every_format_with_core_webgpu_only() {
    let _turn = one_at_a_time();
    check_all_formats(baseline_gpu());
}

/// What a graphics card runs. Rounded to f16 where the table says so, unless the session is to be exact: every product of the
/// 4 blocks may then be off by 1e-6, and so may what they add up to.
#[test]
fn tiny_llama_in_every_format_as_on_a_gpu() {
    let _turn = one_at_a_time();
    let gpu = like_a_gpu();
    for (choice, tuning) in tiles(gpu) {
        gpu.set_tuning(tuning);
        println!("tiles {choice:?}");
        check_formats(gpu, &SessionOptions { exact: true, ..SessionOptions::default() }, 1e-6);
        check_formats(gpu, &SessionOptions::default(), if choice[0] == 32 { 1e-6 } else { 4e-6 });
    }
    gpu.set_tuning(Tuning::default());
}

/// Reliability N5: one prefill, token by token, and chunks of 7 agree.
#[test]
fn prefill_in_one_piece_token_by_token_and_in_sevens_agree() {
    let _turn = one_at_a_time();
    let tokens = ids(&json("tiny-llama/base.json")["ids"]);
    for format in ["f32", "q4_1", "q4_k"] {
        let model = load_tiny(gpu(), format);
        let wanted = golden(format);
        for size in [tokens.len(), 7, 1] {
            let mut session = session(&model);
            let mut logits = Vec::new();
            for chunk in tokens.chunks(size) {
                logits.extend(block_on(session.logits(chunk, Rows::All)).unwrap());
            }
            let error = nmse(&logits, &wanted);
            assert!(error <= 1e-6, "{format} in pieces of {size}: NMSE {error}");
        }
    }
}

/// Regenerate and edit: cut the cache back, go on differently, come back.
#[test]
fn a_cache_cut_back_and_refilled_gives_the_same_logits() {
    let _turn = one_at_a_time();
    let tokens = ids(&json("tiny-llama/base.json")["ids"]);
    let model = load_tiny(gpu(), "q8_0");
    let mut session = session(&model);
    let first = block_on(session.logits(&tokens, Rows::Last)).unwrap();
    session.truncate(20);
    block_on(session.logits(&[1, 2, 3, 4, 5], Rows::Last)).unwrap();
    let kept = session.reuse_prefix(&tokens);
    assert_eq!(kept, 20);
    let again = block_on(session.logits(&tokens[kept..], Rows::Last)).unwrap();
    // Other chunk borders, so not the same launches: equal within rounding, not bit for bit.
    assert!(nmse(&again, &first) <= 1e-10, "{}", nmse(&again, &first));
}

/// Growing past the first page of the cache must not move what is in it.
#[test]
fn the_cache_grows_without_losing_anything() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q8_0");
    let tokens: Vec<u32> = (0..120).map(|i| i * 7 % 320).collect();
    let options = SessionOptions { context: Some(128), prefill_chunk: Some(16), ..SessionOptions::default() };
    let mut small = Session::new(&model, &options).unwrap();
    let mut all_at_once =
        Session::new(&model, &SessionOptions { prefill_chunk: Some(128), ..options.clone() }).unwrap();
    let grown = block_on(small.logits(&tokens, Rows::Last)).unwrap();
    let whole = block_on(all_at_once.logits(&tokens, Rows::Last)).unwrap();
    assert!(nmse(&grown, &whole) <= 1e-10, "{}", nmse(&grown, &whole));
}

/// Reliability N8.
#[test]
fn the_same_input_gives_the_same_bits() {
    let _turn = one_at_a_time();
    let tokens = ids(&json("tiny-llama/base.json")["ids"]);
    let model = load_tiny(gpu(), "q4_k");
    let runs: Vec<Vec<f32>> = (0..5).map(|_| block_on(session(&model).logits(&tokens, Rows::All)).unwrap()).collect();
    assert!(runs.iter().all(|run| same_bits(run, &runs[0])));
}

fn check_smollm2(gpu: &Gpu, cases: usize) {
    let model = load(gpu, &smollm2_path());
    let mut session = session(&model);
    for case in json("smollm2/golden.json").as_array().unwrap().iter().take(cases) {
        let name = case["name"].as_str().unwrap();
        let prompt = ids(&case["ids"]);
        session.truncate(0);
        let all = block_on(session.logits(&prompt, Rows::All)).unwrap();
        let n_vocab = model.config().n_vocab as usize;
        let last = &all[all.len() - n_vocab..];

        let top = case["top"].as_array().unwrap();
        let id = |entry: &serde_json::Value| entry[0].as_u64().unwrap() as usize;
        let best = (0..n_vocab).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
        assert_eq!(best, id(&top[0]), "{name}: top-1");
        let worst =
            top.iter().map(|entry| (f64::from(last[id(entry)]) - entry[1].as_f64().unwrap()).abs()).fold(0.0, f64::max);
        assert!(worst <= 0.02, "{name}: a top-20 logit is off by {worst}");

        let nll: f64 = prompt[1..]
            .iter()
            .enumerate()
            .map(|(t, next)| {
                let row = &all[t * n_vocab..(t + 1) * n_vocab];
                let top = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
                let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
                top + sum.ln() - f64::from(row[*next as usize])
            })
            .sum::<f64>()
            / (prompt.len() - 1) as f64;
        let wanted = case["mean_nll"].as_f64().unwrap();
        assert!((nll / wanted - 1.0).abs() <= 1e-3, "{name}: mean NLL {nll}, wanted {wanted}");

        let greedy = ids(&case["greedy"]);
        let margins: Vec<f64> = serde_json::from_value(case["greedy_margins"].clone()).unwrap();
        let sure = margins.iter().position(|margin| *margin < 0.1).unwrap_or(greedy.len());
        let mut go_on = |_, _| ControlFlow::Continue(());
        let mut answer = block_on(session.generate(&prompt, &Sampling::greedy(), &mut go_on)).unwrap();
        let found: Vec<u32> = (0..sure).map(|_| block_on(answer.next()).unwrap().unwrap()).collect();
        assert_eq!(found, greedy[..sure], "{name}: greedy ids");
        println!("smollm2::{name} top-20 within {worst:.5} <= 0.02, NLL {nll:.6} of {wanted}, {sure} greedy ids equal");
    }
}

#[test]
fn smollm2_equals_transformers() {
    let _turn = one_at_a_time();
    check_smollm2(gpu(), usize::MAX);
}

/// 0.02 in any of the 20 best logits and 1e-3 of the likelihood leave room for f16.
#[test]
fn smollm2_equals_transformers_as_on_a_gpu() {
    let _turn = one_at_a_time();
    let gpu = like_a_gpu();
    let (choice, tuning) = tiles(gpu).pop().expect("a choice");
    println!("tiles {choice:?}");
    gpu.set_tuning(tuning);
    check_smollm2(gpu, 3);
    gpu.set_tuning(Tuning::default());
}

#[test]
fn smollm2_equals_transformers_with_core_webgpu_only() {
    let _turn = one_at_a_time();
    check_smollm2(baseline_gpu(), 1);
}
