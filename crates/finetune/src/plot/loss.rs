//! The loss over the steps of a training.

use adapter_plot::axis::{Axis, count, number};
use adapter_plot::svg::{Anchor, GRID, INK, PAPER, QUIET, Svg, dots, polyline};

use crate::metrics::Record;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 816.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 388.0;
const FAINT: &str = "#a9cdf0";
const TRAIN: &str = "#0b5cad";
const VALIDATION: &str = "#c4430a";
const RATE: &str = "#8c959f";
/// The share of all steps that a point of the smoothed line stands for.
const SMOOTHED_SHARE: f64 = 0.02;
/// The fewest steps of the mean.
const MIN_SMOOTHED: f64 = 5.0;

/// What is known of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LossPoint {
    /// The optimizer's step.
    pub step: u64,
    /// Mean loss of its batch in nats per token.
    pub train: Option<f32>,
    /// Loss of the validation rows after it, in nats per token.
    pub validation: Option<f32>,
    /// Learning rate.
    pub learning_rate: Option<f32>,
}

impl LossPoint {
    /// What a line of `metrics.jsonl` says of the losses: steps and validations do, the rest does not.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let narrow = |value: Option<f64>| value.map(|value| value as f32);
        match record {
            Record::Step(step) => Some(Self {
                step: step.step,
                train: narrow(step.loss),
                learning_rate: Some(step.lr as f32),
                ..Self::default()
            }),
            Record::Eval(eval) => Some(Self { step: eval.step, validation: narrow(eval.val_loss), ..Self::default() }),
            _ => None,
        }
    }
}

/// A step and a value.
type Point = (f64, f64);

/// The loss over the steps: of the batches faint, their running mean, of the validation rows dots, and the learning rate
/// as a thin line with its own scale. Values that are not finite are left out. Any number of points gives a picture below
/// 100 kB: a column of pixels keeps its extremes.
#[must_use]
pub fn loss_svg(title: &str, points: &[LossPoint]) -> String {
    let mut points = points.to_vec();
    points.sort_by_key(|point| point.step);
    let series = |value: fn(&LossPoint) -> Option<f32>| -> Vec<Point> {
        let finite = |point: &LossPoint| Some((point.step as f64, f64::from(value(point).filter(|v| v.is_finite())?)));
        points.iter().filter_map(finite).collect()
    };
    let train = series(|point| point.train);
    let validation = series(|point| point.validation);
    let rate = series(|point| point.learning_rate);
    if train.is_empty() && validation.is_empty() {
        let mut svg = Svg::new(WIDTH, HEIGHT, title, "No loss has been recorded yet.");
        svg.text(LEFT, 34.0, Anchor::Start, &format!("fill=\"{INK}\" font-size=\"16\" font-weight=\"600\""), title);
        let style = format!("fill=\"{QUIET}\" font-size=\"14\"");
        svg.text(WIDTH / 2.0, HEIGHT / 2.0, Anchor::Middle, &style, "no loss has been recorded yet");
        return svg.finish();
    }
    let window = (train.len() as f64 * SMOOTHED_SHARE).max(MIN_SMOOTHED);
    let usual = usual(&train);
    let clipped: Vec<Point> = train.iter().map(|(step, value)| (*step, value.max(usual.0).min(usual.1))).collect();
    let smooth = smoothed(&clipped, window);
    let steps = || train.iter().chain(&validation).map(|(step, _)| *step);
    let x = Axis::new(steps().fold(f64::MAX, f64::min), steps().fold(f64::MIN, f64::max), LEFT, RIGHT);
    let shown = validation.iter().map(|(_, value)| *value);
    let (low, high) = shown.fold(usual, |(low, high), value| (low.min(value), high.max(value)));
    let room = (high - low) * 0.05;
    let y = Axis::new(low - room, high + room, BOTTOM, TOP);
    let legend = legend(&train, &validation, &rate, window);

    let description: Vec<String> = legend.iter().map(|(_, name, value)| format!("{name}: {value}")).collect();
    let mut svg = Svg::new(WIDTH, HEIGHT, title, &description.join("; "));
    svg.text(LEFT, 34.0, Anchor::Start, &format!("fill=\"{INK}\" font-size=\"16\" font-weight=\"600\""), title);
    write_legend(&mut svg, &legend);
    write_axes(&mut svg, &x, &y);
    let placed = |axis: &Axis, points: &[Point]| -> Vec<Point> {
        points.iter().map(|(step, value)| (x.place(*step), axis.place(*value))).collect()
    };
    if let Some(peak) = rate.iter().map(|(_, value)| *value).reduce(f64::max).filter(|peak| *peak > 0.0) {
        let scale = Axis::new(0.0, peak, BOTTOM, TOP);
        svg.stroke(&polyline(&thinned(&placed(&scale, &rate))), RATE, 1.0, "stroke-dasharray=\"3 4\"");
        let quiet = format!("fill=\"{QUIET}\"");
        svg.text(RIGHT + 6.0, TOP + 4.0, Anchor::Start, &quiet, &number(peak));
        svg.text(RIGHT + 6.0, BOTTOM + 4.0, Anchor::Start, &quiet, "0");
        let (x, middle) = (RIGHT + 18.0, (TOP + BOTTOM) / 2.0);
        let rotated = format!("fill=\"{QUIET}\" transform=\"rotate(90 {x} {middle})\"");
        svg.text(x, middle, Anchor::Middle, &rotated, "learning rate (dashed)");
    }
    // A single step is a dot.
    let faint = if train.len() == 1 { (TRAIN, 7.0) } else { (FAINT, 1.0) };
    svg.stroke(&polyline(&thinned(&placed(&y, &train))), faint.0, faint.1, "");
    if train.len() > 2 {
        svg.stroke(&polyline(&thinned(&placed(&y, &smooth))), TRAIN, 2.0, "");
    }
    let checks = thinned(&placed(&y, &validation));
    svg.stroke(&polyline(&checks), VALIDATION, 1.0, "stroke-opacity=\"0.6\"");
    let size = if checks.len() > 80 { 3.0 } else { 7.0 };
    svg.stroke(&dots(&checks), PAPER, size + 3.0, "");
    svg.stroke(&dots(&checks), VALIDATION, size, "");
    svg.finish()
}

/// Lowest and highest loss of a batch that are shown. Of many batches the outermost hundredth on each side may stick out,
/// and of any number what lies twenty times farther out than the middle half is wide: a single batch that is far off
/// would flatten everything else.
fn usual(train: &[Point]) -> (f64, f64) {
    let mut sorted: Vec<f64> = train.iter().map(|(_, value)| *value).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied();
    let count = sorted.len();
    let cut = if count < 100 { 0 } else { count / 100 };
    let (Some(low), Some(high), Some(quarter), Some(three_quarters)) =
        (at(cut), at((count.max(1) - 1).saturating_sub(cut)), at(count / 4), at(count * 3 / 4))
    else {
        return (f64::MAX, f64::MIN);
    };
    let wide = three_quarters - quarter;
    if count < 8 || wide <= 0.0 {
        return (low, high);
    }
    let inside = (quarter - 20.0 * wide)..=(three_quarters + 20.0 * wide);
    let near = || sorted.iter().copied().filter(|value| inside.contains(value));
    (near().next().map_or(low, |first| low.max(first)), near().next_back().map_or(high, |last| high.min(last)))
}

/// Exponential mean over about `window` points, corrected for its start.
fn smoothed(points: &[Point], window: f64) -> Vec<Point> {
    let keep = 1.0 - 1.0 / window;
    let (mut sum, mut weight) = (0.0, 0.0);
    let mut mean = |(step, value): &Point| {
        sum = sum * keep + value;
        weight = weight * keep + 1.0;
        (*step, sum / weight)
    };
    points.iter().map(&mut mean).collect()
}

/// Points in the picture: each column of pixels keeps its first, lowest, highest and last.
fn thinned(points: &[Point]) -> Vec<Point> {
    if points.len() < 2 * (RIGHT - LEFT) as usize {
        return points.to_vec();
    }
    let mut out: Vec<Point> = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let extreme = |wanted: fn(&f64, &f64) -> std::cmp::Ordering| {
            (0..column.len()).max_by(|a, b| wanted(&column[*a].1, &column[*b].1)).unwrap_or(0)
        };
        let mut kept = vec![0, extreme(|a, b| b.total_cmp(a)), extreme(f64::total_cmp), column.len() - 1];
        kept.sort_unstable();
        kept.dedup();
        out.extend(kept.into_iter().filter_map(|index| column.get(index)).map(|(x, y)| (x.floor(), y.round())));
    }
    out
}

/// Colour, name and figures of each line.
type Legend = Vec<(&'static str, &'static str, String)>;

fn legend(train: &[Point], validation: &[Point], rate: &[Point], window: f64) -> Legend {
    let lowest = |points: &[Point]| points.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
    let mut out = Legend::new();
    if let (Some(low), Some(last)) = (lowest(train), train.last()) {
        let mean =
            if train.len() > 2 { format!(", line: mean of {}", count(window.round() as u64)) } else { String::new() };
        out.push((TRAIN, "train", format!("last {}, lowest {}{mean}", number(last.1), number(low.1))));
    }
    if let (Some(low), Some(last)) = (lowest(validation), validation.last()) {
        let best = format!("last {}, lowest {} at step {}", number(last.1), number(low.1), count(low.0 as u64));
        out.push((VALIDATION, "validation", best));
    }
    if let Some(peak) = rate.iter().map(|(_, value)| *value).reduce(f64::max) {
        out.push((RATE, "learning rate", format!("peak {}", number(peak))));
    }
    out
}

fn write_legend(svg: &mut Svg, legend: &Legend) {
    let mut x = LEFT;
    // The learning rate stands at its own scale.
    for (colour, name, value) in legend.iter().filter(|(colour, ..)| *colour != RATE) {
        svg.stroke(&polyline(&[(x, 54.0), (x + 16.0, 54.0)]), colour, 3.0, "");
        let text = format!("{name} ({value})");
        svg.text(x + 23.0, 58.0, Anchor::Start, &format!("fill=\"{INK}\""), &text);
        // No font is at hand to measure with; 6.3 pixels a letter is wide for every usual one.
        x += 23.0 + 6.3 * text.chars().count() as f64 + 18.0;
    }
}

fn write_axes(svg: &mut Svg, x: &Axis, y: &Axis) {
    let quiet = format!("fill=\"{QUIET}\"");
    for value in y.ticks(6, 0.0) {
        let at = y.place(value);
        svg.line((LEFT, at), (RIGHT, at), GRID);
        svg.text(LEFT - 8.0, at + 4.0, Anchor::End, &quiet, &number(value));
    }
    for value in x.ticks(8, 1.0).into_iter().filter(|value| *value >= 0.0) {
        let at = x.place(value);
        svg.line((at, BOTTOM), (at, BOTTOM + 5.0), QUIET);
        svg.text(at, BOTTOM + 20.0, Anchor::Middle, &quiet, &count(value as u64));
    }
    svg.line((LEFT, BOTTOM), (RIGHT, BOTTOM), QUIET);
    svg.text((LEFT + RIGHT) / 2.0, BOTTOM + 40.0, Anchor::Middle, &quiet, "step");
    let middle = (TOP + BOTTOM) / 2.0;
    let rotated = format!("fill=\"{QUIET}\" transform=\"rotate(-90 18 {middle})\"");
    svg.text(18.0, middle, Anchor::Middle, &rotated, "loss (nats per token)");
}
