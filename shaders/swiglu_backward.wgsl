// swiglu_backward: dgate = dy * up * s * (1 + gate * (1 - s)),  dup = dy * silu(gate),  s = 1 / (1 + exp(-gate))
// Source:     derivative of swiglu.wgsl (Shazeer 2020, arXiv:2002.05202).
// Shapes:     dy [T,F]; z [T,2F], rows of gate and up together; becomes (dgate, dup).
// Variants:   Z = alternating (8 of gate, 8 of up, as the fused product leaves them) | halves (F of gate, F of up).
// Dispatch:   one thread a vec4 of dy.   Twin: crates/reference/src/swiglu.rs   Budget: NMSE <= 1e-6.
struct Params { n_tokens: u32, n_ffn_vec4: u32, unused0: u32, unused1: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // [T, F/4]
@group(0) @binding(2) var<storage, read_write> z: array<vec4<f32>>; // [T, 2F/4]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let t = at / params.n_ffn_vec4;
    if t >= params.n_tokens { return; }
    let f = at % params.n_ffn_vec4;
#if Z == alternating
    let gate_at = t * params.n_ffn_vec4 * 2u + (f / 2u) * 4u + f % 2u; // tiles of 8 rows are pairs of vec4
    let up_at = gate_at + 2u;
#else
    let gate_at = t * params.n_ffn_vec4 * 2u + f;
    let up_at = gate_at + params.n_ffn_vec4;
#end
    let gate = z[gate_at];
    let up = z[up_at];
    let s = 1.0 / (1.0 + exp(min(-gate, vec4(80.0))));
    z[gate_at] = dy[at] * up * s * (1.0 + gate * (1.0 - s));
    z[up_at] = dy[at] * gate * s;
}
