//! Chat templates: messages to a prompt, with the template's text and people's text kept apart.
//!
//! A template is a Jinja program that comes with a model file. It runs in minijinja with a budget of instructions and
//! memory, without files, clock or host objects (CVE-2024-34359 was such a template run by Python).
//!
//! # Whose text is it?
//! Only control tokens that the template writes may count; `<|im_end|>` in a message must stay text. So each template is
//! rendered twice: with the messages, and with a made-up word in place of each. The second rendering (the skeleton)
//! shows where the messages stand in the first, also if the template trims them. Both are tokenized as one text in which
//! control tokens are found only in the template's stretches ([`Tokenizer::encode_parts`]). So the ids are those of the
//! plain rendering (and of llama.cpp) whenever no message holds a control token's text, with no seams between the parts,
//! and they are safe whenever one does.
//!
//! Some templates change messages more than that (cut out a `<think>` part, escape JSON). Then the stretches cannot be
//! found. Such a rendering is accepted as a whole if it holds the same control tokens in the same order as its skeleton,
//! to which no message contributed; else it is refused ([`TextError::TemplateMixesContent`]).

use std::io;
use std::ops::Range;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State, context, syntax::SyntaxConfig};
use serde::Serialize as _;

use super::builtin_templates::{BUILT_IN, NAMES};
use super::error::{TextError, shown};
use super::local_time::{self, LocalTime, StrftimeNow};
use super::template_guard;
use super::tokenizer::{Part, Special, Tokenizer};

/// Budget of one rendering, in minijinja's fuel: about this many instructions, and 64 bytes for each.
const FUEL: u64 = 200_000;
/// Depth of loops, conditions and macros.
const RECURSION_LIMIT: usize = 64;
/// The longest prompt in bytes.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// The longest template in bytes. The longest in use have about 40,000.
const MAX_TEMPLATE_BYTES: usize = 1 << 16;
/// The longest role.
const MAX_ROLE_BYTES: usize = 32;
/// The shortest text between two turns that is taken for the end of an answer, in characters.
const MIN_STOP_CHARS: usize = 3;
/// The name of the one template in its environment.
const TEMPLATE: &str = "chat";
/// Marks an error that the template raised itself.
const REFUSED: &str = "raise_exception: ";

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else a template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    fn to_value(&self) -> Value {
        Value::from_pairs([("role", self.role.as_str()), ("content", self.content.as_str())])
    }
}

/// What a template may want to know besides the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether the prompt ends where an answer of the assistant begins.
    pub add_generation_prompt: bool,
    /// Today's date and time, for `strftime_now`. Without it a template that can do without the date writes its own, and one
    /// that cannot gets the date of LLaMA 3.1's template, 26 Jul 2024: always the same, as in training.
    pub date: Option<LocalTime>,
}

/// A stretch of a rendered prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Written by the template: its control tokens count.
    TemplateText(&'a str),
    /// Written by a person or taken from data: it is text only.
    Content(&'a str),
}

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    text: String,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Where the messages stand, in order.
    Known(Vec<Range<usize>>),
    /// The template rewrites messages: the rendering with made-up words in their place.
    Unknown { skeleton: String },
}

impl Rendered {
    /// The whole prompt as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// This prompt with an answer behind it, people's text, and what the template writes after one; `None` where the template
    /// rewrites messages so that they cannot be found.
    #[must_use]
    pub fn answered(&self, content: &str, end: &str) -> Option<Self> {
        let Origin::Known(contents) = &self.origin else { return None };
        let range = self.text.len()..self.text.len() + content.len();
        let contents = contents.iter().cloned().chain([range]).collect();
        Some(Self { text: format!("{}{content}{end}", self.text), origin: Origin::Known(contents) })
    }

    /// The prompt in stretches, or `None` if the template rewrites messages so that they cannot be found again.
    #[must_use]
    pub fn segments(&self) -> Option<Vec<Segment<'_>>> {
        let Origin::Known(contents) = &self.origin else { return None };
        let mut segments = Vec::with_capacity(2 * contents.len() + 1);
        let mut at = 0;
        for content in contents {
            if at < content.start {
                segments.push(Segment::TemplateText(&self.text[at..content.start]));
            }
            if !content.is_empty() {
                segments.push(Segment::Content(&self.text[content.clone()]));
            }
            at = content.end;
        }
        if at < self.text.len() {
            segments.push(Segment::TemplateText(&self.text[at..]));
        }
        Some(segments)
    }
}

/// A chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: Option<String>,
    eos: Option<String>,
    unk: Option<String>,
    pad: Option<String>,
}

impl ChatTemplate {
    /// A template from its Jinja source; `bos_token` and `eos_token` in it are those of `tokenizer`.
    ///
    /// # Errors
    /// If it is longer than 64 KiB, does not parse, or cannot be kept within bounds.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TextError::TemplateTooLong { bytes: source.len(), limit: MAX_TEMPLATE_BYTES });
        }
        let mut environment = Environment::new();
        // As transformers sets up Jinja for chat templates.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(TextError::TemplateSyntax)?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment.add_test("defined", local_time::is_defined);
        environment.add_test("undefined", |value: &Value| !local_time::is_defined(value));
        // As in Python, where None cannot be iterated.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_filter(template_guard::FILTER, template_guard::within_bounds);
        // Shows every variable there is; of use to nobody here.
        environment.remove_global("debug");
        let bounded = template_guard::add_bounds(source)?;
        environment.add_template_owned(TEMPLATE, bounded).map_err(TextError::TemplateSyntax)?;
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id).ok()).map(str::to_owned);
        Ok(Self {
            environment,
            source: source.to_owned(),
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            unk: text(tokenizer.unk()),
            pad: text(tokenizer.pad()),
        })
    }

    /// A built-in template: `chatml`, `llama3`, `llama2`, `zephyr` or `alpaca`.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn built_in(name: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let Some((_, source)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
            return Err(TextError::UnknownTemplate { name: shown(name), known: NAMES });
        };
        Self::new(source, tokenizer)
    }

    /// The template of a conversation: that of this `name`, which a person asked for; else the one that the adapter in use was
    /// trained with (`kept`, Jinja); else that of the model, [`Self::from_vocab`].
    ///
    /// # Errors
    /// If there is none of this name, or the template does not parse.
    pub fn choose(name: Option<&str>, kept: Option<&str>, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        match (name, kept) {
            (Some(name), _) => Self::built_in(name, tokenizer),
            (None, Some(source)) => Self::new(source, tokenizer),
            (None, None) => Self::from_vocab(tokenizer),
        }
    }

    /// The template of the model file. A file without one gets `chatml` or `llama3` if its vocabulary has their control
    /// tokens, else `alpaca`, which needs none and is what adapters are trained with.
    ///
    /// # Errors
    /// If the template does not parse.
    pub fn from_vocab(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        if let Some(source) = tokenizer.chat_template() {
            return Self::new(source, tokenizer);
        }
        let has = |names: &[&str]| names.iter().all(|name| tokenizer.id_of(name).is_some());
        let name = if has(&["<|im_start|>", "<|im_end|>"]) {
            "chatml"
        } else if has(&["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]) {
            "llama3"
        } else {
            "alpaca"
        };
        Self::built_in(name, tokenizer)
    }

    /// The name of the built-in template with this source.
    #[must_use]
    pub fn name_of(source: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(_, known)| *known == source).map(|(name, _)| *name)
    }

    /// The Jinja source, to be shown.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a chat.
    ///
    /// # Errors
    /// If there are no messages, a role is not a plain name, or the template fails, refuses the messages or writes more
    /// than 1 MiB.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, TextError> {
        if messages.is_empty() {
            return Err(TextError::NoMessages);
        }
        for message in messages {
            // Roles stand between control tokens; a data set may bring any.
            let allowed = message.role.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if !allowed || !(1..=MAX_ROLE_BYTES).contains(&message.role.len()) {
                return Err(TextError::Role { role: shown(&message.role) });
            }
        }
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        if bytes > MAX_OUTPUT_BYTES {
            return Err(TextError::ChatTooLong { bytes, limit: MAX_OUTPUT_BYTES });
        }
        let text = self.run(messages, options)?;

        let words = self.made_up_words(messages);
        let stand_ins: Vec<Message> = messages
            .iter()
            .zip(&words)
            // An empty message stays empty: templates ask whether there is one.
            .map(|(message, word)| Message::new(&*message.role, if message.content.is_empty() { "" } else { word }))
            .collect();
        // A template may refuse the made-up words where it took the messages; then nothing is known about it.
        let skeleton = match self.run(&stand_ins, options) {
            Ok(skeleton) => skeleton,
            Err(_) => return Err(TextError::TemplateMixesContent),
        };
        let origin = match align(&text, &skeleton, messages, &words) {
            Some(contents) => Origin::Known(contents),
            None => Origin::Unknown { skeleton },
        };
        Ok(Rendered { text, origin })
    }

    /// The text that ends an answer in this template, where no control token does: what it writes between an answer and the next
    /// question, up to the end of its first line and without spaces around. A model that has not learnt to stop goes on with it.
    ///
    /// `None`: a control token ends the answer, there is nothing that says where it ends, or the template changes messages.
    #[must_use]
    pub fn stop_string(&self, tokenizer: &Tokenizer) -> Option<String> {
        let messages = ["user", "assistant", "user"].map(|role| Message::new(role, "x"));
        let rendered = self.render(&messages, &RenderOptions::default()).ok()?;
        let Origin::Known(contents) = &rendered.origin else { return None };
        let [_, answer, question] = contents.as_slice() else { return None };
        let between = rendered.text.get(answer.end..question.start)?;
        let until = tokenizer.first_control_token(between).unwrap_or(between.len());
        let text = between.get(..until)?;
        let line = text.trim().lines().next()?.trim_end();
        // `</s><s>[INST]`: the first of several markers is enough.
        let line = line.find("><").map_or(line, |at| &line[..=at]);
        // Shorter ones, a bracket or a quotation mark, stand in answers, too.
        if line.chars().count() < MIN_STOP_CHARS {
            return None;
        }
        let begins_line = text[..text.len() - text.trim_start().len()].contains('\n');
        Some(if begins_line { format!("\n{line}") } else { line.to_owned() })
    }

    /// A word for each message that occurs neither in the template nor in a message, and is no beginning of another.
    fn made_up_words(&self, messages: &[Message]) -> Vec<String> {
        let taken = |stem: &str| {
            [Some(&self.source), self.bos.as_ref(), self.eos.as_ref(), self.unk.as_ref(), self.pad.as_ref()]
                .into_iter()
                .flatten()
                .chain(messages.iter().map(|m| &m.content))
                .any(|t| t.contains(stem))
        };
        // There are fewer stems in all these texts than bytes, so this ends.
        let stem = (0_u64..).map(|n| format!("Zqx{n}w")).find(|stem| !taken(stem)).unwrap_or_default();
        (0..messages.len()).map(|i| format!("{stem}{i}z")).collect()
    }

    fn run(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TextError> {
        let template = self.environment.get_template(TEMPLATE).map_err(TextError::TemplateSyntax)?;
        // transformers names only the special tokens that there are.
        let token = |text: &Option<String>| text.as_deref().map_or(Value::UNDEFINED, Value::from);
        let context = context! {
            messages => messages.iter().map(Message::to_value).collect::<Vec<_>>(),
            add_generation_prompt => options.add_generation_prompt,
            bos_token => token(&self.bos),
            eos_token => token(&self.eos),
            unk_token => token(&self.unk),
            pad_token => token(&self.pad),
            strftime_now => Value::from_object(StrftimeNow(options.date)),
            // transformers passes these as None where there are none.
            tools => (),
            documents => (),
        };
        let mut output = Bounded::default();
        match template.render_captured_to(context, &mut output) {
            Ok(_) => {}
            Err(_) if output.over => return Err(TextError::TemplateOutput { limit: MAX_OUTPUT_BYTES }),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => {
                return Err(TextError::TemplateWork { limit: FUEL, source: error });
            }
            Err(error) => {
                return Err(match error.detail().and_then(|detail| detail.strip_prefix(REFUSED)) {
                    Some(message) => TextError::TemplateRefused(shown(message)),
                    None => TextError::TemplateFailed(error),
                });
            }
        }
        // minijinja writes text only; lossy rather than another error for what cannot be.
        Ok(String::from_utf8(output.bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }
}

/// Where the messages stand in `text`, if it is `skeleton` with each made-up word replaced by its message, as it is or
/// trimmed.
fn align(text: &str, skeleton: &str, messages: &[Message], words: &[String]) -> Option<Vec<Range<usize>>> {
    // The skeleton as template text, (message, template text)*.
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        found.extend(skeleton.match_indices(word.as_str()).map(|(at, _)| (at, index)));
    }
    found.sort_unstable();
    let mut contents = Vec::with_capacity(found.len());
    let first = found.first().map_or(skeleton.len(), |&(at, _)| at);
    let mut at = skip(text, 0, skeleton.get(..first)?)?;
    for (i, &(start, index)) in found.iter().enumerate() {
        let after = start + words.get(index)?.len();
        let next = found.get(i + 1).map_or(skeleton.len(), |&(next, _)| next);
        let between = skeleton.get(after..next)?;
        let content = messages.get(index)?.content.as_str();
        let forms = [content, content.trim(), content.trim_end(), content.trim_start()];
        let (range, end) = forms.iter().find_map(|form| {
            let end = skip(text, at, form)?;
            let after = skip(text, end, between)?;
            // The last stretch must also end the text, or another form fits better.
            (i + 1 < found.len() || after == text.len()).then_some((at..end, after))
        })?;
        contents.push(range);
        at = end;
    }
    (at == text.len()).then_some(contents)
}

/// The position after `part` if it stands in `text` at `at`.
fn skip(text: &str, at: usize, part: &str) -> Option<usize> {
    text.get(at..)?.starts_with(part).then_some(at + part.len())
}

/// The ids of a chat, ready to be run: begins with the begin token once if the model wants one.
///
/// # Errors
/// Those of [`ChatTemplate::render`] and [`Tokenizer::encode`], and [`TextError::TemplateMixesContent`] if the template
/// rewrites messages and control tokens could come from one.
pub fn encode_chat(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Vec<u32>, TextError> {
    let rendered = template.render(messages, options)?;
    let ids = match (rendered.segments(), &rendered.origin) {
        (Some(segments), _) => {
            let parts: Vec<Part<'_>> = segments
                .into_iter()
                .map(|segment| match segment {
                    Segment::TemplateText(text) => Part { text, special: Special::Parse },
                    Segment::Content(text) => Part { text, special: Special::AsText },
                })
                .collect();
            tokenizer.encode_parts(&parts)?
        }
        (None, Origin::Unknown { skeleton }) => {
            if tokenizer.control_tokens(rendered.text())? != tokenizer.control_tokens(skeleton)? {
                return Err(TextError::TemplateMixesContent);
            }
            tokenizer.encode(rendered.text(), Special::Parse)?
        }
        (None, Origin::Known(_)) => return Err(TextError::TemplateMixesContent),
    };
    match tokenizer.bos().filter(|bos| tokenizer.add_bos() && ids.first() != Some(bos)) {
        Some(bos) => Ok(std::iter::once(bos).chain(ids).collect()),
        None => Ok(ids),
    }
}

/// A writer that takes [`MAX_OUTPUT_BYTES`].
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    over: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT_BYTES {
            self.over = true;
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How templates refuse messages, for instance roles that do not alternate.
fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSED}{message}")))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)` as transformers has it; minijinja's own escapes HTML.
fn to_json(state: &State<'_, '_>, value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    // Accepted and without effect, as far as they are in use.
    let _: (Option<bool>, Option<bool>) = (kwargs.get("ensure_ascii")?, kwargs.get("sort_keys")?);
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    // Values may share parts, so that a small one is written as a large text: the writer stops it.
    let mut output = Bounded::default();
    let bytes = &mut output;
    match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(bytes, formatter)).map_err(failed)?;
        }
        None => {
            let [item, key] = match separators.as_deref() {
                Some([item, key]) => [item.as_str(), key],
                _ => [", ", ": "],
            };
            let formatter = PythonJson { item, key };
            value.serialize(&mut serde_json::Serializer::with_formatter(bytes, formatter)).map_err(failed)?;
        }
    }
    state.consume_fuel(output.bytes.len() as u64 / 64)?;
    String::from_utf8(output.bytes).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// With Python's separators, `, ` and `: `, or those asked for.
struct PythonJson<'a> {
    item: &'a str,
    key: &'a str,
}

impl serde_json::ser::Formatter for PythonJson<'_> {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
}
