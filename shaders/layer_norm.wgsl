// layer_norm: y[t,c] = (x[t,c] - m[t]) * r[t] * weight[c] + bias[c],  m[t] = mean_c x[t,c],  r[t] = 1 / sqrt(mean_c (x[t,c] - m[t])^2 + eps)
// Source:     Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 3.
// Shapes:     x, y [T,C]; weight, bias [C]. All f32, row-major, C a multiple of 4.
// Dispatch:   one workgroup a token.   Twin: crates/reference/src/layer_norm.rs
// Budget:     NMSE <= 1e-7 to the f64 twin on uniform(-10, 10).
struct Params {
    n_tokens: u32,
    n_vec4: u32, // C / 4
    eps: f32,
    unused: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [T, C/4]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // [C/4]
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // [C/4]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [T, C/4]
const WG = ${WG}u; // a power of two: 8 where a workgroup runs on one core, 256 on a GPU
var<workgroup> partial: array<f32, WG>;

// The sum of every lane's value, the same in all: a fixed tree, so the same input gives the same bits.
fn total(lane: u32, value: f32) -> f32 {
    workgroupBarrier(); // all have read the sum before
    partial[lane] = value;
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if lane < stride { partial[lane] += partial[lane + stride]; }
    }
    workgroupBarrier();
    return partial[0];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let t = group.y * groups.x + group.x;
    if t >= params.n_tokens { return; } // the same for the whole workgroup, so the barriers are legal
    let row = t * params.n_vec4;
    let n = f32(params.n_vec4 * 4u);
    var sum = vec4(0.0);
    for (var c = lane; c < params.n_vec4; c += WG) { sum += x[row + c]; }
    let mean = total(lane, (sum.x + sum.y) + (sum.z + sum.w)) / n;
    // Around the mean, not from the mean of squares: that would cancel.
    var squares = vec4(0.0);
    for (var c = lane; c < params.n_vec4; c += WG) {
        let off = x[row + c] - mean;
        squares = fma(off, off, squares);
    }
    let scale = inverseSqrt(total(lane, (squares.x + squares.y) + (squares.z + squares.w)) / n + params.eps);
    for (var c = lane; c < params.n_vec4; c += WG) { y[row + c] = fma((x[row + c] - mean) * scale, weight[c], bias[c]); }
}
