//! Conversations as files: JSON that other programs read, too.

use std::path::Path;

use adapter_atomic_file::Readers;
use adapter_engine::text::Message;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::{load, output};

/// Marks a file as one of these.
const FORMAT: &str = "adapter-chat";

/// A saved conversation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Transcript {
    format: String,
    version: u32,
    /// Name of the model it was held with.
    pub model: String,
    /// Name of the adapter, if one was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    messages: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    role: String,
    content: String,
}

impl Transcript {
    /// A conversation to be saved.
    pub fn new(model: String, adapter: Option<String>, system: Option<&str>, messages: &[Message]) -> Self {
        let system = system.map(|text| Entry { role: "system".to_owned(), content: text.to_owned() });
        let spoken =
            messages.iter().map(|message| Entry { role: message.role.clone(), content: message.content.clone() });
        Self {
            format: FORMAT.to_owned(),
            version: 1,
            model,
            adapter,
            messages: system.into_iter().chain(spoken).collect(),
        }
    }

    /// The system message and the others.
    pub fn into_parts(self) -> (Option<String>, Vec<Message>) {
        let mut messages = self.messages.into_iter().peekable();
        let system = messages.next_if(|entry| entry.role == "system").map(|entry| entry.content);
        (system, messages.map(|entry| Message::new(entry.role, entry.content)).collect())
    }

    /// Writes it, readable by its owner only. A file that is something else is left alone.
    ///
    /// # Errors
    /// Such a file, or what the system says.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        if path.exists() && Self::load(path).is_err() {
            let message = format!("the file is there and is no saved chat: {}", path.display());
            return Err(Failure::failed(message, "choose another name"));
        }
        let text = output::json_pretty(self)?;
        adapter_atomic_file::write_whole(path, &text, Readers::Owner)
            .map_err(|error| Failure::file("cannot save the chat", path, &error))
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the system says, or a file that is none.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let bytes = load::read_small(path)?;
        let wrong = |what: String| {
            Failure::failed(
                format!("not a saved chat: {what}: {}", path.display()),
                "/save writes files that /load reads",
            )
        };
        let saved: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if saved.format != FORMAT || saved.version != 1 {
            return Err(wrong(format!("its format is {:?} version {}", saved.format, saved.version)));
        }
        let known = |(index, entry): (usize, &Entry)| match entry.role.as_str() {
            "user" | "assistant" => true,
            "system" => index == 0,
            _ => false,
        };
        match saved.messages.iter().enumerate().find(|entry| !known(*entry)) {
            Some((index, entry)) => Err(wrong(format!("message {index} has the role {:?}", entry.role))),
            None => Ok(saved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_chat_comes_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("chat.json");
        let messages = [Message::new("user", "a\u{1b}[2J \"b\"\n"), Message::new("assistant", "ü")];
        Transcript::new("tiny".to_owned(), None, Some("Be brief."), &messages).save(&path).expect("writable");
        let text = std::fs::read_to_string(&path).expect("it was written");
        assert!(!text.contains('\u{1b}'), "{text}");
        let (system, back) = Transcript::load(&path).expect("it was saved").into_parts();
        assert_eq!((system.as_deref(), back.as_slice()), (Some("Be brief."), &messages[..]));
        Transcript::new("tiny".to_owned(), None, None, &[]).save(&path).expect("a saved chat may be replaced");
    }

    #[test]
    fn other_files_are_neither_loaded_nor_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "notes").expect("writable");
        assert!(Transcript::new("tiny".to_owned(), None, None, &[]).save(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "notes");
        let entries = r#"{"format":"adapter-chat","version":1,"model":"m","messages":[{"role":"tool","content":""}]}"#;
        std::fs::write(&path, entries).expect("writable");
        let error = Transcript::load(&path).expect_err("the role is unknown").to_string();
        assert!(error.contains("message 0 has the role \"tool\""), "{error}");
    }
}
