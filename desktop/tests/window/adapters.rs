//! Adapters: by drop and by dialog, on, off and stronger while it talks, side by side with the model alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapter_desktop::ModelState;
use adapter_engine::text::Message;
use eframe::egui::{DroppedFile, HoveredFile};
use egui_kittest::kittest::Queryable as _;

use crate::support::{Window, chat_model, directly, peft};

#[derive(Debug)]
struct Dropped(PathBuf);

impl DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|error| error.to_string())
    }
}

fn drop_file(window: &mut Window, path: &Path) {
    window
        .harness
        .input_mut()
        .hovered_files
        .push(HoveredFile { path: Some(path.to_owned()), ..HoveredFile::default() });
    window.harness.step();
    let input = window.harness.input_mut();
    input.hovered_files.clear();
    input.dropped_files.push(Arc::new(Dropped(path.to_owned())));
    window.harness.step();
}

#[test]
fn models_and_adapters_are_dropped_switched_and_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::open(Some(folder.path()));
    // An adapter before its model is refused with the next step, what nobody knows is named.
    drop_file(&mut window, &peft());
    window.settle();
    assert!(window.says("There is no model to answer"));
    let stranger = folder.path().join("notes.pdf");
    std::fs::write(&stranger, "x").expect("written");
    drop_file(&mut window, &stranger);
    window.settle();
    assert!(window.says("This cannot be opened here: notes.pdf"));

    drop_file(&mut window, chat_model());
    window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
    let answering = &mut window.app_mut().settings_mut().answering;
    (answering.temperature, answering.max_tokens) = (0.0, 20);
    let question = [Message::new("user", "Who are you?")];
    let base = directly(&question, None, 20);
    let adapted = directly(&question, Some(1.0), 20);
    assert_ne!(base, adapted, "the adapter changes what is said");

    drop_file(&mut window, &peft());
    window.wait("the adapter", |app| app.newest_notice().is_some_and(|text| text.contains("peft is on")));
    window.ask("Who are you?");
    assert_eq!(window.shown()[1], adapted);
    assert!(window.says("peft · 20 tokens"));

    // Off and strength 0 are the model alone.
    window.press("Adapter on");
    window.press_last("Regenerate");
    window.wait("an answer", |app| !app.is_answering());
    assert_eq!(window.shown()[1], base);
    window.press("Adapter on");
    window.harness.get_by_label("Strength of the adapter").set_value_accesskit(0.0);
    window.settle();
    window.press_last("Regenerate");
    window.wait("an answer", |app| !app.is_answering());
    assert_eq!(window.shown()[1], base, "strength 0");
    window.harness.get_by_label("Strength of the adapter").set_value_accesskit(1.5);
    window.settle();
    window.press_last("Regenerate");
    window.wait("an answer", |app| !app.is_answering());
    assert_eq!(window.shown()[1], directly(&question, Some(1.5), 20));
    assert!(window.says("peft at 1.50"));

    // While it talks: what was said stays, the rest follows the new setting.
    window.harness.get_by_label("Strength of the adapter").set_value_accesskit(1.0);
    window.app_mut().settings_mut().answering.max_tokens = 160;
    window.fill("Message", "Talk on");
    window.press("Send");
    window.wait("a few words", |app| app.chat().messages.last().is_some_and(|message| message.content.len() > 12));
    let before = window.shown().last().cloned().expect("an answer");
    window.harness.get_by_label("Adapter on").click();
    window.wait("the rest", |app| !app.is_answering());
    let after = window.shown().last().cloned().expect("an answer");
    assert!(after.starts_with(&before) && after.len() > before.len());
    let mut turns = question.to_vec();
    turns.push(Message::new("assistant", &*window.shown()[1].clone()));
    turns.push(Message::new("user", "Talk on"));
    let unchanged = directly(&turns, Some(1.0), 160);
    assert_ne!(after, unchanged, "the setting changed in the middle of the sentence");
    assert!(unchanged.starts_with(&before), "and not before it was changed");

    // A/B: the same question, base left, adapter right, what differs marked.
    window.press("Adapter on");
    window.app_mut().settings_mut().answering.max_tokens = 20;
    window.press("Compare");
    window.fill("Question for both", "Who are you?");
    window.press("Ask both");
    window.wait("both answers", |app| !app.is_comparing());
    assert!(window.says("Model alone") && window.says("peft at 1.00"));
    assert_eq!(window.app().compare().texts(), [&*base, &*adapted]);
    assert!(window.app().compare().differing().iter().all(|n| *n > 0));

    // Models: what is in use, and adapters that are remembered with their model.
    window.press("Models");
    assert!(window.says("in use, context 4096") && window.says("prompt tokens in layers"));
    window.app_mut().flush();
    drop(window);
    let mut window = Window::open(Some(folder.path()));
    window.wait("model and adapter", |app| matches!(app.model_state(), ModelState::Ready(_)));
    assert!(window.has("Adapter on"), "the adapter of the last time is back");
    window.press("Models");
    window.press("Remove peft");
    assert!(!window.has("Adapter on"));
    *window.chosen.lock().expect("not poisoned") = Some(peft());
    window.press("Add a folder");
    window.wait("the adapter", |app| app.newest_notice().is_some_and(|text| text.contains("peft is on")));
    // One that does not say what its gates mean is asked about, and stays under its own name.
    *window.chosen.lock().expect("not poisoned") = Some(adapter_tests::data("tiny-llama/adapter-paper.safetensors"));
    window.press("Add a file");
    window.wait("the question", |_| true);
    for _ in 0..200 {
        if window.has("What do its gates mean?") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        window.settle();
    }
    window.press("one gate a head, through tanh (the paper)");
    window.wait("the adapter", |app| app.newest_notice().is_some_and(|text| text.contains("adapter-paper is on")));
    // A file that is none is explained and changes nothing.
    *window.chosen.lock().expect("not poisoned") = Some(chat_model().to_owned());
    window.press("Add a file");
    window
        .wait("the reason", |app| app.newest_notice().is_some_and(|text| text.contains("This adapter cannot be used")));
    window.press_last("Close this notice");
    assert!(window.has("Adapter on"));
}
