// attention_backward_kv: dv[s] = sum_{t,h} p do[t,h],  dk[s] = scale * sum_{t,h} p (do[t,h] . v[s] - delta[t,h]) q[t,h]
// Source:     Dao et al. 2022, arXiv:2205.14135, appendix B.2; sums run over the later tokens of the same text and over the
//             query heads of the kv head's group, in a fixed order and without atomics.
// Shapes:     do, q [T,H,D]; k_cache [T/8,K,D/4,8] of vec4; v_cache [T,K,D]; stats [T,H,2] (lse, delta); starts [T];
//             dqkv [T,(H+2K)D], of which the k and v parts are written.
// Dispatch:   one thread a token and kv head; 8 neighbouring tokens are a workgroup.
// Variants:   LANES = 1 for adapters that run 8 lanes as one vector (CPUs): all lanes walk the same tokens t, whose rows are
//             loaded once and go round by subgroupBroadcast. Needs subgroups of at least 8 and D = 32 REGS.
// Twin:       crates/reference/src/attention.rs   Budget: NMSE <= 1e-6.
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
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dqkv: array<vec4<f32>>;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = group.x * 8u + lane;
    let kv_head = group.y;
#if LANES
    // All lanes stay to hand on rows; those past the end compute the last token again and write nothing.
    let own = min(s, params.n_tokens - 1u);
    let last = min(group.x * 8u + 7u, params.n_tokens - 1u);
#else
    if s >= params.n_tokens { return; }
    let own = s;
    let last = s;
#end
    let per_group = params.n_heads / params.n_kv_heads;
    let k_at = ((own >> 3u) * params.n_kv_heads + kv_head) * ${8*HEAD_VEC4}u + (own & 7u);
    let v_at = (own * params.n_kv_heads + kv_head) * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    let k${i} = k_cache[k_at + ${8*i}u] * params.scale;
    let v${i} = v_cache[v_at + ${i}u];
    var dk${i} = vec4(0.0);
    var dv${i} = vec4(0.0);
#end
#if LANES
    for (var t = group.x * 8u; t < params.n_tokens; t++) {
        let start = starts[t];
        if start > last { break; } // the next text
        let sees = t >= own && start <= own;
#else
    for (var t = s; t < params.n_tokens; t++) {
        if starts[t] > last { break; } // the next text
        let sees = true;
#end
        for (var h = kv_head * per_group; h < (kv_head + 1u) * per_group; h++) {
            let row = (t * params.n_heads + h) * ${HEAD_VEC4}u;
            let stat = stats[t * params.n_heads + h];
#if LANES
#for r in 0..REGS
            let q_lane${r} = q[row + ${8*r}u + lane];
            let do_lane${r} = do_[row + ${8*r}u + lane];
#for i in 0..8
            let q${8*r+i} = subgroupBroadcast(q_lane${r}, ${i}u);
            let do${8*r+i} = subgroupBroadcast(do_lane${r}, ${i}u);
#end
#end
#else
#for i in 0..HEAD_VEC4
            let q${i} = q[row + ${i}u];
            let do${i} = do_[row + ${i}u];
#end
#end
            var score = vec4(0.0);
            var dp = vec4(0.0);
#for i in 0..HEAD_VEC4
            score = fma(q${i}, k${i}, score);
            dp = fma(do${i}, v${i}, dp);
#end
            let p = select(0.0, exp(clamp((score.x + score.y) + (score.z + score.w) - stat.x, -80.0, 0.0)), sees);
            let ds = p * ((dp.x + dp.y) + (dp.z + dp.w) - stat.y) * params.scale;
#for i in 0..HEAD_VEC4
            dk${i} = fma(q${i}, vec4(ds), dk${i});
            dv${i} = fma(do${i}, vec4(p), dv${i});
#end
        }
    }
#if LANES
    if s >= params.n_tokens { return; }
#end
    let to = (s * (params.n_heads + 2u * params.n_kv_heads) + params.n_heads + kv_head) * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    dqkv[to + ${i}u] = dk${i};
    dqkv[to + params.n_kv_heads * ${HEAD_VEC4}u + ${i}u] = dv${i};
#end
}
