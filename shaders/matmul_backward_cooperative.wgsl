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

fn leave(at: u32, channel: u32, token: u32) {
    if token >= params.n_tokens || channel >= params.n_blocks * 32u { return; }
    let to = token * params.n_blocks * 32u + channel;
    let value = scale[token] * stage[at];
#if EPILOGUE == add
    dx[to] += value;
#else
    dx[to] = value;
#end
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) n_lanes: u32) {
    let linear = group.y * groups.x + group.x;
    let first_block = (linear % params.n_block_pairs) * 2u;
    let first_row = first_block * 32u; // of w transposed
    let first_column = (linear / params.n_block_pairs) * 64u;
    let row_of = index & 31u; // the row this thread loads of w,
    let block_of = (index & 63u) >> 5u; // of which block;
    let load_block = min(first_block + block_of, params.n_blocks - 1u);
    let load_token = min(first_column + (index & 63u), params.n_tokens - 1u); // and the token of dy
#import cooperative_sums
    for (var step_row = 0u; step_row < params.n_rows; step_row += 32u) {
        if index < 64u {
            let row = step_row + row_of;
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
                if step_row + ${4*i}u < params.n_rows {
                    v = dy[(load_token * params.n_rows + step_row) / 4u + ${i}u];
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
#import cooperative_stage
}
