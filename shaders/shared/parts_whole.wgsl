// For a format whose weights have no one scale: dequantized weights are all there is.
#import parts
const PLACE = vec4<f32>(1.0);
fn block_parts(tile: u32, b: u32, lane: u32) -> Parts {
    return Parts(dequantize_block(tile, b, lane), 1.0, 0.0);
}
