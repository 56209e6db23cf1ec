//! What people and programs read: tables, sizes, JSON, remarks, and files that are written as a whole.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;
use crate::printable::{printable, reorders};

/// A path as one word of a shell's command line, where it needs quotes with them.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    // Backslash and drive are a path's on Windows, whose shells take double quotes.
    if cfg!(windows) {
        return if text.chars().all(|c| plain(c) || c == '\\') { text } else { format!("\"{text}\"") };
    }
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Three decimals, for times and speeds: more than a clock knows.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Which side of its column a cell is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings. Lines up in a terminal and is a table in Markdown.
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self { columns: columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell).into_owned()).collect());
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell));
                cells.chain([width(name)]).max().unwrap_or(0).max(3)
            })
            .collect();
        let mut line = |cells: &[String]| {
            let mut text = String::from("|");
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                let _ = match align {
                    Align::Left => write!(text, " {cell:<width$} |"),
                    Align::Right => write!(text, " {cell:>width$} |"),
                };
            }
            writeln!(out, "{text}")
        };
        line(&self.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())?;
        let rule: Vec<String> = self
            .columns
            .iter()
            .zip(&widths)
            .map(|((_, align), width)| match align {
                Align::Left => "-".repeat(*width),
                Align::Right => format!("{}:", "-".repeat(width.saturating_sub(1))),
            })
            .collect();
        line(&rule)?;
        self.rows.iter().try_for_each(|row| line(row))
    }
}

/// JSON in which every character that a terminal could act on is escaped.
struct Escaped<F>(F);

impl<F: serde_json::ser::Formatter> serde_json::ser::Formatter for Escaped<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| c.is_control() || reorders(c)) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?; // all of them are below U+10000
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }
    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }
    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

fn to_json(value: &impl Serialize, formatter: impl serde_json::ser::Formatter) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Escaped(formatter));
    value.serialize(&mut serializer).map_err(|error| Failure::from(io::Error::from(error)))?;
    text.push(b'\n');
    Ok(text)
}

/// One line of JSON and a line break.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn json_line(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    to_json(value, serde_json::ser::CompactFormatter)
}

/// Indented JSON and a line break.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn json_pretty(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    to_json(value, serde_json::ser::PrettyFormatter::new())
}

/// Whether people look at standard error and have not refused colour.
pub fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stderr().is_terminal() && !refused && !dumb
}

/// A remark beside the answer, on standard error: dim where that is possible.
pub fn note(text: &str) {
    let text = printable(text);
    let mut stderr = io::stderr().lock();
    let _ = if colour() { writeln!(stderr, "\u{1b}[2m{text}\u{1b}[0m") } else { writeln!(stderr, "{text}") };
}

/// A warning on standard error.
pub fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "warning: {}", printable(text));
}

/// A bar on standard error that shows nothing where nobody looks.
pub fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_json_cannot_command_a_terminal() {
        let json = json_line(&["\u{1b}\u{9b}\u{202e}\"ü"]).expect("a string is JSON");
        assert_eq!(String::from_utf8_lossy(&json), "[\"\\u001b\\u009b\\u202e\\\"ü\"]\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_is_one_word_of_a_command() {
        assert_eq!(quoted(Path::new("runs/a-1.gguf")), "runs/a-1.gguf");
        for path in ["my runs/it's", "a$(b)", "", "x;y", "ü n", "~", "a\"b", "*", "a\\b"] {
            let echoed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(Path::new(path)))])
                .output()
                .expect("a shell");
            assert_eq!(String::from_utf8_lossy(&echoed.stdout), path, "{}", quoted(Path::new(path)));
        }
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&[("test", Align::Left), ("t/s", Align::Right)]);
        table.row(["pp512".to_owned(), "12.50".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).expect("memory takes everything");
        assert_eq!(String::from_utf8_lossy(&out), "| test  |   t/s |\n| ----- | ----: |\n| pp512 | 12.50 |\n");
    }
}
