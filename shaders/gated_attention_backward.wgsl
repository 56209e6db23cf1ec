// gated_attention_backward: stage 1 of the gradient: per token and head the prompt's probabilities again, and what they pass on:
//     dgate[t,h] = do . (p v_prompt),  ds[t,h,a] = gate p (do . v_prompt[a] - dgate[t,h]) scale,  dq += sum_a ds k_prompt[a]
// Source:     derivative of gated_attention.wgsl (arXiv:2303.16199, eq. 6-8).
// Shapes:     do, q [T,H,D]; k_prompt, v_prompt [A,K,D]; gate [H]; weights [T,H,A,2] (gate p, ds) and dgates [T,H] are kept for
//             stage 2 (gated_attention_reduce.wgsl); dqkv [T,(H+2K)D], whose q part is added to.
// Dispatch:   one thread a token and head.
// Variants:   LANES = 1 for adapters that run 8 lanes as one vector (CPUs): the prompt's rows are loaded once for all lanes and go
//             round by subgroupBroadcast. Needs subgroups of at least 8 and D = 32 REGS.
// Twin:       crates/reference/src/gated_attention.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    adapter_len: u32,
    scale: f32, // 1 / sqrt(D)
    add_dq: u32, // 0 in the lowest adapted layer: nothing below it learns
    unused0: u32,
    unused1: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> do_: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_prompt: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> v_prompt: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> gate: array<f32>;
@group(0) @binding(6) var<storage, read_write> weights: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dgates: array<f32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<vec4<f32>>;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.x * 8u + lane;
    let h = group.y;
#if LANES
    let t = min(token, params.n_tokens - 1u); // past the end: hand on rows, compute the last token again, write nothing
#else
    if token >= params.n_tokens { return; }
    let t = token;
#end
    let kv_head = h / (params.n_heads / params.n_kv_heads);
    let at = t * params.n_heads + h;
    let row = at * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    let q${i} = q[row + ${i}u] * params.scale;
    let do${i} = do_[row + ${i}u];
    var dq${i} = vec4(0.0);
#end
    let first = at * params.adapter_len;
    var top = -3.0e38;
    for (var a = 0u; a < params.adapter_len; a++) {
        let prompt_at = (a * params.n_kv_heads + kv_head) * ${HEAD_VEC4}u;
        var score = vec4(0.0);
        var dp = vec4(0.0);
#if LANES
#for r in 0..REGS
        let k_lane${r} = k_prompt[prompt_at + ${8*r}u + lane];
        let v_lane${r} = v_prompt[prompt_at + ${8*r}u + lane];
#for i in 0..8
        score = fma(q${8*r+i}, subgroupBroadcast(k_lane${r}, ${i}u), score);
        dp = fma(do${8*r+i}, subgroupBroadcast(v_lane${r}, ${i}u), dp);
#end
#end
#else
#for i in 0..HEAD_VEC4
        score = fma(q${i}, k_prompt[prompt_at + ${i}u], score);
        dp = fma(do${i}, v_prompt[prompt_at + ${i}u], dp);
#end
#end
        let both = vec2((score.x + score.y) + (score.z + score.w), (dp.x + dp.y) + (dp.z + dp.w));
        if token < params.n_tokens { weights[first + a] = both; }
        top = max(top, both.x);
    }
    var total = 0.0;
    var dgate = 0.0;
    for (var a = 0u; a < params.adapter_len; a++) {
        let p = exp(max(weights[first + a].x - top, -80.0));
        total += p;
        dgate = fma(p, weights[first + a].y, dgate);
    }
    dgate /= total;
    if token < params.n_tokens { dgates[at] = dgate; }
    for (var a = 0u; a < params.adapter_len; a++) {
        let prompt_at = (a * params.n_kv_heads + kv_head) * ${HEAD_VEC4}u;
        let p = gate[h] * exp(max(weights[first + a].x - top, -80.0)) / total;
        let ds = p * (weights[first + a].y - dgate) * params.scale;
        if token < params.n_tokens { weights[first + a] = vec2(p, ds); }
#if LANES
#for r in 0..REGS
        let k_lane${r} = k_prompt[prompt_at + ${8*r}u + lane];
#for i in 0..8
        dq${8*r+i} = fma(subgroupBroadcast(k_lane${r}, ${i}u), vec4(ds), dq${8*r+i});
#end
#end
#else
#for i in 0..HEAD_VEC4
        dq${i} = fma(k_prompt[prompt_at + ${i}u], vec4(ds), dq${i});
#end
#end
    }
    if params.add_dq == 0u || token >= params.n_tokens { return; }
    let to = (t * (params.n_heads + 2u * params.n_kv_heads) + h) * ${HEAD_VEC4}u;
#for i in 0..HEAD_VEC4
    dqkv[to + ${i}u] += dq${i};
#end
}
