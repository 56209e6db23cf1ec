// cross_entropy: loss[i] = lse(logits[i,:]) - logits[i, target[i]];  logits[i,:] becomes scale (softmax(logits[i,:]) - onehot)
// Source:     cross entropy and its gradient; only rows with a target are computed (arXiv:2303.16199 trains on the answer).
// Shapes:     logits [R,V] in place; targets [..] and losses [..] from `first` on.
// Dispatch:   one workgroup a row.   Twin: crates/reference/src/cross_entropy.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_rows: u32,
    n_vocab: u32,
    first: u32,
    scale: f32, // 1 / number of targets
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
const WG = ${WG}u;
var<workgroup> partial: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let row = group.y * groups.x + group.x;
    if row >= params.n_rows { return; } // the same for the whole workgroup
    let row_at = row * params.n_vocab;
    var top = -3.0e38;
    for (var v = lane; v < params.n_vocab; v += WG) { top = max(top, logits[row_at + v]); }
    partial[lane] = top;
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if lane < stride { partial[lane] = max(partial[lane], partial[lane + stride]); }
    }
    workgroupBarrier();
    top = partial[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var v = lane; v < params.n_vocab; v += WG) { sum += exp(max(logits[row_at + v] - top, -80.0)); }
    partial[lane] = sum;
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if lane < stride { partial[lane] += partial[lane + stride]; }
    }
    workgroupBarrier();
    let lse = top + log(partial[0]);
    let wanted = targets[params.first + row];
    if lane == 0u { losses[params.first + row] = lse - logits[row_at + wanted]; }
    workgroupBarrier(); // the loss reads a logit that the next loop overwrites
    for (var v = lane; v < params.n_vocab; v += WG) {
        let p = exp(max(logits[row_at + v] - lse, -80.0));
        logits[row_at + v] = params.scale * (p - select(0.0, 1.0, v == wanted));
    }
}
