//! A conversation: what was said, the model that answers, and the adapters it may use.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use adapter_engine::Adapter;
use adapter_engine::adapter::GateKind;
use adapter_engine::answer::{Finish, Request, stops};
use adapter_engine::gpu::GpuError;
use adapter_engine::sampler::Sampling;
use adapter_engine::text::{ChatTemplate, Message, RenderOptions, TerminalSanitizer, encode_chat};
use adapter_host::figures;
use adapter_host::surroundings;

use super::command::{AdapterCommand, Show};
use super::flags::Chat;
use super::settings::{Changed, Settings};
use super::transcript::Transcript;
use crate::answer::{Answer, answer};
use crate::failure::Failure;
use crate::flags::{self, Global};
use crate::load::{self, Ready};
use crate::output;
use crate::printable::printable;

/// Share of the context from which on people are told, in percent.
const NEARLY_FULL: usize = 80;

/// The state of a chat.
pub struct Conversation<'a> {
    global: &'a Global,
    flags: &'a Chat,
    ready: Ready,
    template: ChatTemplate,
    settings: Settings,
    adapters: Vec<Loaded>,
    /// Place in `adapters` of the one in use, also while it is switched off.
    current: Option<usize>,
    on: bool,
    /// User and assistant in turn; the system message is a setting.
    messages: Vec<Message>,
    /// How often the last answer was asked for again.
    attempt: u64,
    /// The GPU was lost: everything on it has to be loaded again.
    lost: bool,
}

/// An adapter that was loaded.
struct Loaded {
    /// `None` for the one inside the model.
    path: Option<PathBuf>,
    kind: Option<GateKind>,
    adapter: Adapter,
}

impl<'a> Conversation<'a> {
    /// Loads what the flags name.
    ///
    /// # Errors
    /// As [`Ready::load`], or an unknown template.
    pub fn start(global: &'a Global, flags: &'a Chat) -> Result<Self, Failure> {
        let settings = Settings::new(global, flags)?;
        let ready = Ready::load(global, &flags.model, &flags.adapter)?;
        let template = ready.template(flags.prompt.template.as_deref())?;
        let path = flags.adapter.adapter.clone();
        let adapters: Vec<Loaded> = ready
            .adapter
            .iter()
            .map(|adapter| Loaded { path: path.clone(), kind: flags.adapter.gate, adapter: adapter.clone() })
            .collect();
        let current = (!adapters.is_empty()).then_some(0);
        if let Some(note) = ready.template_note(flags.prompt.template.as_deref()) {
            output::note(&note);
        }
        Ok(Self {
            global,
            flags,
            ready,
            template,
            settings,
            adapters,
            current,
            on: true,
            messages: Vec::new(),
            attempt: 0,
            lost: false,
        })
    }

    /// The line above the first prompt.
    pub fn greeting(&self) -> String {
        let adapter = match self.active() {
            Some(loaded) => format!(" with the adapter {}", loaded.adapter.name()),
            None => String::new(),
        };
        format!(
            "{} ({}, {}){adapter} on {}, context {}",
            self.ready.file.name(),
            self.ready.file.gguf.main_type(),
            figures::bytes(self.ready.file.gguf.file_bytes),
            self.ready.model.gpu().summary().name,
            self.ready.session.context(),
        )
    }

    /// Answers a message. A message that cannot be answered is not kept.
    ///
    /// # Errors
    /// A conversation that fills the context, a template that refuses it, a GPU that fails.
    pub fn send(&mut self, text: String) -> Result<(), Failure> {
        self.messages.push(Message::new("user", text));
        self.attempt = 0;
        let outcome = self.respond();
        if !matches!(outcome, Ok(true)) {
            self.messages.pop();
        }
        outcome.map(|_| ())
    }

    /// Answers the last message again.
    ///
    /// # Errors
    /// No message yet, or as [`Self::send`]; the old answer is kept then.
    pub fn regenerate(&mut self) -> Result<(), Failure> {
        let Some(old) = self.messages.pop_if(|message| message.role == "assistant") else {
            return Err(Failure::failed("there is no answer yet", "send a message first"));
        };
        if self.settings.sampling.temperature == 0.0 {
            output::note("The temperature is 0: the answer will be the same.");
        }
        self.attempt += 1;
        let outcome = self.respond();
        if !matches!(outcome, Ok(true)) {
            self.messages.push(old);
        }
        outcome.map(|_| ())
    }

    /// Answers the messages as they are. Whether there was anything to keep.
    fn respond(&mut self) -> Result<bool, Failure> {
        if self.lost {
            self.reload()?;
        }
        let system = self.settings.system.iter().map(|text| Message::new("system", text));
        let all: Vec<Message> = system.chain(self.messages.iter().cloned()).collect();
        let options = RenderOptions { add_generation_prompt: true, date: surroundings::local_time() };
        let ids = encode_chat(&self.ready.tokenizer, &self.template, &all, &options)?;
        let limit = self.ready.session.context() as usize;
        if ids.len() >= limit {
            let message = format!("the conversation has {} tokens, the context holds {limit}", ids.len());
            let hint = format!("/clear begins a new one (/save keeps this one){}", self.ready.raise_context());
            return Err(Failure::failed(message, hint));
        }
        if ids.len() * 100 >= limit * NEARLY_FULL {
            output::warn(&format!(
                "the conversation fills {} of {limit} tokens: an answer can have {} more, then it is cut off",
                ids.len(),
                limit - ids.len(),
            ));
        }
        // Another attempt gets other random numbers, and the same ones when the chat is run again.
        let seed = self.settings.sampling.seed.wrapping_add(self.attempt);
        let sampling = Sampling { seed, ..self.settings.sampling.clone() };
        let stops = stops(Some(&self.template), &self.ready.tokenizer, &self.settings.stops);
        let max_tokens = self.settings.max_tokens;
        let request = Request { stops: &stops, max_tokens, ..Request::new(&ids, &sampling) };
        let mut out = io::stdout().lock();
        let mut sanitizer = TerminalSanitizer::new();
        let mut shown = false;
        let mut show = |piece: &str| {
            shown = true;
            out.write_all(sanitizer.push(piece).as_bytes())?;
            out.flush()?;
            Ok(())
        };
        let answered = answer(&mut self.ready.session, &self.ready.tokenizer, &request, &mut show);
        self.lost = matches!(self.ready.model.gpu().check(), Err(GpuError::DeviceLost { .. }));
        let answered = answered.inspect_err(|_| {
            // The error stands below what was shown already; standard output may be gone by now.
            let _ = if shown { writeln!(out) } else { Ok(()) };
        })?;
        if !answered.text.is_empty() && !answered.text.ends_with('\n') {
            writeln!(out)?;
        }
        out.flush()?;
        drop(out);
        self.remark(&answered, ids.len());
        let keep = answered.finish != Finish::Stopped || !answered.text.is_empty();
        if keep {
            self.messages.push(Message::new("assistant", answered.text));
        }
        Ok(keep)
    }

    /// What is to be said about an answer.
    fn remark(&self, answer: &Answer, prompt_tokens: usize) {
        let (used, limit) = (prompt_tokens + answer.n_tokens as usize, self.ready.session.context());
        match answer.finish {
            Finish::Context => output::warn(&format!(
                "the context of {limit} tokens is full: the answer stops here; /clear begins a new conversation{}",
                self.ready.raise_context()
            )),
            Finish::Length | Finish::Stopped => output::note(&format!("({})", answer.finish.remark())),
            Finish::Stop => {}
        }
        if self.settings.verbose {
            let speed = answer.tokens_per_second().map_or_else(|| "-".to_owned(), |speed| format!("{speed:.1}"));
            let first = answer.first_token.unwrap_or_default().as_secs_f64();
            output::note(&format!(
                "[{} tokens, {speed} tokens/s, first token {first:.2} s, context {used}/{limit}]",
                answer.n_tokens
            ));
        }
    }

    /// Forgets what was said.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.ready.session.truncate(0);
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// An unknown one, or a value out of range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let fail = |message: String| Failure::failed(message, "/set lists the settings and their values");
        match self.settings.set(name, value).map_err(fail)? {
            Changed::Answer => Ok(()),
            Changed::Strength => self.apply_adapter(),
        }
    }

    /// The settings, a line each.
    pub fn settings_lines(&self) -> Vec<String> {
        self.settings.lines()
    }

    /// What `/show` prints.
    pub fn describe(&self, what: Show) -> Vec<String> {
        match what {
            Show::Settings => self.settings.lines(),
            Show::Model => self.describe_model(),
            Show::Adapter => self.describe_adapters(),
            Show::Messages => self.describe_messages(),
            Show::All => [self.describe_model(), self.describe_adapters(), self.settings.lines()].concat(),
        }
    }

    fn describe_model(&self) -> Vec<String> {
        let (file, session) = (&self.ready.file, &self.ready.session);
        let config = &file.config;
        let gpu = self.ready.model.gpu();
        vec![
            format!("  model           {} ({})", printable(&file.name()), file.gguf.main_type()),
            format!("  file            {}", printable(&file.path.display().to_string())),
            format!(
                "  size            {}, {} layers of {} channels, {} ids",
                figures::bytes(file.gguf.file_bytes),
                config.n_layers,
                config.n_channels,
                config.n_vocab
            ),
            format!("  context         {} of {} tokens used", session.ids().len(), session.context()),
            format!(
                "  gpu             {} ({}), {} in use",
                gpu.summary().name,
                gpu.tier(),
                figures::bytes(gpu.used_bytes())
            ),
            format!("  loaded in       {:.2} s", self.ready.load_time.as_secs_f64()),
        ]
    }

    fn describe_adapters(&self) -> Vec<String> {
        if self.adapters.is_empty() {
            return vec!["  adapter         none; /adapter PATH loads one".to_owned()];
        }
        let line = |(index, loaded): (usize, &Loaded)| {
            let state = match (self.current == Some(index), self.on) {
                (true, true) => format!("on, strength {}", self.settings.strength),
                (true, false) => "off".to_owned(),
                (false, _) => "loaded".to_owned(),
            };
            let adapter = &loaded.adapter;
            format!(
                "  adapter         {}: {state}; {} gates, {} prompt tokens in layers {} to {}",
                printable(adapter.name()),
                adapter.kind().name(),
                adapter.adapter_len(),
                adapter.first_layer(),
                self.ready.file.config.n_layers - 1,
            )
        };
        self.adapters.iter().enumerate().map(line).collect()
    }

    fn describe_messages(&self) -> Vec<String> {
        let system = self.settings.system.iter().map(|text| ("system", text.as_str()));
        let spoken = self.messages.iter().map(|message| (message.role.as_str(), message.content.as_str()));
        let lines: Vec<String> = system
            .chain(spoken)
            .map(|(role, text)| format!("{role}: {}", TerminalSanitizer::new().push(text)))
            .collect();
        if lines.is_empty() { vec!["  no messages yet".to_owned()] } else { lines }
    }

    fn active(&self) -> Option<&Loaded> {
        self.current.filter(|_| self.on).and_then(|index| self.adapters.get(index))
    }

    /// Gives the session the adapter and strength that are set.
    fn apply_adapter(&mut self) -> Result<(), Failure> {
        let active = self.active().map(|loaded| (loaded.adapter.clone(), self.settings.strength));
        self.ready.session.set_adapter(active.as_ref().map(|(adapter, strength)| (adapter, *strength)))?;
        // Each adapter is asked with the template it was trained with.
        let name = self.flags.prompt.template.as_deref();
        let template = self.ready.template(name)?;
        if template.source() != self.template.source() {
            let note = self.ready.template_note(name);
            output::note(&note.unwrap_or_else(|| "The chat template is the model's own again.".to_owned()));
        }
        self.template = template;
        Ok(())
    }

    /// Does what `/adapter` asks for and returns what to print.
    ///
    /// # Errors
    /// An adapter that is not there or does not fit.
    pub fn adapter(&mut self, command: AdapterCommand) -> Result<Vec<String>, Failure> {
        match command {
            AdapterCommand::List => return Ok(self.describe_adapters()),
            AdapterCommand::On | AdapterCommand::Off | AdapterCommand::Strength(_) if self.current.is_none() => {
                return Err(Failure::failed("no adapter is loaded", "/adapter PATH loads one"));
            }
            AdapterCommand::On => self.on = true,
            AdapterCommand::Off => self.on = false,
            AdapterCommand::Strength(strength) => {
                self.settings.strength = strength;
                self.on = true;
            }
            AdapterCommand::Use { name, kind } => {
                let known = self.adapters.iter().position(|loaded| loaded.adapter.name() == name);
                let index = match known.filter(|_| kind.is_none()) {
                    Some(index) => index,
                    None => self.load_adapter(Path::new(&name), kind)?,
                };
                self.current = Some(index);
                self.on = true;
            }
        }
        self.apply_adapter()?;
        Ok(self.describe_adapters())
    }

    fn load_adapter(&mut self, path: &Path, kind: Option<GateKind>) -> Result<usize, Failure> {
        let (name, file) = load::fitting_adapter(path, kind, None, &self.ready.file)?;
        let adapter = Adapter::load(&self.ready.model, &name, &file).map_err(|error| Failure::from(error).at(path))?;
        let loaded = Loaded { path: Some(path.to_owned()), kind, adapter };
        // The same file again replaces what was read from it before.
        match self.adapters.iter_mut().enumerate().find(|(_, known)| known.path.as_deref() == Some(path)) {
            Some((index, known)) => {
                *known = loaded;
                Ok(index)
            }
            None => {
                self.adapters.push(loaded);
                Ok(self.adapters.len() - 1)
            }
        }
    }

    /// Loads model and adapters again after the GPU was lost.
    fn reload(&mut self) -> Result<(), Failure> {
        output::note("The GPU was lost: loading the model again.");
        let none = flags::AdapterFlags { adapter: Some(load::NO_ADAPTER.into()), gate: None, strength: 1.0 };
        self.ready = Ready::load(self.global, &self.flags.model, &none)?;
        for loaded in &mut self.adapters {
            let kind = loaded.kind;
            let again = match &loaded.path {
                Some(path) => Some(load::adapter_file(path, kind, None)?),
                None => load::built_in(&self.ready.file, kind)?,
            };
            let (name, file) = again.ok_or_else(|| {
                Failure::failed(
                    "the model's file no longer holds the adapter that was in it",
                    "load the adapter from a file of its own",
                )
            })?;
            loaded.adapter = Adapter::load(&self.ready.model, &name, &file)?;
        }
        self.lost = false;
        self.apply_adapter()
    }

    /// Writes the conversation.
    ///
    /// # Errors
    /// A file that is something else, or what the system says.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let adapter = self.active().map(|loaded| loaded.adapter.name().to_owned());
        let system = self.settings.system.as_deref();
        Transcript::new(self.ready.file.name(), adapter, system, &self.messages).save(path)?;
        output::note(&format!("Saved {} messages: {}", self.messages.len(), path.display()));
        Ok(())
    }

    /// Goes on with a saved conversation.
    ///
    /// # Errors
    /// A file that cannot be read or is none.
    pub fn load(&mut self, path: &Path) -> Result<(), Failure> {
        let saved = Transcript::load(path)?;
        if saved.model != self.ready.file.name() {
            output::note(&format!("It was held with another model, {}.", saved.model));
        }
        let (system, messages) = saved.into_parts();
        self.settings.system = system;
        self.messages = messages;
        output::note(&format!("Loaded {} messages: {}", self.messages.len(), path.display()));
        Ok(())
    }
}
