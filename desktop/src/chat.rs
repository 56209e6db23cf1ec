//! Conversations: a tree of messages each, so that an edit or another answer never overwrites what was there. The JSON is that
//! of the browser page, so that chats go from one to the other.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use adapter_engine::answer::Finish;
use serde::{Deserialize, Serialize};

/// The title of a chat that has none yet.
pub const NEW_CHAT: &str = "New chat";
/// Longest title, in characters.
const TITLE_LEN: usize = 48;
const FORMAT: &str = "llama-adapter-chats";
const VERSION: u32 = 1;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Said before everything else.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As chat templates name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// As people read it.
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::User => "You",
            Self::Assistant => "Model",
        }
    }
}

/// How an answer came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerNote {
    /// The model's name.
    pub model: String,
    /// The adapter's name, if one was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Its strength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Tokens a second after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// From the question to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// Why it ended; `None`: an error broke it off.
    #[serde(with = "finish")]
    pub finish: Option<Finish>,
}

/// [`AnswerNote::finish`] in a file: a word of [`Finish`], or `failed`.
mod finish {
    use adapter_engine::answer::Finish;
    use serde::de::IntoDeserializer as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    const FAILED: &str = "failed";

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(finish: &Option<Finish>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(finish.map_or(FAILED, Finish::name))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Finish>, D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == FAILED { Ok(None) } else { Finish::deserialize(word.into_deserializer()).map(Some) }
    }
}

/// A message and its place in the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// A name nobody else has.
    pub id: String,
    /// The message before it; none for a first one.
    pub parent: Option<String>,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// For answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<AnswerNote>,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// A name nobody else has; also its file's.
    pub id: String,
    /// As it is listed.
    pub title: String,
    /// Milliseconds since 1970.
    pub created: f64,
    /// Milliseconds since 1970.
    pub updated: f64,
    /// In the order they were made.
    pub messages: Vec<Message>,
    /// The last message of the branch that is shown.
    pub leaf: Option<String>,
}

/// A message that is being written anew.
#[derive(Debug, Clone)]
pub(crate) struct Editing {
    /// Its id.
    pub message: String,
    /// What it is to be.
    pub text: String,
    /// The field is to get the keys.
    pub focus: bool,
}

/// 128 random bits as 32 digits.
#[must_use]
pub fn new_id() -> String {
    // The seeds of `RandomState` are random for each process and differ from call to call.
    let part = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_millis() as f64)
}

impl Default for Chat {
    fn default() -> Self {
        let now = now_ms();
        let title = NEW_CHAT.to_owned();
        Self { id: new_id(), title, created: now, updated: now, messages: Vec::new(), leaf: None }
    }
}

impl Chat {
    /// The message of that id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Message> {
        self.messages.iter().find(|message| message.id == id)
    }

    /// The message of that id.
    pub fn find_mut(&mut self, id: &str) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.id == id)
    }

    /// The shown branch as places in `messages`, first message first.
    #[must_use]
    pub fn branch(&self) -> Vec<usize> {
        let places: HashMap<&str, usize> =
            self.messages.iter().enumerate().map(|(place, message)| (message.id.as_str(), place)).collect();
        let mut path = Vec::new();
        let mut at = self.leaf.as_deref();
        // A damaged import may have a ring of parents.
        while let Some(&place) = at.and_then(|id| places.get(id)).filter(|_| path.len() < self.messages.len()) {
            path.push(place);
            at = self.messages[place].parent.as_deref();
        }
        path.reverse();
        path
    }

    /// Ids of the messages with the same parent and role, oldest first.
    #[must_use]
    pub fn siblings(&self, message: &Message) -> Vec<&str> {
        let same = |other: &&Message| other.parent == message.parent && other.role == message.role;
        self.messages.iter().filter(same).map(|other| other.id.as_str()).collect()
    }

    /// Shows the branch that a message is on, followed by the newest message after each.
    pub fn show(&mut self, id: &str) {
        let mut leaf = id.to_owned();
        for _ in 0..=self.messages.len() {
            let next = self.messages.iter().rev().find(|other| other.parent.as_deref() == Some(&leaf));
            let Some(next) = next else { break };
            leaf.clone_from(&next.id);
        }
        self.leaf = Some(leaf);
    }

    /// Adds a message after `parent` and shows it. Returns its id.
    pub fn add(&mut self, parent: Option<String>, role: Role, content: impl Into<String>) -> String {
        let content = content.into();
        if role == Role::User && parent.is_none() && self.title == NEW_CHAT {
            self.title = title_of(&content);
        }
        let id = new_id();
        self.messages.push(Message { id: id.clone(), parent, role, content, note: None });
        self.leaf = Some(id.clone());
        self.updated = now_ms();
        id
    }

    /// Takes a message back that nothing follows, as one that failed before its first word; its parent is shown then.
    pub fn take_back(&mut self, id: &str) {
        if self.messages.iter().any(|other| other.parent.as_deref() == Some(id)) {
            return;
        }
        if let Some(place) = self.messages.iter().position(|message| message.id == id) {
            let message = self.messages.remove(place);
            if self.leaf.as_deref() == Some(id) {
                self.leaf = message.parent;
            }
        }
    }

    /// Whether the title or any message holds `text`; case does not matter, and everything holds nothing.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        let wanted = text.trim().to_lowercase();
        let holds = |text: &str| text.to_lowercase().contains(&wanted);
        wanted.is_empty() || holds(&self.title) || self.messages.iter().any(|message| holds(&message.content))
    }

    /// The shown branch as markdown.
    #[must_use]
    pub fn as_markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        for place in self.branch() {
            let Message { role, content, .. } = &self.messages[place];
            text += &format!("\n**{}**\n\n{}\n", role.shown(), content);
        }
        text
    }

    /// The same chat under new ids, so that it can stand beside the one it came from.
    fn renamed(mut self) -> Self {
        let ids: HashMap<String, String> = self.messages.iter().map(|message| (message.id.clone(), new_id())).collect();
        let mut seen = HashSet::new();
        self.messages.retain(|message| seen.insert(message.id.clone()));
        // A message may only follow one that came before it: that leaves no rings.
        let mut before = HashSet::new();
        for message in &mut self.messages {
            let own = message.id.clone();
            message.parent = message.parent.take().filter(|parent| before.contains(parent)).map(|p| ids[&p].clone());
            message.id.clone_from(&ids[&own]);
            before.insert(own);
        }
        let last = self.messages.last().map(|message| message.id.clone());
        self.leaf = self.leaf.as_ref().and_then(|leaf| ids.get(leaf).cloned()).or(last);
        self.title = self.title.chars().filter(|c| !c.is_control()).take(200).collect();
        if self.title.trim().is_empty() {
            self.title = NEW_CHAT.to_owned();
        }
        let usual = |time: f64| if time.is_finite() && time > 0.0 { time } else { now_ms() };
        (self.created, self.updated) = (usual(self.created), usual(self.updated));
        self.id = new_id();
        self
    }
}

/// The first line of a text, shortened.
fn title_of(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.chars().count() {
        0 => NEW_CHAT.to_owned(),
        n if n <= TITLE_LEN => line,
        _ => {
            let short: String = line.chars().take(TITLE_LEN - 1).collect();
            format!("{}…", short.trim_end())
        }
    }
}

/// Chats as a file: what [`import`] and the browser page read.
#[must_use]
pub fn export<'a>(chats: impl IntoIterator<Item = &'a Chat>) -> String {
    let chats: Vec<&Chat> = chats.into_iter().collect();
    // Names and numbers only: this cannot fail.
    serde_json::to_string_pretty(&serde_json::json!({ "format": FORMAT, "version": VERSION, "chats": chats }))
        .unwrap_or_default()
}

/// A chat as lines of JSON: what it is, then a line for each message.
#[must_use]
pub fn to_lines(chat: &Chat) -> String {
    let Chat { id, title, created, updated, messages, leaf } = chat;
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        id: id.clone(),
        title: title.clone(),
        created: *created,
        updated: *updated,
        leaf: leaf.clone(),
    };
    let mut lines = serde_json::to_string(&head).unwrap_or_default();
    for message in messages {
        lines.push('\n');
        lines += &serde_json::to_string(message).unwrap_or_default();
    }
    lines.push('\n');
    lines
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    id: String,
    title: String,
    created: f64,
    updated: f64,
    leaf: Option<String>,
}

/// A chat from its lines, and what was wrong with lines that are left out.
///
/// # Errors
/// A first line that is none of ours.
pub fn from_lines(text: &str) -> Result<(Chat, Vec<String>), String> {
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().ok_or("it is empty")?;
    let head: Head = serde_json::from_str(first).map_err(|error| format!("line 1 describes no chat: {error}"))?;
    if head.format != FORMAT || head.version != VERSION {
        return Err(format!("its format is {:?} version {}", head.format, head.version));
    }
    let mut problems = Vec::new();
    let mut messages: Vec<Message> = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(message) => messages.push(message),
            Err(error) => problems.push(format!("line {} is no message: {error}", index + 1)),
        }
    }
    let Head { id, title, created, updated, mut leaf, .. } = head;
    if leaf.as_ref().is_some_and(|leaf| messages.iter().all(|message| message.id != *leaf)) {
        leaf = messages.last().map(|message| message.id.clone());
    }
    Ok((Chat { id, title, created, updated, messages, leaf }, problems))
}

/// Chats of a file under new ids, so that nothing is overwritten: ours, the browser page's, or a transcript that `/save` of the
/// terminal program wrote.
///
/// # Errors
/// A file that is none of these.
pub fn import(text: &str) -> Result<Vec<Chat>, String> {
    #[derive(Deserialize)]
    struct Spoken {
        role: Role,
        content: String,
    }
    #[derive(Deserialize)]
    struct File {
        format: String,
        #[serde(default)]
        chats: Vec<serde_json::Value>,
        #[serde(default)]
        messages: Vec<Spoken>,
    }
    if let Ok((chat, problems)) = from_lines(text) {
        return match problems.first() {
            None if chat.messages.is_empty() => Err("the chat in it has no messages".to_owned()),
            None => Ok(vec![chat.renamed()]),
            Some(problem) => Err(problem.clone()),
        };
    }
    let file: File = serde_json::from_str(text).map_err(|error| format!("it is no file of chats: {error}"))?;
    match file.format.as_str() {
        "adapter-chat" => {
            let mut chat = Chat::default();
            for Spoken { role, content } in file.messages {
                chat.add(chat.leaf.clone(), role, content);
            }
            if chat.title == NEW_CHAT
                && let Some(first) = chat.messages.iter().find(|message| message.role == Role::User)
            {
                chat.title = title_of(&first.content);
            }
            if chat.messages.is_empty() { Err("it has no messages".to_owned()) } else { Ok(vec![chat]) }
        }
        FORMAT => {
            let mut chats = Vec::new();
            for (index, value) in file.chats.into_iter().enumerate() {
                let chat: Chat = serde_json::from_value(value)
                    .map_err(|error| format!("chat {} cannot be read: {error}", index + 1))?;
                if !chat.messages.is_empty() {
                    chats.push(chat.renamed());
                }
            }
            if chats.is_empty() { Err("it holds no chats".to_owned()) } else { Ok(chats) }
        }
        other => Err(format!("its format is {other:?}, not {FORMAT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Chat {
        let mut chat = Chat::default();
        let question = chat.add(None, Role::User, "Why is the sky blue?\nTell me.");
        chat.add(Some(question.clone()), Role::Assistant, "Rayleigh.");
        chat.add(Some(question), Role::Assistant, "Scattering \u{1b}[2J \"x\"\n");
        chat
    }

    #[test]
    fn an_edit_and_another_answer_are_branches() {
        let mut chat = talk();
        assert_eq!(chat.title, "Why is the sky blue?");
        let shown = |chat: &Chat| chat.branch().iter().map(|at| chat.messages[*at].content.clone()).collect::<Vec<_>>();
        assert_eq!(shown(&chat)[1], "Scattering \u{1b}[2J \"x\"\n");
        let (first, second) = (chat.messages[1].clone(), chat.messages[2].clone());
        assert_eq!(chat.siblings(&first), [first.id.as_str(), second.id.as_str()]);
        chat.show(&first.id);
        assert_eq!(shown(&chat), ["Why is the sky blue?\nTell me.", "Rayleigh."]);
        chat.add(None, Role::User, "And red?");
        assert_eq!(shown(&chat), ["And red?"]);
        let question = chat.messages[0].id.clone();
        chat.show(&question);
        assert_eq!(shown(&chat).len(), 2, "the newest answer follows");
        assert_eq!(chat.messages.len(), 4, "nothing was overwritten");
    }

    #[test]
    fn lines_come_back_and_a_broken_one_is_named() {
        let chat = talk();
        let lines = to_lines(&chat);
        assert_eq!(lines.lines().count(), 4);
        assert_eq!(from_lines(&lines).expect("ours"), (chat.clone(), vec![]));
        let cut = &lines[..lines.len() - 12];
        let (back, problems) = from_lines(cut).expect("the first line is whole");
        assert_eq!(back.messages, chat.messages[..2]);
        assert!(problems[0].starts_with("line 4 is no message"), "{problems:?}");
        assert_eq!(back.leaf.as_ref(), Some(&chat.messages[1].id), "the last message there is");
        assert!(from_lines("{}").is_err());
    }

    #[test]
    fn files_of_three_programs_are_read_and_get_new_ids() {
        let chat = talk();
        let back = import(&export([&chat])).expect("ours");
        assert_eq!(back[0].messages.len(), 3);
        assert_ne!(back[0].id, chat.id);
        assert_ne!(back[0].messages[1].id, chat.messages[1].id);
        assert_eq!(back[0].messages[1].parent.as_ref(), Some(&back[0].messages[0].id));
        let terminal = r#"{"format":"adapter-chat","version":1,"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}"#;
        let back = import(terminal).expect("a transcript");
        assert_eq!((back[0].title.as_str(), back[0].branch().len()), ("Hi", 3));
        let page = r#"{"format":"llama-adapter-chats","version":1,"chats":[{"id":"a","title":"T","created":1,"updated":2,"leaf":"m2","messages":[{"id":"m1","parent":"m2","role":"user","content":"q"},{"id":"m2","parent":"m1","role":"assistant","content":"a","note":{"model":"M","tokens":3,"tokensPerSecond":4.5,"firstTokenMs":6,"finish":"length"}}]}]}"#;
        let back = import(page).expect("the page's; its ring of parents is cut");
        assert_eq!(back[0].branch().len(), 2);
        assert_eq!(back[0].messages[1].note.as_ref().map(|note| note.finish), Some(Some(Finish::Length)));
        assert_eq!(import(&to_lines(&chat)).expect("a file of the folder").len(), 1);
        for wrong in ["", "[]", "{\"format\":\"x\"}", "{\"format\":\"llama-adapter-chats\",\"chats\":[{}]}"] {
            assert!(import(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn search_looks_into_messages() {
        let chat = talk();
        assert!(chat.holds("SKY") && chat.holds("scattering") && chat.holds(" "));
        assert!(!chat.holds("ocean"));
    }
}
