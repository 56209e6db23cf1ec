// gated_attention_reduce: stage 2 of the gradient: sums over tokens and the heads of a group, in a fixed order, no atomics:
//     dk[a] = sum_{t,h} ds[t,h,a] q[t,h],  dv[a] = sum_{t,h} (gate p)[t,h,a] do[t,h],  dgate[h] = sum_t dgates[t,h]
// Source:     derivative of gated_attention.wgsl (arXiv:2303.16199, eq. 6-8).
// Shapes:     do, q [T,H,D]; weights [T,H,A,2] (gate p, ds); dgates [T,H]; dprompt [A,(H+2K)D], the k and v parts written and
//             the q part set to 0 (so that one transposed product with the fused weights gives the prompt's gradient); dgate [H].
// Dispatch:   one thread a vec4 of dprompt; the first H threads also sum a gate.
// Twin:       crates/reference/src/gated_attention.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    adapter_len: u32,
    head_vec4: u32, // D / 4
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> do_: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> dgates: array<f32>;
@group(0) @binding(5) var<storage, read_write> dprompt: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dgate: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = (group.y * groups.x + group.x) * 64u + index;
    if at < params.n_heads {
        var sum = 0.0;
        for (var t = 0u; t < params.n_tokens; t++) { sum += dgates[t * params.n_heads + at]; }
        dgate[at] = sum;
    }
    let d = params.head_vec4;
    let n_rows = params.n_heads + 2u * params.n_kv_heads;
    let a = at / (d * n_rows);
    if a >= params.adapter_len { return; }
    let row = (at / d) % n_rows;
    let i = at % d;
    if row < params.n_heads {
        dprompt[at] = vec4(0.0);
        return;
    }
    let of_keys = row < params.n_heads + params.n_kv_heads;
    let kv_head = (row - params.n_heads) % params.n_kv_heads;
    let per_group = params.n_heads / params.n_kv_heads;
    var sum = vec4(0.0);
    for (var t = 0u; t < params.n_tokens; t++) {
        for (var h = kv_head * per_group; h < (kv_head + 1u) * per_group; h++) {
            let pair = t * params.n_heads + h;
            let weight = weights[pair * params.adapter_len + a];
            if of_keys {
                sum = fma(q[pair * d + i], vec4(weight.y), sum);
            } else {
                sum = fma(do_[pair * d + i], vec4(weight.x), sum);
            }
        }
    }
    dprompt[at] = sum;
}
