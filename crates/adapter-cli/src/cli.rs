//! The command line as a whole, and how wrong use of it is explained.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::commands::Command;
use crate::failure::Failure;
use crate::flags::Global;

/// Quantized LLaMA with zero-init attention adapters, on any GPU
#[derive(Debug, Parser)]
#[command(
    name = "adapter-cli",
    version,
    after_help = "Examples:
  adapter-cli chat                                 talk to the model `cargo xtask chat` fetched
  adapter-cli chat -m model.gguf -a my-adapter/    with a PEFT folder or .safetensors file
  adapter-cli generate -m model.gguf -p 'Why is the sky blue?' --json
  adapter-cli finetune --data rows.jsonl           teach an adapter from examples
  adapter-cli bench -m model.gguf                  tokens per second, as llama-bench has them
  adapter-cli doctor                               what this machine's GPUs can do

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Turns what clap has to say into help (printed, fine) or into wrong use in this program's words.
///
/// # Errors
/// [`Failure::WrongUse`], with the way out as the hint.
pub fn explain(error: &clap::Error, arguments: &[OsString]) -> Result<(), Failure> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return error.print().map_err(Failure::from);
    }
    let text = error.render().to_string();
    let one_line = |lines: &str| lines.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let message = one_line(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    let help = format!("`{} --help` lists what there is", command_of(arguments));
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure::wrong_use("no command is given", format!("start with `adapter-cli chat`; {help}")));
    }
    let hint = if tips.is_empty() { help } else { format!("{}; {help}", tips.join("; ")) };
    Err(Failure::wrong_use(message, hint))
}

/// The command that was meant, as far as it was written: `adapter-cli debug`.
fn command_of(arguments: &[OsString]) -> String {
    let root = Cli::command();
    let (mut command, mut name) = (&root, root.get_name().to_owned());
    for word in arguments.iter().skip(1) {
        let Some(found) = word.to_str().and_then(|word| command.find_subcommand(word)) else { break };
        command = found;
        name = format!("{name} {}", found.get_name());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapter_engine::adapter::GateKind;

    fn refusal(line: &str) -> String {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).expect_err("the line is wrong");
        match explain(&error, &arguments) {
            Err(Failure::WrongUse { message, hint }) => format!("{message} | {}", hint.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_use_names_the_way_out() {
        assert_eq!(
            refusal("adapter-cli generate --temprature 1"),
            "unexpected argument '--temprature' found | a similar argument exists: '--temperature'; \
             `adapter-cli generate --help` lists what there is"
        );
        assert!(refusal("adapter-cli chat --strength 3").contains("from 0 (off) over 1 (as trained) to 2"));
        assert!(refusal("adapter-cli debug tokenize").contains("--file <FILE>"));
        let gate = refusal("adapter-cli generate --gate flat");
        assert!(gate.contains("paper, linear, peft") && gate.contains("`adapter-cli generate --help`"), "{gate}");
    }

    #[test]
    fn sampling_out_of_range_is_refused() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).expect("the flags exist").command {
            Command::Generate(flags) => flags.sampling.sampling(),
            _ => panic!("not generate"),
        };
        assert!(matches!(parse("adapter-cli generate --temperature -1"), Err(Failure::WrongUse { .. })));
        assert!(matches!(parse("adapter-cli generate --top-p 0"), Err(Failure::WrongUse { .. })));
        let greedy = parse("adapter-cli generate --greedy --seed 3").expect("both are fine");
        assert_eq!((greedy.temperature.to_bits(), greedy.seed), (0, 3));
    }

    #[test]
    fn gates_have_the_engine_s_names() {
        let parse =
            |name: &str| Cli::try_parse_from(["adapter-cli", "generate", "--gate", name]).map(|cli| cli.command);
        for kind in GateKind::ALL {
            for name in [kind.name(), kind.old_name()] {
                match parse(name).expect("a kind of gates") {
                    Command::Generate(flags) => assert_eq!(flags.adapter.gate, Some(kind)),
                    _ => panic!("not generate"),
                }
            }
        }
        let wrong = parse("round").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(wrong.contains("paper, linear, peft, scalar-tanh"), "{wrong}");
    }
}
