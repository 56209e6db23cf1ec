// Q2_K: super-blocks of 256: 16 groups of 16 weights of 2 bits with 4-bit scale and minimum, f16 d and dmin;
// w = (d * scale) * q - dmin * minimum.
// Units of 16 bytes in weight_q and words in weight_s: 5 (4 of quants, 1 of scale bytes) and 1 (d | dmin << 16) a block of 256.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let super_block = tile * (params.n_blocks >> 3u) + (b >> 3u);
    let part = b & 7u;
    let unit = weight_q[(super_block * 5u + (part >> 1u)) * 8u + lane]; // 64 weights: two words for each block of 32
    let w = select(unit.xy, unit.zw, (part & 1u) == 1u);
    let scales = weight_q[(super_block * 5u + 4u) * 8u + lane];
    let d = two_halves(weight_s[super_block * 8u + lane]);
    let first = byte_at(scales, 2u * part);
    let second = byte_at(scales, 2u * part + 1u);
    let scale = d.x * vec2(f32(first & 15u), f32(second & 15u));
    let minimum = d.y * vec2(f32(first >> 4u), f32(second >> 4u));
    return array<vec4<f32>, 8>(
        scale.x * fields(w.x, 3u) - vec4(minimum.x),
        scale.x * fields(w.x >> 2u, 3u) - vec4(minimum.x),
        scale.x * fields(w.x >> 4u, 3u) - vec4(minimum.x),
        scale.x * fields(w.x >> 6u, 3u) - vec4(minimum.x),
        scale.y * fields(w.y, 3u) - vec4(minimum.y),
        scale.y * fields(w.y >> 2u, 3u) - vec4(minimum.y),
        scale.y * fields(w.y >> 4u, 3u) - vec4(minimum.y),
        scale.y * fields(w.y >> 6u, 3u) - vec4(minimum.y),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
