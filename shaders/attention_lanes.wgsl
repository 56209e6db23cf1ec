// attention_lanes: attention.wgsl for adapters that run 8 lanes as one vector (CPUs): no barrier, no workgroup memory.
// Source:     Vaswani et al. 2017, arXiv:1706.03762, eq. 1; online softmax as in Dao et al. 2022, arXiv:2205.14135.
// Shapes:     as attention.wgsl; D a multiple of 32.
// Dispatch:   one workgroup of 8 lanes a kv head and SLOTS slots; a slot is one (token, query head of the group). 8 keys a
//             round: a lane a key for the scores, then a lane REGS vec4 of the head for the sum over values; queries and
//             weights go round by subgroupBroadcast. Needs subgroups of at least 8.
// Variants:   KV = f32 | f16 | q8: how the cache is stored; SCALES = 1 for q8, which keeps a scale behind each head.
//             SPLIT = 1 for long contexts: a workgroup sees the keys of one of num_workgroups.z KV splits and leaves its sums,
//             the highest score and the sum of the weights to attention_merge.
//             CAUSAL = 0 for encoders: every token sees all.
//             PACKED = 1 for training: several texts side by side, each token sees its own; keeps the log-sum-exp.
// Twin:       crates/reference/src/attention.rs   Budget: NMSE <= 1e-7.
#import step
#import kv
#import attention_head

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
#import attention_slots
#for s in 0..SLOTS
    var top${s} = LOWEST;
    var weight_sum${s} = 0.0; // this lane's keys only
#for r in 0..REGS
    let q${s}_${r} = q[row${s} + ${8*r}u + lane] * params.scale;
    var sum${s}_${r} = vec4(0.0);
#end
#end
    for (var first_key = from_key; first_key < to_key; first_key += 8u) {
        let key = first_key + lane;
        let k_at = ((first_key >> 3u) * params.n_kv_heads + kv_head) * ${64*REGS+8*SCALES}u + lane;
#if SCALES
        let k_scale = bitcast<f32>(k_cache[k_at + ${64*REGS}u]);
#else
        let k_scale = 1.0;
#end
#for s in 0..SLOTS
        var dots${s} = vec4(0.0);
#end
#for r in 0..REGS
#for i in 0..8
        {
            let k = restored(k_cache[k_at + ${64*r+8*i}u]);
#for s in 0..SLOTS
            dots${s} = fma(subgroupBroadcast(q${s}_${r}, ${i}u), k, dots${s});
#end
        }
#end
#end
#for s in 0..SLOTS
        let score${s} = select(LOWEST, ((dots${s}.x + dots${s}.y) + (dots${s}.z + dots${s}.w)) * k_scale, key <= visible${s} && key >= start${s});
        let now${s} = max(top${s}, subgroupMax(score${s}));
        let shrink${s} = select(exp(max(top${s} - now${s}, -80.0)), 0.0, top${s} == LOWEST);
        let weight${s} = select(0.0, exp(max(score${s} - now${s}, -80.0)), key <= visible${s} && key >= start${s});
        top${s} = now${s};
        weight_sum${s} = fma(weight_sum${s}, shrink${s}, weight${s});
#for r in 0..REGS
        sum${s}_${r} *= shrink${s};
#end
#end
        // Positions past the last key hold whatever was there before: they weigh 0 and are not even read.
#for j in 0..8
        if first_key + ${j}u < to_key {
            let v_at = ((first_key + ${j}u) * params.n_kv_heads + kv_head) * ${8*REGS+SCALES}u + lane;
#if SCALES
            let v_scale = bitcast<f32>(v_cache[v_at - lane + ${8*REGS}u]);
#else
            let v_scale = 1.0;
#end
#for r in 0..REGS
            let v${r} = restored(v_cache[v_at + ${8*r}u]) * v_scale;
#end
#for s in 0..SLOTS
            {
                let weight = subgroupBroadcast(weight${s}, ${j}u);
#for r in 0..REGS
                sum${s}_${r} = fma(v${r}, vec4(weight), sum${s}_${r});
#end
            }
#end
        }
#end
    }
#for s in 0..SLOTS
    let total${s} = subgroupAdd(weight_sum${s});
    if first_slot + ${s}u < n_slots {
#for r in 0..REGS
#if SPLIT
        o[part * ${8*REGS}u + row${s} + ${8*r}u + lane] = sum${s}_${r};
#else
        o[row${s} + ${8*r}u + lane] = sum${s}_${r} / total${s};
#end
#end
#if SPLIT
        if lane == 0u {
            stats[(part + row${s} / ${8*REGS}u) * 2u] = top${s};
            stats[(part + row${s} / ${8*REGS}u) * 2u + 1u] = total${s};
        }
#end
#if PACKED
        if lane == 0u { stats[row${s} / ${8*REGS}u * 2u] = top${s} + log(total${s}); }
#end
    }
#end
}
