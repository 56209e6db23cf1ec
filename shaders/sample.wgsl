// sample: draws the next id from the `top_k` largest logits, cut by top_p and min_p, at a temperature.
// Source:     top-p: Holtzman et al. 2019, arXiv:1904.09751; min-p: Nguyen et al. 2024, arXiv:2407.01082. The order is
//             llama.cpp's: top_k, top_p, min_p on the plain probabilities, then the temperature, then the draw.
// Shapes:     logits [V]; next_id [1]; history: a ring of ids, this step's at step.history; step.draw in [0, 1).
// Dispatch:   one workgroup. The k-th largest logit is found by radix selection (a byte a pass, ties to the lowest id), so
//             the candidates are exact and the same in every run.
// Twin:       crates/engine/src/sampler.rs   Budget: the same id unless `draw` falls within 1e-5 of a border.
#import step
struct Params {
    n_vocab: u32,     // V, at most 2^24
    history_len: u32,
    top_k: u32,       // 1..=256
    top_p: f32,
    min_p: f32,
    temperature: f32, // > 0
    unused0: u32,
    unused1: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> next_id: array<u32>;
@group(0) @binding(4) var<storage, read_write> history: array<u32>;
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> wanted: u32;        // how many are still to be found below the bins already taken
var<workgroup> chosen: u32;        // the byte chosen in this pass
var<workgroup> count: atomic<u32>;
var<workgroup> candidate_key: array<u32, 256>;
var<workgroup> candidate_id: array<u32, 256>;

// Floats as integers of the same order.
fn key_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}
fn logit_of(key: u32) -> f32 {
    return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, (key >> 31u) == 1u));
}
// Whether candidate a comes before b: larger logit, then lower id.
fn before(a_key: u32, a_id: u32, b_key: u32, b_id: u32) -> bool {
    return a_key > b_key || (a_key == b_key && a_id < b_id);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
    let k = min(params.top_k, params.n_vocab);
    if index == 0u { wanted = k; atomicStore(&count, 0u); }
    // The selection key is (logit, id from the top), 4 + 3 bytes, decided from the highest byte down.
    var key_prefix = 0u;
    var id_prefix = 0u;
    for (var pass_index = 0u; pass_index < 7u; pass_index++) {
        atomicStore(&bins[index], 0u);
        workgroupBarrier();
        for (var i = index; i < params.n_vocab; i += 256u) {
            let key = key_of(logits[i]);
            let down = 0xffffffu - i;
            if pass_index < 4u {
                let shift = 24u - 8u * pass_index;
                // Shifting by 32 is undefined: the first pass has no prefix to compare.
                if pass_index == 0u || (key >> (shift + 8u)) == key_prefix { atomicAdd(&bins[(key >> shift) & 255u], 1u); }
            } else if key == key_prefix {
                let shift = 16u - 8u * (pass_index - 4u);
                if (down >> (shift + 8u)) == id_prefix { atomicAdd(&bins[(down >> shift) & 255u], 1u); }
            }
        }
        workgroupBarrier();
        if index == 0u {
            var left = wanted;
            var byte = 255u;
            loop {
                let here = atomicLoad(&bins[byte]);
                if here >= left || byte == 0u { break; }
                left -= here;
                byte -= 1u;
            }
            wanted = left;
            chosen = byte;
        }
        workgroupBarrier();
        if pass_index < 4u { key_prefix = (key_prefix << 8u) | chosen; } else { id_prefix = (id_prefix << 8u) | chosen; }
    }
    candidate_key[index] = 0u;
    candidate_id[index] = 0xffffffffu;
    workgroupBarrier();
    for (var i = index; i < params.n_vocab; i += 256u) {
        let key = key_of(logits[i]);
        if key > key_prefix || (key == key_prefix && 0xffffffu - i >= id_prefix) {
            let at = atomicAdd(&count, 1u);
            if at < 256u {
                candidate_key[at] = key;
                candidate_id[at] = i;
            }
        }
    }
    workgroupBarrier();
    for (var size = 2u; size <= 256u; size *= 2u) { // bitonic sort, the best first
        for (var stride = size / 2u; stride > 0u; stride /= 2u) {
            let other = index ^ stride;
            if other > index {
                let a_key = candidate_key[index];
                let a_id = candidate_id[index];
                let b_key = candidate_key[other];
                let b_id = candidate_id[other];
                if before(b_key, b_id, a_key, a_id) == ((index & size) == 0u) {
                    candidate_key[index] = b_key;
                    candidate_id[index] = b_id;
                    candidate_key[other] = a_key;
                    candidate_id[other] = a_id;
                }
            }
            workgroupBarrier();
        }
    }
    if index != 0u { return; }
    let top = logit_of(candidate_key[0]);
    var total = 0.0;
    for (var i = 0u; i < k; i++) { total += exp(max(logit_of(candidate_key[i]) - top, -80.0)); }
    var kept = 0u;
    var mass = 0.0;
    loop {
        let share = exp(max(logit_of(candidate_key[kept]) - top, -80.0));
        if kept > 0u && share < params.min_p { break; }
        mass += share;
        kept += 1u;
        if kept >= k || (params.top_p < 1.0 && mass >= params.top_p * total) { break; } // 1 keeps all: f32 sums reach it early
    }
    var weights = 0.0;
    for (var i = 0u; i < kept; i++) { weights += exp(max((logit_of(candidate_key[i]) - top) / params.temperature, -80.0)); }
    var remaining = step.draw * weights;
    var pick = 0u;
    loop {
        remaining -= exp(max((logit_of(candidate_key[pick]) - top) / params.temperature, -80.0));
        if remaining < 0.0 || pick + 1u >= kept { break; }
        pick += 1u;
    }
    next_id[0] = candidate_id[pick];
    history[step.history % params.history_len] = candidate_id[pick];
}
