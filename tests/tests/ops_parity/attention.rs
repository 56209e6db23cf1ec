//! Cache, attention and the adapter's part.

use super::bench::{Bench, F32};
use adapter_engine::ops::attention::{self, Heads, Variant};
use adapter_engine::ops::gated_attention::{self, PromptCache};
use adapter_engine::ops::kv_cache::{self, LayerCache, plane_bytes};
use adapter_engine::ops::rope::{Rope, Scaling};
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::uniform;
use pollster::block_on;

/// (H, K, D)
pub const HEADS: [(u32, u32, u32); 8] =
    [(1, 1, 4), (2, 1, 32), (9, 3, 64), (4, 4, 64), (8, 2, 128), (4, 2, 80), (6, 1, 96), (2, 2, 256)];
/// (P, T)
const LENGTHS: [(u32, u32); 9] = [(0, 1), (0, 2), (0, 17), (5, 1), (63, 1), (64, 1), (8, 9), (130, 3), (61, 66)];

pub fn twin_heads(heads: Heads) -> twin::attention::Heads {
    twin::attention::Heads {
        n_heads: heads.n_heads as usize,
        n_kv_heads: heads.n_kv_heads as usize,
        head_dim: heads.head_dim as usize,
    }
}

/// Keys `[S, K, D]` in the order the cache keeps them: `[S/8, K, D/4, 8]` of vec4.
pub fn cache_order(k: &[f32], heads: Heads) -> Vec<f32> {
    let (kv, d) = (heads.n_kv_heads as usize, heads.head_dim as usize);
    let positions = k.len() / (kv * d);
    let mut out = vec![0.0; positions.next_multiple_of(8) * kv * d];
    for (at, value) in k.iter().enumerate() {
        let (position, head, channel) = (at / (kv * d), at / d % kv, at % d);
        out[((((position / 8) * kv + head) * (d / 4) + channel / 4) * 8 + position % 8) * 4 + channel % 4] = *value;
    }
    out
}

pub fn kv_cache_write(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        for (past, n_tokens) in [(0, 1), (0, 11), (5, 3), (8, 1), (15, 2)] {
            let case = format!("kv_cache_write[P={past},T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim}]");
            if !bench.wants(&case) {
                continue;
            }
            let rope = Rope { head_dim, n_rot: head_dim, theta: 10_000.0, scaling: Scaling::None };
            let theirs =
                twin::rope::Rope { n_rot: head_dim as usize, theta: 10_000.0, scaling: twin::rope::Scaling::None };
            let width = ((n_heads + 2 * n_kv_heads) * head_dim) as usize;
            let (before, qkv) =
                (uniform(1, past as usize * width, -2.0, 2.0), uniform(2, n_tokens as usize * width, -2.0, 2.0));
            let mut cache = twin::kv_cache::KvCache::default();
            twin::kv_cache::write(&mut cache, &theirs, twin_heads(heads), &widen(&before));
            let past_k = narrow(&cache.k);
            let past_v = narrow(&cache.v);
            let wanted_q = narrow(&twin::kv_cache::write(&mut cache, &theirs, twin_heads(heads), &widen(&qkv)));
            let (wanted_k, wanted_v) = (cache_order(&narrow(&cache.k), heads), narrow(&cache.v));

            // What is cached must stay as it is; what is behind must not be touched.
            let mut k = cache_order(&past_k, heads);
            k.resize(plane_bytes(heads, past + n_tokens) as usize / 4, 0.0);
            let mut v = past_v;
            v.resize(wanted_v.len(), 0.0);
            let gpu_cache = LayerCache { k: bench.in_place(&k), v: bench.in_place(&v) };
            let (step, table) = (bench.step(past, n_tokens), bench.input(&rope.table(0..past + n_tokens)));
            let (qkv, q) = (bench.input(&qkv), bench.output(wanted_q.len()));
            bench.run(|plan| {
                kv_cache::launch(plan, &step, &table, &qkv, &q, &gpu_cache, heads, n_tokens, None).unwrap();
            });
            bench.compare(&case, &q, &wanted_q, F32);
            bench.compare(&format!("{case} keys"), &gpu_cache.k, &wanted_k, F32);
            bench.compare(&format!("{case} values"), &gpu_cache.v, &wanted_v, F32);
        }
    }
}

pub fn attention(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let mut variants = vec![Variant::Workgroup];
        if bench.gpu.tier().broadcast && head_dim.is_multiple_of(32) && head_dim <= 128 {
            variants.push(Variant::Lanes);
        }
        for (past, n_tokens) in LENGTHS {
            let n_positions = (past + n_tokens) as usize;
            let row = (n_kv_heads * head_dim) as usize;
            // Large scores: a softmax without its maximum taken off would overflow.
            let q = uniform(1, (n_tokens * n_heads * head_dim) as usize, -6.0, 6.0);
            let (k, v) = (uniform(2, n_positions * row, -6.0, 6.0), uniform(3, n_positions * row, -2.0, 2.0));
            let names: Vec<_> = variants
                .iter()
                .map(|variant| {
                    (
                        *variant,
                        format!("attention[{variant:?},P={past},T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim}]"),
                    )
                })
                .filter(|(_, case)| bench.wants(case))
                .collect();
            if names.is_empty() {
                continue;
            }
            let (wanted, _) = twin::attention::forward(twin_heads(heads), &widen(&q), &widen(&k), &widen(&v), &[]);
            // Stale values behind the last position, as a cache that was cut back has: they must not count.
            let mut keys = cache_order(&k, heads);
            keys.resize(keys.len() + 64 * row, 1e30);
            let cache =
                LayerCache { k: bench.input(&keys), v: bench.input(&[&v[..], &vec![1e30; 72 * row][..]].concat()) };
            let (step, q) = (bench.step(past, n_tokens), bench.input(&q));
            for (variant, case) in names {
                let o = bench.output(wanted.len());
                bench.run(|plan| {
                    attention::launch_variant(plan, variant, &step, &q, &cache, &o, heads, n_tokens, None).unwrap();
                });
                bench.compare(&case, &o, &narrow(&wanted), F32);
            }
        }
    }
}

pub fn gated_attention(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        for (n_tokens, adapter_len) in [(1, 1), (1, 10), (3, 2), (17, 10), (5, 65), (2, 256)] {
            let case = format!("gated_attention[T={n_tokens},A={adapter_len},H={n_heads},K={n_kv_heads},D={head_dim}]");
            if !bench.wants(&case) {
                continue;
            }
            let n = (n_tokens * n_heads * head_dim) as usize;
            let row = (adapter_len * n_kv_heads * head_dim) as usize;
            let (q, before) = (uniform(1, n, -4.0, 4.0), uniform(2, n, -1.0, 1.0));
            let (k, v) = (uniform(3, row, -4.0, 4.0), uniform(4, row, -2.0, 2.0));
            let gate = uniform(5, n_heads as usize, -1.5, 1.5);
            let mut wanted = widen(&before);
            twin::gated_attention::forward(
                twin_heads(heads),
                &widen(&q),
                &widen(&k),
                &widen(&v),
                &widen(&gate),
                &mut wanted,
            );
            let prompt = PromptCache { k: bench.input(&k), v: bench.input(&v), gate: bench.input(&gate) };
            let (q, o) = (bench.input(&q), bench.in_place(&before));
            bench.run(|plan| {
                gated_attention::launch(plan, &q, &prompt, &o, None, heads, [n_tokens, adapter_len]).unwrap();
            });
            bench.compare(&case, &o, &narrow(&wanted), F32);
            // A closed gate leaves every bit alone.
            let closed = PromptCache { gate: bench.input(&vec![0.0; n_heads as usize]), ..prompt };
            let o = bench.in_place(&before);
            bench.run(|plan| {
                gated_attention::launch(plan, &q, &closed, &o, None, heads, [n_tokens, adapter_len]).unwrap();
            });
            let found: Vec<f32> = block_on(bench.gpu.read(&o, 0, n)).unwrap();
            if !adapter_tests::same_bits(&found, &before) {
                bench.failures.push(format!("{case}: a closed gate changed something"));
            }
        }
    }
}
