// F32: 32 weights as they are.
// Units of 16 bytes in weight_q and words in weight_s: 8 and 0 a block of 32.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let at = (tile * params.n_blocks + b) * 64u + lane;
    return array<vec4<f32>, 8>(
        bitcast<vec4<f32>>(weight_q[at + 0u]),
        bitcast<vec4<f32>>(weight_q[at + 8u]),
        bitcast<vec4<f32>>(weight_q[at + 16u]),
        bitcast<vec4<f32>>(weight_q[at + 24u]),
        bitcast<vec4<f32>>(weight_q[at + 32u]),
        bitcast<vec4<f32>>(weight_q[at + 40u]),
        bitcast<vec4<f32>>(weight_q[at + 48u]),
        bitcast<vec4<f32>>(weight_q[at + 56u]),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
