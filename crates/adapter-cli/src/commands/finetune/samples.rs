//! What the model answers while it learns.

use adapter_engine::adapter::AdapterFile;
use adapter_engine::answer::{Finish, Request, stops};
use adapter_engine::sampler::Sampling;
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{Message, RenderOptions, Tokenizer, encode_chat};
use adapter_engine::{Adapter, Model, Session};
use adapter_finetune::data::{Dataset, Question, Renderer};
use adapter_finetune::usual;

use crate::answer::answer;
use crate::failure::Failure;

/// A conversation of its own for sample answers.
pub struct Samples<'t> {
    session: Session,
    model: Model,
    tokenizer: &'t Tokenizer,
    pub questions: Vec<Question>,
    stops: Vec<String>,
    max_tokens: u32,
}

impl<'t> Samples<'t> {
    /// Asks `texts`, or the first rows that are not learnt.
    ///
    /// # Errors
    /// Too little GPU memory, a question that is longer than the context.
    pub fn new(
        model: &Model,
        tokenizer: &'t Tokenizer,
        renderer: &Renderer<'_>,
        dataset: &Dataset,
        texts: &[String],
        max_tokens: u32,
    ) -> Result<Self, Failure> {
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        let mut questions = Vec::new();
        for text in texts {
            let ids = encode_chat(tokenizer, renderer.template(), &[Message::new("user", text)], &options)?;
            questions.push(Question { text: text.clone(), ids });
        }
        if questions.is_empty() && max_tokens > 0 {
            let rows = if dataset.validation.is_empty() { &dataset.training } else { &dataset.validation };
            questions = Question::first(rows, tokenizer, usual::SAMPLES)?;
        }
        let longest = questions.iter().map(|question| question.ids.len() as u32).max().unwrap_or(0);
        let context = (longest + max_tokens + 8).min(model.config().n_context);
        let session = Session::new(model, &SessionOptions { context: Some(context), ..SessionOptions::default() })?;
        let stops = stops(Some(renderer.template()), tokenizer, &[]);
        Ok(Self { session, model: model.clone(), tokenizer, questions, stops, max_tokens })
    }

    /// Whether there is anything to ask.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty() || self.max_tokens == 0
    }

    /// The answers with an adapter, or of the model alone, and whether each was cut. Ctrl+C ends them early.
    ///
    /// # Errors
    /// A GPU that fails.
    pub fn ask(&mut self, adapter: Option<&AdapterFile>) -> Result<Vec<(String, bool)>, Failure> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let resident = adapter.map(|file| Adapter::load(&self.model, "in training", file)).transpose()?;
        self.session.set_adapter(resident.as_ref().map(|resident| (resident, 1.0)))?;
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let mut answers = Vec::new();
        for question in &self.questions {
            let max_tokens = Some(self.max_tokens);
            let request = Request { stops: &self.stops, max_tokens, ..Request::new(&question.ids, &sampling) };
            let answer = answer(&mut self.session, self.tokenizer, &request, &mut |_| Ok(()))?;
            answers.push((answer.text.trim().to_owned(), answer.finish == Finish::Length));
        }
        Ok(answers)
    }
}
