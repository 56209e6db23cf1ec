//! Text of files and models that cannot command a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that change how the text around them is shown: bidirectional controls (CVE-2021-42574) and invisible
/// separators.
pub fn reorders(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line of text with control characters and bidirectional overrides shown as escapes.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() || reorders(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || reorders(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c)); // a String takes everything
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The first `max` characters of [`printable`] text.
pub fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => printable(text).into_owned(),
        Some((end, _)) => format!("{}...", printable(text.get(..end).unwrap_or(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_files_cannot_command_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(printable("plain ü"), "plain ü");
        assert_eq!(shortened("abcdef", 3), "abc...");
    }
}
