//! What is typed at the prompt: messages and commands.

use std::path::PathBuf;

use adapter_engine::adapter::GateKind;

use crate::flags;

/// All commands, for completion and for telling a mistyped one.
pub const NAMES: [&str; 10] =
    ["/help", "/?", "/set", "/show", "/adapter", "/regen", "/clear", "/save", "/load", "/bye"];

/// What `/?` prints.
pub const HELP: &str = "\
  /set NAME VALUE        change a setting; /set alone lists them
  /show [WHAT]           settings, model, adapter or messages
  /adapter PATH [KIND]   load and use an adapter; KIND: paper, linear, peft
  /adapter NAME          use a loaded one again
  /adapter on|off|0.5    switch it, or set its strength (0 off, 1 as trained, 2 twice)
  /adapter list          adapters that are loaded
  /regen                 another answer to the last message
  /clear                 a new conversation
  /save FILE             write the conversation as JSON
  /load FILE             go on with a saved one
  /help, /?              this
  /bye                   leave (or Ctrl+D)

  \"\"\" begins and ends a message of several lines. Ctrl+C stops an answer.
  A message that begins with / needs a space before it.";

/// One thing typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// Nothing.
    Empty,
    /// Something for the model.
    Message(String),
    /// A message of several lines has begun; its first line.
    Open(String),
    /// `/help`
    Help,
    /// `/set` and what follows.
    Set(Option<(String, String)>),
    /// `/show`
    Show(Show),
    /// `/adapter`
    Adapter(AdapterCommand),
    /// `/regen`
    Regen,
    /// `/clear`
    Clear,
    /// `/save`
    Save(PathBuf),
    /// `/load`
    Load(PathBuf),
    /// `/bye`
    Bye,
}

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Everything but the messages.
    All,
    /// Sampling and the like.
    Settings,
    /// Sizes and speed.
    Model,
    /// Gates and strength.
    Adapter,
    /// The conversation.
    Messages,
}

/// What to do with adapters.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterCommand {
    /// Those that are loaded.
    List,
    /// Back on.
    On,
    /// The base model.
    Off,
    /// On, with this strength.
    Strength(f32),
    /// A loaded one by name, or one to load.
    Use { name: String, kind: Option<GateKind> },
}

/// Understands a line.
///
/// # Errors
/// A sentence about what is wrong with a command.
pub fn parse(line: &str) -> Result<Typed, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    if let Some(rest) = line.strip_prefix("\"\"\"") {
        return Ok(match rest.trim_end().strip_suffix("\"\"\"") {
            Some(message) => Typed::Message(message.to_owned()),
            None => Typed::Open(rest.to_owned()),
        });
    }
    if !line.starts_with('/') {
        let message = line.trim();
        return Ok(if message.is_empty() { Typed::Empty } else { Typed::Message(message.to_owned()) });
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let file = |command: fn(PathBuf) -> Typed| match rest {
        "" => Err(format!("{name} needs a file: {name} FILE")),
        path => Ok(command(PathBuf::from(unquoted(path)))),
    };
    match name {
        "/help" | "/?" => Ok(Typed::Help),
        "/regen" => Ok(Typed::Regen),
        "/clear" => Ok(Typed::Clear),
        "/bye" | "/exit" | "/quit" => Ok(Typed::Bye),
        "/save" => file(Typed::Save),
        "/load" => file(Typed::Load),
        "/set" => match rest.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(Typed::Set(Some((name.to_owned(), value.trim().to_owned())))),
            None if rest.is_empty() => Ok(Typed::Set(None)),
            None => Ok(Typed::Set(Some((rest.to_owned(), String::new())))),
        },
        "/show" => Ok(Typed::Show(match rest {
            "" => Show::All,
            "settings" => Show::Settings,
            "model" => Show::Model,
            "adapter" => Show::Adapter,
            "messages" => Show::Messages,
            _ => return Err("/show knows settings, model, adapter and messages".to_owned()),
        })),
        "/adapter" => adapter(rest).map(Typed::Adapter),
        _ => Err(format!("there is no command {name}")),
    }
}

fn adapter(rest: &str) -> Result<AdapterCommand, String> {
    match rest {
        "" | "list" => return Ok(AdapterCommand::List),
        "on" => return Ok(AdapterCommand::On),
        "off" => return Ok(AdapterCommand::Off),
        _ => {}
    }
    if rest.parse::<f32>().is_ok() {
        return flags::strength(rest)
            .map(AdapterCommand::Strength)
            .map_err(|range| format!("the strength must be {range}"));
    }
    let kind = |word: &str| GateKind::from_name(word);
    // Paths may hold spaces; only a kind at the end is taken off.
    let (name, kind) = match rest.rsplit_once(char::is_whitespace).and_then(|(path, word)| Some((path, kind(word)?))) {
        Some((path, kind)) => (path.trim_end(), Some(kind)),
        None => (rest, None),
    };
    Ok(AdapterCommand::Use { name: unquoted(name).to_owned(), kind })
}

/// Without the quotes that a terminal puts around a dropped file's path.
fn unquoted(text: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(name: &str, kind: Option<GateKind>) -> Result<Typed, String> {
        Ok(Typed::Adapter(AdapterCommand::Use { name: name.to_owned(), kind }))
    }

    #[test]
    fn messages_are_told_from_commands() {
        assert_eq!(parse("  hello "), Ok(Typed::Message("hello".to_owned())));
        assert_eq!(parse(" /etc is a folder"), Ok(Typed::Message("/etc is a folder".to_owned())));
        assert_eq!(parse("\r\n"), Ok(Typed::Empty));
        assert_eq!(parse("/?"), Ok(Typed::Help));
        assert_eq!(parse("/bye "), Ok(Typed::Bye));
        assert_eq!(parse("/etc"), Err("there is no command /etc".to_owned()));
    }

    #[test]
    fn three_quotes_open_and_close() {
        assert_eq!(parse("\"\"\"one line\"\"\""), Ok(Typed::Message("one line".to_owned())));
        assert_eq!(parse("\"\"\"first"), Ok(Typed::Open("first".to_owned())));
        assert_eq!(parse("\"\"\""), Ok(Typed::Open(String::new())));
    }

    #[test]
    fn settings_keep_the_spaces_of_their_value() {
        let set = |name: &str, value: &str| Ok(Typed::Set(Some((name.to_owned(), value.to_owned()))));
        assert_eq!(parse("/set temperature 0.5"), set("temperature", "0.5"));
        assert_eq!(parse("/set system  You are  terse."), set("system", "You are  terse."));
        assert_eq!(parse("/set seed"), set("seed", ""));
        assert_eq!(parse("/set"), Ok(Typed::Set(None)));
    }

    #[test]
    fn adapters_are_switched_weighed_or_named() {
        assert_eq!(parse("/adapter"), Ok(Typed::Adapter(AdapterCommand::List)));
        assert_eq!(parse("/adapter off"), Ok(Typed::Adapter(AdapterCommand::Off)));
        assert_eq!(parse("/adapter 0.5"), Ok(Typed::Adapter(AdapterCommand::Strength(0.5))));
        assert!(parse("/adapter 3").is_err_and(|error| error.contains("from 0 (off)")));
        assert!(parse("/adapter nan").is_err());
        assert_eq!(parse("/adapter my adapters/one"), used("my adapters/one", None));
        assert_eq!(parse("/adapter 'a b.safetensors' paper"), used("a b.safetensors", Some(GateKind::PAPER)));
    }

    #[test]
    fn files_are_asked_for() {
        assert_eq!(parse("/save \"my chat.json\""), Ok(Typed::Save("my chat.json".into())));
        assert_eq!(parse("/load"), Err("/load needs a file: /load FILE".to_owned()));
        assert_eq!(parse("/show adapter"), Ok(Typed::Show(Show::Adapter)));
        assert!(parse("/show me").is_err());
    }
}
