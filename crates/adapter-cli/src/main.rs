//! `adapter-cli`: the engine in a terminal.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. What a command has to say goes to standard output, what
//! is said about it (progress, warnings, errors) to standard error.
#![cfg_attr(
    not(feature = "train"),
    allow(dead_code, reason = "what only training uses stands beside what everything uses")
)]

mod advice;
mod answer;
mod cli;
mod commands;
mod failure;
mod flags;
mod interrupt;
mod load;
mod output;
mod printable;
#[cfg(feature = "train")]
mod train_failure;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    adapter_host::surroundings::quiet_driver();
    let arguments: Vec<_> = std::env::args_os().collect();
    let outcome = match cli::Cli::try_parse_from(&arguments) {
        Ok(cli) => commands::run(&cli.command, &cli.global),
        Err(error) => cli::explain(&error, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
