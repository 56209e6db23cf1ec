//! Cache, attention and the adapter's part.

use super::bench::{Bench, F32};
use adapter_engine::gpu::PlanBuilder;
use adapter_engine::ops::attention::{self, KvSplits, Operands, Variant};
use adapter_engine::ops::gated_attention::{self, PromptCache};
use adapter_engine::ops::heads::Heads;
use adapter_engine::ops::kv_cache::{self, CacheFormat, LayerCache, plane_bytes};
use adapter_engine::ops::rope::{Rope, Scaling};
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::uniform;
use pollster::block_on;

/// (H, K, D)
pub const HEADS: [(u32, u32, u32); 8] =
    [(1, 1, 4), (2, 1, 32), (9, 3, 64), (4, 4, 64), (8, 2, 128), (4, 2, 80), (6, 1, 96), (2, 2, 256)];
/// (P, T)
const LENGTHS: [(u32, u32); 10] =
    [(0, 1), (0, 2), (0, 17), (5, 1), (63, 1), (64, 1), (8, 9), (130, 3), (61, 66), (700, 1)];

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
            for format in [CacheFormat::F16, CacheFormat::Q8] {
                written_smaller(bench, format, heads, past, n_tokens);
            }
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
            let format = CacheFormat::F32;
            let gpu_cache = LayerCache { k: bench.in_place(&k), v: bench.in_place(&v), format };
            let (step, table) = (bench.step(past, n_tokens), bench.input(&rope.table(0..past + n_tokens)));
            let (qkv, q) = (bench.input(&qkv), bench.output(wanted_q.len()));
            let operands = kv_cache::Operands {
                step: &step,
                table: &table,
                qkv: &qkv,
                norm: None,
                q: &q,
                cache: &gpu_cache,
                heads,
                n_tokens,
                packed: None,
            };
            bench.run(|plan| kv_cache::launch(plan, operands).unwrap());
            bench.compare(&case, &q, &wanted_q, F32);
            bench.compare(&format!("{case} keys"), &gpu_cache.k, &wanted_k, F32);
            bench.compare(&format!("{case} values"), &gpu_cache.v, &wanted_v, F32);
        }
    }
}

/// Values `[rows, D]` in a smaller format: the numbers it stands for, and its units, a list for each row.
fn rounded(format: CacheFormat, values: &[f32], head_dim: u32) -> (Vec<f32>, Vec<Vec<u32>>) {
    let half = |value: f32| half::f16::from_f32(value.clamp(-65_504.0, 65_504.0));
    let rows = values.chunks_exact(head_dim as usize).map(|row| match format {
        CacheFormat::F16 => {
            let halves: Vec<_> = row.iter().map(|value| half(*value)).collect();
            let word = |pair: &[half::f16]| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16;
            (halves.iter().map(|half| half.to_f32()).collect(), halves.chunks_exact(2).map(word).collect())
        }
        _ => {
            let scale = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let bytes: Vec<i8> =
                row.iter().map(|value| (value / scale.max(1e-30) * 127.0 + 0.5).floor() as i8).collect();
            let word = |four: &[i8]| u32::from_le_bytes([four[0], four[1], four[2], four[3]].map(|byte| byte as u8));
            let numbers: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) / 127.0 * scale).collect();
            (numbers, bytes.chunks_exact(4).map(word).chain([scale.to_bits()]).collect())
        }
    });
    let (numbers, units): (Vec<Vec<f32>>, Vec<Vec<u32>>) = rows.unzip();
    (numbers.concat(), units)
}

/// Keys' units in the order of the cache: 8 neighbouring positions side by side, unit after unit.
fn units_in_order(rows: &[Vec<u32>], n_kv_heads: usize, words: usize) -> Vec<u32> {
    let n_units = rows[0].len() / words;
    let n_positions = rows.len() / n_kv_heads;
    let mut out = vec![0; n_positions.next_multiple_of(8) * n_kv_heads * n_units * words];
    for (index, row) in rows.iter().enumerate() {
        let (position, head) = (index / n_kv_heads, index % n_kv_heads);
        for (at, unit) in row.chunks_exact(words).enumerate() {
            let to = (((position / 8) * n_kv_heads + head) * n_units + at) * 8 + position % 8;
            out[to * words..(to + 1) * words].copy_from_slice(unit);
        }
    }
    out
}

/// Keys and values `[positions, K, D]` as the kernels find them in a smaller cache, stale ones behind the last, and the numbers
/// they stand for.
fn smaller_cache(
    bench: &Bench<'_>,
    format: CacheFormat,
    [k, v]: [&[f32]; 2],
    heads: Heads,
) -> (LayerCache, [Vec<f64>; 2]) {
    let words = if format == CacheFormat::F16 { 2 } else { 1 };
    let n_kv_heads = heads.n_kv_heads as usize;
    let (numbers_k, units_k) = rounded(format, k, heads.head_dim);
    let (numbers_v, units_v) = rounded(format, v, heads.head_dim);
    let stale = vec![0x7bff_7bff_u32; 64 * units_v[0].len() * n_kv_heads];
    let keys = [&units_in_order(&units_k, n_kv_heads, words)[..], &stale].concat();
    let values = [&units_v.concat()[..], &stale].concat();
    let cache = LayerCache { k: bench.words(&keys), v: bench.words(&values), format };
    (cache, [widen(&numbers_k), widen(&numbers_v)])
}

/// A smaller cache gets what the f32 one gets, rounded.
fn written_smaller(bench: &mut Bench<'_>, format: CacheFormat, heads: Heads, past: u32, n_tokens: u32) {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let case = format!("kv_cache_write[{format:?},P={past},T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim}]");
    if !bench.wants(&case) {
        return;
    }
    let rope = Rope { head_dim, n_rot: head_dim, theta: 10_000.0, scaling: Scaling::None };
    let width = (n_heads + 2 * n_kv_heads) * head_dim;
    let mut qkv = uniform(7, (n_tokens * width) as usize, -3.0, 3.0);
    let last = qkv.len() - 1;
    qkv[last] = 1e6; // more than a half can hold
    let n_q = (n_tokens * n_heads * head_dim) as usize;
    let (step, table) = (bench.step(past, n_tokens), bench.input(&rope.table(0..past + n_tokens)));
    let (qkv, q) = (bench.input(&qkv), bench.output(n_q));
    let [full, smaller] = [CacheFormat::F32, format].map(|format| {
        let zeros = vec![0u32; format.plane_bytes(heads, past + n_tokens) as usize / 4];
        let cache = LayerCache { k: bench.words(&zeros), v: bench.words(&zeros), format };
        let operands = kv_cache::Operands {
            step: &step,
            table: &table,
            qkv: &qkv,
            norm: None,
            q: &q,
            cache: &cache,
            heads,
            n_tokens,
            packed: None,
        };
        bench.run(|plan| kv_cache::launch(plan, operands).unwrap());
        cache
    });
    bench.cases += 1;
    let n_positions = (past + n_tokens) as usize;
    let (n_kv, d) = (n_kv_heads as usize, head_dim as usize);
    // The f32 keys as [positions, K, D] again.
    let ordered: Vec<f32> =
        block_on(bench.gpu.read(&full.k, 0, plane_bytes(heads, past + n_tokens) as usize / 4)).unwrap();
    let key = |position: usize, head: usize, c: usize| {
        ordered[((((position / 8) * n_kv + head) * (d / 4) + c / 4) * 8 + position % 8) * 4 + c % 4]
    };
    let keys: Vec<f32> = (0..n_positions)
        .flat_map(|position| (0..n_kv).flat_map(move |head| (0..d).map(move |c| (position, head, c))))
        .map(|(position, head, c)| key(position, head, c))
        .collect();
    let values: Vec<f32> = block_on(bench.gpu.read(&full.v, 0, n_positions * n_kv * d)).unwrap();
    let words = if format == CacheFormat::F16 { 2 } else { 1 };
    let wanted_keys = units_in_order(&rounded(format, &keys, head_dim).1, n_kv, words);
    let wanted_values = rounded(format, &values, head_dim).1.concat();
    for (name, wanted, buffer) in [("keys", wanted_keys, &smaller.k), ("values", wanted_values, &smaller.v)] {
        let found: Vec<u32> = block_on(bench.gpu.read(buffer, 0, wanted.len())).unwrap();
        // WGSL leaves the last bit of a rounding open: a half or a byte may be the neighbouring one, a scale the next float.
        let near = |a: u32, b: u32| {
            let step = |a: i64, b: i64| (a - b).abs() <= 1;
            let bytes = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
            match format {
                CacheFormat::F16 => {
                    step((a & 0xffff).into(), (b & 0xffff).into()) && step((a >> 16).into(), (b >> 16).into())
                }
                _ => bytes.clone().all(|(a, b)| step((a as i8).into(), (b as i8).into())) || step(a.into(), b.into()),
            }
        };
        let far = found.iter().zip(&wanted).filter(|(a, b)| !near(**a, **b)).count();
        if far > 0 {
            bench.failures.push(format!("{case}: {far} of {} {name} are not the rounded ones", wanted.len()));
        }
    }
}

/// The variants that take such heads on this GPU.
pub fn variants(bench: &Bench<'_>, heads: Heads) -> Vec<Variant> {
    let mut variants = vec![Variant::Workgroup];
    if bench.gpu.tier().broadcast && heads.head_dim.is_multiple_of(32) && heads.head_dim <= 128 {
        variants.extend([Variant::Lanes, Variant::Queries]);
    }
    if heads.head_dim <= 128 {
        variants.push(Variant::Keys);
    }
    variants
}

pub fn attention(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let variants = variants(bench, heads);
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
            let values = [&v[..], &vec![1e30; 72 * row][..]].concat();
            let cache = LayerCache { k: bench.input(&keys), v: bench.input(&values), format: CacheFormat::F32 };
            // The same for smaller caches: the twin gets the keys and values as they were rounded.
            let mut caches = vec![(cache, wanted)];
            for format in [CacheFormat::F16, CacheFormat::Q8] {
                let (cache, [k, v]) = smaller_cache(bench, format, [&k, &v], heads);
                caches.push((cache, twin::attention::forward(twin_heads(heads), &widen(&q), &k, &v, &[]).0));
            }
            let (step, q) = (bench.step(past, n_tokens), bench.input(&q));
            for (variant, case) in names {
                for (cache, wanted) in &caches {
                    let o = bench.output(wanted.len());
                    let operands = Operands { step: &step, q: &q, cache, o: &o, heads, n_tokens };
                    bench.run(|plan| attention::launch_variant(plan, variant, operands, None).unwrap());
                    bench.compare(&format!("{case} {:?}", cache.format), &o, &narrow(wanted), F32);
                    // In KV splits, some without a key.
                    for parts in if n_tokens == 1 && variant != Variant::Queries { vec![2, 5, 16] } else { vec![] } {
                        let rows = (parts * n_tokens * n_heads) as usize;
                        let (sums, stats) = (bench.output(rows * head_dim as usize), bench.output(rows * 2));
                        let o = bench.output(wanted.len());
                        bench.run(|plan| {
                            let parts = KvSplits { n: parts, sums: &sums, stats: &stats };
                            attention::launch_split(plan, variant, Operands { o: &o, ..operands }, parts).unwrap();
                        });
                        bench.compare(&format!("{case} {:?} in {parts}", cache.format), &o, &narrow(wanted), F32);
                    }
                }
            }
        }
    }
}

/// Every token sees all, as in an encoder: the twin is asked for one token at a time, as the last of all positions.
pub fn whole(bench: &mut Bench<'_>) {
    for (n_heads, n_kv_heads, head_dim) in HEADS {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        for n_tokens in [1u32, 2, 7, 16, 33, 65, 130] {
            let (row, width) = ((n_kv_heads * head_dim) as usize, (n_heads * head_dim) as usize);
            let n = n_tokens as usize;
            let names: Vec<_> = variants(bench, heads)
                .into_iter()
                .map(|variant| {
                    let name =
                        format!("attention[{variant:?},whole,T={n_tokens},H={n_heads},K={n_kv_heads},D={head_dim}]");
                    (variant, name)
                })
                .filter(|(_, case)| bench.wants(case))
                .collect();
            if names.is_empty() {
                continue;
            }
            let q = uniform(1, n * width, -6.0, 6.0);
            let (k, v) = (uniform(2, n * row, -6.0, 6.0), uniform(3, n * row, -2.0, 2.0));
            let (wide_k, wide_v) = (widen(&k), widen(&v));
            let of = |q: &[f32]| twin::attention::forward(twin_heads(heads), &widen(q), &wide_k, &wide_v, &[]).0;
            let wanted: Vec<f64> = q.chunks_exact(width).flat_map(of).collect();
            let mut keys = cache_order(&k, heads);
            keys.resize(keys.len() + 64 * row, 1e30);
            let values = [&v[..], &vec![1e30; 72 * row][..]].concat();
            let cache = LayerCache { k: bench.input(&keys), v: bench.input(&values), format: CacheFormat::F32 };
            let (step, q) = (bench.step(0, n_tokens), bench.input(&q));
            for (variant, case) in names {
                let o = bench.output(wanted.len());
                let operands = Operands { step: &step, q: &q, cache: &cache, o: &o, heads, n_tokens };
                bench.run(|plan| attention::launch_whole(plan, variant, operands).unwrap());
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
            let q = bench.input(&q);
            // A closed gate leaves every bit alone.
            let closed = PromptCache { gate: bench.input(&vec![0.0; n_heads as usize]), ..prompt.clone() };
            for variant in variants(bench, heads) {
                let launch = |plan: &mut PlanBuilder<'_>, prompt, o| {
                    let operands =
                        gated_attention::Operands { q: &q, prompt, o, o_base: None, heads, n_tokens, adapter_len };
                    gated_attention::launch_variant(plan, variant, operands).unwrap();
                };
                let o = bench.in_place(&before);
                bench.run(|plan| launch(plan, &prompt, &o));
                bench.compare(&format!("{case} {variant:?}"), &o, &narrow(&wanted), F32);
                let o = bench.in_place(&before);
                bench.run(|plan| launch(plan, &closed, &o));
                let found: Vec<f32> = block_on(bench.gpu.read(&o, 0, n)).unwrap();
                if !adapter_tests::same_bits(&found, &before) {
                    bench.failures.push(format!("{case} {variant:?}: a closed gate changed something"));
                }
            }
        }
    }
}
