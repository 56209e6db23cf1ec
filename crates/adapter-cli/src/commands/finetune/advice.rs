//! What to do next, in the words of this program: errors of training name no flags.

use std::path::Path;

use adapter_finetune::run_folder::{CONFIG, LAST};
use adapter_finetune::{RunSettings, TrainError};

use crate::failure::Failure;
use crate::output::quoted;

/// The sentence and the next step for an error of a training: with its paths and flags where [`crate::advice`] has none.
pub fn advice(error: &TrainError) -> Failure {
    let failure = Failure::advised(error, error.code(), error.hint().as_deref());
    let hint = match error {
        TrainError::Setting { field, found, wanted } => return setting(field, found, wanted, error.to_string()),
        TrainError::RunExists { path } => format!(
            "go on with it (`adapter-cli finetune --resume {}`), or take another folder (--out)",
            quoted(Path::new(path))
        ),
        TrainError::NoCheckpoint { path } => format!(
            "begin a new run in another folder, with the adapter in this one: --adapter {} --out NEW",
            quoted(Path::new(path))
        ),
        _ => return failure,
    };
    Failure::failed(error.to_string(), hint)
}

/// What is wrong with a flag, and what to write instead.
fn setting(field: &str, found: &str, wanted: &str, message: String) -> Failure {
    let flag = format!("--{field} is {found}, it must be {wanted}");
    match field {
        "f16" => Failure::wrong_use("--backend cpu computes in f32", "leave --f16 out, or train on a GPU"),
        "adapter-layers" => {
            let most: String = wanted.trim_start_matches("1 to ").chars().take_while(char::is_ascii_digit).collect();
            Failure::wrong_use(format!("--adapter-layers {found} must be {wanted}"), format!("give at most {most}"))
        }
        "patience" => {
            Failure::wrong_use(flag, "keep rows for validation with --val-split or --val, or leave --patience out")
        }
        "sample" => Failure::wrong_use(flag, "ask something shorter, or a shorter answer with --sample-tokens"),
        "set" => Failure::wrong_use(flag, "for instance --set name=Nova"),
        words if words.contains(' ') => Failure::wrong_use(message, "see `adapter-cli finetune --help`"),
        _ => Failure::wrong_use(flag, "see `adapter-cli finetune --help`"),
    }
}

/// A run that diverged begins again from where it was good: another rate is another run.
pub fn after_divergence(failure: Failure, folder: &Path, settings: &RunSettings) -> Failure {
    let Failure::Failed { message, .. } = failure else { return failure };
    let last = folder.join(LAST);
    let adapter = if last.is_file() { format!(" --adapter {}", quoted(&last)) } else { String::new() };
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push("-again");
    let hint = format!(
        "take a lower learning rate: adapter-cli finetune --config {}{adapter} --out {} --lr {}",
        quoted(&folder.join(CONFIG)),
        quoted(&folder.with_file_name(name)),
        settings.recipe.learning_rate / 2.0,
    );
    Failure::failed(message, hint)
}
