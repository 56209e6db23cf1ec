// attention_keys: attention.wgsl where a load costs a lane each and there are no subgroups (SwiftShader).
// Source:     Vaswani et al. 2017, arXiv:1706.03762, eq. 1; online softmax as in Dao et al. 2022, arXiv:2205.14135, one for each
//             lane and merged at the end, as flash-decoding does (Dao et al. 2023, crfm.stanford.edu/2023/10/12/flashdecoding).
// Shapes:     as attention.wgsl; D = 4 HEAD_VEC4.
// Dispatch:   one workgroup of LANES threads a kv head and SLOTS slots; a slot is one (token, query head of the group). A lane
//             owns every LANES-th key: queries and sums stay in its registers, each key and value is loaded once for all slots.
// Variants:   KV = f32 | f16 | q8: how the cache is stored; SCALES = 1 for q8, which keeps a scale behind each head.
//             SPLIT = 1 for long contexts: a workgroup sees the keys of one of num_workgroups.z KV splits and leaves its sums,
//             the highest score and the sum of the weights to attention_merge.
//             CAUSAL = 0 for encoders: every token sees all.
//             PACKED = 1 for training: several texts side by side, each token sees its own; keeps the log-sum-exp.
// Twin:       crates/reference/src/attention.rs   Budget: NMSE <= 1e-7.
#import step
#import kv
#import attention_head
var<workgroup> sums: array<vec4<f32>, ${LANES*SLOTS*HEAD_VEC4}>; // [SLOTS, D/4, LANES]
var<workgroup> tops: array<f32, ${LANES*SLOTS}>;        // [SLOTS, LANES]: a lane's highest score
var<workgroup> weight_sums: array<f32, ${LANES*SLOTS}>; // [SLOTS, LANES]: the sum of its weights, relative to that

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
#import attention_slots
#for s in 0..SLOTS
    var top${s} = LOWEST;
    var weight_sum${s} = 0.0;
#for i in 0..HEAD_VEC4
    let q${s}_${i} = q[row${s} + ${i}u] * params.scale;
    var sum${s}_${i} = vec4(0.0);
#end
#end
    for (var first_key = from_key; first_key < to_key; first_key += ${LANES}u) {
        let key = first_key + lane;
        let row = min(key, n_keys - 1u); // past the end: read a valid one, weigh it with zero
        let k_at = ((row >> 3u) * params.n_kv_heads + kv_head) * ${8*HEAD_VEC4+8*SCALES}u + (row & 7u);
#if SCALES
        let k_scale = bitcast<f32>(k_cache[k_at + ${8*HEAD_VEC4}u]);
#else
        let k_scale = 1.0;
#end
#for s in 0..SLOTS
        var dots${s} = vec4(0.0);
#end
#for i in 0..HEAD_VEC4
        {
            let k = restored(k_cache[k_at + ${8*i}u]);
#for s in 0..SLOTS
            dots${s} = fma(q${s}_${i}, k, dots${s});
#end
        }
#end
#for s in 0..SLOTS
        let seen${s} = key <= visible${s} && key >= start${s};
        let score${s} = select(LOWEST, ((dots${s}.x + dots${s}.y) + (dots${s}.z + dots${s}.w)) * k_scale, seen${s});
        let now${s} = max(top${s}, score${s});
        let shrink${s} = select(exp(max(top${s} - now${s}, -80.0)), 0.0, top${s} == LOWEST);
        let weight${s} = select(0.0, exp(max(score${s} - now${s}, -80.0)), seen${s});
        top${s} = now${s};
        weight_sum${s} = fma(weight_sum${s}, shrink${s}, weight${s});
#end
        let v_at = (row * params.n_kv_heads + kv_head) * ${HEAD_VEC4+SCALES}u;
#if SCALES
        let v_scale = bitcast<f32>(v_cache[v_at + ${HEAD_VEC4}u]);
#else
        let v_scale = 1.0;
#end
#for i in 0..HEAD_VEC4
        {
            let v = restored(v_cache[v_at + ${i}u]);
#for s in 0..SLOTS
            sum${s}_${i} = fma(v, vec4(weight${s} * v_scale), sum${s}_${i} * shrink${s});
#end
        }
#end
    }
#for s in 0..SLOTS
    tops[${s*LANES}u + lane] = top${s};
    weight_sums[${s*LANES}u + lane] = weight_sum${s};
#for i in 0..HEAD_VEC4
    sums[(${s*HEAD_VEC4}u + ${i}u) * ${LANES}u + lane] = sum${s}_${i};
#end
#end
    workgroupBarrier();
#for s in 0..SLOTS
    if first_slot + ${s}u < n_slots {
        var highest = tops[${s*LANES}u];
#for l in 1..LANES
        highest = max(highest, tops[${s*LANES+l}u]);
#end
        var total = 0.0;
#for l in 0..LANES
        let factor${l} = exp(max(tops[${s*LANES+l}u] - highest, -80.0)); // a lane without a key has summed zeros
        total = fma(weight_sums[${s*LANES+l}u], factor${l}, total);
#end
        for (var i = lane; i < ${HEAD_VEC4}u; i += ${LANES}u) {
            var sum = vec4(0.0);
#for l in 0..LANES
            sum = fma(sums[(${s*HEAD_VEC4}u + i) * ${LANES}u + ${l}u], vec4(factor${l}), sum);
#end
#if SPLIT
            o[part * ${HEAD_VEC4}u + row${s} + i] = sum;
#else
            o[row${s} + i] = sum / total;
#end
        }
#if SPLIT
        if lane == 0u {
            stats[(part + row${s} / ${HEAD_VEC4}u) * 2u] = highest;
            stats[(part + row${s} / ${HEAD_VEC4}u) * 2u + 1u] = total;
        }
#end
#if PACKED
        if lane == 0u { stats[row${s} / ${HEAD_VEC4}u * 2u] = highest + log(total); }
#end
    }
#end
}
