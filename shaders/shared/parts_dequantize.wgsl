// For a format of which parts are all there is to say.
#import parts
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let p = block_parts(tile, b, lane);
    return array<vec4<f32>, 8>(
#for i in 0..8
        fma(p.v[${i}] * PLACE, vec4(p.scale), vec4(p.offset)),
#end
    );
}
