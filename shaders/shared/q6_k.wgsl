// Q6_K: super-blocks of 256: 16 groups of 16 weights of 6 bits with an 8-bit signed scale, f16 d;
// w = (d * scale) * (q - 32).
// Units of 16 bytes in weight_q and words in weight_s: 13 (8 of the low four bits, 4 of the high two, 1 of signed scale bytes) and 1 (d as f32) a block of 256.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let super_block = tile * (params.n_blocks >> 3u) + (b >> 3u);
    let part = b & 7u;
    let w = weight_q[(super_block * 13u + part) * 8u + lane];
    let unit = weight_q[(super_block * 13u + 8u + (part >> 1u)) * 8u + lane];
    let high = select(unit.xy, unit.zw, (part & 1u) == 1u);
    let scales = weight_q[(super_block * 13u + 12u) * 8u + lane];
    let d = bitcast<f32>(weight_s[super_block * 8u + lane]);
    let scale = d * vec2(signed_byte_at(scales, 2u * part), signed_byte_at(scales, 2u * part + 1u));
    let h = w >> vec4(4u);
    return array<vec4<f32>, 8>(
        scale.x * (fields(w.x, 15u) + 16.0 * fields(high.x, 3u) - vec4(32.0)),
        scale.x * (fields(w.y, 15u) + 16.0 * fields(high.x >> 2u, 3u) - vec4(32.0)),
        scale.x * (fields(w.z, 15u) + 16.0 * fields(high.x >> 4u, 3u) - vec4(32.0)),
        scale.x * (fields(w.w, 15u) + 16.0 * fields(high.x >> 6u, 3u) - vec4(32.0)),
        scale.y * (fields(h.x, 15u) + 16.0 * fields(high.y, 3u) - vec4(32.0)),
        scale.y * (fields(h.y, 15u) + 16.0 * fields(high.y >> 2u, 3u) - vec4(32.0)),
        scale.y * (fields(h.z, 15u) + 16.0 * fields(high.y >> 4u, 3u) - vec4(32.0)),
        scale.y * (fields(h.w, 15u) + 16.0 * fields(high.y >> 6u, 3u) - vec4(32.0)),
    );
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
