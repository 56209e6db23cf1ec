// argmax: id = the index of the largest logit of each row, the lowest index on a tie; it becomes the next step's input.
// Shapes:     logits [rows, V]; next_id [rows]; history: a ring of ids, the first row's at step.history.
// Dispatch:   one workgroup a row.   Twin: crates/reference/src/sampling.rs   Budget: equal.
#import step
struct Params { n_vocab: u32, history_len: u32, unused0: u32, unused1: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> next_id: array<u32>;
@group(0) @binding(4) var<storage, read_write> history: array<u32>;
var<workgroup> best_value: array<f32, 256>;
var<workgroup> best_index: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row = group.x;
    var value = -3.4e38;
    var at = 0u;
    for (var i = index; i < params.n_vocab; i += 256u) {
        let logit = logits[row * params.n_vocab + i];
        if logit > value { value = logit; at = i; }
    }
    best_value[index] = value;
    best_index[index] = at;
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if index < stride {
            let other = best_value[index + stride];
            let other_at = best_index[index + stride];
            if other > best_value[index] || (other == best_value[index] && other_at < best_index[index]) {
                best_value[index] = other;
                best_index[index] = other_at;
            }
        }
    }
    if index == 0u {
        next_id[row] = best_index[0];
        history[(step.history + row) % params.history_len] = best_index[0];
    }
}
