//! Every view as a picture, light and dark, in the target folder for people to look at; and some that must look as the
//! pictures kept in `tests/snapshots` (`UPDATE_SNAPSHOTS=1` writes those anew: look at them before they are committed).

use std::path::Path;

use adapter_desktop::chat::{AnswerNote, Chat, Role, to_lines};
use adapter_desktop::{ModelState, Start};
use adapter_engine::answer::Finish;
use eframe::egui::{Key, Modifiers};
use egui_kittest::{SnapshotOptions, SnapshotResults};

use crate::support::{Window, chat_model};

const ANSWER: &str = "Recursion is a function that **calls itself** on a smaller part of the problem, until that part is trivial.\n\n```python\ndef factorial(n):\n    if n <= 1:          # the trivial part\n        return 1\n    return n * factorial(n - 1)\n```\n\n| n | factorial(n) |\n|---|---|\n| 3 | 6 |\n| 5 | 120 |\n\nSee [the article](https://en.wikipedia.org/wiki/Recursion) for more.";

fn chats(folder: &Path) {
    let mut newest = String::new();
    for (at, title) in
        ["Why is the sky blue?", "A haiku about the sea", "Explain recursion with a short Python example."]
            .into_iter()
            .enumerate()
    {
        let mut chat = Chat::default();
        let question = chat.add(None, Role::User, title);
        chat.add(Some(question.clone()), Role::Assistant, "Short.");
        let answer = chat.add(Some(question), Role::Assistant, ANSWER);
        chat.find_mut(&answer).expect("there").note = Some(AnswerNote {
            model: "SmolLM2-135M-Instruct.Q4_1".to_owned(),
            adapter: Some("nova".to_owned()),
            strength: Some(1.0),
            tokens: 96,
            tokens_per_second: Some(19.3),
            first_token_ms: Some(410.0),
            finish: Some(Finish::Stopped),
        });
        chat.updated += at as f64;
        std::fs::create_dir_all(folder.join("chats")).expect("made");
        std::fs::write(folder.join("chats").join(format!("{}.jsonl", chat.id)), to_lines(&chat)).expect("written");
        newest = chat.id;
    }
    let settings = format!(r#"{{"chat":"{newest}","mode":"all"}}"#);
    std::fs::write(folder.join("desktop.json"), settings).expect("written");
}

/// A window with chats, a model and an adapter.
pub fn furnished(folder: &Path) -> Window {
    chats(folder);
    let start = Start { folder: Some(folder.to_owned()), model: Some(chat_model().to_owned()), ..Start::default() };
    let mut window = Window::painted(start);
    window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
    window.app_mut().add_adapter(&crate::support::peft(), None);
    window.wait("the adapter", |app| app.newest_notice().is_some_and(|text| text.contains("peft is on")));
    window
}

#[test]
fn every_view_has_its_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = furnished(folder.path());
    for theme in ["Light", "Dark"] {
        window.press("Settings");
        window.press(theme);
        let mut pictures = vec![];
        for view in ["Settings", "Models", "Teach", "Compare", "Chat"] {
            window.go_to(view);
            let image = window.harness.render().expect("a picture");
            let name = format!("desktop-{}-{}.png", view.to_lowercase(), theme.to_lowercase());
            image.save(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)).expect("written");
            let ground = image.get_pixel(image.width() - 4, image.height() - 4).0;
            let light = ground[..3].iter().all(|channel| *channel > 200);
            assert_eq!(light, theme == "Light", "{view}: {ground:?}");
            let inked = image.pixels().filter(|pixel| pixel.0 != ground).count();
            let share = inked as f64 / f64::from(image.width() * image.height());
            assert!(share > 0.02, "{view} is empty: {share:.3}");
            pictures.push(image);
        }
        assert!(pictures.windows(2).all(|pair| pair[0] != pair[1]), "two views look the same");
    }
}

/// Pixels of the 920,400 that another version of the driver may round otherwise; one word that changes is more.
const ROUNDED_OTHERWISE: usize = 40;

#[test]
fn views_look_as_they_did() {
    let mut results = SnapshotResults::new();
    let options = SnapshotOptions::new().max_failed_pixels(ROUNDED_OTHERWISE);
    // Neither a model nor a folder: nothing of this machine is in the picture.
    let mut window = Window::painted(Start::default());
    window.go_to("Settings");
    window.press("Light");
    window.harness.snapshot_options("settings-light", &options);
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::Slash);
    window.settle();
    window.harness.snapshot_options("shortcuts-light", &options);
    results.extend_harness(&mut window.harness);
    drop(window);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = furnished(folder.path());
    window.press_last("Close this notice");
    window.wait("the tokens of the chat", |app| app.used() > 0);
    for theme in ["Light", "Dark"] {
        window.go_to("Settings");
        window.press(theme);
        for view in ["Teach", "Compare", "Chat"] {
            window.go_to(view);
            let name = format!("{}-{}", view.to_lowercase(), theme.to_lowercase());
            window.harness.snapshot_options(name, &options);
        }
    }
    results.extend_harness(&mut window.harness);
    results.unwrap();
}
