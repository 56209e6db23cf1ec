//! `cargo xtask chat`: from a fresh clone to a conversation; `cargo xtask finetune`: to a training.
//!
//! Training stands on burn, which takes longer to build than everything else together, so the program is built without it until
//! training is asked for.

use std::process::Command;

#[cfg(not(unix))]
use crate::error::Error;
use crate::error::Result;
use crate::{model, process, setup};

/// `cargo xtask chat [-- ARGS]`.
pub fn run(rest: &[String]) -> Result<()> {
    let args = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
    setup::ensure()?;
    let mut command = cli()?;
    command.arg("chat");
    if !names_a_model(args) && std::env::var_os("ADAPTER_MODEL").is_none() {
        command.arg("--model").arg(model::ensure()?);
    }
    command.args(args);
    replace_this_process(command)
}

/// `cargo xtask finetune [-- ARGS]`.
pub fn finetune(rest: &[String]) -> Result<()> {
    let args = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
    setup::ensure()?;
    let mut command = cli_with_training()?;
    // The program looks where this puts it; a run that goes on knows its model.
    let resumes = args.iter().any(|arg| arg.split('=').next() == Some("--resume"));
    if !resumes && !names_a_model(args) && std::env::var_os("ADAPTER_MODEL").is_none() {
        model::ensure()?;
    }
    command.arg("finetune").args(args);
    replace_this_process(command)
}

/// Builds the command line program and returns a command that starts it. It cannot train unless a program that can was built
/// before: then that one is kept up to date.
pub fn cli() -> Result<Command> {
    let mut cargo = process::cargo();
    cargo.args(BUILD);
    if !process::succeeds(cli_built()?.get_program(), &["finetune", "--help"]) {
        cargo.arg("--no-default-features");
    }
    process::run(&mut cargo)?;
    cli_built()
}

/// As [`cli`], with training in it.
pub fn cli_with_training() -> Result<Command> {
    process::run(process::cargo().args(BUILD))?;
    cli_built()
}

/// What cargo is asked for.
const BUILD: [&str; 4] = ["build", "--release", "--package", "adapter-cli"];

/// A command that starts the program [`cli`] or [`cli_with_training`] has built.
pub fn cli_built() -> Result<Command> {
    built("adapter-cli")
}

/// A command that starts a program of the release build.
pub fn built(name: &str) -> Result<Command> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let mut command = Command::new(process::target_folder().join("release").join(name));
    // Vulkan's drivers complain on standard error when this is unset, as it is on servers.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    Ok(command)
}

/// Whether the arguments already say which model to use.
fn names_a_model(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--model" || arg.starts_with("-m") || arg.starts_with("--model="))
}

/// Becomes the program: Ctrl+C, the window's size and the exit code are then its own business.
#[cfg(unix)]
pub fn replace_this_process(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(process::not_started(&command, &error))
}

/// Where a process cannot become another one, it waits and ends as the other does.
#[cfg(not(unix))]
pub fn replace_this_process(mut command: Command) -> Result<()> {
    let status = command.status().map_err(|error| process::not_started(&command, &error))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => Err(Error::failed(format!("`{}` ended with {status}", process::shown(&command)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_ones_own_replaces_the_fetched_one() {
        let args = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(names_a_model(&args("--adapter a.safetensors --model own.gguf")));
        assert!(names_a_model(&args("--model=own.gguf")));
        assert!(names_a_model(&args("-mown.gguf")));
        assert!(!names_a_model(&args("--adapter model.safetensors")));
    }

    /// What a fresh clone builds before its first answer.
    #[test]
    fn the_chat_is_built_without_burn() {
        let tree = |features: &[&str]| {
            let mut cargo = process::cargo();
            cargo
                .args(["tree", "--offline", "--locked", "--package", "adapter-cli", "--prefix", "none"])
                .args(features);
            process::output(&mut cargo).expect("cargo knows the tree")
        };
        let heavy = |tree: &str| tree.lines().any(|line| line.starts_with("burn") || line.starts_with("cubecl"));
        assert!(heavy(&tree(&[])), "training needs burn");
        let chat = tree(&["--no-default-features"]);
        assert!(chat.contains("adapter-engine") && !heavy(&chat), "{chat}");
    }
}
