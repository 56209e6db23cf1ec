// matmul_backward: dx[t,c] (+)= sum_n dy[t,n] w[n,c], w quantized and frozen (shared/<FORMAT>.wgsl): the transposed product.
// Source:     derivative of matmul.wgsl with respect to its input.
// Shapes:     dy [T,Y] with Y = y_stride, this part's rows from y_offset on; w [N,C] in tiles of 8 rows; dx [T,C].
// Dispatch:   a workgroup of 8 lanes owns BLOCKS blocks of 32 channels and TOKENS tokens. A step takes 32 rows: a lane 4
//             neighbouring ones, so that one load brings the gradients of all four, and keeps TOKENS x 32 BLOCKS sums, which are
//             added up over the lanes at the end in a fixed order. For CPU adapters, where loads cost most;
//             matmul_backward_tiled.wgsl is the twin for wide GPUs.
// Variants:   EPILOGUE = store | add.  WIDE = 1: y_stride and y_offset are multiples of 4.
// Twin:       crates/reference/src/matmul.rs   Budget: NMSE <= 1e-6 to the product with the dequantized weights.
struct Params {
    n_rows: u32,
    n_tiles: u32,
    n_blocks: u32,
    y_offset: u32,
    y_stride: u32,
    n_tokens: u32,
    n_block_groups: u32, // ceil(n_blocks / BLOCKS)
    band: u32,           // token tiles that take turns before the next blocks come
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight_q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> weight_s: array<u32>;
#if WIDE
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>; // [T, Y/4]
#else
@group(0) @binding(3) var<storage, read> dy: array<f32>; // [T, Y]
#end
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>; // [T, C/4]
#import ${FORMAT}
#import band
var<workgroup> parts: array<vec4<f32>, ${64*TOKENS}>; // [TOKENS, 8 vec4, 8 lanes]

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let linear = group.y * groups.x + group.x;
    let n_token_tiles = (params.n_tokens - 1u) / ${TOKENS}u + 1u;
    let at = place_in_bands(linear, n_token_tiles, params.n_block_groups, params.band);
    let first_token = at.x * ${TOKENS}u;
    let first_block = at.y * ${BLOCKS}u;
    if first_token >= params.n_tokens { return; } // the same for the whole workgroup
    let last_row = params.n_rows - 1u;
#for t in 0..TOKENS
    let y_row${t} = min(first_token + ${t}u, params.n_tokens - 1u) * params.y_stride + params.y_offset;
#end
#for k in 0..BLOCKS
    let block${k} = min(first_block + ${k}u, params.n_blocks - 1u); // past the end: read something valid, write nothing
#for t in 0..TOKENS
#for i in 0..8
    var sum${k}_${t}_${i} = vec4(0.0);
#end
#end
#end
    for (var row = lane * 4u; row < params.n_rows + lane * 4u; row += 32u) {
        let tile = min(row >> 3u, params.n_tiles - 1u);
        let inside = vec4(row, row + 1u, row + 2u, row + 3u) <= vec4(last_row);
#if WIDE
        let y_at = min(row, last_row) >> 2u; // past the end: read something valid, count nothing
#end
#for t in 0..TOKENS
#if WIDE
        let d${t} = select(vec4(0.0), dy[(y_row${t} >> 2u) + y_at], inside);
#else
        let d${t} = select(vec4(0.0), vec4(dy[y_row${t} + min(row, last_row)], dy[y_row${t} + min(row + 1u, last_row)],
            dy[y_row${t} + min(row + 2u, last_row)], dy[y_row${t} + min(row + 3u, last_row)]), inside);
#end
#end
#for k in 0..BLOCKS
        {
#for j in 0..4
            let w${j} = dequantize_block(tile, block${k}, (row & 7u) + ${j}u);
#end
#for t in 0..TOKENS
#for i in 0..8
            sum${k}_${t}_${i} = fma(w0[${i}], vec4(d${t}.x), sum${k}_${t}_${i});
            sum${k}_${t}_${i} = fma(w1[${i}], vec4(d${t}.y), sum${k}_${t}_${i});
            sum${k}_${t}_${i} = fma(w2[${i}], vec4(d${t}.z), sum${k}_${t}_${i});
            sum${k}_${t}_${i} = fma(w3[${i}], vec4(d${t}.w), sum${k}_${t}_${i});
#end
#end
        }
#end
    }
#for k in 0..BLOCKS
    {
#for t in 0..TOKENS
#for i in 0..8
        parts[${64*t+8*i}u + lane] = sum${k}_${t}_${i};
#end
#end
        workgroupBarrier();
        for (var at = lane; at < ${8*TOKENS}u; at += 8u) {
            let token = first_token + at / 8u;
            if token < params.n_tokens && first_block + ${k}u < params.n_blocks {
                var total = parts[at * 8u];
                for (var r = 1u; r < 8u; r++) { total += parts[at * 8u + r]; }
                let to = (token * params.n_blocks + block${k}) * 8u + at % 8u;
#if EPILOGUE == add
                dx[to] += total;
#else
                dx[to] = total;
#end
            }
        }
        workgroupBarrier();
    }
#end
}
