// matmul: y[t,n] (+)= sum_c w[n,c] * x[t,c] for many tokens, tiled in registers; w quantized (shared/<FORMAT>.wgsl).
// Source:     the product of every linear layer; the layout is described in shaders/README.md ("Weights").
// Shapes:     w [N,C] in tiles of 8 rows; x [T,C]; y [T,Y] with Y = y_stride. C = 32 * n_blocks.
// Dispatch:   a workgroup is 8 lanes and owns ROWS tiles (a lane a row of each) for TOKENS tokens; no barriers. For CPU
//             adapters, which run 8 lanes as one vector: a block is dequantized once for all tokens. matmul_tiled.wgsl is the twin for wide GPUs.
// Variants:   X = broadcast (subgroups of at least 8) | storage.  EPILOGUE, BIAS: shared/epilogue.wgsl.
// Twin:       crates/reference/src/matmul.rs      Budget: NMSE <= 1e-6 to the product with the dequantized weights.
#import product
#import ${FORMAT}
#import epilogue
#import band

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let linear = group.y * groups.x + group.x;
    let last_tile = params.n_tiles - 1u;
    let at = place_in_bands(linear, params.n_token_tiles, last_tile / ${ROWS}u + 1u, params.share);
    let first_token = at.x * ${TOKENS}u;
    let first_tile = at.y * ${ROWS}u;
    let last_token = params.n_tokens - 1u;
    let stride = params.n_blocks * 8u;
#for r in 0..ROWS
    let tile${r} = min(first_tile + ${r}u, last_tile); // past the end: read something valid, write nothing
#end
#for t in 0..TOKENS
    let x_row${t} = min(first_token + ${t}u, last_token) * stride;
#for r in 0..ROWS
    var sum${r}_${t} = 0.0;
#end
#end
    for (var b = 0u; b < params.n_blocks; b++) {
#for r in 0..ROWS
        let w${r} = dequantize_block(tile${r}, b, lane);
#end
#for t in 0..TOKENS
        {
            let x_at = x_row${t} + b * 8u;
#if X == broadcast
            let x_lane = x[x_at + lane];
#end
#for i in 0..8
            {
#if X == broadcast
                let v = subgroupBroadcast(x_lane, ${i}u);
#else
                let v = x[x_at + ${i}u];
#end
#for r in 0..ROWS
                sum${r}_${t} = fma(w${r}[${i}].x, v.x, sum${r}_${t});
                sum${r}_${t} = fma(w${r}[${i}].y, v.y, sum${r}_${t});
                sum${r}_${t} = fma(w${r}[${i}].z, v.z, sum${r}_${t});
                sum${r}_${t} = fma(w${r}[${i}].w, v.w, sum${r}_${t});
#end
            }
#end
        }
#end
    }
#for t in 0..TOKENS
#if EPILOGUE == swiglu
#for r in 0..PAIRS
    if first_tile + ${2*r+1}u <= last_tile {
        write_pair(first_token + ${t}u, (first_tile / 2u + ${r}u) * 8u + lane, sum${2*r}_${t}, sum${2*r+1}_${t});
    }
#end
#else
#for r in 0..ROWS
    if first_tile + ${r}u <= last_tile { write(first_token + ${t}u, (first_tile + ${r}u) * 8u + lane, sum${r}_${t}); }
#end
#end
#end
}
