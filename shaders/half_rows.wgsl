// half_rows: a copy of x in f16 for the products that round to it, every row brought into f16's range by a power of two.
// Source:     numerics of f16: 11 bits, normal from 2^-14 to 65504; powers of two change no other bit.
// Shapes:     x [T, X] f32, of which C columns from x_offset on; x_half [T, C] f16; scale [T] f32, what a product of the row in f16 is multiplied by.
// Dispatch:   a workgroup of 64 threads a token.
// Twin:       crates/reference/src/half_rows.rs      Budget: NMSE <= 1e-6, scale bit-equal.
//
// The largest number of a row comes to lie in [8, 16): far from where f16 ends, whatever the activations are, and high enough that
// a GPU which flushes subnormals loses 2^-18 of it. Four products of it with weights up to 1,000 still fit in f16.
enable f16;
struct Params {
    n_vec4: u32, // C / 4
    n_tokens: u32,
    x_vec4: u32,   // X / 4
    x_offset: u32, // in vec4
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x_half: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read_write> scale: array<f32>;
var<workgroup> largest: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let token = min(group.y * groups.x + group.x, params.n_tokens - 1u);
    let row = token * params.n_vec4;
    let from_row = token * params.x_vec4 + params.x_offset;
    // The exponents of numbers are in the order of the numbers, and so are their bits without the sign.
    var bits = vec4(0u);
    for (var i = index; i < params.n_vec4; i += 64u) {
        bits = max(bits, bitcast<vec4<u32>>(x[from_row + i]) & vec4(0x7fffffffu));
    }
    largest[index] = max(max(bits.x, bits.y), max(bits.z, bits.w));
    workgroupBarrier();
    for (var width = 32u; width > 0u; width >>= 1u) {
        if index < width {
            largest[index] = max(largest[index], largest[index + width]);
        }
        workgroupBarrier();
    }
    // 2^e <= largest < 2^(e+1), biased by 127; times 2^(3-e). Below 2^-123 a row is 0 beside anything a model adds it to.
    let exponent = max(largest[0] >> 23u, 4u);
    let factor = bitcast<f32>((257u - exponent) << 23u);
    for (var i = index; i < params.n_vec4; i += 64u) {
        x_half[row + i] = vec4<f16>(x[from_row + i] * factor);
    }
    if index == 0u {
        scale[token] = bitcast<f32>((exponent - 3u) << 23u); // 2^(e-3)
    }
}
