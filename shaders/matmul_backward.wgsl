// matmul_backward: dx[t,c] (+)= sum_n dy[t,n] w[n,c], w quantized and frozen (shared/<FORMAT>.wgsl): the transposed product.
// Source:     derivative of matmul.wgsl with respect to its input.
// Shapes:     dy [T,Y] with Y = y_stride, this part's rows from y_offset on; w [N,C] in tiles of 8 rows; dx [T,C].
// Dispatch:   a workgroup owns a block of 32 channels and TOKENS tokens; a thread owns lane `row & 7` of every SLICES-th tile
//             and keeps TOKENS x 32 sums, which are added up once at the end in a fixed order.
// Variants:   EPILOGUE = store | add.
// Twin:       crates/reference/src/matmul.rs   Budget: NMSE <= 1e-6 to the product with the dequantized weights.
struct Params {
    n_rows: u32,
    n_tiles: u32,
    n_blocks: u32,
    y_offset: u32,
    y_stride: u32,
    n_tokens: u32,
    unused0: u32,
    unused1: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight_q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> weight_s: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>; // [T, Y]
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>; // [T, C/4]
#import ${FORMAT}
const ROWS = ${8*SLICES}u;
var<workgroup> parts: array<vec4<f32>, ${64*SLICES*TOKENS}>; // [TOKENS, 8 vec4, rows]

@compute @workgroup_size(${8*SLICES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let lane = index & 7u;
    let linear = group.y * groups.x + group.x;
    let b = linear % params.n_blocks;
    let first_token = (linear / params.n_blocks) * ${TOKENS}u;
    if first_token >= params.n_tokens { return; } // the same for the whole workgroup
#for t in 0..TOKENS
    let y_row${t} = min(first_token + ${t}u, params.n_tokens - 1u) * params.y_stride + params.y_offset;
#for i in 0..8
    var sum${t}_${i} = vec4(0.0);
#end
#end
    for (var tile = index >> 3u; tile < params.n_tiles; tile += ${SLICES}u) {
        let w = dequantize_block(tile, b, lane);
        let row = tile * 8u + lane;
        let last_row = params.n_rows - 1u;
        let inside = select(0.0, 1.0, row <= last_row);
#for t in 0..TOKENS
        let d${t} = dy[y_row${t} + min(row, last_row)] * inside;
#end
#for i in 0..8
#for t in 0..TOKENS
        sum${t}_${i} = fma(w[${i}], vec4(d${t}), sum${t}_${i});
#end
#end
    }
#for t in 0..TOKENS
#for i in 0..8
    parts[${8*t+i}u * ROWS + index] = sum${t}_${i};
#end
#end
    workgroupBarrier();
    for (var at = index; at < ${8*TOKENS}u; at += ROWS) {
        let token = first_token + at / 8u;
        if token < params.n_tokens {
            var total = parts[at * ROWS];
            for (var r = 1u; r < ROWS; r++) { total += parts[at * ROWS + r]; }
            let to = (token * params.n_blocks + b) * 8u + at % 8u;
#if EPILOGUE == add
            dx[to] += total;
#else
            dx[to] = total;
#end
        }
    }
}
