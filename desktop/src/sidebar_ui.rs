//! The list of chats.

use eframe::egui::{self, Align, Layout, RichText, ScrollArea, TextEdit, Ui};

use crate::action::Action;
use crate::chat::{Chat, export};
use crate::dialogs::Pick;
use crate::look;
use crate::state::{Question, State, View};
use crate::views::Sidebar;

/// Draws the list.
pub(crate) fn ui(view: &mut Sidebar, ui: &mut Ui, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.add_space(8.0);
    let width = ui.available_width();
    if ui.add_sized([width, 30.0], egui::Button::new("New chat")).on_hover_text("Ctrl+N").clicked() {
        actions.push(Action::NewChat);
    }
    let search = TextEdit::singleline(&mut view.search).hint_text("Search chats").desired_width(f32::INFINITY);
    let response = ui.add(search);
    look::named(ui, &response, "Search chats");
    if std::mem::take(&mut view.focus_search) {
        response.request_focus();
    }
    ui.add_space(4.0);
    egui::Panel::bottom("chats below").show_separator_line(false).frame(egui::Frame::NONE).show(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            if ui.small_button("Import").clicked() {
                actions.push(Action::Pick(Pick::Import));
            }
            let some = state.chats.iter().any(|chat| !chat.messages.is_empty());
            if ui.add_enabled(some, egui::Button::new("Export all").small()).clicked() {
                let text = export(state.chats.iter().filter(|chat| !chat.messages.is_empty()));
                actions.push(Action::Pick(Pick::Export { text, name: "chats.json".to_owned() }));
            }
            if ui.add_enabled(some, egui::Button::new("Delete all").small()).clicked() {
                actions.push(Action::Ask(Question::DeleteAllChats));
            }
        });
        ui.add_space(6.0);
    });
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        let listed = state.chats.iter().filter(|chat| !chat.messages.is_empty() && chat.holds(&view.search));
        let mut n = 0;
        for chat in listed {
            n += 1;
            let open = chat.id == state.open && state.view == View::Chat;
            ui.horizontal(|ui| {
                // The menu first, at the right: the title takes what is left, and no more.
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let (menu, _) = egui::containers::menu::MenuButton::new("…").ui(ui, |ui| {
                        let entry = |ui: &mut Ui, text: &str| {
                            let clicked = ui.button(text).clicked();
                            if clicked {
                                ui.close();
                            }
                            clicked
                        };
                        if entry(ui, "Rename") {
                            let (chat, title) = (chat.id.clone(), chat.title.clone());
                            actions.push(Action::Ask(Question::Rename { chat, title }));
                        }
                        if entry(ui, "Copy as markdown") {
                            ui.ctx().copy_text(chat.as_markdown());
                            actions.push(Action::Told("Copied as markdown"));
                        }
                        if entry(ui, "Export as JSON") {
                            actions.push(Action::Pick(export_of(chat)));
                        }
                        if entry(ui, "Delete") {
                            actions.push(Action::Ask(Question::DeleteChat(chat.id.clone())));
                        }
                    });
                    look::named(ui, &menu, &format!("Actions for {}", chat.title));
                    let left =
                        Layout::left_to_right(Align::Center).with_main_justify(true).with_main_align(Align::LEFT);
                    ui.with_layout(left, |ui| {
                        let title = egui::Button::selectable(open, RichText::new(&chat.title)).truncate();
                        if ui.add(title).clicked() {
                            actions.push(Action::OpenChat(chat.id.clone()));
                        }
                    });
                });
            });
        }
        if n == 0 {
            ui.add_space(8.0);
            look::quiet(
                ui,
                if view.search.trim().is_empty() { "Chats appear here." } else { "No chat holds these words." },
            );
        }
    });
    actions
}

/// Where a chat is to be written to.
fn export_of(chat: &Chat) -> Pick {
    let name: String = chat.title.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(40).collect();
    Pick::Export { text: export([chat]), name: format!("{}.json", name.trim_matches('-')) }
}
