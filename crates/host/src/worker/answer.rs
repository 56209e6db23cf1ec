//! An answer of [`adapter_engine::answer`] in the engine's thread: pieces go out in batches, and the adapter may change in the middle
//! of a sentence.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::Problem;
use adapter_engine::Adapter;
use adapter_engine::answer::{self, Listener, Request, stops};
use adapter_engine::text::Special;
use pollster::block_on;

use super::engine::{Engine, no_model};
use super::{AdapterKey, Answered, Ask, Begun, Event, Events, Stop};

/// Pieces that come faster than this are sent together: a screen shows no more.
const BATCH: Duration = Duration::from_millis(16);

impl Engine {
    /// Answers a question.
    pub(super) fn answer(&mut self, ask: &Ask) -> Result<Answered, Problem> {
        let ready = self.ready.as_mut().ok_or_else(no_model)?;
        ready.use_template_of(ask.adapter.get().map(|(key, _)| key))?;
        let prompt = ready.prompt(&ask.messages)?;
        let begun = match &ask.begun {
            Begun::Nothing => Vec::new(),
            Begun::Ids(ids) => ids.clone(),
            Begun::Text(text) => ready.tokenizer.encode(text, Special::AsText)?,
        };
        let stops = stops(Some(&ready.template), &ready.tokenizer, &ask.stops);
        let max_tokens = Some(ask.max_tokens);
        let request = Request { begun: &begun, stops: &stops, max_tokens, ..Request::new(&prompt, &ask.sampling) };
        let start = Instant::now();
        let mut batches = Batches {
            ask,
            quit: &self.quit,
            events: &self.events,
            adapters: &ready.adapters,
            n_prompt: (prompt.len() + begun.len()) as u32,
            n_said: 0,
            ids: Vec::new(),
            text: String::new(),
            whole: !begun.is_empty(),
            sent: start,
            first: None,
        };
        let answered = block_on(answer::answer(&mut ready.session, &ready.tokenizer, &request, &mut batches));
        let writing = batches.first.map(|first| first.elapsed().as_secs_f64());
        // What came before a failure stays.
        batches.send();
        let answer::Answer { finish, n_tokens, n_prompt, .. } = answered?;
        let speed = writing.filter(|seconds| n_tokens > 1 && *seconds > 0.0);
        Ok(Answered {
            finish,
            n_tokens,
            used: n_prompt + n_tokens,
            first_token: batches.first.map(|first| first.duration_since(start)),
            tokens_per_second: speed.map(|seconds| f64::from(n_tokens - 1) / seconds),
        })
    }
}

/// What was said since the last event.
struct Batches<'a> {
    ask: &'a Ask,
    quit: &'a Stop,
    events: &'a Events,
    adapters: &'a [(AdapterKey, Adapter)],
    /// Tokens before the first new one.
    n_prompt: u32,
    /// New tokens so far.
    n_said: u32,
    ids: Vec<u32>,
    text: String,
    /// The next event holds the whole answer so far.
    whole: bool,
    /// When the last event went out.
    sent: Instant,
    /// When the first token came.
    first: Option<Instant>,
}

impl Batches<'_> {
    fn send(&mut self) {
        if self.ids.is_empty() && self.text.is_empty() {
            return;
        }
        self.sent = Instant::now();
        self.events.send(Event::Piece {
            id: self.ask.id,
            text: std::mem::take(&mut self.text),
            whole: std::mem::take(&mut self.whole),
            ids: std::mem::take(&mut self.ids),
            n_tokens: self.n_said,
            used: self.n_prompt + self.n_said,
        });
    }
}

impl Listener for Batches<'_> {
    type Error = Problem;

    fn reading(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        self.events.send(Event::Prompt { id: self.ask.id, done, total });
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn computed(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    fn piece(&mut self, id: Option<u32>, text: &str) -> Result<(), Problem> {
        self.text += text;
        self.ids.extend(id);
        self.n_said += u32::from(id.is_some());
        // The text an answer begins with waits for the first that is new.
        if id.is_some() && self.sent.elapsed() >= BATCH {
            self.send();
        }
        Ok(())
    }

    fn is_stopped(&mut self) -> bool {
        self.ask.stop.is_set() || self.quit.is_set()
    }

    fn setting(&self) -> Option<Option<(&Adapter, f32)>> {
        let choice = self.ask.adapter.get();
        Some(choice.and_then(|(key, strength)| {
            let found = self.adapters.iter().find(|(known, _)| *known == key);
            found.map(|(_, adapter)| (adapter, strength))
        }))
    }
}
