// matmul_cooperative: y[t,n] (+)= sum_c w[n,c] * x[t,c] on the matrix units of a GPU: 64 rows x 64 tokens x 32 channels a step.
// Source:     as matmul_tiled.wgsl; cooperative matrices: SPV_KHR_cooperative_matrix, in WGSL an extension of wgpu (native only).
// Shapes:     x [T, C] f16 and scale [T] from half_rows.wgsl, else as matmul.wgsl.
// Dispatch:   a workgroup of 128 threads owns 8 tiles of rows and 64 tokens. Half of the threads dequantize a block each into
//             workgroup memory, the others copy x; then SUBGROUPS subgroups, 4 / PIECES along the rows and COLUMNS along the tokens,
//             multiply matrices of SIZE x SIZE in f16 and add them up in f32.
// Variants:   SIZE = 8 | 16; EPILOGUE = store | add | swiglu (tiles alternate gate, up). The subgroups of some GPUs may be smaller
//             than the widest, which SUBGROUPS counts: then STAGES is more, and those beyond SUBGROUPS repeat the last one's work.
// Twin:       crates/reference/src/matmul.rs      Budget: NMSE <= 1e-6 to the product with the dequantized weights.
enable f16;
enable wgpu_cooperative_matrix;
struct Params {
    n_rows: u32,
    n_tiles: u32,
    n_blocks: u32,
    y_offset: u32,
    y_stride: u32,
    n_tokens: u32,
    n_token_tiles: u32, // ceil(T / 64)
    unused: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight_q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> weight_s: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f16>>; // [T, C/4]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [T, Y]
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [T]
#import ${FORMAT}
#import silu
const W_PITCH = 40u; // 32 channels, and 8 more so that neighbouring rows lie in other banks
const X_PITCH = 40u;
var<workgroup> w_slab: array<f16, 2560>; // [64 rows, W_PITCH]
var<workgroup> x_slab: array<f16, 2560>; // [64 tokens, X_PITCH]
var<workgroup> stage: array<f32, ${16*SIZE*STAGES}>; // a subgroup: [SIZE tokens, 16 rows]

fn write(token: u32, row: u32, value: f32) {
    if token >= params.n_tokens || row >= params.n_rows { return; }
    let at = token * params.y_stride + params.y_offset + row;
#if EPILOGUE == add
    y[at] += value;
#else
    y[at] = value;
#end
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32, @builtin(subgroup_id) subgroup: u32,
        @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) n_lanes: u32) {
    let linear = group.y * groups.x + group.x;
    let first_token = (linear % params.n_token_tiles) * 64u;
    let first_tile = (linear / params.n_token_tiles) * 8u;
    let load_tile = min(first_tile + ((index & 63u) >> 3u), params.n_tiles - 1u);
    let load_token = min(first_token + (index & 63u), params.n_tokens - 1u);
    let slab_at = (index & 63u) * X_PITCH;
    // The rows and tokens of the slabs that belong to this subgroup.
    let owner = min(subgroup, ${SUBGROUPS}u - 1u);
    let own_row = (owner / ${COLUMNS}u) * ${ROW_MATRICES*SIZE}u;
    let own_column = (owner % ${COLUMNS}u) * ${COLUMN_MATRICES*SIZE}u;
#for r in 0..ROW_MATRICES
#for t in 0..COLUMN_MATRICES
    var sum${r}_${t} = coop_mat${SIZE}x${SIZE}<f32, C>();
#end
#end
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
    // Which thread holds which number of a matrix is the GPU's secret: they come out through workgroup memory, 16 rows at a time.
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
        let row = first_tile * 8u + own_row + ${16*p}u;
        let token = first_token + own_column + ${SIZE*t}u;
#if EPILOGUE == swiglu
        for (var i = lane; i < ${8*SIZE}u; i += n_lanes) {
            let at = stage_at + (i >> 3u) * 16u + (i & 7u);
            let factor = scale[min(token + (i >> 3u), params.n_tokens - 1u)];
            write(token + (i >> 3u), (row >> 1u) + (i & 7u), silu(factor * stage[at]) * (factor * stage[at + 8u]));
        }
#else
        for (var i = lane; i < ${16*SIZE}u; i += n_lanes) {
            let factor = scale[min(token + (i >> 4u), params.n_tokens - 1u)];
            write(token + (i >> 4u), row + (i & 15u), factor * stage[stage_at + i]);
        }
#end
    }
    workgroupBarrier();
#end
#end
}
