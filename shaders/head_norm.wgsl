// head_norm: the RMS norm of single heads in a fused q, k, v product, and its gradient
// Source:     Yang et al. 2025, arXiv:2505.09388 (Qwen3): rms_norm.wgsl over the D channels of a head; rms_norm_backward.wgsl.
// Shapes:     x [T, (H + 2K) D], the product; norm [2, D] of q, of k.
// Variants:   BACKWARD = 0: y [T, K, D] = x r norm, keys alone (those of an adaption prompt, which are not rotated).
//             BACKWARD = 1: y [T, (H + 2K) D] holds gradients; those of queries and keys become those before the norm:
//             dx = r (dn - n mean(dn n)), dn = norm dy, n = x r.
// Dispatch:   one thread a head.   Twin: crates/reference/src/rms_norm.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_tokens: u32,
    n_heads: u32,    // H
    n_kv_heads: u32, // K
    head_vec4: u32,  // D / 4
    eps: f32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let d = params.head_vec4;
#if BACKWARD
    let n_normed = params.n_heads + params.n_kv_heads;
    let head = at % n_normed;
#else
    let n_normed = params.n_kv_heads;
    let head = at % n_normed + params.n_heads;
#end
    let t = at / n_normed;
    if t >= params.n_tokens { return; }
    let first = (t * (params.n_heads + 2u * params.n_kv_heads) + head) * d;
    let norm_at = select(0u, d, head >= params.n_heads);
    var square = vec4(0.0);
    for (var j = 0u; j < d; j++) { square = fma(x[first + j], x[first + j], square); }
    let n_channels = f32(d * 4u);
    let r = inverseSqrt(((square.x + square.y) + (square.z + square.w)) / n_channels + params.eps);
#if BACKWARD
    var product = vec4(0.0);
    for (var j = 0u; j < d; j++) { product = fma(y[first + j] * norm[norm_at + j], x[first + j], product); }
    let shift = r * r * ((product.x + product.y) + (product.z + product.w)) / n_channels;
    for (var j = 0u; j < d; j++) { y[first + j] = r * (y[first + j] * norm[norm_at + j] - x[first + j] * shift); }
#else
    for (var j = 0u; j < d; j++) { y[at * d + j] = x[first + j] * (r * norm[norm_at + j]); }
#end
}
