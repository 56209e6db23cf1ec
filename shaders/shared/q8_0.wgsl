// Q8_0: 32 weights of 8 bits and one f16 scale d; w = d * q.
// Units of 16 bytes in weight_q and words in weight_s: 2 and 1 (d as f32) a block of 32.
#import bits
#import dot_values
#import parts_whole
fn dequantize_block(tile: u32, b: u32, lane: u32) -> array<vec4<f32>, 8> {
    let block = tile * params.n_blocks + b;
    let w0 = weight_q[block * 16u + lane];
    let w1 = weight_q[block * 16u + 8u + lane];
    let scale = bitcast<f32>(weight_s[block * 8u + lane]);
    return array<vec4<f32>, 8>(
        scale * signed_bytes(w0.x),
        scale * signed_bytes(w0.y),
        scale * signed_bytes(w0.z),
        scale * signed_bytes(w0.w),
        scale * signed_bytes(w1.x),
        scale * signed_bytes(w1.y),
        scale * signed_bytes(w1.z),
        scale * signed_bytes(w1.w),
    );
}
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    let block = tile * params.n_blocks + b;
    let w0 = weight_q[block * 16u + lane];
    let w1 = weight_q[block * 16u + 8u + lane];
    let scale = bitcast<f32>(weight_s[block * 8u + lane]);
    var v = signed_bytes(w0.x) * x0;
    v = fma(signed_bytes(w0.y), x1, v);
    v = fma(signed_bytes(w0.z), x2, v);
    v = fma(signed_bytes(w0.w), x3, v);
    v = fma(signed_bytes(w1.x), x4, v);
    v = fma(signed_bytes(w1.y), x5, v);
    v = fma(signed_bytes(w1.z), x6, v);
    v = fma(signed_bytes(w1.w), x7, v);
    return scale * ((v.x + v.y) + (v.z + v.w));
}
