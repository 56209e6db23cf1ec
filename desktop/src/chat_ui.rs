//! Talking: the messages of a branch, and the box below them.

use eframe::egui::{
    self, CentralPanel, Frame, Key, KeyboardShortcut, Modifiers, Panel, RichText, ScrollArea, TextEdit, Ui,
};

use crate::app::{App, ModelState};
use crate::chat::{AnswerNote, Finish, Message, Role};
use crate::look;
use crate::markdown::{self, Markdown};

/// From this share of the context on, people are told.
const NEARLY_FULL: f32 = 0.8;
/// Branches longer than this draw only what can be seen.
const ALL_DRAWN: usize = 24;
/// Questions for a first try.
const EXAMPLES: [&str; 3] =
    ["Why is the sky blue?", "Write a haiku about the sea.", "Explain recursion with a short Python example."];

/// A message that is being written anew.
#[derive(Debug, Clone)]
pub(crate) struct Editing {
    pub message: String,
    pub text: String,
    pub focus: bool,
}

/// What was pressed at a message.
enum Pressed {
    Copy(String),
    Edit(String),
    Again(String),
    Continue(String),
    Show(String),
    Send(String, String),
    Cancel,
}

impl App {
    pub(crate) fn chat_view(&mut self, ui: &mut Ui) {
        let frame = Frame::side_top_panel(ui.style()).inner_margin(egui::Margin::symmetric(16, 10));
        Panel::bottom("composer").frame(frame).show_separator_line(false).show(ui, |ui| {
            look::column(ui, look::COLUMN, |ui| self.composer_ui(ui));
        });
        CentralPanel::default().show(ui, |ui| {
            let empty = self.chat().messages.is_empty();
            if empty {
                self.empty_ui(ui);
            } else {
                let open = self.open.clone();
                ScrollArea::vertical().id_salt(open).auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
                    look::column(ui, look::COLUMN, |ui| self.messages_ui(ui));
                });
            }
        });
    }

    /// What stands where no message is yet.
    fn empty_ui(&mut self, ui: &mut Ui) {
        look::column(ui, 560.0, |ui| {
            ui.add_space((ui.available_height() * 0.22).max(12.0));
            match &self.model {
                ModelState::None => {
                    ui.heading("Welcome");
                    ui.label(
                        "This program runs language models on your own machine and teaches them new skills with small \
                         adapters. Nothing leaves this computer.",
                    );
                    ui.add_space(10.0);
                    self.first_model_ui(ui);
                }
                ModelState::Loading(_) => {
                    ui.heading("One moment");
                    self.loading_ui(ui);
                }
                ModelState::Lost(_) => {
                    ui.heading("The model is not on the GPU any more");
                    ui.label("Your chats are kept.");
                    if look::primary(ui, true, "Load the model again").clicked() {
                        self.reload();
                    }
                }
                ModelState::Ready(loaded) => {
                    ui.heading(Self::shown_name(&loaded.card.path));
                    ui.label("Ask something, or begin with one of these:");
                    ui.add_space(6.0);
                    let mut chosen = None;
                    for example in EXAMPLES {
                        if ui.button(example).clicked() {
                            chosen = Some(example);
                        }
                    }
                    if let Some(text) = chosen {
                        self.say(text);
                    }
                }
            }
        });
    }

    fn messages_ui(&mut self, ui: &mut Ui) {
        let Some(chat) = self.chats.iter().find(|chat| chat.id == self.open) else { return };
        let path = chat.branch();
        let (last, long) = (path.last().copied(), path.len() > ALL_DRAWN);
        let width = ui.available_width();
        let mut pressed = None;
        ui.spacing_mut().item_spacing.y = 6.0;
        for at in path {
            let message = &chat.messages[at];
            let answering = self.answering.as_ref().filter(|answering| answering.message == message.id);
            let editing = self.editing.as_mut().filter(|editing| editing.message == message.id);
            // What is far off the screen keeps its height and costs nothing.
            let known = self
                .heights
                .get(&message.id)
                .filter(|(at_width, len, _)| (*at_width - width).abs() < 0.5 && *len == message.content.len());
            if long
                && editing.is_none()
                && let Some((_, _, height)) = known
            {
                let rect = egui::Rect::from_min_size(ui.cursor().min, egui::vec2(width, *height));
                if !ui.clip_rect().expand(400.0).intersects(rect) {
                    ui.allocate_space(egui::vec2(width, *height));
                    continue;
                }
            }
            let top = ui.cursor().top();
            let siblings = chat.siblings(message);
            let parts = Parts { message, siblings: &siblings, is_last: last == Some(at), progress: None };
            let found = match (editing, answering) {
                (Some(editing), _) => editing_ui(ui, editing),
                (None, Some(answering)) => {
                    let progress = Progress {
                        prompt: answering.prompt.filter(|(done, total)| done < total),
                        begun: answering.n_tokens > 0,
                        speed: answering.speed(),
                    };
                    message_ui(ui, &mut self.markdown, &Parts { progress: Some(progress), ..parts })
                }
                (None, None) => message_ui(ui, &mut self.markdown, &parts),
            };
            pressed = found.or(pressed);
            ui.add_space(10.0);
            let height = ui.cursor().top() - top - ui.spacing().item_spacing.y;
            self.heights.insert(message.id.clone(), (width, message.content.len(), height.max(1.0)));
        }
        match pressed {
            None => {}
            Some(Pressed::Copy(text)) => ui.ctx().copy_text(text),
            Some(Pressed::Edit(id)) => {
                let text = self.chat().find(&id).map_or_else(String::new, |message| message.content.clone());
                self.editing = Some(Editing { message: id, text, focus: true });
            }
            Some(Pressed::Again(id)) => self.again(&id),
            Some(Pressed::Continue(id)) => self.continue_answer(&id),
            Some(Pressed::Show(id)) => self.show_branch(&id),
            Some(Pressed::Send(id, text)) => self.edit(&id, &text),
            Some(Pressed::Cancel) => self.editing = None,
        }
    }

    fn composer_ui(&mut self, ui: &mut Ui) {
        self.meter_ui(ui);
        let busy = self.answering.is_some();
        let mut send = false;
        let frame = Frame::new()
            .fill(ui.visuals().extreme_bg_color)
            .stroke(ui.visuals().widgets.noninteractive.bg_stroke)
            .corner_radius(10)
            .inner_margin(8.0);
        frame.show(ui, |ui| {
            ui.horizontal(|ui| {
                let width = ui.available_width() - 64.0;
                let rows = self.draft.lines().count().clamp(1, 8);
                let scroll = ScrollArea::vertical().id_salt("draft").max_height(170.0).max_width(width);
                scroll.show(ui, |ui| {
                    let edit = TextEdit::multiline(&mut self.draft)
                        .id_salt("message box")
                        .desired_rows(rows)
                        .desired_width(width)
                        .frame(Frame::NONE)
                        .hint_text("Send a message (Shift+Enter for a new line)")
                        .return_key(KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
                    let response = ui.add(edit);
                    look::named(ui, &response, "Message");
                    if std::mem::take(&mut self.focus_draft) {
                        response.request_focus();
                    }
                    send = response.has_focus()
                        && ui.input(|input| input.key_pressed(Key::Enter) && input.modifiers.is_none());
                });
                if busy {
                    if look::primary(ui, true, "Stop").on_hover_text("Esc").clicked() {
                        self.stop();
                    }
                } else {
                    let can = !self.draft.trim().is_empty();
                    send |= look::primary(ui, can, "Send").on_hover_text("Enter").clicked();
                }
            });
        });
        if send && !busy {
            self.send_draft();
            self.focus_draft = true;
        }
    }

    /// How much of the context is used, and a word before it is full.
    fn meter_ui(&mut self, ui: &mut Ui) {
        let Some(context) = self.ready().map(|loaded| loaded.context) else { return };
        let share = self.used as f32 / context as f32;
        let dark = ui.visuals().dark_mode;
        let colour = if share >= 0.95 {
            look::error(dark)
        } else if share >= NEARLY_FULL {
            look::warning(dark)
        } else {
            look::accent(dark)
        };
        ui.horizontal(|ui| {
            let bar = egui::ProgressBar::new(share.min(1.0)).desired_width(120.0).desired_height(6.0).fill(colour);
            let response = ui.add(bar);
            look::named(ui, &response, "Share of the context that is used");
            look::quiet(ui, format!("{} of {context} tokens", self.used));
            if share >= NEARLY_FULL {
                let left = context.saturating_sub(self.used);
                let text = if left == 0 {
                    "The context is full: the next answer does not fit. Start a new chat, or branch off by an edit."
                        .to_owned()
                } else {
                    format!("Nearly full: an answer can have {left} more tokens, then it is cut off.")
                };
                ui.label(RichText::new(text).small().color(colour));
            }
            if let Some(answering) = &self.answering {
                let text = match (answering.speed(), answering.prompt) {
                    (Some(speed), _) => format!("{speed:.1} tokens/s"),
                    (None, Some((done, total))) if done < total => format!("Reading {done} of {total} tokens"),
                    _ => "Thinking".to_owned(),
                };
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| look::quiet(ui, text));
            }
        });
        ui.add_space(2.0);
    }
}

/// How an answer goes on.
#[derive(Clone, Copy)]
struct Progress {
    prompt: Option<(usize, usize)>,
    begun: bool,
    speed: Option<f64>,
}

/// A message and what is known about it.
#[derive(Clone, Copy)]
struct Parts<'a> {
    message: &'a Message,
    siblings: &'a [&'a str],
    is_last: bool,
    progress: Option<Progress>,
}

fn message_ui(ui: &mut Ui, markdown: &mut Markdown, parts: &Parts<'_>) -> Option<Pressed> {
    let Parts { message, progress, .. } = *parts;
    match message.role {
        Role::Assistant => {
            ui.label(RichText::new(Role::Assistant.shown()).small().strong());
            if message.content.is_empty() && progress.is_some() {
                ui.horizontal(|ui| {
                    // A spinner would draw sixty times a second for nothing.
                    look::quiet(
                        ui,
                        match progress.and_then(|progress| progress.prompt) {
                            Some((done, total)) if done > 0 => format!("Reading {done} of {total} tokens…"),
                            _ => "Thinking…".to_owned(),
                        },
                    )
                });
            } else {
                markdown.show(ui, &message.id, &message.content);
            }
        }
        Role::User | Role::System => {
            let frame = Frame::new().fill(ui.visuals().faint_bg_color).corner_radius(10).inner_margin(12.0);
            frame.show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.label(RichText::new(message.role.shown()).small().strong());
                markdown::plain(ui, &message.content);
            });
        }
    }
    buttons_ui(ui, parts)
}

fn buttons_ui(ui: &mut Ui, parts: &Parts<'_>) -> Option<Pressed> {
    let Parts { message, siblings, is_last, progress } = *parts;
    let mut pressed = None;
    let id = &message.id;
    let small = |ui: &mut Ui, text: &str, hint: &str| {
        ui.add(egui::Button::new(RichText::new(text).small()).frame_when_inactive(false)).on_hover_text(hint).clicked()
    };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        if let Some(progress) = progress {
            if let (true, Some(speed)) = (progress.begun, progress.speed) {
                look::quiet(ui, format!("{speed:.1} tokens/s"));
            }
            return;
        }
        if siblings.len() > 1
            && let Some(at) = siblings.iter().position(|other| other == id)
        {
            let step = |ui: &mut Ui, text: &str, name: &str, to: Option<&&str>| {
                let button = egui::Button::new(RichText::new(text).small()).frame_when_inactive(false);
                let response = ui.add_enabled(to.is_some(), button);
                look::named(ui, &response, name);
                to.filter(|_| response.clicked()).map(|to| (*to).to_owned())
            };
            let before = step(ui, "<", "Previous version", at.checked_sub(1).and_then(|at| siblings.get(at)));
            look::quiet(ui, format!("{}/{}", at + 1, siblings.len()));
            let after = step(ui, ">", "Next version", siblings.get(at + 1));
            if let Some(to) = before.or(after) {
                pressed = Some(Pressed::Show(to));
                return;
            }
        }
        if small(ui, "Copy", "Copy this message") {
            pressed = Some(Pressed::Copy(message.content.clone()));
        }
        match message.role {
            Role::User | Role::System => {
                if small(ui, "Edit", "Say something else instead; this version is kept") {
                    pressed = Some(Pressed::Edit(id.clone()));
                }
            }
            Role::Assistant => {
                if small(ui, "Regenerate", "Another answer; this one is kept (Ctrl+R)") {
                    pressed = Some(Pressed::Again(id.clone()));
                }
                let ended = message.note.as_ref().map(|note| note.finish);
                let open = matches!(ended, Some(Finish::Stopped | Finish::Length | Finish::Failed));
                if is_last && open && small(ui, "Continue", "Go on with this answer") {
                    pressed = Some(Pressed::Continue(id.clone()));
                }
                if let Some(note) = &message.note {
                    ui.add_space(6.0);
                    look::quiet(ui, note_words(note));
                }
            }
        }
    });
    pressed
}

/// How an answer came about, in a line.
fn note_words(note: &AnswerNote) -> String {
    let mut words = vec![note.model.clone()];
    if let Some(adapter) = &note.adapter {
        words.push(match note.strength {
            Some(strength) if (strength - 1.0).abs() > 0.001 => format!("{adapter} at {strength:.2}"),
            _ => adapter.clone(),
        });
    }
    words.push(format!("{} tokens", note.tokens));
    if let Some(speed) = note.tokens_per_second {
        words.push(format!("{speed:.1} tokens/s"));
    }
    if let Some(first) = note.first_token_ms {
        words.push(format!("first after {:.2} s", first / 1000.0));
    }
    match note.finish {
        Finish::Stop => {}
        Finish::Length => words.push("longest answer reached".to_owned()),
        Finish::Context => words.push("context full".to_owned()),
        Finish::Stopped => words.push("stopped".to_owned()),
        Finish::Failed => words.push("broken off".to_owned()),
    }
    words.retain(|word| !word.is_empty());
    words.join(" · ")
}

fn editing_ui(ui: &mut Ui, editing: &mut Editing) -> Option<Pressed> {
    let mut pressed = None;
    let frame = Frame::new().fill(ui.visuals().faint_bg_color).corner_radius(10).inner_margin(12.0);
    frame.show(ui, |ui| {
        let response = ui.add(TextEdit::multiline(&mut editing.text).desired_width(f32::INFINITY).desired_rows(2));
        look::named(ui, &response, "Edited message");
        if std::mem::take(&mut editing.focus) {
            response.request_focus();
        }
        ui.horizontal(|ui| {
            if look::primary(ui, !editing.text.trim().is_empty(), "Send the edit").clicked() {
                pressed = Some(Pressed::Send(editing.message.clone(), editing.text.trim().to_owned()));
            }
            if ui.button("Cancel").clicked() {
                pressed = Some(Pressed::Cancel);
            }
            look::quiet(ui, "The version before is kept as a branch.");
        });
    });
    pressed
}
