//! Rows to token ids, and which of them are learnt.

use std::ops::Range;

use adapter_engine::text::{
    ChatTemplate, Message, Part, RenderOptions, Rendered, Segment, Special, TextError, Tokenizer, encode_chat,
};

use super::align::Aligner;
use super::error::DataError;
use super::load::DataOptions;
use super::problem::Reason;
use super::row::{ANSWER_ROLE, INPUT_ROLE, Row};

/// The whole chat, as it is after the last answer.
const WHOLE: RenderOptions = RenderOptions { add_generation_prompt: false, date: None };
/// A chat up to where an answer begins.
const PROMPT: RenderOptions = RenderOptions { add_generation_prompt: true, date: None };

/// A row as the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids of [`encode_chat`] for the whole chat, cut to the most tokens.
    pub ids: Vec<u32>,
    /// Which of them are learnt.
    pub trained: Vec<bool>,
    /// Tokens that were cut off.
    pub cut: usize,
    /// The prompt has other tokens alone than with the answer behind it, as the tokenizer joins or parts letters there.
    /// A token that begins in the prompt is not learnt: the model never has to say it.
    pub unlike_prompt: bool,
    /// The template writes no token after the last answer by which the model could learn to end.
    pub without_end: bool,
}

/// Writes rows as a model sees them.
#[derive(Debug)]
pub struct Renderer<'a> {
    tokenizer: &'a Tokenizer,
    template: ChatTemplate,
    takes_input: bool,
    max_tokens: usize,
    train_on_prompt: bool,
    aligner: Aligner,
}

/// Where an answer stands in a text.
struct Answer {
    /// The answer with what the template writes after it.
    bytes: Range<usize>,
    /// Whether that ends there for sure, and not before.
    is_exact_end: bool,
    /// What stands before the first answer, rendered by itself.
    prompt: Option<Rendered>,
}

impl<'a> Renderer<'a> {
    /// A renderer for the template, the limit and the mask of `options`.
    ///
    /// # Errors
    /// If the template is unknown or does not parse, or the limit is below 2.
    pub fn new(tokenizer: &'a Tokenizer, options: &DataOptions) -> Result<Self, DataError> {
        if options.max_tokens < 2 {
            let found = options.max_tokens.to_string();
            return Err(DataError::Setting { field: "max_tokens", found, wanted: "at least 2" });
        }
        let template = options.template.build(tokenizer)?;
        let takes_input = template.source() == ChatTemplate::built_in("alpaca", tokenizer)?.source();
        Ok(Self {
            tokenizer,
            template,
            takes_input,
            max_tokens: options.max_tokens as usize,
            train_on_prompt: options.train_on_prompt,
            aligner: Aligner::new(tokenizer),
        })
    }

    /// The template in use.
    #[must_use]
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The ids of a row and which are learnt.
    ///
    /// # Errors
    /// Why the row cannot be trained on.
    pub fn encode(&self, row: &Row) -> Result<Encoded, Reason> {
        let mut encoded = match row {
            Row::Text(text) => self.encode_text(text)?,
            Row::Chat(messages) => self.encode_messages(&self.for_template(messages))?,
        };
        // Nothing stands before the first token by which it could be foretold.
        if let Some(first) = encoded.trained.first_mut() {
            *first = false;
        }
        let tokens = encoded.ids.len();
        encoded.cut = tokens.saturating_sub(self.max_tokens);
        encoded.ids.truncate(self.max_tokens);
        encoded.trained.truncate(self.max_tokens);
        if encoded.trained.contains(&true) {
            Ok(encoded)
        } else {
            Err(Reason::NothingTrained { tokens, max_tokens: self.max_tokens })
        }
    }

    /// The messages as the template takes them: only that of alpaca knows a message of the role `input`. For others the
    /// input follows the instruction on a new line, as in LLaMA-Factory (`data/converter.py`).
    fn for_template(&self, messages: &[Message]) -> Vec<Message> {
        let mut out: Vec<Message> = Vec::with_capacity(messages.len());
        for message in messages {
            match out.last_mut() {
                Some(instruction) if message.role == INPUT_ROLE && !self.takes_input => {
                    if !instruction.content.is_empty() {
                        instruction.content.push('\n');
                    }
                    instruction.content.push_str(&message.content);
                }
                _ => out.push(message.clone()),
            }
        }
        out
    }

    fn encode_text(&self, text: &str) -> Result<Encoded, TextError> {
        let mut ids: Vec<u32> = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos()).into_iter().collect();
        ids.extend(self.tokenizer.encode(text, Special::AsText)?);
        ids.extend(self.tokenizer.eos());
        let trained = vec![true; ids.len()];
        Ok(Encoded { ids, trained, without_end: self.tokenizer.eos().is_none(), ..Encoded::default() })
    }

    fn encode_messages(&self, messages: &[Message]) -> Result<Encoded, Reason> {
        let rendered = self.template.render(messages, &WHOLE)?;
        let (ids, n_added) = self.encode_rendered(&rendered, messages, &WHOLE)?;
        let mut encoded = Encoded { trained: vec![self.train_on_prompt; ids.len()], ids, ..Encoded::default() };
        let text = rendered.text();
        let ids = encoded.ids.get(n_added..).unwrap_or_default();
        let starts = self.aligner.starts(self.tokenizer, ids, text).ok_or(Reason::AnswerNotFound)?;
        let text_len = text.len();
        for Answer { bytes, is_exact_end, prompt } in self.answers(messages, text)? {
            let seam = starts.partition_point(|start| *start < bytes.start);
            if let Some(prompt) = prompt {
                let before = messages.iter().position(|message| message.role == ANSWER_ROLE).unwrap_or(0);
                let prompt = self.encode_rendered(&prompt, messages.get(..before).unwrap_or_default(), &PROMPT)?.0;
                encoded.unlike_prompt = encoded.ids.get(..n_added + seam) != Some(prompt.as_slice());
            }
            encoded.unlike_prompt |= starts.get(seam).is_some_and(|next| self.is_spelled(text, bytes.start..*next));
            let mut has_end = false;
            let ends = starts.iter().skip(1).chain(std::iter::once(&text_len));
            let tokens = starts.iter().zip(ends).zip(ids).enumerate().skip(seam);
            for (index, ((start, end), id)) in tokens {
                // One that begins here and ends in the next turn is never said like this.
                if *start >= bytes.end || *end > bytes.end || has_end {
                    break;
                }
                if let Some(trained) = encoded.trained.get_mut(n_added + index) {
                    *trained = true;
                }
                has_end = self.tokenizer.is_end_of_generation(*id);
            }
            if !has_end && !is_exact_end {
                return Err(Reason::AnswerNotFound);
            }
            encoded.without_end = !has_end;
        }
        Ok(encoded)
    }

    /// Whether a token stands for one of these bytes.
    fn is_spelled(&self, text: &str, range: Range<usize>) -> bool {
        text.as_bytes().get(range).is_some_and(|bytes| self.aligner.spells(bytes))
    }

    /// The ids of [`encode_chat`], without rendering again, and how many of them stand before the text.
    fn encode_rendered(
        &self,
        rendered: &Rendered,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<(Vec<u32>, usize), TextError> {
        let (tokenizer, text) = (self.tokenizer, rendered.text());
        let Some(segments) = rendered.segments() else {
            let ids = encode_chat(tokenizer, &self.template, messages, options)?;
            let plain = tokenizer.encode(text, Special::Parse)?;
            let n_added = ids.len().saturating_sub(plain.len());
            return Ok((ids, n_added));
        };
        let parts: Vec<Part<'_>> = segments
            .into_iter()
            .map(|segment| match segment {
                Segment::TemplateText(text) => Part { text, special: Special::Parse },
                Segment::Content(text) => Part { text, special: Special::AsText },
            })
            .collect();
        let mut ids = tokenizer.encode_parts(&parts)?;
        match tokenizer.bos().filter(|bos| tokenizer.add_bos() && ids.first() != Some(bos)) {
            Some(bos) => {
                ids.insert(0, bos);
                Ok((ids, 1))
            }
            None => Ok((ids, 0)),
        }
    }

    /// Where the answers stand in `text`.
    fn answers(&self, messages: &[Message], text: &str) -> Result<Vec<Answer>, Reason> {
        let mut answers: Vec<Answer> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role != ANSWER_ROLE {
                continue;
            }
            let mut prompt = self.prefix(messages.get(..index).unwrap_or_default(), &PROMPT, text);
            let start = match &prompt {
                Some(prompt) => prompt.text().len(),
                None => self.place_of(messages, index, text).ok_or(Reason::AnswerNotFound)?,
            };
            if !answers.is_empty() {
                prompt = None;
            }
            let (end, is_exact_end) = if index + 1 == messages.len() {
                (text.len(), true)
            } else {
                match self.prefix(messages.get(..=index).unwrap_or_default(), &WHOLE, text) {
                    Some(up_to_here) => (up_to_here.text().len(), true),
                    // Good as a limit within which the token that ends the turn is looked for.
                    None => (self.place_of(messages, index + 1, text).ok_or(Reason::AnswerNotFound)?, false),
                }
            };
            if end <= start {
                return Err(Reason::AnswerNotFound);
            }
            answers.push(Answer { bytes: start..end, is_exact_end, prompt });
        }
        Ok(answers)
    }

    /// These messages alone, if `text` begins with what the template writes for them.
    fn prefix(&self, messages: &[Message], options: &RenderOptions, text: &str) -> Option<Rendered> {
        if messages.is_empty() {
            return None;
        }
        let rendered = self.template.render(messages, options).ok()?;
        text.starts_with(rendered.text()).then_some(rendered)
    }

    /// Where message `index` stands in `text`: where a made-up word in its place would.
    fn place_of(&self, messages: &[Message], index: usize, text: &str) -> Option<usize> {
        let taken = |word: &str| text.contains(word) || self.template.source().contains(word);
        let word = (0_u32..).map(|n| format!("Qjv{n}w")).find(|word| !taken(word))?;
        let mut changed = messages.to_vec();
        changed.get_mut(index)?.content.clone_from(&word);
        let rendered = self.template.render(&changed, &WHOLE).ok()?;
        let at = rendered.text().find(&word)?;
        (rendered.text().get(..at)? == text.get(..at)?).then_some(at)
    }
}
