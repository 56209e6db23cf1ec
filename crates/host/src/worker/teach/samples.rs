//! Answers on the way, to see what has been learnt.

use std::sync::Arc;

use crate::Problem;
use adapter_engine::adapter::AdapterFile;
use adapter_engine::answer::{Request, answer, stops};
use adapter_engine::sampler::Sampling;
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{Message, RenderOptions, Tokenizer, encode_chat};
use adapter_engine::{Adapter, Model, Session};
use adapter_finetune::data::{Dataset, Question, Renderer};
use adapter_finetune::metrics::Record;
use adapter_finetune::{RunFolder, usual};
use pollster::block_on;

use super::{Ground, TeachEvent, of_training};
use crate::worker::{Event, Events};

/// A conversation of its own for sample answers.
pub(super) struct Samples {
    session: Session,
    model: Model,
    tokenizer: Arc<Tokenizer>,
    questions: Vec<Question>,
    stops: Vec<String>,
}

impl Samples {
    pub fn new(ground: &Ground, renderer: &Renderer<'_>, dataset: &Dataset, question: &str) -> Result<Self, Problem> {
        let tokenizer = &ground.tokenizer;
        let questions = match question.trim() {
            "" => {
                let rows = if dataset.validation.is_empty() { &dataset.training } else { &dataset.validation };
                Question::first(rows, tokenizer, usual::SAMPLES)?
            }
            text => {
                let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
                let ids = encode_chat(tokenizer, renderer.template(), &[Message::new("user", text)], &options)?;
                vec![Question { text: text.to_owned(), ids }]
            }
        };
        let longest = questions.iter().map(|question| question.ids.len() as u32).max().unwrap_or(0);
        let context = (longest + usual::SAMPLE_TOKENS + 8).min(ground.file.config.n_context);
        let session =
            Session::new(&ground.model, &SessionOptions { context: Some(context), ..SessionOptions::default() })?;
        let stops = stops(Some(renderer.template()), tokenizer, &[]);
        Ok(Self { session, model: ground.model.clone(), tokenizer: Arc::clone(tokenizer), questions, stops })
    }

    /// Asks, keeps and tells the answers with an adapter, or of the model alone.
    pub fn ask(
        &mut self,
        adapter: Option<&AdapterFile>,
        step: u64,
        folder: &mut RunFolder,
        events: &Events,
    ) -> Result<(), Problem> {
        let resident = adapter.map(|file| Adapter::load(&self.model, "in training", file)).transpose()?;
        self.session.set_adapter(resident.as_ref().map(|resident| (resident, 1.0)))?;
        for Question { text, ids } in &self.questions {
            let (sampling, max_tokens) = (Sampling::greedy(), Some(usual::SAMPLE_TOKENS));
            let request = Request { stops: &self.stops, max_tokens, ..Request::new(ids, &sampling) };
            let answered = block_on(answer(&mut self.session, &self.tokenizer, &request, &mut ()))?;
            let answer = answered.text.trim().to_owned();
            let record = Record::Sample { step, prompt: text.clone(), answer };
            folder.record(record.clone()).map_err(of_training)?;
            events.send(Event::Teach(TeachEvent::Happened(record)));
        }
        Ok(())
    }
}
