//! What the model answers before, during and after: the same questions, so that one can see what was learnt.

use adapter_engine::adapter::AdapterFile;
use adapter_engine::answer::{Answer, Finish, Listener, Request, answer, stops};
use adapter_engine::sampler::Sampling;
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{Message, RenderOptions, Tokenizer, encode_chat};
use adapter_engine::{Adapter, Error, Model, Session};

use crate::data::{DataError, Dataset, Question, Renderer};
use crate::{TrainError, defaults};

/// Positions beside question and answer.
const ROOM: u32 = 8;

/// Questions and a conversation of its own to ask them in.
pub struct Samples<'t> {
    session: Session,
    model: Model,
    tokenizer: &'t Tokenizer,
    questions: Vec<Question>,
    /// Texts that end an answer.
    stops: Vec<String>,
    max_tokens: u32,
}

impl std::fmt::Debug for Samples<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples").field("questions", &self.questions).finish_non_exhaustive()
    }
}

/// The most tokens of a question that leaves room for an answer of `max_tokens` tokens.
#[must_use]
pub fn most_question_tokens(n_context: u32, max_tokens: u32) -> u32 {
    n_context.saturating_sub(max_tokens.saturating_add(ROOM))
}

/// Positions that questions and answers need.
#[must_use]
pub fn context_for(longest_question: u32, max_tokens: u32, n_context: u32) -> u32 {
    longest_question.saturating_add(max_tokens).saturating_add(ROOM).min(n_context)
}

/// The questions `texts` as prompts in the rows' template, or those of the first rows that fit a context of `n_context` tokens with
/// an answer of `max_tokens` behind: rows that are not trained on, or of the first ones where all are.
///
/// # Errors
/// A text of `texts` that does not fit; a template that refuses one.
pub fn questions(
    renderer: &Renderer<'_>,
    tokenizer: &Tokenizer,
    dataset: &Dataset,
    texts: &[String],
    max_tokens: u32,
    n_context: u32,
) -> Result<Vec<Question>, TrainError> {
    if max_tokens == 0 {
        return Ok(Vec::new());
    }
    let most = most_question_tokens(n_context, max_tokens);
    if texts.is_empty() {
        let rows = if dataset.validation.is_empty() { &dataset.training } else { &dataset.validation };
        return Question::first(rows, tokenizer, defaults::SAMPLES, most as usize).map_err(of_text);
    }
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let encoded = texts.iter().map(|text| {
        let messages = [Message::new("user", text)];
        let ids = encode_chat(tokenizer, renderer.template(), &messages, &options).map_err(of_text)?;
        if ids.len() > most as usize {
            let wanted = format!(
                "at most {most}: the model's context of {n_context} less the {max_tokens} of the answer and {ROOM} beside"
            );
            return Err(TrainError::Setting { field: "sample", found: format!("{} tokens", ids.len()), wanted });
        }
        Ok(Question { text: text.clone(), ids })
    });
    encoded.collect()
}

fn of_text(error: adapter_engine::text::TextError) -> TrainError {
    DataError::from(error).into()
}

impl<'t> Samples<'t> {
    /// Makes the conversation in which `questions` are asked. `None`: there are none.
    ///
    /// # Errors
    /// Too little GPU memory.
    pub fn new(
        model: &Model,
        tokenizer: &'t Tokenizer,
        renderer: &Renderer<'_>,
        questions: Vec<Question>,
        max_tokens: u32,
    ) -> Result<Option<Self>, TrainError> {
        let Some(longest) = questions.iter().map(|question| question.ids.len() as u32).max() else { return Ok(None) };
        let context = context_for(longest, max_tokens, model.config().n_context);
        let session = Session::new(model, &SessionOptions { context: Some(context), ..SessionOptions::default() })?;
        let stops = stops(Some(renderer.template()), tokenizer, &[]);
        Ok(Some(Self { session, model: model.clone(), tokenizer, questions, stops, max_tokens }))
    }

    /// What is asked.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The answers that follow are given with this adapter, or by the model alone.
    ///
    /// # Errors
    /// An adapter that does not fit, too little GPU memory.
    pub fn set_adapter(&mut self, adapter: Option<&AdapterFile>) -> Result<(), TrainError> {
        let resident = adapter.map(|file| Adapter::load(&self.model, "in training", file)).transpose()?;
        Ok(self.session.set_adapter(resident.as_ref().map(|resident| (resident, 1.0)))?)
    }

    /// The answer to question `index` and whether it was cut at the most tokens. `None`: there is no such question, or `stop`, asked
    /// before every token and chunk of the prompt, wanted no more.
    ///
    /// # Errors
    /// A GPU that fails.
    pub async fn ask(
        &mut self,
        index: usize,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(String, bool)>, TrainError> {
        let Some(question) = self.questions.get(index) else { return Ok(None) };
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let max_tokens = Some(self.max_tokens);
        let request = Request { stops: &self.stops, max_tokens, ..Request::new(&question.ids, &sampling) };
        let Answer { text, finish, .. } = answer(&mut self.session, self.tokenizer, &request, &mut Watch(stop)).await?;
        Ok((finish != Finish::Stopped).then(|| (text.trim().to_owned(), finish == Finish::Length)))
    }
}

/// Ends an answer when it is told to.
struct Watch<'a>(&'a mut dyn FnMut() -> bool);

impl Listener for Watch<'_> {
    type Error = Error;

    fn reading(&mut self, _: usize, _: usize) -> std::ops::ControlFlow<()> {
        if self.is_stopped() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }

    fn is_stopped(&mut self) -> bool {
        (self.0)()
    }
}
