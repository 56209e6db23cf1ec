//! A conversation: messages in, pieces of text out.

use std::ops::ControlFlow;
use std::rc::Rc;

use adapter_engine::sampler::Sampling;
use adapter_engine::text::{Message, RenderOptions, Shown, TextStream, encode_chat};
use adapter_engine::{Error, Session};
use wasm_bindgen::prelude::*;

use crate::failure::Failure;
use crate::shared::{Adapter, Shared};
use crate::types::{AnswerEnd, AnswerEvent, AnswerRequest, SamplingSettings, from_js, to_js};

/// A conversation and its cache.
#[wasm_bindgen]
pub struct Chat {
    shared: Rc<Shared>,
    session: Session,
}

impl Chat {
    /// An empty conversation.
    pub fn new(shared: Rc<Shared>, session: Session) -> Self {
        Self { shared, session }
    }

    fn prompt(&self, request: &AnswerRequest) -> Result<Vec<u32>, Failure> {
        if let Some(ids) = &request.ids {
            return Ok(ids.clone());
        }
        let messages = request.messages.iter().flatten();
        let messages: Vec<Message> =
            messages.map(|message| Message::new(message.role.clone(), message.content.clone())).collect();
        let options =
            RenderOptions { add_generation_prompt: true, date: request.date.as_deref().map(str::parse).transpose()? };
        Ok(encode_chat(&self.shared.tokenizer, &self.shared.template, &messages, &options)?)
    }
}

#[wasm_bindgen]
impl Chat {
    /// Positions it may have.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn context(&self) -> u32 {
        self.session.context()
    }

    /// Answers with this adapter from now on: 1 as trained, up to 2.
    ///
    /// # Errors
    /// Too little memory.
    #[wasm_bindgen(js_name = setAdapter)]
    pub fn set_adapter(&mut self, adapter: &Adapter, strength: f32) -> Result<(), Failure> {
        Ok(self.session.set_adapter(Some((&adapter.resident, strength)))?)
    }

    /// Answers as the base model from now on.
    ///
    /// # Errors
    /// None that is known.
    #[wasm_bindgen(js_name = clearAdapter)]
    pub fn clear_adapter(&mut self) -> Result<(), Failure> {
        Ok(self.session.set_adapter(None)?)
    }

    /// How many positions a prompt takes; nothing is computed.
    ///
    /// # Errors
    /// A template that refuses the messages.
    #[wasm_bindgen(js_name = countTokens)]
    pub fn count_tokens(
        &self,
        #[wasm_bindgen(unchecked_param_type = "AnswerRequest")] request: &JsValue,
    ) -> Result<usize, Failure> {
        Ok(self.prompt(&from_js(request)?)?.len())
    }

    /// Answers. `listener` hears of every token; what it returns may stop the answer.
    ///
    /// # Errors
    /// A full context, settings out of range, a lost GPU.
    #[wasm_bindgen(unchecked_return_type = "AnswerEnd")]
    pub async fn answer(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "AnswerRequest")] request: JsValue,
        #[wasm_bindgen(unchecked_param_type = "AnswerListener")] listener: js_sys::Function,
    ) -> Result<JsValue, Failure> {
        let request: AnswerRequest = from_js(&request)?;
        let prompt = self.prompt(&request)?;
        let tokenizer = &self.shared.tokenizer;
        let stops: Vec<&str> = request.stops.iter().map(String::as_str).collect();
        let mut stream = TextStream::new(tokenizer, Shown::TextOnly, &stops)?;
        let mut end = AnswerEnd {
            finish: "stopped",
            prompt_tokens: prompt.len(),
            reused_tokens: 0,
            tokens: 0,
            context: self.session.context(),
            text: String::new(),
        };
        let mut first = None;
        let mut progress = |done: usize, total: usize| {
            first.get_or_insert(done);
            stopped(tell(&listener, &AnswerEvent::Prompt { done, total }))
        };
        let sampling = sampling(&request.sampling);
        let generation = self.session.generate(&prompt, &sampling, &mut progress).await;
        end.reused_tokens = first.unwrap_or_default();
        let mut generation = match generation {
            Ok(generation) => generation,
            Err(Error::Cancelled) => return to_js(&end),
            Err(error) => return Err(error.into()),
        };
        end.finish = loop {
            if request.max_tokens.is_some_and(|max| end.tokens >= max) {
                break "length";
            }
            let Some(id) = generation.next().await? else { break "context" };
            end.tokens += 1;
            if tokenizer.is_end_of_generation(id) && !request.ignore_end {
                break "stop";
            }
            let text = stream.push(tokenizer, id)?;
            if tell(&listener, &AnswerEvent::Token { id, text: &text })? {
                break "stopped";
            }
            if stream.is_stopped() {
                break "stop";
            }
        };
        drop(generation);
        end.text = stream.finish();
        to_js(&end)
    }
}

/// Tells the listener; whether it wants to stop.
fn tell(listener: &js_sys::Function, event: &AnswerEvent<'_>) -> Result<bool, Failure> {
    Ok(listener.call1(&JsValue::NULL, &to_js(event)?)?.is_truthy())
}

/// A listener that fails stops the answer, too.
fn stopped(told: Result<bool, Failure>) -> ControlFlow<()> {
    if told.unwrap_or(true) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn sampling(settings: &SamplingSettings) -> Sampling {
    let usual = Sampling::default();
    Sampling {
        temperature: settings.temperature.unwrap_or(usual.temperature),
        top_k: settings.top_k.unwrap_or(usual.top_k),
        top_p: settings.top_p.unwrap_or(usual.top_p),
        min_p: settings.min_p.unwrap_or(usual.min_p),
        repeat_penalty: settings.repeat_penalty.unwrap_or(usual.repeat_penalty),
        repeat_last_n: settings.repeat_last_n.unwrap_or(usual.repeat_last_n),
        seed: settings.seed.unwrap_or(usual.seed),
    }
}
