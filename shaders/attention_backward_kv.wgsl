// attention_backward_kv: dv[s] = sum_{t,h} p do[t,h],  dk[s] = scale * sum_{t,h} p (do[t,h] . v[s] - delta[t,h]) q[t,h]
// Source:     Dao et al. 2022, arXiv:2205.14135, appendix B.2; sums run over the later tokens of the same text and over the
//             query heads of the kv head's group, in a fixed order and without atomics.
// Shapes:     do, q [T,H,D]; k_cache [T/8,K,D/4,8] of vec4; v_cache [T,K,D]; stats [T,H,2] (lse, delta); starts [T];
//             dqkv [T,(H+2K)D], of which the k and v parts are written.
// Dispatch:   one thread a token and kv head.   Twin: crates/reference/src/attention.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    scale: f32, // 1 / sqrt(D)
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> do_: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_cache: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> v_cache: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> starts: array<u32>;
@group(0) @binding(6) var<storage, read> stats: array<f32>;
@group(0) @binding(7) var<storage, read_write> dqkv: array<vec4<f32>>;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = group.x * 8u + lane;
    let kv_head = group.y;
    if s >= params.n_tokens { return; }
    let per_group = params.n_heads / params.n_kv_heads;
    let k_at = ((s >> 3u) * params.n_kv_heads + kv_head) * ${8*HEAD_VEC4}u + (s & 7u);
    let v_at = (s * params.n_kv_heads + kv_head) * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    let k${i} = k_cache[k_at + ${8*i}u] * params.scale;
    let v${i} = v_cache[v_at + ${i}u];
    var dk${i} = vec4(0.0);
    var dv${i} = vec4(0.0);
#end
    for (var t = s; t < params.n_tokens; t++) {
        if starts[t] > s { break; } // the next text
        for (var h = kv_head * per_group; h < (kv_head + 1u) * per_group; h++) {
            let row = (t * params.n_heads + h) * ${HEAD_VEC4}u;
            let stat = (t * params.n_heads + h) * 2u;
            var score = vec4(0.0);
            var dp = vec4(0.0);
#for i in 0..HEAD_VEC4
            let q${i} = q[row + ${i}u];
            let do${i} = do_[row + ${i}u];
            score = fma(q${i}, k${i}, score);
            dp = fma(do${i}, v${i}, dp);
#end
            let p = exp(clamp((score.x + score.y) + (score.z + score.w) - stats[stat], -80.0, 0.0));
            let ds = p * ((dp.x + dp.y) + (dp.z + dp.w) - stats[stat + 1u]) * params.scale;
#for i in 0..HEAD_VEC4
            dk${i} = fma(q${i}, vec4(ds), dk${i});
            dv${i} = fma(do${i}, vec4(p), dv${i});
#end
        }
    }
    let to = (s * (params.n_heads + 2u * params.n_kv_heads) + params.n_heads + kv_head) * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    dqkv[to + ${i}u] = dk${i};
    dqkv[to + params.n_kv_heads * ${HEAD_VEC4}u + ${i}u] = dv${i};
#end
}
