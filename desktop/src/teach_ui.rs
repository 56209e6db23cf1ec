//! Teaching an adapter: rows, settings, what it takes, the loss as it falls, the gates as they open, and answers on the way.

use std::path::{Path, PathBuf};

use adapter_engine::adapter::GateKind;
use adapter_finetune::metrics::Record;
use adapter_host::{Problem, file_name};
use eframe::egui::{
    self, Color32, ComboBox, DragValue, Grid, RichText, ScrollArea, Sense, TextEdit, Ui, WidgetInfo, vec2,
};
use egui_plot::{Legend, Line, Plot, PlotPoints, Points};

use crate::app::{App, ModelState};
use crate::dialogs::Pick;
use crate::look;
use crate::words::{bytes, count, duration};
use crate::worker::{Command, Plan, Stop, TeachEnd, TeachEvent, TeachSettings};

/// How a training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing runs; settings can be changed.
    Idle,
    /// Rows are read, the trainer is made.
    Starting,
    /// Steps are made.
    Running,
    /// The step under way is finished and saved.
    Stopping,
}

/// A training and what is to be trained.
#[derive(Debug)]
pub struct Teach {
    settings: TeachSettings,
    name: String,
    typed_rows: String,
    adapters: Option<PathBuf>,
    plan: Option<Plan>,
    /// Plans asked for so far; what is said about an earlier one comes too late.
    plans: u64,
    planning: bool,
    /// These rows and settings cannot be learnt: nobody asks again before they change.
    refused: bool,
    phase: Phase,
    stop: Stop,
    folder: Option<PathBuf>,
    /// An adapter lies in the folder.
    usable: bool,
    /// The run of the folder can go on.
    resumable: bool,
    records: Vec<Record>,
    gates: Option<(u32, Vec<Vec<f32>>)>,
    report_open: bool,
}

impl Teach {
    pub(crate) fn new(adapters: Option<PathBuf>) -> Self {
        Self {
            settings: TeachSettings::default(),
            name: String::new(),
            typed_rows: String::new(),
            adapters,
            plan: None,
            plans: 0,
            planning: false,
            refused: false,
            phase: Phase::Idle,
            stop: Stop::default(),
            folder: None,
            usable: false,
            resumable: false,
            records: Vec::new(),
            gates: None,
            report_open: false,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// All that happened.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Where the run lies.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What learning would take.
    #[doc(hidden)]
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Changes what is trained, for tests that have little time.
    #[doc(hidden)]
    pub fn settings_mut(&mut self) -> &mut TeachSettings {
        self.plan = None;
        &mut self.settings
    }

    pub(crate) fn choose(&mut self, path: &Path) {
        if self.phase != Phase::Idle {
            return;
        }
        path.clone_into(&mut self.settings.data);
        self.typed_rows = path.display().to_string();
        self.plan = None;
        let stem = path.file_stem().map_or_else(|| "adapter".to_owned(), |stem| stem.to_string_lossy().into_owned());
        self.name = self.free_name(&stem);
    }

    /// A name that no run has yet.
    fn free_name(&self, stem: &str) -> String {
        let taken = |name: &str| self.adapters.as_ref().is_some_and(|folder| folder.join(name).exists());
        if !taken(stem) {
            return stem.to_owned();
        }
        (2..).map(|n| format!("{stem}-{n}")).find(|name| !taken(name)).unwrap_or_else(|| stem.to_owned())
    }

    /// The settings with the folder that the name stands for.
    #[must_use]
    pub fn settings(&self) -> TeachSettings {
        let name: String =
            self.name.trim().chars().map(|c| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '-' }).collect();
        let name = name.trim_matches(['.', ' ']).to_owned();
        let folder = self.adapters.clone().unwrap_or_else(|| std::env::temp_dir().join("adapters"));
        TeachSettings { out: folder.join(if name.is_empty() { "adapter" } else { &name }), ..self.settings.clone() }
    }

    /// Asks what learning would take.
    pub(crate) fn planning(&mut self) -> Command {
        self.plans += 1;
        (self.planning, self.refused) = (true, false);
        Command::Plan { ticket: self.plans, settings: Box::new(self.settings()) }
    }

    pub(crate) fn planned(&mut self, ticket: u64, outcome: Result<Box<Plan>, Problem>) -> Option<Problem> {
        if ticket != self.plans {
            return None;
        }
        self.planning = false;
        match outcome {
            Ok(plan) => {
                self.plan = Some(*plan);
                None
            }
            Err(problem) => {
                self.plan = None;
                self.refused = true;
                Some(problem)
            }
        }
    }

    /// Takes an event; returns what is to be told.
    pub(crate) fn event(&mut self, event: TeachEvent) -> Option<Result<String, Problem>> {
        match event {
            TeachEvent::Started { plan, folder, before } => {
                self.phase = if self.stop.is_set() { Phase::Stopping } else { Phase::Running };
                self.plan = Some(*plan);
                self.folder = Some(folder);
                self.records = before;
                None
            }
            TeachEvent::Happened(record) => {
                self.records.push(record);
                None
            }
            TeachEvent::Gates { first_layer, gates } => {
                self.gates = Some((first_layer, gates));
                None
            }
            TeachEvent::Usable(_) => {
                self.usable = true;
                None
            }
            TeachEvent::Ended(end) => {
                self.phase = Phase::Idle;
                self.resumable = end == TeachEnd::Stopped;
                Some(Ok(match end {
                    TeachEnd::Done => "The adapter is taught".to_owned(),
                    TeachEnd::Stopped => "The training is stopped and saved; it can go on later".to_owned(),
                }))
            }
            TeachEvent::Failed(problem) => {
                self.phase = Phase::Idle;
                // A checkpoint of before may be there.
                self.resumable = self.folder.is_some() && self.step().0 > 0;
                Some(Err(problem))
            }
        }
    }

    /// The GPU took the training along.
    pub(crate) fn lost(&mut self) {
        self.stop.stop();
        if self.phase != Phase::Idle {
            self.phase = Phase::Idle;
            self.resumable = self.folder.is_some();
        }
    }

    /// Steps done, and in all.
    #[must_use]
    pub fn step(&self) -> (u64, u64) {
        let done = self.records.iter().rev().find_map(|record| match record {
            Record::Step(step) => Some(step.step),
            _ => None,
        });
        (done.unwrap_or(0), self.plan.as_ref().map_or(0, |plan| plan.n_steps))
    }
}

impl App {
    pub(crate) fn teach_view(&mut self, ui: &mut Ui) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            look::column(ui, look::COLUMN + 60.0, |ui| {
                ui.add_space(8.0);
                ui.heading("Teach an adapter");
                look::quiet(
                    ui,
                    "The model stays as it is; a small adapter learns from rows of questions and answers. About 30 rows are \
                     enough to see something.",
                );
                ui.add_space(4.0);
                if !matches!(self.model, ModelState::Ready(_)) {
                    ui.label("Load a model first: an adapter belongs to one.");
                    return;
                }
                look::card(ui, |ui| self.rows_ui(ui));
                if !self.teach.settings.data.as_os_str().is_empty() && self.teach.phase == Phase::Idle {
                    look::card(ui, |ui| self.teach_settings_ui(ui));
                }
                self.run_ui(ui);
                self.progress_ui(ui);
                ui.add_space(20.0);
            });
        });
    }

    fn rows_ui(&mut self, ui: &mut Ui) {
        let idle = self.teach.phase == Phase::Idle;
        ui.label(RichText::new("Rows to learn").strong());
        let mut chosen = None;
        ui.horizontal(|ui| {
            if ui.add_enabled(idle, egui::Button::new("Choose rows")).clicked() {
                self.dialogs.open(ui.ctx(), Pick::Rows);
            }
            let width = (ui.available_width() - 90.0).max(80.0);
            let edit = TextEdit::singleline(&mut self.teach.typed_rows)
                .hint_text("Path of a .json or .jsonl file")
                .desired_width(width);
            let response = ui.add_enabled(idle, edit);
            look::named(ui, &response, "Path of the rows");
            let entered = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let can = idle && !self.teach.typed_rows.trim().is_empty();
            if ui.add_enabled(can, egui::Button::new("Read")).clicked() || (entered && can) {
                chosen = Some(PathBuf::from(self.teach.typed_rows.trim()));
            }
        });
        look::quiet(
            ui,
            "alpaca (instruction, input, output), chat messages, sharegpt, prompt and completion, or text.",
        );
        if let Some(path) = chosen {
            self.choose_rows(&path);
        }
        if self.teach.planning {
            look::quiet(ui, "Reading the rows…");
        }
        if let Some(plan) = &self.teach.plan {
            ui.label(format!(
                "{} rows to learn, {} steps; {} numbers learn ({:.3} % of the model's {}); needs {} of GPU memory",
                plan.n_rows,
                plan.n_steps,
                count(plan.n_parameters),
                plan.n_parameters as f64 / plan.n_frozen.max(1) as f64 * 100.0,
                count(plan.n_frozen),
                bytes(plan.memory_bytes),
            ));
            ui.checkbox(&mut self.teach.report_open, "What was found in the rows");
            if self.teach.report_open {
                ui.label(RichText::new(&plan.report).small().monospace());
            }
        }
    }

    fn teach_settings_ui(&mut self, ui: &mut Ui) {
        ui.label(RichText::new("Settings").strong());
        look::quiet(ui, "Good as they are for a first try.");
        let before = self.teach.settings.clone();
        let n_layers = self.ready().map_or(1, |loaded| loaded.card.n_layers);
        let Teach { settings, name, .. } = &mut self.teach;
        Grid::new("teach settings").num_columns(2).spacing([18.0, 6.0]).show(ui, |ui| {
            let label = ui.label("Name of the adapter");
            ui.add(TextEdit::singleline(name).desired_width(240.0)).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Times all rows are used");
            ui.add(DragValue::new(&mut settings.epochs).range(0.1..=1000.0).speed(0.1)).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Highest learning rate");
            let rate = DragValue::new(&mut settings.learning_rate).range(1e-6..=1.0).speed(1e-4).max_decimals(6);
            ui.add(rate).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Prompt tokens a layer");
            ui.add(DragValue::new(&mut settings.adapter_len).range(1..=64)).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Adapted layers (0: all but two)");
            ui.add(DragValue::new(&mut settings.adapter_layers).range(0..=n_layers)).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Gates");
            let shown = settings.gate.words();
            let combo = ComboBox::from_id_salt("gates").selected_text(shown).width(240.0).show_ui(ui, |ui| {
                for gate in GateKind::ALL {
                    ui.selectable_value(&mut settings.gate, gate, gate.words());
                }
            });
            combo.response.labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Tokens a step at most");
            ui.add(DragValue::new(&mut settings.batch_tokens).range(16..=4096).speed(16.0)).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Seed");
            ui.add(DragValue::new(&mut settings.seed)).labelled_by(label.id);
            ui.end_row();
            let label = ui.label("Question asked on the way");
            let hint = "two of the rows that are not learnt";
            ui.add(TextEdit::singleline(&mut settings.question).hint_text(hint).desired_width(320.0))
                .labelled_by(label.id);
            ui.end_row();
        });
        // What it takes follows the settings, once nobody is dragging one.
        if before != self.teach.settings {
            (self.teach.plan, self.teach.refused) = (None, false);
        }
        if self.teach.plan.is_none()
            && !self.teach.planning
            && !self.teach.refused
            && self.teach.settings.data.is_file()
            && !ui.ctx().egui_is_using_pointer()
        {
            let command = self.teach.planning();
            self.send(command);
        }
    }

    fn run_ui(&mut self, ui: &mut Ui) {
        let phase = self.teach.phase;
        ui.horizontal(|ui| match phase {
            Phase::Idle => {
                let can = self.teach.plan.is_some();
                if look::primary(ui, can, "Start teaching").clicked() {
                    self.start_teaching(false);
                }
                if self.teach.resumable && ui.button("Go on with the training").clicked() {
                    self.start_teaching(true);
                }
                self.use_ui(ui);
            }
            Phase::Starting => {
                ui.label("Reading the rows, asking the model before it learns…");
            }
            Phase::Running => {
                let stop = ui.button("Stop and save").on_hover_text("The step under way is finished and saved");
                if stop.clicked() {
                    self.teach.stop.stop();
                    self.teach.phase = Phase::Stopping;
                }
                self.use_ui(ui);
            }
            Phase::Stopping => {
                ui.label("Finishing the step and saving…");
            }
        });
    }

    fn use_ui(&mut self, ui: &mut Ui) {
        if !self.teach.usable {
            return;
        }
        let Some(folder) = self.teach.folder.clone() else { return };
        let hint = "Loads the best adapter so far and switches it on";
        if ui.button("Talk to it now").on_hover_text(hint).clicked() {
            self.add_adapter(&folder, None);
            self.new_chat();
        }
    }

    pub(crate) fn start_teaching(&mut self, resume: bool) {
        let mut settings = self.teach.settings();
        if resume && let Some(folder) = &self.teach.folder {
            settings.out.clone_from(folder);
        } else {
            self.teach.records.clear();
            self.teach.gates = None;
            self.teach.usable = false;
            self.teach.folder = None;
        }
        self.teach.phase = Phase::Starting;
        self.teach.resumable = false;
        self.teach.stop = Stop::default();
        let stop = self.teach.stop.clone();
        self.send(Command::Teach { settings: Box::new(settings), resume, stop });
    }

    fn progress_ui(&mut self, ui: &mut Ui) {
        let teach = &self.teach;
        let (done, total) = teach.step();
        if teach.records.is_empty() {
            return;
        }
        look::card(ui, |ui| {
            let share = if total > 0 { done as f32 / total as f32 } else { 0.0 };
            let bar = ui.add(egui::ProgressBar::new(share).desired_height(10.0));
            look::named(ui, &bar, "Progress of the training");
            let mut words = format!("Step {done} of {total}");
            if let Some(Record::Step(step)) =
                teach.records.iter().rev().find(|record| matches!(record, Record::Step(_)))
            {
                if let Some(loss) = step.loss {
                    words += &format!(" · loss {loss:.3}");
                }
                words += &format!(" · {:.0} tokens/s", step.tokens_per_sec);
                if teach.phase == Phase::Running && step.step > 0 {
                    let left = step.seconds / step.step as f64 * (total.saturating_sub(step.step)) as f64;
                    words += &format!(" · {} left", duration(left));
                }
            }
            if let Some(folder) = &teach.folder {
                words += &format!(" · {}", file_name(folder));
            }
            ui.label(words);
            loss_ui(ui, &teach.records);
        });
        if let Some((first_layer, gates)) = &teach.gates {
            look::card(ui, |ui| gates_ui(ui, *first_layer, gates));
        }
        let samples: Vec<(u64, &str, &str)> = teach
            .records
            .iter()
            .rev()
            .filter_map(|record| match record {
                Record::Sample { step, prompt, answer } => Some((*step, prompt.as_str(), answer.as_str())),
                _ => None,
            })
            .collect();
        if !samples.is_empty() {
            look::card(ui, |ui| {
                ui.label(RichText::new("Answers on the way, newest first").strong());
                for (step, prompt, answer) in samples.iter().take(12) {
                    ui.separator();
                    let when = if *step == 0 { "before".to_owned() } else { format!("after step {step}") };
                    look::quiet(ui, format!("{when} · {prompt}"));
                    ui.add(egui::Label::new(*answer).wrap());
                }
            });
        }
    }
}

fn loss_ui(ui: &mut Ui, records: &[Record]) {
    let mut training = Vec::new();
    let mut validation = Vec::new();
    for record in records {
        match record {
            Record::Step(step) => training.extend(step.loss.map(|loss| [step.step as f64, loss])),
            Record::Eval(eval) => validation.extend(eval.val_loss.map(|loss| [eval.step as f64, loss])),
            _ => {}
        }
    }
    let dark = ui.visuals().dark_mode;
    let (line, points) = (look::accent(dark), look::warning(dark));
    let ends: Vec<String> = [("Loss", &training), ("Validation", &validation)]
        .iter()
        .filter_map(|(name, values)| Some(format!("{name} {:.3} to {:.3}", values.first()?[1], values.last()?[1])))
        .collect();
    let label = format!("Loss by step. {}", ends.join(", "));
    let plot = Plot::new("loss")
        .height(200.0)
        .legend(Legend::default())
        .allow_scroll(false)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .include_y(0.0)
        .x_axis_label("step")
        .y_axis_label("nats a token");
    let response = plot.show(ui, move |plot| {
        plot.line(Line::new("training", PlotPoints::from(training)).color(line).width(1.8));
        if !validation.is_empty() {
            plot.line(Line::new("validation", PlotPoints::from(validation.clone())).color(points).width(1.2));
            plot.points(Points::new("validation", PlotPoints::from(validation)).color(points).radius(4.0));
        }
    });
    look::named(ui, &response.response, &label);
}

/// The gates as a picture: red lets prompts in, blue takes them away, as in `gates.svg`.
fn gates_ui(ui: &mut Ui, first_layer: u32, gates: &[Vec<f32>]) {
    let heads = gates.iter().map(Vec::len).max().unwrap_or(0);
    let most = gates.iter().flatten().filter(|gate| gate.is_finite()).fold(0.0f32, |most, gate| most.max(gate.abs()));
    let widest = gates
        .iter()
        .enumerate()
        .flat_map(|(layer, row)| row.iter().enumerate().map(move |(head, gate)| (layer, head, *gate)))
        .max_by(|a, b| a.2.abs().total_cmp(&b.2.abs()));
    ui.label(RichText::new("Gates by layer and head").strong());
    let words = match widest {
        Some((layer, head, gate)) if heads > 1 => {
            format!("widest {gate:+.4} in layer {}, head {head}", layer + first_layer as usize)
        }
        Some((layer, _, gate)) => format!("widest {gate:+.4} in layer {}", layer + first_layer as usize),
        None => "none".to_owned(),
    };
    look::quiet(
        ui,
        format!("{words}. Red lets prompts in, blue takes them away; a row is a layer, from {first_layer}."),
    );
    let cell = vec2(
        (ui.available_width() / heads.max(1) as f32).clamp(4.0, 40.0),
        (240.0 / gates.len().max(1) as f32).clamp(4.0, 18.0),
    );
    let (rect, response) =
        ui.allocate_exact_size(vec2(cell.x * heads as f32, cell.y * gates.len() as f32), Sense::hover());
    let name = format!("Gates of {} layers and {heads} heads: {words}", gates.len());
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &name));
    let dark = ui.visuals().dark_mode;
    let closed = if dark { [52.0, 55.0, 60.0] } else { [236.0, 236.0, 234.0] };
    let painter = ui.painter_at(rect);
    for (layer, row) in gates.iter().enumerate() {
        for (head, gate) in row.iter().enumerate() {
            let at = rect.min + vec2(cell.x * head as f32, cell.y * layer as f32);
            let colour = colour(*gate, most, closed);
            painter.rect_filled(egui::Rect::from_min_size(at, cell - vec2(1.0, 1.0)), 1, colour);
        }
    }
    if let Some(at) = response.hover_pos() {
        let (head, layer) = ((at.x - rect.min.x) / cell.x, (at.y - rect.min.y) / cell.y);
        if let Some(gate) = gates.get(layer as usize).and_then(|row| row.get(head as usize)) {
            response.on_hover_text(format!("layer {}, head {}: {gate:+.4}", layer as u32 + first_layer, head as u32));
        }
    }
}

fn colour(gate: f32, most: f32, closed: [f32; 3]) -> Color32 {
    if !gate.is_finite() {
        return Color32::BLACK;
    }
    let open = if gate >= 0.0 { [214.0, 48.0, 49.0] } else { [45.0, 110.0, 200.0] };
    // The root shows small openings, too.
    let share = if most > 0.0 { (gate.abs() / most).sqrt() } else { 0.0 };
    let mix = |at: usize| (closed[at] + (open[at] - closed[at]) * share) as u8;
    Color32::from_rgb(mix(0), mix(1), mix(2))
}
