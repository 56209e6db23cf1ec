// One round of 8 keys for SLOTS queries a lane (attention_queries, gated_attention_queries): a part of their loops' bodies.
// Takes: first_key, n_keys, k_at (of key first_key + lane), and for each slot s its query q<s>_<i>, keys start<s> to visible<s>.
// Moves on: top<s> (highest score), total<s> (sum of the weights) and sum<s>_<i> (of the weighed values), as in online softmax.
#for s in 0..SLOTS
#for j in 0..8
var score${s}_${j} = 0.0;
#end
#end
#for i in 0..HEAD_VEC4
{
    let k_lane = key_part(k_at, ${i}u);
#for j in 0..8
    {
        let k = subgroupBroadcast(k_lane, ${j}u);
#for s in 0..SLOTS
        score${s}_${j} = fma(q${s}_${i}.x, k.x, score${s}_${j});
        score${s}_${j} = fma(q${s}_${i}.y, k.y, score${s}_${j});
        score${s}_${j} = fma(q${s}_${i}.z, k.z, score${s}_${j});
        score${s}_${j} = fma(q${s}_${i}.w, k.w, score${s}_${j});
#end
    }
#end
}
#end
#if SCALES
let k_scale = bitcast<f32>(k_cache[k_at + ${8*HEAD_VEC4}u]);
#for j in 0..8
{
    let scale = subgroupBroadcast(k_scale, ${j}u);
#for s in 0..SLOTS
    score${s}_${j} *= scale;
#end
}
#end
#end
// Values of the 8 keys; past the last one there is anything, so the last one again, which weighs 0 there.
#for j in 0..8
let v_at${j} = (min(first_key + ${j}u, n_keys - 1u) * params.n_kv_heads + kv_head) * ${HEAD_VEC4+SCALES}u;
#if SCALES
let v_scale${j} = bitcast<f32>(v_cache[v_at${j} + ${HEAD_VEC4}u]);
#else
let v_scale${j} = 1.0;
#end
#for r in 0..REGS
let v_lane${j}_${r} = value_part(v_at${j} + ${8*r}u + lane);
#end
#end
#for s in 0..SLOTS
var now${s} = top${s};
#for j in 0..8
let sees${s}_${j} = first_key + ${j}u <= visible${s} && first_key + ${j}u >= start${s};
score${s}_${j} = select(LOWEST, score${s}_${j}, sees${s}_${j});
now${s} = max(now${s}, score${s}_${j});
#end
let shrink${s} = select(exp(max(top${s} - now${s}, -80.0)), 0.0, top${s} == LOWEST);
top${s} = now${s};
total${s} *= shrink${s};
#for j in 0..8
let weight${s}_${j} = select(0.0, exp(max(score${s}_${j} - now${s}, -80.0)), sees${s}_${j});
total${s} += weight${s}_${j};
let scaled${s}_${j} = weight${s}_${j} * v_scale${j};
#end
#end
#for r in 0..REGS
#for i in 0..8
{
#for s in 0..SLOTS
    var sum${s} = sum${s}_${8*r+i} * shrink${s};
#end
#for j in 0..8
    {
        let v = subgroupBroadcast(v_lane${j}_${r}, ${i}u);
#for s in 0..SLOTS
        sum${s} = fma(v, vec4(scaled${s}_${j}), sum${s});
#end
    }
#end
#for s in 0..SLOTS
    sum${s}_${8*r+i} = sum${s};
#end
}
#end
#end
