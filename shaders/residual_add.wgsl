// residual_add: y[i] += x[i]
// Source:     He et al. 2015, arXiv:1512.03385, eq. 1.
// Shapes:     x, y [n] of vec4.   Dispatch: one thread a vec4.
// Twin:       crates/reference/src/residual_add.rs   Budget: bit-equal.
struct Params { n_vec4: u32, unused0: u32, unused1: u32, unused2: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    if at >= params.n_vec4 { return; }
    y[at] += x[at];
}
