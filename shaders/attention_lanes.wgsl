// attention_lanes: attention.wgsl for adapters that run 8 lanes as one vector (CPUs): no barrier, no workgroup memory.
// Source:     Vaswani et al. 2017, arXiv:1706.03762, eq. 1; online softmax as in Dao et al. 2022, arXiv:2205.14135.
// Shapes:     as attention.wgsl; D a multiple of 32.
// Dispatch:   one workgroup of 8 lanes a kv head and SLOTS slots; a slot is one (token, query head of the group). 8 keys a
//             round: a lane a key for the scores, then a lane REGS vec4 of the head for the sum over values; queries and
//             weights go round by subgroupBroadcast. Needs subgroups of at least 8.
// Variants:   KV = f32 | f16 | q8: how the cache is stored; SCALES = 1 for q8, which keeps a scale behind each head.
//             SPLIT = 1 for long contexts: a workgroup sees the keys of one of num_workgroups.z stretches and leaves its sums,
//             the highest score and the sum of the weights to attention_merge.
//             PACKED = 1 for training: several texts side by side, each token sees its own; keeps the log-sum-exp.
// Twin:       crates/reference/src/attention.rs   Budget: NMSE <= 1e-7.
#import step
#import kv
struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_vec4: u32, // D / 4 = 8 REGS
    scale: f32,     // 1 / sqrt(D)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_cache: array<Stored>;
@group(0) @binding(4) var<storage, read> v_cache: array<Stored>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
#if SPLIT
@group(0) @binding(6) var<storage, read_write> stats: array<f32>; // [stretches, T, H, 2]: highest score, sum of the weights
#end
#if PACKED
@group(0) @binding(6) var<storage, read> starts: array<u32>; // [T] first token of each token's text
@group(0) @binding(7) var<storage, read_write> stats: array<f32>; // [T, H, 2]: log-sum-exp of the scores, and a place for the gradient
#end
const LOWEST = -3.0e38; // instead of an infinity, which WGSL does not promise to handle

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let per_group = params.n_heads / params.n_kv_heads;
    let kv_head = group.y;
    let first_slot = group.x * ${SLOTS}u;
    let n_slots = step.n_tokens * per_group;
    let last_token = min(first_slot + ${LAST_SLOT}u, n_slots - 1u) / per_group;
    let n_keys = step.past + last_token + 1u; // the last position any slot of this workgroup may look at, and one
#for s in 0..SLOTS
    let slot${s} = min(first_slot + ${s}u, n_slots - 1u); // past the end: repeat the last one, write nothing
    let row${s} = ((slot${s} / per_group) * params.n_heads + kv_head * per_group + slot${s} % per_group) * ${8*REGS}u;
    let visible${s} = step.past + slot${s} / per_group;
#if PACKED
    let start${s} = starts[slot${s} / per_group];
#else
    let start${s} = 0u;
#end
    var top${s} = LOWEST;
    var weight_sum${s} = 0.0; // this lane's keys only
#for r in 0..REGS
    let q${s}_${r} = q[row${s} + ${8*r}u + lane] * params.scale;
    var sum${s}_${r} = vec4(0.0);
#end
#end
#if SPLIT
    // Whole rounds of 64 keys; a stretch past the end has none.
    let span = (n_keys + groups.z * 64u - 1u) / (groups.z * 64u) * 64u;
    let from_key = group.z * span;
    let to_key = min(n_keys, from_key + span);
    let part = group.z * step.n_tokens * params.n_heads; // rows of the stretches before
#else
    let from_key = start0 & ~7u; // starts ascend: no slot looks further back
    let to_key = n_keys;
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
