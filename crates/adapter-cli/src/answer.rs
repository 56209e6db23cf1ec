//! One answer: ids in, text out as it comes, and how it went.

use std::time::{Duration, Instant};

use adapter_engine::sampler::Sampling;
use adapter_engine::text::{Shown, TextStream, Tokenizer};
use adapter_engine::{Error, Session};
use pollster::block_on;
use serde::Serialize;

use crate::failure::Failure;
use crate::{interrupt, output};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended it, or a stop string came.
    Stop,
    /// `--max-tokens`.
    Length,
    /// The context is full.
    Context,
    /// Ctrl+C.
    Interrupted,
}

/// What to answer and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The whole conversation as ids.
    pub prompt: &'a [u32],
    /// How tokens are chosen.
    pub sampling: &'a Sampling,
    /// Texts that end the answer.
    pub stops: &'a [String],
    /// The most tokens.
    pub max_tokens: Option<u32>,
    /// What is seen of control tokens.
    pub shown: Shown,
}

/// How an answer went.
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
/// As [`Session::generate`], and what `show` says.
pub fn answer(
    session: &mut Session,
    tokenizer: &Tokenizer,
    request: Request<'_>,
    show: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let _busy = interrupt::busy();
    let stops: Vec<&str> = request.stops.iter().map(String::as_str).collect();
    let mut stream = TextStream::new(tokenizer, request.shown, &stops)?;
    let mut answer = Answer {
        text: String::new(),
        n_tokens: 0,
        finish: Finish::Interrupted,
        first_token: None,
        writing: Duration::ZERO,
    };
    let start = Instant::now();
    let bar = output::bar(request.prompt.len() as u64, "Reading {wide_bar} {pos}/{len} tokens");
    let mut progress = |done: usize, total: usize| {
        // A prompt of one chunk is read before anybody could see a bar.
        if done > 0 && done < total {
            bar.set_position(done as u64);
        }
        interrupt::flow()
    };
    let generation = block_on(session.generate(request.prompt, request.sampling, &mut progress));
    bar.finish_and_clear();
    let mut generation = match generation {
        Ok(generation) => generation,
        Err(Error::Cancelled) => return Ok(answer),
        Err(error) => return Err(error.into()),
    };
    let mut first = start;
    answer.finish = loop {
        if interrupt::requested() {
            break Finish::Interrupted;
        }
        if request.max_tokens.is_some_and(|max| answer.n_tokens >= max) {
            break Finish::Length;
        }
        let Some(id) = block_on(generation.next())? else { break Finish::Context };
        answer.n_tokens += 1;
        if answer.first_token.is_none() {
            answer.first_token = Some(start.elapsed());
            first = Instant::now();
        }
        if tokenizer.is_end_of_generation(id) {
            break Finish::Stop;
        }
        let piece = stream.push(tokenizer, id)?;
        if !piece.is_empty() {
            answer.text.push_str(&piece);
            show(&piece)?;
        }
        if stream.is_stopped() {
            break Finish::Stop;
        }
    };
    answer.writing = first.elapsed();
    let rest = stream.finish();
    if !rest.is_empty() {
        answer.text.push_str(&rest);
        show(&rest)?;
    }
    Ok(answer)
}
