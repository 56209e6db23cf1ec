//! The commands, one file each.

mod bench;
mod chat;
mod debug;
mod doctor;
mod encode;
mod export;
#[cfg(feature = "train")]
pub mod finetune;
mod generate;
mod inspect;
mod inspect_adapter;
mod merge;
#[cfg(any(not(feature = "train"), test))]
mod no_training;
mod synthetic_model;

use clap::Subcommand;
#[cfg(not(feature = "train"))]
use no_training as finetune;

use crate::failure::Failure;
use crate::flags::Global;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Talk to a model, with or without an adapter
    Chat(Box<chat::Chat>),
    /// Answer one prompt from -p or standard input
    Generate(Box<generate::Generate>),
    /// Teach an adapter from rows of examples
    Finetune(Box<finetune::Finetune>),
    /// Measure reading (pp) and writing (tg) speed, in tokens per second
    Bench(bench::Bench),
    /// Show what is in a model or adapter file, and where a broken one breaks
    Inspect(inspect::Inspect),
    /// Write an adapter in another form: a PEFT folder, .safetensors or .gguf
    Export(export::Export),
    /// Write a model and an adapter as one GGUF file
    Merge(merge::Merge),
    /// Show the GPUs of this machine and check the one that will be used
    Doctor,
    /// Tools for comparing with other programs
    #[command(subcommand)]
    Debug(Debug),
}

/// `debug`
#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Token ids of a text as a JSON array; control tokens written in it count
    Tokenize(debug::Tokenize),
    /// Logits of given token ids as a safetensors file
    Logits(debug::Logits),
    /// Loss and gradients of an adapter's prompts and gates as a safetensors file
    Gradients(debug::Gradients),
    /// Tokens of a picture or a sentence behind the blocks of an encoder as a safetensors file
    Encode(encode::Encode),
    /// A model file of a known shape with random weights, for measuring and for predicting memory
    SyntheticModel(synthetic_model::SyntheticModel),
}

/// Runs what was asked for.
///
/// # Errors
/// What the command says.
pub fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Chat(flags) => chat::run(global, flags),
        Command::Generate(flags) => generate::run(global, flags),
        Command::Finetune(flags) => finetune::run(global, flags),
        Command::Bench(flags) => bench::run(global, flags),
        Command::Inspect(flags) => inspect::run(global, flags),
        Command::Export(flags) => export::run(flags),
        Command::Merge(flags) => merge::run(flags),
        Command::Doctor => doctor::run(global),
        Command::Debug(Debug::Tokenize(flags)) => debug::tokenize(flags),
        Command::Debug(Debug::Logits(flags)) => debug::logits(global, flags),
        Command::Debug(Debug::Gradients(flags)) => debug::gradients(global, flags),
        Command::Debug(Debug::Encode(flags)) => encode::run(global, flags),
        Command::Debug(Debug::SyntheticModel(flags)) => synthetic_model::run(flags),
    }
}
