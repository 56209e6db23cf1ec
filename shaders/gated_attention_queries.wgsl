// gated_attention_queries: gated_attention.wgsl for many tokens on adapters that run 8 lanes as one vector (CPUs).
// Source:     Zhang et al. 2023, arXiv:2303.16199, eq. 6-8: zero-init attention.
// Shapes:     as gated_attention.wgsl; D = 32 REGS = 4 HEAD_VEC4.
// Dispatch:   as attention_queries.wgsl: a workgroup of 8 lanes a kv head and 8 SLOTS slots, a lane SLOTS of them. Needs subgroups
//             of at least 8.
// Variants:   APART = 1 for training: o = o_base + ..., because the gradient needs the base attention's output.
// Twin:       crates/reference/src/gated_attention.rs   Budget: NMSE <= 1e-7.
#import gated_attention_head
const LOWEST = -3.0e38; // instead of an infinity, which WGSL does not promise to handle
fn key_part(at: u32, i: u32) -> vec4<f32> { return k_prompt[at + i]; }
fn value_part(at: u32) -> vec4<f32> { return v_prompt[at]; }

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let per_group = params.n_heads / params.n_kv_heads;
    let kv_head = group.y;
    let first_slot = group.x * ${8*SLOTS}u;
    let n_slots = params.n_tokens * per_group;
    let n_keys = params.adapter_len;
#for s in 0..SLOTS
    let slot${s} = min(first_slot + lane * ${SLOTS}u + ${s}u, n_slots - 1u); // past the end: repeat the last one, write nothing
    let head${s} = kv_head * per_group + slot${s} % per_group;
    let row${s} = ((slot${s} / per_group) * params.n_heads + head${s}) * ${HEAD_VEC4}u;
    let start${s} = 0u;
    let visible${s} = n_keys - 1u;
    var top${s} = LOWEST;
    var total${s} = 0.0;
#for i in 0..HEAD_VEC4
    let q${s}_${i} = q[row${s} + ${i}u] * params.scale;
    var sum${s}_${i} = vec4(0.0);
#end
#end
    for (var first_key = 0u; first_key < n_keys; first_key += 8u) {
        let k_at = (min(first_key + lane, n_keys - 1u) * params.n_kv_heads + kv_head) * ${HEAD_VEC4}u;
#import query_round
    }
#for s in 0..SLOTS
    if first_slot + lane * ${SLOTS}u + ${s}u < n_slots {
        let weight = gate[head${s}] / total${s};
#for i in 0..HEAD_VEC4
#if APART
        o[row${s} + ${i}u] = o_base[row${s} + ${i}u] + sum${s}_${i} * weight;
#else
        o[row${s} + ${i}u] += sum${s}_${i} * weight;
#end
#end
    }
#end
}
