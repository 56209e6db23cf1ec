//! Making text of a model or a file safe to print on a terminal.

/// The longest string sequence that is swallowed if its end never comes.
const MAX_STRING_CHARS: usize = 4096;

/// Strips what could command a terminal, and shows what could deceive a reader.
///
/// Removed: C0 controls but tab and newline, DEL, C1 controls, and escape sequences (CSI, OSC, DCS, APC, PM, SOS and the
/// short ones) with all their parameters, also when a sequence is split over pieces. Shown as `<U+202E>`: the characters
/// that change the direction of text (CVE-2021-42574).
///
/// ```
/// # use adapter_engine::text::TerminalSanitizer;
/// let mut sanitizer = TerminalSanitizer::new();
/// assert_eq!(sanitizer.push("a\x1b[3"), "a");
/// assert_eq!(sanitizer.push("1mb\u{202e}"), "b<U+202E>");
/// ```
#[derive(Clone, Debug, Default)]
pub struct TerminalSanitizer {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte (0x20 to 0x2f): one final byte follows.
    Intermediate,
    /// In a control sequence.
    Csi,
    /// In a string (OSC and the like), with the number of characters swallowed.
    String(usize),
}

impl TerminalSanitizer {
    /// Starts outside of any sequence.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The part of `piece` that is safe to print. A sequence may begin in one piece and end in another.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            self.state = step(self.state, c, &mut out);
        }
        out
    }
}

fn step(state: State, c: char, out: &mut String) -> State {
    // Wherever they stand, these end a sequence (CAN, SUB) or begin another one (ESC and its C1 forms).
    match c {
        '\x18' | '\x1a' => return State::Text,
        '\x1b' => return State::Escape,
        '\u{9b}' => return State::Csi,
        '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => return State::String(0),
        _ => {}
    }
    match state {
        State::Text => {
            show(c, out);
            State::Text
        }
        State::Escape => match c {
            '[' => State::Csi,
            ']' | 'P' | 'X' | '^' | '_' => State::String(0),
            ' '..='/' => State::Intermediate,
            '0'..='~' => State::Text,
            // Not a sequence after all: the ESC is dropped, the rest is text.
            _ => {
                show(c, out);
                State::Text
            }
        },
        State::Intermediate => match c {
            ' '..='/' => State::Intermediate,
            '0'..='~' => State::Text,
            _ => {
                show(c, out);
                State::Text
            }
        },
        State::Csi => match c {
            ' '..='?' => State::Csi,
            '@'..='~' => State::Text,
            _ => {
                show(c, out);
                State::Text
            }
        },
        State::String(n) => match c {
            '\x07' | '\u{9c}' => State::Text,
            // A string that is never closed must not hide the rest of an answer: a new line ends it as well.
            '\n' => {
                show(c, out);
                State::Text
            }
            _ if n >= MAX_STRING_CHARS => State::Text,
            _ => State::String(n + 1),
        },
    }
}

fn show(c: char, out: &mut String) {
    match c {
        '\n' | '\t' => out.push(c),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => {}
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            out.push_str(&format!("<U+{:04X}>", u32::from(c)));
        }
        _ => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::TerminalSanitizer;

    fn clean(text: &str) -> String {
        TerminalSanitizer::new().push(text)
    }

    #[test]
    fn sequences_are_removed_with_their_parameters() {
        for (text, wanted) in [
            ("plain \t text\n", "plain \t text\n"),
            ("a\x1b[31;1mb\x1b[0mc", "abc"),
            ("a\x1b[2J\x1b[Hb", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
            ("a\x1b]52;c;cHduZWQ=\x07b", "ab"),
            ("a\x1bPq#0;2;0;0;0\x1b\\b", "ab"),
            ("a\x1b_payload\x1b\\b", "ab"),
            ("a\x1b^pm\x1b\\b\x1bXsos\x1b\\c", "abc"),
            ("a\x1bcb\x1b7c\x1b8d", "abcd"),
            ("a\x1b(0b\x1b#8c", "abc"),
            ("a\u{9b}31mb\u{9d}0;t\u{9c}c\u{85}d", "abcd"),
            ("a\rb\x08c\x07d\0e\x7ff", "abcdef"),
            ("a\x1b[31\x18b", "ab"),
            ("a\x1b]0;t\x1b[31mstill", "astill"),
            ("a\x1b]0;never closed\nb", "a\nb"),
            ("a\x1b\x1b[31mb", "ab"),
            ("a\x1b[31é", "aé"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a<U+202E>b<U+2066>c<U+200F>"),
            ("👩‍👩‍👧 日本", "👩‍👩‍👧 日本"),
        ] {
            assert_eq!(clean(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn pieces_joined_are_the_whole() {
        let text = "a\x1b[31;1mb\x1b]0;title\x1b\\c\x1b(0d\u{9b}1me\x1bPq\x1b\\f";
        let mut sanitizer = TerminalSanitizer::new();
        let joined: String = text.chars().map(|c| sanitizer.push(c.encode_utf8(&mut [0; 4]))).collect();
        assert_eq!(joined, "abcdef");
    }

    #[test]
    fn a_string_without_end_hides_at_most_4096_characters() {
        let text = format!("\x1b]0;{}seen", "x".repeat(5000));
        assert!(clean(&text).ends_with("xseen"));
    }
}
