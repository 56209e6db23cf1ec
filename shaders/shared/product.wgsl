// Parameters and operands of a product: matvec, matmul, matmul_tiled, matmul_cooperative, matmul_lanes.
// Must match `Params` in crates/engine/src/ops/matmul/mod.rs.
// INPUT = f32 | f16 (from half_rows.wgsl). NORM = 0 | 1. BIAS = 0 or, with a bias, the number of its binding.
struct Params {
    n_rows: u32,        // N of this part; with swiglu rows of its result
    n_tiles: u32,       // ceil(N / 8)
    n_blocks: u32,      // C / 32
    y_offset: u32,      // column of y where the part's first row goes
    y_stride: u32,      // columns of y
    n_tokens: u32,      // T
    n_token_tiles: u32, // ceil(T / tokens of a workgroup)
    share: u32,         // matmul: token tiles that take turns before the next rows come; matmul_lanes: tiles of a workgroup
    bias_first: u32,    // the bias of the part's first row
    x_first: u32,       // where x starts, in vec4: with NORM one row of several
    eps: f32,           // of the norm
    unused: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight_q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> weight_s: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<${INPUT}>>; // [T, C/4]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [T, Y]
#if INPUT == f16
@group(0) @binding(5) var<storage, read> scale: array<f32>; // [T]
#end
#if NORM
@group(0) @binding(5) var<storage, read> norm: array<vec4<f32>>; // [C/4]
#end
#if BIAS
@group(0) @binding(${BIAS}) var<storage, read> bias: array<f32>; // [N], in the order of the matrix's tiles
#end
