//! `finetune`: teaches an adapter.

mod flags;
mod samples;
mod settings;
mod show;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_engine::text::Tokenizer;
use adapter_engine::train;
use adapter_finetune::checkpoint::Checkpoint;
use adapter_finetune::data::{Dataset, Renderer};
use adapter_finetune::frozen::{CpuLlama, GpuLlama};
use adapter_finetune::metrics::{End, Eval, Record, Step};
use adapter_finetune::run_folder::{self, RunFolder};
use adapter_finetune::{Event, Frozen, Run, RunSettings, Trainer};
use pollster::block_on;

pub use flags::Finetune;

use crate::failure::Failure;
use crate::flags::{Global, Kv, ModelFlags};
use crate::load::{self, ModelFile};
use crate::printable;
use crate::{interrupt, output};
use flags::Backend;
use samples::Samples;
use show::Show;

/// The adapter of the last step.
const LAST: &str = "last.safetensors";

/// Runs the command.
///
/// # Errors
/// Settings, rows, a model or an adapter that cannot be used; a run that diverged; a GPU or a disk that fails.
pub fn run(global: &Global, flags: &Finetune) -> Result<(), Failure> {
    let flags = &flags.with_file()?;
    let show = Show::new(flags.json);
    let model = ModelFlags { model: flags.model.clone(), context: None, kv: Kv::F32, prompt_lookup: None };
    let file = ModelFile::open(&load::model_path(&model)?)?;
    let start = match &flags.adapter {
        Some(path) => Some(load::fitting_adapter(path, flags.gate, None, &file)?.1),
        None => None,
    };
    let shape = flags.shape(&file.config, start.as_ref())?;
    let Some(data) = &flags.data else {
        return Err(Failure::wrong_use("no rows to learn are named", "name a .json or .jsonl file with --data"));
    };
    let tokenizer = file.tokenizer()?;
    let options = flags.data_options()?;
    let dataset = {
        let _busy = interrupt::busy();
        Dataset::open(data, flags.val.as_deref(), &tokenizer, &options, &mut |_| interrupt::flow())?
    };
    if let Some(n) = flags.show_sample {
        return show.say_raw(&show::samples(&dataset.training.show_sample(&tokenizer, n)?));
    }
    if flags.f16 && flags.backend() == Backend::Cpu {
        return Err(Failure::wrong_use("--backend cpu computes in f32", "leave --f16 out, or train on a GPU"));
    }
    let settings = flags.run_settings(&dataset, shape)?;
    let resolved = flags.resolved(&settings, &file.path);
    if flags.print_config {
        return show.say_raw(&resolved.to_toml()?);
    }
    show.data(&dataset.report)?;
    show.say(&plan(&settings, &file, &dataset))?;
    if flags.dry_run {
        return dry_run(&show, flags, &settings, &file);
    }
    let renderer = Renderer::new(&tokenizer, &options)?;
    let inputs = Inputs { flags, file: &file, tokenizer: &tokenizer, dataset: &dataset, renderer: &renderer };
    train(global, inputs, settings, &resolved, start.as_ref(), show)
}

/// What a run is made of.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    flags: &'a Finetune,
    file: &'a ModelFile,
    tokenizer: &'a Tokenizer,
    dataset: &'a Dataset,
    renderer: &'a Renderer<'a>,
}

/// The run in numbers, before it begins.
fn plan(settings: &RunSettings, file: &ModelFile, dataset: &Dataset) -> String {
    let RunSettings { shape, recipe, .. } = settings;
    let weights: u64 = file.gguf.tensors().iter().map(|tensor| tensor.elements()).sum();
    let parameters = shape.n_parameters();
    let rows_a_step = dataset.training.len() as f64 * f64::from(settings.batch_tokens)
        / (dataset.training.n_tokens() as f64).max(f64::from(settings.batch_tokens));
    format!(
        "model {}: {} parameters, frozen; adapter {}: {} prompts in each of the last {} of {} layers, {} parameters learn ({:.3} %)\n\
         {} steps of up to {} tokens (about {rows_a_step:.0} rows), learning rate up to {:.2e} after {} steps (the paper's code would use {:.2e} for such batches)",
        file.name(),
        output::count(weights),
        shape.kind.name(),
        shape.adapter_len,
        shape.n_layers,
        file.config.n_layers,
        grouped(parameters),
        parameters as f64 / weights.max(1) as f64 * 100.0,
        recipe.n_steps,
        settings.batch_tokens,
        recipe.learning_rate,
        recipe.warmup_steps,
        adapter_finetune::recipe::official_rate(rows_a_step),
    )
}

/// `1,229,760`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What the run would need of memory.
fn dry_run(show: &Show, flags: &Finetune, settings: &RunSettings, file: &ModelFile) -> Result<(), Failure> {
    let RunSettings { shape, batch_tokens, .. } = settings;
    if flags.backend() == Backend::Cpu {
        let weights: u64 = file.gguf.tensors().iter().map(|tensor| tensor.elements()).sum();
        return show.say(&format!("memory: {} of weights in f32, and activations on top", output::bytes(weights * 4)));
    }
    let weights = adapter_engine::model::weight_bytes(&file.gguf)?;
    let mut memory = train::memory(&file.config, weights, shape.n_layers, shape.adapter_len, *batch_tokens);
    if flags.f16 {
        memory = memory.rounded(&file.config, *batch_tokens);
    }
    let (largest, largest_bytes) = memory.largest;
    let items = [
        ("weights", memory.weights),
        ("activations of a block", memory.activations),
        ("saved activations", memory.saved),
        ("logits", memory.logits),
        ("prompt keys and values", memory.adapter),
        ("rounding", memory.rounding),
        ("adapter and optimizer", memory.optimizer),
    ];
    let items = items.iter().filter(|(_, n)| *n > 0);
    let items: Vec<String> = items.map(|(what, n)| format!("{what} {}", output::bytes(*n))).collect();
    show.say(&format!(
        "GPU memory: {} ({}); largest buffer {}: {largest}",
        output::bytes(memory.total()),
        items.join(", "),
        output::bytes(largest_bytes),
    ))
}

fn frozen(global: &Global, inputs: Inputs<'_>, settings: &RunSettings) -> Result<Frozen, Failure> {
    let RunSettings { shape, batch_tokens, .. } = settings;
    let _busy = interrupt::busy();
    Ok(match inputs.flags.backend() {
        Backend::Wgpu => {
            let gpu = load::gpu(global, false)?;
            let model = inputs.file.load(&gpu)?;
            load::before_training(&model)?;
            let step = train::Trainer::new(&model, shape.n_layers, shape.adapter_len, *batch_tokens)?;
            Frozen::Gpu(Arc::new(GpuLlama::of(step.rounded(inputs.flags.f16))?))
        }
        Backend::Cpu => {
            let bar = output::bar(0, "Dequantizing {wide_bar} {pos}/{len} tensors");
            let mut progress = |done, total| {
                bar.set_length(total);
                bar.set_position(done);
                interrupt::flow()
            };
            let llama = CpuLlama::load(&inputs.file.gguf, &inputs.file.source, &mut progress);
            bar.finish_and_clear();
            Frozen::Cpu(Arc::new(llama?))
        }
    })
}

fn train(
    global: &Global,
    inputs: Inputs<'_>,
    settings: RunSettings,
    resolved: &Finetune,
    start: Option<&AdapterFile>,
    mut show: Show,
) -> Result<(), Failure> {
    let Inputs { flags, file, dataset, .. } = inputs;
    let out = flags.out()?;
    let base = BaseModel::of(&file.gguf, &file.source).map_err(|error| Failure::from(error).at(&file.path))?;
    let checkpoint = match &flags.resume {
        Some(resume) => Some(run_folder::to_resume(resume, &settings, dataset.training.fingerprint())?),
        None => None,
    };
    let mut folder = match &checkpoint {
        Some(Checkpoint { snapshot, .. }) => {
            show.say(&format!("going on after step {}: {}", snapshot.step, out.display()))?;
            RunFolder::resume(&out, base, snapshot.step)?
        }
        None => RunFolder::create(&out, base, &resolved.to_toml()?)?,
    };
    let frozen = frozen(global, inputs, &settings)?;
    let mut samples = match &frozen {
        Frozen::Gpu(llama) => {
            let (texts, n) = (&flags.sample, flags.sample_tokens());
            Some(Samples::new(llama.model(), inputs.tokenizer, inputs.renderer, dataset, texts, n)?)
        }
        Frozen::Cpu(_) => {
            show.say("sample answers need a GPU: none are shown with --backend cpu")?;
            None
        }
    };
    let (training, validation) = (&dataset.training, &dataset.validation);
    let mut seconds = 0.0;
    let run = match checkpoint {
        Some(Checkpoint { snapshot, progress }) => {
            seconds = progress.seconds;
            let trainer = Trainer::resume(frozen, settings.shape, settings.recipe.clone(), &snapshot)?;
            Run::resume(trainer, training, validation, settings, progress.place())?
        }
        None => {
            let run = Run::new(frozen, training, validation, settings, start)?;
            ask(&mut samples, start, 0, &mut folder, &show)?;
            run
        }
    };
    show.start(run.settings().recipe.n_steps, run.trainer().step());
    let save_every = flags.save_every(run.settings());
    let mut work = Work { run, folder, show, samples, save_every, seconds };
    let end = work.work();
    work.show.finish();
    work.end(end, &file.path)
}

/// Asks the samples, shows and keeps the answers.
fn ask(
    samples: &mut Option<Samples<'_>>,
    adapter: Option<&AdapterFile>,
    step: u64,
    folder: &mut RunFolder,
    show: &Show,
) -> Result<(), Failure> {
    let Some(samples) = samples else { return Ok(()) };
    let answers = samples.ask(adapter)?;
    for (question, (answer, cut)) in samples.questions.iter().zip(answers) {
        let more = if cut { " ..." } else { "" };
        let (question_shown, answer_shown) =
            (printable::shortened(&question.text, 100), printable::shortened(&answer, 300));
        show.say(&format!("  > {question_shown}\n    {answer_shown}{more}"))?;
        let record = Record::Sample { step, prompt: question.text.clone(), answer };
        show.record(&record)?;
        folder.record(record)?;
    }
    Ok(())
}

/// Why a run is over.
enum Over {
    Done { early: bool },
    Interrupted,
}

/// A run and everything around it.
struct Work<'a> {
    run: Run<'a>,
    folder: RunFolder,
    show: Show,
    samples: Option<Samples<'a>>,
    save_every: u64,
    seconds: f64,
}

impl Work<'_> {
    fn work(&mut self) -> Result<Over, Failure> {
        loop {
            // Steps are short: Ctrl+C waits for the one under way.
            let busy = interrupt::busy();
            let start = Instant::now();
            let event = block_on(self.run.next())?;
            let took = start.elapsed().as_secs_f64();
            self.seconds += took;
            let stop = interrupt::requested();
            drop(busy);
            match event {
                Event::Step { report, epoch } => {
                    if let Some(what) = report.skipped {
                        self.show
                            .say(&format!("step {}: the {what} is not finite; the step is left out", report.step))?;
                    }
                    let step = Step::of_report(&report, epoch, took, self.seconds);
                    self.show.step(report.step, f64::from(report.loss), step.lr, step.tokens_per_sec)?;
                    let record = Record::Step(step);
                    self.show.record(&record)?;
                    self.folder.record(record)?;
                    if report.step.is_multiple_of(self.save_every) && !self.run.place().validation_due {
                        self.save()?;
                    }
                }
                Event::Validation { step, loss, best } => {
                    let record = Record::Eval(Eval::of_loss(step, loss, best));
                    let mark = if best { ", the best so far" } else { "" };
                    self.show
                        .say(&format!("step {step}: validation loss {loss:.4} (perplexity {:.2}){mark}", loss.exp()))?;
                    self.show.record(&record)?;
                    self.folder.record(record)?;
                    let adapter = block_on(self.run.trainer().adapter())?;
                    if best {
                        self.folder.adapter(run_folder::ADAPTER, adapter.clone())?;
                    }
                    if !stop && step > 0 {
                        ask(&mut self.samples, Some(&adapter), step, &mut self.folder, &self.show)?;
                    }
                    if step > 0 && step.is_multiple_of(self.save_every) {
                        self.save()?;
                    }
                }
                Event::Done { early } => return Ok(Over::Done { early }),
            }
            if stop {
                return Ok(Over::Interrupted);
            }
        }
    }

    /// Writes a checkpoint, once a step.
    fn save(&mut self) -> Result<(), Failure> {
        if let Some(record) = block_on(self.folder.checkpoint(&self.run, self.seconds))? {
            self.show.record(&record)?;
            self.folder.record(record)?;
        }
        Ok(())
    }

    /// Keeps what there is and says how it ended.
    fn end(mut self, end: Result<Over, Failure>, model: &Path) -> Result<(), Failure> {
        let early = matches!(end, Ok(Over::Done { early: true }));
        let (reason, outcome) = match end {
            Ok(Over::Done { early: false }) => ("done".to_owned(), Ok(())),
            Ok(Over::Done { early: true }) => ("early".to_owned(), Ok(())),
            Ok(Over::Interrupted) => ("interrupted".to_owned(), Err(Failure::Interrupted)),
            Err(failure) => (failure.to_string(), Err(failure)),
        };
        if matches!(outcome, Ok(()) | Err(Failure::Interrupted)) {
            self.save()?;
            let last = block_on(self.run.trainer().adapter())?;
            self.folder.adapter(LAST, last.clone())?;
            if self.run.place().best.is_none() {
                self.folder.adapter(run_folder::ADAPTER, last.clone())?;
            }
            self.folder.pictures(&last, self.run.trainer().shape().gate_width())?;
        }
        let end = self.folder.ended(&self.run, reason, output::rounded(self.seconds));
        let record = Record::End(end.clone());
        self.show.record(&record)?;
        self.folder.record(record)?;
        match outcome {
            Ok(()) => self.summary(&end, early, model),
            Err(Failure::Interrupted) => {
                let path = self.folder.path().display();
                self.show.say(&format!(
                    "stopped after step {}; go on with: adapter-cli finetune --resume {path}",
                    end.step
                ))?;
                Err(Failure::Interrupted)
            }
            Err(failure) => Err(failure),
        }
    }

    fn summary(&self, end: &End, early: bool, model: &Path) -> Result<(), Failure> {
        let losses: Vec<f32> = self
            .folder
            .records()
            .iter()
            .filter_map(|record| if let Record::Step(step) = record { Some(step.loss? as f32) } else { None })
            .collect();
        let place = self.run.place();
        let step = end.step;
        let time = show::duration(Duration::from_secs_f64(self.seconds));
        let mut text = match early {
            true => format!("stopped early after step {step}: validation no longer gained"),
            false => format!("{step} steps"),
        };
        text += &format!(" in {time}, {:.0} tokens/s\n", place.tokens as f64 / self.seconds.max(1e-9));
        text += &format!("loss {}\n", adapter_finetune::plot::sparkline(&losses, 60));
        if let Some(loss) = end.loss {
            text += &format!("final loss {loss:.4} (perplexity {:.2})", loss.exp());
        }
        if let Some(best) = place.best {
            text += &format!(
                "; best validation {:.4} (perplexity {:.2}) at step {}",
                best.loss,
                best.loss.exp(),
                best.step
            );
        }
        if end.skipped_steps > 0 {
            text += &format!("; {} steps left out", end.skipped_steps);
        }
        let path = self.folder.path().display();
        text += &format!("\n{path}/ holds the adapter, metrics.jsonl, loss.svg and gates.svg. Talk to it:\n");
        text += &format!("  adapter-cli chat -m {} -a {path}", model.display());
        self.show.say(&text)
    }
}
