// bias_add: y[t, y_offset + n] += bias[n]
// Source:     the bias of a product (Yang et al. 2024, arXiv:2407.10671: of q, k and v).
// Shapes:     bias [N]; y [T, y_stride]. All f32; N, y_offset and y_stride multiples of 4.
// Dispatch:   one thread a vec4.   Twin: crates/reference/src/residual_add.rs   Budget: exact.
struct Params {
    n_tokens: u32,
    n_vec4: u32,      // N / 4
    y_offset: u32,    // in vec4
    y_stride: u32,    // in vec4
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let t = at / params.n_vec4;
    if t >= params.n_tokens { return; }
    let n = at % params.n_vec4;
    y[t * params.y_stride + params.y_offset + n] += bias[n];
}
