// Q5_0: 32 weights of 5 bits and one f16 scale d; w = d * (q - 16).
// Units of 16 bytes in weight_q and words in weight_s: 1 and 2 (d as f32, the fifth bits) a block of 32.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let block = tile * params.n_blocks + b;
    let w = weight_q[block * 8u + lane];
    let scale = bitcast<f32>(weight_s[block * 16u + lane]);
    let high = weight_s[block * 16u + 8u + lane]; // bit i is bit 4 of weight i
    let h = w >> vec4(4u);
    return array<vec4<f32>, 8>(
        scale * (fields(w.x, 15u) + four_bits(high, 16.0) - vec4(16.0)),
        scale * (fields(w.y, 15u) + four_bits(high >> 4u, 16.0) - vec4(16.0)),
        scale * (fields(w.z, 15u) + four_bits(high >> 8u, 16.0) - vec4(16.0)),
        scale * (fields(w.w, 15u) + four_bits(high >> 12u, 16.0) - vec4(16.0)),
        scale * (fields(h.x, 15u) + four_bits(high >> 16u, 16.0) - vec4(16.0)),
        scale * (fields(h.y, 15u) + four_bits(high >> 20u, 16.0) - vec4(16.0)),
        scale * (fields(h.z, 15u) + four_bits(high >> 24u, 16.0) - vec4(16.0)),
        scale * (fields(h.w, 15u) + four_bits(high >> 28u, 16.0) - vec4(16.0)),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
