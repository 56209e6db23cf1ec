// attention_merge: o[t,h,:] = sum_p sums[p,t,h,:] f_p / sum_p weights[p,t,h] f_p, f_p = exp(top_p - max_p top_p): one softmax out of
//             those of several KV splits (attention.wgsl with SPLIT = 1).
// Source:     flash-decoding, Dao et al. 2023, crfm.stanford.edu/2023/10/12/flashdecoding; the sums as in arXiv:2205.14135.
// Shapes:     sums [parts, T, H, D]; stats [parts, T, H, 2]: highest score, sum of the weights; o [T, H, D].
// Dispatch:   one thread a vec4 of o.   Twin: crates/reference/src/attention.rs   Budget: NMSE <= 1e-7.
struct Params {
    n_rows: u32,    // T H
    n_parts: u32,
    head_vec4: u32, // D / 4
    unused: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let row = at / params.head_vec4;
    if row >= params.n_rows { return; }
    var highest = stats[row * 2u];
    for (var p = 1u; p < params.n_parts; p++) { highest = max(highest, stats[(p * params.n_rows + row) * 2u]); }
    var total = 0.0;
    var sum = vec4(0.0);
    for (var p = 0u; p < params.n_parts; p++) {
        let part = (p * params.n_rows + row) * 2u;
        let factor = exp(max(stats[part] - highest, -80.0)); // a KV split without keys has summed zeros
        total = fma(stats[part + 1u], factor, total);
        sum = fma(sums[p * params.n_rows * params.head_vec4 + at], vec4(factor), sum);
    }
    o[at] = sum / total;
}
