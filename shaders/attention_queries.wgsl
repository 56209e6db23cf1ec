// attention_queries: attention.wgsl for many tokens on adapters that run 8 lanes as one vector (CPUs): no barrier, no reduction.
// Source:     Vaswani et al. 2017, arXiv:1706.03762, eq. 1; online softmax as in Dao et al. 2022, arXiv:2205.14135.
// Shapes:     as attention.wgsl; D = 32 REGS = 4 HEAD_VEC4.
// Dispatch:   one workgroup of 8 lanes a kv head and 8 SLOTS slots; a slot is one (token, query head of the group). A lane owns
//             SLOTS neighbouring ones, so that scores and sums never leave it; 8 keys a round are loaded once, a lane a key, and
//             go round by subgroupBroadcast, their values the same way. Needs subgroups of at least 8.
// Variants:   KV = f32 | f16 | q8: how the cache is stored; SCALES = 1 for q8, which keeps a scale behind each head.
//             CAUSAL = 0 for encoders: every token sees all.
//             PACKED = 1 for training: several texts side by side, each token sees its own; keeps the log-sum-exp.
// Twin:       crates/reference/src/attention.rs   Budget: NMSE <= 1e-7.
#import step
#import kv
#import attention_head

fn key_part(at: u32, i: u32) -> vec4<f32> { return restored(k_cache[at + 8u * i]); }
fn value_part(at: u32) -> vec4<f32> { return restored(v_cache[at]); }

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let per_group = params.n_heads / params.n_kv_heads;
    let kv_head = group.y;
    let first_slot = group.x * ${8*SLOTS}u;
    let n_slots = step.n_tokens * per_group;
    let last_slot = min(first_slot + ${8*SLOTS}u, n_slots) - 1u;
#for s in 0..SLOTS
    let slot${s} = min(first_slot + lane * ${SLOTS}u + ${s}u, n_slots - 1u); // past the end: repeat the last one, write nothing
#end
#import attention_rows
#for s in 0..SLOTS
    var top${s} = LOWEST;
    var total${s} = 0.0;
#for i in 0..HEAD_VEC4
    let q${s}_${i} = q[row${s} + ${i}u] * params.scale;
    var sum${s}_${i} = vec4(0.0);
#end
#end
#if PACKED
    let from_key = starts[first_slot / per_group] & ~7u; // starts ascend: no slot looks further back
#else
    let from_key = 0u;
#end
    for (var first_key = from_key; first_key < n_keys; first_key += 8u) {
        let k_at = ((first_key >> 3u) * params.n_kv_heads + kv_head) * ${8*HEAD_VEC4+8*SCALES}u + lane;
#import query_round
    }
#for s in 0..SLOTS
    if first_slot + lane * ${SLOTS}u + ${s}u < n_slots {
#for i in 0..HEAD_VEC4
        o[row${s} + ${i}u] = sum${s}_${i} / total${s};
#end
#if PACKED
        stats[row${s} / ${HEAD_VEC4}u * 2u] = top${s} + log(total${s});
#end
    }
#end
}
