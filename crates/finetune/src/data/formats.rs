//! The formats data sets come in, recognised by their fields.

use std::fmt;

use adapter_engine::text::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::{FieldProblem, Reason, shown};
use super::row::{ANSWER_ROLE, INPUT_ROLE, Row};

/// The formats for messages.
pub(super) const FORMATS: &str = "use rows with the fields instruction, input, output (alpaca); messages (chat); conversations (ShareGPT); \
     prompt, completion; or text: one object a line, or all in one array";
/// The most messages of a chat: finding the answers takes time with the square of it.
const MAX_MESSAGES: usize = 512;
const ROLES: &str = "system, user, assistant, tool";
const SPEAKERS: &str = "human, user, gpt, assistant, system";

/// A format of data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `messages: [{role, content}]`
    Chat,
    /// `conversations: [{from, value}]`
    ShareGpt,
    /// `instruction`, `input`, `output`; also Dolly's `instruction`, `context`, `response`.
    Alpaca,
    /// `prompt` and `completion` (or `response`), `question` and `answer`.
    PromptCompletion,
    /// `text`
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "chat",
            Self::ShareGpt => "ShareGPT",
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt/completion",
            Self::Text => "text",
        })
    }
}

type Object = Map<String, Value>;

impl Format {
    /// In the order in which they are looked for: alpaca files of some have a `text` field, too.
    const ALL: [Self; 5] = [Self::Chat, Self::ShareGpt, Self::Alpaca, Self::PromptCompletion, Self::Text];

    /// The fields of which a row of this format has one.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["messages"],
            Self::ShareGpt => &["conversations"],
            Self::Alpaca => &["instruction"],
            Self::PromptCompletion => &["prompt", "question"],
            Self::Text => &["text"],
        }
    }

    /// Whether a row looks like this format.
    pub(super) fn fits(self, row: &Object) -> bool {
        self.marks().iter().any(|field| row.contains_key(*field))
    }

    /// The format of a row.
    pub(super) fn of(row: &Object) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.fits(row))
    }

    /// The example in a row.
    pub(super) fn read(self, row: &Object) -> Result<Row, FieldProblem> {
        let mut messages = Vec::new();
        match self {
            Self::Text => return Ok(Row::Text(filled(row, &["text"])?.to_owned())),
            Self::Chat => read_messages(row, "messages", &mut messages)?,
            Self::ShareGpt => {
                push_system(row, &mut messages)?;
                read_messages(row, "conversations", &mut messages)?;
            }
            Self::Alpaca => {
                push_system(row, &mut messages)?;
                let instruction = text(row, &["instruction"])?;
                let input = optional(row, &["input", "context"])?.filter(|input| !input.trim().is_empty());
                if instruction.trim().is_empty() && input.is_none() {
                    return Err(Reason::Empty.of("instruction"));
                }
                messages.push(Message::new("user", instruction));
                messages.extend(input.map(|input| Message::new(INPUT_ROLE, input)));
                messages.push(Message::new(ANSWER_ROLE, filled(row, &["output", "response"])?));
            }
            Self::PromptCompletion => {
                push_system(row, &mut messages)?;
                messages.push(Message::new("user", filled(row, &["prompt", "question"])?));
                let fields: &[&'static str] = match row.contains_key("question") {
                    true => &["answer", "completion", "response"],
                    false => &["completion", "response", "answer"],
                };
                messages.push(Message::new(ANSWER_ROLE, filled(row, fields)?));
            }
        }
        Ok(Row::Chat(messages))
    }
}

/// An object out of the bytes of a row.
///
/// # Errors
/// The reason, and on which line of the row it shows (from 0).
pub(super) fn parse(bytes: &[u8]) -> Result<Object, (Reason, u64)> {
    let json = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let lines = good.iter().filter(|byte| **byte == b'\n').count() as u64;
        (Reason::NotUtf8 { byte: error.valid_up_to() as u64 + 1 }, lines)
    })?;
    match serde_json::from_str::<Value>(json) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(other) => Err((Reason::WrongType { found: type_name(&other), wanted: "an object" }, 0)),
        Err(error) => {
            let text = error.to_string();
            let message = text.split(" at line ").next().unwrap_or_default().to_owned();
            let line = (error.line() as u64).saturating_sub(1);
            Err((Reason::NotJson { message: shown(&message, 96), column: error.column() }, line))
        }
    }
}

/// The reason for a row of no known format.
pub(super) fn unknown(row: &Object) -> Reason {
    let mut fields: Vec<String> = row.keys().take(8).map(|field| shown(field, 32)).collect();
    if row.len() > fields.len() {
        fields.push("...".to_owned());
    }
    Reason::UnknownFormat { fields: if fields.is_empty() { "none".to_owned() } else { fields.join(", ") } }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn as_text(value: &Value) -> Result<&str, Reason> {
    value.as_str().ok_or_else(|| Reason::WrongType { found: type_name(value), wanted: "a string" })
}

/// The text of the first of `fields` that there is; the first gives its name to an error.
fn text<'a>(row: &'a Object, fields: &[&'static str]) -> Result<&'a str, FieldProblem> {
    let found = fields.iter().find_map(|field| Some((*field, row.get(*field)?)));
    let Some((field, value)) = found else {
        return Err(Reason::Missing.of(fields.first().copied().unwrap_or_default()));
    };
    as_text(value).map_err(|reason| reason.of(field))
}

/// As [`text`], with something in it.
fn filled<'a>(row: &'a Object, fields: &[&'static str]) -> Result<&'a str, FieldProblem> {
    let value = text(row, fields)?;
    if value.trim().is_empty() {
        let field = fields.iter().find(|field| row.contains_key(**field)).copied().unwrap_or_default();
        return Err(Reason::Empty.of(field));
    }
    Ok(value)
}

/// As [`text`], where it may be missing or null.
fn optional<'a>(row: &'a Object, fields: &[&'static str]) -> Result<Option<&'a str>, FieldProblem> {
    let found = fields.iter().find_map(|field| Some((*field, row.get(*field).filter(|value| !value.is_null())?)));
    found.map(|(field, value)| as_text(value).map_err(|reason| reason.of(field))).transpose()
}

fn push_system(row: &Object, messages: &mut Vec<Message>) -> Result<(), FieldProblem> {
    let system = optional(row, &["system"])?.filter(|system| !system.trim().is_empty());
    messages.extend(system.map(|system| Message::new("system", system)));
    Ok(())
}

/// The messages in `row[list]`, written with `role` and `content` or with `from` and `value`.
fn read_messages(row: &Object, list: &'static str, messages: &mut Vec<Message>) -> Result<(), FieldProblem> {
    let value = row.get(list).ok_or_else(|| Reason::Missing.of(list))?;
    let items = value
        .as_array()
        .ok_or_else(|| Reason::WrongType { found: type_name(value), wanted: "an array of messages" }.of(list))?;
    if items.is_empty() {
        return Err(Reason::Empty.of(list));
    }
    if items.len() > MAX_MESSAGES {
        return Err(Reason::TooManyMessages { found: items.len(), limit: MAX_MESSAGES }.of(list));
    }
    for (index, item) in items.iter().enumerate() {
        let at = |reason: Reason, field: &str| match field {
            "" => reason.of(format!("{list}[{index}]")),
            field => reason.of(format!("{list}[{index}].{field}")),
        };
        let Some(item) = item.as_object() else {
            return Err(at(Reason::WrongType { found: type_name(item), wanted: "an object" }, ""));
        };
        // What the list is called is no more than a hint: both ways of writing occur under both names.
        let is_share_gpt = item.contains_key("from") || (list == "conversations" && !item.contains_key("role"));
        let (role_field, content_field) = if is_share_gpt { ("from", "value") } else { ("role", "content") };
        let get = |field: &'static str| {
            let value = item.get(field).ok_or_else(|| at(Reason::Missing, field))?;
            as_text(value).map_err(|reason| at(reason, field))
        };
        let (found, content) = (get(role_field)?, get(content_field)?);
        let role = match (found, is_share_gpt) {
            ("system" | "user" | "assistant" | "tool", _) => found,
            ("human", true) => "user",
            ("gpt", true) => "assistant",
            (_, true) => {
                return Err(at(Reason::UnknownRole { found: shown(found, 32), known: SPEAKERS }, role_field));
            }
            (_, false) => return Err(at(Reason::UnknownRole { found: shown(found, 32), known: ROLES }, role_field)),
        };
        if role == ANSWER_ROLE && content.trim().is_empty() {
            return Err(at(Reason::Empty, content_field));
        }
        messages.push(Message::new(role, content));
    }
    if !messages.iter().any(|message| message.role == ANSWER_ROLE) {
        return Err(Reason::NoAnswer.of_row());
    }
    Ok(())
}
