//! The list of chats.

use eframe::egui::{self, Align, Layout, RichText, ScrollArea, TextEdit, Ui};

use crate::app::{App, Question, View};
use crate::chat::export;
use crate::dialogs::Pick;
use crate::look;

/// What was chosen in the list.
enum Chosen {
    Open(String),
    Rename(String, String),
    Delete(String),
    Export(String),
    Markdown(String),
}

impl App {
    pub(crate) fn sidebar_ui(&mut self, ui: &mut Ui) {
        ui.add_space(8.0);
        let width = ui.available_width();
        if ui.add_sized([width, 30.0], egui::Button::new("New chat")).on_hover_text("Ctrl+N").clicked() {
            self.new_chat();
        }
        let search = TextEdit::singleline(&mut self.search).hint_text("Search chats").desired_width(f32::INFINITY);
        let response = ui.add(search);
        look::named(ui, &response, "Search chats");
        if std::mem::take(&mut self.focus_search) {
            response.request_focus();
        }
        ui.add_space(4.0);
        let mut chosen = None;
        egui::Panel::bottom("chats below").show_separator_line(false).frame(egui::Frame::NONE).show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                if ui.small_button("Import").clicked() {
                    self.dialogs.open(ui.ctx(), Pick::Import);
                }
                let some = self.chats.iter().any(|chat| !chat.messages.is_empty());
                if ui.add_enabled(some, egui::Button::new("Export all").small()).clicked() {
                    let text = export(self.chats.iter().filter(|chat| !chat.messages.is_empty()));
                    self.dialogs.open(ui.ctx(), Pick::Export { text, name: "chats.json".to_owned() });
                }
                if ui.add_enabled(some, egui::Button::new("Delete all").small()).clicked() {
                    self.question = Some(Question::DeleteAllChats);
                }
            });
            ui.add_space(6.0);
        });
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let listed = self.chats.iter().filter(|chat| !chat.messages.is_empty() && chat.holds(&self.search));
            let mut n = 0;
            for chat in listed {
                n += 1;
                let open = chat.id == self.open && self.view == View::Chat;
                ui.horizontal(|ui| {
                    // The menu first, at the right: the title takes what is left, and no more.
                    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                        let (menu, _) = egui::containers::menu::MenuButton::new("…").ui(ui, |ui| {
                            for (text, then) in [
                                ("Rename", Chosen::Rename(chat.id.clone(), chat.title.clone())),
                                ("Copy as markdown", Chosen::Markdown(chat.id.clone())),
                                ("Export as JSON", Chosen::Export(chat.id.clone())),
                                ("Delete", Chosen::Delete(chat.id.clone())),
                            ] {
                                if ui.button(text).clicked() {
                                    chosen = Some(then);
                                    ui.close();
                                }
                            }
                        });
                        look::named(ui, &menu, &format!("Actions for {}", chat.title));
                        let left =
                            Layout::left_to_right(Align::Center).with_main_justify(true).with_main_align(Align::LEFT);
                        ui.with_layout(left, |ui| {
                            let title = egui::Button::selectable(open, RichText::new(&chat.title)).truncate();
                            if ui.add(title).clicked() {
                                chosen = Some(Chosen::Open(chat.id.clone()));
                            }
                        });
                    });
                });
            }
            if n == 0 {
                ui.add_space(8.0);
                look::quiet(
                    ui,
                    if self.search.trim().is_empty() { "Chats appear here." } else { "No chat holds these words." },
                );
            }
        });
        match chosen {
            None => {}
            Some(Chosen::Open(id)) => self.select(&id),
            Some(Chosen::Rename(chat, title)) => self.question = Some(Question::Rename { chat, title }),
            Some(Chosen::Delete(id)) => self.question = Some(Question::DeleteChat(id)),
            Some(Chosen::Markdown(id)) => {
                if let Some(chat) = self.chats.iter().find(|chat| chat.id == id) {
                    ui.ctx().copy_text(chat.as_markdown());
                    self.notices.good("Copied as markdown");
                }
            }
            Some(Chosen::Export(id)) => {
                if let Some(chat) = self.chats.iter().find(|chat| chat.id == id) {
                    let name: String =
                        chat.title.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(40).collect();
                    let pick = Pick::Export { text: export([chat]), name: format!("{}.json", name.trim_matches('-')) };
                    self.dialogs.open(ui.ctx(), pick);
                }
            }
        }
    }
}
