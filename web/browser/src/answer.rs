//! A conversation: messages in, pieces of text out.

use std::ops::ControlFlow;
use std::rc::Rc;

use adapter_engine::Session;
use adapter_engine::answer::{self, Listener, Request, stops};
use adapter_engine::sampler::Sampling;
use adapter_engine::text::{ChatTemplate, Message, RenderOptions, encode_chat};
use wasm_bindgen::prelude::*;

use crate::failure::Failure;
use crate::shared::{AdapterChoice, Shared};
use crate::types::{AnswerEnd, AnswerEvent, AnswerRequest, SamplingSettings, from_js, to_js};

/// A conversation and its cache.
#[wasm_bindgen]
pub struct Chat {
    shared: Rc<Shared>,
    session: Session,
    choice: AdapterChoice,
    /// The chat template that the chosen adapter was trained with, where it is known.
    kept: Option<ChatTemplate>,
}

impl Chat {
    /// An empty conversation.
    pub fn new(shared: Rc<Shared>, session: Session) -> Self {
        Self { shared, session, choice: AdapterChoice::default(), kept: None }
    }

    /// Takes the chat template of the chosen adapter.
    fn use_its_template(&mut self) -> Result<(), Failure> {
        let chosen = self.choice.get();
        let kept = chosen.as_ref().and_then(|(adapter, _)| adapter.chat_template());
        if kept != self.kept.as_ref().map(ChatTemplate::source) {
            self.kept = kept.map(|source| ChatTemplate::new(source, &self.shared.tokenizer)).transpose()?;
        }
        Ok(())
    }

    /// The chat template of the chosen adapter, or the model's own.
    fn template(&self) -> &ChatTemplate {
        self.kept.as_ref().unwrap_or(&self.shared.template)
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
        Ok(encode_chat(&self.shared.tokenizer, self.template(), &messages, &options)?)
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

    /// The adapter it answers with; what is chosen there holds for the answer on its way, too.
    #[must_use]
    pub fn adapter(&self) -> AdapterChoice {
        self.choice.clone()
    }

    /// How many positions a prompt takes; nothing is computed.
    ///
    /// # Errors
    /// A template that refuses the messages.
    #[wasm_bindgen(js_name = countTokens)]
    pub fn count_tokens(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "AnswerRequest")] request: &JsValue,
    ) -> Result<usize, Failure> {
        self.use_its_template()?;
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
        self.use_its_template()?;
        let prompt = self.prompt(&request)?;
        let sampling = sampling(&request.sampling);
        // Ids stand for themselves: nothing is known of a template then.
        let template = request.ids.is_none().then(|| self.template());
        let stops = stops(template, &self.shared.tokenizer, &request.stops);
        let engines = Request {
            stops: &stops,
            max_tokens: request.max_tokens,
            ignore_end: request.ignore_end,
            ..Request::new(&prompt, &sampling)
        };
        let (choice, adapter) = (self.choice.clone(), self.choice.get());
        let mut page = Page { listener, choice, adapter, stopped: false, rest: String::new() };
        let answer::Answer { n_tokens, n_prompt, n_reused, finish, .. } =
            answer::answer(&mut self.session, &self.shared.tokenizer, &engines, &mut page).await?;
        to_js(&AnswerEnd {
            finish,
            prompt_tokens: n_prompt,
            reused_tokens: n_reused,
            tokens: n_tokens,
            context: self.session.context(),
            text: page.rest,
        })
    }
}

/// The page's listener.
struct Page {
    listener: js_sys::Function,
    choice: AdapterChoice,
    /// What was chosen for the next token.
    adapter: Option<(adapter_engine::Adapter, f32)>,
    stopped: bool,
    /// What was held back to the end.
    rest: String,
}

impl Page {
    /// Tells the listener; whether it wants to stop.
    fn tell(&self, event: &AnswerEvent<'_>) -> Result<bool, Failure> {
        Ok(self.listener.call1(&JsValue::NULL, &to_js(event)?)?.is_truthy())
    }
}

impl Listener for Page {
    type Error = Failure;

    fn reading(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        // A listener that fails stops the answer, too.
        let stopped = self.tell(&AnswerEvent::Prompt { done, total }).unwrap_or(true);
        if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn piece(&mut self, id: Option<u32>, text: &str) -> Result<(), Failure> {
        match id {
            Some(id) => self.stopped = self.tell(&AnswerEvent::Token { id, text })?,
            None => self.rest += text,
        }
        Ok(())
    }

    fn is_stopped(&mut self) -> bool {
        // The engine asks this before it asks for the setting.
        self.adapter = self.choice.get();
        self.stopped
    }

    fn setting(&self) -> Option<Option<(&adapter_engine::Adapter, f32)>> {
        Some(self.adapter.as_ref().map(|(adapter, strength)| (adapter, *strength)))
    }
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
