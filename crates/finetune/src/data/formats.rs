//! The formats data sets come in, recognised by their fields.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Fields, Object, as_mark, as_text, type_name};
use super::messages::Chat;
use super::problem::{FieldProblem, Reason, shown};
use super::row::{ANSWER_ROLE, INPUT_ROLE, Row};

/// The most earlier turns.
const MAX_HISTORY: usize = 256;
/// Lists of messages.
const LISTS: [&str; 3] = ["messages", "conversations", "conversation"];
const QUESTIONS: [&str; 3] = ["prompt", "question", "query"];
const SYSTEMS: [&str; 2] = ["system", "system_prompt"];
/// What belongs to an instruction or a question, in the order in which it follows it.
const INPUTS: [&str; 3] = ["context", "passage", "input"];
/// Answers that are names of a field.
const ANSWERS: [&str; 4] = ["completion", "response", "answer", "output"];
/// Fields that say whether a row is trained on: `label` of TRL's KTO, `kto_tag` of LLaMA-Factory, and those of messages.
const MARKS: [&str; 7] = ["label", "kto_tag", "train", "training", "learn", "loss", "weight"];

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
    /// `chosen` and `rejected`, with or without a `prompt` or `instruction`: the chosen answer is the target.
    Preference,
    /// `prompt` and `completion` (or `response`), `question` and `answer`, with or without a `context`.
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
            Self::Preference => "preference",
            Self::PromptCompletion => "prompt/completion",
            Self::Text => "text",
        })
    }
}

/// What a row says.
#[derive(Debug)]
pub(super) struct ReadRow {
    /// `None` if it is marked as not to be trained on.
    pub(super) row: Option<Row>,
    /// Names of fields that were not read.
    pub(super) unread: BTreeSet<String>,
}

impl Format {
    /// In the order in which they are looked for: alpaca files of some have a `text` field, too, and preferences the chosen
    /// answer in `messages`, too.
    const ALL: [Self; 6] =
        [Self::Preference, Self::Chat, Self::ShareGpt, Self::Alpaca, Self::PromptCompletion, Self::Text];

    /// Whether a row looks like this format. Fields that are null do not count.
    pub(super) fn fits(self, row: &Object) -> bool {
        let has = |field: &str| row.get(field).is_some_and(|value| !value.is_null());
        match self {
            Self::Chat => has("messages"),
            Self::ShareGpt => has("conversations") || has("conversation"),
            Self::Alpaca => has("instruction"),
            // A prompt with an answer of its own is that, whatever else was chosen.
            Self::Preference => {
                let chosen = row.get("chosen").is_some_and(|chosen| !matches!(chosen, Value::Null | Value::Bool(_)));
                chosen && !ANSWERS.iter().any(|field| has(field))
            }
            Self::PromptCompletion => QUESTIONS.iter().any(|field| has(field)) || (has("input") && has("output")),
            Self::Text => has("text"),
        }
    }

    /// The format of a row.
    pub(super) fn of(row: &Object) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.fits(row))
    }

    /// The example in a row.
    pub(super) fn read(self, row: &Object) -> Result<ReadRow, FieldProblem> {
        let fields = Fields::new(row);
        let is_target = row_is_target(&fields);
        let mut chat = Chat::default();
        let row = match self {
            Self::Text => {
                let text = fields.text("text")?.ok_or_else(|| Reason::Missing.of("text"))?;
                if text.trim().is_empty() {
                    return Err(Reason::Empty.of("text"));
                }
                Some(Row::Text(text))
            }
            Self::Chat | Self::ShareGpt => {
                let list = match self {
                    Self::Chat => "messages",
                    _ => fields.first(&LISTS[1..]).unwrap_or(LISTS[1]),
                };
                let value = fields.get(list).ok_or_else(|| Reason::Missing.of(list))?;
                chat.read(value, list)?;
                push_system(&fields, &mut chat)?;
                chat.take_row()?
            }
            Self::Alpaca => {
                push_system(&fields, &mut chat)?;
                push_history(&fields, &mut chat)?;
                push_instruction(&fields, &mut chat)?;
                push_answer(&fields, &mut chat, &["output", "response", "completion", "answer", "answers"])?;
                chat.take_row()?
            }
            Self::PromptCompletion => {
                push_system(&fields, &mut chat)?;
                push_history(&fields, &mut chat)?;
                let answers: &[&'static str] = match push_question(&fields, &mut chat)? {
                    "question" => &["answer", "answers", "completion", "response", "output"],
                    "query" => &["response", "answer", "answers", "completion", "output"],
                    "input" => &["output"],
                    _ => &["completion", "response", "answer", "answers", "output"],
                };
                push_answer(&fields, &mut chat, answers)?;
                chat.take_row()?
            }
            Self::Preference => {
                push_system(&fields, &mut chat)?;
                push_history(&fields, &mut chat)?;
                if fields.peek("instruction").is_some() {
                    push_instruction(&fields, &mut chat)?;
                } else if fields.first(&QUESTIONS).is_some() && !begins_with_a_question(&fields) {
                    push_question(&fields, &mut chat)?;
                } else if let Some(list) = fields.first(&LISTS) {
                    chat.read(fields.get(list).unwrap_or(&Value::Null), list)?;
                }
                push_answer(&fields, &mut chat, &["chosen"])?;
                chat.take_row()?
            }
        };
        let mut unread = std::mem::take(&mut chat.unread);
        fields.unread(&mut unread);
        Ok(ReadRow { row: row.filter(|_| is_target), unread })
    }
}

/// Whether a row is trained on; one `false` is enough to leave it out. A mark that is neither true nor false is another
/// thing of that name, a class or a figure, and stays unread.
fn row_is_target(fields: &Fields<'_>) -> bool {
    let mut is_target = true;
    for field in MARKS {
        let mark = match fields.peek(field) {
            // Numbers are classes in `label` and figures in `loss`; a weight between is none that can be followed.
            Some(Value::Number(_)) if matches!(field, "label" | "loss") => None,
            Some(value) => as_mark(value),
            None => None,
        };
        if let Some(mark) = mark {
            fields.get(field);
            is_target &= mark;
        }
    }
    is_target
}

fn push_system(fields: &Fields<'_>, chat: &mut Chat) -> Result<(), FieldProblem> {
    for field in SYSTEMS {
        let Some(value) = fields.peek(field) else { continue };
        let system = as_text(value).map_err(|reason| reason.of(field))?;
        if system.trim().is_empty() || chat.put_system(system) {
            fields.get(field);
        }
    }
    Ok(())
}

/// Earlier turns: pairs of question and answer as in LLaMA-Factory, where the answers are targets, too; or messages.
fn push_history(fields: &Fields<'_>, chat: &mut Chat) -> Result<(), FieldProblem> {
    let Some(value) = fields.get("history") else { return Ok(()) };
    let wrong = |found: &Value, wanted| Reason::WrongType { found: type_name(found), wanted };
    let turns = value.as_array().ok_or_else(|| wrong(value, "an array of pairs").of("history"))?;
    if turns.len() > MAX_HISTORY {
        return Err(Reason::TooManyMessages { found: 2 * turns.len(), limit: 2 * MAX_HISTORY }.of("history"));
    }
    if turns.first().is_some_and(Value::is_object) {
        return chat.read(value, "history");
    }
    for (index, turn) in turns.iter().enumerate() {
        let place = || format!("history[{index}]");
        let Some([question, answer]) = turn.as_array().map(Vec::as_slice) else {
            return Err(wrong(turn, "a pair of question and answer").of(place()));
        };
        chat.push("user", as_text(question).map_err(|reason| reason.of(place()))?);
        let answer = as_text(answer).map_err(|reason| reason.of(place()))?;
        if answer.trim().is_empty() {
            return Err(Reason::Empty.of(place()));
        }
        chat.push(ANSWER_ROLE, answer);
    }
    Ok(())
}

/// What stands beside an instruction or a question.
fn input(fields: &Fields<'_>, names: &[&'static str]) -> Result<Option<String>, FieldProblem> {
    let mut inputs: Vec<String> = Vec::new();
    for name in names {
        if let Some(text) = fields.filled(name)?
            && !inputs.contains(&text)
        {
            inputs.push(text);
        }
    }
    Ok((!inputs.is_empty()).then(|| inputs.join("\n")))
}

fn push_instruction(fields: &Fields<'_>, chat: &mut Chat) -> Result<(), FieldProblem> {
    let instruction = fields.text("instruction")?.ok_or_else(|| Reason::Missing.of("instruction"))?;
    let input = input(fields, &INPUTS)?;
    if instruction.trim().is_empty() && input.is_none() {
        return Err(Reason::Empty.of("instruction"));
    }
    chat.push("user", instruction);
    if let Some(input) = input {
        chat.push(INPUT_ROLE, input);
    }
    Ok(())
}

/// The prompt or question; returns its field.
fn push_question(fields: &Fields<'_>, chat: &mut Chat) -> Result<&'static str, FieldProblem> {
    let name = match fields.first(&QUESTIONS) {
        Some(name) => name,
        None if fields.peek("input").is_some() => "input",
        None => return Err(Reason::Missing.of(QUESTIONS[0])),
    };
    // A prompt of messages, as in TRL: nothing of it is a target.
    if let Some(messages @ Value::Array(_)) = fields.peek(name) {
        fields.get(name);
        chat.read(messages, name)?;
        chat.nothing_so_far_is_a_target();
        return Ok(name);
    }
    let question = fields.filled(name)?.ok_or_else(|| Reason::Empty.of(name))?;
    chat.push("user", question);
    let inputs: &[&'static str] = if name == "input" { &INPUTS[..2] } else { &INPUTS };
    if let Some(input) = input(fields, inputs)? {
        chat.push(INPUT_ROLE, input);
    }
    Ok(name)
}

/// Whether the answer that was chosen is a chat with its question in it.
fn begins_with_a_question(fields: &Fields<'_>) -> bool {
    let chosen = fields.peek("chosen").and_then(Value::as_array).and_then(|messages| messages.first());
    let role = chosen.and_then(|first| first.get("role").or_else(|| first.get("from"))).and_then(Value::as_str);
    role.is_some_and(|role| !matches!(role, "assistant" | "gpt"))
}

/// The answer in the first of `names` that there is; the first gives its name to an error.
fn push_answer(fields: &Fields<'_>, chat: &mut Chat, names: &[&'static str]) -> Result<(), FieldProblem> {
    let missing = || Reason::Missing.of(names.first().copied().unwrap_or_default());
    let name = fields.first(names).ok_or_else(missing)?;
    let Some(value) = fields.get(name) else { return Err(missing()) };
    let answer = match value {
        // Messages, as in TRL; all answers of them are targets.
        Value::Array(items) if name != "answers" && items.first().is_some_and(Value::is_object) => {
            return chat.read(value, name);
        }
        Value::Object(message)
            if name == "chosen" && (message.contains_key("content") || message.contains_key("value")) =>
        {
            return chat.read(&Value::Array(vec![value.clone()]), name);
        }
        Value::Array(_) | Value::Object(_) if matches!(name, "answer" | "answers") => first_answer(value, name, chat)?,
        value => as_text(value).map_err(|reason| reason.of(name))?,
    };
    if answer.trim().is_empty() {
        return Err(Reason::Empty.of(name));
    }
    chat.push(ANSWER_ROLE, answer);
    Ok(())
}

/// The first of several answers: SQuAD's `{text: [...], answer_start: [...]}`, or an array of texts. Where there are others
/// that differ, the field counts as not read to its end.
fn first_answer(value: &Value, name: &'static str, chat: &mut Chat) -> Result<String, FieldProblem> {
    let (list, place) = match value {
        Value::Object(fields) => match fields.get("text").filter(|text| !text.is_null()) {
            Some(text) => (text, format!("{name}.text")),
            None => return Err(Reason::Missing.of(format!("{name}.text"))),
        },
        value => (value, name.to_owned()),
    };
    let Some(items) = list.as_array() else { return as_text(list).map_err(|reason| reason.of(place)) };
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let item = item.get("text").unwrap_or(item);
        texts.push(as_text(item).map_err(|reason| reason.of(format!("{place}[{index}]")))?);
    }
    let first = texts.first().cloned().ok_or_else(|| Reason::Empty.of(place.clone()))?;
    if texts.iter().any(|text| *text != first) {
        chat.unread.insert(format!("{place} (all but the first)"));
    }
    Ok(first)
}

/// The reason for a row of no known format.
pub(super) fn unknown(row: &Object) -> Reason {
    let mut fields: Vec<String> = row.keys().take(8).map(|field| shown(field, 32)).collect();
    if row.len() > fields.len() {
        fields.push("...".to_owned());
    }
    Reason::UnknownFormat { fields: if fields.is_empty() { "none".to_owned() } else { fields.join(", ") } }
}
