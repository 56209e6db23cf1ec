// For a format without parts of its own: the values are its dequantized weights.
#import parts
const PLACE = vec4<f32>(1.0);
fn block_parts(tile: u32, b: u32, lane: u32) -> Parts {
    return Parts(dequantize_block(tile, b, lane), 1.0, 0.0);
}
