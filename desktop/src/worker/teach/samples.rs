//! Answers on the way, to see what has been learnt.

use std::sync::Arc;

use adapter_engine::adapter::AdapterFile;
use adapter_engine::sampler::Sampling;
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{Message, RenderOptions, Shown, TextStream, Tokenizer, encode_chat};
use adapter_engine::{Adapter, Model, Session};
use adapter_files::Problem;
use adapter_finetune::data::{Dataset, Renderer};
use adapter_finetune::metrics::Record;
use pollster::block_on;

use super::folder::Folder;
use super::{Ground, TeachEvent};
use crate::worker::{Event, Events};

/// Tokens of an answer.
pub(super) const SAMPLE_TOKENS: u32 = 48;

/// A conversation of its own for sample answers.
pub(super) struct Samples {
    session: Session,
    model: Model,
    tokenizer: Arc<Tokenizer>,
    /// Questions as people read them, and as ids.
    questions: Vec<(String, Vec<u32>)>,
}

impl Samples {
    pub fn new(ground: &Ground, renderer: &Renderer<'_>, dataset: &Dataset, question: &str) -> Result<Self, Problem> {
        let tokenizer = &ground.tokenizer;
        let mut questions = Vec::new();
        if !question.trim().is_empty() {
            let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
            let messages = [Message::new("user", question.trim())];
            questions
                .push((question.trim().to_owned(), encode_chat(tokenizer, renderer.template(), &messages, &options)?));
        } else {
            // What stands before the first learnt token of the first two rows.
            let rows = if dataset.validation.is_empty() { &dataset.training } else { &dataset.validation };
            for example in rows.iter().take(2) {
                let end = example.trained.iter().position(|trained| *trained).unwrap_or_default();
                let ids = &example.ids[..end];
                if ids.len() > 1 {
                    questions.push((last_said(&decode(tokenizer, ids)?), ids.to_vec()));
                }
            }
        }
        let longest = questions.iter().map(|(_, ids)| ids.len() as u32).max().unwrap_or(0);
        let context = (longest + SAMPLE_TOKENS + 8).min(ground.file.config.n_context);
        let session =
            Session::new(&ground.model, &SessionOptions { context: Some(context), ..SessionOptions::default() })?;
        Ok(Self { session, model: ground.model.clone(), tokenizer: Arc::clone(tokenizer), questions })
    }

    /// Asks, keeps and tells the answers with an adapter, or of the model alone.
    pub fn ask(
        &mut self,
        adapter: Option<&AdapterFile>,
        step: u64,
        folder: &mut Folder,
        events: &Events,
    ) -> Result<(), Problem> {
        let resident = adapter.map(|file| Adapter::load(&self.model, "in training", file)).transpose()?;
        self.session.set_adapter(resident.as_ref().map(|resident| (resident, 1.0)))?;
        for (prompt, ids) in &self.questions {
            let sampling = Sampling::greedy();
            let mut go_on = |_, _| std::ops::ControlFlow::Continue(());
            let mut generation = block_on(self.session.generate(ids, &sampling, &mut go_on))?;
            let mut said = Vec::new();
            while (said.len() as u32) < SAMPLE_TOKENS {
                match block_on(generation.next())? {
                    Some(id) if !self.tokenizer.is_end_of_generation(id) => said.push(id),
                    _ => break,
                }
            }
            drop(generation);
            let answer = decode(&self.tokenizer, &said)?.trim().to_owned();
            let record = Record::Sample { step, prompt: prompt.clone(), answer };
            folder.record(record.clone())?;
            events.send(Event::Teach(TeachEvent::Happened(record)));
        }
        Ok(())
    }
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, Problem> {
    let mut stream = TextStream::new(tokenizer, Shown::TextOnly, &[])?;
    let mut text = String::new();
    for id in ids {
        text += &stream.push(tokenizer, *id)?;
    }
    Ok(text + &stream.finish())
}

/// The last line of a prompt that a person wrote: the template's own last line, such as `assistant`, is no part of it.
fn last_said(prompt: &str) -> String {
    let mut lines: Vec<&str> = prompt.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > 1 {
        lines.pop();
    }
    lines.last().map_or_else(String::new, |line| (*line).to_owned())
}
