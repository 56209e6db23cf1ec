// gelu: x[i] = x[i] * Phi(x[i]), Phi the distribution function of the standard normal distribution
// Source:     Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2; erf: Abramowitz & Stegun 1964, 7.1.26 (error of erf <= 1.5e-7).
// Shapes:     x [N], in place, N a multiple of 4.
// Variants:   FORM = erf: as above; tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); quick: x / (1 + exp(-1.702 x)), CLIP's.
// Dispatch:   64 vec4 a workgroup.   Twin: crates/reference/src/gelu.rs
// Budget:     NMSE <= 1e-7 to the f64 twin on uniform(-10, 10).
struct Params {
    n_vec4: u32, // N / 4
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;

#if FORM == erf
fn gelu(x: vec4<f32>) -> vec4<f32> {
    let z = abs(x) * 0.70710678118654752;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let tail = 0.5 * polynomial * exp(max(-z * z, vec4(-80.0))); // Phi(-|x|)
    return x * select(1.0 - tail, tail, x < vec4(0.0));
}
#end
#if FORM == tanh
fn gelu(x: vec4<f32>) -> vec4<f32> {
    let z = 0.79788456080286536 * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(min(-2.0 * z, vec4(80.0)))); // 0.5 (1 + tanh z) = 1 / (1 + exp(-2 z))
}
#end
#if FORM == quick
fn gelu(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(min(-1.702 * x, vec4(80.0))));
}
#end

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let at = (group.y * groups.x + group.x) * 64u + lane;
    if at >= params.n_vec4 { return; }
    x[at] = gelu(x[at]);
}
