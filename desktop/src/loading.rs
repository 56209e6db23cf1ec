//! Models and adapters: loading, losing and choosing them.

use std::path::Path;
use std::time::Instant;

use adapter_engine::adapter::GateKind;
use adapter_host::{ModelCard, Problem, file_name};

use crate::settings::KeptAdapters;
use crate::state::{Loading, ModelState, State};
use crate::words::Remedy;
use adapter_host::worker::{
    AdapterChoice, AdapterKey, AdapterSource, Command, LoadStage, LoadedAdapter, LoadedModel, Stop,
};

/// What a model is called: its file, since many models are named after their training runs.
pub(crate) fn shown_name(path: &Path) -> String {
    let name = file_name(path);
    name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned)
}

impl State {
    /// The model that can answer.
    pub(crate) fn ready(&self) -> Option<&LoadedModel> {
        if let ModelState::Ready(loaded) = &self.model { Some(loaded) } else { None }
    }

    /// Loads a model in place of the one there is.
    pub fn load(&mut self, path: &Path) {
        if let ModelState::Loading(loading) = &self.model {
            loading.stop.stop();
        }
        self.stop();
        self.compare.stop();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let stop = Stop::default();
        let kept = self.settings.adapters.get(&path).cloned().unwrap_or_default();
        let command = Command::Load {
            path: path.clone(),
            context: self.settings.context.max(16),
            adapters: kept.sources,
            stop: stop.clone(),
        };
        (self.adapters, self.active) = (Vec::new(), None);
        self.model = ModelState::Loading(Loading {
            path,
            stage: LoadStage::Header,
            progress: (0, 0),
            since: Instant::now(),
            stop,
        });
        self.notices.remedied(Remedy::Reload);
        self.send(command);
    }

    /// Loads the model again after the GPU was lost.
    pub fn reload(&mut self) {
        if let ModelState::Lost(loaded) = &self.model {
            let path = loaded.card.path.clone();
            self.load(&path);
        }
    }

    pub(crate) fn send(&mut self, command: Command) {
        if !self.worker.send(command) {
            self.restart_worker();
        }
    }

    /// The engine's thread ended by a bug: another one takes its place.
    pub(crate) fn restart_worker(&mut self) {
        match Self::start_worker(&self.ctx, &self.gpu) {
            Ok(worker) => self.worker = worker,
            Err(error) => {
                self.notices
                    .warn("The engine cannot start", &format!("{error}. Close other programs, then start again."));
                return;
            }
        }
        let problem = Problem { message: "the engine's thread ended".to_owned(), hint: None, code: "crashed" };
        self.gone(&problem);
    }

    /// Nothing is on the GPU any more.
    pub(crate) fn gone(&mut self, problem: &Problem) {
        self.model = match std::mem::replace(&mut self.model, ModelState::None) {
            ModelState::Ready(loaded) | ModelState::Lost(loaded) => ModelState::Lost(loaded),
            other => other,
        };
        if matches!(self.model, ModelState::Loading(_)) {
            self.model = ModelState::None;
        }
        if let Some(answering) = self.answering.take() {
            self.ended(&answering, None, None);
        }
        self.compare.failed(problem);
        self.teach.lost();
        self.notices.fail(problem);
    }

    /// What is known of a file for the context that is set.
    pub(crate) fn card(&self, path: &Path) -> Option<&Result<ModelCard, Problem>> {
        self.cards.get(path).filter(|card| match card {
            Ok(card) => card.context == self.settings.context.min(card.n_context).max(1),
            Err(_) => true,
        })
    }

    /// Reads the header of a file in the background, once.
    pub(crate) fn read_card(&mut self, path: &Path) {
        if self.reading.iter().any(|reading| reading == path) {
            return;
        }
        self.reading.push(path.to_owned());
        let (sender, ctx, path, context) =
            (self.read.0.clone(), self.ctx.clone(), path.to_owned(), self.settings.context);
        let _ = std::thread::Builder::new().name("card".to_owned()).spawn(move || {
            let card = ModelCard::read(&path, context);
            let _ = sender.send((path, card));
            ctx.request_repaint();
        });
    }

    pub(crate) fn choice(&self) -> AdapterChoice {
        self.active.filter(|_| self.adapter_on).map(|key| (key, self.strength))
    }

    /// The adapter that is chosen, on or off.
    pub(crate) fn active_adapter(&self) -> Option<&LoadedAdapter> {
        self.adapters.iter().find(|adapter| Some(adapter.key) == self.active)
    }

    /// Adapter, on or strength changed: an answer on its way follows at its next token.
    pub(crate) fn adapter_changed(&mut self) {
        let choice = self.choice();
        if let Some(answering) = &self.answering {
            answering.live.set(choice);
        }
        let Some(path) = self.ready().map(|loaded| loaded.card.path.clone()) else { return };
        let sources: Vec<AdapterSource> = self.adapters.iter().filter_map(|adapter| adapter.source.clone()).collect();
        let active = self.active_adapter().and_then(|adapter| adapter.source.as_ref());
        let active = active.and_then(|active| sources.iter().position(|source| source == active));
        self.settings.adapters.insert(path, KeptAdapters { sources, active, strength: self.strength });
    }

    /// Loads an adapter beside those there are.
    pub fn add_adapter(&mut self, path: &Path, gate: Option<GateKind>) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let same = |adapter: &LoadedAdapter| adapter.source.as_ref().is_some_and(|source| source.path == path);
        if let Some(old) = self.adapters.iter().position(same) {
            // Read again: a run may have written a better one.
            let old = self.adapters.remove(old);
            self.send(Command::RemoveAdapter(old.key));
        }
        self.send(Command::AddAdapter(AdapterSource { path, gate }));
    }

    pub(crate) fn remove_adapter(&mut self, key: AdapterKey) {
        self.adapters.retain(|adapter| adapter.key != key);
        if self.active == Some(key) {
            self.active = None;
        }
        self.adapter_changed();
        self.send(Command::RemoveAdapter(key));
    }
}
