// Q5_K: super-blocks of 256: 8 blocks of 32 weights of 5 bits with 6-bit scale and minimum, f16 d and dmin;
// w = (d * scale) * q - dmin * minimum.
// Units of 16 bytes in weight_q and words in weight_s: 11 (8 of quants, 2 of fifth bits, 1 of scale and minimum bytes) and 1 (d | dmin << 16) a block of 256.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let super_block = tile * (params.n_blocks >> 3u) + (b >> 3u);
    let part = b & 7u;
    let w = weight_q[(super_block * 11u + part) * 8u + lane];
    let high = weight_q[(super_block * 11u + 8u + (part >> 2u)) * 8u + lane][part & 3u]; // bit i is bit 4 of weight i
    let scales = weight_q[(super_block * 11u + 10u) * 8u + lane]; // 8 scales, then 8 minimums
    let d = two_halves(weight_s[super_block * 8u + lane]);
    let scale = d.x * f32(byte_at(scales, part));
    let minimum = d.y * f32(byte_at(scales, part + 8u));
    let h = w >> vec4(4u);
    return array<vec4<f32>, 8>(
        scale * (fields(w.x, 15u) + four_bits(high, 16.0)) - vec4(minimum),
        scale * (fields(w.y, 15u) + four_bits(high >> 4u, 16.0)) - vec4(minimum),
        scale * (fields(w.z, 15u) + four_bits(high >> 8u, 16.0)) - vec4(minimum),
        scale * (fields(w.w, 15u) + four_bits(high >> 12u, 16.0)) - vec4(minimum),
        scale * (fields(h.x, 15u) + four_bits(high >> 16u, 16.0)) - vec4(minimum),
        scale * (fields(h.y, 15u) + four_bits(high >> 20u, 16.0)) - vec4(minimum),
        scale * (fields(h.z, 15u) + four_bits(high >> 24u, 16.0)) - vec4(minimum),
        scale * (fields(h.w, 15u) + four_bits(high >> 28u, 16.0)) - vec4(minimum),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
