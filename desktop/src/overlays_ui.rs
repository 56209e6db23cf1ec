//! What lies above the views: questions before something is lost, the list of shortcuts, and what dropping a file would do.

use adapter_engine::adapter::GateKind;
use adapter_host::figures::bytes;
use adapter_host::file_name;
use eframe::egui::{self, Context, Id, LayerId, Modal, Order, RichText, TextEdit};

use crate::action::Action;
use crate::look;
use crate::state::{Dropped, Question, State};

/// Keys and what they do.
pub(crate) const SHORTCUTS: [(&str, &str); 14] = [
    ("Enter", "Send"),
    ("Shift+Enter", "New line"),
    ("Esc", "Stop the answer; close a notice"),
    ("Ctrl+N", "New chat"),
    ("Ctrl+K", "Search chats"),
    ("Ctrl+B", "Show or hide the chats"),
    ("Ctrl+R", "Another answer to the last question"),
    ("Ctrl+L", "Models and adapters"),
    ("Ctrl+,", "Settings"),
    ("Ctrl+J", "Log"),
    ("Ctrl+/", "This list"),
    ("Ctrl++", "Everything larger"),
    ("Ctrl+-", "Everything smaller"),
    ("Ctrl+0", "Usual size"),
];

/// Draws the question that is asked and the list of shortcuts, where it is open.
pub(crate) fn ui(shortcuts_open: &mut bool, ctx: &Context, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Some(question) = &state.question {
        actions.extend(question_ui(ctx, state, question));
    }
    if *shortcuts_open {
        let modal = Modal::new(Id::unique("shortcuts")).show(ctx, |ui| {
            ui.set_width(380.0_f32.min(ui.available_width()));
            ui.heading("Shortcuts");
            shortcuts_ui(ui);
            ui.add_space(6.0);
            ui.button("Close").clicked()
        });
        if modal.inner || modal.should_close() {
            *shortcuts_open = false;
        }
    }
    actions
}

fn question_ui(ctx: &Context, state: &State, asked: &Question) -> Option<Action> {
    let mut question = asked.clone();
    let mut done = false;
    let modal = Modal::new(Id::unique("question")).show(ctx, |ui| {
        ui.set_width(400.0_f32.min(ui.available_width()));
        match &mut question {
            Question::DeleteChat(id) => {
                let title = state.chats.iter().find(|chat| chat.id == *id).map_or("", |chat| chat.title.as_str());
                ui.heading("Delete this chat?");
                ui.label(format!(
                    "\"{title}\" and all its branches are deleted from this computer. This cannot be undone."
                ));
            }
            Question::DeleteAllChats => {
                let n = state.chats.iter().filter(|chat| !chat.messages.is_empty()).count();
                ui.heading("Delete all chats?");
                ui.label(format!("{n} chats are deleted from this computer. This cannot be undone."));
            }
            Question::Fetch => {
                let published = &state.offer.published;
                ui.heading(format!("Fetch {}?", published.name));
                let left = published.bytes - state.offer.begun();
                ui.label(format!(
                    "{} come from {}, and nothing else is asked for. The licence is {}. The file is compared with its SHA-256 and \
                     kept in {}.",
                    bytes(left),
                    published.host(),
                    published.licence,
                    state.offer.folder.as_deref().map_or_else(String::new, |folder| folder.display().to_string()),
                ));
                look::quiet(ui, published.address.to_string());
            }
            Question::Gates(path, gate) => {
                ui.heading("What do its gates mean?");
                ui.label(format!("{} does not say it. How was it trained?", file_name(path)));
                ui.add_space(4.0);
                for kind in GateKind::ALL {
                    if ui.button(kind.words()).clicked() {
                        *gate = Some(kind);
                        done = true;
                    }
                }
            }
            Question::Rename { title, .. } => {
                ui.heading("Rename this chat");
                let response = ui.add(TextEdit::singleline(title).desired_width(f32::INFINITY));
                look::named(ui, &response, "Title");
                if ui.memory(|memory| memory.focused().is_none()) {
                    response.request_focus();
                }
                done |= response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            }
        }
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            match &question {
                Question::Rename { title, .. } => {
                    done |= look::primary(ui, !title.trim().is_empty(), "Rename").clicked();
                }
                Question::Gates(..) => {}
                Question::Fetch => done |= look::primary(ui, true, "Fetch").clicked(),
                Question::DeleteChat(_) | Question::DeleteAllChats => {
                    let colour = look::error(ui.visuals().dark_mode);
                    done |= ui.button(RichText::new("Delete for good").color(colour).strong()).clicked();
                }
            }
            ui.button("Cancel").clicked()
        })
        .inner
    });
    if done {
        Some(Action::Answered(question))
    } else if modal.inner || modal.should_close() {
        Some(Action::Cancelled)
    } else {
        (question != *asked).then_some(Action::Ask(question))
    }
}

/// Says what would happen while a file hovers over the window.
pub(crate) fn drop_overlay(ctx: &Context) {
    let hovered = ctx.input(|input| input.raw.hovered_files.clone());
    let Some(first) = hovered.first() else { return };
    let words = first.path.as_deref().map_or("Drop it to open it", |path| Dropped::of(path).words());
    let rect = ctx.content_rect();
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    painter.rect_filled(rect, 0, egui::Color32::from_black_alpha(190));
    let font = egui::TextStyle::Heading.resolve(&ctx.global_style());
    painter.text(rect.center(), egui::Align2::CENTER_CENTER, words, font, egui::Color32::WHITE);
}

/// The keys as a table.
pub(crate) fn shortcuts_ui(ui: &mut egui::Ui) {
    egui::Grid::new("shortcuts").num_columns(2).spacing([24.0, 4.0]).show(ui, |ui| {
        for (keys, words) in SHORTCUTS {
            ui.monospace(keys);
            ui.label(words);
            ui.end_row();
        }
    });
}
