//! Messages of a chat: who speaks, what is said, and whether it is a target.

use std::collections::BTreeSet;

use adapter_engine::text::Message;
use serde_json::Value;

use super::fields::{Fields, as_mark, as_text, type_name};
use super::problem::{FieldProblem, Reason, shown};
use super::row::{ANSWER_ROLE, Row};

/// The most messages of a chat: finding the answers takes time with the square of it.
const MAX_MESSAGES: usize = 512;
/// The most parts of one message.
const MAX_PARTS: usize = 512;
/// Names of speakers in data sets, and what templates call them. `prompter` is OpenAssistant's, `observation` LLaMA-Factory's.
const ROLES: [(&str, &str); 16] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("human", "user"),
    ("prompter", "user"),
    ("assistant", ANSWER_ROLE),
    ("gpt", ANSWER_ROLE),
    ("chatgpt", ANSWER_ROLE),
    ("model", ANSWER_ROLE),
    ("bot", ANSWER_ROLE),
    ("ai", ANSWER_ROLE),
    ("tool", "tool"),
    ("function", "tool"),
    ("observation", "tool"),
    ("ipython", "tool"),
    ("tool_response", "tool"),
];
const KNOWN_ROLES: &str =
    "system, developer, user, human, prompter, assistant, gpt, model, bot, ai, tool, function, observation";
/// Fields that say whether one message is a target: `weight` of OpenAI, Mistral and Together, `train` and `training` of Axolotl,
/// `loss` of ms-swift and XTuner.
const MARKS: [&str; 5] = ["weight", "train", "training", "loss", "learn"];
/// Fields with calls of functions, which are part of an answer and cannot be written.
const CALLS: [&str; 2] = ["tool_calls", "function_call"];

/// The messages of a row as they are read.
#[derive(Debug, Default)]
pub(super) struct Chat {
    messages: Vec<Message>,
    /// Whether each is a target.
    targets: Vec<bool>,
    /// Names of fields that were not read.
    pub(super) unread: BTreeSet<String>,
}

impl Chat {
    /// Adds a message; an answer is a target.
    pub(super) fn push(&mut self, role: &str, content: impl Into<String>) {
        self.push_marked(role, content.into(), role == ANSWER_ROLE);
    }

    fn push_marked(&mut self, role: &str, content: String, target: bool) {
        self.messages.push(Message::new(role, content));
        self.targets.push(target);
    }

    /// Puts a system text before all, unless the chat begins with one of its own. Returns whether it was taken.
    pub(super) fn put_system(&mut self, system: String) -> bool {
        match self.messages.first() {
            Some(first) if first.role == "system" => first.content == system,
            _ => {
                self.messages.insert(0, Message::new("system", system));
                self.targets.insert(0, false);
                true
            }
        }
    }

    /// The messages so far are context: none of them is a target.
    pub(super) fn nothing_so_far_is_a_target(&mut self) {
        self.targets.fill(false);
    }

    /// The row, `None` if all answers are marked as no targets.
    pub(super) fn take_row(&mut self) -> Result<Option<Row>, FieldProblem> {
        let (messages, targets) = (std::mem::take(&mut self.messages), std::mem::take(&mut self.targets));
        let is_answer = |message: &Message| message.role == ANSWER_ROLE;
        if !messages.iter().any(is_answer) {
            return Err(Reason::NoAnswer.of_row());
        }
        if !targets.contains(&true) {
            return Ok(None);
        }
        let all = messages.iter().zip(&targets).all(|(message, target)| is_answer(message) == *target);
        Ok(Some(if all { Row::Chat(messages) } else { Row::Marked { messages, targets } }))
    }

    /// Adds the messages of a list, written with `role` and `content` or with `from` and `value`; `list` is its name.
    pub(super) fn read(&mut self, value: &Value, list: &'static str) -> Result<(), FieldProblem> {
        let items = value
            .as_array()
            .ok_or_else(|| Reason::WrongType { found: type_name(value), wanted: "an array of messages" }.of(list))?;
        if items.is_empty() {
            return Err(Reason::Empty.of(list));
        }
        if self.messages.len() + items.len() > MAX_MESSAGES {
            let found = self.messages.len() + items.len();
            return Err(Reason::TooManyMessages { found, limit: MAX_MESSAGES }.of(list));
        }
        for (index, item) in items.iter().enumerate() {
            let place = format!("{list}[{index}]");
            let Some(object) = item.as_object() else {
                return Err(Reason::WrongType { found: type_name(item), wanted: "an object" }.of(place));
            };
            let fields = Fields::at(object, place);
            self.read_message(&fields, list)?;
            fields.unread(&mut self.unread);
        }
        Ok(())
    }

    fn read_message(&mut self, fields: &Fields<'_>, list: &'static str) -> Result<(), FieldProblem> {
        // What the list is called is no more than a hint: both ways of writing occur under both names.
        let is_share_gpt = fields.peek("from").is_some() || (list == "conversations" && fields.peek("role").is_none());
        let (role_field, content_field) = if is_share_gpt { ("from", "value") } else { ("role", "content") };
        let missing = |field: &'static str| fields.problem(Reason::Missing, field);
        let found = fields.text(role_field)?.ok_or_else(|| missing(role_field))?;
        let role = role_of(&found).ok_or_else(|| {
            fields.problem(Reason::UnknownRole { found: shown(&found, 32), known: KNOWN_ROLES }, role_field)
        })?;
        let calls = CALLS.iter().any(|field| fields.peek(field).is_some_and(|calls| !is_empty_list(calls)));
        let content = match fields.get(content_field) {
            Some(value) => content_of(value, fields, content_field)?,
            // OpenAI's answers that only call a function have no content.
            None if calls => String::new(),
            None => return Err(missing(content_field)),
        };
        let mark = self.read_marks(fields, role)?;
        let is_answer = role == ANSWER_ROLE;
        if is_answer && content.trim().is_empty() {
            // One that is no target may be empty, as it is only read.
            if calls {
                return Err(fields.problem(Reason::OnlyCalls, content_field));
            }
            if mark != Some(false) {
                return Err(fields.problem(Reason::Empty, content_field));
            }
        }
        self.push_marked(role, content, is_answer && mark != Some(false));
        Ok(())
    }

    /// Whether a message says of itself that it is a target; one `false` is enough to leave it out.
    fn read_marks(&mut self, fields: &Fields<'_>, role: &str) -> Result<Option<bool>, FieldProblem> {
        let mut target = None;
        for field in MARKS {
            let Some(value) = fields.peek(field) else { continue };
            let mark = as_mark(value).ok_or_else(|| {
                let found = shown(&value.to_string(), 32);
                fields.problem(Reason::Mark { found }, field)
            })?;
            // Only answers are targets, so one of another speaker that is to be is named as not read.
            if role == ANSWER_ROLE || !mark {
                fields.get(field);
            }
            target = Some(mark && target.unwrap_or(true));
        }
        Ok(target)
    }
}

fn role_of(found: &str) -> Option<&'static str> {
    ROLES.iter().find(|(name, _)| name.eq_ignore_ascii_case(found.trim())).map(|(_, role)| *role)
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// What is said: a text, or parts that are texts (OpenAI's `[{type: text, text}]`).
fn content_of(value: &Value, fields: &Fields<'_>, field: &'static str) -> Result<String, FieldProblem> {
    let Some(parts) = value.as_array() else {
        return as_text(value).map_err(|reason| fields.problem(reason, field));
    };
    if parts.len() > MAX_PARTS {
        return Err(fields.problem(Reason::TooManyParts { found: parts.len(), limit: MAX_PARTS }, field));
    }
    let mut content = String::new();
    for (index, part) in parts.iter().enumerate() {
        let at = |reason: Reason, name: &str| fields.problem(reason, &format!("{field}[{index}]{name}"));
        let text = match part {
            Value::String(text) => text.as_str(),
            Value::Object(part) => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
                if !matches!(kind, "text" | "input_text" | "output_text") {
                    return Err(at(Reason::PartType { found: shown(kind, 32) }, ""));
                }
                let text = part.get("text").filter(|text| !text.is_null());
                let text = text.ok_or_else(|| at(Reason::Missing, ".text"))?;
                text.as_str()
                    .ok_or_else(|| at(Reason::WrongType { found: type_name(text), wanted: "a string" }, ".text"))?
            }
            other => {
                let reason = Reason::WrongType { found: type_name(other), wanted: "an object with type and text" };
                return Err(at(reason, ""));
            }
        };
        content.push_str(text);
    }
    Ok(content)
}
