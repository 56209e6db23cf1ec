// embedding: y[t,:] = w[ids[t],:], w quantized (shared/<FORMAT>.wgsl).
// Shapes:     ids [T]; w [V,C] in tiles of 8 rows; y [T,C]. C = 32 * n_blocks.
// Dispatch:   one thread a token and block of 32 channels. A table that spans several bindings is several dispatches:
//             each writes the tokens whose rows it holds.
// Twin:       crates/reference/src/embedding.rs     Budget: bit-equal to the dequantized row.
struct Params {
    n_tokens: u32,
    n_blocks: u32,
    first_row: u32, // first token id of this part
    n_rows: u32,    // token ids in this part
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight_q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> weight_s: array<u32>;
@group(0) @binding(3) var<storage, read> ids: array<u32>; // [T]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [T, C/4]
#import ${FORMAT}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    let t = at / params.n_blocks;
    if t >= params.n_tokens { return; }
    let b = at % params.n_blocks;
    let id = ids[t];
    if id < params.first_row || id - params.first_row >= params.n_rows { return; }
    let row = id - params.first_row;
    let values = dequantize_block(row >> 3u, b, row & 7u);
#for i in 0..8
    y[at * 8u + ${i}u] = values[${i}];
#end
}
