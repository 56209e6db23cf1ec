// matvec: y[n] (+)= sum_c w[n,c] * x[c] for one token, w quantized (shared/<FORMAT>.wgsl).
// Source:     the product of every linear layer; the layout is described in shaders/README.md ("Weights").
// Shapes:     w [N,C] in tiles of 8 rows; x [C]; y [N] or, with swiglu, [N/2]. C = 32 * n_blocks.
// Dispatch:   a thread owns lane `row & 7` of ROWS neighbouring tiles; SLICES threads share a row and add up at the end.
// Variants:   X = broadcast (subgroups of at least 8: a block of x is one load a lane) | storage.
//             NORM = 1: x goes through an RMS norm first (arXiv:1910.07467, eq. 4): its weights are multiplied in as x is read,
//             its scale, which is the same for all channels, at the end.
//             EPILOGUE, BIAS: shared/epilogue.wgsl.
// Twin:       crates/reference/src/matmul.rs      Budget: NMSE <= 1e-6 to the product with the dequantized weights.
#import product
#import ${FORMAT}
#import epilogue
#if SLICES == 1
#else
var<workgroup> partial: array<f32, ${WG*ROWS}>;
#if NORM
var<workgroup> partial_squares: array<f32, ${WG}>;
#end
#end

@compute @workgroup_size(${WG})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let lane = index & 7u;
    let slice = (index >> 3u) % ${SLICES}u;
    let first_tile = ((group.y * groups.x + group.x) * ${TILES}u + (index >> 3u) / ${SLICES}u) * ${ROWS}u;
    let last_tile = params.n_tiles - 1u;
#for r in 0..ROWS
    let tile${r} = min(first_tile + ${r}u, last_tile); // past the end: read something valid, write nothing
    var sum${r} = 0.0;
#end
#if NORM
    var squares = vec4(0.0);
#end
    for (var b = slice; b < params.n_blocks; b += ${SLICES}u) {
#if X == broadcast
#if NORM
        let raw = x[params.x_first + b * 8u + lane];
        squares = fma(raw, raw, squares); // this lane's channels only
        let x_lane = raw * norm[b * 8u + lane];
#else
        let x_lane = x[b * 8u + lane];
#end
#for i in 0..8
        let x${i} = subgroupBroadcast(x_lane, ${i}u);
#end
#else
#for i in 0..8
#if NORM
        let raw${i} = x[params.x_first + b * 8u + ${i}u];
        squares = fma(raw${i}, raw${i}, squares);
        let x${i} = raw${i} * norm[b * 8u + ${i}u];
#else
        let x${i} = x[b * 8u + ${i}u];
#end
#end
#end
        let x_four = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
        let x_sum = (x_four.x + x_four.y) + (x_four.z + x_four.w);
#for r in 0..ROWS
        sum${r} += dot_block(tile${r}, b, lane, x0, x1, x2, x3, x4, x5, x6, x7, x_sum);
#end
    }
#if NORM
    var square_sum = (squares.x + squares.y) + (squares.z + squares.w);
#if X == broadcast
    square_sum = subgroupAdd(square_sum); // a workgroup is 8 lanes
#end
#end
#if SLICES == 1
#else
    // A fixed order of additions: the same input gives the same bits.
#for r in 0..ROWS
    partial[index * ${ROWS}u + ${r}u] = sum${r};
#end
#if NORM
    partial_squares[index] = square_sum;
#end
    workgroupBarrier();
    if slice != 0u { return; }
    for (var s = 1u; s < ${SLICES}u; s++) {
#for r in 0..ROWS
        sum${r} += partial[(index + s * 8u) * ${ROWS}u + ${r}u];
#end
#if NORM
        square_sum += partial_squares[index + s * 8u];
#end
    }
#end
#if NORM
    let scale = inverseSqrt(square_sum / f32(params.n_blocks * 32u) + params.eps);
#for r in 0..ROWS
    sum${r} *= scale;
#end
#end
#if EPILOGUE == swiglu
#for r in 0..PAIRS
    if first_tile + ${2*r+1}u <= last_tile {
        write_pair(0u, (first_tile / 2u + ${r}u) * 8u + lane, sum${2*r}, sum${2*r+1});
    }
#end
#else
#for r in 0..ROWS
    if first_tile + ${r}u <= last_tile { write(0u, (first_tile + ${r}u) * 8u + lane, sum${r}); }
#end
#end
}
