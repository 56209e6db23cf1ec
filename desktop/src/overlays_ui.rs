//! What lies above the views: questions before something is lost, the list of shortcuts, and what dropping a file would do.

use adapter_engine::adapter::GateKind;
use adapter_host::file_name;
use eframe::egui::{self, Context, Id, LayerId, Modal, Order, RichText, TextEdit};

use crate::app::{App, Dropped, Question};
use crate::look;

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

impl App {
    pub(crate) fn dialogs_ui(&mut self, ctx: &Context) {
        self.question_ui(ctx);
        if self.shortcuts_open {
            let modal = Modal::new(Id::unique("shortcuts")).show(ctx, |ui| {
                ui.set_width(380.0);
                ui.heading("Shortcuts");
                shortcuts_ui(ui);
                ui.add_space(6.0);
                ui.button("Close").clicked()
            });
            if modal.inner || modal.should_close() {
                self.shortcuts_open = false;
            }
        }
    }

    fn question_ui(&mut self, ctx: &Context) {
        let Some(mut question) = self.question.take() else { return };
        let mut done = false;
        let mut gates = None;
        let modal = Modal::new(Id::unique("question")).show(ctx, |ui| {
            ui.set_width(400.0);
            match &mut question {
                Question::DeleteChat(id) => {
                    let title = self.chats.iter().find(|chat| chat.id == *id).map_or("", |chat| chat.title.as_str());
                    ui.heading("Delete this chat?");
                    ui.label(format!(
                        "\"{title}\" and all its branches are deleted from this computer. This cannot be undone."
                    ));
                }
                Question::DeleteAllChats => {
                    let n = self.chats.iter().filter(|chat| !chat.messages.is_empty()).count();
                    ui.heading("Delete all chats?");
                    ui.label(format!("{n} chats are deleted from this computer. This cannot be undone."));
                }
                Question::Gates(path) => {
                    ui.heading("What do its gates mean?");
                    ui.label(format!("{} does not say it. How was it trained?", file_name(path)));
                    ui.add_space(4.0);
                    for gate in GateKind::ALL {
                        if ui.button(gate.words()).clicked() {
                            gates = Some(gate);
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
                    Question::Gates(_) => {}
                    _ => {
                        let colour = look::error(ui.visuals().dark_mode);
                        done |= ui.button(RichText::new("Delete for good").color(colour).strong()).clicked();
                    }
                }
                ui.button("Cancel").clicked()
            })
            .inner
        });
        if done {
            match question {
                Question::DeleteChat(id) => self.delete_chat(&id),
                Question::DeleteAllChats => self.delete_all_chats(),
                Question::Gates(path) => self.add_adapter(&path, gates),
                Question::Rename { chat, title } => {
                    if let Some(chat) = self.chats.iter_mut().find(|known| known.id == chat) {
                        title.trim().clone_into(&mut chat.title);
                    }
                    self.save(&chat);
                }
            }
        } else if !(modal.inner || modal.should_close()) {
            self.question = Some(question);
        }
    }

    /// Says what would happen while a file hovers over the window.
    pub(crate) fn drop_overlay(&self, ctx: &Context) {
        let hovered = ctx.input(|input| input.raw.hovered_files.clone());
        let Some(first) = hovered.first() else { return };
        let words = first.path.as_deref().map_or("Drop it to open it", |path| Dropped::of(path).words());
        let rect = ctx.content_rect();
        let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
        painter.rect_filled(rect, 0, egui::Color32::from_black_alpha(190));
        let font = egui::TextStyle::Heading.resolve(&ctx.global_style());
        painter.text(rect.center(), egui::Align2::CENTER_CENTER, words, font, egui::Color32::WHITE);
    }
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
