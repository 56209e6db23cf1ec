// swiglu: y[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z))
// Source:     Shazeer 2020, arXiv:2002.05202, eq. 5.
// Shapes:     gate, up, y [n] of vec4.   Dispatch: one thread a vec4.
// Twin:       crates/reference/src/swiglu.rs   Budget: NMSE <= 1e-7.
#import silu
struct Params { n_vec4: u32, unused0: u32, unused1: u32, unused2: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    if at >= params.n_vec4 { return; }
    let z = gate[at];
    y[at] = vec4(silu(z.x), silu(z.y), silu(z.z), silu(z.w)) * up[at];
}
