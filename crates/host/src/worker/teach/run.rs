//! A run from its first step to its last, or to its stop.

use std::sync::Arc;
use std::time::Instant;

use crate::Problem;
use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_finetune::checkpoint::Checkpoint;
use adapter_finetune::data::Renderer;
use adapter_finetune::frozen::GpuLlama;
use adapter_finetune::metrics::{Eval, Record, Step};
use adapter_finetune::run_folder::{self, RunFolder};
use adapter_finetune::{Event as RunEvent, Frozen, Recipe, Run, Trainer};
use pollster::block_on;

use super::run_file::{RunFile, read_run};
use super::samples::Samples;
use super::{Ground, Prepared, TeachEnd, TeachEvent, TeachSettings, of_data, of_training, prepare};
use crate::worker::{Event, Events, Stop};

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
    crate::checked_devices::before_training(ground.model.gpu(), ground.model.formats(), || ())?;
    let found = if resume {
        Some(run_folder::to_resume(&out, &run, dataset.training.fingerprint()).map_err(of_training)?)
    } else {
        None
    };
    let folder = match &found {
        Some(checkpoint) => RunFolder::resume(&out, base, checkpoint.snapshot.step),
        None => RunFolder::create(&out, base, &RunFile::of(&settings, &run, &ground.file.path).to_toml()?),
    };
    let mut folder = folder.map_err(of_training)?;
    let before = folder.records().to_vec();
    let started = TeachEvent::Started { plan: Box::new(plan), folder: out.clone(), before };
    events.send(Event::Teach(started));

    let frozen = GpuLlama::new(&ground.model, run.shape.n_layers, run.shape.adapter_len, run.batch_tokens);
    let frozen = Frozen::Gpu(Arc::new(frozen.map_err(of_training)?));
    let renderer = Renderer::new(&ground.tokenizer, &options).map_err(of_data)?;
    let mut samples = Samples::new(ground, &renderer, &dataset, &settings.question)?;
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
    let mut work = Work { run, folder, samples, events, seconds };
    let outcome = work.work(stops);
    work.end(outcome)
}

/// A run and everything around it.
struct Work<'a> {
    run: Run<'a>,
    folder: RunFolder,
    samples: Samples,
    events: &'a Events,
    seconds: f64,
}

impl Work<'_> {
    fn happened(&mut self, record: Record) -> Result<(), Problem> {
        self.folder.record(record.clone()).map_err(of_training)?;
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
                    let record = Record::Step(Step::of_report(&report, epoch, took, self.seconds));
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
        let first_layer = self.folder.base().n_layers.saturating_sub(adapter.n_layers);
        let gates = adapter.effective_gates(self.run.trainer().shape().gate_width());
        self.events.send(Event::Teach(TeachEvent::Gates { first_layer, gates }));
        Ok(adapter)
    }

    /// Puts an adapter where people look for it.
    fn keep(&self, adapter: AdapterFile) -> Result<(), Problem> {
        self.folder.adapter(run_folder::ADAPTER, adapter).map_err(of_training)?;
        self.events.send(Event::Teach(TeachEvent::Usable(self.folder.path().to_owned())));
        Ok(())
    }

    /// Writes a checkpoint, once a step.
    fn save(&mut self) -> Result<(), Problem> {
        let written = block_on(self.folder.checkpoint(&self.run, self.seconds)).map_err(of_training)?;
        written.map_or(Ok(()), |record| self.happened(record))
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
            self.folder.pictures(&last, self.run.trainer().shape().gate_width()).map_err(of_training)?;
        }
        let end = self.folder.ended(&self.run, reason, self.seconds);
        self.happened(Record::End(end))?;
        outcome
    }
}
