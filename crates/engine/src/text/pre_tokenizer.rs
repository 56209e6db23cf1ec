//! Splitting text into the words within which BPE merges.
//!
//! Each scheme is defined by regular expressions (quoted below from llama.cpp's `llama-vocab.cpp`). They are matched by
//! hand: `\s+(?!\S)` needs look-ahead, which only backtracking engines have, and those give up (or overflow the stack)
//! on long runs of one class. These scanners look at each character a bounded number of times, and agree with
//! llama.cpp's own (`unicode_regex_split_custom_*`) everywhere.

use super::error::{TextError, shown};
use super::unicode::{Class, class_of};

/// A way of splitting text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// Every `\p{N}` alone, then as [`Scheme::Gpt2`] between them.
    SmolLm,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3 {
        /// The n in `\p{N}{1,n}`.
        max_digits: usize,
    },
    /// Runs of `[\p{P}$+<=>^~|]`, then as [`Scheme::Gpt2`], then runs of `\p{N}`, then `[0-9][0-9][0-9]`.
    Default,
}

/// What `tokenizer.ggml.pre` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    pub(super) scheme: Scheme,
    /// A word that is a token as a whole is taken without merging.
    pub(super) ignore_merges: bool,
    /// Whether a begin token is written where the file does not say.
    pub(super) add_bos: bool,
}

const LLAMA3: Scheme = Scheme::Llama3 { max_digits: 3 };
const QWEN2: Scheme = Scheme::Llama3 { max_digits: 1 };

/// Names, their scheme, `ignore_merges`, `add_bos`: from llama.cpp's `llama_vocab::impl::load`.
const NAMES: &[(&[&str], Scheme, bool, bool)] = &[
    (&["default"], Scheme::Default, false, false),
    (&["gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "modern-bert"], Scheme::Gpt2, false, false),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        Scheme::SmolLm,
        false,
        false,
    ),
    (&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], LLAMA3, true, true),
    (&["dbrx", "smaug-bpe"], LLAMA3, false, false),
    (&["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"], QWEN2, false, false),
];

impl PreTokenizer {
    /// The pre-tokenizer that `tokenizer.ggml.pre` names; a file without a name gets `default`, as in llama.cpp.
    pub(super) fn from_name(name: Option<&str>) -> Result<Self, TextError> {
        let name = name.unwrap_or("default");
        let entry = NAMES.iter().find(|(names, ..)| names.contains(&name));
        let Some(&(_, scheme, ignore_merges, add_bos)) = entry else {
            let known = NAMES.iter().flat_map(|(names, ..)| *names).copied().collect::<Vec<_>>().join(", ");
            return Err(TextError::UnknownPreTokenizer { name: shown(name), known });
        };
        Ok(Self { scheme, ignore_merges, add_bos })
    }

    /// The words of `text`, in order; joined they are `text`.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut words = Vec::with_capacity(text.len() / 4 + 1);
        match self.scheme {
            Scheme::Gpt2 => gpt2_words(text, &mut words),
            Scheme::Llama3 { max_digits } => llama3_words(text, max_digits, &mut words),
            Scheme::SmolLm => {
                for piece in isolate(text, 1, |c| class_of(c) == Class::Number) {
                    gpt2_words(piece, &mut words);
                }
            }
            Scheme::Default => {
                let is_punctuation =
                    |c| class_of(c) == Class::Punctuation || matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|');
                let mut first = Vec::new();
                for piece in isolate(text, usize::MAX, is_punctuation) {
                    gpt2_words(piece, &mut first);
                }
                for word in first {
                    for piece in isolate(word, usize::MAX, |c| class_of(c) == Class::Number) {
                        words.extend(three_digits(piece));
                    }
                }
            }
        }
        words
    }
}

/// Cuts runs of up to `longest` characters that satisfy `matches` out of `text`; what lies between is kept.
fn isolate(text: &str, longest: usize, matches: impl Fn(char) -> bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut run, mut inside) = (0, 0, false);
    for (at, c) in text.char_indices() {
        let matched = matches(c);
        if at > start && (matched != inside || (matched && run >= longest)) {
            pieces.push(&text[start..at]);
            (start, run) = (at, 0);
        }
        inside = matched;
        run += 1;
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

/// Cuts `text` at each match of `[0-9][0-9][0-9]`, from the left.
fn three_digits(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at + 3 <= bytes.len() {
        if bytes[at..at + 3].iter().all(u8::is_ascii_digit) {
            if start < at {
                pieces.push(&text[start..at]);
            }
            pieces.push(&text[at..at + 3]);
            at += 3;
            start = at;
        } else {
            at += 1;
        }
    }
    if start < bytes.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

/// Looks at the characters of a text by byte position. Positions are always at the start of a character.
struct Scanner<'a> {
    text: &'a str,
}

impl Scanner<'_> {
    fn char_at(&self, at: usize) -> Option<char> {
        self.text.get(at..).and_then(|rest| rest.chars().next())
    }

    fn class_at(&self, at: usize) -> Option<Class> {
        self.char_at(at).map(class_of)
    }

    /// The end of the run of characters from `at` that satisfy `matches`.
    fn run(&self, at: usize, matches: impl Fn(char) -> bool) -> usize {
        let rest = self.text.get(at..).unwrap_or("");
        at + rest.find(|c| !matches(c)).unwrap_or(rest.len())
    }

    /// The end of `'s|'t|'re|'ve|'m|'ll|'d` at `at`; `fold` ignores case.
    fn contraction(&self, at: usize, fold: bool) -> Option<usize> {
        let rest = self.text.as_bytes().get(at..)?;
        if rest.first() != Some(&b'\'') {
            return None;
        }
        let letter = |i: usize| rest.get(i).map_or(0, |b| if fold { b.to_ascii_lowercase() } else { *b });
        match (letter(1), letter(2)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
            (b'r' | b'v', b'e') | (b'l', b'l') => Some(at + 3),
            _ => None,
        }
    }

    /// The end of `\s+(?!\S)|\s+` at `at`: all white space, but the last one is left to a word that follows.
    fn spaces(&self, at: usize) -> usize {
        let end = self.run(at, char::is_whitespace);
        if end == self.text.len() {
            return end;
        }
        let last = self.text[at..end].char_indices().next_back().map_or(0, |(offset, _)| offset);
        if last == 0 { end } else { at + last }
    }
}

fn is_other(c: char) -> bool {
    matches!(class_of(c), Class::Punctuation | Class::Other)
}

fn gpt2_words<'a>(text: &'a str, words: &mut Vec<&'a str>) {
    let scan = Scanner { text };
    let mut at = 0;
    while let Some(c) = scan.char_at(at) {
        // ` ?` in front of the next three alternatives.
        let body = if c == ' ' { at + 1 } else { at };
        let end = if let Some(end) = scan.contraction(at, false) {
            end
        } else {
            match scan.class_at(body) {
                Some(Class::Letter) => scan.run(body, |c| class_of(c) == Class::Letter),
                Some(Class::Number) => scan.run(body, |c| class_of(c) == Class::Number),
                Some(Class::Punctuation | Class::Other) => scan.run(body, is_other),
                Some(Class::Space) | None => scan.spaces(at),
            }
        };
        words.push(&text[at..end]);
        at = end;
    }
}

fn llama3_words<'a>(text: &'a str, max_digits: usize, words: &mut Vec<&'a str>) {
    let scan = Scanner { text };
    let mut at = 0;
    while let Some(c) = scan.char_at(at) {
        let end = llama3_word(&scan, at, c, max_digits);
        words.push(&text[at..end]);
        at = end;
    }
}

/// The end of the word that begins at `at` with `c`.
fn llama3_word(scan: &Scanner<'_>, at: usize, c: char, max_digits: usize) -> usize {
    if let Some(end) = scan.contraction(at, true) {
        return end;
    }
    let class = class_of(c);
    let next = at + c.len_utf8();
    let is_letter = |c| class_of(c) == Class::Letter;
    let is_newline = |c| c == '\r' || c == '\n';
    // [^\r\n\p{L}\p{N}]?\p{L}+
    if class == Class::Letter
        || (class != Class::Number && !is_newline(c) && scan.class_at(next) == Some(Class::Letter))
    {
        return scan.run(next, is_letter);
    }
    // \p{N}{1,n}
    if class == Class::Number {
        let rest = scan.text.get(at..).unwrap_or("");
        let digits = rest.chars().take(max_digits).take_while(|&c| class_of(c) == Class::Number);
        return at + digits.map(char::len_utf8).sum::<usize>();
    }
    //  ?[^\s\p{L}\p{N}]+[\r\n]*
    let body = if c == ' ' { next } else { at };
    if matches!(scan.class_at(body), Some(Class::Punctuation | Class::Other)) {
        return scan.run(scan.run(body, is_other), is_newline);
    }
    // \s*[\r\n]+: up to the last line break of the white space.
    let blank = scan.run(at, char::is_whitespace);
    if let Some(last) = scan.text[at..blank].rfind(is_newline) {
        return at + last + 1;
    }
    scan.spaces(at)
}

#[cfg(test)]
mod tests {
    use super::PreTokenizer;

    fn split<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        PreTokenizer::from_name(Some(name)).expect("a known name").split(text)
    }

    #[test]
    fn words_of_each_scheme() {
        let text = "I'LL  see  1234\t\n \nx=y's";
        assert_eq!(
            split("gpt-2", text),
            ["I", "'", "LL", " ", " see", " ", " 1234", "\t\n ", "\n", "x", "=", "y", "'s"]
        );
        assert_eq!(
            split("smollm", text),
            ["I", "'", "LL", " ", " see", "  ", "1", "2", "3", "4", "\t\n ", "\n", "x", "=", "y", "'s"]
        );
        assert_eq!(
            split("llama-bpe", text),
            ["I", "'LL", " ", " see", " ", " ", "123", "4", "\t\n \n", "x", "=y", "'s"]
        );
        assert_eq!(
            split("default", text),
            ["I", "'", "LL", " ", " see", " ", " ", "123", "4", "\t\n ", "\n", "x", "=", "y", "'", "s"]
        );
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let error = PreTokenizer::from_name(Some("tekken")).expect_err("not supported").to_string();
        assert!(error.contains("tekken") && error.contains("smollm") && error.contains("llama-bpe"), "{error}");
    }
}
