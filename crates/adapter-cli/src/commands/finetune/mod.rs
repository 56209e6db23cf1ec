//! `finetune`: trains an adapter.

mod advice;
mod flags;
mod settings;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_engine::text::{ChatTemplate, Tokenizer};
use adapter_engine::train;
use adapter_finetune::checkpoint::{Checkpoint, Ground};
use adapter_finetune::data::{Dataset, Question, Renderer, grouped};
use adapter_finetune::driver::{Outcome, Store as _};
use adapter_finetune::frozen::{CpuLlama, GpuLlama};
use adapter_finetune::metrics::Record;
use adapter_finetune::run_folder::{self, Made, Reserved, RunFolder};
use adapter_finetune::samples::{self, Samples};
use adapter_finetune::settings::rows_over_context;
use adapter_finetune::{Backend, Driver, Frozen, Run, RunMemory, RunOptions, RunSettings, TrainError, Trainer};
use adapter_host::figures;
use pollster::block_on;

pub use advice::advice;
pub use flags::Finetune;

use crate::failure::Failure;
use crate::flags::{Global, Kv, ModelFlags};
use crate::load::{self, ModelFile};
use crate::{interrupt, output};
use show::{Show, Watch};

/// Runs the command.
///
/// # Errors
/// Settings, rows, a model or an adapter that cannot be used; a run that diverged; a GPU or a disk that fails.
pub fn run(global: &Global, flags: &Finetune) -> Result<(), Failure> {
    let options = &flags.with_file()?;
    let show = Show::new(flags.json);
    let model = ModelFlags { model: options.model.clone(), context: None, kv: Kv::F32, prompt_lookup: None };
    let file = ModelFile::open(&load::model_path(&model)?)?;
    options.check(&file.config)?;
    let out = settings::out(flags, options)?;
    let found = match &flags.resume {
        Some(resume) => Some(run_folder::newest(resume)?),
        None => None,
    };
    if matches!(found, Some(None)) {
        show.say(&format!("there is no checkpoint in {} yet: the run begins anew", out.display()))?;
    }
    let found = found.flatten();
    let base = BaseModel::of(&file.gguf, &file.source).map_err(|error| Failure::from(error).at(&file.path))?;
    let (start, shape) = match (&found, &options.adapter) {
        (Some(found), _) => {
            run_folder::check_base(&out, found, &base)?;
            (None, options.shape_of_checkpoint(&file.config, &found.snapshot.adapter)?)
        }
        (None, Some(path)) => {
            let start = load::fitting_adapter(path, options.gate, None, &file)?.1;
            let shape = options.shape(&file.config, Some(&start))?;
            (Some(start), shape)
        }
        (None, None) => {
            say_what_is_inside(&file);
            (None, options.shape(&file.config, None)?)
        }
    };
    let Some(data) = &options.data else {
        return Err(Failure::wrong_use("no rows to train on are named", "name a .json or .jsonl file with --data"));
    };
    let tokenizer = file.tokenizer()?;
    // A run that goes on, or goes on with an adapter, asks as before.
    let before = found.as_ref().map(|found| &found.snapshot.adapter).or(start.as_ref());
    let data_options = options.data_options()?.or_template(before.and_then(|file| file.chat_template.as_deref()));
    let dataset = {
        let _busy = interrupt::busy();
        Dataset::open(data, options.val.as_deref(), &tokenizer, &data_options, &mut |_| interrupt::flow())?
    };
    if let Some(n) = flags.show_sample {
        return show.say_raw(&show::samples(&dataset.training.show_sample(&tokenizer, n)?));
    }
    let settings = options.run_settings(&dataset, shape)?;
    let resolved = options.resolved(&settings, &file.path);
    if flags.print_config {
        return show.say_raw(&resolved.to_toml()?);
    }
    let renderer = Renderer::new(&tokenizer, &data_options)?;
    let questions = samples::questions(
        &renderer,
        &tokenizer,
        &dataset,
        &options.sample,
        options.sample_tokens(),
        file.config.n_context,
    )?;
    show.data(&dataset.report, flags.dry_run)?;
    let template = renderer.template().source();
    show.say(&format!(
        "chat template {}, kept with the adapter",
        ChatTemplate::name_of(template).unwrap_or("as in the model or in the adapter")
    ))?;
    let base = base.asked_with(template);
    let too_long = [&dataset.training, &dataset.validation].map(|rows| rows_over_context(rows, file.config.n_context));
    if let n @ 1.. = too_long.into_iter().sum::<u64>() {
        show.say(&format!(
            "{} with more tokens than the model's context of {}: a chat can never be so long",
            if n == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(n)) },
            grouped(file.config.n_context.into())
        ))?;
    }
    show.say(&plan(&settings, &file, &dataset))?;
    if flags.dry_run {
        return dry_run(&show, options, &settings, &file, &questions);
    }
    let ground = Ground::new(options, &dataset.validation);
    if let Some(found) = &found {
        let fingerprint = dataset.training.fingerprint();
        let made = Made { settings: &settings, fingerprint, base: &base, ground: &ground };
        let unknown = run_folder::check_same(&out, found, &made)?;
        if !unknown.is_empty() {
            let what = unknown.join(" and ");
            output::warn(&format!(
                "the checkpoint is of an older version, which did not note {what}: they are taken as given"
            ));
        }
    }
    let inputs =
        Inputs { options, file: &file, tokenizer: &tokenizer, dataset: &dataset, renderer: &renderer, base, ground };
    train(global, inputs, Begin { settings, resolved, out, found, start, questions }, show)
}

/// Says that the model's file has an adapter, which trains only where it is named.
fn say_what_is_inside(file: &ModelFile) {
    let name = match AdapterFile::from_gguf(&file.gguf, &file.source) {
        Ok(None) => return,
        Ok(Some((name, _))) => format!("the adapter {name}"),
        // Whoever wants to use it is told what is wrong.
        Err(_) => "an adapter".to_owned(),
    };
    output::warn(&format!(
        "the model's file holds {name}, which this run does not begin with; --adapter {} goes on with it",
        output::quoted(&file.path)
    ));
}

/// What a run is made of.
struct Inputs<'a> {
    options: &'a RunOptions,
    file: &'a ModelFile,
    tokenizer: &'a Tokenizer,
    dataset: &'a Dataset,
    renderer: &'a Renderer<'a>,
    base: BaseModel,
    ground: Ground,
}

/// How and where it begins.
struct Begin {
    settings: RunSettings,
    resolved: RunOptions,
    out: PathBuf,
    found: Option<Checkpoint>,
    start: Option<AdapterFile>,
    questions: Vec<Question>,
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
        figures::count(weights),
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

/// What the run would need of memory.
fn dry_run(
    show: &Show,
    options: &RunOptions,
    settings: &RunSettings,
    file: &ModelFile,
    questions: &[Question],
) -> Result<(), Failure> {
    if options.backend() == Backend::Cpu {
        let weights: u64 = file.gguf.tensors().iter().map(|tensor| tensor.elements()).sum();
        return show.say(&format!("memory: {} of weights in f32, and activations on top", figures::bytes(weights * 4)));
    }
    let memory =
        RunMemory::predict(&file.gguf, &file.config, settings, options.f16, questions, options.sample_tokens())?;
    let (largest, largest_bytes) = memory.training.largest;
    let items: Vec<String> = memory.items().iter().map(|(what, n)| format!("{what} {}", figures::bytes(*n))).collect();
    show.say(&format!(
        "GPU memory: {} ({}); largest buffer {}: {largest}",
        figures::bytes(memory.total()),
        items.join(", "),
        figures::bytes(largest_bytes),
    ))
}

fn frozen(global: &Global, inputs: &Inputs<'_>, settings: &RunSettings) -> Result<Frozen, Failure> {
    let RunSettings { shape, batch_tokens, .. } = settings;
    Ok(match inputs.options.backend() {
        Backend::Wgpu => {
            let gpu = load::gpu(global, false)?;
            let config = &inputs.file.config;
            train::check_buffers(config, shape.n_layers, shape.adapter_len, *batch_tokens, gpu.most_bytes())?;
            let model = inputs.file.load(&gpu)?;
            load::before_training(&model)?;
            let step = train::Trainer::new(&model, shape.n_layers, shape.adapter_len, *batch_tokens)?;
            Frozen::Gpu(Arc::new(GpuLlama::of(step.rounded(inputs.options.f16))?))
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

fn train(global: &Global, inputs: Inputs<'_>, begin: Begin, mut show: Show) -> Result<(), Failure> {
    // From here to the end of the program: a stop that comes between two pieces of work must not be lost.
    let _busy = interrupt::busy();
    interrupt::also_at_the_end();
    let Begin { settings, resolved, out, found, start, questions } = begin;
    // Before the model is loaded, so that nobody waits for a refusal; nothing is left of it when the loading fails.
    let reserved = match &found {
        Some(_) => None,
        None => Some(Reserved::new(&out)?),
    };
    let frozen = frozen(global, &inputs, &settings)?;
    let Inputs { options, file, tokenizer, dataset, renderer, base, ground } = inputs;
    let samples = match &frozen {
        Frozen::Gpu(llama) => Samples::new(llama.model(), tokenizer, renderer, questions, options.sample_tokens())?,
        Frozen::Cpu(_) => {
            show.say("sample answers need a GPU: none are shown with --backend cpu")?;
            None
        }
    };
    let save_every = options.save_every(&settings);
    let (training, validation) = (&dataset.training, &dataset.validation);
    let mut seconds = 0.0;
    let (run, folder) = match (found, reserved) {
        (Some(Checkpoint { snapshot, progress }), _) => {
            seconds = progress.seconds;
            let trainer = Trainer::resume(frozen, settings.shape, settings.recipe.clone(), &snapshot)?;
            let run = Run::resume(trainer, training, validation, settings, progress.place())?;
            show.say(&format!("going on after step {}: {}", snapshot.step, out.display()))?;
            (run, RunFolder::resume(&out, base, ground, snapshot.step)?)
        }
        (None, Some(reserved)) => {
            let run = Run::new(frozen, training, validation, settings, start.as_ref())?;
            (run, reserved.begin(base, ground, &resolved.to_toml()?)?)
        }
        (None, None) => return Err(TrainError::NoCheckpoint { path: out.display().to_string() }.into()),
    };
    let folder = folder.with_template(renderer.template().source());
    show.start(run.settings().recipe.n_steps, run.trainer().step());
    let listener = Watch::new(show);
    let mut driver = Driver { run, store: folder, listener, samples, start, save_every, seconds };
    let outcome = block_on(driver.drive());
    finish(driver, outcome, file)
}

/// Says how it ended, and with which exit code.
fn finish(
    driver: Driver<'_, RunFolder, Watch>,
    outcome: Result<Outcome, Failure>,
    file: &ModelFile,
) -> Result<(), Failure> {
    let Driver { run, store: folder, listener, seconds, .. } = driver;
    let Watch { show, lost, diverged, .. } = listener;
    show.finish();
    let path = folder.path();
    let step = run.trainer().step();
    match outcome {
        Err(failure) if diverged => Err(advice::after_divergence(failure, path, run.settings())),
        Err(failure) => Err(failure),
        Ok(Outcome::Stopped) => {
            let kept = match (run.best_kept(), step > run.trainer().skipped()) {
                (Some(best), _) if best.step < step => {
                    format!(
                        "\nadapter.safetensors is the best by validation, that of step {}; last.safetensors that of step {step}",
                        best.step
                    )
                }
                (_, true) => format!("\nadapter.safetensors is that of step {step}"),
                (_, false) => "\nnothing was learnt yet: there is no adapter".to_owned(),
            };
            let text = format!(
                "stopped after step {step}; go on with: adapter-cli finetune --resume {}{kept}",
                output::quoted(path)
            );
            match lost {
                None => {
                    // The reader of the output may be gone as well: what counts is saved.
                    let _ = show.say(&text);
                    Err(Failure::Interrupted)
                }
                Some(Failure::ClosedPipe) => {
                    output::note(&format!("the output was closed: {text}"));
                    Err(Failure::OutputClosed)
                }
                Some(failure) => {
                    output::note(&text);
                    Err(failure)
                }
            }
        }
        Ok(Outcome::Done | Outcome::Early) if lost.is_some() => Err(match lost {
            None | Some(Failure::ClosedPipe) => Failure::OutputClosed,
            Some(failure) => failure,
        }),
        Ok(outcome) => {
            show.say(&summary(&run, &folder, outcome, seconds, &file.path))?;
            // It came while the last files were written, after which there was nothing left to stop.
            if interrupt::requested() { Err(Failure::Interrupted) } else { Ok(()) }
        }
    }
}

fn summary(run: &Run<'_>, folder: &RunFolder, outcome: Outcome, seconds: f64, model: &Path) -> String {
    let records = folder.records();
    let loss_of = |record: &Record| if let Record::Step(step) = record { Some(step.loss? as f32) } else { None };
    let losses: Vec<f32> = records.iter().filter_map(loss_of).collect();
    let end = records.iter().rev().find_map(|record| if let Record::End(end) = record { Some(end) } else { None });
    let step = run.trainer().step();
    let time = figures::duration(seconds);
    let mut text = match outcome {
        Outcome::Early => format!("stopped early after step {step}: validation no longer gained"),
        _ => format!("{step} steps"),
    };
    text += &format!(" in {time}, {:.0} tokens/s\n", run.place().tokens as f64 / seconds.max(1e-9));
    text += &format!("loss {}\n", adapter_finetune::plot::sparkline(&losses, 60));
    if let Some(loss) = end.and_then(|end| end.loss) {
        text += &format!("final loss {loss:.4} (perplexity {:.2})", loss.exp());
    }
    match (run.best_kept(), run.place().best) {
        (Some(best), _) => {
            text += &format!(
                "; best validation {:.4} (perplexity {:.2}) at step {}",
                best.loss,
                best.loss.exp(),
                best.step
            );
        }
        (None, Some(start)) => {
            text += &format!(
                "; no validation was better than before the first step ({:.4}): the adapter is that of the last step",
                start.loss
            );
        }
        (None, None) => {}
    }
    if run.trainer().skipped() > 0 {
        text += &format!("; {} steps left out", run.trainer().skipped());
    }
    let path = folder.path();
    text += &format!("\n{}/ holds the adapter, metrics.jsonl, loss.svg and gates.svg. Talk to it:\n", path.display());
    text += &format!("  adapter-cli chat -m {} -a {}", output::quoted(model), output::quoted(path));
    text
}
