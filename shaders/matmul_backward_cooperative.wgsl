// matmul_backward_cooperative: dx[t,c] (+)= sum_n dy[t,n] w[n,c] on the matrix units of a GPU: 64 channels x 64 tokens x 32 rows a step.
// Source:     as matmul_backward_tiled.wgsl; cooperative matrices: as matmul_cooperative.wgsl.
// Shapes:     dy [T, N] f16 and scale [T] from half_rows.wgsl, N a multiple of 4; dx [T, C].
// Dispatch:   a workgroup of 128 threads owns two blocks of 32 channels and 64 tokens. Half of the threads dequantize a block of a
//             row each into workgroup memory, the others copy dy; then as matmul_cooperative.wgsl.
// Variants:   SIZE, SUBGROUPS, STAGES: as matmul_cooperative.wgsl; EPILOGUE = store | add.
// Twin:       crates/reference/src/matmul.rs   Budget: NMSE <= 1e-6 to the product with the dequantized weights.
enable f16;
enable wgpu_cooperative_matrix;
struct Params {
    n_rows: u32,
    n_tiles: u32,
    n_blocks: u32,
    y_offset: u32,
    y_stride: u32,
    n_tokens: u32,
    n_block_pairs: u32, // ceil(n_blocks / 2)
    unused: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight_q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> weight_s: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f16>>; // [T, N/4]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [T, C]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [T]
#import ${FORMAT}
const W_PITCH = 72u; // 64 channels, and 8 more so that neighbouring rows lie in other banks
const X_PITCH = 40u; // 32 rows, and 8 more
var<workgroup> w_slab: array<f16, 2304>; // [32 rows, W_PITCH]
var<workgroup> x_slab: array<f16, 2560>; // dy: [64 tokens, X_PITCH]
var<workgroup> stage: array<f32, ${16*SIZE*STAGES}>; // a subgroup: [SIZE tokens, 16 channels]

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) n_lanes: u32) {
    let linear = group.y * groups.x + group.x;
    let first_block = (linear % params.n_block_pairs) * 2u;
    let first_token = (linear / params.n_block_pairs) * 64u;
    let row_of = index & 31u; // the row this thread loads of w,
    let block_of = (index & 63u) >> 5u; // of which block;
    let load_block = min(first_block + block_of, params.n_blocks - 1u);
    let load_token = min(first_token + (index & 63u), params.n_tokens - 1u); // and the token of dy
    // The channels and tokens that belong to this subgroup.
    let owner = min(subgroup, ${SUBGROUPS}u - 1u);
    let own_row = (owner / ${COLUMNS}u) * ${ROW_MATRICES*SIZE}u;
    let own_column = (owner % ${COLUMNS}u) * ${COLUMN_MATRICES*SIZE}u;
#for r in 0..ROW_MATRICES
#for t in 0..COLUMN_MATRICES
    var sum${r}_${t} = coop_mat${SIZE}x${SIZE}<f32, C>();
#end
#end
    for (var first_row = 0u; first_row < params.n_rows; first_row += 32u) {
        if index < 64u {
            let row = first_row + row_of;
            let w = dequantize_block(min(row >> 3u, params.n_tiles - 1u), load_block, row & 7u);
#for i in 0..8
            {
                let v = vec4<f16>(w[${i}]);
#for j in 0..4
                w_slab[row_of * W_PITCH + block_of * 32u + ${4*i+j}u] = v[${j}];
#end
            }
#end
        } else {
#for i in 0..8
            {
                var v = vec4<f16>();
                if first_row + ${4*i}u < params.n_rows {
                    v = dy[(load_token * params.n_rows + first_row) / 4u + ${i}u];
                }
#for j in 0..4
                x_slab[(index & 63u) * X_PITCH + ${4*i+j}u] = v[${j}];
#end
            }
#end
        }
        workgroupBarrier();
#import cooperative_step
        workgroupBarrier();
    }
    let stage_at = subgroup * ${16*SIZE}u;
#for p in 0..PIECES
#for t in 0..COLUMN_MATRICES
#if SIZE == 16
    coopStore(sum${p}_${t}, &stage[stage_at], 16u);
#else
    coopStore(sum${2*p}_${t}, &stage[stage_at], 16u);
    coopStore(sum${2*p+1}_${t}, &stage[stage_at + 8u], 16u);
#end
    workgroupBarrier();
    if subgroup < ${SUBGROUPS}u {
        for (var i = lane; i < ${16*SIZE}u; i += n_lanes) {
            let token = first_token + own_column + ${SIZE*t}u + (i >> 4u);
            let channel = first_block * 32u + own_row + ${16*p}u + (i & 15u);
            if token < params.n_tokens && channel < params.n_blocks * 32u {
                let value = scale[token] * stage[stage_at + i];
#if EPILOGUE == add
                dx[token * params.n_blocks * 32u + channel] += value;
#else
                dx[token * params.n_blocks * 32u + channel] = value;
#end
            }
        }
    }
    workgroupBarrier();
#end
#end
}
