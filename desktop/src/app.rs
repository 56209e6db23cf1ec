//! The frame around the views: what is drawn where, keys, dropped files, links, and the size of the window.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use eframe::egui::{self, CentralPanel, Context, Key, KeyboardShortcut, Modifiers, Panel, Ui};

use crate::links;
use crate::state::{Start, State, View};
use crate::views::Views;
use crate::{action::Action, chat_ui, compare_ui, models_ui, overlays_ui, settings_ui, sidebar_ui, teach_ui};

/// How long a window keeps its size before that is remembered.
const RESTS: Duration = Duration::from_millis(500);
/// In a window narrower than this, in points, the list of chats lies over the view instead of beside it, and only while it is wanted.
const ROOM_FOR_SIDEBAR: f32 = 860.0;
/// In one narrower than this the model in use has a line of its own below the views.
const ROOM_FOR_ONE_LINE: f32 = 980.0;

/// The window.
pub struct App {
    state: State,
    views: Views,
    /// The link that is asked about.
    link: Option<links::Asked>,
    /// A size of the window that is not remembered yet, and since when it has it.
    resized: Option<([f32; 2], Instant)>,
}

impl App {
    /// The window; `ctx` is woken by the engine.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn new(ctx: &Context, start: Start) -> std::io::Result<Self> {
        crate::look::apply(ctx);
        let state = State::new(ctx, start)?;
        ctx.set_theme(state.settings.theme.preference());
        ctx.set_zoom_factor(state.settings.zoom.clamp(0.5, 3.0));
        Ok(Self { state, views: Views::default(), link: None, resized: None })
    }

    /// What the window knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the window knows, to be changed.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The link that is being asked about.
    #[doc(hidden)]
    #[must_use]
    pub fn asked_link(&self) -> Option<&str> {
        self.link.as_ref().map(|asked| asked.url.as_str())
    }

    fn keys(&mut self, ctx: &Context) {
        let pressed =
            |modifiers, key| ctx.input_mut(|input| input.consume_shortcut(&KeyboardShortcut::new(modifiers, key)));
        // Escape closes what is on top, then stops the answer. Popups and dialogs take theirs first.
        if !egui::Popup::is_any_open(ctx)
            && self.state.question.is_none()
            && self.link.is_none()
            && ctx.input(|input| input.key_pressed(Key::Escape))
        {
            if self.state.answering.is_some() || self.state.compare.is_running() {
                self.state.stop();
                self.state.compare.stop();
            } else if self.views.chat.editing.take().is_none() {
                self.state.notices.close_newest();
            }
        }
        if !self.state.settings.shortcuts {
            return;
        }
        let command = Modifiers::COMMAND;
        if pressed(command, Key::N) {
            self.state.new_chat();
        }
        if pressed(command, Key::L) {
            self.state.view = View::Models;
        }
        if pressed(command, Key::K) {
            self.show_sidebar(ctx, true);
            self.views.sidebar.focus_search = true;
        }
        if pressed(command, Key::B) {
            self.show_sidebar(ctx, !self.sidebar_is_shown(ctx));
        }
        if pressed(command, Key::R) && self.state.view == View::Chat {
            self.state.again_last();
        }
        if pressed(command, Key::Comma) {
            self.state.view = View::Settings;
        }
        if pressed(command, Key::Slash) {
            self.views.shortcuts_open = !self.views.shortcuts_open;
        }
        if pressed(command, Key::J) {
            self.state.notices.log_open = !self.state.notices.log_open;
        }
    }

    /// Whether there is room for the list of chats beside a view.
    fn has_room(ctx: &Context) -> bool {
        ctx.content_rect().width() >= ROOM_FOR_SIDEBAR
    }

    fn sidebar_is_shown(&self, ctx: &Context) -> bool {
        if Self::has_room(ctx) { self.state.settings.sidebar } else { self.views.sidebar.over }
    }

    fn show_sidebar(&mut self, ctx: &Context, shown: bool) {
        if Self::has_room(ctx) {
            self.state.settings.sidebar = shown;
        } else {
            self.views.sidebar.over = shown;
        }
    }

    /// Remembers the window's size once it rests: while somebody pulls at its edge, every frame has another one.
    fn remember_size(&mut self, ctx: &Context) {
        let filled = ctx.input(|input| {
            let viewport = input.viewport();
            [viewport.maximized, viewport.fullscreen, viewport.minimized].contains(&Some(true))
        });
        let size = (ctx.viewport_rect().size() * ctx.zoom_factor()).round();
        let size = [size.x, size.y];
        if filled || self.state.settings.window == Some(size) {
            self.resized = None;
            return;
        }
        match self.resized {
            Some((resting, since)) if resting == size => match RESTS.checked_sub(since.elapsed()) {
                Some(left) => ctx.request_repaint_after(left),
                None => (self.state.settings.window, self.resized) = (Some(size), None),
            },
            _ => {
                self.resized = Some((size, Instant::now()));
                ctx.request_repaint_after(RESTS);
            }
        }
    }

    /// The views by name, and the model in use.
    fn top_bar(&mut self, ui: &mut Ui, actions: &mut Vec<Action>) {
        let one_line = ui.available_width() >= ROOM_FOR_ONE_LINE;
        ui.horizontal_wrapped(|ui| {
            let shown = self.sidebar_is_shown(ui.ctx());
            if !Self::has_room(ui.ctx()) {
                let button = ui.selectable_label(shown, "Chats").on_hover_text("Show or hide the chats (Ctrl+B)");
                if button.clicked() {
                    self.views.sidebar.over = !shown;
                }
            }
            for (view, name) in View::ALL {
                if ui.selectable_label(self.state.view == view, name).clicked() {
                    actions.push(Action::GoTo(view));
                }
            }
            if one_line {
                ui.separator();
                models_ui::model_bar(ui, &self.state, actions);
            }
        });
        if !one_line {
            ui.horizontal_wrapped(|ui| models_ui::model_bar(ui, &self.state, actions));
        }
    }

    /// The view that is chosen.
    fn view(&mut self, ui: &mut Ui) -> Vec<Action> {
        let Self { state, views, .. } = self;
        let central = |ui: &mut Ui, view: &mut dyn FnMut(&mut Ui) -> Vec<Action>| {
            CentralPanel::default().show(ui, |ui| view(ui)).inner
        };
        match state.view {
            View::Chat => {
                let focus = std::mem::take(&mut state.focus_draft);
                chat_ui::ui(&mut views.chat, &mut views.typed_path, ui, state, focus)
            }
            View::Compare => central(ui, &mut |ui| compare_ui::ui(&mut views.question, ui, state)),
            View::Teach => central(ui, &mut |ui| teach_ui::ui(&mut views.report_open, ui, state)),
            View::Models => central(ui, &mut |ui| models_ui::ui(&mut views.typed_path, ui, state)),
            View::Settings => central(ui, &mut |ui| settings_ui::ui(&mut views.preset_name, ui, state)),
        }
    }

    /// Whatever drew a link, nothing opens by itself.
    fn links(&mut self, ctx: &Context) {
        let (asked, refused) = links::take(ctx);
        if refused > 0 {
            self.state
                .notices
                .warn("This link is not opened", "Only http and https links can be; this one could start a program.");
        }
        if asked.is_some() {
            self.link = asked;
            ctx.request_repaint();
        } else if let Some(asked) = self.link.clone()
            && links::ask_ui(ctx, &asked)
        {
            self.link = None;
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, frame: &mut eframe::Frame) {
        if let Some(seconds) = frame.info().cpu_usage {
            self.state.frame(seconds);
        }
        self.state.events();
        let dropped: Vec<PathBuf> =
            ctx.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect());
        for path in dropped {
            self.state.dropped(&path);
        }
        self.keys(ctx);
        let zoom = ctx.zoom_factor();
        if (zoom - self.state.settings.zoom).abs() > f32::EPSILON {
            self.state.settings.zoom = zoom;
        }
        self.remember_size(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        let mut actions = Vec::new();
        Panel::top("views").show(ui, |ui| {
            ui.add_space(4.0);
            self.top_bar(ui, &mut actions);
            ui.add_space(2.0);
        });
        let has_room = Self::has_room(&ctx);
        if has_room && self.sidebar_is_shown(&ctx) {
            let panel = Panel::left("chats").default_size(266.0).size_range(180.0..=420.0);
            let wanted = panel.show(ui, |ui| sidebar_ui::ui(&mut self.views.sidebar, ui, &self.state)).inner;
            actions.extend(wanted);
        }
        if has_room || !self.views.sidebar.over {
            actions.extend(self.view(ui));
        } else {
            let sidebar = &mut self.views.sidebar;
            let wanted = CentralPanel::default().show(ui, |ui| sidebar_ui::ui(sidebar, ui, &self.state)).inner;
            actions.extend(wanted);
        }
        if actions.iter().any(|action| matches!(action, Action::OpenChat(_) | Action::NewChat | Action::GoTo(_))) {
            // It lay over the view that is wanted now.
            self.views.sidebar.over = false;
        }
        actions.extend(overlays_ui::ui(&mut self.views.shortcuts_open, &ctx, &self.state));
        // Nothing is drawn of a state that has changed in the middle of a frame.
        for action in actions {
            self.state.act(action);
            ctx.request_repaint();
        }
        if let Some(remedy) = self.state.notices.show(&ctx) {
            self.state.remedy(remedy);
        }
        self.state.notices.log_ui(&ctx);
        overlays_ui::drop_overlay(&ctx);
        self.links(&ctx);
        self.state.write_settings();
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn on_exit(&mut self) {
        self.state.stop();
        self.state.flush();
    }
}
