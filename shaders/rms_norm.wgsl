// rms_norm: y[t,c] = x[t0+t,c] * r[t] * weight[c],  r[t] = 1 / sqrt(mean_c(x[t0+t,c]^2) + eps)
// Source:     Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
// Shapes:     x [T0+T,C]; y [T,C]; weight [C]. All f32, row-major, C a multiple of 4.
// Variants:   GATHER = 1: only the rows of x that a list names, for the loss.
// Dispatch:   one workgroup a token.   Twin: crates/reference/src/rms_norm.rs
// Budget:     NMSE <= 1e-7 to the f64 twin on uniform(-10, 10).
struct Params {
    n_tokens: u32,
    n_vec4: u32,      // C / 4
    first_token: u32, // t0
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [T0+T, C/4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // [C/4]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // [T, C/4]
#if GATHER
@group(0) @binding(4) var<storage, read> rows: array<u32>; // which row of x, from t0 on
#end
const WG = ${WG}u; // a power of two: 8 where a workgroup runs on one core, 256 on a GPU
var<workgroup> partial: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let t = group.y * groups.x + group.x;
    if t >= params.n_tokens { return; } // the same for the whole workgroup, so the barriers below are legal
#if GATHER
    let row = rows[params.first_token + t] * params.n_vec4;
#else
    let row = (params.first_token + t) * params.n_vec4;
#end
    var sum = vec4(0.0);
    for (var c = lane; c < params.n_vec4; c += WG) { sum = fma(x[row + c], x[row + c], sum); }
    partial[lane] = (sum.x + sum.y) + (sum.z + sum.w); // written before it is read: never rely on zeroed memory
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) { // a fixed tree: same input, same bits
        workgroupBarrier();
        if lane < stride { partial[lane] += partial[lane + stride]; }
    }
    workgroupBarrier();
    let scale = inverseSqrt(partial[0] / f32(params.n_vec4 * 4u) + params.eps);
    for (var c = lane; c < params.n_vec4; c += WG) { y[t * params.n_vec4 + c] = x[row + c] * scale * weight[c]; }
}
