//! What other families do to queries and keys: the norm of each head.

use crate::bench::Bench;
use adapter_engine::ops::head_norm::{self, HeadNorm};
use adapter_engine::ops::heads::Heads;
use adapter_engine::ops::kv_cache::{self, CacheFormat, LayerCache, plane_bytes};
use adapter_engine::ops::rope::{Rope, Scaling};
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::uniform;

const HEADS: [(u32, u32, u32); 5] = [(1, 1, 4), (4, 2, 32), (9, 3, 64), (5, 1, 80), (2, 2, 128)];
const EPS: f32 = 1e-6;

/// A fused product with the heads of q and k normed, the scale of each; values as they were.
fn normed(x: &[f32], weights: &[f32], heads: Heads) -> (Vec<f64>, Vec<f64>) {
    let (d, n_all) = (heads.head_dim as usize, (heads.n_heads + 2 * heads.n_kv_heads) as usize);
    let (mut y, mut r) = (Vec::new(), Vec::new());
    for (index, head) in x.chunks_exact(d).enumerate() {
        let weights = match index % n_all {
            head if head < heads.n_heads as usize => &weights[..d],
            head if head < (heads.n_heads + heads.n_kv_heads) as usize => &weights[d..],
            _ => &[],
        };
        if weights.is_empty() {
            y.extend(widen(head));
            r.push(1.0);
        } else {
            let (head, scale) = twin::rms_norm::forward(&widen(head), &widen(weights), f64::from(EPS));
            y.extend(head);
            r.extend(scale);
        }
    }
    (y, r)
}

pub fn head_norm(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let (d, width) = (head_dim as usize, heads.qkv_width() as usize);
        for n_tokens in [1u32, 7, 66] {
            let case = format!("head_norm[T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim}]");
            if !bench.wants(&case) {
                continue;
            }
            let (x, weights) = (uniform(1, n_tokens as usize * width, -3.0, 3.0), uniform(2, 2 * d, -2.0, 2.0));
            let (y, r) = normed(&x, &weights, heads);
            let keys = (n_heads * head_dim) as usize..((n_heads + n_kv_heads) * head_dim) as usize;
            let wanted: Vec<f64> = y.chunks_exact(width).flat_map(|row| row[keys.clone()].to_vec()).collect();
            let (x_buffer, weight_buffer) = (bench.input(&x), bench.input(&weights));
            let norm = HeadNorm { weights: &weight_buffer, eps: EPS };
            let out = bench.output(wanted.len());
            bench.run(|plan| head_norm::launch_keys(plan, &x_buffer, norm, &out, heads, n_tokens).unwrap());
            bench.compare(&case, &out, &narrow(&wanted), 1e-7);

            let dy = uniform(3, x.len(), -2.0, 2.0);
            let n_all = (n_heads + 2 * n_kv_heads) as usize;
            let gradient = |index: usize| {
                let (at, weights) =
                    (index * d, if index % n_all < n_heads as usize { &weights[..d] } else { &weights[d..] });
                match index % n_all < (n_heads + n_kv_heads) as usize {
                    false => widen(&dy[at..at + d]),
                    true => {
                        let (dy, x) = (widen(&dy[at..at + d]), widen(&x[at..at + d]));
                        twin::rms_norm::backward(&dy, &x, &widen(weights), &r[index..=index])
                    }
                }
            };
            let wanted: Vec<f64> = (0..x.len() / d).flat_map(gradient).collect();
            let out = bench.in_place(&dy);
            bench.run(|plan| head_norm::launch_backward(plan, &x_buffer, norm, &out, heads, n_tokens).unwrap());
            bench.compare(&format!("{case} backward"), &out, &narrow(&wanted), 1e-6);
        }
    }
}

/// The norm on the way into the cache.
pub fn kv_cache_write(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let (d, n_kv) = (head_dim as usize, n_kv_heads as usize);
        for n_tokens in [1u32, 11] {
            let case = format!("kv_cache_write with norm[T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim}]");
            if !bench.wants(&case) {
                continue;
            }
            let rope = Rope { head_dim, n_rot: head_dim, theta: 1e6, scaling: Scaling::None };
            let theirs = twin::rope::Rope { n_rot: d, theta: 1e6, scaling: twin::rope::Scaling::None };
            let x = uniform(4, (n_tokens * heads.qkv_width()) as usize, -2.0, 2.0);
            let weights = uniform(5, 2 * d, -2.0, 2.0);
            let mut cache = twin::kv_cache::KvCache::default();
            let twin_heads = twin::attention::Heads { n_heads: n_heads as usize, n_kv_heads: n_kv, head_dim: d };
            let wanted_q = twin::kv_cache::write(&mut cache, &theirs, twin_heads, &normed(&x, &weights, heads).0);
            let mut wanted_k = vec![0f32; plane_bytes(heads, n_tokens) as usize / 4];
            for (at, value) in narrow(&cache.k).into_iter().enumerate() {
                let (position, head, c) = (at / (n_kv * d), at / d % n_kv, at % d);
                wanted_k[((((position / 8) * n_kv + head) * (d / 4) + c / 4) * 8 + position % 8) * 4 + c % 4] = value;
            }
            let zeros = vec![0f32; wanted_k.len()];
            let format = CacheFormat::F32;
            let out = LayerCache { k: bench.in_place(&zeros), v: bench.in_place(&vec![0.0; cache.v.len()]), format };
            let (step, table) = (bench.step(0, n_tokens), bench.input(&rope.table(0..n_tokens)));
            let (x, weights, q) = (bench.input(&x), bench.input(&weights), bench.output(wanted_q.len()));
            let operands = kv_cache::Operands {
                step: &step,
                table: &table,
                qkv: &x,
                norm: Some(HeadNorm { weights: &weights, eps: EPS }),
                q: &q,
                cache: &out,
                heads,
                n_tokens,
                packed: None,
            };
            bench.run(|plan| kv_cache::launch(plan, operands).unwrap());
            bench.compare(&format!("{case} q"), &q, &narrow(&wanted_q), 1e-7);
            bench.compare(&format!("{case} k"), &out.k, &wanted_k, 1e-7);
            bench.compare(&format!("{case} v"), &out.v, &narrow(&cache.v), 0.0);
        }
    }
}
