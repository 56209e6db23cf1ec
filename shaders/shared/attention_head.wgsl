// What every attention kernel over the cache takes: head counts, queries, keys, values, what it writes.
// SPLIT = 1: sums of a KV split, with their statistics; PACKED = 1: several texts side by side. Wants `step` and `kv` before it.
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32, // D / 4 = HEAD_VEC4
    scale: f32,     // 1 / sqrt(D)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_cache: array<Stored>;
@group(0) @binding(4) var<storage, read> v_cache: array<Stored>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
#if SPLIT
@group(0) @binding(6) var<storage, read_write> stats: array<f32>; // [KV splits, T, H, 2]: highest score, sum of the weights
#end
#if PACKED
@group(0) @binding(6) var<storage, read> starts: array<u32>; // [T] first token of each token's text
@group(0) @binding(7) var<storage, read_write> stats: array<f32>; // [T, H, 2]: log-sum-exp of the scores, and a place for the gradient
#end
const LOWEST = -3.0e38; // instead of an infinity, which WGSL does not promise to handle
