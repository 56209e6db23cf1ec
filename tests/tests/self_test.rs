//! The self-test: its stored answers are the twins', it passes here, and it notices a wrong kernel.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use adapter_engine::check::inputs::{
    ENCODER_TOKENS, HEADS, LENGTHS, PRODUCT, STARTS, Scales, inputs, sampled, weights,
};
use adapter_engine::check::self_test::{Check, Set, answer_of, results, run};
use adapter_engine::formats::TensorType;
use adapter_engine::gpu::{GpuOptions, KERNELS, Tuning};
use adapter_engine::ops::matmul::Slot;
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::{baseline_gpu, gpu, like_a_gpu, nmse, one_at_a_time, open, tiles};
use pollster::block_on;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn formats() -> Vec<TensorType> {
    TensorType::supported().collect()
}

type Answers = BTreeMap<String, Vec<f32>>;

const HEADS_OF_TWIN: twin::attention::Heads = twin::attention::Heads {
    n_heads: HEADS.n_heads as usize,
    n_kv_heads: HEADS.n_kv_heads as usize,
    head_dim: HEADS.head_dim as usize,
};
const ROPE: twin::rope::Rope = twin::rope::Rope { n_rot: 32, theta: 10_000.0, scaling: twin::rope::Scaling::None };
const EPS: f64 = 1e-5f32 as f64;

fn wide(seed: u32, n: usize) -> Vec<f64> {
    widen(&inputs(seed, n))
}

/// `n` dequantized weights.
fn dequantized(format: TensorType, n: usize, scales: Scales) -> Vec<f64> {
    widen(&twin::dequantize::dequantize(format.ggml_id(), &weights(format, n, scales)).unwrap())
}

/// All answers, from the plain-Rust twins.
fn answers() -> Answers {
    let mut out = Answers::new();
    for format in formats() {
        products(&mut out, format);
    }
    pointwise(&mut out);
    head_norms(&mut out);
    for (name, round) in
        [("", None), (" with a cache in f16", Some(half as Round)), (" with a cache in q8", Some(bytes))]
    {
        attentions(&mut out, name, round);
    }
    sampling(&mut out);
    training(&mut out);
    encoders(&mut out);
    out
}

fn encoders(out: &mut Answers) {
    let x = wide(1, 192);
    out.insert("layer_norm".into(), narrow(&twin::layer_norm::forward(&x, &wide(2, 64), &wide(3, 64), EPS)));
    out.insert("gelu erf".into(), narrow(&twin::gelu::erf(&x)));
    out.insert("gelu tanh".into(), narrow(&twin::gelu::tanh(&x)));
    out.insert("gelu quick".into(), narrow(&twin::gelu::quick(&x)));
    let (heads, n) = (HEADS_OF_TWIN, ENCODER_TOKENS as usize);
    let row = heads.n_kv_heads * heads.head_dim;
    let (q, stored, v) = (wide(5, n * heads.n_heads * heads.head_dim), wide(6, n * row), wide(7, n * row));
    // Keys lie by eight positions, vec4 by vec4.
    let at = |s: usize, h: usize, c: usize| ((h * heads.head_dim / 4 + c / 4) * 8 + s) * 4 + c % 4;
    let place = |index: usize| at(index / row, index % row / heads.head_dim, index % heads.head_dim);
    let k: Vec<f64> = (0..n * row).map(|index| stored[place(index)]).collect();
    let of = |q: &[f64]| twin::attention::forward(heads, q, &k, &v, &[]).0;
    let o: Vec<f64> = q.chunks(heads.n_heads * heads.head_dim).flat_map(of).collect();
    for name in ["attention to all", "attention to all of many tokens"] {
        out.insert(name.into(), sampled(&narrow(&o)));
    }
}

/// Everything in one format: the products of one token and of five, their endings, and the way back.
fn products(out: &mut Answers, format: TensorType) {
    let (n_rows, n_cols, n_tokens) = PRODUCT;
    let whole = |answers: &mut Answers, name: &str, values: &[f64]| {
        answers.insert(format!("{name} {format}"), narrow(values));
    };
    let put = |answers: &mut Answers, name: &str, values: &[f64]| {
        answers.insert(format!("{name} {format}"), sampled(&narrow(values)));
    };
    let x = wide(1, n_tokens * n_cols);
    let both = dequantized(format, 2 * n_rows * n_cols, Scales::Ordinary);
    let w = &both[..n_rows * n_cols];
    let normed = twin::rms_norm::forward(&x[..n_cols], &wide(4, n_cols), EPS).0;
    for (kind, x) in [("matvec", &x[..n_cols]), ("matmul", &x), ("normed matvec", &normed)] {
        let y = twin::matmul::forward(x, w, n_cols);
        whole(out, kind, &y);
        if kind != "normed matvec" {
            put(out, &format!("{kind} add"), &twin::residual_add::forward(&y, &wide(2, y.len())));
        }
        let up = twin::matmul::forward(x, &both[n_rows * n_cols..], n_cols);
        put(out, &format!("{kind} swiglu"), &twin::swiglu::forward(&y, &up));
    }
    // Of the embedding the first 64 channels.
    let rows = |w: &[f64]| twin::embedding::forward(&[7], w, n_cols)[..64].to_vec();
    put(out, "embedding", &rows(w));

    let (dy, before) = (wide(12, n_tokens * n_rows), wide(13, n_tokens * n_cols));
    let dx = twin::matmul::backward(&dy, w, n_cols);
    put(out, "matmul_backward", &dx);
    put(out, "matmul_backward added", &twin::residual_add::forward(&dx, &before));
    let odd = twin::matmul::backward(&wide(12, n_tokens * (n_rows - 1)), &w[..(n_rows - 1) * n_cols], n_cols);
    put(out, "matmul_backward of odd rows", &odd);

    if format.scale_offsets().is_empty() {
        return;
    }
    let w = dequantized(format, n_rows * n_cols, Scales::Subnormal);
    let mut put = |name: String, values: &[f64]| out.insert(name, sampled(&narrow(values)));
    let small = "with subnormal scales";
    put(format!("matvec {format} {small}"), &twin::matmul::forward(&x[..n_cols], &w, n_cols));
    put(format!("matmul {format} {small}"), &twin::matmul::forward(&x, &w, n_cols));
    put(format!("embedding {format} {small}"), &rows(&w));
    put(format!("matmul_backward {small} {format}"), &twin::matmul::backward(&dy, &w, n_cols));
}

fn pointwise(out: &mut Answers) {
    let (a, b) = (wide(1, 192), wide(2, 192));
    out.insert("rms_norm".into(), narrow(&twin::rms_norm::forward(&a[64..], &b[..64], EPS).0));
    out.insert("swiglu".into(), narrow(&twin::swiglu::forward(&a, &b)));
    out.insert("residual_add".into(), narrow(&twin::residual_add::forward(&a, &b)));
    out.insert("rope".into(), narrow(&twin::rope::backward(&ROPE, &a, 32, &[9, 10, 11])));
}

/// The norm of each head of q and k in three rows of a product, and its gradient.
fn head_norms(out: &mut Answers) {
    let (heads, d, width) = (HEADS_OF_TWIN, HEADS.head_dim as usize, HEADS.qkv_width() as usize);
    let (x, weights, dy) = (wide(1, 3 * width), wide(2, 2 * d), wide(14, 3 * width));
    let (mut y, mut dx) = (Vec::new(), Vec::new());
    for (index, (x, dy)) in x.chunks(d).zip(dy.chunks(d)).enumerate() {
        let head = index % (heads.n_heads + 2 * heads.n_kv_heads);
        let weight = if head < heads.n_heads { &weights[..d] } else { &weights[d..] };
        if head < heads.n_heads + heads.n_kv_heads {
            let (normed, r) = twin::rms_norm::forward(x, weight, EPS);
            dx.extend(twin::rms_norm::backward(dy, x, weight, &r));
            y.extend(normed);
        } else {
            y.extend(x);
            dx.extend(dy);
        }
    }
    let (q_row, kv_row) = (heads.n_heads * d, heads.n_kv_heads * d);
    let keys: Vec<f64> = y.chunks(width).flat_map(|row| row[q_row..q_row + kv_row].to_vec()).collect();
    out.insert("head_norm".into(), narrow(&keys));
    let q = twin::kv_cache::write(&mut twin::kv_cache::KvCache::default(), &ROPE, heads, &y);
    out.insert("kv_cache_write with a norm".into(), sampled(&narrow(&q)));
    out.insert("head_norm backward".into(), sampled(&narrow(&dx)));
}

/// What a smaller cache makes of a head's channels.
type Round = fn(&mut [f64]);

fn half(head: &mut [f64]) {
    head.iter_mut().for_each(|value| *value = half::f16::from_f64(*value).to_f64());
}

/// 8 bits of the largest channel.
fn bytes(head: &mut [f64]) {
    let largest = head.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    head.iter_mut().for_each(|value| *value = (*value / largest * 127.0 + 0.5).floor() / 127.0 * largest);
}

fn attentions(out: &mut Answers, suffix: &str, round: Option<Round>) {
    let mut put = |name: &str, values: &[f64]| {
        let values = narrow(values);
        out.insert(format!("{name}{suffix}"), if suffix.is_empty() { values } else { sampled(&values) });
    };
    let heads = HEADS_OF_TWIN;
    let (past, n_tokens, adapter_len) = LENGTHS;
    let width = HEADS.qkv_width() as usize;
    let mut cache = twin::kv_cache::KvCache::default();
    let old = twin::kv_cache::write(&mut cache, &ROPE, heads, &wide(1, past as usize * width));
    put("kv_cache_write of the past", &old);
    let q = twin::kv_cache::write(&mut cache, &ROPE, heads, &wide(2, n_tokens as usize * width));
    put("kv_cache_write", &q);
    if let Some(round) = round {
        cache.k.chunks_exact_mut(heads.head_dim).for_each(round);
        cache.v.chunks_exact_mut(heads.head_dim).for_each(round);
    }
    let (mut o, _) = twin::attention::forward(heads, &q, &cache.k, &cache.v, &[]);
    for name in ["attention", "attention in KV splits", "attention of many tokens"] {
        put(name, &o);
    }
    if round.is_some() {
        return;
    }
    let row = adapter_len as usize * heads.n_kv_heads * heads.head_dim;
    for name in ["gated_attention", "gated_attention of many tokens"] {
        twin::gated_attention::forward(heads, &q, &wide(6, row), &wide(7, row), &wide(8, heads.n_heads), &mut o);
        put(name, &o);
    }
}

fn sampling(out: &mut Answers) {
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
}

fn training(out: &mut Answers) {
    let mut put = |name: &str, values: &[f64]| out.insert(name.to_owned(), narrow(values));
    // Norms: two rows of three by a list, and back; all three back.
    let (x, weight, dy, before) = (wide(1, 192), wide(2, 192), wide(14, 192), wide(15, 192));
    let weight = &weight[..64];
    let listed = [&x[128..], &x[..64]].concat();
    let (y, r) = twin::rms_norm::forward(&listed, weight, EPS);
    put("rms_norm gather", &y);
    let back = twin::rms_norm::backward(&dy[..128], &listed, weight, &r);
    put("rms_norm_backward scatter", &[&back[64..], &before[64..128], &back[..64]].concat());
    let (_, r) = twin::rms_norm::forward(&x, weight, EPS);
    let back = twin::rms_norm::backward(&dy, &x, weight, &r);
    put("rms_norm_backward", &twin::residual_add::forward(&back, &before));

    // Three rows of 32 of gate and of up: 8 of each in turn, or one behind the other.
    for (name, run) in [("alternating", 8), ("halves", 32)] {
        let part = |which: usize| -> Vec<f64> { x.chunks(run).skip(which).step_by(2).flatten().copied().collect() };
        let (gate, up) = (part(0), part(1));
        put(&format!("swiglu of rows {name}"), &twin::swiglu::forward(&gate, &up));
        let (dgate, dup) = twin::swiglu::backward(&dy[..96], &gate, &up);
        let rows = dgate.chunks(run).zip(dup.chunks(run)).flat_map(|(dgate, dup)| [dgate, dup].concat());
        put(&format!("swiglu_backward {name}"), &rows.collect::<Vec<_>>());
    }

    // Two texts side by side, each counting from 0.
    let mut put = |name: &str, values: &[f64]| out.insert(name.to_owned(), sampled(&narrow(values)));
    let (heads, width, a) = (HEADS_OF_TWIN, HEADS.qkv_width() as usize, LENGTHS.2 as usize);
    let (n, q_row, kv_row) = (STARTS.len(), heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim);
    let starts = STARTS.map(|start| start as usize);
    let qkv = wide(1, n * width);
    let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
    for (t, row) in qkv.chunks(width).enumerate() {
        let position = [t - starts[t]];
        q.extend(twin::rope::forward(&ROPE, &row[..q_row], heads.head_dim, &position));
        k.extend(twin::rope::forward(&ROPE, &row[q_row..q_row + kv_row], heads.head_dim, &position));
        v.extend(&row[q_row + kv_row..]);
    }
    put("kv_cache_write of two texts", &q);
    let (o, lse) = twin::attention::forward(heads, &q, &k, &v, &starts);
    put("attention of two texts", &o);
    put("attention's log-sum-exp", &lse);
    let [k_prompt, v_prompt] = [6, 7].map(|seed| wide(seed, a * kv_row));
    let gate = wide(8, heads.n_heads);
    let mut with_prompt = o.clone();
    let saved = twin::gated_attention::forward(heads, &q, &k_prompt, &v_prompt, &gate, &mut with_prompt);
    put("gated_attention apart", &with_prompt);
    let d_o = wide(14, n * q_row);
    let (dq, dk, dv) = twin::attention::backward(heads, &d_o, &q, &k, &v, &o, &lse, &starts);
    let fused = |dq: &[f64]| -> Vec<f64> {
        let row = |values: &[f64], t: usize, width: usize| values[t * width..(t + 1) * width].to_vec();
        (0..n).flat_map(|t| [row(dq, t, q_row), row(&dk, t, kv_row), row(&dv, t, kv_row)].concat()).collect()
    };
    put("attention_backward", &fused(&dq));
    let gated = twin::gated_attention::backward(heads, &d_o, &q, &k_prompt, &v_prompt, &gate, &saved);
    let dqkv = fused(&twin::residual_add::forward(&dq, &gated.dq));
    put("gated_attention_backward to queries", &dqkv);
    let row = |values: &[f64], at: usize| values[at * kv_row..(at + 1) * kv_row].to_vec();
    let prompt =
        (0..a).flat_map(|at| [vec![0.0; q_row], row(&gated.dk_prompt, at), row(&gated.dv_prompt, at)].concat());
    put("gated_attention_backward to prompt", &prompt.collect::<Vec<_>>());
    put("gated_attention_backward to gates", &gated.dgate);
    let rotated = q_row + kv_row;
    let back = dqkv.chunks(width).enumerate().flat_map(|(t, row)| {
        let rotated_back = twin::rope::backward(&ROPE, &row[..rotated], heads.head_dim, &[t - starts[t]]);
        [rotated_back, row[rotated..].to_vec()].concat()
    });
    put("rope back", &back.collect::<Vec<_>>());

    let (logits, targets) = (wide(16, 600), [Some(7), Some(299)]);
    let (losses, lse) = twin::cross_entropy::forward(&logits, 300, &targets);
    put("cross_entropy", &[&[0.5], &losses[..]].concat());
    let gradient = twin::cross_entropy::backward(0.25, &logits, 300, &targets, &lse);
    out.insert("cross_entropy's gradient".to_owned(), sampled(&narrow(&gradient)));
}

/// `UPDATE_ANSWERS=1 cargo test --test self_test` writes the file anew.
#[test]
fn stored_answers_are_the_twins() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/engine/src/check/self_test_answers.json");
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

/// Formats that the gradients' kernels are tried with here.
const TRAINED: [TensorType; 3] = [TensorType::F32, TensorType::Q4_1, TensorType::Q6_K];

#[test]
fn this_gpu_passes() {
    let _turn = one_at_a_time();
    for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
        let mut answered = BTreeSet::new();
        for (choice, tuning) in tiles(gpu) {
            gpu.set_tuning(tuning);
            for set in Set::ALL {
                // `ops_parity.rs` compares its formats as well; the widest tile shape takes seconds to compile.
                let (formats, tuning) = match set {
                    Set::Forward => (formats(), tuning),
                    Set::Training => (TRAINED.to_vec(), Slot::MatmulManyTokens.set(tuning, 2)),
                    Set::Encoder => (Vec::new(), tuning),
                };
                gpu.set_tuning(tuning);
                let start = std::time::Instant::now();
                let checks = block_on(run(gpu, set, &formats)).unwrap();
                let took = start.elapsed().as_secs_f64();
                println!("{} {choice:?} {}: {} cases in {took:.1} s", gpu.tier(), set.name(), checks.len());
                let bad: Vec<_> = checks.iter().filter(|check| !check.good).collect();
                assert!(bad.is_empty(), "{choice:?}: {bad:?}");
                // Variants of a case have one answer, and no case is run twice.
                let names: BTreeSet<_> = checks.iter().map(|check| check.name.clone()).collect();
                assert_eq!(names.len(), checks.len(), "{choice:?}: two cases of one name");
                let in_f16 = checks.iter().filter(|check| check.name.contains("products in f16")).count();
                assert_eq!(in_f16 > 0, choice[0] == 16 && set == Set::Forward, "{choice:?}: {in_f16} cases in f16");
                answered.extend(names.iter().map(|name| answer_of(name).to_owned()));
            }
        }
        gpu.set_tuning(Tuning::default());
        // What norms in front is the one kernel that not every GPU has.
        let unused = answers().into_keys().filter(|name| !answered.contains(name) && !name.starts_with("normed "));
        let of_trained = |name: &String| TRAINED.iter().any(|format| name.contains(format.name()));
        let unused: Vec<_> = unused.filter(|name| !name.starts_with("matmul_backward") || of_trained(name)).collect();
        assert!(unused.is_empty(), "answers without a case: {unused:?}");
    }
}

/// A text of the kernel, and what is wrong with it then.
type Poison = (&'static str, &'static str, &'static str);

const OF_A_CHAT: [Poison; 25] = [
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
    ("head_norm", "params.eps", "0.1"),
    ("kv_cache_write", "params.eps", "0.1"),
    ("kv_cache_write", "position * d;", "(position + 1u) * d;"),
    ("matmul", "b < params.n_blocks", "b + 1u < params.n_blocks"),
    ("matmul_cooperative", "b < params.n_blocks", "b + 1u < params.n_blocks"),
    ("matmul_lanes", "row & 7u", "row & 3u"),
    ("matmul_tiled", "b < params.n_blocks", "b + 1u < params.n_blocks"),
    ("matvec", "b < params.n_blocks", "b + 1u < params.n_blocks"),
    ("matvec", "/ f32(params.n_blocks", "* 1.01 / f32(params.n_blocks"), // the norm in front
    ("repeat_penalty", "logit > 0.0", "logit < 0.0"),
    ("residual_add", "+= x[at]", "+= x[at] * 1.01"),
    ("rms_norm", "params.eps", "0.1"),
    ("rope", "params.sign", "1.0"),
    ("sample", "step.draw", "(1.0 - step.draw * 0.25)"),
    ("swiglu", "* u;", "* u * 1.01;"),
];

/// The kernels that only a training runs, and what those of a chat do in a training alone.
const OF_A_TRAINING: [Poison; 18] = [
    ("attention_backward_kv", "params.scale", "(params.scale * 1.01)"),
    ("attention_backward_q", "params.scale", "(params.scale * 1.01)"),
    ("cross_entropy", "params.scale", "(params.scale * 1.01)"),
    ("gated_attention_backward", "params.scale", "(params.scale * 1.01)"),
    ("gated_attention_reduce", "t < params.n_tokens", "t + 1u < params.n_tokens"),
    ("gated_attention_reduce_lanes", "t < params.n_tokens", "t + 1u < params.n_tokens"),
    ("head_norm", "shift = r * r", "shift = 1.1 * r * r"),
    ("matmul_backward", "total += parts", "total += 1.01 * parts"),
    ("matmul_backward_cooperative", "scale[token] *", "1.01 * scale[token] *"),
    ("matmul_backward_tiled", "fma(w_low, d,", "fma(w_low, 1.01 * d,"),
    ("matmul_backward_tokens", "fma(w0,", "fma(1.01 * w0,"),
    ("rms_norm_backward", "params.eps", "0.1"),
    ("swiglu_backward", "dy[at] * gate", "1.01 * dy[at] * gate"),
    ("attention", "log(", "1.1 * log("),
    ("attention_keys", "log(", "1.1 * log("),
    ("attention_lanes", "log(", "1.1 * log("),
    ("attention_queries", "log(", "1.1 * log("),
    ("rope", "params.sign", "1.0"),
];

/// The kernels that only an encoder runs, and what those of a chat do in an encoder alone.
const OF_AN_ENCODER: [Poison; 6] = [
    ("attention", "n_keys - 1u;", "n_keys - 2u;"),
    ("attention_keys", "= n_keys - 1u;", "= n_keys - 2u;"),
    ("attention_lanes", "n_keys - 1u;", "n_keys - 2u;"),
    ("attention_queries", "n_keys - 1u;", "n_keys - 2u;"),
    ("gelu", "exp(", "1.01 * exp("),
    ("layer_norm", "params.eps", "0.1"),
];

/// Reliability G5 and N9: one changed constant in any kernel is caught.
#[test]
fn a_poisoned_kernel_is_caught() {
    let _turn = one_at_a_time();
    let of = |set: Set, poisons: &'static [Poison]| poisons.iter().map(move |poison| (set, poison));
    let poisons: Vec<_> = of(Set::Forward, &OF_A_CHAT)
        .chain(of(Set::Training, &OF_A_TRAINING))
        .chain(of(Set::Encoder, &OF_AN_ENCODER))
        .collect();
    let names: BTreeSet<_> = poisons.iter().map(|(_, poison)| poison.0).collect();
    assert_eq!(names, KERNELS.iter().map(|kernel| kernel.name).collect(), "every kernel is poisoned");
    for (set, poison) in poisons {
        // A kernel is tried on the tier that uses it.
        let caught = [(false, false), (true, false), (false, true)].into_iter().any(|(baseline, like_a_gpu)| {
            let gpu = open(&GpuOptions { poison: Some(*poison), baseline, like_a_gpu, ..GpuOptions::default() });
            tiles(&gpu).into_iter().any(|(_, tuning)| {
                gpu.set_tuning(Slot::MatmulManyTokens.set(tuning, 2));
                let checks = block_on(run(&gpu, set, &[TensorType::Q4_1])).unwrap();
                checks.iter().any(|check| !check.good && check.kernels.contains(&poison.0))
            })
        });
        let unused = poison.0.ends_with("_cooperative") && gpu().tier().matrix_units.is_none();
        assert!(caught || unused, "a wrong {} passed", poison.0);
    }
}

/// A GPU that takes subnormal f16 numbers for 0 would turn most of a Q4_K model's weights into zeros, and WGSL allows that: such a
/// GPU is found. Where a scale has a word of its own it is stored as f32 and nothing happens.
#[test]
fn a_gpu_that_flushes_subnormals_is_found() {
    const FLUSHED: &str = "return unpack2x16float(select(0u, word & 0xffffu, (word & 0x7c00u) != 0u) \
        | select(0u, word & 0xffff0000u, (word & 0x7c000000u) != 0u));";
    let _turn = one_at_a_time();
    let (packed, apart) = ([TensorType::Q4_1, TensorType::Q4_K], [TensorType::Q8_0, TensorType::Q6_K]);
    let kernels = [
        "embedding",
        "matmul",
        "matmul_backward_tiled",
        "matmul_backward_tokens",
        "matmul_lanes",
        "matmul_tiled",
        "matvec",
    ];
    for kernel in kernels {
        let mut found = 0;
        for (baseline, like_a_gpu) in [(false, false), (true, false), (false, true)] {
            let flush = Some((kernel, "return unpack2x16float(word);", FLUSHED));
            let gpu = open(&GpuOptions { poison: flush, baseline, like_a_gpu, ..GpuOptions::default() });
            gpu.set_tuning(Slot::MatmulManyTokens.set(Tuning::default(), 2));
            for set in Set::OF_TRAINING {
                let checks = block_on(run(&gpu, set, &packed)).unwrap();
                let (wrong, right): (Vec<_>, Vec<_>) = checks.iter().partition(|check| !check.good);
                let notices = |check: &&&Check| check.name.contains("subnormal") && check.kernels.contains(&kernel);
                assert!(right.iter().find(notices).is_none(), "{kernel}: {:?}", right.iter().find(notices));
                assert_eq!(wrong.iter().filter(notices).count(), wrong.len(), "{kernel}: {wrong:?}");
                found += wrong.len();
                let checks = block_on(run(&gpu, set, &apart)).unwrap();
                assert!(checks.iter().all(|check| check.good), "{kernel}: a scale of its own is no f16");
            }
        }
        assert!(found >= packed.len(), "{kernel}: {found} cases noticed it");
    }
}

#[test]
fn results_are_the_same_in_every_run() {
    let _turn = one_at_a_time();
    gpu().set_tuning(Slot::MatmulManyTokens.set(Tuning::default(), 2));
    for set in Set::ALL {
        let first = block_on(results(gpu(), set, &[TensorType::Q4_K])).unwrap();
        let second = block_on(results(gpu(), set, &[TensorType::Q4_K])).unwrap();
        assert_eq!(first, second);
    }
    gpu().set_tuning(Tuning::default());
}
