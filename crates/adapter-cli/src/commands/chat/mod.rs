//! `chat`: a conversation at a prompt, or a line at a time through a pipe.

mod command;
mod conversation;
mod flags;
mod prompt;
mod settings;
mod transcript;

use std::io::{self, Write};

use command::Typed;
use conversation::Conversation;
pub use flags::Chat;
use prompt::{Ask, Line, Prompt};

use crate::failure::Failure;
use crate::flags::Global;
use crate::output;

/// Runs the command. At a terminal a mistake is explained and the chat goes on; through a pipe it goes on, too, and the
/// exit code is 1 at the end.
///
/// # Errors
/// A model or adapter that cannot be used, or the first failure that ends a chat.
pub fn run(global: &Global, flags: &Chat) -> Result<(), Failure> {
    let mut conversation = Conversation::start(global, flags)?;
    let mut prompt = Prompt::open(!flags.no_history)?;
    if prompt.is_terminal() {
        output::note(&conversation.greeting());
    }
    let mut something_failed = false;
    loop {
        let line = match prompt.read(Ask::New)? {
            Line::Text(line) => line,
            Line::Interrupted => {
                output::note("Ctrl+D or /bye leaves.");
                continue;
            }
            Line::End => break,
        };
        let typed = match command::parse(&line) {
            Ok(Typed::Bye) => break,
            Ok(Typed::Open(first)) => match read_rest(&mut prompt, first)? {
                Some(message) => Ok(Typed::Message(message)),
                None => continue,
            },
            typed => typed,
        };
        let outcome = match typed {
            Ok(Typed::Empty) => continue,
            Ok(typed) => {
                match &typed {
                    Typed::Message(text) if text.contains('\n') => prompt.remember(&format!("\"\"\"{text}\"\"\"")),
                    _ => prompt.remember(&line),
                }
                obey(&mut conversation, typed)
            }
            Err(message) => {
                prompt.remember(&line);
                Err(Failure::failed(message, "/? lists the commands"))
            }
        };
        match outcome {
            Ok(()) => {}
            Err(Failure::ClosedPipe) => return Err(Failure::ClosedPipe),
            // Ctrl+C while something was loaded: back to the prompt.
            Err(Failure::Interrupted) => output::note("Stopped."),
            Err(failure) => {
                failure.say();
                something_failed = true;
            }
        }
    }
    if something_failed && !prompt.is_terminal() { Err(Failure::Reported) } else { Ok(()) }
}

/// The lines of a message up to the closing quotes; `None` when it was given up.
fn read_rest(prompt: &mut Prompt, first: String) -> Result<Option<String>, Failure> {
    let mut lines = if first.is_empty() { Vec::new() } else { vec![first] };
    loop {
        match prompt.read(Ask::More)? {
            Line::Interrupted => return Ok(None),
            Line::End => break,
            Line::Text(line) => match line.trim_end().strip_suffix("\"\"\"") {
                Some("") => break,
                Some(last) => {
                    lines.push(last.to_owned());
                    break;
                }
                None => lines.push(line),
            },
        }
    }
    let message = lines.join("\n");
    Ok(Some(message).filter(|message| !message.trim().is_empty()))
}

fn obey(conversation: &mut Conversation<'_>, typed: Typed) -> Result<(), Failure> {
    match typed {
        Typed::Message(text) => conversation.send(text),
        Typed::Regen => conversation.regenerate(),
        Typed::Clear => {
            conversation.clear();
            output::note("A new conversation.");
            Ok(())
        }
        Typed::Set(Some((name, value))) => conversation.set(&name, &value),
        Typed::Set(None) => say(&conversation.settings_lines()),
        Typed::Show(what) => say(&conversation.describe(what)),
        Typed::Adapter(command) => say(&conversation.adapter(command)?),
        Typed::Save(path) => conversation.save(&path),
        Typed::Load(path) => conversation.load(&path),
        Typed::Help => say(&[command::HELP.to_owned()]),
        // Handled by the loop.
        Typed::Empty | Typed::Open(_) | Typed::Bye => Ok(()),
    }
}

fn say(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(())
}
