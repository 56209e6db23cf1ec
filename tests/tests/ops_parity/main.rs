//! Every kernel, every variant, against its plain-Rust twin in f64 (`crates/reference`).
//!
//! A case prints as its parameters and can be run again by them: `OPS='rms_norm[T=5' cargo test --test ops_parity`.
//! Outputs start filled with a sentinel, and 1,024 more sentinels follow each: a cell that was not written and a write past
//! the end both show. The budgets are those of the kernels' headers.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

mod attention;
mod backward;
mod bench;
mod heads;
mod pointwise;
mod products;
mod sampling;

use adapter_engine::gpu::KERNELS;
use adapter_tests::{baseline_gpu, gpu, one_at_a_time};
use bench::Bench;
use std::collections::BTreeSet;

type Cases = fn(&mut Bench<'_>);

/// One row an op: its name and the function that runs all its cases. A kernel without a row fails the test.
const OPS: [(&str, Cases); 26] = [
    ("embedding", products::embedding),
    ("matvec", products::matvec),
    ("matmul", products::matmul),
    ("matmul_tiled", products::matmul_tiled),
    ("half_rows", products::half_rows),
    ("matmul_cooperative", products::matmul_cooperative),
    ("matmul_lanes", products::matmul_lanes),
    ("rms_norm", pointwise::rms_norm),
    ("layer_norm", pointwise::layer_norm),
    ("gelu", pointwise::gelu),
    ("rope", pointwise::rope),
    ("swiglu", pointwise::swiglu),
    ("residual_add", pointwise::residual_add),
    ("kv_cache_write", attention::kv_cache_write),
    ("kv_cache_write with norm", heads::kv_cache_write),
    ("head_norm", heads::head_norm),
    ("attention", attention::attention),
    ("attention of an encoder", attention::whole),
    ("gated_attention", attention::gated_attention),
    ("sampling", sampling::sampling),
    ("rms_norm_backward", backward::rms_norm),
    ("swiglu_backward", backward::swiglu),
    ("matmul_backward", backward::matmul),
    ("cross_entropy", backward::cross_entropy),
    ("attention_backward", backward::attention),
    ("gated_attention_backward", backward::gated_attention),
];

/// Kernels that need subgroups.
const SUBGROUPS: [&str; 5] = [
    "attention_lanes",
    "attention_queries",
    "gated_attention_queries",
    "gated_attention_reduce_lanes",
    "matmul_backward_tokens",
];

fn walk(gpu: &adapter_engine::gpu::Gpu, tier: &str) -> BTreeSet<&'static str> {
    let _turn = one_at_a_time();
    let mut bench = Bench::new(gpu, tier);
    for (name, run) in OPS {
        let (cases, start) = (bench.cases, std::time::Instant::now());
        run(&mut bench);
        println!("{tier} {name}: {} cases in {:.1} s", bench.cases - cases, start.elapsed().as_secs_f32());
    }
    assert!(
        bench.failures.is_empty(),
        "{} of {} cases failed:\n{}",
        bench.failures.len(),
        bench.cases,
        bench.failures.join("\n")
    );
    bench.kernels
}

#[test]
fn every_kernel_equals_its_twin() {
    let ran = walk(gpu(), "this GPU");
    let missing: Vec<_> = KERNELS
        .iter()
        .map(|kernel| kernel.name)
        // The tier says what this GPU has.
        .filter(|name| !SUBGROUPS.contains(name) || gpu().tier().broadcast)
        .filter(|name| *name != "half_rows" || gpu().tier().f16)
        .filter(|name| !name.ends_with("_cooperative") || gpu().tier().matrix_units.is_some())
        .filter(|name| !ran.contains(name))
        .collect();
    assert!(std::env::var_os("OPS").is_some() || missing.is_empty(), "kernels without a row in OPS: {missing:?}");
}

#[test]
fn every_kernel_equals_its_twin_with_core_webgpu_only() {
    walk(baseline_gpu(), "core WebGPU");
}
