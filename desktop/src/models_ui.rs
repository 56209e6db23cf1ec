//! Models and adapters: choosing, what they take, loading, strength.

use std::path::{Path, PathBuf};

use adapter_host::fetch::FetchStage;
use adapter_host::figures::{bytes, count, duration};
use eframe::egui::{self, ComboBox, RichText, ScrollArea, Slider, TextEdit, Ui};

use crate::action::Action;
use crate::dialogs::Pick;
use crate::loading::shown_name;
use crate::look;
use crate::offer::Offer;
use crate::state::{Loading, ModelState, Question, State, View};
use crate::words::explain;
use adapter_host::ModelCard;
use adapter_host::worker::LoadStage;

/// Model, adapter and strength, in the bar above every view.
pub(crate) fn model_bar(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let text = match &state.model {
        ModelState::None => "No model".to_owned(),
        ModelState::Loading(loading) => format!("Loading {}", shown_name(&loading.path)),
        ModelState::Ready(loaded) => shown_name(&loaded.card.path),
        ModelState::Lost(loaded) => format!("{} (lost)", shown_name(&loaded.card.path)),
    };
    let button = egui::Button::new(text).truncate();
    let response = ui.add(button).on_hover_text("Models and adapters (Ctrl+L)");
    look::named(ui, &response, "Model in use");
    if response.clicked() {
        actions.push(Action::GoTo(View::Models));
    }
    if state.adapters.is_empty() {
        return;
    }
    let mut active = state.active;
    let shown = state.active_adapter().map_or("No adapter".to_owned(), |adapter| adapter.name.clone());
    let combo = ComboBox::from_id_salt("adapter").selected_text(shown).show_ui(ui, |ui| {
        ui.selectable_value(&mut active, None, "No adapter");
        for adapter in &state.adapters {
            ui.selectable_value(&mut active, Some(adapter.key), &adapter.name);
        }
    });
    look::named(ui, &combo.response, "Adapter");
    if active != state.active {
        actions.push(Action::UseAdapter(active));
    }
    if active.is_some() {
        let (mut on, mut strength) = (state.adapter_on, state.strength);
        let switch = ui.checkbox(&mut on, "On");
        look::named(ui, &switch, "Adapter on");
        let slider = Slider::new(&mut strength, 0.0..=2.0).step_by(0.05).fixed_decimals(2);
        let slider = ui.add_enabled(on, slider);
        look::named(ui, &slider, "Strength of the adapter");
        let slider = slider.on_hover_text("0 is the model alone, 1 as trained");
        // The answer is read again at the new strength: once, when the slider has come to rest.
        let settled = switch.changed() || slider.drag_stopped() || (slider.changed() && !slider.dragged());
        if settled || slider.changed() {
            actions.push(Action::Adapter { on, strength, settled });
        }
    }
}

/// Draws the view; `typed_path` is what is being typed.
pub(crate) fn ui(typed_path: &mut String, ui: &mut Ui, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        look::column(ui, look::COLUMN, |ui| {
            ui.add_space(8.0);
            ui.heading("Models");
            if matches!(state.model, ModelState::Loading(_)) {
                look::card(ui, |ui| loading_ui(ui, state, &mut actions));
            }
            current_ui(ui, state, &mut actions);
            first_model_ui(typed_path, ui, state, &mut actions);
            recent_ui(ui, state, &mut actions);
            ui.add_space(14.0);
            adapters_ui(ui, state, &mut actions);
            ui.add_space(20.0);
        });
    });
    actions
}

/// How a load goes on.
pub(crate) fn loading_ui(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let ModelState::Loading(Loading { path, stage, progress: (done, total), since, .. }) = &state.model else {
        return;
    };
    ui.label(RichText::new(shown_name(path)).strong());
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
            actions.push(Action::CancelLoad);
        }
    });
}

/// The model in use.
fn current_ui(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let (card, facts, lost) = match &state.model {
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
    let context = state.settings.context.min(card.n_context);
    let other_context = state.ready().is_some_and(|loaded| loaded.context != context);
    look::card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(RichText::new(shown_name(&card.path)).strong());
            look::quiet(ui, if lost { "lost" } else { "in use" });
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                if lost && look::primary(ui, true, "Load it again").clicked() {
                    actions.push(Action::Reload);
                }
                if other_context && ui.button(format!("Load with a context of {context}")).clicked() {
                    actions.push(Action::Load(card.path.clone()));
                }
            });
        });
        card_ui(ui, &card);
        look::quiet(ui, facts);
    });
}

/// What a first start offers: the small model, or a file; `typed_path` is what is being typed.
pub(crate) fn first_model_ui(typed_path: &mut String, ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let busy = matches!(state.model, ModelState::Loading(_));
    let default = state.offer.path();
    let in_use = state.ready().map(|loaded| loaded.card.path.clone());
    if in_use.is_none() || in_use != default {
        let published = &state.offer.published;
        look::card(ui, |ui| {
            ui.label(RichText::new(published.name).strong());
            match default.filter(|path| path.is_file()) {
                Some(path) => {
                    look::quiet(ui, "A small model to begin with, on this machine already.");
                    offer_ui(ui, state, &path, busy, actions);
                }
                None => {
                    look::quiet(ui, published.about);
                    fetch_ui(ui, state, actions);
                }
            }
        });
    }
    look::card(ui, |ui| {
        ui.label(RichText::new("Your own .gguf file").strong());
        look::quiet(ui, "Drop it anywhere on the window, choose it, or type its path. It is read where it lies.");
        ui.horizontal(|ui| {
            if ui.add_enabled(!busy, egui::Button::new("Choose a file")).clicked() {
                actions.push(Action::Pick(Pick::Model));
            }
            let width = (ui.available_width() - 76.0).max(80.0);
            let edit = TextEdit::singleline(typed_path).hint_text("Path of a .gguf file").desired_width(width);
            let response = ui.add(edit);
            look::named(ui, &response, "Path of a model");
            let entered = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let can = !busy && !typed_path.trim().is_empty();
            if (ui.add_enabled(can, egui::Button::new("Open")).clicked() || entered) && can {
                actions.push(Action::Load(PathBuf::from(typed_path.trim())));
            }
        });
        let typed = PathBuf::from(typed_path.trim());
        if typed.is_file() {
            preview_ui(ui, state, &typed, actions);
        }
    });
}

fn recent_ui(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let in_use = state.ready().map(|loaded| loaded.card.path.clone());
    let default = state.offer.path();
    let recent: Vec<PathBuf> = state
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
    let busy = matches!(state.model, ModelState::Loading(_));
    for path in recent {
        look::card(ui, |ui| {
            ui.horizontal(|ui| {
                ui.label(RichText::new(shown_name(&path)).strong());
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    let forget = ui.small_button("Forget").on_hover_text("Take it off this list; the file stays");
                    look::named(ui, &forget, &format!("Forget {}", shown_name(&path)));
                    if forget.clicked() {
                        actions.push(Action::Forget(path.clone()));
                    }
                });
            });
            look::quiet(ui, path.display().to_string());
            offer_ui(ui, state, &path, busy, actions);
        });
    }
}

/// The model on offer, which is not here yet: what it would take to fetch it, or how that goes on.
fn fetch_ui(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let Offer { published, folder } = &state.offer;
    let Some(fetching) = &state.fetching else {
        look::quiet(
            ui,
            format!("{}, licence {}, from {}", bytes(published.bytes), published.licence, published.host()),
        );
        if folder.is_none() {
            look::quiet(ui, "This system has no folder to keep it in: choose a file of your own.");
            return;
        }
        ui.horizontal_wrapped(|ui| {
            let begun = state.offer.begun();
            let text = if begun > 0 { "Go on fetching this model" } else { "Fetch this model" };
            if look::primary(ui, true, text).clicked() {
                actions.push(Action::Ask(Question::Fetch));
            }
            if begun > 0 {
                look::quiet(ui, format!("{} of it are here", bytes(begun)));
            }
        });
        return;
    };
    let (done, total) = fetching.progress;
    let bar = ui.add(egui::ProgressBar::new(done as f32 / total.max(1) as f32).desired_height(10.0));
    look::named(ui, &bar, "Progress of the fetch");
    ui.horizontal_wrapped(|ui| {
        let words = match fetching.stage {
            FetchStage::Download => {
                let (since, begun) = fetching.since;
                let speed = done.saturating_sub(begun) as f64 / since.elapsed().as_secs_f64().max(1e-3);
                let mut words = format!("Fetching: {} of {}", bytes(done), bytes(total));
                if speed > 1.0 {
                    let left = total.saturating_sub(done) as f64 / speed;
                    words += &format!(", {}/s, {} left", bytes(speed as u64), duration(left));
                }
                words
            }
            FetchStage::Check => "Comparing it with its SHA-256".to_owned(),
        };
        ui.label(words);
        if ui.button("Cancel").on_hover_text("What came is kept").clicked() {
            actions.push(Action::CancelFetch);
        }
    });
}

/// What a file is and takes, and the button to load it.
fn offer_ui(ui: &mut Ui, state: &State, path: &Path, busy: bool, actions: &mut Vec<Action>) {
    let can = preview_ui(ui, state, path, actions);
    let name = format!("Load {}", shown_name(path));
    let response = look::primary(ui, can && !busy, "Load");
    look::named(ui, &response, &name);
    if response.clicked() {
        actions.push(Action::Load(path.to_owned()));
    }
}

/// The card of a file. Whether it can be loaded.
fn preview_ui(ui: &mut Ui, state: &State, path: &Path, actions: &mut Vec<Action>) -> bool {
    match state.card(path) {
        Some(Ok(card)) => {
            card_ui(ui, card);
            true
        }
        Some(Err(problem)) => {
            let words = explain(problem)
                .map_or_else(|| problem.message.clone(), |shown| format!("{}. {}", shown.title, shown.message));
            ui.label(RichText::new(words).color(look::error(ui.visuals().dark_mode)));
            false
        }
        None => {
            if !state.reading.iter().any(|reading| reading == path) {
                actions.push(Action::ReadCard(path.to_owned()));
            }
            look::quiet(ui, "Reading its header…");
            // As high as the card that takes its place: what is below must not jump away from under the pointer.
            ui.label("");
            false
        }
    }
}

fn adapters_ui(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    ui.heading("Adapters");
    if state.ready().is_none() {
        look::quiet(ui, "An adapter belongs to a model: load one first.");
        return;
    }
    look::quiet(
        ui,
        "A PEFT folder, a .safetensors file, or the folder of a run that was taught here. Drop it on the window, or:",
    );
    ui.horizontal(|ui| {
        if ui.button("Add a file").clicked() {
            actions.push(Action::Pick(Pick::AdapterFile));
        }
        if ui.button("Add a folder").clicked() {
            actions.push(Action::Pick(Pick::AdapterFolder));
        }
    });
    for adapter in &state.adapters {
        look::card(ui, |ui| {
            ui.horizontal(|ui| {
                let chosen = ui.radio(state.active == Some(adapter.key), &adapter.name);
                if chosen.clicked() {
                    actions.push(Action::UseAdapter(Some(adapter.key)));
                }
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    let button = ui.small_button("Remove");
                    look::named(ui, &button, &format!("Remove {}", adapter.name));
                    if button.clicked() {
                        actions.push(Action::RemoveAdapter(adapter.key));
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
