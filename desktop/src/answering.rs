//! Chats, and answers in them: from a question to the last word.

use std::path::Path;
use std::time::Instant;

use adapter_engine::answer::Finish;
use adapter_engine::text;
use adapter_host::Problem;

use crate::answer_state::Answering;
use crate::chat::{self, AnswerNote, Chat, Message, Role};
use crate::loading::shown_name;
use crate::state::{ModelState, State, View};
use adapter_host::worker::{Answered, Ask, Begun, Command, LiveChoice, Stop};

impl State {
    pub(crate) fn chat_mut(&mut self) -> &mut Chat {
        let at = self.chats.iter().position(|chat| chat.id == self.open).unwrap_or(0);
        &mut self.chats[at]
    }

    /// Opens an empty chat.
    pub fn new_chat(&mut self) {
        self.stop();
        self.view = View::Chat;
        self.focus_draft = true;
        self.used = 0;
        match self.chats.iter().find(|chat| chat.messages.is_empty()) {
            Some(empty) => self.open = empty.id.clone(),
            None => {
                let chat = Chat::default();
                self.open.clone_from(&chat.id);
                self.chats.insert(0, chat);
            }
        }
        self.settings.chat = None;
    }

    pub(crate) fn select(&mut self, id: &str) {
        if self.open != id {
            self.stop();
            id.clone_into(&mut self.open);
            self.settings.chat = Some(id.to_owned());
            self.measure();
        }
        self.view = View::Chat;
    }

    pub(crate) fn save(&mut self, id: &str) {
        self.chats.sort_by(|a, b| b.updated.total_cmp(&a.updated));
        if let (Some(history), Some(chat)) = (&self.history, self.chats.iter().find(|chat| chat.id == id)) {
            history.save(chat);
        }
        if self.open == id {
            self.settings.chat = Some(id.to_owned());
        }
    }

    pub(crate) fn delete_chat(&mut self, id: &str) {
        if self.open == id {
            self.stop();
        }
        self.chats.retain(|chat| chat.id != id);
        if let Some(history) = &self.history {
            history.delete(id);
        }
        if self.chats.is_empty() || self.open == id {
            self.new_chat();
        }
    }

    pub(crate) fn delete_all_chats(&mut self) {
        self.stop();
        for chat in std::mem::take(&mut self.chats) {
            if let Some(history) = &self.history {
                history.delete(&chat.id);
            }
        }
        self.new_chat();
        self.notices.good("All chats are deleted");
    }

    pub(crate) fn import(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.notices.fail(&Problem::file("cannot read the file", path, &error)),
        };
        match chat::import(&text) {
            Ok(chats) => {
                let ids: Vec<String> = chats.iter().map(|chat| chat.id.clone()).collect();
                self.chats.extend(chats);
                for id in &ids {
                    self.save(id);
                }
                let words = if ids.len() == 1 { "1 chat is".to_owned() } else { format!("{} chats are", ids.len()) };
                self.notices.good(&format!("{words} here now"));
                if let Some(id) = ids.first() {
                    self.select(id);
                }
            }
            Err(reason) => {
                let hint = "choose a file that was exported here or by the page, or that `/save` wrote in the terminal";
                self.notices
                    .fail(&Problem::new(format!("no chats can be read from this file: {reason}"), hint).at(path));
            }
        }
    }

    /// What the model is given: the system prompt, then the branch up to and with a message.
    pub(crate) fn prompt(&self, chat: &Chat) -> Vec<text::Message> {
        let system = self.settings.answering.system.trim();
        let path = chat.branch();
        let spoken = path.iter().map(|at| &chat.messages[*at]).filter(|message| !message.content.is_empty());
        let spoken: Vec<&Message> = spoken.collect();
        let own = spoken.first().is_none_or(|first| first.role != Role::System) && !system.is_empty();
        let mut messages: Vec<text::Message> = Vec::new();
        if own {
            messages.push(text::Message::new("system", system));
        }
        messages.extend(spoken.iter().map(|message| text::Message::new(message.role.name(), message.content.as_str())));
        messages
    }

    /// Counts the tokens of the open conversation, for the meter.
    pub(crate) fn measure(&mut self) {
        self.used = 0;
        let messages = self.prompt(self.chat());
        if self.ready().is_some() && self.answering.is_none() && !messages.is_empty() {
            self.counts += 1;
            let ticket = self.counts;
            self.send(Command::Count { ticket, messages });
        }
    }

    /// Why nothing can be answered, said to the user.
    pub(crate) fn refuse(&mut self) {
        let (code, message) = match self.model {
            ModelState::Lost(_) => ("device-lost", "the model is not on the GPU any more"),
            ModelState::Loading(_) => {
                return self
                    .notices
                    .warn("The model is still being loaded", "Your message is kept; send it in a moment.");
            }
            _ => ("no-model", "no model is loaded yet"),
        };
        self.notices.fail(&Problem { message: message.to_owned(), hint: None, code });
    }

    /// Says something and has it answered.
    pub fn say(&mut self, text: &str) {
        let chat = self.chat_mut();
        let question = chat.add(chat.leaf.clone(), Role::User, text);
        let id = chat.id.clone();
        self.save(&id);
        self.answer(&question);
    }

    /// Says something else in place of a message, on a branch of its own.
    pub(crate) fn edit(&mut self, message: &str, text: &str) {
        if self.ready().is_none() {
            return self.refuse();
        }
        self.stop();
        let chat = self.chat_mut();
        let parent = chat.find(message).and_then(|message| message.parent.clone());
        let question = chat.add(parent, Role::User, text);
        let id = chat.id.clone();
        self.save(&id);
        self.answer(&question);
    }

    /// Answers the question before a message once more, on a branch of its own.
    pub(crate) fn again(&mut self, message: &str) {
        if self.ready().is_none() {
            return self.refuse();
        }
        self.stop();
        if let Some(question) = self.chat().find(message).and_then(|message| message.parent.clone()) {
            self.answer(&question);
        }
    }

    /// Answers the last question of the branch once more.
    pub(crate) fn again_last(&mut self) {
        let chat = self.chat();
        let last = chat.branch().into_iter().rev().map(|at| &chat.messages[at]);
        let last = last.into_iter().find(|message| message.role == Role::Assistant).map(|message| message.id.clone());
        if let Some(id) = last {
            self.again(&id);
        }
    }

    pub(crate) fn show_branch(&mut self, message: &str) {
        self.stop();
        self.chat_mut().show(message);
        let id = self.open.clone();
        self.save(&id);
        self.measure();
    }

    pub(crate) fn answer(&mut self, question: &str) {
        if self.ready().is_none() {
            return self.refuse();
        }
        let question = question.to_owned();
        let chat = self.chat_mut();
        chat.leaf = Some(question.clone());
        let attempt = chat.messages.iter().filter(|other| other.parent.as_ref() == Some(&question)).count() as u64;
        let messages = self.prompt(self.chat());
        let message = self.chat_mut().add(Some(question), Role::Assistant, "");
        self.start_answer(message, messages, Begun::Nothing, attempt);
    }

    /// Goes on with an answer that was stopped or cut.
    pub(crate) fn continue_answer(&mut self, message: &str) {
        if self.ready().is_none() || self.answering.is_some() {
            return self.refuse();
        }
        let chat = self.chat();
        let Some(Message { parent, content, .. }) = chat.find(message) else { return };
        let begun = match self.answered_ids.get(message) {
            Some(ids) => Begun::Ids(ids.clone()),
            None => Begun::Text(content.clone()),
        };
        let until = Chat { leaf: parent.clone(), ..chat.clone() };
        let messages = self.prompt(&until);
        self.start_answer(message.to_owned(), messages, begun, 0);
    }

    pub(crate) fn start_answer(&mut self, message: String, messages: Vec<text::Message>, begun: Begun, attempt: u64) {
        self.asks += 1;
        let (id, stop, live) = (self.asks, Stop::default(), LiveChoice::new(self.choice()));
        let ask = Ask {
            id,
            messages,
            begun,
            sampling: self.settings.answering.sampling(attempt),
            stops: self.settings.answering.stops(),
            max_tokens: self.settings.answering.max_tokens.max(1),
            adapter: live.clone(),
            stop: stop.clone(),
        };
        let model = self.ready().map_or_else(String::new, |loaded| shown_name(&loaded.card.path));
        let adapter = self.active_adapter().filter(|_| self.adapter_on).map(|adapter| adapter.name.clone());
        let strength = adapter.as_ref().map(|_| self.strength);
        let mut before = 0;
        if let Some(message) = self.chat_mut().find_mut(&message) {
            before = message.note.as_ref().map_or(0, |note| note.tokens);
            message.note = Some(AnswerNote {
                model,
                adapter,
                strength,
                tokens: before,
                tokens_per_second: None,
                first_token_ms: None,
                finish: Some(Finish::Stopped),
            });
        }
        let now = Instant::now();
        self.answering = Some(Answering {
            id,
            chat: self.open.clone(),
            message,
            stop,
            live,
            prompt: None,
            since: now,
            first: None,
            n_tokens: 0,
            before,
            saved: now,
        });
        self.send(Command::Ask(ask));
    }

    /// Ends the answer on its way; what came stays. It shows at once, the engine follows within a token.
    pub fn stop(&mut self) {
        if let Some(answering) = self.answering.take() {
            answering.stop.stop();
            self.ended(&answering, None, Some(Finish::Stopped));
        }
    }

    /// Writes down how an answer ended. One of which nothing came leaves no trace, so that the question can be asked again.
    pub(crate) fn ended(&mut self, answering: &Answering, answered: Option<&Answered>, finish: Option<Finish>) {
        let speed = answering.speed();
        let first = answering.first.map(|first| first.duration_since(answering.since));
        let Some(chat) = self.chats.iter_mut().find(|chat| chat.id == answering.chat) else { return };
        if let Some(message) = chat.find_mut(&answering.message) {
            if let Some(note) = &mut message.note {
                note.finish = finish;
                note.tokens = answering.before + answered.map_or(answering.n_tokens, |answered| answered.n_tokens);
                note.tokens_per_second = answered.map_or(speed, |answered| answered.tokens_per_second);
                let first = answered.map_or(first, |answered| answered.first_token);
                note.first_token_ms = first.map(|first| first.as_secs_f64() * 1000.0);
            }
            if message.content.is_empty() {
                chat.take_back(&answering.message);
            }
        }
        chat.updated = chat::now_ms();
        self.save(&answering.chat);
    }

    /// Asks the same of the model and of the model with its adapter, one after the other.
    pub(crate) fn start_compare(&mut self, question: &str) {
        if self.ready().is_none() {
            return self.refuse();
        }
        let Some(adapter) = self.active else { return };
        let name = self.active_adapter().map_or_else(String::new, |adapter| adapter.name.clone());
        let text = question.trim().to_owned();
        let system = self.settings.answering.system.trim();
        let system = (!system.is_empty()).then(|| text::Message::new("system", system));
        let messages: Vec<text::Message> = system.into_iter().chain([text::Message::new("user", text)]).collect();
        // The same random numbers for both.
        let sampling = self.settings.answering.sampling(0);
        let ids = [self.asks + 1, self.asks + 2];
        self.asks += 2;
        let stop = Stop::default();
        for (id, choice) in ids.into_iter().zip([None, Some((adapter, self.strength))]) {
            let ask = Ask {
                id,
                messages: messages.clone(),
                begun: Begun::Nothing,
                sampling: sampling.clone(),
                stops: self.settings.answering.stops(),
                max_tokens: self.settings.answering.max_tokens.max(1),
                adapter: LiveChoice::new(choice),
                stop: stop.clone(),
            };
            self.send(Command::Ask(ask));
        }
        self.compare.begin(ids, stop, format!("{name} at {:.2}", self.strength));
    }
}
