// rope: x[t,h,:] rotated by the angles of position P + t; with sign = -1 the inverse, which is also its gradient.
// Source:     Su et al. 2021, arXiv:2104.09864, eq. 34. Angles come from a table made in f64 on the CPU: WGSL bounds
//             the error of sin only inside [-pi, pi].
// Shapes:     x [T, heads, D] in place; table [positions, D/4] of (cos, sin, cos, sin).
// Variants:   PACKED = 1 for training: several texts side by side.
// Dispatch:   one thread a vec4.   Twin: crates/reference/src/rope.rs   Budget: NMSE <= 1e-7.
#import step
#import rotate
struct Params {
    n_tokens: u32,
    n_heads: u32,
    head_vec4: u32, // D / 4
    sign: f32,
    n_rotated: u32,  // heads that turn, from the first on
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>; // [positions, D/4]
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>; // [T, heads, D/4]
#if PACKED
@group(0) @binding(4) var<storage, read> starts: array<u32>; // [T] first token of each token's text
#end

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let t = at / (params.n_heads * params.head_vec4);
    if t >= params.n_tokens { return; }
    if (at / params.head_vec4) % params.n_heads >= params.n_rotated { return; }
#if PACKED
    let position = t - starts[t];
#else
    let position = step.past + t;
#end
    let turn = table[position * params.head_vec4 + at % params.head_vec4];
    x[at] = rotate(x[at], vec4(turn.x, turn.y * params.sign, turn.z, turn.w * params.sign));
}
