// Q4_K: super-blocks of 256: 8 blocks of 32 weights of 4 bits with 6-bit scale and minimum, f16 d and dmin;
// w = (d * scale) * q - dmin * minimum.
// Units of 16 bytes in weight_q and words in weight_s: 9 (8 of quants, 1 of scale and minimum bytes) and 1 (d | dmin << 16) a block of 256.
#import bits
#import dot_values
#import parts_dequantize
const PLACE = PER_BYTE;
fn block_parts(tile: u32, b: u32, lane: u32) -> Parts {
    let super_block = tile * (params.n_blocks >> 3u) + (b >> 3u);
    let part = b & 7u;
    let w = weight_q[(super_block * 9u + part) * 8u + lane];
    let scales = weight_q[(super_block * 9u + 8u) * 8u + lane]; // 8 scales, then 8 minimums
    let d = two_halves(weight_s[super_block * 8u + lane]);
    let h = w >> vec4(4u);
    return Parts(array<vec4<f32>, 8>(
        fields_in_place(w.x, 15u), fields_in_place(w.y, 15u), fields_in_place(w.z, 15u), fields_in_place(w.w, 15u),
        fields_in_place(h.x, 15u), fields_in_place(h.y, 15u), fields_in_place(h.z, 15u), fields_in_place(h.w, 15u),
    ), d.x * f32(byte_at(scales, part)), -d.y * f32(byte_at(scales, part + 8u)));
}
// Generic product: the dequantized values times the inputs (x_sum is for formats with a shortcut).
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    return dot_values(dequantize_block(tile, b, lane), x0, x1, x2, x3, x4, x5, x6, x7);
}
