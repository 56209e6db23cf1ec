// Q3_K: super-blocks of 256: 16 groups of 16 weights of 3 bits with a 6-bit signed scale, f16 d;
// w = (d * scale) * (q - 4).
// Units of 16 bytes in weight_q and words in weight_s: 7 (4 of the low two bits, 2 of the third bit, 1 of signed scale bytes) and 1 (d as f32) a block of 256.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let super_block = tile * (params.n_blocks >> 3u) + (b >> 3u);
    let part = b & 7u;
    let unit = weight_q[(super_block * 7u + (part >> 1u)) * 8u + lane];
    let w = select(unit.xy, unit.zw, (part & 1u) == 1u);
    let high = weight_q[(super_block * 7u + 4u + (part >> 2u)) * 8u + lane][part & 3u]; // bit i is bit 2 of weight i
    let scales = weight_q[(super_block * 7u + 6u) * 8u + lane];
    let d = bitcast<f32>(weight_s[super_block * 8u + lane]);
    let scale = d * vec2(signed_byte_at(scales, 2u * part), signed_byte_at(scales, 2u * part + 1u));
    return array<vec4<f32>, 8>(
        scale.x * (fields(w.x, 3u) + four_bits(high, 4.0) - vec4(4.0)),
        scale.x * (fields(w.x >> 2u, 3u) + four_bits(high >> 4u, 4.0) - vec4(4.0)),
        scale.x * (fields(w.x >> 4u, 3u) + four_bits(high >> 8u, 4.0) - vec4(4.0)),
        scale.x * (fields(w.x >> 6u, 3u) + four_bits(high >> 12u, 4.0) - vec4(4.0)),
        scale.y * (fields(w.y, 3u) + four_bits(high >> 16u, 4.0) - vec4(4.0)),
        scale.y * (fields(w.y >> 2u, 3u) + four_bits(high >> 20u, 4.0) - vec4(4.0)),
        scale.y * (fields(w.y >> 4u, 3u) + four_bits(high >> 24u, 4.0) - vec4(4.0)),
        scale.y * (fields(w.y >> 6u, 3u) + four_bits(high >> 28u, 4.0) - vec4(4.0)),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
