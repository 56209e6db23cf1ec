// attention: o[t,h,:] = softmax_s(q[t,h,:] . k[s,h/G,:] / sqrt(D)) v[s,h/G,:] over positions s <= P + t, or all.
// Source:     Vaswani et al. 2017, arXiv:1706.03762, eq. 1; online softmax as in Dao et al. 2022, arXiv:2205.14135;
//             grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
// Shapes:     q, o [T, H, D]; k_cache [positions/8, K, D/4, 8] of vec4; v_cache [positions, K, D]; G = H / K.
// Dispatch:   one workgroup a kv head and SLOTS slots; a slot is one (token, query head of the group), so that keys and
//             values are read once for all of them. 64 keys a round: a thread a key for the scores, then a thread a vec4
//             of the head for the sum over values.
// Variants:   KV = f32 | f16 | q8: how the cache is stored; SCALES = 1 for q8, which keeps a scale behind each head.
//             SPLIT = 1 for long contexts: a workgroup sees the keys of one of num_workgroups.z KV splits and leaves its sums,
//             the highest score and the sum of the weights to attention_merge.
//             CAUSAL = 0 for encoders: every token sees all.
//             PACKED = 1 for training: several texts side by side, each token sees its own; keeps the log-sum-exp.
// Twin:       crates/reference/src/attention.rs   Budget: NMSE <= 1e-7.
#import step
#import kv
#import attention_head
var<workgroup> q_slots: array<vec4<f32>, ${SLOTS*HEAD_VEC4}>; // [SLOTS, D/4], already scaled
var<workgroup> scores: array<f32, ${SLOTS*64}>; // [SLOTS, 64 keys]: scores, then weights
var<workgroup> highest: array<f32, ${SLOTS}>;   // running maximum of a slot
var<workgroup> shrink: array<f32, ${SLOTS}>;    // exp(old maximum - new maximum)
var<workgroup> parts: array<vec4<f32>, 64>;
var<workgroup> part_sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let d = params.head_vec4;
#import attention_slots
#for s in 0..SLOTS
    for (var i = index; i < d; i += 64u) { q_slots[${s}u * d + i] = q[row${s} + i] * params.scale; }
    var sum${s} = vec4(0.0);
    var weight_sum${s} = 0.0;
#end
    if index < ${SLOTS}u { highest[index] = LOWEST; }
    let column = index % d;    // this thread's vec4 of the head in the second half
    let strand = index / d;    // and its share of the keys
    let n_strands = 64u / d;
    workgroupBarrier();
    for (var first_key = from_key; first_key < to_key; first_key += 64u) {
        let key = first_key + index;
        let k_at = ((min(key, n_keys - 1u) >> 3u) * params.n_kv_heads + kv_head) * (d + ${SCALES}u) * 8u + (min(key, n_keys - 1u) & 7u);
#if SCALES
        let k_scale = bitcast<f32>(k_cache[k_at + d * 8u]);
#else
        let k_scale = 1.0;
#end
#for s in 0..SLOTS
        var dots${s} = vec4(0.0);
#end
        for (var i = 0u; i < d; i++) {
            let k = restored(k_cache[k_at + i * 8u]);
#for s in 0..SLOTS
            dots${s} = fma(q_slots[${s}u * d + i], k, dots${s});
#end
        }
#for s in 0..SLOTS
        scores[${64*s}u + index] = select(LOWEST, ((dots${s}.x + dots${s}.y) + (dots${s}.z + dots${s}.w)) * k_scale, key <= visible${s} && key >= start${s});
#end
        workgroupBarrier();
        if index < ${SLOTS}u {
            let before = highest[index];
            var top = before;
            for (var j = 0u; j < 64u; j++) { top = max(top, scores[index * 64u + j]); }
            highest[index] = top;
            shrink[index] = exp(max(before - top, -80.0)) * select(1.0, 0.0, before == LOWEST);
        }
        workgroupBarrier();
#for s in 0..SLOTS
        scores[${64*s}u + index] = select(0.0, exp(max(scores[${64*s}u + index] - highest[${s}u], -80.0)), key <= visible${s} && key >= start${s});
#end
        workgroupBarrier();
        let n_round = min(64u, to_key - first_key);
#for s in 0..SLOTS
        sum${s} *= shrink[${s}u];
        weight_sum${s} *= shrink[${s}u];
#end
        if strand < n_strands {
            for (var j = strand; j < n_round; j += n_strands) {
                let v_at = ((first_key + j) * params.n_kv_heads + kv_head) * (d + ${SCALES}u);
#if SCALES
                let v = restored(v_cache[v_at + column]) * bitcast<f32>(v_cache[v_at + d]);
#else
                let v = restored(v_cache[v_at + column]);
#end
#for s in 0..SLOTS
                {
                    let weight = scores[${64*s}u + j];
                    sum${s} = fma(v, vec4(weight), sum${s});
                    weight_sum${s} += weight;
                }
#end
            }
        }
        workgroupBarrier();
    }
#for s in 0..SLOTS
    parts[index] = sum${s};
    part_sums[index] = weight_sum${s};
    workgroupBarrier();
    if strand == 0u && first_slot + ${s}u < n_slots {
        var total = parts[index];
        var total_weight = part_sums[index];
        for (var other = 1u; other < n_strands; other++) {
            total += parts[index + other * d];
            total_weight += part_sums[index + other * d];
        }
#if SPLIT
        o[part * d + row${s} + column] = total;
        if column == 0u {
            stats[(part + row${s} / d) * 2u] = highest[${s}u];
            stats[(part + row${s} / d) * 2u + 1u] = total_weight;
        }
#else
        o[row${s} + column] = total / total_weight;
#end
#if PACKED
        if column == 0u { stats[row${s} / d * 2u] = highest[${s}u] + log(total_weight); }
#end
    }
    workgroupBarrier();
#end
}
