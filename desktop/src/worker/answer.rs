//! One answer: tokens out in batches, stoppable between them, with an adapter that may change in the middle of a sentence.

use std::time::{Duration, Instant};

use adapter_engine::Error;
use adapter_engine::text::{Shown, Special, TextStream};
use adapter_host::Problem;
use pollster::block_on;

use super::engine::{Engine, Ready, no_model};
use super::{Answered, Ask, Begun, Event};
use crate::chat::Finish;

/// Pieces that come faster than this are sent together: a screen shows no more.
const BATCH: Duration = Duration::from_millis(16);

impl Engine {
    /// Answers a question.
    pub(super) fn answer(&mut self, ask: &Ask) -> Result<Answered, Problem> {
        let (events, quit) = (self.events.clone(), self.quit.clone());
        let ready = self.ready.as_mut().ok_or_else(no_model)?;
        let stopped = || ask.stop.is_set() || quit.is_set();
        let mut prompt = ready.prompt(&ask.messages)?;
        let mut stream = TextStream::new(&ready.tokenizer, Shown::TextOnly, &[])?;
        let begun = match &ask.begun {
            Begun::Nothing => Vec::new(),
            Begun::Ids(ids) => ids.clone(),
            Begun::Text(text) => ready.tokenizer.encode(text, Special::AsText)?,
        };
        // It goes through the stream as it did the first time, so that what follows joins it without a seam: half a character at
        // its end becomes a whole one.
        let whole = !begun.is_empty();
        let mut batch = String::new();
        for id in begun {
            batch += &stream.push(&ready.tokenizer, id)?;
            prompt.push(id);
        }
        let limit = ready.session.context();
        if prompt.len() as u32 >= limit {
            return Err(Error::ContextFull { wanted: prompt.len() as u32 + 1, limit }.into());
        }
        let start = Instant::now();
        let n_prompt = prompt.len() as u32;
        let mut said = Said { ids: Vec::new(), first: None, batch, whole, told: 0, n_end: 0, sent: start };
        let send = |said: &mut Said| {
            let text = std::mem::take(&mut said.batch);
            said.sent = Instant::now();
            let n_tokens = said.ids.len() as u32;
            let ids = said.ids[said.told..].to_vec();
            said.told = said.ids.len();
            let whole = std::mem::take(&mut said.whole);
            events.send(Event::Piece { id: ask.id, text, whole, ids, n_tokens, used: n_prompt + n_tokens });
        };
        let finish = 'again: loop {
            // What was said so far is read again under the new setting, then the sentence goes on.
            let choice = ask.adapter.get();
            let Ready { session, adapters, tokenizer, .. } = &mut *ready;
            let adapter = choice.and_then(|(key, strength)| {
                adapters.iter().find(|(known, _)| *known == key).map(|(_, adapter)| (adapter, strength))
            });
            session.set_adapter(adapter)?;
            let all: Vec<u32> = prompt.iter().chain(&said.ids).copied().collect();
            if all.len() as u32 >= limit {
                break Finish::Context;
            }
            let mut progress = |done: usize, total: usize| {
                events.send(Event::Prompt { id: ask.id, done, total });
                if stopped() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
            };
            let mut generation = match block_on(session.generate(&all, &ask.sampling, &mut progress)) {
                Ok(generation) => generation,
                Err(Error::Cancelled) => break Finish::Stopped,
                Err(error) => return Err(error.into()),
            };
            loop {
                if stopped() {
                    break 'again Finish::Stopped;
                }
                if said.ids.len() as u32 >= ask.max_tokens {
                    break 'again Finish::Length;
                }
                if ask.adapter.get() != choice {
                    continue 'again;
                }
                let Some(id) = block_on(generation.next())? else { break 'again Finish::Context };
                said.first.get_or_insert_with(|| start.elapsed());
                if tokenizer.is_end_of_generation(id) {
                    said.n_end = 1;
                    break 'again Finish::Stop;
                }
                said.ids.push(id);
                said.batch += &stream.push(tokenizer, id)?;
                if said.sent.elapsed() >= BATCH {
                    send(&mut said);
                }
            }
        };
        let writing = said.first.map(|first| start.elapsed().saturating_sub(first).as_secs_f64());
        said.batch += &stream.finish();
        if said.told < said.ids.len() || !said.batch.is_empty() {
            send(&mut said);
        }
        let n_tokens = said.ids.len() as u32 + said.n_end;
        let speed = writing.filter(|seconds| n_tokens > 1 && *seconds > 0.0);
        Ok(Answered {
            finish,
            n_tokens,
            used: n_prompt + n_tokens,
            first_token: said.first,
            tokens_per_second: speed.map(|seconds| f64::from(n_tokens - 1) / seconds),
        })
    }
}

/// What was answered so far.
struct Said {
    ids: Vec<u32>,
    first: Option<Duration>,
    /// Text that was not sent yet.
    batch: String,
    /// The next piece is the whole answer so far.
    whole: bool,
    /// Ids that were sent.
    told: usize,
    /// 1 when the model ended the answer: that token is counted and not kept.
    n_end: u32,
    sent: Instant,
}
