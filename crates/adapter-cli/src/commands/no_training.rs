//! What `finetune` and `bench --train` say in a build without training: how to get one that has it.
#![cfg_attr(feature = "train", allow(dead_code, reason = "a build with training has its tests alone"))]

use std::ffi::OsString;

use clap::Args;

use crate::failure::Failure;
use crate::flags::Global;

/// `finetune`, whatever is asked of it: `--help` as well.
#[derive(Debug, Clone, Args)]
#[command(disable_help_flag = true)]
pub struct Finetune {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// Always: [`refusal`].
pub fn run(_: &Global, _: &Finetune) -> Result<(), Failure> {
    Err(refusal())
}

/// Why nothing is trained, and what to do.
pub fn refusal() -> Failure {
    Failure::failed(
        "this adapter-cli was built without training",
        "`cargo xtask finetune -- ARGS` builds it with training the first time (some minutes) and runs it; \
         `cargo build --release` builds all of adapter-cli, too",
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    enum Line {
        Finetune(Finetune),
    }

    #[test]
    fn whatever_is_asked_of_it_the_way_to_training_is_named() {
        for line in [
            "finetune",
            "finetune --help",
            "finetune -h",
            "finetune --data rows.jsonl --out x",
            "finetune -m a.gguf --resume x",
        ] {
            let Line::Finetune(_) = Line::try_parse_from(format!("adapter-cli {line}").split(' ')).expect(line);
        }
        let Failure::Failed { message, hint: Some(hint) } = refusal() else { panic!("not a failure with a hint") };
        assert!(message.contains("without training"), "{message}");
        assert!(hint.contains("`cargo xtask finetune -- ARGS`"), "{hint}");
    }
}
