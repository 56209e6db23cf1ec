// matmul_tiled: y[t,n] (+)= sum_c w[n,c] * x[t,c], tiled in workgroup memory: 64 rows x 64 tokens x 32 channels a step.
// Source:     the product of every linear layer; the layout is described in shaders/README.md ("Weights").
// Shapes:     as matmul.wgsl.
// Dispatch:   a workgroup of 64 threads owns 8 tiles of rows and 64 tokens; every thread dequantizes one block of a step
//             into workgroup memory (16 KiB in all, the WebGPU minimum) and owns 8 x 8 results.
// Variants:   EPILOGUE, BIAS: shared/epilogue.wgsl. INPUT = f32 | f16: in f16 both tiles take half the room and
//             half the time to read; x comes from half_rows.wgsl. Products in f16, too, would be off by 2e-7 each, but 30 layers
//             of them move a logit of SmolLM2 by more than 0.02.
// Twin:       crates/reference/src/matmul.rs      Budget: NMSE <= 1e-6 to the product with the dequantized weights.
#if INPUT == f16
enable f16;
#end
#import product
#import ${FORMAT}
#import epilogue
var<workgroup> w_slab: array<vec4<${INPUT}>, 512>; // [8 vec4 of channels, 64 rows]
var<workgroup> x_slab: array<vec4<${INPUT}>, 512>; // [8 vec4 of channels, 64 tokens]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
    let linear = group.y * groups.x + group.x;
    let first_token = (linear % params.n_token_tiles) * 64u;
    let first_tile = (linear / params.n_token_tiles) * 8u;
    let load_tile = min(first_tile + (index >> 3u), params.n_tiles - 1u);
    let load_token = min(first_token + index, params.n_tokens - 1u);
    let lane = index & 7u;   // this thread's lane in each of the 8 tiles
    let column = index >> 3u; // and its tokens: column + 8 t
#for r in 0..8
#for t in 0..8
    var sum${r}_${t} = 0.0;
#end
#end
    for (var b = 0u; b < params.n_blocks; b++) {
        let w = dequantize_block(load_tile, b, lane);
        let x_at = (load_token * params.n_blocks + b) * 8u;
#for i in 0..8
#if INPUT == f16
        w_slab[${64*i}u + index] = vec4<f16>(w[${i}]);
#else
        w_slab[${64*i}u + index] = w[${i}];
#end
        x_slab[${64*i}u + index] = x[x_at + ${i}u];
#end
        workgroupBarrier();
        for (var i = 0u; i < 512u; i += 64u) {
#for r in 0..8
            let w${r} = vec4<f32>(w_slab[i + ${8*r}u + lane]);
#end
#for t in 0..8
            {
                let v = vec4<f32>(x_slab[i + ${8*t}u + column]);
#for r in 0..8
                sum${r}_${t} += dot(w${r}, v);
#end
            }
#end
        }
        workgroupBarrier();
    }
    let last_tile = params.n_tiles - 1u;
#for t in 0..8
#if INPUT == f16
    let scale${t} = scale[min(first_token + ${8*t}u + column, params.n_tokens - 1u)];
#for r in 0..8
    sum${r}_${t} *= scale${t};
#end
#end
#if EPILOGUE == swiglu
#for r in 0..4
    if first_tile + ${2*r+1}u <= last_tile {
        write_pair(first_token + ${8*t}u + column, (first_tile / 2u + ${r}u) * 8u + lane,
                   sum${2*r}_${t}, sum${2*r+1}_${t});
    }
#end
#else
#for r in 0..8
    if first_tile + ${r}u <= last_tile {
        write(first_token + ${8*t}u + column, (first_tile + ${r}u) * 8u + lane, sum${r}_${t});
    }
#end
#end
#end
}
