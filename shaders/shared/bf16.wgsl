// BF16: 32 weights of 16 bits, the upper half of an f32.
// Units of 16 bytes in weight_q and words in weight_s: 4 and 0 a block of 32.
#import bits
#import dot_values
#import parts_whole
fn four_halves(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let at = (tile * params.n_blocks + b) * 32u + lane;
    let w0 = weight_q[at + 0u];
    let w1 = weight_q[at + 8u];
    let w2 = weight_q[at + 16u];
    let w3 = weight_q[at + 24u];
    return array<vec4<f32>, 8>(
        four_halves(w0.x, w0.y),
        four_halves(w0.z, w0.w),
        four_halves(w1.x, w1.y),
        four_halves(w1.z, w1.w),
        four_halves(w2.x, w2.y),
        four_halves(w2.z, w2.w),
        four_halves(w3.x, w3.y),
        four_halves(w3.z, w3.w),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
