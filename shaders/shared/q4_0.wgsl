// Q4_0: 32 weights of 4 bits and one f16 scale d; w = d * (q - 8).
// Units of 16 bytes in weight_q and words in weight_s: 1 and 1 (d) a block of 32.
#import bits
#import dot_values
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let at = (tile * params.n_blocks + b) * 8u + lane;
    let w = weight_q[at];
    let scale = unpack2x16float(weight_s[at]).x;
    return array<vec4<f32>, 8>(
        scale * (vec4<f32>(byte_fields(w.x, 0u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.y, 0u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.z, 0u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.w, 0u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.x, 4u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.y, 4u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.z, 4u, 15u)) - vec4(8.0)),
        scale * (vec4<f32>(byte_fields(w.w, 4u, 15u)) - vec4(8.0)),
    );
}
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    let at = (tile * params.n_blocks + b) * 8u + lane;
    let w = weight_q[at];
    let scale = unpack2x16float(weight_s[at]);
    var v = low_nibbles_plus_16(w.x) * x0;
    v = fma(low_nibbles_plus_16(w.y), x1, v);
    v = fma(low_nibbles_plus_16(w.z), x2, v);
    v = fma(low_nibbles_plus_16(w.w), x3, v);
    v = fma(high_nibbles_plus_16(w.x), x4, v);
    v = fma(high_nibbles_plus_16(w.y), x5, v);
    v = fma(high_nibbles_plus_16(w.z), x6, v);
    v = fma(high_nibbles_plus_16(w.w), x7, v);
    // v holds sum(x * (1 + q/16)): take the ones off, then scale. The relative error of the difference stays below
    // 2^-19, far inside the budget, because q/16 is of the order of the 1 it is added to.
    let products = 16.0 * ((v.x + v.y) + (v.z + v.w) - x_sum);
    return scale.x * (products - 8.0 * x_sum);
}
