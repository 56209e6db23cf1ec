//! Talking: the messages of a branch, and the box below them.

use eframe::egui::{
    self, CentralPanel, Frame, Key, KeyboardShortcut, Modifiers, Panel, RichText, ScrollArea, TextEdit, Ui,
};

use adapter_engine::answer::Finish;

use crate::action::Action;
use crate::chat::{AnswerNote, Editing, Message, Role};
use crate::loading::shown_name;
use crate::look;
use crate::markdown::{self, Markdown};
use crate::models_ui;
use crate::state::{ModelState, State};
use crate::views::ChatView;

/// From this share of the context on, people are told.
const NEARLY_FULL: f32 = 0.8;
/// Branches longer than this draw only what can be seen.
const ALL_DRAWN: usize = 24;
/// Questions for a first try.
const EXAMPLES: [&str; 3] =
    ["Why is the sky blue?", "Write a haiku about the sea.", "Explain recursion with a short Python example."];

/// What was pressed at a message.
enum Pressed {
    /// What goes beyond this view.
    Act(Action),
    Edit(String),
    Send(String, String),
    Cancel,
}

/// Draws the view; `typed_path` is a model's that is being typed, `focus`: the box to write in is to get the keys.
pub(crate) fn ui(view: &mut ChatView, typed_path: &mut String, ui: &mut Ui, state: &State, focus: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    let frame = Frame::side_top_panel(ui.style()).inner_margin(egui::Margin::symmetric(16, 10));
    Panel::bottom("composer").frame(frame).show_separator_line(false).show(ui, |ui| {
        look::column(ui, look::COLUMN, |ui| composer_ui(view, ui, state, focus, &mut actions));
    });
    CentralPanel::default().show(ui, |ui| {
        if state.chat().messages.is_empty() {
            ScrollArea::vertical().auto_shrink(false).show(ui, |ui| empty_ui(typed_path, ui, state, &mut actions));
        } else {
            ScrollArea::vertical().id_salt(&state.open).auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
                look::column(ui, look::COLUMN, |ui| messages_ui(view, ui, state, &mut actions));
            });
        }
    });
    actions
}

/// What stands where no message is yet.
fn empty_ui(typed_path: &mut String, ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    look::column(ui, 560.0, |ui| {
        ui.add_space((ui.available_height() * 0.22).clamp(12.0, 150.0));
        match &state.model {
            ModelState::None => {
                ui.heading("Welcome");
                ui.label(
                    "This program runs language models on your own machine and teaches them new skills with small \
                     adapters. Nothing leaves this computer.",
                );
                ui.add_space(10.0);
                models_ui::first_model_ui(typed_path, ui, state, actions);
            }
            ModelState::Loading(_) => {
                ui.heading("One moment");
                models_ui::loading_ui(ui, state, actions);
            }
            ModelState::Lost(_) => {
                ui.heading("The model is not on the GPU any more");
                ui.label("Your chats are kept.");
                if look::primary(ui, true, "Load the model again").clicked() {
                    actions.push(Action::Reload);
                }
            }
            ModelState::Ready(loaded) => {
                ui.heading(shown_name(&loaded.card.path));
                ui.label("Ask something, or begin with one of these:");
                ui.add_space(6.0);
                for example in EXAMPLES {
                    if ui.button(example).clicked() {
                        actions.push(Action::Say(example.to_owned()));
                    }
                }
            }
        }
    });
}

fn messages_ui(view: &mut ChatView, ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let chat = state.chat();
    // Another chat, or another branch.
    view.editing.take_if(|editing| chat.find(&editing.message).is_none());
    let path = chat.branch();
    let (last, long) = (path.last().copied(), path.len() > ALL_DRAWN);
    let width = ui.available_width();
    let mut pressed = None;
    ui.spacing_mut().item_spacing.y = 6.0;
    for at in path {
        let message = &chat.messages[at];
        let answering = state.answering.as_ref().filter(|answering| answering.message == message.id);
        let editing = view.editing.as_mut().filter(|editing| editing.message == message.id);
        // What is far off the screen keeps its height and costs nothing.
        let known = view
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
                message_ui(ui, &mut view.markdown, &Parts { progress: Some(progress), ..parts })
            }
            (None, None) => message_ui(ui, &mut view.markdown, &parts),
        };
        pressed = found.or(pressed);
        ui.add_space(10.0);
        let height = ui.cursor().top() - top - ui.spacing().item_spacing.y;
        view.heights.insert(message.id.clone(), (width, message.content.len(), height.max(1.0)));
    }
    match pressed {
        None => {}
        Some(Pressed::Act(action)) => actions.push(action),
        Some(Pressed::Edit(id)) => {
            let text = chat.find(&id).map_or_else(String::new, |message| message.content.clone());
            view.editing = Some(Editing { message: id, text, focus: true });
        }
        Some(Pressed::Send(message, text)) => {
            // Without a model it stays open: the words are not lost.
            if state.ready().is_some() {
                view.editing = None;
            }
            actions.push(Action::Edit { message, text });
        }
        Some(Pressed::Cancel) => view.editing = None,
    }
}

fn composer_ui(view: &mut ChatView, ui: &mut Ui, state: &State, focus: bool, actions: &mut Vec<Action>) {
    meter_ui(ui, state);
    let busy = state.answering.is_some();
    let draft = &mut view.draft;
    let mut send = false;
    let frame = Frame::new()
        .fill(ui.visuals().extreme_bg_color)
        .stroke(ui.visuals().widgets.noninteractive.bg_stroke)
        .corner_radius(10)
        .inner_margin(8.0);
    frame.show(ui, |ui| {
        ui.horizontal(|ui| {
            let width = ui.available_width() - 64.0;
            let rows = draft.lines().count().clamp(1, 8);
            let scroll = ScrollArea::vertical().id_salt("draft").max_height(170.0).max_width(width);
            scroll.show(ui, |ui| {
                let edit = TextEdit::multiline(draft)
                    .id_salt("message box")
                    .desired_rows(rows)
                    .desired_width(width)
                    .frame(Frame::NONE)
                    .hint_text("Send a message (Shift+Enter for a new line)")
                    .return_key(KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
                let response = ui.add(edit);
                look::named(ui, &response, "Message");
                if focus {
                    response.request_focus();
                }
                send = response.has_focus()
                    && ui.input(|input| input.key_pressed(Key::Enter) && input.modifiers.is_none());
            });
            if busy {
                if look::primary(ui, true, "Stop").on_hover_text("Esc").clicked() {
                    actions.push(Action::Stop);
                }
            } else {
                let can = !draft.trim().is_empty();
                send |= look::primary(ui, can, "Send").on_hover_text("Enter").clicked();
            }
        });
    });
    let text = draft.trim().to_owned();
    if send && !busy && !text.is_empty() {
        // Without a model it stays: the words are not lost.
        if state.ready().is_some() {
            draft.clear();
        }
        actions.push(Action::Say(text));
    }
}

/// How much of the context is used, and a word before it is full.
fn meter_ui(ui: &mut Ui, state: &State) {
    let Some(context) = state.ready().map(|loaded| loaded.context) else { return };
    let share = state.used as f32 / context as f32;
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
        look::quiet(ui, format!("{} of {context} tokens", state.used));
        if share >= NEARLY_FULL {
            let left = context.saturating_sub(state.used);
            let text = if left == 0 {
                "The context is full: the next answer does not fit. Start a new chat, or branch off by an edit."
                    .to_owned()
            } else {
                format!("Nearly full: an answer can have {left} more tokens, then it is cut off.")
            };
            ui.label(RichText::new(text).small().color(colour));
        }
        if let Some(answering) = &state.answering {
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
                pressed = Some(Pressed::Act(Action::ShowBranch(to)));
                return;
            }
        }
        if small(ui, "Copy", "Copy this message") {
            ui.ctx().copy_text(message.content.clone());
        }
        match message.role {
            Role::User | Role::System => {
                if small(ui, "Edit", "Say something else instead; this version is kept") {
                    pressed = Some(Pressed::Edit(id.clone()));
                }
            }
            Role::Assistant => {
                if small(ui, "Regenerate", "Another answer; this one is kept (Ctrl+R)") {
                    pressed = Some(Pressed::Act(Action::Again(id.clone())));
                }
                let ended = message.note.as_ref().map(|note| note.finish);
                let open = matches!(ended, Some(None | Some(Finish::Stopped | Finish::Length)));
                if is_last && open && small(ui, "Continue", "Go on with this answer") {
                    pressed = Some(Pressed::Act(Action::Continue(id.clone())));
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
    words.push(note.finish.map_or("broken off", Finish::remark).to_owned());
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
