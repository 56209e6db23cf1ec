// Q4_1: 32 weights of 4 bits, f16 scale d and f16 minimum m; w = d * q + m.
// Units of 16 bytes in weight_q and words in weight_s: 1 and 1 (d | m << 16) a block of 32.
#import bits
#import dot_values
#import parts_dequantize
const PLACE = PER_BYTE;
fn block_parts(tile: u32, b: u32, lane: u32) -> Parts {
    let at = (tile * params.n_blocks + b) * 8u + lane;
    let w = weight_q[at];
    let scale = two_halves(weight_s[at]);
    let h = w >> vec4(4u);
    return Parts(array<vec4<f32>, 8>(
        fields_in_place(w.x, 15u), fields_in_place(w.y, 15u), fields_in_place(w.z, 15u), fields_in_place(w.w, 15u),
        fields_in_place(h.x, 15u), fields_in_place(h.y, 15u), fields_in_place(h.z, 15u), fields_in_place(h.w, 15u),
    ), scale.x, scale.y);
}
fn dot_block(tile: u32, b: u32, lane: u32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
             x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>, x_sum: f32) -> f32 {
    let at = (tile * params.n_blocks + b) * 8u + lane;
    let w = weight_q[at];
    let scale = two_halves(weight_s[at]);
    let h = w >> vec4(4u);
    var v = fields_in_place(w.x, 15u) * x0;
    v = fma(fields_in_place(w.y, 15u), x1, v);
    v = fma(fields_in_place(w.z, 15u), x2, v);
    v = fma(fields_in_place(w.w, 15u), x3, v);
    v = fma(fields_in_place(h.x, 15u), x4, v);
    v = fma(fields_in_place(h.y, 15u), x5, v);
    v = fma(fields_in_place(h.z, 15u), x6, v);
    v = fma(fields_in_place(h.w, 15u), x7, v);
    v *= PER_BYTE;
    return fma(scale.x, (v.x + v.y) + (v.z + v.w), scale.y * x_sum);
}
