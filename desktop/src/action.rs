//! What views ask for. A view changes nothing but what is being typed in it: everything else is an action.

use std::path::PathBuf;

use adapter_host::Problem;

use crate::dialogs::Pick;
use crate::settings::Settings;
use crate::state::{ModelState, Question, State, View};
use crate::teach::Form;
use crate::words::Remedy;
use adapter_host::worker::AdapterKey;

/// Something that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Another view.
    GoTo(View),
    /// An empty chat.
    NewChat,
    /// The chat of this id.
    OpenChat(String),
    /// Says this in the open chat.
    Say(String),
    /// Says a text in place of a message, on a branch of its own.
    Edit { message: String, text: String },
    /// Another answer in place of this one.
    Again(String),
    /// Goes on with an answer.
    Continue(String),
    /// Shows the branch of a message.
    ShowBranch(String),
    /// Ends the answer on its way.
    Stop,
    /// Asks both sides.
    Compare(String),
    /// Ends both answers.
    StopCompare,
    /// Loads a model.
    Load(PathBuf),
    /// Loads the lost model again.
    Reload,
    /// Breaks a load off.
    CancelLoad,
    /// Reads the header of a file.
    ReadCard(PathBuf),
    /// Stops the fetch of a model.
    CancelFetch,
    /// Takes a file off the list of those used before.
    Forget(PathBuf),
    /// Uses an adapter, or none.
    UseAdapter(Option<AdapterKey>),
    /// Turns the adapter on or off, and up or down. A slider that is still being dragged is not `settled`.
    Adapter { on: bool, strength: f32, settled: bool },
    /// Forgets an adapter.
    RemoveAdapter(AdapterKey),
    /// Reads rows to learn.
    Rows(PathBuf),
    /// Keeps rows that were pasted, and reads them.
    Paste(String),
    /// What is to be trained.
    Form(Box<Form>),
    /// Asks what learning would take.
    Plan,
    /// Begins a training.
    Teach,
    /// Goes on with the run in this folder.
    GoOn(PathBuf),
    /// Ends it after the step under way.
    StopTeaching,
    /// Loads a taught adapter and opens an empty chat.
    TalkTo(PathBuf),
    /// Other settings.
    Set(Box<Settings>),
    /// Asks before something is done.
    Ask(Question),
    /// The question was answered.
    Answered(Question),
    /// The question was put away.
    Cancelled,
    /// Opens a dialog for a file.
    Pick(Pick),
    /// Says that something is done.
    Told(&'static str),
    /// Opens the log.
    Log,
}

impl State {
    /// Does what was asked for.
    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::GoTo(view) => self.view = view,
            Action::NewChat => self.new_chat(),
            Action::OpenChat(id) => self.select(&id),
            Action::Say(_) if self.ready().is_none() => self.refuse(),
            Action::Say(text) => {
                self.say(&text);
                self.focus_draft = true;
            }
            Action::Edit { message, text } => self.edit(&message, &text),
            Action::Again(message) => self.again(&message),
            Action::Continue(message) => self.continue_answer(&message),
            Action::ShowBranch(message) => self.show_branch(&message),
            Action::Stop => self.stop(),
            Action::Compare(question) => self.start_compare(&question),
            Action::StopCompare => self.compare.stop(),
            Action::Load(path) => self.load(&path),
            Action::Reload => self.reload(),
            Action::CancelLoad => {
                if let ModelState::Loading(loading) = &self.model {
                    loading.stop.stop();
                }
            }
            Action::ReadCard(path) => self.read_card(&path),
            Action::CancelFetch => self.cancel_fetch(),
            Action::Forget(path) => self.settings.recent.retain(|recent| *recent != path),
            Action::UseAdapter(key) => {
                self.active = key;
                self.adapter_changed();
            }
            Action::Adapter { on, strength, settled } => {
                (self.adapter_on, self.strength) = (on, strength);
                if settled {
                    self.adapter_changed();
                }
            }
            Action::RemoveAdapter(key) => self.remove_adapter(key),
            Action::Rows(path) => self.choose_rows(&path),
            Action::Paste(text) => match self.teach.keep_pasted(&text) {
                Ok(path) => self.choose_rows(&path),
                Err(problem) => self.notices.fail(&problem),
            },
            Action::Form(form) => self.teach.set_form(*form),
            Action::Plan => {
                let command = self.teach.planning();
                self.send(command);
            }
            Action::Teach => {
                let command = self.teach.start(None);
                self.send(command);
            }
            Action::GoOn(run) => {
                let command = self.teach.start(Some(run));
                self.send(command);
            }
            Action::StopTeaching => self.teach.stop(),
            Action::TalkTo(folder) => {
                self.add_adapter(&folder, None);
                self.new_chat();
            }
            Action::Set(settings) => {
                let system = settings.answering.system != self.settings.answering.system;
                self.settings = *settings;
                if system {
                    self.measure();
                }
            }
            Action::Ask(question) => self.question = Some(question),
            Action::Answered(question) => self.answer_question(question),
            Action::Cancelled => self.question = None,
            Action::Pick(pick) => self.dialogs.open(&self.ctx, pick),
            Action::Told(text) => self.notices.good(text),
            Action::Log => self.notices.log_open = true,
        }
    }

    fn answer_question(&mut self, question: Question) {
        self.question = None;
        match question {
            Question::DeleteChat(id) => self.delete_chat(&id),
            Question::DeleteAllChats => self.delete_all_chats(),
            Question::Fetch => self.fetch(),
            Question::Gates(path, gate) => self.add_adapter(&path, gate),
            Question::Rename { chat, title } => {
                if let Some(chat) = self.chats.iter_mut().find(|known| known.id == chat) {
                    title.trim().clone_into(&mut chat.title);
                }
                self.save(&chat);
            }
        }
    }

    /// What a notice offered.
    pub(crate) fn remedy(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Reload => self.reload(),
            Remedy::ChooseModel => self.view = View::Models,
            Remedy::OpenSettings => self.view = View::Settings,
            Remedy::NewChat => self.new_chat(),
        }
    }

    /// A file was dropped on the window.
    pub(crate) fn dropped(&mut self, path: &std::path::Path) {
        use crate::state::Dropped;
        match Dropped::of(path) {
            Dropped::Model => self.load(path),
            Dropped::Adapter if self.ready().is_some() => self.add_adapter(path, None),
            Dropped::Adapter => self.refuse(),
            Dropped::Json => {
                let chats = self.view != View::Teach
                    && std::fs::read_to_string(path).is_ok_and(|text| crate::chat::import(&text).is_ok());
                if chats { self.import(path) } else { self.choose_rows(path) }
            }
            Dropped::Unknown => self.notices.fail(&Problem::new(
                format!("this cannot be opened here: {}", adapter_host::file_name(path)),
                "drop a .gguf model, a .safetensors adapter, a PEFT folder, rows or exported chats",
            )),
        }
    }
}
