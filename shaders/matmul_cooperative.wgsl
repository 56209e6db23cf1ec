// matmul_cooperative: y[t,n] (+)= sum_c w[n,c] * x[t,c] on the matrix units of a GPU: 64 rows x 64 tokens x 32 channels a step.
// Source:     as matmul_tiled.wgsl; cooperative matrices: SPV_KHR_cooperative_matrix, in WGSL an extension of wgpu (native only).
// Shapes:     x [T, C] f16 and scale [T] from half_rows.wgsl, else as matmul.wgsl.
// Dispatch:   a workgroup of 128 threads owns 8 tiles of rows and 64 tokens. Half of the threads dequantize a block each into
//             workgroup memory, the others copy x; then SUBGROUPS subgroups, 4 / PIECES along the rows and COLUMNS along the tokens,
//             multiply matrices of SIZE x SIZE in f16 and add them up in f32.
// Variants:   SIZE = 8 | 16; EPILOGUE, BIAS: shared/epilogue.wgsl. The subgroups of some GPUs may be smaller
//             than the widest, which SUBGROUPS counts: then STAGES is more, and those beyond SUBGROUPS repeat the last one's work.
// Twin:       crates/reference/src/matmul.rs      Budget: NMSE <= 1e-6 to the product with the dequantized weights.
enable f16;
enable wgpu_cooperative_matrix;
#import product
#import ${FORMAT}
#import epilogue
const W_PITCH = 40u; // 32 channels, and 8 more so that neighbouring rows lie in other banks
const X_PITCH = 40u;
var<workgroup> w_slab: array<f16, 2560>; // [64 rows, W_PITCH]
var<workgroup> x_slab: array<f16, 2560>; // [64 tokens, X_PITCH]
var<workgroup> stage: array<f32, ${16*SIZE*STAGES}>; // a subgroup: [SIZE tokens, 16 rows]

fn leave(at: u32, row: u32, token: u32) {
    if token >= params.n_tokens { return; }
#if EPILOGUE == swiglu
    // 8 rows of gate, 8 of up.
    if (row & 8u) != 0u { return; }
    write_pair(token, ((row & ~15u) >> 1u) + (row & 7u), scale[token] * stage[at], scale[token] * stage[at + 8u]);
#else
    write(token, row, scale[token] * stage[at]);
#end
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) n_lanes: u32) {
    let linear = group.y * groups.x + group.x;
    let first_column = (linear % params.n_token_tiles) * 64u;
    let first_row = (linear / params.n_token_tiles) * 64u;
    let load_tile = min((first_row + (index & 63u)) >> 3u, params.n_tiles - 1u);
    let load_token = min(first_column + (index & 63u), params.n_tokens - 1u);
    let slab_at = (index & 63u) * X_PITCH;
#import cooperative_sums
    for (var b = 0u; b < params.n_blocks; b++) {
        if index < 64u {
            let w = dequantize_block(load_tile, b, index & 7u);
#for i in 0..8
            {
                let v = vec4<f16>(w[${i}]);
#for j in 0..4
                w_slab[slab_at + ${4*i+j}u] = v[${j}];
#end
            }
#end
        } else {
            let x_at = (load_token * params.n_blocks + b) * 8u;
#for i in 0..8
            {
                let v = x[x_at + ${i}u];
#for j in 0..4
                x_slab[slab_at + ${4*i+j}u] = v[${j}];
#end
            }
#end
        }
        workgroupBarrier();
#import cooperative_step
        workgroupBarrier();
    }
#import cooperative_stage
}
