//! One example, whatever format it came in.

use std::borrow::Cow;

use adapter_engine::text::Message;

use super::split::Hash;

/// The role of an alpaca example's `input`: a message of its own for the alpaca template, part of the user's for others.
pub(super) const INPUT_ROLE: &str = "input";
/// Whose messages are targets.
pub(super) const ANSWER_ROLE: &str = "assistant";
/// What identity.json of LLaMA-Factory asks its user to replace.
const PLACEHOLDERS: [&str; 2] = ["{{name}}", "{{author}}"];

/// One example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A chat with at least one answer of the assistant. A message of the role `input` is the input of the instruction
    /// before it.
    Chat(Vec<Message>),
    /// A chat of which only some answers are targets.
    Marked {
        /// The messages.
        messages: Vec<Message>,
        /// Which of them are targets; only answers can be.
        targets: Vec<bool>,
    },
    /// Text as it stands.
    Text(String),
}

impl Row {
    /// Its texts.
    pub(super) fn contents(&self) -> impl Iterator<Item = &str> {
        let (messages, text) = match self {
            Self::Chat(messages) | Self::Marked { messages, .. } => (messages.as_slice(), None),
            Self::Text(text) => (&[][..], Some(text.as_str())),
        };
        messages.iter().map(|message| message.content.as_str()).chain(text)
    }

    /// Puts the second text of each pair in place of the first, wherever it stands; what was put in is not searched.
    pub fn substitute(&mut self, pairs: &[(String, String)]) {
        if pairs.is_empty() {
            return;
        }
        let replace = |text: &mut String| {
            if let Cow::Owned(new) = substituted(text, pairs) {
                *text = new;
            }
        };
        match self {
            Self::Chat(messages) | Self::Marked { messages, .. } => {
                messages.iter_mut().for_each(|message| replace(&mut message.content));
            }
            Self::Text(text) => replace(text),
        }
    }

    /// Whether `{{name}}` or `{{author}}` still stands in it.
    #[must_use]
    pub fn has_placeholder(&self) -> bool {
        self.contents().any(|text| PLACEHOLDERS.iter().any(|placeholder| text.contains(placeholder)))
    }

    /// A number that depends on what is said and by whom, not on the format, the place or other fields.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Hash::new();
        match self {
            Self::Chat(messages) => {
                for message in messages {
                    hash.text(&message.role);
                    hash.text(&message.content);
                }
            }
            Self::Marked { messages, targets } => {
                for (message, target) in messages.iter().zip(targets) {
                    hash.text(&message.role);
                    hash.text(&message.content);
                    hash.bytes(&[u8::from(*target)]);
                }
            }
            Self::Text(text) => hash.text(text),
        }
        hash.finish()
    }
}

fn substituted<'a>(text: &'a str, pairs: &[(String, String)]) -> Cow<'a, str> {
    if !pairs.iter().any(|(from, _)| text.contains(from.as_str())) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found = pairs.iter().find_map(|(from, to)| Some((rest.strip_prefix(from.as_str())?, to)));
        match found.filter(|(after, _)| after.len() < rest.len()) {
            Some((after, to)) => {
                out.push_str(to);
                rest = after;
            }
            None => {
                out.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    Cow::Owned(out)
}
