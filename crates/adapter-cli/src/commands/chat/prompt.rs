//! Where lines come from: a terminal with history and editing, or a pipe.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;

use adapter_host::folders;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, Config, Context, Editor, Helper};

use super::command;
use crate::failure::Failure;
use crate::output;

/// Lines that are kept for the next time.
const HISTORY_LINES: usize = 1000;
/// The longest line of a pipe.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end.
    Text(String),
    /// Ctrl+C at the prompt.
    Interrupted,
    /// Ctrl+D, or the end of the pipe.
    End,
}

/// Which prompt to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A new message.
    New,
    /// The next line of a message.
    More,
}

/// A source of lines.
pub enum Prompt {
    /// People.
    Terminal {
        /// Line editing.
        editor: Box<Editor<Assistance, DefaultHistory>>,
        /// Where lines are kept.
        history: Option<PathBuf>,
    },
    /// Programs.
    Pipe,
}

impl Prompt {
    /// The terminal if both ends are one, else a pipe.
    ///
    /// # Errors
    /// A terminal that cannot be used.
    pub fn open(keep_history: bool) -> Result<Self, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Pipe);
        }
        let color = if output::colour() { ColorMode::Enabled } else { ColorMode::Disabled };
        let config = Config::builder().color_mode(color).auto_add_history(false);
        let config = config.max_history_size(HISTORY_LINES).map_err(unusable)?.build();
        let mut editor = Editor::with_config(config).map_err(unusable)?;
        editor.set_helper(Some(Assistance { files: FilenameCompleter::new(), ask: Ask::New }));
        let history = folders::data().filter(|_| keep_history).and_then(|folder| {
            folders::make_private(&folder).ok()?;
            Some(folder.join("chat_history"))
        });
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether people are typing.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, ask: Ask) -> Result<Line, Failure> {
        let Self::Terminal { editor, .. } = self else { return read_pipe(&mut io::stdin().lock()) };
        if let Some(helper) = editor.helper_mut() {
            helper.ask = ask;
        }
        match editor.readline(if ask == Ask::New { ">>> " } else { "... " }) {
            Ok(line) => Ok(Line::Text(line)),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            // The window changed its size while nothing was typed.
            Err(ReadlineError::Signal(_)) => Ok(Line::Text(String::new())),
            Err(error) => Err(unusable(error)),
        }
    }

    /// Keeps a line for the arrow keys, and on disk for the next time.
    pub fn remember(&mut self, line: &str) {
        if let Self::Terminal { editor, history } = self
            && editor.add_history_entry(line).unwrap_or(false)
            && let Some(path) = history
        {
            // A full disk costs the history, not the chat.
            let _ = editor.append_history(path);
        }
    }
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::failed(format!("the terminal cannot be used: {error}"), "give the messages on standard input instead")
}

fn read_pipe(input: &mut impl BufRead) -> Result<Line, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
    read.map_err(|error| Failure::failed(format!("cannot read standard input: {error}"), "check where it comes from"))?;
    if bytes.is_empty() {
        return Ok(Line::End);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Line::Text(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The grey words in an empty line, and completion with Tab.
pub struct Assistance {
    files: FilenameCompleter,
    ask: Ask,
}

/// A hint that is seen but cannot be taken over into the line.
pub struct Placeholder;

impl Hint for Placeholder {
    fn display(&self) -> &str {
        "Send a message (/? for help)"
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistance {
    type Hint = Placeholder;

    fn hint(&self, line: &str, _pos: usize, _context: &Context<'_>) -> Option<Placeholder> {
        (line.is_empty() && self.ask == Ask::New).then_some(Placeholder)
    }
}

impl Highlighter for Assistance {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\u{1b}[2m{hint}\u{1b}[0m"))
    }
}

impl Completer for Assistance {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if ["/adapter ", "/load ", "/save "].iter().any(|command| line.starts_with(command)) {
            return self.files.complete_path(line, pos);
        }
        let typed = line.get(..pos).unwrap_or(line);
        let fitting = command::NAMES.iter().filter(|name| typed.starts_with('/') && name.starts_with(typed));
        Ok((0, fitting.map(|name| Pair { display: (*name).to_owned(), replacement: (*name).to_owned() }).collect()))
    }
}

impl Validator for Assistance {}
impl Helper for Assistance {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gives_lines_and_then_ends() {
        let mut input = &b"one\r\ntwo\n\nthree \xff"[..];
        let mut next = || read_pipe(&mut input).expect("memory can be read");
        assert_eq!(next(), Line::Text("one".to_owned()));
        assert_eq!(next(), Line::Text("two".to_owned()));
        assert_eq!(next(), Line::Text(String::new()));
        assert_eq!(next(), Line::Text("three \u{fffd}".to_owned()));
        assert_eq!(next(), Line::End);
    }
}
