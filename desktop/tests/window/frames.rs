//! How long a frame takes while an answer comes in, and that nothing is drawn when nothing changed.

use std::time::{Duration, Instant};

use adapter_desktop::chat::{Chat, Role, to_lines};

use egui_kittest::kittest::Queryable as _;

use crate::support::Window;

/// A frame of a screen with 60 Hz.
const FRAME_MS: f64 = 16.0;

#[test]
fn frames_stay_short_while_an_answer_comes_in() {
    // A long chat with much markdown above the answer.
    let rich = "# Title\n\nSome **bold** text with `code`, a [link](https://x.example) and a list:\n\n- one\n- two\n\n```python\nfor i in range(10):\n    print(i)\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chat = Chat::default();
    for _ in 0..12 {
        chat.add(chat.leaf.clone(), Role::User, "And then? Tell me the whole story of it, please.");
        chat.add(chat.leaf.clone(), Role::Assistant, rich);
    }
    std::fs::create_dir_all(folder.path().join("chats")).expect("made");
    std::fs::write(folder.path().join("chats").join(format!("{}.jsonl", chat.id)), to_lines(&chat)).expect("written");
    std::fs::write(folder.path().join("desktop.json"), format!(r#"{{"chat":"{}"}}"#, chat.id)).expect("written");
    let mut window = Window::ready(Some(folder.path()));
    let answering = &mut window.app_mut().settings_mut().answering;
    (answering.temperature, answering.max_tokens) = (0.0, 300);
    assert_eq!(window.shown().len(), 24);
    window.app_mut().say("Go on");
    let mut times = Vec::new();
    let start = Instant::now();
    while window.app().is_answering() && start.elapsed() < Duration::from_secs(60) {
        let frame = Instant::now();
        window.harness.step();
        let output = window.harness.output();
        let shapes = output.shapes.clone();
        let pixels = output.pixels_per_point;
        let meshes = window.harness.ctx.tessellate(shapes, pixels);
        times.push(frame.elapsed().as_secs_f64() * 1000.0);
        assert!(!meshes.is_empty());
        std::thread::sleep(Duration::from_millis(5));
    }
    times.sort_by(f64::total_cmp);
    assert!(times.len() > 20, "only {} frames", times.len());
    let median = times[times.len() / 2];
    let p95 = times[times.len() * 95 / 100];
    eprintln!("{} frames while generating: median {median:.2} ms, 95 % within {p95:.2} ms", times.len());
    assert!(median < FRAME_MS, "median {median:.2} ms of {} frames", times.len());
}

#[test]
fn nothing_is_drawn_when_nothing_changed() {
    let mut window = Window::ready(None);
    window.app_mut().settings_mut().answering.max_tokens = 8;
    window.ask("Something");
    assert!(window.harness.get_by_label("Message").is_focused(), "also while a text field has the focus");
    window.wait("the size of the window to rest", |app| app.settings().window == Some([1180.0, 780.0]));
    for _ in 0..40 {
        window.harness.step();
    }
    let delay = window.harness.output().viewport_output.values().map(|output| output.repaint_delay).min();
    assert!(delay.is_some_and(|delay| delay >= Duration::from_secs(10)), "{delay:?}");
}
