// gated_attention: o[t,h,:] += gate[h] * softmax_a(q[t,h,:] . k_prompt[a,h/G,:] / sqrt(D)) v_prompt[a,h/G,:]
// Source:     Zhang et al. 2023, arXiv:2303.16199, eq. 6-8: zero-init attention. The prompt has a softmax of its own and
//             takes no position; o already holds the base attention, so a closed gate leaves every bit of it alone.
// Shapes:     q, o [T, H, D] (q after rope); k_prompt, v_prompt [A, K, D], A at most 256; gate [H], tanh and strength already applied.
// Variants:   APART = 1 for training: o = o_base + ..., because the gradient needs the base attention's output.
// Dispatch:   one workgroup of WG threads (8 on a CPU adapter) a token and head.   Twin: crates/reference/src/gated_attention.rs   Budget: NMSE <= 1e-7.
#import gated_attention_head
var<workgroup> scores: array<f32, 256>;

@compute @workgroup_size(${WG})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let at = group.y * groups.x + group.x; // t * H + h
    if at >= params.n_tokens * params.n_heads { return; } // the same for the whole workgroup
    let d = params.head_vec4;
    let head = at % params.n_heads;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    for (var a = index; a < params.adapter_len; a += ${WG}u) {
        var dots = vec4(0.0);
        for (var i = 0u; i < d; i++) { dots = fma(q[at * d + i], k_prompt[(a * params.n_kv_heads + kv_head) * d + i], dots); }
        scores[a] = ((dots.x + dots.y) + (dots.z + dots.w)) * params.scale;
    }
    workgroupBarrier();
    var top = scores[0];
    for (var a = 1u; a < params.adapter_len; a++) { top = max(top, scores[a]); }
    for (var i = index; i < d; i += ${WG}u) {
        var sum = vec4(0.0);
        var weight_sum = 0.0;
        for (var a = 0u; a < params.adapter_len; a++) {
            let weight = exp(max(scores[a] - top, -80.0));
            sum = fma(v_prompt[(a * params.n_kv_heads + kv_head) * d + i], vec4(weight), sum);
            weight_sum += weight;
        }
#if APART
        o[at * d + i] = o_base[at * d + i] + sum * (gate[head] / weight_sum);
#else
        o[at * d + i] += sum * (gate[head] / weight_sum);
#end
    }
}
