// A block of 32 weights in parts: w[4 * i + k] = scale * PLACE[k] * v[i][k] + offset. A product with several tokens multiplies PLACE into
// its input once, and scale and offset into a sum: what is left for each weight is to be made a float.
struct Parts {
    v: array<vec4<f32>, 8>,
    scale: f32,
    offset: f32,
}
