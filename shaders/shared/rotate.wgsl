// Two neighbouring rotation pairs (x, y), (z, w) rotated by the angles whose (cos, sin, cos, sin) are in `turn`.
// GGUF stores the q and k rows of LLaMA so that pairs are neighbours (RoFormer, arXiv:2104.09864, eq. 34).
fn rotate(v: vec4<f32>, turn: vec4<f32>) -> vec4<f32> {
    return vec4(v.x * turn.x - v.y * turn.y, v.x * turn.y + v.y * turn.x,
                v.z * turn.z - v.w * turn.w, v.z * turn.w + v.w * turn.z);
}
