//! Everything that can be set; changes apply at once.

use eframe::egui::{self, ComboBox, DragValue, Grid, RichText, ScrollArea, Slider, TextEdit, Ui};

use crate::action::Action;
use crate::look;
use crate::overlays_ui::shortcuts_ui;
use crate::settings::{AnswerSettings, Mode, Preset, Settings, Theme, built_in_presets};
use crate::state::{Question, State};

/// A card narrower than this, in points, has no room for a third column.
const ROOM_FOR_HELP: f32 = 700.0;

/// Draws the view; `preset_name` is what is being typed.
pub(crate) fn ui(preset_name: &mut String, ui: &mut Ui, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut settings = state.settings.clone();
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        look::column(ui, look::COLUMN, |ui| {
            ui.add_space(8.0);
            ui.heading("Settings");
            ui.horizontal(|ui| {
                ui.label("Show");
                for (mode, name) in Mode::ALL {
                    ui.radio_value(&mut settings.mode, mode, name);
                }
            });
            let n_context = state.ready().map_or(131_072, |loaded| loaded.card.n_context);
            look::card(ui, |ui| answers_ui(preset_name, ui, &mut settings, n_context));
            look::card(ui, |ui| appearance_ui(ui, &mut settings));
            look::card(ui, |ui| {
                ui.label(RichText::new("Keyboard").strong());
                ui.checkbox(&mut settings.shortcuts, "Shortcuts with Ctrl");
                shortcuts_ui(ui);
            });
            look::card(ui, |ui| data_ui(ui, state, &mut actions));
            ui.add_space(20.0);
        });
    });
    if settings != state.settings {
        actions.push(Action::Set(Box::new(settings)));
    }
    actions
}

fn answers_ui(preset_name: &mut String, ui: &mut Ui, settings: &mut Settings, n_context: u32) {
    ui.label(RichText::new("Answers").strong());
    presets_ui(preset_name, ui, settings);
    let mode = settings.mode;
    let context = &mut settings.context;
    let answering = &mut settings.answering;
    let label = ui.label("System prompt");
    let hint = "Instructions before the conversation, for instance: You are a helpful assistant.";
    let edit = TextEdit::multiline(&mut answering.system).hint_text(hint).desired_rows(2).desired_width(f32::INFINITY);
    ui.add(edit).labelled_by(label.id);
    ui.add_space(4.0);
    // Where there is no room beside it, the help to a setting stands below it.
    let narrow = ui.available_width() < ROOM_FOR_HELP;
    let help_ui = |ui: &mut Ui, help: &str| {
        if narrow {
            ui.end_row();
            ui.label("");
        }
        look::quiet(ui, help);
        ui.end_row();
    };
    Grid::new("answers").num_columns(if narrow { 2 } else { 3 }).spacing([18.0, 8.0]).show(ui, |ui| {
        let row = |ui: &mut Ui, name: &str, help: &str, add: &mut dyn FnMut(&mut Ui) -> egui::Response| {
            let label = ui.label(name);
            add(ui).labelled_by(label.id);
            help_ui(ui, help);
        };
        row(ui, "Temperature", "0 always takes the most likely token, higher is more varied", &mut |ui| {
            ui.add(Slider::new(&mut answering.temperature, 0.0..=2.0).step_by(0.05).fixed_decimals(2))
        });
        if mode == Mode::Simple {
            return;
        }
        row(ui, "Top-p", "keep the most likely tokens up to this total probability", &mut |ui| {
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
        row(ui, "Top-k", "keep this many of the most likely tokens; 0 keeps all", &mut |ui| {
            ui.add(DragValue::new(&mut answering.top_k).range(0..=1000))
        });
        row(ui, "Min-p", "drop tokens less likely than this share of the most likely one", &mut |ui| {
            ui.add(Slider::new(&mut answering.min_p, 0.0..=1.0).step_by(0.01).fixed_decimals(2))
        });
        row(ui, "Repeat penalty", "above 1 makes recent tokens less likely", &mut |ui| {
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
        help_ui(ui, "the same seed gives the same answer");
        row(ui, "Stop texts", "end an answer before them; a line each, \\n is a line break", &mut |ui| {
            ui.add(TextEdit::multiline(&mut answering.stops).desired_rows(1).desired_width(160.0))
        });
    });
}

fn presets_ui(preset_name: &mut String, ui: &mut Ui, settings: &mut Settings) {
    let built_in = built_in_presets();
    let all: Vec<Preset> = built_in.iter().chain(&settings.presets).cloned().collect();
    let now = settings.answering.clone();
    // A built-in preset says nothing about the system prompt and the stop texts.
    let same = |preset: &&Preset| {
        preset.answering == now
            || (preset.answering == AnswerSettings { system: String::new(), stops: String::new(), ..now.clone() }
                && is_built_in(&built_in, preset))
    };
    let shown = all.iter().find(same).map_or("Your own", |preset| preset.name.as_str()).to_owned();
    ui.horizontal_wrapped(|ui| {
        let label = ui.label("Preset");
        let combo = ComboBox::from_id_salt("preset").selected_text(shown).show_ui(ui, |ui| {
            for preset in &all {
                if ui.selectable_label(same(&preset), &preset.name).clicked() {
                    let mut chosen = preset.answering.clone();
                    if is_built_in(&built_in, preset) {
                        (chosen.system, chosen.stops) = (now.system.clone(), now.stops.clone());
                    }
                    settings.answering = chosen;
                }
            }
        });
        combo.response.labelled_by(label.id);
        let edit = TextEdit::singleline(preset_name).hint_text("Name of a new preset").desired_width(160.0);
        let response = ui.add(edit);
        look::named(ui, &response, "Name of a new preset");
        let name = preset_name.trim().to_owned();
        let can = !name.is_empty() && built_in.iter().all(|preset| preset.name != name);
        if ui.add_enabled(can, egui::Button::new("Save preset")).clicked() {
            settings.presets.retain(|preset| preset.name != name);
            settings.presets.push(Preset { name, answering: settings.answering.clone() });
            preset_name.clear();
        }
        let own = settings.presets.iter().position(|preset| preset.answering == settings.answering);
        if let Some(at) = own
            && ui.button("Delete preset").clicked()
        {
            settings.presets.remove(at);
        }
    });
}

fn appearance_ui(ui: &mut Ui, settings: &mut Settings) {
    ui.label(RichText::new("Appearance").strong());
    ui.horizontal(|ui| {
        ui.label("Colours");
        for (theme, name) in Theme::ALL {
            if ui.radio_value(&mut settings.theme, theme, name).clicked() {
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

fn data_ui(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    ui.label(RichText::new("Your data").strong());
    match &state.history {
        Some(history) => {
            ui.label(format!("Chats, settings and taught adapters are plain files in {}", history.folder().display()));
            if ui.small_button("Copy the path").clicked() {
                ui.ctx().copy_text(history.folder().display().to_string());
            }
        }
        None => _ = ui.label("Nothing is kept: the folder cannot be used."),
    }
    look::quiet(
        ui,
        "Nothing is sent anywhere: this program connects to the network only to fetch a model when you tell it to.",
    );
    ui.horizontal(|ui| {
        if ui.button("Delete all chats").clicked() {
            actions.push(Action::Ask(Question::DeleteAllChats));
        }
        if ui.button("Show the log").clicked() {
            actions.push(Action::Log);
        }
    });
}

fn is_built_in(built_in: &[Preset], preset: &Preset) -> bool {
    built_in.contains(preset)
}
