// What the forward kernels of attention to the prompts take.
// APART = 1 for training: o = o_base + ..., because the gradient needs the base attention's output.
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32,   // D / 4
    adapter_len: u32, // A
    scale: f32,       // 1 / sqrt(D)
    unused0: u32,
    unused1: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k_prompt: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v_prompt: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gate: array<f32>; // [H]
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
#if APART
@group(0) @binding(6) var<storage, read> o_base: array<vec4<f32>>;
#end
