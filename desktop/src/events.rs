//! What the engine's events, chosen files and finished writes do to the window.

use std::path::Path;
use std::time::{Duration, Instant};

use adapter_engine::answer::Finish;
use adapter_host::Problem;

use crate::dialogs::Pick;
use crate::history::History;
use crate::state::{ModelState, Question, State, View};
use adapter_host::worker::{Answered, Event, LoadedModel};

/// An answer on its way is written to disk this often.
const SAVE_EVERY: Duration = Duration::from_secs(3);
/// Models that are remembered.
const RECENT: usize = 8;

impl State {
    pub(crate) fn events(&mut self) {
        loop {
            match self.worker.next() {
                Ok(Some(event)) => self.event(event),
                Ok(None) => break,
                Err(_) => {
                    self.restart_worker();
                    break;
                }
            }
        }
        self.hear_fetch();
        while let Ok((path, card)) = self.read.1.try_recv() {
            self.reading.retain(|reading| *reading != path);
            self.cards.insert(path, card);
        }
        while let Some((pick, path)) = self.dialogs.next() {
            self.picked(pick, &path);
        }
        while let Some(problem) = self.history.as_ref().and_then(History::problem) {
            self.notices.fail(&problem);
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::Loading { stage, done, total } => {
                if let ModelState::Loading(loading) = &mut self.model {
                    if loading.stage != stage {
                        loading.since = Instant::now();
                    }
                    (loading.stage, loading.progress) = (stage, (done, total));
                }
            }
            Event::Loaded(loaded) => self.loaded(loaded),
            Event::NotLoaded(problem) => {
                // A newer load took its place: that one is heard of later.
                if problem.is_cancelled()
                    && matches!(&self.model, ModelState::Loading(loading) if !loading.stop.is_set())
                {
                    return;
                }
                self.model = ModelState::None;
                self.notices.fail(&problem);
            }
            Event::AdapterAdded(adapter) => {
                self.active = Some(adapter.key);
                self.adapter_on = true;
                self.notices.good(&format!("The adapter {} is on", adapter.name));
                self.adapters.push(adapter);
                self.adapter_changed();
            }
            Event::NotAdded { path, problem } if problem.code == "adapter-kind" => {
                self.question = Some(Question::Gates(path, None));
            }
            Event::NotAdded { problem, .. } => self.failed(&problem),
            Event::Prompt { id, done, total } => {
                if let Some(answering) = self.answering.as_mut().filter(|answering| answering.id == id) {
                    answering.prompt = Some((done, total));
                }
            }
            Event::Piece { id, text, whole, ids, n_tokens, used } => {
                self.piece(id, &text, whole, &ids, (n_tokens, used));
            }
            Event::Answered { id, outcome } => self.answered(id, outcome),
            Event::Counted { ticket, tokens } => {
                if ticket == self.counts && self.answering.is_none() {
                    self.used = tokens;
                }
            }
            Event::Warning(text) => self.notices.warn("Worth knowing", &text),
            Event::Planned { ticket, outcome } => {
                if let Some(problem) = self.teach.planned(ticket, outcome) {
                    self.notices.fail(&problem);
                }
            }
            Event::Train(event) => {
                if let Some(outcome) = self.teach.event(event) {
                    match outcome {
                        Ok(text) => self.notices.good(&text),
                        Err(problem) => self.failed(&problem),
                    }
                }
            }
        }
    }

    /// Tells a problem; one of the GPU takes the model along.
    pub(crate) fn failed(&mut self, problem: &Problem) {
        // A load that is on its way is of a new device: news of the old one come too late.
        match self.model {
            ModelState::Ready(_) if problem.code == "device-lost" => self.gone(problem),
            _ if problem.code == "device-lost" => {}
            _ => self.notices.fail(problem),
        }
    }

    pub(crate) fn loaded(&mut self, loaded: Box<LoadedModel>) {
        if !matches!(&self.model, ModelState::Loading(loading) if loading.path == loaded.card.path) {
            return;
        }
        let path = loaded.card.path.clone();
        self.settings.recent.retain(|recent| *recent != path);
        self.settings.recent.insert(0, path.clone());
        self.settings.recent.truncate(RECENT);
        self.cards.insert(path.clone(), Ok(loaded.card.clone()));
        let kept = self.settings.adapters.get(&path).cloned();
        self.adapters.clone_from(&loaded.adapters);
        self.strength = kept.as_ref().map_or(1.0, |kept| kept.strength.clamp(0.0, 2.0));
        self.adapter_on = true;
        // The one used last, or the one inside the model's own file.
        let active = kept.and_then(|kept| kept.active.and_then(|at| kept.sources.get(at).cloned()));
        self.active = self.adapters.iter().find(|adapter| adapter.source == active).map(|adapter| adapter.key);
        self.model = ModelState::Ready(loaded);
        if self.view == View::Models {
            self.view = View::Chat;
            self.focus_draft = true;
        }
        self.measure();
        if let Some(text) = self.ask_when_ready.take() {
            self.say(&text);
        }
    }

    pub(crate) fn piece(&mut self, id: u64, text: &str, whole: bool, ids: &[u32], (n_tokens, used): (u32, u32)) {
        if self.compare.piece(id, text, n_tokens) {
            return;
        }
        let Some(answering) = self.answering.as_mut().filter(|answering| answering.id == id) else { return };
        answering.n_tokens = n_tokens;
        answering.first.get_or_insert_with(Instant::now);
        // An answer that goes on from text that was only kept is text: its first ids are not known here.
        if answering.before == 0 || self.answered_ids.contains_key(&answering.message) {
            self.answered_ids.entry(answering.message.clone()).or_default().extend_from_slice(ids);
        }
        if let Some(chat) = self.chats.iter_mut().find(|chat| chat.id == answering.chat) {
            if let Some(message) = chat.find_mut(&answering.message) {
                if whole {
                    message.content.clear();
                }
                message.content.push_str(text);
                if let Some(note) = &mut message.note {
                    note.tokens = answering.before + n_tokens;
                }
            }
            if answering.saved.elapsed() > SAVE_EVERY
                && let Some(history) = &self.history
            {
                history.save(chat);
                answering.saved = Instant::now();
            }
        }
        if answering.chat == self.open {
            self.used = used;
        }
    }

    pub(crate) fn answered(&mut self, id: u64, outcome: Result<Answered, Problem>) {
        if self.compare.owns(id) {
            if let Err(problem) = &outcome {
                self.failed(problem);
            }
            return self.compare.answered(id, outcome);
        }
        let Some(answering) = self.answering.take_if(|answering| answering.id == id) else {
            // Stopped long ago; that the GPU is gone must be known all the same.
            return match outcome {
                Err(problem) if problem.code == "device-lost" => self.failed(&problem),
                _ => {}
            };
        };
        match outcome {
            Ok(answered) => {
                if answering.chat == self.open {
                    self.used = answered.used;
                }
                self.ended(&answering, Some(&answered), Some(answered.finish));
                if answered.finish == Finish::Context {
                    let context = self.ready().map_or(0, |loaded| loaded.context);
                    self.notices.fail(&Problem {
                        message: format!("the context of {context} tokens is full: the answer stops here"),
                        hint: None,
                        code: "context-full",
                    });
                }
            }
            Err(problem) => {
                self.ended(&answering, None, None);
                self.failed(&problem);
            }
        }
    }

    pub(crate) fn picked(&mut self, pick: Pick, path: &Path) {
        match pick {
            Pick::Model => self.load(path),
            Pick::AdapterFile | Pick::AdapterFolder => self.add_adapter(path, None),
            Pick::Rows => self.choose_rows(path),
            Pick::Import => self.import(path),
            Pick::Export { text, .. } => {
                if let Some(history) = &self.history {
                    history.write(path, text);
                    history.flush();
                    if let Some(problem) = history.problem() {
                        return self.notices.fail(&problem);
                    }
                } else if let Err(error) = std::fs::write(path, text) {
                    return self.notices.fail(&Problem::file("cannot write the file", path, &error));
                }
                self.notices.good(&format!("Written to {}", path.display()));
            }
        }
    }

    /// Rows to learn: read at once, so that what is in them is seen.
    pub fn choose_rows(&mut self, path: &Path) {
        self.view = View::Teach;
        self.teach.choose(path);
        if self.ready().is_some() {
            let command = self.teach.planning();
            self.send(command);
        }
    }
}
