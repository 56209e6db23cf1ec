//! Everything that can be set; changes apply at once.

use eframe::egui::{self, ComboBox, DragValue, Grid, RichText, ScrollArea, Slider, TextEdit, Ui};

use crate::app::{App, Question};
use crate::look;
use crate::overlays_ui::shortcuts_ui;
use crate::settings::{Answering, Mode, Preset, Theme, built_in_presets};

impl App {
    pub(crate) fn settings_view(&mut self, ui: &mut Ui) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            look::column(ui, look::COLUMN, |ui| {
                ui.add_space(8.0);
                ui.heading("Settings");
                ui.horizontal(|ui| {
                    ui.label("Show");
                    for (mode, name) in Mode::ALL {
                        ui.radio_value(&mut self.settings.mode, mode, name);
                    }
                });
                look::card(ui, |ui| self.answering_ui(ui));
                look::card(ui, |ui| self.appearance_ui(ui));
                look::card(ui, |ui| {
                    ui.label(RichText::new("Keyboard").strong());
                    ui.checkbox(&mut self.settings.shortcuts, "Shortcuts with Ctrl");
                    shortcuts_ui(ui);
                });
                look::card(ui, |ui| self.data_ui(ui));
                ui.add_space(20.0);
            });
        });
    }

    fn answering_ui(&mut self, ui: &mut Ui) {
        ui.label(RichText::new("Answers").strong());
        self.presets_ui(ui);
        let system_before = self.settings.answering.system.clone();
        let n_context = self.ready().map_or(131_072, |loaded| loaded.card.n_context);
        let mode = self.settings.mode;
        let context = &mut self.settings.context;
        let answering = &mut self.settings.answering;
        let label = ui.label("System prompt");
        let hint = "Said to the model before everything else, for instance: You are a helpful assistant.";
        let edit =
            TextEdit::multiline(&mut answering.system).hint_text(hint).desired_rows(2).desired_width(f32::INFINITY);
        ui.add(edit).labelled_by(label.id);
        ui.add_space(4.0);
        Grid::new("answers").num_columns(3).spacing([18.0, 8.0]).show(ui, |ui| {
            let row = |ui: &mut Ui, name: &str, help: &str, add: &mut dyn FnMut(&mut Ui) -> egui::Response| {
                let label = ui.label(name);
                add(ui).labelled_by(label.id);
                look::quiet(ui, help);
                ui.end_row();
            };
            let name = if mode == Mode::Simple { "From calm to lively" } else { "Temperature" };
            row(ui, name, "0 always takes the likeliest word, higher is more varied", &mut |ui| {
                ui.add(Slider::new(&mut answering.temperature, 0.0..=2.0).step_by(0.05).fixed_decimals(2))
            });
            if mode == Mode::Simple {
                return;
            }
            row(ui, "Top-p", "keep the likeliest words up to this probability in sum", &mut |ui| {
                ui.add(Slider::new(&mut answering.top_p, 0.05..=1.0).step_by(0.01).fixed_decimals(2))
            });
            row(ui, "Longest answer", "tokens", &mut |ui| {
                ui.add(DragValue::new(&mut answering.max_tokens).range(1..=32_768).speed(8.0))
            });
            row(ui, "Context", "tokens a conversation may have; counts when a model is loaded", &mut |ui| {
                ui.add(DragValue::new(context).range(64..=n_context).speed(32.0))
            });
            if mode == Mode::Power {
                return;
            }
            row(ui, "Top-k", "keep this many of the likeliest words; 0 keeps all", &mut |ui| {
                ui.add(DragValue::new(&mut answering.top_k).range(0..=1000))
            });
            row(ui, "Min-p", "drop words less likely than this share of the likeliest", &mut |ui| {
                ui.add(Slider::new(&mut answering.min_p, 0.0..=1.0).step_by(0.01).fixed_decimals(2))
            });
            row(ui, "Repeat penalty", "above 1 makes recent words less likely", &mut |ui| {
                ui.add(Slider::new(&mut answering.repeat_penalty, 1.0..=2.0).step_by(0.01).fixed_decimals(2))
            });
            let mut fixed = answering.seed.is_some();
            let label = ui.label("Seed");
            ui.horizontal(|ui| {
                ui.checkbox(&mut fixed, "Fixed");
                let mut seed = answering.seed.unwrap_or_default();
                if fixed {
                    ui.add(DragValue::new(&mut seed)).labelled_by(label.id);
                }
                answering.seed = fixed.then_some(seed);
            });
            look::quiet(ui, "the same seed gives the same answer");
            ui.end_row();
        });
        if self.settings.answering.system != system_before {
            self.measure();
        }
    }

    fn presets_ui(&mut self, ui: &mut Ui) {
        let built_in = built_in_presets();
        let all: Vec<Preset> = built_in.iter().chain(&self.settings.presets).cloned().collect();
        let now = self.settings.answering.clone();
        // A built-in preset says nothing about the system prompt.
        let same = |preset: &&Preset| {
            preset.answering == now
                || (preset.answering == Answering { system: String::new(), ..now.clone() }
                    && is_built_in(&built_in, preset))
        };
        let shown = all.iter().find(same).map_or("Your own", |preset| preset.name.as_str()).to_owned();
        ui.horizontal_wrapped(|ui| {
            let label = ui.label("Preset");
            let combo = ComboBox::from_id_salt("preset").selected_text(shown).show_ui(ui, |ui| {
                for preset in &all {
                    if ui.selectable_label(same(&preset), &preset.name).clicked() {
                        let system = match is_built_in(&built_in, preset) {
                            true => now.system.clone(),
                            false => preset.answering.system.clone(),
                        };
                        self.settings.answering = Answering { system, ..preset.answering.clone() };
                    }
                }
            });
            combo.response.labelled_by(label.id);
            let edit =
                TextEdit::singleline(&mut self.preset_name).hint_text("Name of a new preset").desired_width(160.0);
            let response = ui.add(edit);
            look::named(ui, &response, "Name of a new preset");
            let name = self.preset_name.trim().to_owned();
            let can = !name.is_empty() && built_in.iter().all(|preset| preset.name != name);
            if ui.add_enabled(can, egui::Button::new("Save preset")).clicked() {
                self.settings.presets.retain(|preset| preset.name != name);
                self.settings.presets.push(Preset { name, answering: self.settings.answering.clone() });
                self.preset_name.clear();
            }
            let own = self.settings.presets.iter().position(|preset| preset.answering == self.settings.answering);
            if let Some(at) = own
                && ui.button("Delete preset").clicked()
            {
                self.settings.presets.remove(at);
            }
        });
    }

    fn appearance_ui(&mut self, ui: &mut Ui) {
        ui.label(RichText::new("Appearance").strong());
        ui.horizontal(|ui| {
            ui.label("Colours");
            for (theme, name) in Theme::ALL {
                if ui.radio_value(&mut self.settings.theme, theme, name).clicked() {
                    ui.ctx().set_theme(theme.preference());
                }
            }
        });
        ui.horizontal(|ui| {
            ui.label("Size");
            for (text, name, by) in [("-", "Smaller", -0.1), ("+", "Larger", 0.1)] {
                let button = ui.button(text);
                look::named(ui, &button, name);
                if button.clicked() {
                    let zoom = ((ui.ctx().zoom_factor() + by) * 10.0).round() / 10.0;
                    ui.ctx().set_zoom_factor(zoom.clamp(0.5, 3.0));
                }
            }
            ui.label(format!("{:.0} %", ui.ctx().zoom_factor() * 100.0));
        });
    }

    fn data_ui(&mut self, ui: &mut Ui) {
        ui.label(RichText::new("Your data").strong());
        match &self.history {
            Some(history) => {
                ui.label(format!(
                    "Chats, settings and taught adapters are plain files in {}",
                    history.folder().display()
                ));
                if ui.small_button("Copy the path").clicked() {
                    ui.ctx().copy_text(history.folder().display().to_string());
                }
            }
            None => _ = ui.label("Nothing is kept: the folder cannot be used."),
        }
        look::quiet(ui, "Nothing is sent anywhere: this program opens no network connection.");
        ui.horizontal(|ui| {
            if ui.button("Delete all chats").clicked() {
                self.question = Some(Question::DeleteAllChats);
            }
            if ui.button("Show the log").clicked() {
                self.notices.log_open = true;
            }
        });
    }
}

fn is_built_in(built_in: &[Preset], preset: &Preset) -> bool {
    built_in.contains(preset)
}
