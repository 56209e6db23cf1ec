//! Flags over a file over defaults.

use std::path::{Path, PathBuf};

use adapter_finetune::{RunOptions, run_folder};

use super::flags::Finetune;
use crate::failure::Failure;
use crate::load;

impl Finetune {
    /// The flags with the file of `--config`, or that of the run to go on with, under them.
    ///
    /// # Errors
    /// A file that is not there, is no TOML or has settings that do not exist.
    pub fn with_file(&self) -> Result<RunOptions, Failure> {
        let path = match (&self.config, &self.resume) {
            (Some(path), _) => path.clone(),
            (None, Some(resume)) => run_folder::run_of(resume)?.join(run_folder::CONFIG),
            (None, None) => return Ok(self.options()),
        };
        let text = load::utf8(load::read_small(&path)?, &path)?;
        let file = RunOptions::from_toml(&text).map_err(|reason| {
            let hint = "its settings are the flags of `adapter-cli finetune --help`, written as in `--print-config`";
            Failure::failed(format!("{}: {reason}", path.display()), hint)
        })?;
        Ok(self.options().over(file))
    }
}

/// The folder of the run.
///
/// # Errors
/// `--resume` names no run.
pub fn out(flags: &Finetune, options: &RunOptions) -> Result<PathBuf, Failure> {
    if let Some(resume) = &flags.resume {
        return Ok(run_folder::run_of(resume)?);
    }
    let stem = options.data.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    Ok(options.out.clone().unwrap_or_else(|| format!("adapter-{}", stem.unwrap_or_default()).into()))
}
