// gated_attention_reduce_lanes: gated_attention_reduce.wgsl for adapters that run 8 lanes as one vector (CPUs).
// Source:     derivative of gated_attention.wgsl (arXiv:2303.16199, eq. 6-8).
// Shapes:     as gated_attention_reduce.wgsl; D = 32 REGS.
// Dispatch:   a workgroup of 8 lanes for CHUNK prompt tokens (at most 8) of a kv head, once for keys (y even) and once for values: it
//             walks all tokens, a lane loads REGS vec4 of the row, all lanes share the weights by subgroupBroadcast. Those of the
//             first chunk also sum the gates of the group, those for keys set the q part to 0. Needs subgroups of at least 8.
// Twin:       crates/reference/src/gated_attention.rs   Budget: NMSE <= 1e-6.
struct Params {
    n_tokens: u32,
    n_heads: u32,
    n_kv_heads: u32,
    adapter_len: u32,
    head_vec4: u32, // D / 4 = 8 REGS
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> do_: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weights: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> dgates: array<f32>;
@group(0) @binding(5) var<storage, read_write> dprompt: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dgate: array<f32>;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_a = group.x * ${CHUNK}u;
    let kv_head = group.y / 2u;
    let of_keys = group.y % 2u == 0u;
    let per_group = params.n_heads / params.n_kv_heads;
    let first_head = kv_head * per_group;
    let own_a = min(first_a + lane, params.adapter_len - 1u);
#for a in 0..CHUNK
#for r in 0..REGS
    var sum${a}_${r} = vec4(0.0);
#end
#end
    for (var t = 0u; t < params.n_tokens; t++) {
        for (var h = first_head; h < first_head + per_group; h++) {
            let pair = t * params.n_heads + h;
            let both = weights[pair * params.adapter_len + own_a];
            var own = both.x;
            if of_keys { own = both.y; }
#for r in 0..REGS
            var row${r} = vec4(0.0);
            if of_keys {
                row${r} = q[pair * ${8*REGS}u + ${8*r}u + lane];
            } else {
                row${r} = do_[pair * ${8*REGS}u + ${8*r}u + lane];
            }
#end
#for a in 0..CHUNK
            {
                let weight = subgroupBroadcast(own, ${a}u);
#for r in 0..REGS
                sum${a}_${r} = fma(row${r}, vec4(weight), sum${a}_${r});
#end
            }
#end
        }
    }
    let n_rows = params.n_heads + 2u * params.n_kv_heads;
    let part = params.n_heads + select(params.n_kv_heads, 0u, of_keys) + kv_head;
#for a in 0..CHUNK
    if first_a + ${a}u < params.adapter_len {
        let row = (first_a + ${a}u) * n_rows;
#for r in 0..REGS
        dprompt[(row + part) * ${8*REGS}u + ${8*r}u + lane] = sum${a}_${r};
#end
        if of_keys {
            for (var h = first_head; h < first_head + per_group; h++) {
#for r in 0..REGS
                dprompt[(row + h) * ${8*REGS}u + ${8*r}u + lane] = vec4(0.0);
#end
            }
        }
    }
#end
    if group.x > 0u || of_keys { return; }
    for (var h = first_head + lane; h < first_head + per_group; h += 8u) {
        var sum = 0.0;
        for (var t = 0u; t < params.n_tokens; t++) { sum += dgates[t * params.n_heads + h]; }
        dgate[h] = sum;
    }
}
