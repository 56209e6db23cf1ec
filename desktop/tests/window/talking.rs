//! Chat from the first start to the next one.

use adapter_desktop::chat::Role;
use adapter_desktop::settings::{Mode, Theme};
use adapter_desktop::{ModelState, Start};
use adapter_engine::answer::Finish;
use adapter_engine::text::Message;
use eframe::egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;

use crate::support::{Window, chat_model, directly, is_enabled};

fn greedy(window: &mut Window, max_tokens: u32) {
    let answering = &mut window.app_mut().settings_mut().answering;
    (answering.temperature, answering.max_tokens) = (0.0, max_tokens);
}

#[test]
fn a_first_start_loads_a_model_and_talks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::open(Some(folder.path()));
    window.settle();
    assert!(window.has("Welcome") && window.says("SmolLM2-135M-Instruct"), "a first start offers the small model");

    // Without a model a message is kept and the way to one is shown.
    window.fill("Message", "Too early");
    window.press("Send");
    assert!(window.says("There is no model to answer"));
    window.press("Choose a model");
    assert!(window.has("Models") && window.has("Adapters"));

    // A path that is typed shows what the file is and takes before it is loaded.
    let path = chat_model().display().to_string();
    window.fill("Path of a model", &path);
    window.wait("the card", |_| true);
    for _ in 0..200 {
        if window.says("Needs") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        window.settle();
    }
    assert!(window.says("of GPU memory") && window.says("trained for 8192 positions"));
    window.press("Open");
    window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
    assert!(window.has("tiny-chat"), "the chat greets with the model's name");

    // The message that was too early is still there.
    greedy(&mut window, 24);
    window.settle();
    window.press("Send");
    window.wait("the answer", |app| !app.is_answering());
    let shown = window.shown();
    assert_eq!(shown[0], "Too early");
    let wanted = directly(&[Message::new("user", "Too early")], None, 24);
    assert_eq!(shown[1], wanted, "the window says what the engine says");
    assert!(window.says("tokens/s") && window.says("first after"), "speed and time to the first token are shown");
    let note = window.app().chat().messages[1].note.clone().expect("a note");
    assert_eq!((note.model.as_str(), note.tokens, note.finish), ("tiny-chat", 24, Some(Finish::Length)));

    // Continue goes on as if it had not stopped.
    window.press("Continue");
    window.wait("the rest", |app| !app.is_answering());
    let wanted = directly(&[Message::new("user", "Too early")], None, 48);
    assert_eq!(window.shown()[1], wanted, "continued without a seam");

    // A second question sees the first.
    window.ask("And more?");
    let turns = [
        Message::new("user", "Too early"),
        Message::new("assistant", &*window.shown()[1].clone()),
        Message::new("user", "And more?"),
    ];
    assert_eq!(window.shown()[3], directly(&turns, None, 24));
    let used = window.app().used();
    assert!(used > 60 && window.says(&format!("{used} of 4096 tokens")), "the context meter: {used}");

    // The next start finds model, chat and settings again.
    window.app_mut().flush();
    drop(window);
    let mut window = Window::open(Some(folder.path()));
    window.wait("the model of the last time", |app| matches!(app.model_state(), ModelState::Ready(_)));
    assert_eq!(window.shown().len(), 4);
    assert_eq!(window.app().settings().answering.max_tokens, 24);
    window.wait("the meter", |app| app.used() > 60);
}

#[test]
fn answers_branch_stop_and_are_edited() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::ready(Some(folder.path()));
    window.app_mut().settings_mut().answering.seed = Some(5);
    window.app_mut().settings_mut().answering.max_tokens = 16;
    window.ask("One");
    let first = window.shown()[1].clone();

    // Another answer has other random numbers and stands beside the first.
    window.press_last("Regenerate");
    window.wait("another answer", |app| !app.is_answering());
    let second = window.shown()[1].clone();
    assert_ne!(first, second);
    assert!(window.says("2/2"));
    window.press("Previous version");
    assert_eq!(window.shown()[1], first);
    assert!(window.says("1/2") && !is_enabled(&window.harness.get_by_label("Previous version")));
    window.press("Next version");
    assert_eq!(window.shown()[1], second);
    // By the keyboard, too.
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::R);
    window.wait("a third answer", |app| app.chat().messages.len() == 4 && !app.is_answering());
    assert!(window.says("3/3"));

    // An edit is a branch of its own, and the old one is kept.
    window.press("Edit");
    window.fill("Edited message", "Two");
    window.press("Send the edit");
    window.wait("its answer", |app| !app.is_answering());
    assert_eq!(window.shown()[0], "Two");
    let versions = window.harness.get_all_by_label("Previous version").count();
    assert_eq!(versions, 1, "the question has versions, its one answer has none");
    window.press("Previous version");
    assert_eq!(window.shown()[0], "One");
    assert_eq!(window.app().chat().messages.len(), 6, "nothing was overwritten");

    // Copy gives the text as it was said.
    let answer = window.shown()[1].clone();
    assert_eq!(window.copied("Copy"), answer);

    // Stop shows at once; what came stays.
    window.app_mut().settings_mut().answering.max_tokens = 900;
    window.fill("Message", "Three");
    window.press("Send");
    window.wait("some words", |app| {
        app.chat().messages.last().is_some_and(|message| message.role == Role::Assistant && message.content.len() > 8)
    });
    let start = std::time::Instant::now();
    window.harness.key_press(Key::Escape);
    window.harness.step();
    assert!(!window.app().is_answering(), "Esc stops");
    assert!(start.elapsed() < std::time::Duration::from_millis(100), "{:?}", start.elapsed());
    let note = window.app().chat().messages.last().and_then(|message| message.note.clone()).expect("a note");
    assert_eq!(note.finish, Some(Finish::Stopped));
    let kept = window.shown().last().cloned().expect("an answer");
    window.settle();
    // The engine hears it within a token: the next answer does not wait for 900 of them.
    window.app_mut().settings_mut().answering.max_tokens = 4;
    window.ask("Four");
    assert_eq!(window.shown()[window.shown().len() - 3], kept, "what came stays as it was");

    // The same by the button.
    window.app_mut().settings_mut().answering.max_tokens = 900;
    window.fill("Message", "Five");
    window.press("Send");
    window.press("Stop");
    assert!(!window.app().is_answering());
}

#[test]
fn chats_are_listed_searched_renamed_exported_and_deleted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::ready(Some(folder.path()));
    greedy(&mut window, 4);
    window.ask("Where do whales sleep?");
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::N);
    window.settle();
    assert!(window.app().chat().messages.is_empty());
    window.ask("How old are trees?");
    assert!(window.has("Where do whales sleep?") && window.has("Actions for How old are trees?"));

    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    window.settle();
    assert!(window.harness.get_by_label("Search chats").is_focused());
    window.fill("Search chats", "WHALES");
    assert!(window.has("Where do whales sleep?") && !window.has("Actions for How old are trees?"));
    window.fill("Search chats", "nobody said this");
    assert!(window.says("No chat holds these words."));
    window.fill("Search chats", " ");

    window.press("Actions for Where do whales sleep?");
    window.press("Rename");
    window.fill("Title", "Whales");
    window.press("Rename");
    assert!(window.has("Actions for Whales"));
    window.press("Whales");
    assert_eq!(window.shown()[0], "Where do whales sleep?");

    // Markdown to the clipboard, JSON to a file and back.
    window.press("Actions for Whales");
    assert!(window.copied("Copy as markdown").starts_with("# Whales\n\n**You**\n\nWhere do whales sleep?\n"));
    window.settle();
    let file = folder.path().join("out.json");
    *window.chosen.lock().expect("not poisoned") = Some(file.clone());
    window.press("Export all");
    window.wait("the file", |_| file.is_file());
    assert!(window.says("Written to"));
    window.press("Delete all");
    assert!(window.says("2 chats are deleted from this computer"));
    window.press("Cancel");
    window.press("Delete all");
    window.press("Delete for good");
    assert!(window.says("Chats appear here."));
    window.app_mut().flush();
    let left = std::fs::read_dir(folder.path().join("chats")).expect("the folder").count();
    assert_eq!(left, 0, "no file of a chat is left");
    window.press("Import");
    window.wait("both chats", |app| app.chat().messages.len() == 2);
    assert!(window.has("Actions for Whales") && window.has("Actions for How old are trees?"));
    window.press("Actions for Whales");
    window.press("Delete");
    window.press("Delete for good");
    assert!(!window.has("Actions for Whales"));
}

#[test]
fn settings_have_three_modes_presets_themes_and_keys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::open(Some(folder.path()));
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::Comma);
    window.settle();
    assert!(window.has("Settings") && window.has("Temperature") && !window.has("Top-p"));
    window.press("Power");
    assert!(window.has("Top-p") && window.has("Longest answer") && !window.has("Repeat penalty"));
    window.press("All");
    assert!(window.has("Top-k") && window.has("Min-p") && window.has("Repeat penalty") && window.has("Seed"));
    assert_eq!(window.app().settings().mode, Mode::All);

    window.fill("System prompt", "Be brief.");
    assert_eq!(window.app().settings().answering.system, "Be brief.");
    window.harness.get_by_label("Preset").click();
    window.settle();
    window.press("Precise");
    assert_eq!(window.app().settings().answering.temperature, 0.0);
    assert_eq!(window.app().settings().answering.system, "Be brief.", "a built-in preset leaves the system prompt");
    window.fill("Name of a new preset", "Mine");
    window.press("Save preset");
    assert_eq!(window.app().settings().presets[0].name, "Mine");
    window.press("Delete preset");
    assert!(window.app().settings().presets.is_empty());
    window.press("Fixed");
    assert_eq!(window.app().settings().answering.seed, Some(0));

    window.press("Light");
    assert_eq!(window.app().settings().theme, Theme::Light);
    assert!(!window.harness.ctx.global_style().visuals.dark_mode);
    window.press("Dark");
    assert!(window.harness.ctx.global_style().visuals.dark_mode);
    window.press("Larger");
    assert!((window.harness.ctx.zoom_factor() - 1.1).abs() < 1e-6);
    window.press("Smaller");

    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::Slash);
    window.settle();
    assert!(window.has("Shortcuts") && window.says("Another answer to the last question"));
    window.press("Close");
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::B);
    window.settle();
    assert!(!window.has("Export all"), "the list of chats is hidden");
    window.press("Shortcuts with Ctrl");
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::B);
    window.settle();
    assert!(!window.has("Export all"), "the keys are off");
    window.press("Show the log");
    assert!(window.says("Nothing has happened yet"));

    window.app_mut().flush();
    drop(window);
    let window = Window::with(Start { folder: Some(folder.path().to_owned()), ..Start::default() });
    assert_eq!((window.app().settings().theme, window.app().settings().mode), (Theme::Dark, Mode::All));
    assert_eq!(window.app().settings().answering.system, "Be brief.");
}

#[test]
fn a_full_context_warns_before_and_cuts_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("desktop.json"), r#"{"context":1024}"#).expect("written");
    let mut window = Window::ready(Some(folder.path()));
    greedy(&mut window, 8);
    let long = "word ".repeat(205);
    window.app_mut().say(&long);
    window.wait("the answer", |app| !app.is_answering());
    assert!(window.app().used() > 820, "{}", window.app().used());
    assert!(window.says("Nearly full: an answer can have"), "it warns before");
    let longer = "word ".repeat(60);
    window.app_mut().say(&longer);
    window.wait("a refusal", |app| !app.is_answering());
    assert!(window.says("The conversation does not fit the context"));
    assert_eq!(window.shown().len(), 3, "the question is kept, no empty answer is");
    window.press_last("Close this notice");
}
