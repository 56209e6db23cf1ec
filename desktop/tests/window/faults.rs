//! What must not take the window along: a lost GPU, a bug of the engine, a damaged file, a folder that cannot be written.

use adapter_desktop::chat::Role;
use adapter_desktop::{ModelState, Start};
use adapter_engine::text::Message;
use adapter_host::worker::Command;

use crate::support::{Window, directly};

#[test]
fn a_lost_gpu_keeps_the_chat_and_the_next_answer_is_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::ready(Some(folder.path()));
    let answering = &mut window.app_mut().settings_mut().answering;
    (answering.temperature, answering.max_tokens) = (0.0, 900);
    window.fill("Message", "Tell me a lot");
    window.press("Send");
    window.wait("some words", |app| {
        app.chat().messages.last().is_some_and(|message| message.role == Role::Assistant && message.content.len() > 8)
    });
    let start = std::time::Instant::now();
    window.app().worker().gpu().expect("a GPU in use").destroy();
    window.wait("the news", |app| matches!(app.model_state(), ModelState::Lost(_)));
    assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(window.says("The GPU was lost") && window.says("Your chat is kept"));
    assert_eq!(window.shown()[0], "Tell me a lot");
    assert!(window.shown()[1].len() > 8, "what came stays");
    assert!(window.says("broken off"));

    // A message now is kept in the box.
    window.fill("Message", "Again");
    window.press("Send");
    assert!(window.says("not on the GPU any more"));

    window.press_last("Load the model again");
    window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
    window.app_mut().settings_mut().answering.max_tokens = 24;
    let kept = window.shown()[1].clone();
    window.press("Send");
    window.wait("the answer", |app| !app.is_answering());
    let turns = [Message::new("user", "Tell me a lot"), Message::new("assistant", kept), Message::new("user", "Again")];
    assert_eq!(window.shown()[3], directly(&turns, None, 24), "the answer after the loss is right");
}

#[test]
fn a_bug_of_the_engine_is_said_and_survived() {
    let mut window = Window::ready(None);
    window.app_mut().settings_mut().answering.max_tokens = 8;
    window.ask("Before");
    assert!(window.app().worker().send(Command::Panic));
    window.wait("the news", |app| matches!(app.model_state(), ModelState::Lost(_)));
    assert!(window.says("The engine stopped") && window.shown()[0] == "Before");
    window.press_last("Load the model again");
    window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
    window.ask("After");
    assert_eq!(window.shown()[2], "After");
    assert_eq!(window.shown().len(), 4);
}

#[test]
fn files_that_cannot_be_used_are_explained() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF\x03\0\0\0nonsense").expect("written");
    // A path below a file can be no folder.
    let start = Start { folder: Some(broken.join("below")), model: Some(broken), ..Start::default() };
    let mut window = Window::with(start);
    window.wait("the reason", |app| matches!(app.model_state(), ModelState::None));
    assert!(window.says("This file is not a complete model") && window.says("Chats are not kept"));
    assert!(window.has("Welcome"), "and the window offers a model");
}
