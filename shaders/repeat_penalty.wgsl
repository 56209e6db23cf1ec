// repeat_penalty: the logit of each id among the last `window` is divided by `penalty` if positive, else multiplied.
// Source:     Keskar et al. 2019, arXiv:1909.05858, section 4.1, in the form llama.cpp uses.
// Shapes:     logits [V]; history: a ring of the last ids, this step's place at step.history.
// Dispatch:   one workgroup, a thread a past token.   Twin: crates/reference/src/sampling.rs   Budget: NMSE <= 1e-7.
#import step
struct Params { n_vocab: u32, history_len: u32, window: u32, penalty: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
    if index >= min(params.window, step.history) { return; }
    let id = history[(step.history - 1u - index) % params.history_len];
    if id >= params.n_vocab { return; }
    for (var later = 0u; later < index; later++) { // an id counts once, where it came last
        if history[(step.history - 1u - later) % params.history_len] == id { return; }
    }
    let logit = logits[id];
    logits[id] = select(logit * params.penalty, logit / params.penalty, logit > 0.0);
}
