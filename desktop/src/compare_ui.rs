//! The same question to the model alone and to the model with its adapter, side by side, and where the answers part.

use eframe::egui::{self, Color32, Key, ScrollArea, TextEdit, TextFormat, TextStyle, Ui, text::LayoutJob};

use adapter_host::Problem;

use crate::app::App;
use crate::chat::Finish;
use crate::dialogs::Pick;
use crate::diff;
use crate::look;
use crate::worker::{Answered, Stop};

/// One of the two answers.
#[derive(Debug, Default)]
struct Side {
    text: String,
    n_tokens: u32,
    answered: Option<Answered>,
    /// Why there is none.
    failed: bool,
}

/// A comparison.
#[derive(Debug, Default)]
pub struct Compare {
    pub(crate) question: String,
    sides: [Side; 2],
    running: Option<([u64; 2], Stop)>,
    adapter: String,
}

impl Compare {
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn begin(&mut self, ids: [u64; 2], stop: Stop) {
        self.sides = Default::default();
        self.running = Some((ids, stop));
    }

    /// Which side an answer is.
    fn side(&self, id: u64) -> Option<usize> {
        self.running.as_ref().and_then(|(ids, _)| ids.iter().position(|known| *known == id))
    }

    pub(crate) fn owns(&self, id: u64) -> bool {
        self.side(id).is_some()
    }

    pub(crate) fn piece(&mut self, id: u64, text: &str, n_tokens: u32) -> bool {
        let Some(side) = self.side(id) else { return false };
        self.sides[side].text.push_str(text);
        self.sides[side].n_tokens = n_tokens;
        true
    }

    pub(crate) fn answered(&mut self, id: u64, outcome: Result<Answered, Problem>) {
        let Some(side) = self.side(id) else { return };
        match outcome {
            Ok(answered) => self.sides[side].answered = Some(answered),
            Err(_) => {
                self.sides[side].failed = true;
                self.stop();
            }
        }
        if side == 1 {
            self.running = None;
        }
    }

    pub(crate) fn failed(&mut self, _problem: &Problem) {
        self.running = None;
    }

    /// Ends both answers.
    pub(crate) fn stop(&mut self) {
        if let Some((_, stop)) = &self.running {
            stop.stop();
        }
    }

    /// Both answers.
    #[doc(hidden)]
    #[must_use]
    pub fn texts(&self) -> [&str; 2] {
        self.sides.each_ref().map(|side| side.text.as_str())
    }

    /// Words of the first answer, and of the second, that the other lacks.
    #[doc(hidden)]
    #[must_use]
    pub fn differing(&self) -> [usize; 2] {
        let (left, right) = diff::compare(&self.sides[0].text, &self.sides[1].text);
        [left, right].map(|side| side.iter().filter(|(_, differs)| *differs).count())
    }
}

impl App {
    /// The comparison, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn compare(&self) -> &Compare {
        &self.compare
    }

    pub(crate) fn compare_view(&mut self, ui: &mut Ui) {
        ui.add_space(8.0);
        ui.heading("Compare");
        let adapter = self.active_adapter().map(|adapter| adapter.name.clone());
        let ready = self.ready().is_some();
        match (&adapter, ready) {
            (_, false) => _ = look::quiet(ui, "Load a model first, then an adapter for it."),
            (None, true) => {
                look::quiet(ui, "Choose an adapter: its answer is put beside the model's own.");
                ui.horizontal(|ui| {
                    if ui.button("Add a file").clicked() {
                        self.dialogs.open(ui.ctx(), Pick::AdapterFile);
                    }
                    if ui.button("Add a folder").clicked() {
                        self.dialogs.open(ui.ctx(), Pick::AdapterFolder);
                    }
                });
            }
            (Some(name), true) => {
                self.compare.adapter = format!("{name} at {:.2}", self.strength);
                look::quiet(ui, "The same question with the same random numbers; what only one answer says is marked.");
            }
        }
        ui.add_space(6.0);
        let running = self.compare.is_running();
        let mut start = false;
        ui.horizontal(|ui| {
            let width = (ui.available_width() - 110.0).max(120.0);
            let edit =
                TextEdit::singleline(&mut self.compare.question).hint_text("A question for both").desired_width(width);
            let response = ui.add(edit);
            look::named(ui, &response, "Question for both");
            let can = ready && adapter.is_some() && !self.compare.question.trim().is_empty();
            start = can && response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            if running {
                if look::primary(ui, true, "Stop").clicked() {
                    self.compare.stop();
                }
            } else {
                start |= look::primary(ui, can && self.answering.is_none(), "Ask both").clicked();
            }
        });
        if start && !running {
            self.start_compare();
        }
        ui.add_space(8.0);
        let Compare { sides, adapter, running, .. } = &self.compare;
        let (left, right) = diff::compare(&sides[0].text, &sides[1].text);
        // While the second answer is on its way, all that it has not said yet would be marked.
        let (mark_left, mark_right) = (running.is_none(), !sides[1].text.is_empty());
        ui.columns(2, |columns| {
            side_ui(&mut columns[0], "Model alone", &sides[0], &left, mark_left, running.is_some());
            let name = if adapter.is_empty() { "With the adapter" } else { adapter };
            side_ui(&mut columns[1], name, &sides[1], &right, mark_right, running.is_some());
        });
    }
}

fn side_ui(ui: &mut Ui, name: &str, side: &Side, stretches: &[diff::Stretch<'_>], mark: bool, running: bool) {
    look::card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(egui::RichText::new(name).strong());
            look::quiet(ui, words(side, running));
        });
        ui.separator();
        let height = (ui.available_height() - 30.0).max(80.0);
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
    if answered.finish == Finish::Stopped {
        words += " · stopped";
    }
    words
}
