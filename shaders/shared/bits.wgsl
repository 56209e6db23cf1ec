// Bit fields of a word as four floats. Quantized weights are repacked (crates/engine/src/formats/repack.rs) so that four
// neighbouring weights sit at the same bit offset of a word's four bytes.

// The low (`n`) and high (`n`) nibble of each byte as 1 + n/16, made by putting the nibble on top of the mantissa of 1.0:
// one AND and one OR instead of a shift, an AND and an integer-to-float conversion. The caller subtracts the ones.
fn low_nibbles_plus_16(w: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>((vec4(w << 19u, w << 11u, w << 3u, w >> 5u) & vec4(0x00780000u)) | vec4(0x3f800000u));
}
fn high_nibbles_plus_16(w: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>((vec4(w << 15u, w << 7u, w >> 1u, w >> 9u) & vec4(0x00780000u)) | vec4(0x3f800000u));
}
// `mask` of each byte after a shift by `shift` bits, 0..255.
fn byte_fields(w: u32, shift: u32, mask: u32) -> vec4<u32> {
    return (vec4(w) >> (vec4(0u, 8u, 16u, 24u) + vec4(shift))) & vec4(mask);
}
// Four signed bytes.
fn signed_bytes(w: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(vec4(w) << vec4(24u, 16u, 8u, 0u))) >> vec4(24u));
}
// Bits `first..first+4` of `bits` as 0 or `value`.
fn four_bits(bits: u32, first: u32, value: u32) -> vec4<u32> {
    return ((vec4(bits) >> (vec4(0u, 1u, 2u, 3u) + vec4(first))) & vec4(1u)) * value;
}
// One byte of a 16-byte unit.
fn byte_at(unit: vec4<u32>, index: u32) -> u32 {
    return (unit[index >> 2u] >> ((index & 3u) * 8u)) & 255u;
}
fn signed_byte_at(unit: vec4<u32>, index: u32) -> f32 {
    return f32(i32(byte_at(unit, index) << 24u) >> 24u);
}
