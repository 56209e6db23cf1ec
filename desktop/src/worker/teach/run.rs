//! A run from its first step to its last, or to its stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_files::Problem;
use adapter_finetune::checkpoint::{self, Checkpoint, Progress};
use adapter_finetune::data::{Dataset, Renderer};
use adapter_finetune::frozen::GpuLlama;
use adapter_finetune::metrics::{End, Eval, Record, Step};
use adapter_finetune::{Event as RunEvent, Frozen, Recipe, Run, RunSettings, TrainError, Trainer};
use pollster::block_on;

use super::folder::{Folder, RunFile, read_run};
use super::samples::Samples;
use super::{Ground, Prepared, TeachEnd, TeachEvent, TeachSettings, of_data, of_training, prepare};
use crate::worker::{Event, Events, Stop};

/// Checkpoints kept beside the best one.
const KEPT: usize = 2;

/// Trains until the last step or the stop.
pub(super) fn teach(
    ground: &Ground,
    settings: TeachSettings,
    resume: bool,
    stops: &[Stop; 2],
    events: &Events,
) -> Result<TeachEnd, Problem> {
    let out = settings.out.clone();
    let kept = if resume { Some(read_run(&out)?) } else { None };
    let settings = match &kept {
        Some(file) => file.settings(&out),
        None => settings,
    };
    let Prepared { dataset, options, mut run, mut plan } = prepare(ground, &settings)?;
    if let Some(file) = &kept {
        run.recipe = Recipe {
            weight_decay: file.weight_decay,
            max_grad_norm: (file.max_grad_norm != 0.0).then_some(file.max_grad_norm),
            ..Recipe::new(file.lr, file.warmup, file.steps)
        };
        run.validate_every = file.validate_every;
        plan.n_steps = file.steps;
    }
    let base = BaseModel::of(&ground.file.gguf, &ground.file.source)?;
    let found = if resume { Some(to_resume(&out, &run, &dataset)?) } else { None };
    let mut folder = match &found {
        Some(checkpoint) => Folder::resume(&out, base, checkpoint.snapshot.step)?,
        None => Folder::create(&out, base, &RunFile::of(&settings, &run, &ground.file.path))?,
    };
    let before = folder.records.clone();
    let started = TeachEvent::Started { plan: Box::new(plan), folder: out.clone(), before };
    events.send(Event::Teach(started));

    let frozen = GpuLlama::new(&ground.model, run.shape.n_layers, run.shape.adapter_len, run.batch_tokens);
    let frozen = Frozen::Gpu(Arc::new(frozen.map_err(of_training)?));
    let renderer = Renderer::new(&ground.tokenizer, &options).map_err(of_data)?;
    let mut samples = Samples::new(ground, &renderer, &dataset, &settings.question)?;
    let fingerprint = dataset.training.fingerprint();
    let mut seconds = 0.0;
    let fresh = found.is_none();
    let run = match found {
        Some(Checkpoint { snapshot, progress }) => {
            seconds = progress.seconds;
            let trainer = Trainer::resume(frozen, run.shape, run.recipe.clone(), &snapshot).map_err(of_training)?;
            Run::resume(trainer, &dataset.training, &dataset.validation, run, progress.place())
        }
        None => Run::new(frozen, &dataset.training, &dataset.validation, run, None),
    };
    let run = run.map_err(of_training)?;
    if fresh {
        samples.ask(None, 0, &mut folder, events)?;
    }
    let mut work = Work { run, folder, samples, events, seconds, fingerprint, saved: None };
    let outcome = work.work(stops);
    work.end(outcome)
}

/// The checkpoint to go on with, after checking that it belongs to these settings and rows.
fn to_resume(out: &Path, settings: &RunSettings, dataset: &Dataset) -> Result<Checkpoint, Problem> {
    let path = checkpoint::latest(out).map_err(of_training)?.ok_or_else(|| {
        Problem::new(format!("there is no complete checkpoint in {}", out.display()), "begin a new run")
    })?;
    let found = Checkpoint::load(&path).map_err(of_training)?;
    let fingerprint = dataset.training.fingerprint();
    if found.progress.data_fingerprint != fingerprint {
        return Err(of_training(TrainError::OtherRun {
            path: path.display().to_string(),
            what: "data set",
            found: format!("fingerprint {:016x}", found.progress.data_fingerprint),
            wanted: format!("fingerprint {fingerprint:016x}"),
        }));
    }
    if found.progress.recipe != settings.recipe {
        return Err(of_training(TrainError::OtherRun {
            path: path.display().to_string(),
            what: "recipe",
            found: format!("{:?}", found.progress.recipe),
            wanted: format!("{:?}", settings.recipe),
        }));
    }
    Ok(found)
}

/// A run and everything around it.
struct Work<'a> {
    run: Run<'a>,
    folder: Folder,
    samples: Samples,
    events: &'a Events,
    seconds: f64,
    fingerprint: u64,
    saved: Option<u64>,
}

impl Work<'_> {
    fn happened(&mut self, record: Record) -> Result<(), Problem> {
        self.folder.record(record.clone())?;
        self.events.send(Event::Teach(TeachEvent::Happened(record)));
        Ok(())
    }

    fn work(&mut self, stops: &[Stop; 2]) -> Result<TeachEnd, Problem> {
        loop {
            if stops.iter().any(Stop::is_set) {
                return Ok(TeachEnd::Stopped);
            }
            let start = Instant::now();
            let event = block_on(self.run.next()).map_err(of_training)?;
            let took = start.elapsed().as_secs_f64();
            self.seconds += took;
            match event {
                RunEvent::Step { report, epoch } => {
                    let record = Record::Step(Step {
                        step: report.step,
                        epoch,
                        loss: Some(f64::from(report.loss)),
                        lr: report.learning_rate,
                        grad_norm: Some(f64::from(report.grad_norm)),
                        tokens: u64::from(report.n_tokens),
                        trained_tokens: u64::from(report.n_targets),
                        tokens_per_sec: f64::from(report.n_tokens) / took.max(1e-9),
                        seconds: self.seconds,
                        skipped: report.skipped.map(|what| format!("the {what} is not finite")),
                    });
                    self.happened(record)?;
                    let due = report.step.is_multiple_of(self.run.settings().validate_every.max(1));
                    if due && !self.run.place().validation_due {
                        self.save()?;
                        self.show_gates()?;
                    }
                }
                RunEvent::Validation { step, loss, best } => {
                    self.happened(Record::Eval(Eval::of_loss(step, loss, best)))?;
                    let adapter = self.show_gates()?;
                    if best {
                        self.keep(adapter.clone())?;
                    }
                    if step > 0 && !stops.iter().any(Stop::is_set) {
                        self.samples.ask(Some(&adapter), step, &mut self.folder, self.events)?;
                    }
                    if step > 0 {
                        self.save()?;
                    }
                }
                RunEvent::Done { .. } => return Ok(TeachEnd::Done),
            }
        }
    }

    fn show_gates(&self) -> Result<AdapterFile, Problem> {
        let adapter = block_on(self.run.trainer().adapter()).map_err(of_training)?;
        let first_layer = self.folder.base.n_layers.saturating_sub(adapter.n_layers);
        let gates = adapter.effective_gates(self.run.trainer().shape().gate_width());
        self.events.send(Event::Teach(TeachEvent::Gates { first_layer, gates }));
        Ok(adapter)
    }

    /// Puts an adapter where people look for it.
    fn keep(&self, adapter: AdapterFile) -> Result<(), Problem> {
        self.folder.adapter(adapter)?;
        self.events.send(Event::Teach(TeachEvent::Usable(self.folder.path.clone())));
        Ok(())
    }

    /// Writes a checkpoint, once a step.
    fn save(&mut self) -> Result<(), Problem> {
        let step = self.run.trainer().step();
        if self.saved == Some(step) {
            return Ok(());
        }
        let (settings, place) = (self.run.settings(), *self.run.place());
        let progress = Progress {
            seed: settings.seed,
            position: place.position,
            data_fingerprint: self.fingerprint,
            batch_tokens: settings.batch_tokens,
            recipe: settings.recipe.clone(),
            best: place.best,
            without_gain: place.without_gain,
            seconds: self.seconds,
            tokens: place.tokens,
            trained_tokens: place.trained_tokens,
            validation_due: place.validation_due,
        };
        let snapshot = block_on(self.run.trainer().snapshot()).map_err(of_training)?;
        let path = Checkpoint { snapshot, progress }.save(&self.folder.path).map_err(of_training)?;
        checkpoint::prune(&self.folder.path, KEPT).map_err(of_training)?;
        self.saved = Some(step);
        self.happened(Record::Checkpoint { step, path: path.display().to_string() })
    }

    /// Keeps what there is.
    fn end(mut self, outcome: Result<TeachEnd, Problem>) -> Result<TeachEnd, Problem> {
        let reason = match &outcome {
            Ok(TeachEnd::Done) => "done".to_owned(),
            Ok(TeachEnd::Stopped) => "interrupted".to_owned(),
            Err(problem) => problem.message.clone(),
        };
        let step = self.run.trainer().step();
        if outcome.is_ok() {
            if step > 0 {
                self.save()?;
            }
            let last = self.show_gates()?;
            if self.run.place().best.is_none_or(|best| best.step == step) {
                self.keep(last.clone())?;
            }
            self.folder.pictures(&last, self.run.trainer().shape().gate_width())?;
        }
        let loss = self.folder.records.iter().rev().find_map(|record| match record {
            Record::Step(step) => Some(step.loss),
            _ => None,
        });
        let validation = self.folder.records.iter().rev().find_map(|record| match record {
            Record::Eval(eval) => Some((eval.val_loss, eval.val_ppl)),
            _ => None,
        });
        let (val_loss, val_ppl) = validation.unwrap_or_default();
        let skipped_steps = self.run.trainer().skipped();
        let seconds = self.seconds;
        let end = End { step, reason, seconds, loss: loss.flatten(), val_loss, val_ppl, skipped_steps };
        self.happened(Record::End(end))?;
        outcome
    }
}
