// silu(z) = z * sigmoid(z). exp overflows f32 past 88: at -80 the result is already below the smallest normal number.
fn silu(z: f32) -> f32 {
    return z / (1.0 + exp(min(-z, 80.0)));
}
