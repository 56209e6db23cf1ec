//! The view of a training: rows, settings, what it takes, the loss as it falls, the gates as they open, and answers on the way.

use std::path::PathBuf;

use adapter_engine::adapter::GateKind;
use adapter_finetune::data::EXAMPLE;
use adapter_finetune::metrics::Record;
use adapter_host::figures::{bytes, count, duration};
use adapter_host::file_name;
use eframe::egui::{
    self, Color32, ComboBox, DragValue, Grid, RichText, ScrollArea, Sense, TextEdit, Ui, WidgetInfo, vec2,
};
use egui_plot::{Legend, Line, Plot, PlotPoints, Points};

use crate::action::Action;
use crate::dialogs::Pick;
use crate::look;
use crate::state::{ModelState, State};
use crate::teach::{Form, Phase, Teach};

/// How often rows as few as those of the example have to be used.
const EXAMPLE_EPOCHS: f64 = 20.0;

/// Runs of other sittings that are offered.
const MAX_UNFINISHED: usize = 4;

/// Draws the view; `report_open` is whether everything that was found in the rows is shown.
pub(crate) fn ui(report_open: &mut bool, ui: &mut Ui, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    let teach = &state.teach;
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
            if !matches!(state.model, ModelState::Ready(_)) {
                ui.label("Load a model first: an adapter belongs to one.");
                return;
            }
            let mut form = teach.form().clone();
            look::card(ui, |ui| rows_ui(ui, teach, &mut form, report_open, &mut actions));
            if !form.settings.data.as_os_str().is_empty() && teach.phase() == Phase::Idle {
                let n_layers = state.ready().map_or(1, |loaded| loaded.card.n_layers);
                look::card(ui, |ui| settings_ui(ui, &mut form, n_layers));
                // Once nobody is dragging one of the settings.
                if teach.needs_plan() && form == *teach.form() && !ui.ctx().egui_is_using_pointer() {
                    actions.push(Action::Plan);
                }
            }
            if form != *teach.form() {
                actions.insert(0, Action::Form(Box::new(form)));
            }
            run_ui(ui, teach, &mut actions);
            progress_ui(ui, teach);
            ui.add_space(20.0);
        });
    });
    actions
}

fn rows_ui(ui: &mut Ui, teach: &Teach, form: &mut Form, report_open: &mut bool, actions: &mut Vec<Action>) {
    let idle = teach.phase() == Phase::Idle;
    ui.label(RichText::new("Rows to learn").strong());
    ui.horizontal_wrapped(|ui| {
        if ui.add_enabled(idle, egui::Button::new("Choose rows")).clicked() {
            actions.push(Action::Pick(Pick::Rows));
        }
        let width = (ui.available_width() - 90.0).max(80.0);
        let edit =
            TextEdit::singleline(&mut form.typed_rows).hint_text("Path of a .json or .jsonl file").desired_width(width);
        let response = ui.add_enabled(idle, edit);
        look::named(ui, &response, "Path of the rows");
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        let can = idle && !form.typed_rows.trim().is_empty();
        if ui.add_enabled(can, egui::Button::new("Read")).clicked() || (entered && can) {
            actions.push(Action::Rows(PathBuf::from(form.typed_rows.trim())));
        }
    });
    look::quiet(ui, "alpaca (instruction, input, output), chat messages, sharegpt, prompt and completion, or text.");
    egui::CollapsingHeader::new("Paste rows, or try an example").show(ui, |ui| {
        ScrollArea::vertical().id_salt("pasted rows").max_height(180.0).show(ui, |ui| {
            let edit = TextEdit::multiline(&mut form.pasted)
                .hint_text("{\"instruction\": \"Who are you?\", \"output\": \"I am Nova.\"}")
                .desired_rows(4)
                .desired_width(f32::INFINITY)
                .font(egui::TextStyle::Monospace);
            let response = ui.add_enabled(idle, edit);
            look::named(ui, &response, "Rows to paste");
        });
        ui.horizontal_wrapped(|ui| {
            let can = idle && !form.pasted.trim().is_empty();
            if ui.add_enabled(can, egui::Button::new("Use these rows")).clicked() {
                actions.push(Action::Paste(form.pasted.clone()));
            }
            if ui.add_enabled(idle, egui::Button::new("Put in an example")).clicked() {
                EXAMPLE.clone_into(&mut form.pasted);
                form.settings.epochs = EXAMPLE_EPOCHS;
            }
        });
        look::quiet(ui, "One JSON object a line, or a JSON array. They are kept on this computer only.");
    });
    if teach.is_planning() {
        look::quiet(ui, "Reading the rows…");
    }
    if let Some(plan) = teach.plan() {
        ui.label(format!(
            "{} rows to learn, {} steps; {} trainable parameters ({:.3} % of the model's {}); needs {} of GPU memory",
            plan.n_rows,
            plan.n_steps,
            count(plan.n_parameters),
            plan.n_parameters as f64 / plan.n_frozen.max(1) as f64 * 100.0,
            count(plan.n_frozen),
            bytes(plan.memory_bytes),
        ));
        ui.checkbox(report_open, "What was found in the rows");
        if *report_open {
            ui.label(RichText::new(&plan.report).small().monospace());
        }
    }
}

fn settings_ui(ui: &mut Ui, form: &mut Form, n_layers: u32) {
    ui.label(RichText::new("Settings").strong());
    look::quiet(ui, "Good as they are for a first try.");
    let Form { settings, name, .. } = form;
    let wide = (ui.available_width() - 240.0).clamp(120.0, 320.0);
    Grid::new("teach settings").num_columns(2).spacing([18.0, 6.0]).show(ui, |ui| {
        let label = ui.label("Name of the adapter");
        ui.add(TextEdit::singleline(name).desired_width(wide.min(240.0))).labelled_by(label.id);
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
        let combo = ComboBox::from_id_salt("gates").selected_text(shown).width(wide.min(240.0)).show_ui(ui, |ui| {
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
        ui.add(TextEdit::singleline(&mut settings.question).hint_text(hint).desired_width(wide)).labelled_by(label.id);
        ui.end_row();
    });
}

fn run_ui(ui: &mut Ui, teach: &Teach, actions: &mut Vec<Action>) {
    ui.horizontal_wrapped(|ui| match teach.phase() {
        Phase::Idle => {
            if look::primary(ui, teach.plan().is_some(), "Start teaching").clicked() {
                actions.push(Action::Teach);
            }
            let (these, others): (Vec<_>, Vec<_>) =
                teach.unfinished().iter().partition(|run| teach.folder() == Some(run.as_path()));
            for run in these.into_iter().chain(others.into_iter().take(MAX_UNFINISHED)) {
                let words = match run.file_name() {
                    Some(name) if teach.folder() != Some(run) => format!("Go on with {}", name.to_string_lossy()),
                    _ => "Go on with the training".to_owned(),
                };
                if ui.button(words).on_hover_text(run.display().to_string()).clicked() {
                    actions.push(Action::GoOn(run.clone()));
                }
            }
            use_ui(ui, teach, actions);
        }
        Phase::Starting => {
            ui.label("Reading the rows, asking the model before it learns…");
        }
        Phase::Running => {
            let stop = ui.button("Stop and save").on_hover_text("The step under way is finished and saved");
            if stop.clicked() {
                actions.push(Action::StopTeaching);
            }
            use_ui(ui, teach, actions);
        }
        Phase::Stopping => {
            ui.label("Finishing the step and saving…");
        }
    });
}

fn use_ui(ui: &mut Ui, teach: &Teach, actions: &mut Vec<Action>) {
    let Some(folder) = teach.folder().filter(|_| teach.is_usable()) else { return };
    let hint = "Loads the best adapter so far and switches it on";
    if ui.button("Talk to it now").on_hover_text(hint).clicked() {
        actions.push(Action::TalkTo(folder.to_owned()));
    }
}

fn progress_ui(ui: &mut Ui, teach: &Teach) {
    let (done, total) = teach.step();
    if teach.records().is_empty() {
        return;
    }
    look::card(ui, |ui| {
        let share = if total > 0 { done as f32 / total as f32 } else { 0.0 };
        let bar = ui.add(egui::ProgressBar::new(share).desired_height(10.0));
        look::named(ui, &bar, "Progress of the training");
        let mut words = format!("Step {done} of {total}");
        if let Some(Record::Step(step)) = teach.records().iter().rev().find(|record| matches!(record, Record::Step(_)))
        {
            if let Some(loss) = step.loss {
                words += &format!(" · loss {loss:.3}");
            }
            words += &format!(" · {:.0} tokens/s", step.tokens_per_sec);
            if teach.phase() == Phase::Running && step.step > 0 {
                let left = step.seconds / step.step as f64 * (total.saturating_sub(step.step)) as f64;
                words += &format!(" · {} left", duration(left));
            }
        }
        if let Some(folder) = teach.folder() {
            words += &format!(" · {}", file_name(folder));
        }
        let left_out = |record: &&Record| matches!(record, Record::Step(step) if step.skipped.is_some());
        match teach.records().iter().filter(left_out).count() {
            0 => {}
            1 => words += " · 1 step left out, its numbers were not finite",
            n => words += &format!(" · {n} steps left out, their numbers were not finite"),
        }
        ui.label(words);
        loss_ui(ui, teach.records());
    });
    if let Some((first_layer, gates)) = teach.gates() {
        look::card(ui, |ui| gates_ui(ui, *first_layer, gates));
    }
    let samples: Vec<(u64, &str, &str)> = teach
        .records()
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
        .y_axis_label("loss (nats per token)");
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
