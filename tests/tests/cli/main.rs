//! The command line as people and scripts use it: every refusal is a sentence with a next step and the right exit code,
//! and what is computed agrees with the golden files.
//!
//! The binary is the one beside this test: `cargo build -p adapter-cli` makes it (a build of the workspace does, too).

mod chat;
mod checkpoints;
mod computed;
mod finetune;
mod measured;
mod refused;
mod runs;
mod shown;
mod support;
