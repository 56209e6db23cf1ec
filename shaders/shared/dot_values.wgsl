// The sum of products of one block of 32 weights with 32 inputs, four partial sums wide.
fn dot_values(w: array<vec4<f32>, 8>, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
              x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>) -> f32 {
    var v = w[0] * x0;
#for i in 1..8
    v = fma(w[${i}], x${i}, v);
#end
    return (v.x + v.y) + (v.z + v.w);
}
