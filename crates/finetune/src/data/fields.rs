//! The fields of a row, and which of them nobody has read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::problem::{FieldProblem, Reason, shown};

/// The most unread fields that are remembered of one row.
const MAX_UNREAD: usize = 64;
/// The longest name of a field in a message, in characters.
const MAX_NAME: usize = 40;
/// Integers from here on are not exact once they are read.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) type Object = Map<String, Value>;

/// An object out of the bytes of a row, without the fields that are null: a column without a value is no field.
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
        Ok(Value::Object(mut row)) => {
            row.retain(|_, value| !value.is_null());
            Ok(row)
        }
        Ok(other) => Err((Reason::WrongType { found: type_name(&other), wanted: "an object" }, 0)),
        Err(error) => {
            let text = error.to_string();
            let message = text.split(" at line ").next().unwrap_or_default();
            // The parser's own word for `true`, `false` or `null`.
            let message = shown(&message.replace("expected ident", "expected true, false or null"), 96);
            let line = (error.line() as u64).saturating_sub(1);
            Err((Reason::NotJson { message, column: error.column() }, line))
        }
    }
}

/// What a value is, for messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The fields of a row or of one message. What is asked for counts as read; [`Self::unread`] is the rest.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    object: &'a Object,
    /// `messages[2]`, empty for the row itself.
    place: String,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Fields<'a> {
    /// Of a row.
    pub(super) fn new(object: &'a Object) -> Self {
        Self::at(object, String::new())
    }

    /// Of what stands at `place` in a row.
    pub(super) fn at(object: &'a Object, place: String) -> Self {
        Self { object, place, read: RefCell::default() }
    }

    /// The value of a field, which counts as read. Null is as good as absent.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        let (name, value) = self.object.get_key_value(field).filter(|(_, value)| !value.is_null())?;
        self.read.borrow_mut().insert(name);
        Some(value)
    }

    /// The value of a field, without reading it.
    pub(super) fn peek(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// The first of `fields` that there is.
    pub(super) fn first(&self, fields: &[&'static str]) -> Option<&'static str> {
        fields.iter().find(|field| self.peek(field).is_some()).copied()
    }

    /// This reason for a field here; "" for all of it.
    pub(super) fn problem(&self, reason: Reason, field: &str) -> FieldProblem {
        match (self.place.as_str(), field) {
            ("", field) => reason.of(field),
            (place, "") => reason.of(place),
            (place, field) => reason.of(format!("{place}.{field}")),
        }
    }

    /// The text of a field; numbers and booleans as JSON writes them.
    pub(super) fn text(&self, field: &'static str) -> Result<Option<String>, FieldProblem> {
        let Some(value) = self.get(field) else { return Ok(None) };
        as_text(value).map(Some).map_err(|reason| self.problem(reason, field))
    }

    /// The text of a field with something in it, or nothing.
    pub(super) fn filled(&self, field: &'static str) -> Result<Option<String>, FieldProblem> {
        Ok(self.text(field)?.filter(|text| !text.trim().is_empty()))
    }

    /// Puts the names of fields that nobody has read into `unread`: `category`, `messages[].name`.
    pub(super) fn unread(&self, unread: &mut BTreeSet<String>) {
        let read = self.read.borrow();
        let place = self.place.split('[').next().unwrap_or_default();
        for (name, value) in self.object {
            if unread.len() >= MAX_UNREAD {
                break;
            }
            if read.contains(name.as_str()) || is_blank(value) {
                continue;
            }
            let name = shown(name, MAX_NAME);
            unread.insert(if place.is_empty() { name } else { format!("{place}[].{name}") });
        }
    }
}

/// Whether a value says nothing: null, "", [], {}.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The text of a value.
pub(super) fn as_text(value: &Value) -> Result<String, Reason> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(yes) => Ok(yes.to_string()),
        // What is stored as a float is exact as a decimal only if it is short.
        Value::Number(number) if number.is_f64() && number.as_f64().is_none_or(|x| x.abs() >= EXACT) => {
            Err(Reason::InexactNumber)
        }
        Value::Number(number) => Ok(number.to_string()),
        other => Err(Reason::WrongType { found: type_name(other), wanted: "a string" }),
    }
}

/// `true` or `false` out of a mark: a boolean, 0 or 1, or one of the words.
pub(super) fn as_mark(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(yes) => Some(*yes),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}
