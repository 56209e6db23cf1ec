//! The gradients: every backward kernel against its twin. (The twins themselves are checked by central differences and
//! against float64 autograd: `crates/reference/tests`.)

use super::attention::{cache_order, twin_heads, variants};
use super::bench::{Bench, F32, QUANTIZED};
use super::products::{ORDINARY, SUBNORMAL, scaled_matrix};
use adapter_engine::formats::TensorType;
use adapter_engine::gpu::Buffer;
use adapter_engine::ops::attention::{self, BackwardOperands, Operands, Variant};
use adapter_engine::ops::gated_attention::{self, PromptCache};
use adapter_engine::ops::heads::Heads;
use adapter_engine::ops::kv_cache::{CacheFormat, LayerCache};
use adapter_engine::ops::matmul::{BackwardVariant, Tiles};
use adapter_engine::ops::rope::{self, Packed, Rope, Scaling};
use adapter_engine::ops::swiglu::Rows;
use adapter_engine::ops::{cross_entropy, matmul, rms_norm, swiglu};
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::uniform;

/// (H, K, D). The kernels are unrolled over the head: a software rasteriser compiles a head of 256 for half a minute.
const HEADS: [(u32, u32, u32); 4] = [(1, 1, 4), (9, 3, 64), (4, 2, 80), (2, 1, 128)];

/// What a gradient may be off by.
const GRADIENT: f64 = 1e-6;

pub fn rms_norm(bench: &mut Bench<'_>) {
    for (n_tokens, n_channels) in [(1, 4), (1, 32), (2, 576), (3, 252), (5, 2048), (17, 20), (65, 12), (257, 28)] {
        let case = format!("rms_norm_backward[T={n_tokens},C={n_channels}]");
        if !bench.wants(&case) {
            continue;
        }
        let n = n_tokens * n_channels;
        let (dy, x, before) = (uniform(1, n, -2.0, 2.0), uniform(2, n, -10.0, 10.0), uniform(3, n, -1.0, 1.0));
        let weight = uniform(4, n_channels, -2.0, 2.0);
        let (_, r) = twin::rms_norm::forward(&widen(&x), &widen(&weight), f64::from(1e-5f32));
        let dx = twin::rms_norm::backward(&widen(&dy), &widen(&x), &widen(&weight), &r);
        let wanted = narrow(&twin::residual_add::forward(&dx, &widen(&before)));
        let shape =
            rms_norm::Shape { n_tokens: n_tokens as u32, n_channels: n_channels as u32, first_token: 0, eps: 1e-5 };
        let [dy_buffer, x_buffer, weight_buffer] = [&dy, &x, &weight].map(|values| bench.input(values));
        let out = bench.in_place(&before);
        bench.run(|plan| {
            rms_norm::launch_backward(plan, &dy_buffer, &x_buffer, &weight_buffer, &out, None, shape).unwrap();
        });
        bench.compare(&case, &out, &wanted, GRADIENT);

        // Rows by a list, forward and back: every second row, from the last on.
        let rows: Vec<u32> = (0..n_tokens as u32).rev().step_by(2).collect();
        let row = |values: &[f32], at: u32| values[at as usize * n_channels..][..n_channels].to_vec();
        let chosen: Vec<f32> = rows.iter().flat_map(|at| row(&x, *at)).collect();
        let (y, r) = twin::rms_norm::forward(&widen(&chosen), &widen(&weight), f64::from(1e-5f32));
        let shape = rms_norm::Shape { n_tokens: rows.len() as u32, ..shape };
        let rows_buffer = bench.words(&rows);
        let out = bench.output(y.len());
        bench.run(|plan| {
            rms_norm::launch_gather(plan, &x_buffer, &weight_buffer, &out, &rows_buffer, shape).unwrap();
        });
        bench.compare(&format!("{case} gather"), &out, &narrow(&y), GRADIENT);
        let dy = &dy[..y.len()];
        let gradients = narrow(&twin::rms_norm::backward(&widen(dy), &widen(&chosen), &widen(&weight), &r));
        let mut wanted = before.clone();
        for (at, gradient) in rows.iter().zip(gradients.chunks(n_channels)) {
            wanted[*at as usize * n_channels..][..n_channels].copy_from_slice(gradient);
        }
        let out = bench.in_place(&before);
        bench.run(|plan| {
            let rows = Some(&rows_buffer);
            rms_norm::launch_backward(plan, &dy_buffer, &x_buffer, &weight_buffer, &out, rows, shape).unwrap();
        });
        bench.compare(&format!("{case} scatter"), &out, &wanted, GRADIENT);
    }
}

pub fn swiglu(bench: &mut Bench<'_>) {
    for (n_tokens, n_ffn) in [(1, 32), (1, 96), (3, 64), (7, 512), (65, 32), (5, 1536)] {
        let case = format!("swiglu_backward[T={n_tokens},F={n_ffn}]");
        if !bench.wants(&case) {
            continue;
        }
        let n = n_tokens * n_ffn;
        let (dy, gate, up) = (uniform(1, n, -2.0, 2.0), uniform(2, n, -100.0, 100.0), uniform(3, n, -4.0, 4.0));
        let (dgate, dup) = twin::swiglu::backward(&widen(&dy), &widen(&gate), &widen(&up));
        // 8 of gate, 8 of up, alternating, as the fused product leaves them; or one after the other.
        let together = |gate: &[f32], up: &[f32], stretch: usize| -> Vec<f32> {
            gate.chunks(stretch).zip(up.chunks(stretch)).flat_map(|(gate, up)| [gate, up].concat()).collect()
        };
        let y = narrow(&twin::swiglu::forward(&widen(&gate), &widen(&up)));
        let sizes = [n_tokens as u32, n_ffn as u32];
        let dy = bench.input(&dy);
        for (rows, stretch) in [(Rows::Alternating, 8), (Rows::Halves, n_ffn)] {
            let (z, out) = (bench.in_place(&together(&gate, &up, stretch)), bench.output(n));
            bench.run(|plan| swiglu::launch_rows(plan, &z, &out, sizes, rows).unwrap());
            bench.compare(&format!("{case} {rows:?} forward"), &out, &y, F32);
            bench.run(|plan| swiglu::launch_backward(plan, &dy, &z, sizes, rows).unwrap());
            let wanted = together(&narrow(&dgate), &narrow(&dup), stretch);
            bench.compare(&format!("{case} {rows:?}"), &z, &wanted, GRADIENT);
        }
    }
}

pub fn matmul(bench: &mut Bench<'_>) {
    let formats = TensorType::supported;
    let shapes = formats().flat_map(|format| [(format, 41, 512, 5, ORDINARY), (format, 44, 512, 5, ORDINARY)]);
    let scaled = formats().filter(|format| !format.scale_offsets().is_empty());
    let shapes = shapes.chain(scaled.map(|format| (format, 41, 512, 5, SUBNORMAL)));
    let more =
        [(1, 32, 1), (7, 64, 2), (8, 96, 3), (9, 32, 4), (36, 160, 9), (64, 32, 17), (100, 96, 130), (257, 64, 66)];
    let more = more.map(|(n_rows, n_cols, n_tokens)| (TensorType::Q4_1, n_rows, n_cols, n_tokens, ORDINARY));
    for (format, n_rows, n_cols, n_tokens, scales) in shapes.chain(more) {
        let case = format!("matmul_backward[{format},N={n_rows},C={n_cols},T={n_tokens},scales {scales:?}]");
        if !bench.wants(&case) {
            continue;
        }
        let (matrix, w) = scaled_matrix(bench, format, [n_rows, n_cols], 7, scales);
        let (dy, before) = (uniform(8, n_tokens * n_rows, -2.0, 2.0), uniform(9, n_tokens * n_cols, -3.0, 3.0));
        let dx = twin::matmul::backward(&widen(&dy), &w, n_cols);
        let shape = matmul::Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
        let dy = bench.input(&dy);
        let mut variants = Vec::new();
        // What rounds takes rows in fours, what does not is tried with those that are none.
        if bench.gpu.tier().f16 && n_rows % 4 == 0 {
            variants.push(BackwardVariant::Tiled { tiles: Tiles::F16 });
            variants.extend(bench.gpu.tier().matrix_units.map(BackwardVariant::Cooperative));
        }
        if n_rows != 44 {
            variants.extend([BackwardVariant::Registers, BackwardVariant::Tiled { tiles: Tiles::F32 }]);
        }
        if n_rows != 44 && bench.gpu.tier().broadcast {
            variants.extend((1..=4).map(|octets| BackwardVariant::Tokens { octets }));
        }
        for (add, variant) in variants.into_iter().flat_map(|variant| [(false, variant), (true, variant)]) {
            let out = if add { bench.in_place(&before) } else { bench.output(before.len()) };
            let sum = if add { twin::residual_add::forward(&dx, &widen(&before)) } else { dx.clone() };
            bench.run(|plan| {
                matmul::launch_backward_variant(plan, variant, &matrix, &dy, &out, shape, add).unwrap();
            });
            bench.compare(&format!("{case} {variant:?} add={add}"), &out, &narrow(&sum), QUANTIZED);
        }
    }
}

pub fn cross_entropy(bench: &mut Bench<'_>) {
    for (n_rows, n_vocab, first) in [(1, 2, 0), (1, 320, 0), (3, 257, 2), (5, 4099, 1), (2, 49_152, 0), (33, 64, 7)] {
        let case = format!("cross_entropy[R={n_rows},V={n_vocab},first={first}]");
        if !bench.wants(&case) {
            continue;
        }
        let logits = uniform(1, n_rows * n_vocab, -30.0, 30.0);
        let targets: Vec<u32> = (0..n_rows + first).map(|i| (i * 7919 % n_vocab) as u32).collect();
        let wanted: Vec<Option<u32>> = targets[first..].iter().copied().map(Some).collect();
        let (losses, lse) = twin::cross_entropy::forward(&widen(&logits), n_vocab, &wanted);
        let scale = 0.125;
        let gradient = twin::cross_entropy::backward(scale, &widen(&logits), n_vocab, &wanted, &lse);
        let before = vec![7.0f32; first];
        let (targets, logits) = (bench.words(&targets), bench.in_place(&logits));
        let out = bench.in_place(&[&before[..], &vec![0.0; n_rows][..]].concat());
        bench.run(|plan| {
            let sizes = [n_rows as u32, n_vocab as u32, first as u32];
            cross_entropy::launch(plan, &targets, &logits, &out, sizes, scale as f32).unwrap();
        });
        bench.compare(&format!("{case} gradient"), &logits, &narrow(&gradient), GRADIENT);
        bench.compare(&format!("{case} losses"), &out, &[before, narrow(&losses)].concat(), GRADIENT);
    }
}

/// Texts side by side: for each token the first token of its text.
fn packs() -> Vec<Vec<u32>> {
    let pack = |lengths: &[u32]| -> Vec<u32> {
        let mut start = 0;
        lengths
            .iter()
            .flat_map(|length| {
                let own = vec![start; *length as usize];
                start += length;
                own
            })
            .collect()
    };
    vec![pack(&[1]), pack(&[9]), pack(&[5, 1, 12]), pack(&[66]), pack(&[8, 8, 64, 3])]
}

pub fn attention(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        for starts in packs() {
            let n_tokens = starts.len() as u32;
            let case = format!("attention_backward[T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim},{} texts]", {
                let mut own = starts.clone();
                own.dedup();
                own.len()
            });
            if !bench.wants(&case) {
                continue;
            }
            let (q_row, kv_row) = ((n_heads * head_dim) as usize, (n_kv_heads * head_dim) as usize);
            let n = n_tokens as usize;
            let (q, d_o) = (uniform(1, n * q_row, -3.0, 3.0), uniform(2, n * q_row, -1.0, 1.0));
            let (k, v) = (uniform(3, n * kv_row, -3.0, 3.0), uniform(4, n * kv_row, -2.0, 2.0));
            let firsts: Vec<usize> = starts.iter().map(|start| *start as usize).collect();
            let theirs = twin_heads(heads);
            let [wide_q, wide_k, wide_v, wide_d] = [&q, &k, &v, &d_o].map(|values| widen(values));
            let (o, lse) = twin::attention::forward(theirs, &wide_q, &wide_k, &wide_v, &firsts);
            let (dq, dk, dv) = twin::attention::backward(theirs, &wide_d, &wide_q, &wide_k, &wide_v, &o, &lse, &firsts);

            let (keys, values) = (bench.input(&cache_order(&k, heads)), bench.input(&v));
            let cache = LayerCache { k: keys, v: values, format: CacheFormat::F32 };
            let (step, starts_buffer) = (bench.step(0, n_tokens), bench.words(&starts));
            let [q, d_o] = [&q, &d_o].map(|values| bench.input(values));
            let variants = variants(bench, heads);
            for variant in variants.clone() {
                let (out, stats) = (bench.output(o.len()), bench.in_place(&vec![0.0; 2 * lse.len()]));
                let packed = Packed { starts: &starts_buffer, stats: &stats };
                let operands = Operands { step: &step, q: &q, cache: &cache, o: &out, heads, n_tokens };
                bench.run(|plan| attention::launch_variant(plan, variant, operands, Some(packed)).unwrap());
                bench.compare(&format!("{case} forward {variant:?}"), &out, &narrow(&o), GRADIENT);
                let found: Vec<f32> = bench.read(&case, &stats, 2 * lse.len()).chunks(2).map(|pair| pair[0]).collect();
                if adapter_tests::nmse(&found, &narrow(&lse)) > GRADIENT {
                    bench.failures.push(format!("{case} {variant:?}: log-sum-exp"));
                }
            }
            let pairs: Vec<f32> = narrow(&lse).iter().flat_map(|lse| [*lse, 0.0]).collect();
            let o = bench.input(&narrow(&o));
            let fused: Vec<f64> = (0..n)
                .flat_map(|t| {
                    let row = |values: &[f64], width: usize| values[t * width..(t + 1) * width].to_vec();
                    [row(&dq, q_row), row(&dk, kv_row), row(&dv, kv_row)].concat()
                })
                .collect();
            for variant in variants {
                let stats = bench.in_place(&pairs);
                let dqkv = bench.output(n * (q_row + 2 * kv_row));
                let packed = Packed { starts: &starts_buffer, stats: &stats };
                let (d_o, q, cache, o, dqkv) = (&d_o, &q, &cache, &o, &dqkv);
                let operands = BackwardOperands { d_o, q, cache, o, packed, dqkv, heads, n_tokens };
                bench.run(|plan| attention::launch_backward_variant(plan, variant, operands).unwrap());
                bench.compare(&format!("{case} {variant:?}"), dqkv, &narrow(&fused), GRADIENT);
                if variant == Variant::Workgroup {
                    rope_back(bench, &case, dqkv, &fused, &starts_buffer, &starts, heads);
                }
            }
        }
    }
}

/// The rotation of a fused gradient, undone for queries and keys and not for values.
fn rope_back(
    bench: &mut Bench<'_>,
    case: &str,
    dqkv: &Buffer,
    fused: &[f64],
    starts_buffer: &Buffer,
    starts: &[u32],
    heads: Heads,
) {
    let (n_tokens, d) = (starts.len() as u32, heads.head_dim as usize);
    let rope = Rope { head_dim: heads.head_dim, n_rot: heads.head_dim, theta: 10_000.0, scaling: Scaling::None };
    let theirs = twin::rope::Rope { n_rot: d, theta: 10_000.0, scaling: twin::rope::Scaling::None };
    let rotated = (heads.n_heads + heads.n_kv_heads) as usize * d;
    let width = rotated + heads.n_kv_heads as usize * d;
    let wanted: Vec<f64> = fused
        .chunks(width)
        .enumerate()
        .flat_map(|(t, row)| {
            let back = twin::rope::backward(&theirs, &row[..rotated], d, &[t - starts[t] as usize]);
            [back, row[rotated..].to_vec()].concat()
        })
        .collect();
    let (step, table) = (bench.step(0, n_tokens), bench.input(&rope.table(0..n_tokens)));
    let packed = Packed { starts: starts_buffer, stats: starts_buffer };
    let sizes = [n_tokens, heads.n_heads + 2 * heads.n_kv_heads, heads.head_dim];
    bench.run(|plan| {
        rope::launch_backward(plan, &step, &table, dqkv, packed, sizes, heads.n_heads + heads.n_kv_heads).unwrap();
    });
    bench.compare(&format!("{case} rotated back"), dqkv, &narrow(&wanted), GRADIENT);
}

pub fn gated_attention(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        for (n_tokens, adapter_len) in [(1, 1), (1, 10), (3, 2), (17, 10), (65, 5), (9, 40)] {
            let case = format!(
                "gated_attention_backward[T={n_tokens},A={adapter_len},H={n_heads},K={n_kv_heads},D={head_dim}]"
            );
            if !bench.wants(&case) {
                continue;
            }
            let (q_row, kv_row) = ((n_heads * head_dim) as usize, (n_kv_heads * head_dim) as usize);
            let (n, a) = (n_tokens as usize, adapter_len as usize);
            let (q, d_o) = (uniform(1, n * q_row, -3.0, 3.0), uniform(2, n * q_row, -1.0, 1.0));
            let (k, v) = (uniform(3, a * kv_row, -3.0, 3.0), uniform(4, a * kv_row, -2.0, 2.0));
            let gate = uniform(5, n_heads as usize, -1.5, 1.5);
            let theirs = twin_heads(heads);
            let [wide_q, wide_k, wide_v, wide_d, wide_gate] = [&q, &k, &v, &d_o, &gate].map(|values| widen(values));
            let mut o = vec![0.0; wide_q.len()];
            let saved = twin::gated_attention::forward(theirs, &wide_q, &wide_k, &wide_v, &wide_gate, &mut o);
            let wanted =
                twin::gated_attention::backward(theirs, &wide_d, &wide_q, &wide_k, &wide_v, &wide_gate, &saved);

            let prompt = PromptCache { k: bench.input(&k), v: bench.input(&v), gate: bench.input(&gate) };
            let before = uniform(6, n * (q_row + 2 * kv_row), -1.0, 1.0);
            let [q, d_o] = [&q, &d_o].map(|values| bench.input(values));
            let width = q_row + 2 * kv_row;
            let mut fused = before.clone();
            for t in 0..n {
                for c in 0..q_row {
                    fused[t * width + c] = (f64::from(before[t * width + c]) + wanted.dq[t * q_row + c]) as f32;
                }
            }
            let rows: Vec<f64> = (0..a)
                .flat_map(|a| {
                    let row = |values: &[f64]| values[a * kv_row..(a + 1) * kv_row].to_vec();
                    [vec![0.0; q_row], row(&wanted.dk_prompt), row(&wanted.dv_prompt)].concat()
                })
                .collect();
            // Attention in keys has no gradient kernels of its own.
            for variant in variants(bench, heads).into_iter().filter(|variant| *variant != Variant::Keys) {
                let case = format!("{case} {variant:?}");
                let [weights, dgates] = [n * n_heads as usize * a * 2, n * n_heads as usize].map(|n| bench.output(n));
                let dqkv = bench.in_place(&before);
                let (dprompt, dgate) = (bench.output(a * (q_row + 2 * kv_row)), bench.output(n_heads as usize));
                let operands = gated_attention::BackwardOperands {
                    d_o: &d_o,
                    q: &q,
                    prompt: &prompt,
                    weights: &weights,
                    dgates: &dgates,
                    dqkv: &dqkv,
                    add_dq: true,
                    dprompt: &dprompt,
                    dgate: &dgate,
                    heads,
                    n_tokens,
                    adapter_len,
                };
                let backward = gated_attention::launch_backward_variant;
                bench.run(|plan| backward(plan, variant, operands).unwrap());
                bench.compare(&format!("{case} queries"), &dqkv, &fused, GRADIENT);
                bench.compare(&format!("{case} prompt"), &dprompt, &narrow(&rows), GRADIENT);
                bench.compare(&format!("{case} gate"), &dgate, &narrow(&wanted.dgate), GRADIENT);
                // The lowest adapted layer has no use for the queries' gradient.
                let untouched = bench.in_place(&before);
                let operands = gated_attention::BackwardOperands { dqkv: &untouched, add_dq: false, ..operands };
                bench.run(|plan| backward(plan, variant, operands).unwrap());
                bench.compare(&format!("{case} lowest layer"), &untouched, &before, 0.0);
            }
        }
    }
}
