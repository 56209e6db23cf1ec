// matmul_lanes: y[t,n] (+)= sum_c w[n,c] * x[t,c] where a load costs a lane each (SwiftShader); w quantized (shared/<FORMAT>.wgsl).
// Source:     the product of every linear layer; the layout is described in shaders/README.md ("Weights").
// Shapes:     w [N,C] in tiles of 8 rows; x [T,C]; y [T,Y] with Y = y_stride. C = 32 * n_blocks.
// Dispatch:   LANES threads share a row: each owns BLOCKS blocks of the channels and keeps its inputs of TOKENS tokens in
//             registers, so that nothing but weights is loaded from row to row. A workgroup owns `share` tiles (an even
//             number), CHUNK of them between two barriers, after which the lanes' shares are added up.
// Variants:   TOKENS = 1 | 4.  EPILOGUE, BIAS: shared/epilogue.wgsl.
// Twin:       crates/reference/src/matmul.rs      Budget: NMSE <= 1e-6 to the product with the dequantized weights.
#import product
#import ${FORMAT}
#import epilogue
var<workgroup> shares: array<f32, ${8*CHUNK*TOKENS*LANES}>; // [rows of a chunk, TOKENS, LANES]

// The sum of a row's shares, always in the same order: the same input gives the same bits.
fn total(row: u32, t: u32) -> f32 {
    let first = (row * ${TOKENS}u + t) * ${LANES}u;
    var sum = shares[first];
    for (var i = 1u; i < ${LANES}u; i++) { sum += shares[first + i]; }
    return sum;
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let linear = group.y * groups.x + group.x;
    let first_token = (linear % params.n_token_tiles) * ${TOKENS}u;
    let first_tile = (linear / params.n_token_tiles) * params.share;
    let end_tile = min(first_tile + params.share, params.n_tiles); // the same for the whole workgroup, as barriers need it
    let last_token = params.n_tokens - 1u;
    let last_block = params.n_blocks - 1u;
    let stride = params.n_blocks * 8u;
#for g in 0..BLOCKS
    // Past the last block: read a valid one, and weigh it with zeros.
    let block${g} = min(lane + ${g*LANES}u, last_block);
    let real${g} = select(0.0, 1.0, lane + ${g*LANES}u <= last_block);
#for t in 0..TOKENS
    let from${g}_${t} = min(first_token + ${t}u, last_token) * stride + block${g} * 8u;
#for i in 0..8
    let raw${g}_${t}_${i} = x[from${g}_${t} + ${i}u] * real${g};
    let x${g}_${t}_${i} = raw${g}_${t}_${i} * PLACE;
#end
    let four${g}_${t} = ((raw${g}_${t}_0 + raw${g}_${t}_1) + (raw${g}_${t}_2 + raw${g}_${t}_3))
                      + ((raw${g}_${t}_4 + raw${g}_${t}_5) + (raw${g}_${t}_6 + raw${g}_${t}_7));
    let x_sum${g}_${t} = (four${g}_${t}.x + four${g}_${t}.y) + (four${g}_${t}.z + four${g}_${t}.w);
#end
#end
    for (var chunk = first_tile; chunk < end_tile; chunk += ${CHUNK}u) {
        let n_rows = min(${CHUNK}u, end_tile - chunk) * 8u;
        for (var row = 0u; row < n_rows; row++) {
            let tile = chunk + (row >> 3u); // divisions cost a dozen additions here
            let place = row & 7u;
#for t in 0..TOKENS
            var share${t} = 0.0;
#end
#for g in 0..BLOCKS
            {
                let w = block_parts(tile, block${g}, place);
#for t in 0..TOKENS
                // One number a token: four partial sums of four tokens would not stay in registers.
                var sum${t} = dot(w.v[0], x${g}_${t}_0);
#for i in 1..8
                sum${t} += dot(w.v[${i}], x${g}_${t}_${i});
#end
                share${t} += fma(w.scale, sum${t}, w.offset * x_sum${g}_${t});
#end
            }
#end
#for t in 0..TOKENS
            shares[(row * ${TOKENS}u + ${t}u) * ${LANES}u + lane] = share${t};
#end
        }
        workgroupBarrier();
#if EPILOGUE == swiglu
        for (var i = lane; i < n_rows / 2u * ${TOKENS}u; i += ${LANES}u) {
            let row = i / ${TOKENS}u;
            let t = i % ${TOKENS}u;
            let gate = (row >> 3u) * 16u + (row & 7u); // its up is a tile further
            write_pair(first_token + t, chunk * 4u + row, total(gate, t), total(gate + 8u, t));
        }
#else
        for (var i = lane; i < n_rows * ${TOKENS}u; i += ${LANES}u) {
            let row = i / ${TOKENS}u;
            let t = i % ${TOKENS}u;
            write(first_token + t, chunk * 8u + row, total(row, t));
        }
#end
        workgroupBarrier(); // the next chunk writes where this one was read
    }
}
