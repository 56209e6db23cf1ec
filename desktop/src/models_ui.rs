//! Models and adapters: choosing, what they take, loading, strength.

use std::path::{Path, PathBuf};

use adapter_host::{DEFAULT_MODEL, default_model};
use eframe::egui::{self, ComboBox, RichText, ScrollArea, Slider, TextEdit, Ui};

use crate::app::{App, Loading, ModelState, View};
use crate::dialogs::Pick;
use crate::look;
use crate::words::{bytes, count, duration, explain};
use crate::worker::LoadStage;
use adapter_host::ModelCard;

/// Size of the model that `cargo xtask model` fetches, for where it is not yet.
const DEFAULT_MODEL_MIB: u32 = 94;

impl App {
    /// Model, adapter and strength, in the bar above every view.
    pub(crate) fn model_bar(&mut self, ui: &mut Ui) {
        let text = match &self.model {
            ModelState::None => "No model".to_owned(),
            ModelState::Loading(loading) => format!("Loading {}", Self::shown_name(&loading.path)),
            ModelState::Ready(loaded) => Self::shown_name(&loaded.card.path),
            ModelState::Lost(loaded) => format!("{} (lost)", Self::shown_name(&loaded.card.path)),
        };
        let button = egui::Button::new(text).truncate();
        let response = ui.add(button).on_hover_text("Models and adapters (Ctrl+L)");
        look::named(ui, &response, "Model in use");
        if response.clicked() {
            self.view = View::Models;
        }
        if self.adapters.is_empty() {
            return;
        }
        let mut active = self.active;
        let shown = self.active_adapter().map_or("No adapter".to_owned(), |adapter| adapter.name.clone());
        let combo = ComboBox::from_id_salt("adapter").selected_text(shown).show_ui(ui, |ui| {
            ui.selectable_value(&mut active, None, "No adapter");
            for adapter in &self.adapters {
                ui.selectable_value(&mut active, Some(adapter.key), &adapter.name);
            }
        });
        look::named(ui, &combo.response, "Adapter");
        let mut changed = active != self.active;
        self.active = active;
        if self.active.is_some() {
            let on = ui.checkbox(&mut self.adapter_on, "On");
            look::named(ui, &on, "Adapter on");
            changed |= on.changed();
            let slider = Slider::new(&mut self.strength, 0.0..=2.0).step_by(0.05).fixed_decimals(2);
            let slider = ui.add_enabled(self.adapter_on, slider);
            look::named(ui, &slider, "Strength of the adapter");
            let slider = slider.on_hover_text("0 is the model alone, 1 as trained");
            // The answer is read again at the new strength: once, when the slider has come to rest.
            changed |= slider.drag_stopped() || (slider.changed() && !slider.dragged());
        }
        if changed {
            self.adapter_changed();
        }
    }

    pub(crate) fn models_view(&mut self, ui: &mut Ui) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            look::column(ui, look::COLUMN, |ui| {
                ui.add_space(8.0);
                ui.heading("Models");
                if matches!(self.model, ModelState::Loading(_)) {
                    look::card(ui, |ui| self.loading_ui(ui));
                }
                self.current_ui(ui);
                self.first_model_ui(ui);
                self.recent_ui(ui);
                ui.add_space(14.0);
                self.adapters_ui(ui);
                ui.add_space(20.0);
            });
        });
    }

    /// How a load goes on.
    pub(crate) fn loading_ui(&mut self, ui: &mut Ui) {
        let ModelState::Loading(Loading { path, stage, progress: (done, total), since, stop }) = &self.model else {
            return;
        };
        ui.label(RichText::new(Self::shown_name(path)).strong());
        let share = if *total > 0 { *done as f32 / *total as f32 } else { 0.0 };
        let bar = ui.add(egui::ProgressBar::new(share).desired_height(10.0));
        look::named(ui, &bar, "Progress");
        ui.horizontal(|ui| {
            let mut words = stage.words().to_owned();
            if *stage == LoadStage::Weights && *done > 0 {
                let seconds = since.elapsed().as_secs_f64();
                let speed = *done as f64 / seconds.max(1e-3);
                let left = (total.saturating_sub(*done)) as f64 / speed;
                words += &format!(": {} of {}, {}/s", bytes(*done), bytes(*total), bytes(speed as u64));
                if left > 0.5 {
                    words += &format!(", {} left", duration(left));
                }
            }
            ui.label(words);
            if ui.button("Cancel").clicked() {
                stop.stop();
            }
        });
    }

    /// The model in use.
    fn current_ui(&mut self, ui: &mut Ui) {
        let (card, facts, lost) = match &self.model {
            ModelState::Ready(loaded) => {
                let facts = format!(
                    "on {}, {} in use, context {}, loaded in {:.1} s",
                    loaded.gpu,
                    bytes(loaded.gpu_bytes),
                    loaded.context,
                    loaded.seconds
                );
                (loaded.card.clone(), facts, false)
            }
            ModelState::Lost(loaded) => (loaded.card.clone(), "not on the GPU any more".to_owned(), true),
            _ => return,
        };
        let context = self.settings.context.min(card.n_context);
        let other_context = self.ready().is_some_and(|loaded| loaded.context != context);
        look::card(ui, |ui| {
            ui.horizontal(|ui| {
                ui.label(RichText::new(Self::shown_name(&card.path)).strong());
                look::quiet(ui, if lost { "lost" } else { "in use" });
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    if lost && look::primary(ui, true, "Load it again").clicked() {
                        self.reload();
                    }
                    if other_context && ui.button(format!("Load with a context of {context}")).clicked() {
                        self.load(&card.path);
                    }
                });
            });
            card_ui(ui, &card);
            look::quiet(ui, facts);
        });
    }

    /// What a first start offers: the small model, or a file.
    pub(crate) fn first_model_ui(&mut self, ui: &mut Ui) {
        let busy = matches!(self.model, ModelState::Loading(_));
        let default = default_model();
        let in_use = self.ready().map(|loaded| loaded.card.path.clone());
        if in_use.is_none() || in_use != default {
            look::card(ui, |ui| {
                ui.label(RichText::new("SmolLM2-135M-Instruct").strong());
                match default.filter(|path| path.is_file()) {
                    Some(path) => {
                        look::quiet(ui, "A small model to begin with, on this machine already.");
                        self.offer_ui(ui, &path, busy);
                    }
                    None => {
                        look::quiet(
                            ui,
                            format!(
                                "A small model to begin with ({DEFAULT_MODEL_MIB} MiB). This program opens no \
                            network connection; fetch it in a terminal, in the folder of this project:"
                            ),
                        );
                        ui.horizontal(|ui| {
                            ui.monospace("cargo xtask model");
                            if ui.small_button("Copy the command").clicked() {
                                ui.ctx().copy_text("cargo xtask model".to_owned());
                            }
                        });
                        look::quiet(ui, format!("It appears here as soon as {DEFAULT_MODEL} is there."));
                    }
                }
            });
        }
        look::card(ui, |ui| {
            ui.label(RichText::new("Your own .gguf file").strong());
            look::quiet(ui, "Drop it anywhere on the window, choose it, or type its path. It is read where it lies.");
            ui.horizontal(|ui| {
                if ui.add_enabled(!busy, egui::Button::new("Choose a file")).clicked() {
                    self.dialogs.open(ui.ctx(), Pick::Model);
                }
                let width = (ui.available_width() - 76.0).max(80.0);
                let edit =
                    TextEdit::singleline(&mut self.typed_path).hint_text("Path of a .gguf file").desired_width(width);
                let response = ui.add(edit);
                look::named(ui, &response, "Path of a model");
                let entered = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
                let can = !busy && !self.typed_path.trim().is_empty();
                if (ui.add_enabled(can, egui::Button::new("Open")).clicked() || entered) && can {
                    let path = PathBuf::from(self.typed_path.trim());
                    self.load(&path);
                }
            });
            let typed = PathBuf::from(self.typed_path.trim());
            if typed.is_file() {
                self.preview_ui(ui, &typed);
            }
        });
    }

    fn recent_ui(&mut self, ui: &mut Ui) {
        let in_use = self.ready().map(|loaded| loaded.card.path.clone());
        let default = default_model();
        let recent: Vec<PathBuf> = self
            .settings
            .recent
            .iter()
            .filter(|path| Some(*path) != in_use.as_ref() && Some(*path) != default.as_ref())
            .cloned()
            .collect();
        if recent.is_empty() {
            return;
        }
        ui.add_space(8.0);
        ui.label(RichText::new("Used before").strong());
        let busy = matches!(self.model, ModelState::Loading(_));
        for path in recent {
            look::card(ui, |ui| {
                ui.horizontal(|ui| {
                    ui.label(RichText::new(Self::shown_name(&path)).strong());
                    ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                        let forget = ui.small_button("Forget").on_hover_text("Take it off this list; the file stays");
                        look::named(ui, &forget, &format!("Forget {}", Self::shown_name(&path)));
                        if forget.clicked() {
                            self.settings.recent.retain(|recent| *recent != path);
                        }
                    });
                });
                look::quiet(ui, path.display().to_string());
                self.offer_ui(ui, &path, busy);
            });
        }
    }

    /// What a file is and takes, and the button to load it.
    fn offer_ui(&mut self, ui: &mut Ui, path: &Path, busy: bool) {
        let can = self.preview_ui(ui, path);
        let name = format!("Load {}", Self::shown_name(path));
        let response = look::primary(ui, can && !busy, "Load");
        look::named(ui, &response, &name);
        if response.clicked() {
            self.load(path);
        }
    }

    /// The card of a file. Whether it can be loaded.
    fn preview_ui(&mut self, ui: &mut Ui, path: &Path) -> bool {
        match self.card(path) {
            Some(Ok(card)) => {
                card_ui(ui, &card.clone());
                true
            }
            Some(Err(problem)) => {
                let words = explain(problem)
                    .map_or_else(|| problem.message.clone(), |shown| format!("{}. {}", shown.title, shown.message));
                ui.label(RichText::new(words).color(look::error(ui.visuals().dark_mode)));
                false
            }
            None => {
                look::quiet(ui, "Reading its header…");
                // As high as the card that takes its place: what is below must not jump away from under the pointer.
                ui.label("");
                false
            }
        }
    }

    fn adapters_ui(&mut self, ui: &mut Ui) {
        ui.heading("Adapters");
        if self.ready().is_none() {
            look::quiet(ui, "An adapter belongs to a model: load one first.");
            return;
        }
        look::quiet(
            ui,
            "A PEFT folder, a .safetensors file, or the folder of a run that was taught here. Drop it on the window, or:",
        );
        ui.horizontal(|ui| {
            if ui.button("Add a file").clicked() {
                self.dialogs.open(ui.ctx(), Pick::AdapterFile);
            }
            if ui.button("Add a folder").clicked() {
                self.dialogs.open(ui.ctx(), Pick::AdapterFolder);
            }
        });
        let mut remove = None;
        let mut choose = None;
        for adapter in &self.adapters {
            look::card(ui, |ui| {
                ui.horizontal(|ui| {
                    let chosen = ui.radio(self.active == Some(adapter.key), &adapter.name);
                    if chosen.clicked() {
                        choose = Some(adapter.key);
                    }
                    ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                        let button = ui.small_button("Remove");
                        look::named(ui, &button, &format!("Remove {}", adapter.name));
                        if button.clicked() {
                            remove = Some(adapter.key);
                        }
                    });
                });
                look::quiet(ui, &adapter.about);
                let path = adapter.source.as_ref().map(|source| &source.path);
                look::quiet(
                    ui,
                    path.map_or_else(|| "inside the model's file".to_owned(), |path| path.display().to_string()),
                );
            });
        }
        if let Some(key) = choose {
            self.active = Some(key);
            self.adapter_changed();
        }
        if let Some(key) = remove {
            self.remove_adapter(key);
        }
    }
}

/// A model in figures.
pub(crate) fn card_ui(ui: &mut Ui, card: &ModelCard) {
    let mut facts = format!(
        "{} parameters, {}, {} layers of {} channels, {} ids, trained for {} positions",
        count(card.n_parameters),
        card.format,
        card.n_layers,
        card.n_channels,
        card.n_vocab,
        card.n_context
    );
    if let Some(licence) = &card.licence {
        facts += &format!(", licence {licence}");
    }
    look::quiet(ui, facts);
    ui.label(format!(
        "Needs {} of GPU memory: {} of weights, {} for a context of {} tokens",
        bytes(card.memory.total()),
        bytes(card.memory.weights),
        bytes(card.memory.cache),
        card.context
    ));
}
