//! A window without a screen, a tiny model that can chat, and waiting.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use adapter_desktop::dialogs::Pick;
use adapter_desktop::{App, ModelState, Start, State};
use adapter_engine::formats::{Gguf, ReadAtFile};
use eframe::egui::{Event, OutputCommand, vec2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use egui_kittest::{Harness, HarnessBuilder, Node};

/// What dialogs answer, for tests that choose files.
pub type Chosen = Arc<Mutex<Option<PathBuf>>>;

/// `tests/data/tiny-llama` with a short chat template and a longer context: its own template takes half of its 128 positions.
pub fn chat_model() -> &'static Path {
    static MODEL: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny-chat.gguf");
        adapter_tests::write_tiny_chat(&path, template);
        (folder, path)
    });
    path
}

/// A PEFT adapter for [`chat_model`].
pub fn peft() -> PathBuf {
    adapter_tests::data("tiny-llama/peft")
}

/// A window, and the lock that keeps other tests off the GPU.
pub struct Window {
    pub harness: Harness<'static, App>,
    pub chosen: Chosen,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Window {
    /// A window over `folder`.
    pub fn open(folder: Option<&Path>) -> Self {
        Self::with(Start { folder: folder.map(Path::to_owned), ..Start::default() })
    }

    pub fn with(start: Start) -> Self {
        Self::built(start, Harness::builder())
    }

    /// A window whose pictures can be taken.
    pub fn painted(start: Start) -> Self {
        Self::built(start, Harness::builder().wgpu())
    }

    fn built(start: Start, builder: HarnessBuilder<App>) -> Self {
        let alone = adapter_tests::one_at_a_time();
        let chosen = Chosen::default();
        let answer = Arc::clone(&chosen);
        let dialogs = move |_: &Pick| answer.lock().expect("not poisoned").clone();
        let start = Start { dialogs: Some(Arc::new(dialogs)), ..start };
        let harness = builder
            .with_size(vec2(1180.0, 780.0))
            .with_max_steps(32)
            // A random model says random letters; no font has them all.
            .allow_missing_glyphs()
            .build_eframe(|creation| App::new(&creation.egui_ctx, start).expect("a window"));
        Self { harness, chosen, _alone: alone }
    }

    /// A window with the tiny model loaded.
    pub fn ready(folder: Option<&Path>) -> Self {
        let start =
            Start { folder: folder.map(Path::to_owned), model: Some(chat_model().to_owned()), ..Start::default() };
        let mut window = Self::with(start);
        window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
        window
    }

    pub fn app(&self) -> &State {
        self.harness.state().state()
    }

    pub fn app_mut(&mut self) -> &mut State {
        self.harness.state_mut().state_mut()
    }

    /// Draws frames until it is so.
    pub fn wait(&mut self, what: &str, done: impl Fn(&State) -> bool) {
        let start = Instant::now();
        loop {
            self.harness.step();
            if done(self.app()) {
                break;
            }
            let last = self.app().newest_notice();
            assert!(start.elapsed() < Duration::from_secs(90), "{what} never came; the last notice: {last:?}");
            std::thread::sleep(Duration::from_millis(15));
        }
        self.settle();
    }

    /// Draws until nothing moves any more, and no header is on its way that would move it again.
    pub fn settle(&mut self) {
        self.harness.run_ok();
        while self.app().is_reading() {
            std::thread::sleep(Duration::from_millis(5));
            self.harness.run_ok();
        }
        self.harness.check_accessibility();
    }

    /// Presses the only widget of that name.
    pub fn press(&mut self, name: &str) {
        let node = self.harness.get_by_label(name);
        if node.rect().bottom() > 770.0 || node.rect().top() < 0.0 {
            // Out of sight: a person would scroll there.
            node.scroll_to_me();
            self.settle();
        }
        self.harness.get_by_label(name).click();
        self.settle();
    }

    /// Presses the last widget of that name: that of the last message.
    pub fn press_last(&mut self, name: &str) {
        let last = self.harness.get_all_by_label(name).next_back();
        last.unwrap_or_else(|| panic!("there is no {name:?}")).click();
        self.settle();
    }

    /// Goes to a view by the bar above, whose names may stand in the view, too.
    pub fn go_to(&mut self, name: &str) {
        let first = self.harness.get_all_by_label(name).next();
        first.unwrap_or_else(|| panic!("there is no view {name:?}")).click();
        self.settle();
    }

    pub fn has(&self, name: &str) -> bool {
        self.harness.query_all_by_label(name).next().is_some()
    }

    /// Whether some text on the window holds these words.
    pub fn says(&self, words: &str) -> bool {
        self.harness.query_all_by_label_contains(words).next().is_some()
    }

    /// Types into the field of that name, in place of what is there.
    pub fn fill(&mut self, name: &str, text: &str) {
        self.harness.get_by_label(name).focus();
        self.settle();
        self.harness.key_press_modifiers(eframe::egui::Modifiers::COMMAND, eframe::egui::Key::A);
        self.settle();
        self.harness.event(Event::Text(text.to_owned()));
        self.settle();
    }

    /// Asks by the message box and waits for the answer.
    pub fn ask(&mut self, text: &str) {
        self.fill("Message", text);
        self.press("Send");
        self.wait("the answer", |app| !app.is_answering());
    }

    /// Contents of the messages that are shown.
    pub fn shown(&self) -> Vec<String> {
        let chat = self.app().chat();
        chat.branch().iter().map(|at| chat.messages[*at].content.clone()).collect()
    }

    /// What the last frame gave the system to do.
    pub fn commands(&self) -> &[OutputCommand] {
        &self.harness.output().platform_output.commands
    }

    /// Presses and returns what went to the clipboard.
    pub fn copied(&mut self, name: &str) -> String {
        self.harness.get_all_by_label(name).next_back().expect("there").click();
        for _ in 0..4 {
            self.harness.step();
            let text = self.commands().iter().find_map(|command| match command {
                OutputCommand::CopyText(text) => Some(text.clone()),
                _ => None,
            });
            if let Some(text) = text {
                return text;
            }
        }
        panic!("{name:?} copied nothing");
    }
}

/// Whether a widget can be used.
pub fn is_enabled(node: &Node<'_>) -> bool {
    !node.accesskit_node().is_disabled()
}

/// Reads what a model says to a prompt, without a window.
pub fn directly(messages: &[adapter_engine::text::Message], adapter: Option<f32>, max_tokens: usize) -> String {
    use adapter_engine::text::{ChatTemplate, RenderOptions, Shown, Tokenizer, VocabSource, decode, encode_chat};
    let source = ReadAtFile::open(chat_model()).expect("there");
    let gguf = Gguf::read(&source).expect("GGUF");
    let tokenizer = Tokenizer::from_vocab(VocabSource::from_gguf(&gguf).expect("vocabulary")).expect("vocabulary");
    let template = ChatTemplate::from_vocab(&tokenizer).expect("template");
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let ids = encode_chat(&tokenizer, &template, messages, &options).expect("ids");
    let model = adapter_tests::load(adapter_tests::gpu(), chat_model());
    let mut session = adapter_engine::Session::new(&model, &Default::default()).expect("a session");
    let found = adapter_host::adapter_file(&peft(), None, None).expect("the adapter");
    let resident = adapter_engine::Adapter::load(&model, "peft", &found.file).expect("it fits");
    session.set_adapter(adapter.map(|strength| (&resident, strength))).expect("set");
    let mut said = Vec::new();
    let sampling = adapter_engine::Sampling::greedy();
    let mut go_on = |_, _| ControlFlow::Continue(());
    let mut generation = pollster::block_on(session.generate(&ids, &sampling, &mut go_on)).expect("an answer");
    while said.len() < max_tokens {
        match pollster::block_on(generation.next()).expect("a token") {
            Some(id) if !tokenizer.is_end_of_generation(id) => said.push(id),
            _ => break,
        }
    }
    decode(&tokenizer, &said, Shown::TextOnly).expect("text")
}
