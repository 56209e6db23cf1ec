//! Does this GPU compute right? A driver may accept a kernel and return wrong numbers without an error (llama.cpp #28502,
//! #23133): every variant in use runs once on small fixed inputs and is compared with stored answers.
//!
//! The answers (`self_test_answers.json`) come from the plain-Rust twins; `tests/tests/self_test.rs` makes and checks them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::Error;
use crate::formats::{TensorInfo, TensorType};
use crate::gpu::{Buffer, Gpu, GpuError, PlanBuilder, Step};
use crate::model::loader::{Loader, Order};
use crate::ops::attention::{self, Stretches};
use crate::ops::gated_attention::{self, PromptCache};
use crate::ops::heads::Heads;
use crate::ops::kv_cache::{self, CacheFormat, LayerCache};
use crate::ops::matmul::{self, Epilogue, Shape, Variant};
use crate::ops::matrix::Matrix;
use crate::ops::rope::{Rope, Scaling};
use crate::ops::sample::{self, Buffers, HISTORY};
use crate::ops::{embedding, residual_add, rms_norm, rope, swiglu};
use crate::sampler::Sampling;

/// What a kernel may be off by: far above rounding, far below a wrong index.
pub(crate) const BUDGET: f64 = 1e-6;
/// Behind the name of a case that rounds to f16, whose answer is that of the same case without.
const ROUNDED: &str = ", rounded";
const ANSWERS: &str = include_str!("self_test_answers.json");

/// Rows, columns and tokens of the products.
pub const PRODUCT: (usize, usize, usize) = (24, 256, 5);
/// The heads of the attention cases.
pub const HEADS: Heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 32 };
/// Past, tokens and prompt length of the attention cases.
pub const LENGTHS: (u32, u32, u32) = (9, 3, 5);

/// One kernel on one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What ran, such as `matvec Q4_1`.
    pub name: String,
    /// Normalized mean squared error against the stored answer.
    pub error: f64,
    /// Whether that is rounding.
    pub good: bool,
}

/// Fixed inputs in (-1, 1), exact in f32: the top bits of a hash of `seed` and the index.
pub fn inputs(seed: u32, n: usize) -> Vec<f32> {
    bytes(seed, n * 2).chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect()
}

/// Fixed bytes.
pub fn bytes(seed: u32, n: usize) -> Vec<u8> {
    (0..n as u32)
        .map(|i| {
            // The finalizer of MurmurHash3.
            let mut h = i.wrapping_add(seed.wrapping_mul(0x9e37_79b9));
            h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
            h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
            (h >> 24) as u8
        })
        .collect()
}

/// Fixed blocks of a format, `n` weights, with scales of ordinary size.
pub fn weights(tensor_type: TensorType, n: usize) -> Vec<u8> {
    let (len, size) = match tensor_type {
        TensorType::F32 => return inputs(3, n).iter().flat_map(|value| value.to_le_bytes()).collect(),
        TensorType::F16 => {
            return inputs(3, n).iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
        }
        TensorType::BF16 => {
            return inputs(3, n).iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
        }
        other => (other.block_len() as usize, other.block_bytes() as usize),
    };
    // Where the f16 scales of a block are.
    let scales: &[usize] = match tensor_type {
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q6_K => &[208],
        _ => &[0],
    };
    let mut out = bytes(5, n / len * size);
    for (index, block) in out.chunks_exact_mut(size).enumerate() {
        for (place, at) in scales.iter().enumerate() {
            let value = 0.01 * (1 + (index + place) % 7) as f32;
            block[*at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
        }
    }
    out
}

/// A matrix on the GPU of `data` in a format, `[rows, columns]`.
///
/// # Errors
/// Too little memory.
pub fn matrix(gpu: &Gpu, tensor_type: TensorType, data: &[u8], [n_rows, n_cols]: [usize; 2]) -> Result<Matrix, Error> {
    let tensor = TensorInfo {
        name: "self test".to_owned(),
        shape: vec![n_cols as u64, n_rows as u64],
        tensor_type,
        offset: 0,
        size_bytes: data.len() as u64,
    };
    let mut go_on = |_, _| ControlFlow::Continue(());
    Loader::new(gpu, &data, 0, &mut go_on).matrix(&[&tensor], Order::Stacked)
}

/// Runs every kernel in the variants this GPU gets, with products in `formats`.
///
/// # Errors
/// A lost GPU or too little memory; wrong numbers are in the checks.
pub async fn run(gpu: &Gpu, formats: &[TensorType]) -> Result<Vec<Check>, Error> {
    let answers: BTreeMap<String, Vec<f32>> = serde_json::from_str(ANSWERS).unwrap_or_default();
    let mut checks = Vec::new();
    for (name, found) in results(gpu, formats).await? {
        let wanted = answers.get(name.trim_end_matches(ROUNDED)).map_or(&[][..], Vec::as_slice);
        let error = nmse(&found, wanted);
        checks.push(Check { good: error <= BUDGET, name, error });
    }
    Ok(checks)
}

/// Mean square of the difference over that of `wanted`; infinite when the lengths differ or a number is none.
pub(crate) fn nmse(found: &[f32], wanted: &[f32]) -> f64 {
    let power: f64 = wanted.iter().map(|value| f64::from(*value).powi(2)).sum();
    let difference: f64 = found.iter().zip(wanted).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let error = difference / power.max(1e-30);
    if wanted.len() == found.len() && !error.is_nan() { error } else { f64::INFINITY }
}

/// As [`run`], and the first wrong kernel is an error.
///
/// # Errors
/// [`GpuError::SelfTest`] with the kernel's name, or as [`run`].
pub async fn require(gpu: &Gpu, formats: &[TensorType]) -> Result<(), Error> {
    match run(gpu, formats).await?.into_iter().find(|check| !check.good) {
        None => Ok(()),
        Some(check) => Err(GpuError::SelfTest {
            kernel: check.name,
            gpu: gpu.summary().name.clone(),
            detail: format!("NMSE {:.1e} where {BUDGET:.0e} is allowed", check.error),
        }
        .into()),
    }
}

/// What the kernels return, by name; [`run`] compares it.
///
/// # Errors
/// A lost GPU or too little memory.
pub async fn results(gpu: &Gpu, formats: &[TensorType]) -> Result<Vec<(String, Vec<f32>)>, Error> {
    let mut bench = Bench { gpu, out: Vec::new() };
    for tensor_type in formats {
        bench.products(*tensor_type).await?;
    }
    bench.pointwise().await?;
    bench.attention().await?;
    bench.sampling().await?;
    gpu.check()?;
    Ok(bench.out)
}

struct Bench<'g> {
    gpu: &'g Gpu,
    out: Vec<(String, Vec<f32>)>,
}

impl Bench<'_> {
    async fn case(
        &mut self,
        name: String,
        y: &Buffer,
        n: usize,
        fill: impl FnOnce(&mut PlanBuilder<'_>) -> Result<(), GpuError>,
    ) -> Result<(), Error> {
        let mut plan = PlanBuilder::new(self.gpu);
        fill(&mut plan)?;
        let plan = plan.build()?;
        let mut encoder = self.gpu.encoder();
        plan.encode(self.gpu, &mut encoder);
        self.gpu.submit(encoder);
        let values = self.gpu.read(y, 0, n).await?;
        self.out.push((name, values));
        Ok(())
    }

    async fn products(&mut self, tensor_type: TensorType) -> Result<(), Error> {
        let (n_rows, n_cols, n_tokens) = PRODUCT;
        let matrix = matrix(self.gpu, tensor_type, &weights(tensor_type, n_rows * n_cols), [n_rows, n_cols])?;
        let x = self.gpu.buffer_with("x", &inputs(1, n_tokens * n_cols))?;
        for (name, n_tokens, epilogue) in
            [("matvec", 1, Epilogue::Store), ("matvec add", 1, Epilogue::Add), ("matmul", n_tokens, Epilogue::Store)]
        {
            let n = n_tokens * n_rows;
            let y = self.gpu.buffer_with("y", &inputs(2, n))?;
            let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
            self.case(format!("{name} {tensor_type}"), &y, n, |plan| {
                matmul::launch(plan, &matrix, &x, &y, shape, epilogue)
            })
            .await?;
        }
        if let Some(variant) = Variant::rounded(self.gpu.tier(), self.gpu.tuning()) {
            let n = n_tokens * n_rows;
            let y = self.gpu.buffer("y", n as u64 * 4)?;
            let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
            self.case(format!("matmul {tensor_type}{ROUNDED}"), &y, n, |plan| {
                matmul::launch_variant(plan, variant, &matrix, &x, &y, shape, Epilogue::Store)
            })
            .await?;
        }
        let ids = self.gpu.buffer_with("ids", &[7u32, 0, 23])?;
        let y = self.gpu.buffer("y", 3 * n_cols as u64 * 4)?;
        self.case(format!("embedding {tensor_type}"), &y, 64, |plan| embedding::launch(plan, &matrix, &ids, &y, 3))
            .await
    }

    async fn pointwise(&mut self) -> Result<(), Error> {
        let (a, b) = (self.gpu.buffer_with("a", &inputs(1, 192))?, self.gpu.buffer_with("b", &inputs(2, 192))?);
        let y = self.gpu.buffer("y", 192 * 4)?;
        let shape = rms_norm::Shape { n_tokens: 2, n_channels: 64, first_token: 1, eps: 1e-5 };
        self.case("rms_norm".to_owned(), &y, 128, |plan| rms_norm::launch(plan, &a, &b, &y, shape)).await?;
        self.case("swiglu".to_owned(), &y, 192, |plan| swiglu::launch(plan, &a, &b, &y, 192)).await?;
        self.case("residual_add".to_owned(), &b, 192, |plan| residual_add::launch(plan, &a, &b, 192)).await?;
        let step = self.gpu.buffer_with("step", &[Step { past: 9, n_tokens: 3, ..Step::default() }])?;
        let table = self.gpu.buffer_with("table", &angles().table(0..12))?;
        self.case("rope".to_owned(), &a, 192, |plan| rope::launch(plan, &step, &table, &a, [3, 2, 32], true)).await
    }

    async fn attention(&mut self) -> Result<(), Error> {
        let (past, n_tokens, adapter_len) = LENGTHS;
        let Heads { n_heads, n_kv_heads, head_dim } = HEADS;
        let width = ((n_heads + 2 * n_kv_heads) * head_dim) as usize;
        let n = (n_tokens * n_heads * head_dim) as usize;
        let table = self.gpu.buffer_with("table", &angles().table(0..past + n_tokens))?;
        let size = kv_cache::plane_bytes(HEADS, past + n_tokens);
        let (k, v) = (self.gpu.buffer("keys", size)?, self.gpu.buffer("values", size)?);
        let cache = LayerCache { k, v, format: CacheFormat::F32 };
        let (q, o) = (self.gpu.buffer("q", n as u64 * 4 * 3)?, self.gpu.buffer("o", n as u64 * 4)?);
        // The past comes through the same kernel as the present.
        for (past, n_tokens, seed, name) in
            [(0, past, 1, "kv_cache_write of the past"), (past, n_tokens, 2, "kv_cache_write")]
        {
            let step = self.gpu.buffer_with("step", &[Step { past, n_tokens, ..Step::default() }])?;
            let qkv = self.gpu.buffer_with("qkv", &inputs(seed, n_tokens as usize * width))?;
            let n = (n_tokens * n_heads * head_dim) as usize;
            self.case(name.to_owned(), &q, n, |plan| {
                kv_cache::launch(plan, &step, &table, &qkv, &q, &cache, HEADS, n_tokens, None)
            })
            .await?;
        }
        let step = self.gpu.buffer_with("step", &[Step { past, n_tokens, ..Step::default() }])?;
        let operands = attention::Operands { step: &step, q: &q, cache: &cache, o: &o, heads: HEADS, n_tokens };
        self.case("attention".to_owned(), &o, n, |plan| attention::launch(plan, operands, None)).await?;
        let many = attention::Variant::choose(self.gpu, HEADS, attention::MANY_TOKENS);
        self.case("attention of many tokens".to_owned(), &o, n, |plan| {
            attention::launch_variant(plan, many, operands, None)
        })
        .await?;
        let parts = 3; // more than there are keys for
        let sums = self.gpu.buffer("sums", u64::from(parts) * n as u64 * 4)?;
        let stats = self.gpu.buffer("statistics", u64::from(parts * n_tokens * n_heads) * 8)?;
        let variant = attention::Variant::choose(self.gpu, HEADS, 1);
        self.case("attention in stretches".to_owned(), &o, n, |plan| {
            let parts = Stretches { n: parts, sums: &sums, stats: &stats };
            attention::launch_stretches(plan, variant, operands, parts)
        })
        .await?;
        let row = (adapter_len * n_kv_heads * head_dim) as usize;
        let prompt = PromptCache {
            k: self.gpu.buffer_with("prompt keys", &inputs(6, row))?,
            v: self.gpu.buffer_with("prompt values", &inputs(7, row))?,
            gate: self.gpu.buffer_with("gates", &inputs(8, n_heads as usize))?,
        };
        let (q, prompt, heads) = (&q, &prompt, HEADS);
        let operands = gated_attention::Operands { q, prompt, o: &o, o_base: None, heads, n_tokens, adapter_len };
        self.case("gated_attention".to_owned(), &o, n, |plan| gated_attention::launch(plan, operands)).await?;
        self.case("gated_attention of many tokens".to_owned(), &o, n, |plan| {
            gated_attention::launch_variant(plan, many, operands)
        })
        .await
    }

    async fn sampling(&mut self) -> Result<(), Error> {
        let logits = inputs(11, 1000);
        let history = self.gpu.buffer_with("history", &vec![3u32; HISTORY as usize])?;
        let next_id = self.gpu.buffer("next id", 4)?;
        let step = self.gpu.buffer_with("step", &[Step { past: 4, n_tokens: 1, draw: 0.5, history: 5 }])?;
        let penalized = Sampling { repeat_penalty: 1.5, ..Sampling::greedy() };
        for (name, sampling) in [("argmax", penalized), ("sample", Sampling::default())] {
            let logits = self.gpu.buffer_with("logits", &logits)?;
            let buffers = Buffers { logits: &logits, next_id: &next_id, history: &history };
            let mut plan = PlanBuilder::new(self.gpu);
            sample::launch(&mut plan, &step, buffers, 1000, &sampling)?;
            let plan = plan.build()?;
            let mut encoder = self.gpu.encoder();
            plan.encode(self.gpu, &mut encoder);
            self.gpu.submit(encoder);
            let id: Vec<u32> = self.gpu.read(&next_id, 0, 1).await?;
            self.out.push((name.to_owned(), id.iter().map(|id| *id as f32).collect()));
            let touched: Vec<f32> = self.gpu.read(&logits, 0, 8).await?;
            self.out.push((format!("repeat_penalty before {name}"), touched));
        }
        Ok(())
    }
}

/// The angles of the rope and attention cases.
pub fn angles() -> Rope {
    Rope { head_dim: HEADS.head_dim, n_rot: HEADS.head_dim, theta: 10_000.0, scaling: Scaling::None }
}
