// matmul_backward_tiled: dx[t,c] (+)= sum_n dy[t,n] w[n,c], tiled in workgroup memory: 64 channels x 64 tokens x 32 rows a step.
// Source:     derivative of matmul.wgsl with respect to its input.
// Shapes:     as matmul_backward.wgsl; dy [T,Y], dx [T,C].
// Dispatch:   a workgroup of 64 threads owns two blocks of 32 channels and 64 tokens; every thread dequantizes one block of a
//             step into workgroup memory (16 KiB in all, the WebGPU minimum) and owns 8 channels x 8 tokens. Columns of both
//             slabs are turned by their row (xor), so that neither writing nor reading them has bank conflicts.
// Variants:   EPILOGUE = store | add. TILES = f32 | f16: in f16 both slabs take half the room; dy comes from half_rows.wgsl, [T, N].
// Twin:       crates/reference/src/matmul.rs   Budget: NMSE <= 1e-6 to the product with the dequantized weights.
#if TILES == f16
enable f16;
#end
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
@group(0) @binding(3) var<storage, read> dy: array<${TILES}>; // [T, Y]
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>; // [T, C/4]
#if TILES == f16
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [T]
#end
#import ${FORMAT}
var<workgroup> w_slab: array<vec4<${TILES}>, 512>; // [32 rows, 16 vec4 of channels]
var<workgroup> dy_slab: array<${TILES}, 2048>; // [32 rows, 64 tokens]

fn write(token: u32, block: u32, at: u32, value: vec4<f32>) {
    if token >= params.n_tokens || block >= params.n_blocks { return; }
    let to = (token * params.n_blocks + block) * 8u + at;
#if EPILOGUE == add
    dx[to] += value;
#else
    dx[to] = value;
#end
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let linear = group.y * groups.x + group.x;
    let first_block = (linear % params.n_block_pairs) * 2u;
    let first_token = (linear / params.n_block_pairs) * 64u;
    let row_of = index & 31u; // the row this thread loads,
    let half = index >> 5u;   // of which block, and which tokens of it
    let load_block = min(first_block + half, params.n_blocks - 1u);
    let c = index & 7u;       // this thread's vec4 of channels in both blocks
    let column = index >> 3u; // and its tokens: column + 8 t
#for t in 0..8
    var low${t} = vec4(0.0);
    var high${t} = vec4(0.0);
#end
    for (var first_row = 0u; first_row < params.n_rows; first_row += 32u) {
        let row = first_row + row_of;
        let w = dequantize_block(min(row >> 3u, params.n_tiles - 1u), load_block, row & 7u);
#for i in 0..8
        w_slab[row_of * 16u + ((half * 8u + ${i}u) ^ (row_of & 15u))] = vec4<${TILES}>(w[${i}]);
#end
        for (var i = 0u; i < 32u; i++) {
            let token = half * 32u + i;
            let from_token = min(first_token + token, params.n_tokens - 1u);
            let value = dy[from_token * params.y_stride + params.y_offset + min(row, params.n_rows - 1u)];
            dy_slab[row_of * 64u + (token ^ row_of)] = select(0.0, value, row < params.n_rows);
        }
        workgroupBarrier();
        for (var r = 0u; r < 32u; r++) {
            let w_low = vec4<f32>(w_slab[r * 16u + (c ^ (r & 15u))]);
            let w_high = vec4<f32>(w_slab[r * 16u + ((c + 8u) ^ (r & 15u))]);
#for t in 0..8
            {
                let d = vec4(f32(dy_slab[r * 64u + ((${8*t}u + column) ^ r)]));
                low${t} = fma(w_low, d, low${t});
                high${t} = fma(w_high, d, high${t});
            }
#end
        }
        workgroupBarrier();
    }
#for t in 0..8
#if TILES == f16
    let scale${t} = scale[min(first_token + ${8*t}u + column, params.n_tokens - 1u)];
    low${t} *= scale${t};
    high${t} *= scale${t};
#end
    write(first_token + ${8*t}u + column, first_block, c, low${t});
    write(first_token + ${8*t}u + column, first_block + 1u, c, high${t});
#end
}
