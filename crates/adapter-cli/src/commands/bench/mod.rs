//! `bench`: how fast a model reads (pp) and writes (tg), in the shape of llama-bench; and how fast an adapter trains.

mod flags;
mod kernels;
#[cfg(feature = "train")]
mod train;

use std::io::{self, Write};
use std::time::Instant;

use adapter_engine::answer;
use adapter_engine::model::Config;
use adapter_engine::sampler::Sampling;
use adapter_engine::session::{self, Rows, SessionOptions};
use adapter_engine::{Adapter, Model, Session};
use adapter_host::figures;
use pollster::block_on;
use serde::Serialize;

pub use self::flags::Bench;
use self::flags::Format;
use self::kernels::KernelTable;
use crate::failure::Failure;
use crate::flags::Global;
use crate::interrupt;
use crate::load::{self, ModelFile};
use crate::output::{self, Align, Table};

/// One row of the result.
#[derive(Debug, Serialize)]
struct Test {
    test: String,
    n_prompt: u32,
    n_gen: u32,
    /// Tokens in the context before it.
    n_depth: u32,
    tokens_per_second: Spread,
    samples: Vec<f64>,
    /// What the GPU held after it: weights, activations and the cache, which grows by doubling.
    gpu_bytes: u64,
    /// What was to be expected of that: weights, cache and activations.
    predicted_bytes: u64,
}

/// Tokens a second over the repetitions.
#[derive(Debug, Serialize)]
struct Spread {
    mean: f64,
    stddev: f64,
    median: f64,
    min: f64,
    max: f64,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    model: String,
    quantization: String,
    size_bytes: u64,
    params: u64,
    backend: String,
    gpu: String,
    driver: String,
    tier: String,
    adapter: Option<String>,
    load_ms: f64,
    gpu_bytes: u64,
    /// The most memory this process had, where the system tells (Linux).
    peak_rss_bytes: Option<u64>,
    /// Keys and values of one position in all layers.
    cache_bytes_per_position: u64,
    tests: Vec<Test>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelTable>,
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be used, tests longer than its context, or a GPU that fails.
pub fn run(global: &Global, flags: &Bench) -> Result<(), Failure> {
    let _busy = interrupt::busy();
    let file = ModelFile::open(&load::model_path(&flags.model)?)?;
    if !flags.train.is_empty() {
        #[cfg(feature = "train")]
        return train::run(global, flags, &file);
        #[cfg(not(feature = "train"))]
        return Err(super::no_training::refusal());
    }
    let plans = plans(flags, file.config.n_context)?;
    let mut bench = Prepared::new(global, flags, &file, false)?;
    let mut tests = Vec::new();
    for depth in &flags.depth {
        bench.fill(*depth)?;
        for (kind, n) in &plans {
            tests.push(bench.measure(*kind, *n, flags.repetitions)?);
        }
    }
    let gpu = bench.model.gpu().clone();
    let summary = gpu.summary().clone();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        model: file.name(),
        quantization: file.gguf.main_type().to_owned(),
        size_bytes: file.gguf.tensors().iter().map(|tensor| tensor.size_bytes).sum(),
        params: file.gguf.n_parameters(),
        backend: summary.backend,
        gpu: summary.name,
        driver: summary.driver,
        tier: gpu.tier().to_string(),
        adapter: bench.session.adapter().map(|(adapter, strength)| format!("{} x{strength}", adapter.name())),
        load_ms: bench.load_ms,
        gpu_bytes: gpu.used_bytes(),
        peak_rss_bytes: peak_rss(),
        cache_bytes_per_position: cache_bytes_per_position(&file.config),
        tests,
        kernels: Vec::new(),
    };
    drop((bench, gpu)); // its memory, before the model is loaded again
    if global.verbose {
        report.kernels = profile(global, flags, &file, &plans)?;
    }
    write_report(&report, flags.format)
}

/// The tests the flags ask for.
fn plans(flags: &Bench, n_context: u32) -> Result<Vec<(Kind, u32)>, Failure> {
    let limit = flags.model.context.unwrap_or(n_context).min(n_context);
    let deepest = deepest(flags);
    if deepest > 0 && deepest.saturating_add(flags.n_prompt.max(flags.n_gen)) >= limit {
        let most = limit.saturating_sub(flags.n_prompt.max(flags.n_gen)).saturating_sub(1);
        let message = format!("--depth {deepest} leaves no room for the tests in a context of {limit} tokens");
        let hint = match most {
            0 => "give fewer tokens to -p and -n".to_owned(),
            most => format!("give --depth {most} or less"),
        };
        return Err(Failure::wrong_use(message, hint));
    }
    for (flag, n) in [("-p", flags.n_prompt), ("-n", flags.n_gen)] {
        if n > limit {
            let message = format!("{flag} {n} is more than the context of {limit} tokens");
            return Err(Failure::wrong_use(message, format!("give {flag} {limit} or less")));
        }
    }
    let both = [(Kind::Read, flags.n_prompt), (Kind::Write, flags.n_gen)];
    let plans: Vec<_> = both.into_iter().filter(|(_, n)| *n > 0).collect();
    if plans.is_empty() {
        return Err(Failure::wrong_use("both tests have 0 tokens", "give -p or -n a number"));
    }
    Ok(plans)
}

fn deepest(flags: &Bench) -> u32 {
    flags.depth.iter().copied().max().unwrap_or_default()
}

/// Keys and values, f32, of one position in all layers.
fn cache_bytes_per_position(config: &Config) -> u64 {
    let heads = config.heads();
    2 * 4 * u64::from(config.n_layers) * u64::from(heads.n_kv_heads) * u64::from(heads.head_dim)
}

struct Prepared<'f> {
    file: &'f ModelFile,
    model: Model,
    session: Session,
    load_ms: f64,
    options: SessionOptions,
    /// Tokens before each test, in the cache.
    depth: u32,
}

impl<'f> Prepared<'f> {
    fn new(global: &Global, flags: &Bench, file: &'f ModelFile, profile: bool) -> Result<Self, Failure> {
        let start = Instant::now();
        let adapter = load::adapter_of(&flags.adapter, file)?;
        let gpu = load::gpu(global, profile)?;
        let model = file.load(&gpu)?;
        let context = Some(deepest(flags).saturating_add(flags.n_prompt.max(flags.n_gen)).saturating_add(1));
        let options = SessionOptions { context, cache_format: flags.model.kv.format(), ..SessionOptions::default() };
        let mut session = Session::new(&model, &options)?;
        let adapter = match adapter {
            Some((name, file)) => Some(Adapter::load(&model, &name, &file)?),
            None => None,
        };
        session.set_adapter(adapter.as_ref().map(|adapter| (adapter, flags.adapter.strength)))?;
        gpu.wait()?;
        let load_ms = output::rounded(start.elapsed().as_secs_f64() * 1e3);
        Ok(Self { file, model, session, load_ms, options, depth: 0 })
    }

    /// Ids spread over the vocabulary by a fixed rule: which ones does not matter, that they are the same does.
    fn ids(&self, n: u32) -> Vec<u32> {
        let n_vocab = u64::from(self.model.config().n_vocab);
        (1..=u64::from(n)).map(|i| (i.wrapping_mul(2_654_435_761) % n_vocab) as u32).collect()
    }

    /// Puts `depth` tokens into the cache; what is there of them is kept.
    fn fill(&mut self, depth: u32) -> Result<(), Failure> {
        let kept = self.depth.min(depth) as usize;
        self.session.truncate(kept);
        let ids = self.ids(depth);
        let missing = ids.get(kept..).unwrap_or_default();
        let bar = output::bar(missing.len() as u64, &format!("filling {depth} {{wide_bar}} {{pos}}/{{len}}"));
        // In pieces, so that Ctrl+C is heard.
        for piece in missing.chunks(256) {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            block_on(self.session.logits(piece, Rows::Last))?;
            bar.inc(piece.len() as u64);
        }
        bar.finish_and_clear();
        self.depth = depth;
        Ok(())
    }

    fn measure(&mut self, kind: Kind, n: u32, repetitions: u32) -> Result<Test, Failure> {
        let mut test = match kind {
            Kind::Read => format!("pp{n}"),
            Kind::Write => format!("tg{n}"),
        };
        if self.depth > 0 {
            test += &format!(" @ d{}", self.depth); // llama-bench's way to say it
        }
        let bar = output::bar(u64::from(repetitions), &format!("{test} {{wide_bar}} {{pos}}/{{len}}"));
        let mut samples = Vec::new();
        self.once(kind, n)?; // shaders are compiled and pages are touched by now
        for _ in 0..repetitions {
            samples.push(output::rounded(f64::from(n) / self.once(kind, n)?));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let (n_prompt, n_gen) = match kind {
            Kind::Read => (n, 0),
            Kind::Write => (0, n),
        };
        let gpu_bytes = self.model.gpu().used_bytes();
        let (gguf, tier) = (&self.file.gguf, self.model.gpu().tier());
        let predicted = session::memory(gguf, self.model.config(), tier, &self.options, self.depth + n)?;
        Ok(Test {
            test,
            n_prompt,
            n_gen,
            n_depth: self.depth,
            tokens_per_second: spread(&samples),
            samples,
            gpu_bytes,
            predicted_bytes: predicted.total(),
        })
    }

    /// One run after what [`Self::fill`] left; seconds.
    fn once(&mut self, kind: Kind, n: u32) -> Result<f64, Failure> {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        let depth = self.depth as usize;
        self.session.truncate(depth);
        let ids = self.ids(self.depth.saturating_add(n));
        // What the last run computed ahead is not part of this one.
        self.model.gpu().wait()?;
        let start = Instant::now();
        match kind {
            Kind::Read => {
                block_on(self.session.logits(ids.get(depth..).unwrap_or_default(), Rows::Last))?;
            }
            Kind::Write => {
                let prompt = ids.get(..=depth).unwrap_or_default();
                let greedy = Sampling::greedy();
                block_on(answer::ids(&mut self.session, prompt, &greedy, n as usize, &mut interrupt::flow))?;
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

fn spread(samples: &[f64]) -> Spread {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    let mean = sorted.iter().sum::<f64>() / (n.max(1) as f64);
    let squares: f64 = sorted.iter().map(|sample| (sample - mean).powi(2)).sum();
    // Of a sample, as llama-bench has it: n - 1.
    let stddev = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
    let median = f64::midpoint(at(n.saturating_sub(1) / 2), at(n / 2));
    let [mean, stddev, median] = [mean, stddev, median].map(output::rounded);
    Spread { mean, stddev, median, min: at(0), max: at(n.saturating_sub(1)) }
}

/// Runs every test once more with a timestamp around each kernel, which slows everything down: so apart from the figures.
fn profile(
    global: &Global,
    flags: &Bench,
    file: &ModelFile,
    plans: &[(Kind, u32)],
) -> Result<Vec<KernelTable>, Failure> {
    let mut bench = Prepared::new(global, flags, file, true)?;
    let mut tables = Vec::new();
    bench.fill(deepest(flags))?;
    for (kind, n) in plans {
        bench.once(*kind, *n)?;
        bench.model.gpu().take_profile();
        bench.once(*kind, *n)?;
        bench.model.gpu().wait()?;
        let times = bench.model.gpu().take_profile();
        // Writing computes a token ahead of the last one asked for; each token begins with an embedding.
        let embeddings = times.iter().find(|time| time.kernel == "embedding").map(|time| time.count);
        let (name, tokens) = match kind {
            Kind::Read => ("pp", u64::from(*n)),
            Kind::Write => ("tg", embeddings.unwrap_or_else(|| u64::from(*n))),
        };
        let Some(table) = KernelTable::new(format!("{name}{n}"), "token", tokens, times) else { break };
        tables.push(table);
    }
    Ok(tables)
}

fn write_report(report: &Report, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if format == Format::Json {
        out.write_all(&output::json_pretty(report)?)?;
        return Ok(());
    }
    let columns = [
        ("model", Align::Left),
        ("size", Align::Right),
        ("params", Align::Right),
        ("backend", Align::Left),
        ("gpu", Align::Left),
        ("test", Align::Right),
        ("t/s", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for test in &report.tests {
        let speed = &test.tokens_per_second;
        table.row([
            format!("{} {}", report.model, report.quantization),
            figures::bytes(report.size_bytes),
            figures::count(report.params),
            report.backend.clone(),
            report.gpu.clone(),
            test.test.clone(),
            format!("{:.2} ± {:.2}", speed.mean, speed.stddev),
        ]);
    }
    table.write(&mut out)?;
    kernels::write(&mut out, &report.kernels)?;
    out.flush()?;
    Ok(())
}

/// `VmHWM` of `/proc/self/status`; other systems have no file that says it.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_that_of_a_sample() {
        let spread = spread(&[4.0, 1.0, 3.0, 2.0]);
        assert!((spread.mean - 2.5).abs() < 1e-12);
        assert!((spread.median - 2.5).abs() < 1e-12);
        assert!((spread.stddev - 1.291).abs() < 1e-12); // sqrt(5 / 3)
        assert!((spread.max - 4.0).abs() < 1e-12 && (spread.min - 1.0).abs() < 1e-12);
        assert!(super::spread(&[7.0]).stddev.abs() < 1e-12);
    }
}
