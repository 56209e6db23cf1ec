//! `bench --train`: whole training steps on rows of one length: forward, backward and AdamW, as `finetune` makes them.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use adapter_engine::Model;
use adapter_engine::adapter::GateKind;
use adapter_engine::train::{self, Batch};
use adapter_finetune::frozen::GpuLlama;
use adapter_finetune::{AdapterShape, Frozen, Recipe, Trainer};
use adapter_host::figures;
use pollster::block_on;
use serde::Serialize;

use super::flags::{Bench, Format, TrainRows};
use super::kernels::{self, KernelTable};
use super::{Spread, peak_rss, spread};
use crate::failure::Failure;
use crate::flags::Global;
use crate::interrupt;
use crate::load::{self, ModelFile};
use crate::output::{self, Align, Table};

/// Learning rate of the steps: small, so that many of them stay finite whatever the weights are.
const LEARNING_RATE: f64 = 1e-4;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    model: String,
    quantization: String,
    backend: String,
    gpu: String,
    driver: String,
    tier: String,
    adapter_len: u32,
    adapter_layers: u32,
    trained_parameters: u64,
    /// The most memory this process had, where the system tells (Linux); it belongs to all tests together.
    peak_rss_bytes: Option<u64>,
    tests: Vec<Test>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelTable>,
}

/// One row of the result.
#[derive(Debug, Serialize)]
struct Test {
    test: String,
    n_rows: u32,
    n_tokens: u32,
    tokens_per_second: Spread,
    /// Seconds of each measured step.
    steps_s: Vec<f64>,
    /// Loss before each step, the first one (not measured) included, nats per token.
    losses: Vec<f32>,
    /// What the GPU held after the last step.
    gpu_bytes: u64,
    /// What `finetune --dry-run` says beforehand of the same, less what burn holds (adapter and optimizer).
    predicted_bytes: u64,
}

/// Runs the tests of `--train`.
///
/// # Errors
/// More layers than the model has, a batch that does not fit, numbers that are not finite, a GPU that fails.
pub(super) fn run(global: &Global, flags: &Bench, file: &ModelFile) -> Result<(), Failure> {
    let config = &file.config;
    let n_layers = flags.adapter_layers.unwrap_or(config.n_layers.saturating_sub(2).max(1));
    if n_layers > config.n_layers {
        return Err(Failure::wrong_use(
            format!("--adapter-layers {n_layers} is more than the model's {} layers", config.n_layers),
            format!("give at most {}", config.n_layers),
        ));
    }
    let shape = AdapterShape::new(config, n_layers, flags.adapter_len, GateKind::PAPER);
    let gpu = load::gpu(global, false)?;
    let model = file.load(&gpu)?;
    let weights = adapter_engine::model::weight_bytes(&file.gguf)?;
    let mut tests = Vec::new();
    for rows in &flags.train {
        let mut trainer = trainer(&model, shape, *rows, flags.f16, flags.repetitions)?;
        let n_tokens = rows.n_rows * rows.n_tokens;
        let mut memory = train::memory(config, weights, n_layers, flags.adapter_len, n_tokens);
        if flags.f16 {
            memory = memory.rounded(config, n_tokens);
        }
        tests.push(measure(&mut trainer, *rows, flags.repetitions, memory.total() - memory.optimizer)?);
    }
    let summary = gpu.summary().clone();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        model: file.name(),
        quantization: file.gguf.main_type().to_owned(),
        backend: summary.backend,
        gpu: summary.name,
        driver: summary.driver,
        tier: gpu.tier().to_string(),
        adapter_len: flags.adapter_len,
        adapter_layers: n_layers,
        trained_parameters: shape.n_parameters(),
        peak_rss_bytes: peak_rss(),
        tests,
        kernels: Vec::new(),
    };
    drop((model, gpu)); // its memory, before the model is loaded again
    if global.verbose {
        report.kernels = profile(global, flags, file, shape)?;
    }
    write(&report, flags.format)
}

/// A trainer for `steps` measured steps and the one before them.
fn trainer(model: &Model, shape: AdapterShape, rows: TrainRows, f16: bool, steps: u32) -> Result<Trainer, Failure> {
    load::before_training(model)?;
    let step = train::Trainer::new(model, shape.n_layers, shape.adapter_len, rows.n_rows * rows.n_tokens)?;
    let llama = GpuLlama::of(step.rounded(f16))?;
    let recipe = Recipe::new(LEARNING_RATE, 0, u64::from(steps) + 1);
    Ok(Trainer::new(Frozen::Gpu(Arc::new(llama)), shape, recipe, 0)?)
}

/// One step more of each test, with a timestamp around each kernel.
fn profile(global: &Global, flags: &Bench, file: &ModelFile, shape: AdapterShape) -> Result<Vec<KernelTable>, Failure> {
    let gpu = load::gpu(global, true)?;
    let model = file.load(&gpu)?;
    let mut tables = Vec::new();
    for rows in &flags.train {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        let mut trainer = trainer(&model, shape, *rows, flags.f16, 1)?;
        let batch = batch(*rows, file.config.n_vocab);
        block_on(trainer.train(&batch))?;
        gpu.take_profile();
        block_on(trainer.train(&batch))?;
        gpu.wait()?;
        let Some(table) = KernelTable::new(rows.test(), "step", 1, gpu.take_profile()) else { break };
        tables.push(table);
    }
    Ok(tables)
}

/// One step to compile and to touch all memory, then those that count.
fn measure(trainer: &mut Trainer, rows: TrainRows, repetitions: u32, predicted_bytes: u64) -> Result<Test, Failure> {
    let test = rows.test();
    let batch = batch(rows, trainer.frozen().config().n_vocab);
    let bar = output::bar(u64::from(repetitions) + 1, &format!("{test} {{wide_bar}} {{pos}}/{{len}}"));
    let (mut steps_s, mut losses) = (Vec::new(), Vec::new());
    for step in 0..=repetitions {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        let start = Instant::now();
        let report = block_on(trainer.train(&batch))?;
        if let Some(what) = report.skipped {
            return Err(Failure::failed(
                format!("{test}: the {what} of step {} is not finite: its time would mean nothing", report.step),
                "`adapter-cli doctor` checks this GPU's kernels",
            ));
        }
        // The loss has been read back: the step is over.
        let seconds = start.elapsed().as_secs_f64();
        losses.push(report.loss);
        if step > 0 {
            steps_s.push(seconds);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let samples: Vec<f64> =
        steps_s.iter().map(|seconds| output::rounded(f64::from(batch.n_tokens()) / seconds)).collect();
    let gpu_bytes = match trainer.frozen() {
        Frozen::Gpu(llama) => llama.model().gpu().used_bytes(),
        Frozen::Cpu(_) => 0,
    };
    Ok(Test {
        test,
        n_rows: rows.n_rows,
        n_tokens: rows.n_tokens,
        tokens_per_second: spread(&samples),
        steps_s: steps_s.into_iter().map(output::rounded).collect(),
        losses,
        gpu_bytes,
        predicted_bytes,
    })
}

impl TrainRows {
    /// The test's name.
    fn test(self) -> String {
        format!("train{}x{}", self.n_rows, self.n_tokens)
    }
}

/// Rows of ids by a fixed rule, every one but a row's first a target: what they say does not change what they cost.
fn batch(rows: TrainRows, n_vocab: u32) -> Batch {
    let mut batch = Batch::default();
    for row in 0..u64::from(rows.n_rows) {
        let first = row * u64::from(rows.n_tokens) + 1;
        let id = |i: u64| (i.wrapping_mul(2_654_435_761) % u64::from(n_vocab)) as u32;
        let ids: Vec<u32> = (first..first + u64::from(rows.n_tokens)).map(id).collect();
        batch.push(&ids, &vec![true; ids.len()]);
    }
    batch
}

fn write(report: &Report, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if format == Format::Json {
        out.write_all(&output::json_pretty(report)?)?;
        return Ok(());
    }
    let right = Align::Right;
    let mut table = Table::new(&[
        ("model", Align::Left),
        ("adapter", Align::Left),
        ("gpu", Align::Left),
        ("test", right),
        ("t/s", right),
        ("s a step", right),
        ("GPU memory", right),
        ("predicted", right),
    ]);
    for test in &report.tests {
        let speed = &test.tokens_per_second;
        table.row([
            format!("{} {}", report.model, report.quantization),
            format!("{} x {}", report.adapter_layers, report.adapter_len),
            report.gpu.clone(),
            test.test.clone(),
            format!("{:.2} ± {:.2}", speed.mean, speed.stddev),
            format!("{:.3}", f64::from(test.n_rows * test.n_tokens) / speed.median.max(f64::MIN_POSITIVE)),
            figures::bytes(test.gpu_bytes),
            figures::bytes(test.predicted_bytes),
        ]);
    }
    table.write(&mut out)?;
    kernels::write(&mut out, &report.kernels)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_its_rows_side_by_side_and_learns_all_but_their_first_tokens() {
        let batch = batch(TrainRows { n_rows: 4, n_tokens: 128 }, 49_152);
        assert_eq!((batch.n_tokens(), batch.n_targets()), (512, 4 * 127));
        assert_eq!(batch.starts().iter().copied().max(), Some(384));
        batch.check(512, 49_152).expect("a batch the engine takes");
    }
}
