//! One answer of [`adapter_engine::answer`] in the terminal: a progress bar, Ctrl+C, and how long it took.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use adapter_engine::Session;
use adapter_engine::answer::{self, Finish, Listener, Request};
use adapter_engine::text::Tokenizer;
use indicatif::ProgressBar;
use pollster::block_on;

use crate::failure::Failure;
use crate::{interrupt, output};

/// How an answer went, and how fast.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, up to a stop string.
    pub text: String,
    /// Tokens computed, the one that ended it included.
    pub n_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// From the request to the first token; `None` when there was none.
    pub first_token: Option<Duration>,
    /// From the first token to the end.
    pub writing: Duration,
}

impl Answer {
    /// Tokens a second after the first one.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.writing.as_secs_f64();
        (self.n_tokens > 1 && seconds > 0.0).then(|| f64::from(self.n_tokens - 1) / seconds)
    }
}

/// Answers `request`, giving every piece of text to `show` as soon as it cannot change any more. Ctrl+C ends the answer
/// within one token and is no error.
///
/// # Errors
/// As [`answer::answer`], and what `show` says.
pub fn answer(
    session: &mut Session,
    tokenizer: &Tokenizer,
    request: &Request<'_>,
    show: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let _busy = interrupt::busy();
    let bar = output::bar(request.prompt.len() as u64, "Reading {wide_bar} {pos}/{len} tokens");
    let start = Instant::now();
    let mut terminal = Terminal { show, bar, first: None };
    let answered = block_on(answer::answer(session, tokenizer, request, &mut terminal));
    terminal.bar.finish_and_clear();
    let answer::Answer { text, n_tokens, finish, .. } = answered?;
    let first_token = terminal.first.map(|first| first.duration_since(start));
    let writing = terminal.first.map_or(Duration::ZERO, |first| first.elapsed());
    Ok(Answer { text, n_tokens, finish, first_token, writing })
}

/// What the terminal does while an answer is made.
struct Terminal<'a> {
    show: &'a mut dyn FnMut(&str) -> Result<(), Failure>,
    bar: ProgressBar,
    /// When the first token came.
    first: Option<Instant>,
}

impl Listener for Terminal<'_> {
    type Error = Failure;

    fn reading(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        if done == total {
            self.bar.finish_and_clear();
        } else if done > 0 {
            // A prompt of one chunk is read before anybody could see a bar.
            self.bar.set_position(done as u64);
        }
        interrupt::flow()
    }

    fn computed(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    fn piece(&mut self, _id: Option<u32>, text: &str) -> Result<(), Failure> {
        if text.is_empty() { Ok(()) } else { (self.show)(text) }
    }

    fn is_stopped(&mut self) -> bool {
        interrupt::requested()
    }
}
