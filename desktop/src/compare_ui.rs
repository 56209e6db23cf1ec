//! The two answers side by side, and where they part.

use eframe::egui::{self, Color32, Key, ScrollArea, TextEdit, TextFormat, TextStyle, Ui, text::LayoutJob};

use crate::action::Action;
use crate::compare::Side;
use crate::dialogs::Pick;
use crate::diff;
use crate::look;
use crate::state::State;

/// A column of text narrower than this is hard to read: the answers stand one below the other then.
const NARROWEST: f32 = 300.0;

/// Draws the view; `question` is what is being typed.
pub(crate) fn ui(question: &mut String, ui: &mut Ui, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.add_space(8.0);
    ui.heading("Compare");
    let adapter = state.active_adapter();
    let ready = state.ready().is_some();
    match (adapter, ready) {
        (_, false) => _ = look::quiet(ui, "Load a model first, then an adapter for it."),
        (None, true) => {
            look::quiet(ui, "Choose an adapter: its answer is put beside the model's own.");
            ui.horizontal_wrapped(|ui| {
                if ui.button("Add a file").clicked() {
                    actions.push(Action::Pick(Pick::AdapterFile));
                }
                if ui.button("Add a folder").clicked() {
                    actions.push(Action::Pick(Pick::AdapterFolder));
                }
            });
        }
        (Some(_), true) => {
            look::quiet(ui, "The same question with the same random numbers; what only one answer says is marked.");
        }
    }
    ui.add_space(6.0);
    let running = state.compare.is_running();
    let mut start = false;
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 110.0).max(120.0);
        let edit = TextEdit::singleline(question).hint_text("A question for both").desired_width(width);
        let response = ui.add(edit);
        look::named(ui, &response, "Question for both");
        let can = ready && adapter.is_some() && !question.trim().is_empty();
        start = can && response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if running {
            if look::primary(ui, true, "Stop").clicked() {
                actions.push(Action::StopCompare);
            }
        } else {
            start |= look::primary(ui, can && state.answering.is_none(), "Ask both").clicked();
        }
    });
    if start && !running {
        actions.push(Action::Compare(question.clone()));
    }
    ui.add_space(8.0);
    let sides = state.compare.sides();
    let (left, right) = diff::compare(&sides[0].text, &sides[1].text);
    // While the second answer is on its way, all that it has not said yet would be marked.
    let (mark_left, mark_right) = (!running, !sides[1].text.is_empty());
    let name = match (state.compare.adapter(), adapter) {
        ("", Some(adapter)) => format!("{} at {:.2}", adapter.name, state.strength),
        ("", None) => "With the adapter".to_owned(),
        (of_last, _) => of_last.to_owned(),
    };
    let columns = if ui.available_width() < 2.0 * NARROWEST { 1 } else { 2 };
    ui.columns(columns, |columns| {
        let last = columns.len() - 1;
        let share = if last == 0 { 0.5 } else { 1.0 };
        side_ui(&mut columns[0], "Model alone", &sides[0], &left, (mark_left, running), share);
        side_ui(&mut columns[last], &name, &sides[1], &right, (mark_right, running), 1.0);
    });
    actions
}

/// An answer in a box that takes `share` of the height there is.
fn side_ui(
    ui: &mut Ui,
    name: &str,
    side: &Side,
    stretches: &[diff::Stretch<'_>],
    (mark, running): (bool, bool),
    share: f32,
) {
    look::card(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.label(egui::RichText::new(name).strong());
            look::quiet(ui, words(side, running));
        });
        ui.separator();
        let height = (ui.available_height() * share - 30.0).max(80.0);
        ScrollArea::vertical().id_salt(name).max_height(height).auto_shrink([false, false]).show(ui, |ui| {
            if side.text.is_empty() {
                look::quiet(ui, if running { "Waiting…" } else { "The answer appears here." });
                return;
            }
            let plain = TextFormat::simple(TextStyle::Body.resolve(ui.style()), ui.visuals().text_color());
            let ground =
                if ui.visuals().dark_mode { Color32::from_rgb(92, 70, 20) } else { Color32::from_rgb(255, 226, 140) };
            let mut job = LayoutJob::default();
            for (word, differs) in stretches {
                let background = if *differs && mark { ground } else { Color32::TRANSPARENT };
                job.append(word, 0.0, TextFormat { background, ..plain.clone() });
            }
            job.wrap.max_width = ui.available_width();
            ui.add(egui::Label::new(job).selectable(true));
        });
    });
}

fn words(side: &Side, running: bool) -> String {
    if side.failed {
        return "broken off".to_owned();
    }
    let Some(answered) = &side.answered else {
        return if running && side.n_tokens > 0 { format!("{} tokens", side.n_tokens) } else { String::new() };
    };
    let mut words = format!("{} tokens", answered.n_tokens);
    if let Some(speed) = answered.tokens_per_second {
        words += &format!(" · {speed:.1} tokens/s");
    }
    match answered.finish.remark() {
        "" => words,
        remark => format!("{words} · {remark}"),
    }
}
