//! What the engine's thread does with its messages.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::{FoundAdapter, ModelCard, ModelFile, Problem, Stage, built_in, fitting_adapter};
use adapter_engine::gpu::{Gpu, GpuOptions, Tier};
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{ChatTemplate, RenderOptions, Tokenizer, encode_chat};
use adapter_engine::{Adapter, Model, Session};
use pollster::block_on;

use super::train::{self, Ground};
use super::{AdapterKey, AdapterSource, Command, Event, Events, LoadStage, LoadedAdapter, LoadedModel, Stop};

/// A model that can answer.
pub(super) struct Ready {
    pub file: Arc<ModelFile>,
    pub tokenizer: Arc<Tokenizer>,
    pub template: ChatTemplate,
    pub model: Model,
    pub session: Session,
    pub adapters: Vec<(AdapterKey, Adapter)>,
    /// Where the template comes from: the adapter of the last answer, where that has kept one.
    kept_template: Option<String>,
}

impl Ready {
    /// Takes the chat template that an adapter was trained with, or the model's own.
    pub fn use_template_of(&mut self, adapter: Option<AdapterKey>) -> Result<(), Problem> {
        let adapter = adapter.and_then(|key| self.adapters.iter().find(|(known, _)| *known == key));
        let kept = adapter.and_then(|(_, adapter)| adapter.chat_template());
        if kept != self.kept_template.as_deref() {
            self.template = ChatTemplate::choose(None, kept, &self.tokenizer)?;
            self.kept_template = kept.map(str::to_owned);
        }
        Ok(())
    }

    /// The ids of a conversation, with the beginning of an answer at its end.
    pub fn prompt(&self, messages: &[adapter_engine::text::Message]) -> Result<Vec<u32>, Problem> {
        let options = RenderOptions { add_generation_prompt: true, date: crate::surroundings::local_time() };
        Ok(encode_chat(&self.tokenizer, &self.template, messages, &options)?)
    }
}

pub(super) struct Engine {
    options: GpuOptions,
    pub events: Events,
    /// Seen by tests.
    gpu: Arc<Mutex<Option<Gpu>>>,
    pub quit: Stop,
    pub ready: Option<Ready>,
    next_key: u64,
}

impl Engine {
    pub fn new(options: GpuOptions, events: Events, gpu: Arc<Mutex<Option<Gpu>>>, quit: Stop) -> Self {
        Self { options, events, gpu, quit, ready: None, next_key: 0 }
    }

    pub fn run(mut self, queue: &Receiver<Command>) {
        for command in queue {
            if self.quit.is_set() {
                return;
            }
            self.handle(command);
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Load { path, context, adapters, stop } => {
                let event = match self.load(&path, context, &adapters, &stop) {
                    Ok(loaded) => Event::Loaded(Box::new(loaded)),
                    Err(problem) => {
                        self.ready = None;
                        self.forget_lost(&problem);
                        Event::NotLoaded(problem)
                    }
                };
                self.events.send(event);
            }
            Command::AddAdapter(source) => {
                let event = match self.add_adapter(&source) {
                    Ok(adapter) => Event::AdapterAdded(adapter),
                    Err(problem) => Event::NotAdded { path: source.path, problem },
                };
                self.events.send(event);
            }
            Command::RemoveAdapter(key) => {
                if let Some(ready) = &mut self.ready {
                    ready.adapters.retain(|(known, _)| *known != key);
                }
            }
            Command::Ask(ask) => {
                let outcome = self.answer(&ask);
                if let Err(problem) = &outcome {
                    self.forget_lost(problem);
                }
                self.events.send(Event::Answered { id: ask.id, outcome });
            }
            Command::Count { ticket, messages } => {
                let tokens = self.ready.as_ref().and_then(|ready| ready.prompt(&messages).ok());
                self.events.send(Event::Counted { ticket, tokens: tokens.map_or(0, |ids| ids.len() as u32) });
            }
            Command::Plan { ticket, settings } => match self.ground() {
                Ok(ground) => train::start_plan(ground, ticket, *settings, self.events.clone()),
                Err(problem) => self.events.send(Event::Planned { ticket, outcome: Err(problem) }),
            },
            Command::Train { settings, resume, stop } => {
                let started = self.ground().and_then(|ground| {
                    train::start(ground, *settings, resume, [stop, self.quit.clone()], self.events.clone())
                });
                if let Err(problem) = started {
                    self.events.send(Event::Train(train::TrainEvent::Failed(problem)));
                }
            }
            Command::Panic => panic!("a test asked for this"),
        }
    }

    /// What a training stands on.
    fn ground(&self) -> Result<Ground, Problem> {
        let ready = self.ready.as_ref().ok_or_else(no_model)?;
        Ok(Ground {
            file: Arc::clone(&ready.file),
            tokenizer: Arc::clone(&ready.tokenizer),
            model: ready.model.clone(),
        })
    }

    /// A lost device is not asked whether it is lost: its own word may come later than the error of what ran on it.
    fn forget_lost(&self, problem: &Problem) {
        if problem.code == "device-lost"
            && let Ok(mut held) = self.gpu.lock()
        {
            *held = None;
        }
    }

    fn open_gpu(&self) -> Result<Gpu, Problem> {
        let held = self.gpu.lock().ok().and_then(|gpu| gpu.clone());
        if let Some(gpu) = held.filter(|gpu| gpu.check().is_ok()) {
            return Ok(gpu);
        }
        let gpu = block_on(Gpu::open(&self.options))?;
        if let Ok(mut held) = self.gpu.lock() {
            *held = Some(gpu.clone());
        }
        Ok(gpu)
    }

    fn load(
        &mut self,
        path: &Path,
        context: u32,
        adapters: &[AdapterSource],
        stop: &Stop,
    ) -> Result<LoadedModel, Problem> {
        let start = Instant::now();
        let (events, quit) = (self.events.clone(), self.quit.clone());
        let stage = |stage, done, total| {
            events.send(Event::Loading { stage, done, total });
            if quit.is_set() { std::ops::ControlFlow::Break(()) } else { stop.flow() }
        };
        let _ = stage(LoadStage::Header, 0, 0);
        let file = ModelFile::open(path)?;
        ModelCard::of(&file, context, Tier::default())?; // what cannot run is found before the old model leaves
        let tokenizer = file.tokenizer()?;
        let template = ChatTemplate::from_vocab(&tokenizer)?;
        let inside = built_in(&file, None)?;
        // The old model leaves before the new one comes: together they may not fit.
        self.ready = None;
        let _ = stage(LoadStage::Gpu, 0, 0);
        let gpu = self.open_gpu()?;
        let card = ModelCard::of(&file, context, gpu.tier())?;
        let mut last = 0;
        let model = file.load(&gpu, &mut |step, done, total| {
            let step = if step == Stage::Kernels { LoadStage::Kernels } else { LoadStage::Weights };
            // Some hundred tensors are told in a hundred events at most.
            let percent = done * 100 / total.max(1);
            if step == LoadStage::Weights && percent == last && done > 0 && done < total {
                return stop.flow();
            }
            last = percent;
            stage(step, done, total)
        })?;
        for (tensor, count) in model.damaged_tensors() {
            events.send(Event::Warning(format!(
                "tensor {tensor} holds {count} scales that are not finite: expect nonsense; get the file again"
            )));
        }
        let session = Session::new(
            &model,
            &SessionOptions { context: Some(context), cached_conversations: 1, ..SessionOptions::default() },
        )?;
        let _ = stage(LoadStage::Adapters, 0, 0);
        self.ready = Some(Ready {
            file: Arc::new(file),
            tokenizer: Arc::new(tokenizer),
            template,
            model,
            session,
            adapters: Vec::new(),
            kept_template: None,
        });
        let mut loaded = Vec::new();
        if let Some(found) = inside {
            loaded.push(self.keep_adapter(found, None)?);
        }
        for source in adapters {
            match self.add_adapter(source) {
                Ok(adapter) => loaded.push(adapter),
                Err(problem) => self.events.send(Event::NotAdded { path: source.path.clone(), problem }),
            }
        }
        gpu.wait()?;
        let ready = self.ready.as_ref().ok_or_else(no_model)?;
        Ok(LoadedModel {
            card,
            context: ready.session.context(),
            gpu: gpu.summary().name.clone(),
            gpu_bytes: gpu.used_bytes(),
            seconds: start.elapsed().as_secs_f64(),
            adapters: loaded,
        })
    }

    fn add_adapter(&mut self, source: &AdapterSource) -> Result<LoadedAdapter, Problem> {
        let ready = self.ready.as_ref().ok_or_else(no_model)?;
        let found = fitting_adapter(&source.path, source.gate, None, &ready.file)?;
        for warning in &found.warnings {
            self.events.send(Event::Warning(format!("{}: {warning}", found.name)));
        }
        self.keep_adapter(found, Some(source.clone()))
    }

    fn keep_adapter(&mut self, found: FoundAdapter, source: Option<AdapterSource>) -> Result<LoadedAdapter, Problem> {
        let ready = self.ready.as_mut().ok_or_else(no_model)?;
        let adapter = Adapter::load(&ready.model, &found.name, &found.file)?;
        let template = adapter.chat_template().and_then(ChatTemplate::name_of);
        let template = template.map_or_else(String::new, |name| format!(", trained with the chat template {name}"));
        let about = format!(
            "{} gates, {} prompt tokens in layers {} to {}{template}",
            adapter.kind().name(),
            adapter.adapter_len(),
            adapter.first_layer(),
            ready.file.config.n_layers - 1,
        );
        let key = AdapterKey(self.next_key);
        self.next_key += 1;
        ready.adapters.push((key, adapter));
        Ok(LoadedAdapter { key, name: found.name, source, about })
    }
}

pub(super) fn no_model() -> Problem {
    Problem {
        message: "no model is loaded".to_owned(),
        hint: Some("choose one under Models; your message is kept".to_owned()),
        code: "no-model",
    }
}
