//! Model text is text: no HTML, no images, and a link opens only http(s), only after a question.

use adapter_desktop::Start;
use adapter_desktop::chat::{Chat, Role, to_lines};
use eframe::egui::OutputCommand;
use egui_kittest::kittest::Queryable as _;

use crate::support::Window;

/// A window that shows an answer of these words.
fn showing(text: &str) -> (tempfile::TempDir, Window) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut chat = Chat::default();
    let question = chat.add(None, Role::User, "<b>mine</b>");
    chat.add(Some(question), Role::Assistant, text);
    std::fs::create_dir_all(folder.path().join("chats")).expect("made");
    std::fs::write(folder.path().join("chats").join(format!("{}.jsonl", chat.id)), to_lines(&chat)).expect("written");
    std::fs::write(folder.path().join("desktop.json"), format!(r#"{{"chat":"{}"}}"#, chat.id)).expect("written");
    let mut window = Window::with(Start { folder: Some(folder.path().to_owned()), ..Start::default() });
    window.settle();
    (folder, window)
}

/// Addresses that this frame and the next ones give to the system.
fn opened(window: &mut Window) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..4 {
        found.extend(window.commands().iter().filter_map(|command| match command {
            OutputCommand::OpenUrl(open) => Some(open.url.clone()),
            _ => None,
        }));
        window.harness.step();
    }
    found
}

#[test]
fn a_web_link_asks_and_opens_only_then() {
    let (_folder, mut window) = showing("See [the paper](https://arxiv.org/abs/2303.16199).");
    window.harness.get_by_label("the paper").click();
    window.harness.step();
    assert_eq!(opened(&mut window), [""; 0], "nothing opens by itself");
    assert_eq!(window.harness.state().asked_link(), Some("https://arxiv.org/abs/2303.16199"));
    window.settle();
    assert!(window.has("Open this link?") && window.has("arxiv.org"));
    window.press("Cancel");
    assert_eq!(window.harness.state().asked_link(), None);

    window.harness.get_by_label("the paper").click();
    window.settle();
    window.harness.get_by_label("Open in the browser").click();
    window.harness.step();
    assert_eq!(opened(&mut window).first().map(String::as_str), Some("https://arxiv.org/abs/2303.16199"));
}

#[test]
fn other_links_open_nothing() {
    for url in ["file:///etc/passwd", "javascript:alert(1)", "ms-msdt:/id PCWDiagnostic", "smb://host/share", "x.html"]
    {
        let (_folder, mut window) = showing(&format!("Click [here](<{url}>) now."));
        window.harness.get_by_label("here").click();
        window.harness.step();
        assert_eq!(opened(&mut window), [""; 0], "{url}");
        window.settle();
        assert_eq!(window.harness.state().asked_link(), None, "{url}");
        assert!(window.says("This link is not opened"), "{url}");
    }
}

#[test]
fn html_is_letters_and_images_are_links() {
    let text = "A <script>alert(1)</script> and <img src=x onerror=alert(1)>\n\n<div>block</div>\n\n![cat](https://x.example/cat.png) ![](file:///etc/passwd)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nlet x = 1;\n```\n";
    let (_folder, mut window) = showing(text);
    assert!(window.has("<b>mine</b>"), "what a person wrote is shown as written");
    assert!(window.says("<script>") && window.says("onerror=alert(1)") && window.says("<div>block</div>"));
    assert!(window.has("cat") && window.has("image"), "images are links");
    assert!(window.harness.query_all_by_role(eframe::egui::accesskit::Role::Image).next().is_none());
    assert_eq!(window.copied("Copy code"), "let x = 1;\n");
}
