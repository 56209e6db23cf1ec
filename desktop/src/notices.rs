//! What the window has to say: notices in a corner that screen readers hear, and a log that keeps them readable.

use std::time::{Duration, Instant};

use adapter_host::Problem;
use adapter_host::figures::duration;
use eframe::egui::{self, Align2, Context, Frame, RichText, Ui, vec2};

use crate::look;
use crate::words::{Remedy, explain};

/// Good news leaves after this.
const SHORT: Duration = Duration::from_secs(4);
/// Warnings leave after this; errors stay until they are closed.
const LONG: Duration = Duration::from_secs(12);
/// Notices in the corner at once.
const AT_ONCE: usize = 3;
/// Lines of the log.
const KEPT: usize = 200;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is done.
    Good,
    /// Worth knowing.
    Warning,
    /// It is not done.
    Error,
}

/// Something to be told.
#[derive(Debug, Clone)]
struct Notice {
    kind: Kind,
    title: String,
    message: String,
    remedy: Option<Remedy>,
    since: Instant,
    open: bool,
}

/// All that was told.
#[derive(Debug, Default)]
pub struct Notices {
    list: Vec<Notice>,
    /// Whether the log's window is open.
    pub log_open: bool,
}

impl Notices {
    fn add(&mut self, kind: Kind, title: &str, message: &str, remedy: Option<Remedy>) {
        // The same again is told once.
        for old in self.list.iter_mut().filter(|old| old.title == title && old.message == message) {
            old.open = false;
        }
        let (title, message) = (title.to_owned(), message.to_owned());
        self.list.push(Notice { kind, title, message, remedy, since: Instant::now(), open: true });
        if self.list.len() > KEPT {
            self.list.remove(0);
        }
    }

    /// Something is done.
    pub fn good(&mut self, text: &str) {
        self.add(Kind::Good, text, "", None);
    }

    /// Something is worth knowing.
    pub fn warn(&mut self, title: &str, message: &str) {
        self.add(Kind::Warning, title, message, None);
    }

    /// Something went wrong, unless the user wanted it.
    pub fn fail(&mut self, problem: &Problem) {
        if let Some(shown) = explain(problem) {
            let message = format!("{} {}", shown.message, shown.next);
            self.add(Kind::Error, shown.title, message.trim(), shown.remedy);
        }
    }

    /// Closes notices that offer this: it is being done.
    pub fn remedied(&mut self, remedy: Remedy) {
        for notice in self.list.iter_mut().filter(|notice| notice.remedy == Some(remedy)) {
            notice.open = false;
        }
    }

    /// Closes the newest notice. False: there is none.
    pub fn close_newest(&mut self) -> bool {
        let newest = self.list.iter_mut().rev().find(|notice| notice.open);
        newest.is_some_and(|notice| {
            notice.open = false;
            true
        })
    }

    /// Draws what is new; returns what was pressed.
    pub fn show(&mut self, ctx: &Context) -> Option<Remedy> {
        for notice in self.list.iter_mut().filter(|notice| notice.open) {
            let stays = match notice.kind {
                Kind::Good => SHORT,
                Kind::Warning => LONG,
                Kind::Error => continue,
            };
            match stays.checked_sub(notice.since.elapsed()) {
                Some(left) if !left.is_zero() => ctx.request_repaint_after(left),
                _ => notice.open = false,
            }
        }
        let mut pressed = None;
        let newest: Vec<usize> = (0..self.list.len()).rev().filter(|at| self.list[*at].open).take(AT_ONCE).collect();
        if newest.is_empty() {
            return None;
        }
        egui::Area::new(egui::Id::unique("notices")).anchor(Align2::RIGHT_BOTTOM, vec2(-14.0, -128.0)).show(
            ctx,
            |ui| {
                ui.spacing_mut().item_spacing.y = 8.0;
                for at in newest {
                    let notice = &mut self.list[at];
                    if let Some(remedy) = notice_ui(ui, notice) {
                        pressed = Some(remedy);
                        notice.open = false;
                    }
                }
            },
        );
        pressed
    }

    /// Everything that was told, newest first.
    pub fn log_ui(&mut self, ctx: &Context) {
        let mut open = self.log_open;
        egui::Window::new("Log").open(&mut open).default_size(vec2(520.0, 320.0)).show(ctx, |ui| {
            if self.list.is_empty() {
                ui.label("Nothing has happened yet that had to be told.");
                return;
            }
            ui.horizontal(|ui| {
                if ui.button("Copy the log").clicked() {
                    let lines = self.list.iter().map(|notice| format!("{}: {}", notice.title, notice.message));
                    ui.ctx().copy_text(lines.collect::<Vec<_>>().join("\n"));
                }
                if ui.button("Clear the log").clicked() {
                    self.list.clear();
                }
            });
            egui::ScrollArea::vertical().auto_shrink([false, true]).show(ui, |ui| {
                for notice in self.list.iter().rev() {
                    ui.separator();
                    let ago = duration(notice.since.elapsed().as_secs_f64());
                    ui.label(RichText::new(format!("{} · {ago} ago", notice.title)).strong());
                    if !notice.message.is_empty() {
                        ui.label(&notice.message);
                    }
                }
            });
        });
        self.log_open = open;
    }

    /// The newest sentence, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn newest(&self) -> Option<String> {
        self.list.last().map(|notice| format!("{} {}", notice.title, notice.message))
    }
}

fn notice_ui(ui: &mut Ui, notice: &mut Notice) -> Option<Remedy> {
    let dark = ui.visuals().dark_mode;
    let (accent, word) = match notice.kind {
        Kind::Good => (look::good(dark), "Done"),
        Kind::Warning => (look::warning(dark), "Note"),
        Kind::Error => (look::error(dark), "Error"),
    };
    let mut pressed = None;
    let frame = Frame::popup(ui.style()).inner_margin(12.0).stroke(egui::Stroke::new(1.0, accent));
    frame.show(ui, |ui| {
        ui.set_width(340.0);
        ui.horizontal(|ui| {
            ui.label(RichText::new(word).color(accent).strong());
            let width = ui.available_width() - 64.0;
            ui.scope(|ui| {
                ui.set_max_width(width);
                let title = ui.label(RichText::new(&notice.title).strong());
                // Read out as soon as it appears.
                ui.ctx().accesskit_node_builder(title.id, |node| node.set_live(egui::accesskit::Live::Polite));
            });
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let close = ui.small_button("Close");
                look::named(ui, &close, "Close this notice");
                if close.clicked() {
                    notice.open = false;
                }
            });
        });
        if !notice.message.is_empty() {
            ui.label(&notice.message);
        }
        if let Some(remedy) = notice.remedy {
            ui.add_space(4.0);
            if ui.button(remedy.label()).clicked() {
                pressed = Some(remedy);
            }
        }
    });
    pressed
}
