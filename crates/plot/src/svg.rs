//! The few elements of SVG that the pictures need.

use std::fmt::Write;

/// Titles.
pub const INK: &str = "#24292f";
/// Numbers and names of axes.
pub const QUIET: &str = "#57606a";
/// Lines behind everything.
pub const GRID: &str = "#e3e6ea";
/// The background.
pub const PAPER: &str = "#ffffff";

/// A picture that is being written.
#[derive(Debug)]
pub struct Svg(String);

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// At its middle.
    Middle,
    /// At its end.
    End,
}

impl Svg {
    /// A picture of `width` x `height` with a background; `title` and `description` are read to those who do not see it.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self(String::new());
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', \
             sans-serif\" font-size=\"12\">\n<title>{}</title>\n<desc>{}</desc>\n<rect x=\"0.5\" y=\"0.5\" width=\"{}\" \
             height=\"{}\" rx=\"6\" fill=\"{PAPER}\" stroke=\"#d0d7de\"/>\n",
            escaped(title),
            escaped(description),
            width - 1.0,
            height - 1.0,
        ));
        svg
    }

    /// A text at a point; `style` are attributes.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.push(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>\n"));
    }

    /// A path without a filling; an empty one is left out.
    pub fn stroke(&mut self, d: &str, colour: &str, width: f64, more: &str) {
        if !d.is_empty() {
            self.push(format_args!(
                "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linecap=\"round\" \
                 stroke-linejoin=\"round\" {more}/>\n"
            ));
        }
    }

    /// A thin line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>\n"
        ));
    }

    /// Elements that are already written.
    pub fn raw(&mut self, element: &str) {
        self.0.push_str(element);
        self.0.push('\n');
    }

    /// The whole picture.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(arguments);
    }
}

/// Text as it can stand in XML 1.0, which has no way to write most control characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A line through points, or a dot for a single one.
pub fn polyline(points: &[(f64, f64)]) -> String {
    let mut d = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(d, "{}{} {}", if index == 0 { 'M' } else { 'L' }, place(*x), place(*y));
    }
    if points.len() == 1 {
        d.push_str("h0");
    }
    d
}

/// A dot at each point.
pub fn dots(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("M{} {}h0", place(*x), place(*y))).collect()
}

/// A coordinate with a tenth of a pixel.
pub fn place(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
