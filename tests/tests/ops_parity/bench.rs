//! Runs one case: inputs up, plan, outputs down, compared.

use adapter_engine::gpu::{Buffer, Gpu, PlanBuilder, Step};
use adapter_tests::nmse;
use pollster::block_on;
use std::collections::BTreeSet;

const SENTINEL: f32 = 12_345.679;
const GUARD: usize = 1024;

/// What a kernel with f32 arithmetic may be off by.
pub const F32: f64 = 1e-7;
/// What a product with quantized weights may be off by, against the dequantized product.
pub const QUANTIZED: f64 = 1e-6;

pub struct Bench<'g> {
    pub gpu: &'g Gpu,
    pub cases: usize,
    pub failures: Vec<String>,
    /// Kernels that were launched.
    pub kernels: BTreeSet<&'static str>,
    tier: String,
    only: Option<String>,
}

impl<'g> Bench<'g> {
    pub fn new(gpu: &'g Gpu, tier: &str) -> Self {
        let only = std::env::var("OPS").ok();
        Self { gpu, cases: 0, failures: Vec::new(), kernels: BTreeSet::new(), tier: tier.to_owned(), only }
    }

    pub fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.contains(only.as_str()))
    }

    pub fn input(&self, values: &[f32]) -> Buffer {
        self.gpu.buffer_with("input", values).unwrap()
    }

    pub fn words(&self, values: &[u32]) -> Buffer {
        self.gpu.buffer_with("input", values).unwrap()
    }

    pub fn step(&self, past: u32, n_tokens: u32) -> Buffer {
        self.gpu.buffer_with("step", &[Step { past, n_tokens, ..Step::default() }]).unwrap()
    }

    /// `n` cells of sentinels and a guard behind.
    pub fn output(&self, n: usize) -> Buffer {
        self.input(&vec![SENTINEL; n + GUARD])
    }

    /// `values` and a guard behind, for ops that work in place.
    pub fn in_place(&self, values: &[f32]) -> Buffer {
        self.input(&[values, &[SENTINEL; GUARD]].concat())
    }

    /// The values of an output, its guard checked.
    pub fn read(&mut self, case: &str, output: &Buffer, n: usize) -> Vec<f32> {
        let mut values: Vec<f32> = block_on(self.gpu.read(output, 0, n + GUARD)).unwrap();
        if values[n..].iter().any(|value| value.to_bits() != SENTINEL.to_bits()) {
            self.failures.push(format!("{case}: wrote past the end"));
        }
        values.truncate(n);
        values
    }

    /// Builds a plan with `fill`, runs it, and remembers which kernels it launched.
    pub fn run(&mut self, fill: impl FnOnce(&mut PlanBuilder<'_>)) {
        let mut builder = PlanBuilder::new(self.gpu);
        fill(&mut builder);
        let plan = builder.build().unwrap();
        for label in plan.labels() {
            let name = label.split(' ').next().unwrap_or_default();
            let kernel = adapter_engine::gpu::KERNELS.iter().find(|kernel| kernel.name == name);
            self.kernels.extend(kernel.map(|kernel| kernel.name));
        }
        let mut encoder = self.gpu.encoder();
        plan.encode(self.gpu, &mut encoder);
        self.gpu.submit(encoder);
        self.gpu.wait().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Compares an output with its twin's.
    pub fn compare(&mut self, case: &str, output: &Buffer, wanted: &[f32], budget: f64) {
        self.cases += 1;
        let found = self.read(case, output, wanted.len());
        let unwritten = found.iter().filter(|value| value.to_bits() == SENTINEL.to_bits()).count();
        let error = nmse(&found, wanted);
        if unwritten > 0 {
            self.failures.push(format!("{case} on {}: {unwritten} cells not written", self.tier));
        } else if error.is_nan() || error > budget {
            let at = found.iter().zip(wanted).position(|(a, b)| (a - b).abs() > 1e-3 * b.abs().max(1e-3) || a.is_nan());
            let detail = at.map(|at| format!("; first at {at}: {} instead of {}", found[at], wanted[at]));
            self.failures.push(format!(
                "{case} on {}: NMSE {error:.1e} > {budget:.0e}{}",
                self.tier,
                detail.unwrap_or_default()
            ));
        } else if self.only.is_some() {
            println!("{case} NMSE {error:.1e} <= {budget:.0e}");
        }
    }
}
