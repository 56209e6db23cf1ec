// attention_backward_q: dq[t,h,:] = scale * sum_s p (do . v[s] - delta) k[s],  p = exp(scale q . k[s] - lse),  delta = do . o
// Source:     Dao et al. 2022, arXiv:2205.14135, appendix B.2: probabilities are computed again from the log-sum-exp.
// Shapes:     do, q, o [T,H,D]; k_cache [T/8,K,D/4,8] of vec4; v_cache [T,K,D]; stats [T,H,2] (lse, delta: written here);
//             starts [T]; dqkv [T,(H+2K)D], of which the q part is written.
// Dispatch:   one thread a token and head.
// Variants:   LANES = 1 for adapters that run 8 lanes as one vector (CPUs): all lanes walk the same positions s, whose keys and
//             values are loaded once and go round by subgroupBroadcast. Needs subgroups of at least 8 and D = 32 REGS.
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
@group(0) @binding(5) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> starts: array<u32>;
@group(0) @binding(7) var<storage, read_write> stats: array<f32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<vec4<f32>>;

// Neighbouring threads are neighbouring tokens of one head: they read the same keys.
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.x * 8u + lane;
    let h = group.y;
#if LANES
    // All lanes stay to hand on rows; those past the end compute the last token again and write nothing.
    let t = min(token, params.n_tokens - 1u);
    let last = min(group.x * 8u + 7u, params.n_tokens - 1u);
    let first = starts[group.x * 8u]; // starts ascend: no lane looks further back
#else
    if token >= params.n_tokens { return; }
    let t = token;
    let last = t;
    let first = starts[t];
#end
    let start = starts[t];
    let kv_head = h / (params.n_heads / params.n_kv_heads);
    let row = (t * params.n_heads + h) * ${HEAD_VEC4}u;
    let stat = (t * params.n_heads + h) * 2u;
    let lse = stats[stat];
    var delta4 = vec4(0.0);
#for i in 0..HEAD_VEC4
    let q${i} = q[row + ${i}u] * params.scale;
    let do${i} = do_[row + ${i}u];
    delta4 = fma(do${i}, o[row + ${i}u], delta4);
    var dq${i} = vec4(0.0);
#end
    let delta = (delta4.x + delta4.y) + (delta4.z + delta4.w);
    if token < params.n_tokens { stats[stat + 1u] = delta; }
    for (var s = first; s <= last; s++) {
        let k_at = ((s >> 3u) * params.n_kv_heads + kv_head) * ${8*HEAD_VEC4}u + (s & 7u);
        let v_at = (s * params.n_kv_heads + kv_head) * ${HEAD_VEC4}u;
#if LANES
#for r in 0..REGS
        let k_lane${r} = k_cache[k_at + ${64*r}u + lane * 8u];
        let v_lane${r} = v_cache[v_at + ${8*r}u + lane];
#for i in 0..8
        let k${8*r+i} = subgroupBroadcast(k_lane${r}, ${i}u);
        let v${8*r+i} = subgroupBroadcast(v_lane${r}, ${i}u);
#end
#end
#else
#for i in 0..HEAD_VEC4
        let k${i} = k_cache[k_at + ${8*i}u];
        let v${i} = v_cache[v_at + ${i}u];
#end
#end
        var score = vec4(0.0);
        var dp = vec4(0.0);
#for i in 0..HEAD_VEC4
        score = fma(q${i}, k${i}, score);
        dp = fma(do${i}, v${i}, dp);
#end
        let sees = s >= start && s <= t;
        let p = select(0.0, exp(clamp((score.x + score.y) + (score.z + score.w) - lse, -80.0, 0.0)), sees);
        let ds = p * ((dp.x + dp.y) + (dp.z + dp.w) - delta);
#for i in 0..HEAD_VEC4
        dq${i} = fma(k${i}, vec4(ds), dq${i});
#end
    }
    if token >= params.n_tokens { return; }
    let to = (t * (params.n_heads + 2u * params.n_kv_heads) + h) * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    dqkv[to + ${i}u] = dq${i} * params.scale;
#end
}
