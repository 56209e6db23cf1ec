//! One answer: the ids of a prompt in, pieces of text out as they come, and why it ended.
//!
//! Terminal, window, page and the sample answers of a training run this one loop, so that they stop at the same token and say so
//! in the same word. It has no clock and no thread: who measures or batches does so in a [`Listener`].

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::adapter::Adapter;
use crate::sampler::Sampling;
use crate::text::{ChatTemplate, Shown, TextStream, Tokenizer};
use crate::{Error, Session};

/// Why an answer ended. As JSON and for [`Finish::name`]: `stop`, `length`, `context`, `stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended it, or a stop string came.
    Stop,
    /// [`Request::max_tokens`] were computed.
    Length,
    /// The context is full.
    Context,
    /// The listener wanted no more.
    Stopped,
}

impl Finish {
    /// Its one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Stopped => "stopped",
        }
    }

    /// What a person is told of it, for a line of remarks; empty where there is nothing to tell.
    #[must_use]
    pub fn remark(self) -> &'static str {
        match self {
            Self::Stop => "",
            Self::Length => "cut at the token limit",
            Self::Context => "context full",
            Self::Stopped => "stopped",
        }
    }
}

/// What to answer and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The whole conversation as ids.
    pub prompt: &'a [u32],
    /// The beginning of the answer, where there is one: the answer goes on behind it, without a seam in a character.
    pub begun: &'a [u32],
    /// How tokens are chosen.
    pub sampling: &'a Sampling,
    /// Texts that end the answer and are not part of it: see [`stops`].
    pub stops: &'a [String],
    /// The most tokens to compute, the end token included, [`Request::begun`] not.
    pub max_tokens: Option<u32>,
    /// Goes on behind end tokens, for measuring. They are ids of the answer then, and no text of it.
    pub ignore_end: bool,
    /// What is seen of control tokens.
    pub shown: Shown,
}

impl<'a> Request<'a> {
    /// An answer to `prompt` up to its end, in plain text.
    #[must_use]
    pub fn new(prompt: &'a [u32], sampling: &'a Sampling) -> Self {
        let (begun, stops): (&[u32], &[String]) = (&[], &[]);
        Self { prompt, begun, sampling, stops, max_tokens: None, ignore_end: false, shown: Shown::TextOnly }
    }
}

/// Who hears of an answer while it is made.
pub trait Listener {
    /// What may go wrong in it, or in the engine.
    type Error: From<Error>;

    /// Tokens of the prompt that are read, and in all; may stop the answer.
    fn reading(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        let _ = (done, total);
        ControlFlow::Continue(())
    }

    /// A token was computed, an end token, too. Comes before its piece, for those who measure time.
    fn computed(&mut self) {}

    /// More of the answer: text that cannot change any more, often none, and the id it came with. Without an id it is the text
    /// of [`Request::begun`], or what was held back to the end.
    ///
    /// # Errors
    /// End the answer.
    fn piece(&mut self, id: Option<u32>, text: &str) -> Result<(), Self::Error> {
        let _ = (id, text);
        Ok(())
    }

    /// Whether the answer is to end here; asked before every token.
    fn is_stopped(&mut self) -> bool {
        false
    }

    /// The adapter and strength for the next token; asked before every token. When it is another one, prompt and answer so far are
    /// read again under it and the sentence goes on. `None`: that of the session, whatever it is.
    fn setting(&self) -> Option<Option<(&Adapter, f32)>> {
        None
    }
}

/// Hears nothing.
impl Listener for () {
    type Error = Error;
}

/// How an answer went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text, that of [`Request::begun`] included, up to a stop string.
    pub text: String,
    /// Its new ids, without the end token. Those of a stop string are among them.
    pub ids: Vec<u32>,
    /// Tokens computed, the one that ended it included.
    pub n_tokens: u32,
    /// Tokens of the prompt, [`Request::begun`] included.
    pub n_prompt: u32,
    /// Those of them that were in the cache already.
    pub n_reused: u32,
    /// Why it ended.
    pub finish: Finish,
}

/// Answers `request`.
///
/// # Errors
/// A prompt that leaves no room for a token of the answer ([`Error::ContextFull`]), stop strings out of bounds, what
/// [`Session::generate`] and what the listener says. A stop is none: it is [`Finish::Stopped`].
pub async fn answer<L: Listener>(
    session: &mut Session,
    tokenizer: &Tokenizer,
    request: &Request<'_>,
    listener: &mut L,
) -> Result<Answer, L::Error> {
    let stops: Vec<&str> = request.stops.iter().map(String::as_str).collect();
    let mut stream = TextStream::new(tokenizer, request.shown, &stops).map_err(Error::from)?;
    let mut all = [request.prompt, request.begun].concat();
    let n_prompt = all.len();
    let limit = session.context() as usize;
    if n_prompt >= limit {
        let wanted = u32::try_from(n_prompt + 1).unwrap_or(u32::MAX);
        return Err(Error::ContextFull { wanted, limit: limit as u32 }.into());
    }
    let mut text = String::new();
    for id in request.begun {
        text += &stream.push(tokenizer, *id).map_err(Error::from)?;
    }
    if !text.is_empty() {
        listener.piece(None, &text)?;
    }
    let (mut n_reused, mut n_tokens) = (None, 0);
    let finish = 'setting: loop {
        if let Some(setting) = listener.setting() {
            session.set_adapter(setting)?;
        }
        if all.len() >= limit {
            break Finish::Context;
        }
        let mut progress = |done: usize, total: usize| {
            n_reused.get_or_insert(done as u32);
            listener.reading(done, total)
        };
        let mut generation = match session.generate(&all, request.sampling, &mut progress).await {
            Ok(generation) => generation,
            Err(Error::Cancelled) => break Finish::Stopped,
            Err(error) => return Err(error.into()),
        };
        loop {
            // Also where a stop string stands in what had begun.
            if stream.is_stopped() {
                break 'setting Finish::Stop;
            }
            if listener.is_stopped() {
                break 'setting Finish::Stopped;
            }
            if request.max_tokens.is_some_and(|max| n_tokens >= max) {
                break 'setting Finish::Length;
            }
            if listener.setting().is_some_and(|setting| !generation.session().is_set_to(setting)) {
                continue 'setting;
            }
            let Some(id) = generation.next().await? else { break 'setting Finish::Context };
            n_tokens += 1;
            listener.computed();
            if tokenizer.is_end_of_generation(id) && !request.ignore_end {
                break 'setting Finish::Stop;
            }
            all.push(id);
            let piece = stream.push(tokenizer, id).map_err(Error::from)?;
            text += &piece;
            listener.piece(Some(id), &piece)?;
        }
    };
    let rest = stream.finish();
    if !rest.is_empty() {
        text += &rest;
        listener.piece(None, &rest)?;
    }
    let ids = all.split_off(n_prompt);
    Ok(Answer { text, ids, n_tokens, n_prompt: n_prompt as u32, n_reused: n_reused.unwrap_or_default(), finish })
}

/// The next `n` ids after `prompt`, whatever they say: for measuring, without text and ends. Fewer where the context is full.
///
/// # Errors
/// As [`Session::generate`]; [`Error::Cancelled`] when `go_on`, asked before every token and while the prompt is read, breaks.
pub async fn ids(
    session: &mut Session,
    prompt: &[u32],
    sampling: &Sampling,
    n: usize,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<u32>, Error> {
    let mut generation = session.generate(prompt, sampling, &mut |_, _| go_on()).await?;
    let mut ids = Vec::with_capacity(n);
    while ids.len() < n {
        if go_on().is_break() {
            return Err(Error::Cancelled);
        }
        let Some(id) = generation.next().await? else { break };
        ids.push(id);
    }
    Ok(ids)
}

/// The stop strings of an answer: what `template` writes after one where that is no control token (a model without the template's
/// end token goes on to speak for the other side otherwise), then `own` ones.
#[must_use]
pub fn stops(template: Option<&ChatTemplate>, tokenizer: &Tokenizer, own: &[String]) -> Vec<String> {
    let of_template = template.and_then(|template| template.stop_string(tokenizer));
    let mut stops: Vec<String> = of_template.into_iter().collect();
    stops.extend(own.iter().filter(|stop| !stops.contains(stop)).cloned().collect::<Vec<_>>());
    stops
}
