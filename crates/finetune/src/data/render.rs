//! Rows to token ids, and which of them are target tokens.

use std::ops::Range;

use adapter_engine::text::{
    ChatTemplate, Message, Part, RenderOptions, Rendered, Segment, Special, TextError, Tokenizer, encode_chat,
};

use super::align::Aligner;
use super::error::DataError;
use super::examples::Encoded;
use super::markup;
use super::options::DataOptions;
use super::problem::Reason;
use super::row::{ANSWER_ROLE, INPUT_ROLE, Row};

/// The whole chat, as it is after the last answer.
const WHOLE: RenderOptions = RenderOptions { add_generation_prompt: false, date: None };
/// A chat up to where an answer begins.
const PROMPT: RenderOptions = RenderOptions { add_generation_prompt: true, date: None };

/// With what reasoning models begin a thought.
const THINK: &str = "<think>";

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
    /// Which message it is.
    index: usize,
    /// The answer with what the template writes after it.
    bytes: Range<usize>,
    /// Whether that ends there for sure, and not before.
    is_exact_end: bool,
    /// What the model is asked with at this point, if the text begins with it.
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

    /// The ids of a row, and which are target tokens.
    ///
    /// # Errors
    /// Why the row cannot be trained on.
    pub fn encode(&self, row: &Row) -> Result<Encoded, Reason> {
        let mut encoded = match row {
            Row::Text(text) => self.encode_text(text)?,
            Row::Chat(messages) => {
                let targets: Vec<bool> = messages.iter().map(|message| message.role == ANSWER_ROLE).collect();
                self.encode_chat(messages, &targets)?
            }
            Row::Marked { messages, targets } => self.encode_chat(messages, targets)?,
        };
        encoded.markup = row.contents().any(|text| markup::is_in(text, self.tokenizer));
        // Nothing stands before the first token by which it could be predicted.
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

    /// The messages as the template takes them, and which are targets: only that of alpaca knows a message of the role
    /// `input`. For others the input follows the instruction on a new line, as in LLaMA-Factory (`data/converter.py`).
    fn for_template(&self, messages: &[Message], targets: &[bool]) -> (Vec<Message>, Vec<bool>) {
        let mut out: Vec<Message> = Vec::with_capacity(messages.len());
        let mut out_targets = Vec::with_capacity(messages.len());
        for (message, target) in messages.iter().zip(targets) {
            match out.last_mut() {
                Some(instruction) if message.role == INPUT_ROLE && !self.takes_input => {
                    if !instruction.content.is_empty() {
                        instruction.content.push('\n');
                    }
                    instruction.content.push_str(&message.content);
                }
                _ => {
                    out.push(message.clone());
                    out_targets.push(*target);
                }
            }
        }
        (out, out_targets)
    }

    fn encode_text(&self, text: &str) -> Result<Encoded, TextError> {
        let mut ids: Vec<u32> = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos()).into_iter().collect();
        ids.extend(self.tokenizer.encode(text, Special::AsText)?);
        ids.extend(self.tokenizer.eos());
        let trained = vec![true; ids.len()];
        Ok(Encoded { ids, trained, without_end: self.tokenizer.eos().is_none(), ..Encoded::default() })
    }

    fn encode_chat(&self, messages: &[Message], targets: &[bool]) -> Result<Encoded, Reason> {
        let (messages, targets) = self.for_template(messages, targets);
        let (messages, is_target) = (messages.as_slice(), |index: usize| targets.get(index) == Some(&true));
        let whole = self.template.render(messages, &WHOLE)?;
        let (rendered, asked) = match self.as_asked(messages, &targets, &whole) {
            Some((rendered, answer)) => (rendered, Some(answer)),
            None => (whole, None),
        };
        let (ids, n_added) = self.encode_rendered(&rendered, messages, &WHOLE)?;
        let mut encoded = Encoded { trained: vec![self.train_on_prompt; ids.len()], ids, ..Encoded::default() };
        let text = rendered.text();
        let ids = encoded.ids.get(n_added..).unwrap_or_default();
        let starts = self.aligner.starts(self.tokenizer, ids, text).ok_or(Reason::AnswerNotFound)?;
        let answers = match asked {
            Some(answer) => vec![answer],
            None => self.answers(messages, is_target, text)?,
        };
        for Answer { index, bytes, is_exact_end, prompt } in answers {
            let seam = starts.partition_point(|start| *start < bytes.start);
            let tokens = || {
                let ends = starts.iter().skip(1).copied().chain(std::iter::once(text.len()));
                starts.iter().copied().zip(ends).zip(ids).enumerate().skip(seam)
            };
            if !is_target(index) {
                // Not even where the prompt is a target, too.
                for (token, ((start, _), _)) in tokens() {
                    match encoded.trained.get_mut(n_added + token) {
                        Some(trained) if start < bytes.end => *trained = false,
                        _ => break,
                    }
                }
                continue;
            }
            encoded.unlike_prompt |= match prompt {
                // It will be cut off.
                _ if n_added + seam >= self.max_tokens => false,
                Some(prompt) => {
                    let asked = messages.get(..index).unwrap_or_default();
                    let prompt = self.encode_rendered(&prompt, asked, &PROMPT)?.0;
                    encoded.ids.get(..n_added + seam) != Some(prompt.as_slice())
                }
                // Nothing is asked before a chat that begins with an answer.
                None => index > 0,
            };
            encoded.unlike_prompt |= starts.get(seam).is_some_and(|next| self.is_spelled(text, bytes.start..*next));
            let mut has_end = false;
            for (token, ((start, end), id)) in tokens() {
                // One that begins here and ends in the next turn is never said like this.
                if start >= bytes.end || end > bytes.end || has_end {
                    break;
                }
                if let Some(trained) = encoded.trained.get_mut(n_added + token) {
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

    /// Where the last message is the only target and the whole chat does not begin with the prompt that asks for it: that
    /// prompt with the answer behind it. Templates differ so that put the system text into the last turn of the user, or
    /// begin an answer with `<think>`. What is trained is then what is asked.
    fn as_asked(&self, messages: &[Message], targets: &[bool], whole: &Rendered) -> Option<(Rendered, Answer)> {
        let index = messages.len().checked_sub(1)?;
        if targets.iter().position(|target| *target)? != index {
            return None;
        }
        let prompt = self.template.render(messages.get(..index)?, &PROMPT).ok()?;
        if whole.text().starts_with(prompt.text()) {
            return None;
        }
        let end = self.end_of_turn(messages)?;
        let content = messages.get(index)?.content.as_str();
        let before_end = whole.text().strip_suffix(end.as_str())?;
        let forms = [content, content.trim(), content.trim_end(), content.trim_start()];
        let is_open = prompt.text().trim_end().ends_with(THINK);
        let answer = match forms.into_iter().find(|form| before_end.ends_with(form)) {
            Some(form) => form,
            // Such templates cut the thought out of a finished chat; the model is to say it.
            None if is_open => content.trim(),
            None => return None,
        };
        // What the prompt has begun is not begun again.
        let thought = answer.trim_start().strip_prefix(THINK).filter(|_| is_open);
        let rendered = prompt.answered(thought.map_or(answer, str::trim_start), &end)?;
        let bytes = prompt.text().len()..rendered.text().len();
        (!bytes.is_empty()).then_some((rendered, Answer { index, bytes, is_exact_end: true, prompt: Some(prompt) }))
    }

    /// What the template writes after the last message, whatever is said.
    fn end_of_turn(&self, messages: &[Message]) -> Option<String> {
        let taken = |stem: &str| self.template.source().contains(stem);
        let stem = (0_u32..).map(|n| format!("Qjw{n}x")).find(|stem| !taken(stem))?;
        let words: Vec<Message> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| Message::new(&*message.role, format!("{stem}{index}q")))
            .collect();
        let rendered = self.template.render(&words, &WHOLE).ok()?;
        let (_, end) = rendered.text().rsplit_once(words.last()?.content.as_str())?;
        (!end.contains(&stem)).then(|| end.to_owned())
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

    /// Where the answers stand in `text`. Those that are no target are left out where they cannot be found and need not be.
    fn answers(
        &self,
        messages: &[Message],
        is_target: impl Fn(usize) -> bool,
        text: &str,
    ) -> Result<Vec<Answer>, Reason> {
        let mut answers: Vec<Answer> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role != ANSWER_ROLE {
                continue;
            }
            match self.answer(messages, index, text) {
                Some(answer) => answers.push(answer),
                None if is_target(index) || self.train_on_prompt => return Err(Reason::AnswerNotFound),
                None => {}
            }
        }
        Ok(answers)
    }

    /// Where answer `index` stands in `text`.
    fn answer(&self, messages: &[Message], index: usize, text: &str) -> Option<Answer> {
        let prompt = self.prefix(messages.get(..index).unwrap_or_default(), &PROMPT, text);
        let start = match &prompt {
            Some(prompt) => prompt.text().len(),
            None => self.place_of(messages, index, text)?,
        };
        let (end, is_exact_end) = if index + 1 == messages.len() {
            (text.len(), true)
        } else {
            match self.prefix(messages.get(..=index).unwrap_or_default(), &WHOLE, text) {
                Some(up_to_here) => (up_to_here.text().len(), true),
                // Good as a limit within which the token that ends the turn is looked for.
                None => (self.place_of(messages, index + 1, text)?, false),
            }
        };
        (start < end).then_some(Answer { index, bytes: start..end, is_exact_end, prompt })
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
