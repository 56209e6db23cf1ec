// kv_cache_write: splits the fused q,k,v product of a step; q and k are rotated by rope, k and v go into the cache.
// Source:     rope as in rope.wgsl; the cache layout is described in shaders/README.md ("KV cache"); the norm of each head of q and
//             k before rope: Yang et al. 2025, arXiv:2505.09388 (Qwen3), rms_norm.wgsl.
// Shapes:     qkv [T, (H + 2K) D]; q [T, H, D]; k_cache [positions/8, K, D/4, 8] of vec4; v_cache [positions, K, D].
// Variants:   KV = f32 | f16 | q8: how the cache is stored; SCALES = 1 for q8, which keeps a scale behind each head.
//             PACKED = 1 for training: several texts side by side. NORM = 0 or, with a norm, the number of its binding.
// Dispatch:   one thread a vec4 of qkv.   Twin: crates/reference/src/kv_cache.rs   Budget: NMSE <= 1e-7.
#import step
#import kv
#import rotate
struct Params {
    n_tokens: u32,
    n_heads: u32,    // H
    n_kv_heads: u32, // K
    head_vec4: u32,  // D / 4
    eps: f32,        // of the norm
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>; // [positions, D/4]
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<Stored>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<Stored>;
#if PACKED
@group(0) @binding(7) var<storage, read> starts: array<u32>; // [T] first token of each token's text
#end

#if NORM
@group(0) @binding(${NORM}) var<storage, read> norm: array<vec4<f32>>; // [2, D/4] of q, of k
// What the head that starts at `first` is multiplied with; each of its threads finds it.
fn head_scale(first: u32) -> f32 {
    var sum = vec4(0.0);
    for (var j = 0u; j < params.head_vec4; j++) { sum = fma(qkv[first + j], qkv[first + j], sum); }
    return inverseSqrt(((sum.x + sum.y) + (sum.z + sum.w)) / f32(params.head_vec4 * 4u) + params.eps);
}
#end

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let d = params.head_vec4;
    let i = at % d;
    let head = (at / d) % (params.n_heads + 2u * params.n_kv_heads);
    let t = at / (d * (params.n_heads + 2u * params.n_kv_heads));
    if t >= params.n_tokens { return; }
    let position = step.past + t;
#if PACKED
    let turns = (t - starts[t]) * d; // every text counts its positions from 0
#else
    let turns = position * d;
#end
    let is_value = head >= params.n_heads + params.n_kv_heads;
    var value = qkv[at];
#if NORM
    let norm_at = select(0u, d, head >= params.n_heads);
    var scale = 1.0;
    if !is_value {
        scale = head_scale(at - i);
        value *= scale * norm[norm_at + i];
    }
#end
    if !is_value { value = rotate(value, table[turns + i]); }
    if head < params.n_heads {
        q[(t * params.n_heads + head) * d + i] = value;
        return;
    }
#if SCALES
    // The largest of the head; each of its threads finds it, and the first one writes it.
    var largest = 0.0;
    for (var j = 0u; j < d; j++) {
        var other = qkv[at - i + j];
#if NORM
        if !is_value { other *= scale * norm[norm_at + j]; }
#end
        if !is_value { other = rotate(other, table[turns + j]); }
        let size = abs(other);
        largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
    }
    let unit = stored(value, largest);
#else
    let unit = stored(value);
#end
    let units = d + ${SCALES}u;
    if is_value {
        let v_at = (position * params.n_kv_heads + head - params.n_heads - params.n_kv_heads) * units;
        v_cache[v_at + i] = unit;
#if SCALES
        if i == 0u { v_cache[v_at + d] = bitcast<u32>(largest); }
#end
    } else {
        let k_at = ((position >> 3u) * params.n_kv_heads + head - params.n_heads) * units * 8u + (position & 7u);
        k_cache[k_at + i * 8u] = unit;
#if SCALES
        if i == 0u { k_cache[k_at + d * 8u] = bitcast<u32>(largest); }
#end
    }
}
