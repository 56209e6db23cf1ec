//! The commands, one file each.

mod bench;
mod chat;
mod debug;
mod doctor;
mod export;
#[cfg(feature = "train")]
mod finetune;
mod generate;
mod inspect;
mod inspect_adapter;
mod merge;
#[cfg(any(not(feature = "train"), test))]
mod no_training;
mod synthetic_model;

#[cfg(not(feature = "train"))]
use no_training as finetune;

pub use finetune::Finetune;

use crate::failure::Failure;
use crate::flags::{Cli, Command, Debug};

/// Runs what was asked for.
///
/// # Errors
/// What the command says.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Chat(flags) => chat::run(&cli.global, flags),
        Command::Generate(flags) => generate::run(&cli.global, flags),
        Command::Finetune(flags) => finetune::run(&cli.global, flags),
        Command::Bench(flags) => bench::run(&cli.global, flags),
        Command::Inspect(flags) => inspect::run(&cli.global, flags),
        Command::Export(flags) => export::run(flags),
        Command::Merge(flags) => merge::run(flags),
        Command::Doctor => doctor::run(&cli.global),
        Command::Debug(Debug::Tokenize(flags)) => debug::tokenize(flags),
        Command::Debug(Debug::Logits(flags)) => debug::logits(&cli.global, flags),
        Command::Debug(Debug::Gradients(flags)) => debug::gradients(&cli.global, flags),
        Command::Debug(Debug::SyntheticModel(flags)) => synthetic_model::run(flags),
    }
}
