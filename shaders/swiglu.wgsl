// swiglu: y[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z))
// Source:     Shazeer 2020, arXiv:2002.05202, eq. 5.
// Shapes:     gate, up, y [n] of vec4; or z [T,2F], rows of gate and up together, and y [T,F].
// Variants:   Z = apart | alternating (8 of gate, 8 of up, as the fused product leaves them) | halves (F of gate, F of up).
// Dispatch:   one thread a vec4 of y.   Twin: crates/reference/src/swiglu.rs   Budget: NMSE <= 1e-7.
#import silu
struct Params { n_vec4: u32, n_ffn_vec4: u32, unused0: u32, unused1: u32 }
@group(0) @binding(0) var<uniform> params: Params;
#if Z == apart
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#end

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    if at >= params.n_vec4 { return; }
#if Z == apart
    let g = gate[at];
    let u = up[at];
#else
    let row = at / params.n_ffn_vec4 * params.n_ffn_vec4 * 2u;
    let f = at % params.n_ffn_vec4;
#if Z == alternating
    let gate_at = row + (f / 2u) * 4u + f % 2u; // tiles of 8 rows are pairs of vec4
    let u = z[gate_at + 2u];
#else
    let gate_at = row + f;
    let u = z[gate_at + params.n_ffn_vec4];
#end
    let g = z[gate_at];
#end
    y[at] = vec4(silu(g.x), silu(g.y), silu(g.z), silu(g.w)) * u;
}
