// matmul_backward_tokens: dx[t,c] (+)= sum_n dy[t,n] w[n,c], matmul_backward.wgsl for CPU adapters with subgroups.
// Source:     derivative of matmul.wgsl with respect to its input.
// Shapes:     dy [T,Y] with Y = y_stride, this part's rows from y_offset on; w [N,C] in tiles of 8 rows; dx [T,C].
// Dispatch:   a workgroup of 8 lanes owns BLOCKS blocks of 32 channels and 8 OCTETS tokens, a lane OCTETS of them. A step takes the 8
//             rows of a tile: each lane unpacks one, which then goes round by subgroupBroadcast, so that an unpacked weight meets
//             8 OCTETS tokens and a sum never leaves its lane. No barriers. Needs subgroups of at least 8.
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

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let n_token_tiles = (params.n_tokens - 1u) / ${8*OCTETS}u + 1u;
    let at = place_in_bands(group.y * groups.x + group.x, n_token_tiles, params.n_block_groups, params.band);
    let first_token = at.x * ${8*OCTETS}u;
    let first_block = at.y * ${BLOCKS}u;
    if first_token >= params.n_tokens { return; } // the same for the whole workgroup
    let last_row = params.n_rows - 1u;
#for o in 0..OCTETS
    let token${o} = first_token + ${8*o}u + lane;
    let y_row${o} = min(token${o}, params.n_tokens - 1u) * params.y_stride + params.y_offset;
#end
#for k in 0..BLOCKS
    let block${k} = min(first_block + ${k}u, params.n_blocks - 1u); // past the end: read something valid, write nothing
#for o in 0..OCTETS
#for i in 0..8
    var sum${k}_${o}_${i} = vec4(0.0);
#end
#end
#end
    for (var tile = 0u; tile < params.n_tiles; tile++) {
        // Past the last row there may be anything: it counts nothing.
#for h in 0..2
        let row${h} = tile * 8u + ${4*h}u;
        let inside${h} = vec4(row${h}, row${h} + 1u, row${h} + 2u, row${h} + 3u) <= vec4(last_row);
#for o in 0..OCTETS
#if WIDE
        let d${o}_${h} = select(vec4(0.0), dy[(y_row${o} + min(row${h}, last_row)) >> 2u], inside${h});
#else
        let d${o}_${h} = select(vec4(0.0), vec4(dy[y_row${o} + min(row${h}, last_row)], dy[y_row${o} + min(row${h} + 1u, last_row)],
            dy[y_row${o} + min(row${h} + 2u, last_row)], dy[y_row${o} + min(row${h} + 3u, last_row)]), inside${h});
#end
#end
#end
#for k in 0..BLOCKS
        {
            let w = dequantize_block(tile, block${k}, lane);
#for i in 0..8
            {
#for h in 0..2
                {
                    let w0 = subgroupBroadcast(w[${i}], ${4*h}u);
                    let w1 = subgroupBroadcast(w[${i}], ${4*h+1}u);
                    let w2 = subgroupBroadcast(w[${i}], ${4*h+2}u);
                    let w3 = subgroupBroadcast(w[${i}], ${4*h+3}u);
#for o in 0..OCTETS
                    sum${k}_${o}_${i} = fma(w0, vec4(d${o}_${h}.x), sum${k}_${o}_${i});
                    sum${k}_${o}_${i} = fma(w1, vec4(d${o}_${h}.y), sum${k}_${o}_${i});
                    sum${k}_${o}_${i} = fma(w2, vec4(d${o}_${h}.z), sum${k}_${o}_${i});
                    sum${k}_${o}_${i} = fma(w3, vec4(d${o}_${h}.w), sum${k}_${o}_${i});
#end
                }
#end
            }
#end
        }
#end
    }
#for k in 0..BLOCKS
    if first_block + ${k}u < params.n_blocks {
#for o in 0..OCTETS
        if token${o} < params.n_tokens {
            let to = (token${o} * params.n_blocks + block${k}) * 8u;
#for i in 0..8
#if EPILOGUE == add
            dx[to + ${i}u] += sum${k}_${o}_${i};
#else
            dx[to + ${i}u] = sum${k}_${o}_${i};
#end
#end
        }
#end
    }
#end
}
