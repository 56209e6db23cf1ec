// What changes from one submit to the next: must match `gpu::plan::Step` in crates/engine.
struct Step {
    past: u32,     // P: positions already in the KV cache
    n_tokens: u32, // T: tokens of this step
    draw: f32,     // a uniform number in [0, 1) for the sampler
    history: u32,  // index of this step's token in the ring of recent ids
}
