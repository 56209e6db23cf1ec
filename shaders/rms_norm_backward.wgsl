// rms_norm_backward: dx[t,c] (+)= r[t] * (dn[t,c] - n[t,c] * mean_c(dn n)),  dn = weight * dy,  n = x r
// Source:     derivative of rms_norm.wgsl (Zhang & Sennrich 2019, arXiv:1910.07467); the weight is frozen. r is computed again.
// Shapes:     dy [T,C]; x, dx [T,C] (with GATHER: rows of longer arrays); weight [C].
// Variants:   GATHER = 1: x and dx are the rows that a list names and dx is stored; else dx is added to (the residual's part).
// Dispatch:   one workgroup a token.   Twin: crates/reference/src/rms_norm.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_tokens: u32,
    n_vec4: u32,      // C / 4
    first_token: u32, // first entry of the list
    eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;
#if GATHER
@group(0) @binding(5) var<storage, read> rows: array<u32>;
#end
const WG = ${WG}u;
var<workgroup> squares: array<f32, WG>;
var<workgroup> products: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let t = group.y * groups.x + group.x;
    if t >= params.n_tokens { return; } // the same for the whole workgroup
    let d = params.n_vec4;
#if GATHER
    let row = rows[params.first_token + t] * d;
#else
    let row = t * d;
#end
    var square = vec4(0.0);
    var product = vec4(0.0);
    for (var c = lane; c < d; c += WG) {
        square = fma(x[row + c], x[row + c], square);
        product = fma(dy[t * d + c] * weight[c], x[row + c], product);
    }
    squares[lane] = (square.x + square.y) + (square.z + square.w);
    products[lane] = (product.x + product.y) + (product.z + product.w);
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if lane < stride {
            squares[lane] += squares[lane + stride];
            products[lane] += products[lane + stride];
        }
    }
    workgroupBarrier();
    let n_channels = f32(d * 4u);
    let r = inverseSqrt(squares[0] / n_channels + params.eps);
    let shift = r * r * products[0] / n_channels;
    for (var c = lane; c < d; c += WG) {
        let gradient = r * (dy[t * d + c] * weight[c] - x[row + c] * shift);
#if GATHER
        dx[row + c] = gradient;
#else
        dx[row + c] += gradient;
#end
    }
}
