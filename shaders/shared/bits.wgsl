// Bit fields of a word as four floats. Quantized weights are repacked (crates/engine/src/formats/repack.rs) so that four
// neighbouring weights sit at the same bit offset of a word's four bytes.
const BYTES = vec4<u32>(0x1u, 0x100u, 0x10000u, 0x1000000u);
const PER_BYTE = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625); // 256^-byte

// `mask` (at most 127) of each byte, left where it is: byte k as 256^k times its value, which is exact, and so is taking the
// factor off again with PER_BYTE. One AND and one conversion; shifts that differ from lane to lane cost SwiftShader ten times that.
fn fields_in_place(w: u32, mask: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4(w) & (BYTES * mask)));
}
// `mask` (at most 127) of each byte.
fn fields(w: u32, mask: u32) -> vec4<f32> {
    return fields_in_place(w, mask) * PER_BYTE;
}
// Four signed bytes. The sign bits of the lower three are turned over, which adds 128; the highest has the word's own sign.
fn signed_bytes(w: u32) -> vec4<f32> {
    let flipped = vec4<i32>(vec4(w ^ 0x808080u) & (BYTES * 255u));
    return fma(vec4<f32>(flipped), PER_BYTE, vec4(-128.0, -128.0, -128.0, 0.0));
}
// The lowest four bits of `bits` as 0 or `value`.
fn four_bits(bits: u32, value: f32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4(bits) & vec4(1u, 2u, 4u, 8u))) * (value * vec4(1.0, 0.5, 0.25, 0.125));
}
// One byte of a 16-byte unit.
fn byte_at(unit: vec4<u32>, index: u32) -> u32 {
    return (unit[index >> 2u] >> ((index & 3u) * 8u)) & 255u;
}
fn signed_byte_at(unit: vec4<u32>, index: u32) -> f32 {
    return f32(i32(byte_at(unit, index) << 24u) >> 24u);
}
// A scale and a minimum (or an offset), f16 both. WGSL lets a GPU take subnormal halves for 0, which many scales are: the self-test
// finds such a GPU. A scale that has a word of its own is stored as a float for that reason.
fn two_halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}
