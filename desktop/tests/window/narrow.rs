//! Windows with little room: nothing is cut off at the right edge, words stay whole, and the chats make way.

use adapter_desktop::Start;
use eframe::egui::{Key, Modifiers, vec2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use crate::looks::furnished;
use crate::support::Window;

/// Sizes that people drag a window to.
const SIZES: [(f32, f32); 4] = [(560.0, 420.0), (640.0, 480.0), (800.0, 600.0), (1180.0, 780.0)];

/// What lies beyond the left or the right edge of the window, and names of buttons that broke into several lines.
fn cut(window: &Window, width: f32) -> Vec<String> {
    let mut found = Vec::new();
    for node in window.harness.root().children_recursive() {
        let inner = node.accesskit_node();
        if inner.bounding_box().is_none() {
            continue;
        }
        let text = inner.label().or_else(|| inner.value()).unwrap_or_default();
        let bounds = node.rect();
        if text.is_empty() {
            continue;
        }
        if bounds.right() > width + 1.0 || bounds.left() < -1.0 {
            found.push(format!("{text:?} lies at {:.0} to {:.0}", bounds.left(), bounds.right()));
        }
        let is_button = format!("{:?}", inner.role()).contains("Button");
        if is_button && text.len() < 20 && bounds.height() > 44.0 {
            found.push(format!("the button {text:?} is {:.0} points high", bounds.height()));
        }
    }
    found
}

#[test]
fn every_view_fits_every_size() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = furnished(folder.path());
    let mut wrong = Vec::new();
    for (width, height) in SIZES {
        window.harness.set_size(vec2(width, height));
        window.settle();
        for view in ["Settings", "Models", "Teach", "Compare", "Chat"] {
            window.go_to(view);
            if view == "Teach" {
                let rows = folder.path().join("rows.jsonl");
                std::fs::write(&rows, "{\"instruction\":\"Say it\",\"output\":\"it\"}\n".repeat(30)).expect("written");
                window.app_mut().choose_rows(&rows);
                window.wait("the plan", |app| app.teach().plan().is_some());
            }
            let image = window.harness.render().expect("a picture");
            let name = format!("narrow-{width:.0}-{}.png", view.to_lowercase());
            image.save(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)).expect("written");
            wrong.extend(cut(&window, width).into_iter().map(|what| format!("{view} at {width:.0}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_first_start_fits_every_size() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window =
        Window::painted(Start { offer: Some(crate::fetching::nowhere(folder.path())), ..Start::default() });
    let mut wrong = Vec::new();
    for (width, height) in SIZES {
        window.harness.set_size(vec2(width, height));
        window.settle();
        let image = window.harness.render().expect("a picture");
        let name = format!("narrow-{width:.0}-first.png");
        image.save(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)).expect("written");
        wrong.extend(cut(&window, width).into_iter().map(|what| format!("at {width:.0}: {what}")));
        window.press("Fetch this model");
        wrong.extend(cut(&window, width).into_iter().map(|what| format!("asked at {width:.0}: {what}")));
        window.press("Cancel");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_chats_make_way_where_there_is_no_room() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = furnished(folder.path());
    window.go_to("Chat");
    assert!(window.has("Search chats"), "beside the chat, where there is room");
    window.harness.set_size(vec2(640.0, 480.0));
    window.settle();
    assert!(!window.has("Search chats") && window.has("Message"), "the chat has the room");
    window.press("Chats");
    assert!(window.has("Search chats") && !window.has("Message"), "shown when wanted");
    window.harness.get_all_by_label("A haiku about the sea").next().expect("listed").click();
    window.settle();
    assert!(!window.has("Search chats") && window.has("Message"), "and gone with a choice");
    assert_eq!(window.app().chat().title, "A haiku about the sea");
    // The key does the same, and what was set for wide windows is as it was.
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::B);
    window.settle();
    assert!(window.has("Search chats"));
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::B);
    window.settle();
    window.harness.set_size(vec2(1180.0, 780.0));
    window.settle();
    assert!(window.has("Search chats") && window.has("Message"));
}
