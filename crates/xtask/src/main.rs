//! `cargo xtask`: the one way to run anything in this repository. It builds in seconds and knows what the rest needs:
//! a Vulkan driver, the model of the tests, a compiler for WebAssembly.
#![expect(clippy::print_stdout, reason = "a program for the terminal: its lines are its output")]

mod bench;
mod cache;
mod cargo_output;
mod chat;
mod demo;
mod desktop;
mod error;
mod machine;
mod model;
mod package;
mod peers;
mod process;
mod setup;
mod test_programs;
mod test_run;
mod wasm;
mod web;

use std::process::ExitCode;

use error::{Error, Result};

/// A subcommand: its name, what `help` says about it, and what it does with the arguments that follow.
struct Subcommand {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "setup",
        usage: "setup",
        about: "look for a Vulkan driver; install Mesa's where there is none",
        run: |rest| no_arguments("setup", rest).and_then(|()| setup::run()),
    },
    Subcommand {
        name: "model",
        usage: "model [--qwen]",
        about: "fetch and check SmolLM2-135M-Instruct Q4_1 (94 MiB, kept in the cache folder), or Qwen2.5-Coder-0.5B-Instruct (469 MiB)",
        run: model::run,
    },
    Subcommand {
        name: "chat",
        usage: "chat [-- ARGS]",
        about: "set up, then talk to the model; ARGS go to `adapter-cli chat` (built without training until that is asked for)",
        run: chat::run,
    },
    Subcommand {
        name: "finetune",
        usage: "finetune [-- ARGS]",
        about: "set up, then teach an adapter; ARGS go to `adapter-cli finetune` (the first time builds training)",
        run: chat::finetune,
    },
    Subcommand {
        name: "desktop",
        usage: "desktop [-- ARGS]",
        about: "set up, then open the window; ARGS go to `adapter-desktop`",
        run: desktop::run,
    },
    Subcommand {
        name: "web",
        usage: "web [--build-only] [--fast] [--port N]",
        about: "build the browser page and serve it on this machine (--build-only: into web/dist; --fast: for tests, large)",
        run: web::run,
    },
    Subcommand {
        name: "test",
        usage: "test [--only NAME]",
        about: "set up, then every test, the formatting, clippy and the page in Chromium; the slowest ten are listed",
        run: test_run::run,
    },
    Subcommand {
        name: "check-wasm",
        usage: "check-wasm",
        about: "compile the engine for the browser (type check only)",
        run: |rest| no_arguments("check-wasm", rest).and_then(|()| wasm::check()),
    },
    Subcommand {
        name: "bench",
        usage: "bench [--train|--web|--growth|--table] [--peers] [--repeat N]",
        about: "measure decode, training, the browser or the cost of length, beside peers; --table: the README's figures",
        run: bench::run,
    },
    Subcommand {
        name: "synthetic-model",
        usage: "synthetic-model --shape 7b --type q4_0 --out FILE",
        about: "write random weights in the shape of a model (tiny, tinyllama, llama-3.2-1b, llama-3.2-3b, 7b; q4_0, q4_k, q8_0)",
        run: bench::synthetic_model,
    },
    Subcommand {
        name: "demo-finetune",
        usage: "demo-finetune [--alpaca] [-- ARGS]",
        about: "teach the model its new name (or, with --alpaca, instructions) and show before and after",
        run: demo::run,
    },
    Subcommand {
        name: "help",
        usage: "help",
        about: "print this list",
        run: |_| {
            print!("{}", help());
            Ok(())
        },
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = match args.first().map(String::as_str) {
        None | Some("-h" | "--help") => "help",
        Some(name) => name,
    };
    let rest = args.get(1..).unwrap_or_default();
    let result = if rest.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h") {
        print!("{}", help());
        Ok(())
    } else if let Some(subcommand) = SUBCOMMANDS.iter().find(|subcommand| subcommand.name == name) {
        (subcommand.run)(rest)
    } else {
        let names: Vec<_> = SUBCOMMANDS.iter().map(|subcommand| subcommand.name).collect();
        Err(Error::usage(format!("there is no subcommand {name:?}; there are: {}", names.join(", "))))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The list that `help` prints.
fn help() -> String {
    let width = SUBCOMMANDS.iter().map(|subcommand| subcommand.usage.len()).max().unwrap_or_default();
    let lines = SUBCOMMANDS.iter().map(|subcommand| format!("  {:width$}  {}\n", subcommand.usage, subcommand.about));
    format!(
        "cargo xtask SUBCOMMAND\n\n{}\nFor `test --only`: {}\n",
        lines.collect::<String>(),
        test_run::part_names().join(", ")
    )
}

/// Refuses arguments where none are known.
fn no_arguments(name: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(arg) => Err(Error::usage(format!("`cargo xtask {name}` takes no argument, got {arg:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_subcommand_on_a_line_of_its_own() {
        let help = help();
        for subcommand in SUBCOMMANDS {
            let line = help.lines().find(|line| line.trim_start().starts_with(subcommand.usage));
            assert!(line.is_some_and(|line| line.ends_with(subcommand.about)), "{}", subcommand.name);
        }
    }

    #[test]
    fn a_stray_argument_is_wrong_use() {
        assert!(no_arguments("model", &[]).is_ok());
        let error = no_arguments("model", &["--fast".to_owned()]).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--fast"), "{error}");
    }
}
