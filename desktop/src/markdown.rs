//! A model's text as markdown. It is never HTML (tags are shown as the letters they are), loads nothing (images become links), and
//! opens nothing (links are asked about first, see `links.rs`).

use std::collections::HashMap;
use std::ops::Range;

use eframe::egui::{self, Ui};
use egui_commonmark::{CommonMarkCache, CommonMarkViewer};
use egui_extras::syntax_highlighting::{CodeTheme, highlight};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

use crate::look;

/// What was prepared for messages, by their id.
#[derive(Default)]
pub struct Markdown {
    cache: CommonMarkCache,
    prepared: HashMap<String, (usize, Vec<Piece>)>,
}

/// A stretch of a text that is drawn in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Markdown.
    Text(String),
    /// A block of code that stands by itself.
    Code {
        /// What the text says it is, or nothing.
        language: String,
        /// The code.
        code: String,
    },
}

impl Markdown {
    /// Draws the text of a message.
    pub fn show(&mut self, ui: &mut Ui, id: &str, text: &str) {
        // Texts only grow, or get another id.
        if self.prepared.get(id).is_none_or(|(len, _)| *len != text.len()) {
            if self.prepared.len() > 500 {
                self.prepared.clear();
            }
            self.prepared.insert(id.to_owned(), (text.len(), pieces(text)));
        }
        let Some((_, pieces)) = self.prepared.get(id) else { return };
        for (at, piece) in pieces.iter().enumerate() {
            ui.push_id((id, at), |ui| match piece {
                Piece::Text(text) => _ = CommonMarkViewer::new().show(ui, &mut self.cache, text),
                Piece::Code { language, code } => code_ui(ui, language, code),
            });
        }
    }
}

/// A block of code: what it is, a way to copy it, and the code in colours.
fn code_ui(ui: &mut Ui, language: &str, code: &str) {
    let frame = egui::Frame::new()
        .fill(ui.visuals().extreme_bg_color)
        .stroke(ui.visuals().widgets.noninteractive.bg_stroke)
        .corner_radius(8)
        .inner_margin(10.0);
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            look::quiet(ui, if language.is_empty() { "code" } else { language });
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                if ui.small_button("Copy code").clicked() {
                    ui.ctx().copy_text(code.to_owned());
                }
            });
        });
        let theme = CodeTheme::from_style(ui.style());
        let known = extension_of(language).unwrap_or(language);
        // Remembered by egui_extras until the code or the colours change.
        let mut job = highlight(ui.ctx(), ui.style(), &theme, code.trim_end_matches('\n'), known);
        job.wrap.max_width = f32::INFINITY;
        egui::ScrollArea::horizontal().show(ui, |ui| ui.add(egui::Label::new(job).extend().selectable(true)));
    });
}

/// A text in pieces: blocks of code that stand by themselves, and what is around them.
#[must_use]
pub fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut depth, mut at) = (0usize, 0);
    let mut open: Option<(String, String)> = None;
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if depth == 0 => {
                let before = &text[at..range.start];
                if !before.trim().is_empty() {
                    pieces.push(Piece::Text(prepared(before)));
                }
                at = range.end;
                depth += 1;
                let language = info.split([' ', ',', '{']).next().unwrap_or_default();
                open = Some((language.to_owned(), String::new()));
            }
            Event::Start(_) => depth += 1,
            Event::Text(text) => {
                if let Some((_, code)) = &mut open {
                    code.push_str(&text);
                }
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some((language, code)) = open.take()
                {
                    pieces.push(Piece::Code { language, code });
                }
            }
            _ => {}
        }
    }
    if !text[at..].trim().is_empty() {
        pieces.push(Piece::Text(prepared(&text[at..])));
    }
    pieces
}

/// As `egui_commonmark` reads a text.
const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_FOOTNOTES);

/// The text as it is drawn: every image is a link to it, and languages of code blocks are called as the highlighter knows them.
#[must_use]
pub fn prepared(text: &str) -> String {
    let mut changes: Vec<(Range<usize>, &str)> = Vec::new();
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        match event {
            Event::Start(Tag::Image { .. }) if text.as_bytes().get(range.start) == Some(&b'!') => {
                // An image without words would be a link without words.
                let bare = text[range.start..].starts_with("![]");
                changes.push(if bare {
                    (range.start..range.start + 3, "[image]")
                } else {
                    (range.start..range.start + 1, "")
                });
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let language = info.split([' ', ',', '{']).next().unwrap_or_default();
                let line = text[range.clone()].lines().next().unwrap_or_default();
                if let (Some(at), Some(known)) = (line.find(language), extension_of(language)) {
                    let start = range.start + at;
                    changes.push((start..start + language.len(), known));
                }
            }
            _ => {}
        }
    }
    changes.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in changes {
        // Links around images overlap nothing; a damaged range is left alone.
        if range.start >= at {
            out += &text[at..range.start];
            out += new;
            at = range.end;
        }
    }
    out + &text[at..]
}

/// What syntect calls a language that models call otherwise.
fn extension_of(language: &str) -> Option<&'static str> {
    Some(match language.to_ascii_lowercase().as_str() {
        "python" | "python3" => "py",
        "rust" => "rs",
        "javascript" | "jsx" | "typescript" | "ts" => "js",
        "bash" | "shell" | "zsh" | "console" => "sh",
        "c++" | "cxx" => "cpp",
        "csharp" | "c#" => "cs",
        "golang" => "go",
        "ruby" => "rb",
        "markdown" => "md",
        "haskell" => "hs",
        "perl" => "pl",
        "latex" => "tex",
        _ => return None,
    })
}

/// Text as it was said: what a person wrote is not markdown.
pub fn plain(ui: &mut Ui, text: &str) {
    ui.add(egui::Label::new(text).wrap().selectable(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_become_links_and_nothing_else_changes() {
        let text = "a ![cat](http://x.y/c.png) b\n\n```\n![no](image)\n```\n`![code](x)` \\![escaped](x) ![](file:///etc/passwd)\n\n![ref][1]\n\n[1]: https://x.y";
        let shown = prepared(text);
        assert!(shown.starts_with("a [cat](http://x.y/c.png) b"), "{shown}");
        assert!(shown.contains("![no](image)") && shown.contains("`![code](x)`") && shown.contains("\\![escaped]"));
        assert!(shown.contains("[image](file:///etc/passwd)") && shown.contains("\n[ref][1]"));
        assert!(Parser::new(&shown).all(|event| !matches!(event, Event::Start(Tag::Image { .. }))));
        assert_eq!(
            prepared("- a\n\n  ```Python\n  x\n  ```\n```text\n```"),
            "- a\n\n  ```py\n  x\n  ```\n```text\n```"
        );
        assert_eq!(prepared("no images! [x](y)"), "no images! [x](y)");
    }

    #[test]
    fn code_stands_by_itself_also_while_it_comes_in() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let code = |language: &str, code: &str| Piece::Code { language: language.to_owned(), code: code.to_owned() };
        assert_eq!(
            pieces("one\n\n```python x\na\n\nb\n```\ntwo ![i](u)"),
            [text("one\n\n"), code("python", "a\n\nb\n"), text("\ntwo [i](u)")]
        );
        assert_eq!(pieces("```\nlet x"), [code("", "let x")]);
        assert_eq!(pieces("- a\n\n  ```rust\n  x\n  ```\n").len(), 1, "in a list it stays where it is");
        assert_eq!(pieces(" \n"), []);
    }
}
