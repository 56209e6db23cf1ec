//! Checkpoints: all that a run needs to go on bit for bit, in a folder that is whole or is not a checkpoint.
//!
//! `checkpoint-00000020/` holds `adapter.safetensors` (ours, which any part of the engine loads), `optimizer.safetensors`
//! (AdamW's moments), `progress.json` (counters, settings, place in the data) and, written last, `complete`: sizes and
//! SHA-256 of the three. Each file is written beside its place, synced and renamed. A folder without a `complete` that fits
//! is passed over, so a program that dies while it writes, or finds the disk full, leaves the checkpoint before.
//!
//! One run writes a folder at a time; nothing here locks it.

mod encoding;
mod folder;
mod marker;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use adapter_atomic_file::{Readers, write_streamed};
use serde::{Deserialize, Serialize};

use crate::data::{DataPosition, Examples};
use crate::settings::{Backend, RunOptions};
use crate::{Place, Recipe, Snapshot, TrainError};

pub use crate::Best;

pub(crate) use folder::{any_complete, is_checkpoint_name};
pub use folder::{latest, prune};

const ADAPTER: &str = "adapter.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const PROGRESS: &str = "progress.json";
const COMPLETE: &str = "complete";

/// Everything a run needs to go on: its numbers and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What [`Trainer::resume`](crate::Trainer::resume) takes.
    pub snapshot: Snapshot,
    /// Where the run is.
    pub progress: Progress,
}

/// What a run stands on beside its rows, its settings and its model, which the adapter names. `None`: older checkpoints do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ground {
    /// Where it computes.
    pub backend: Option<Backend>,
    /// Whether products are computed in f16 where that is faster.
    pub f16: Option<bool>,
    /// [`Examples::fingerprint`](crate::data::Examples::fingerprint) of the validation rows.
    pub validation: Option<u64>,
}

impl Ground {
    /// Of a run with these options that validates on these rows.
    #[must_use]
    pub fn new(options: &RunOptions, validation: &Examples) -> Self {
        Self { backend: Some(options.backend()), f16: Some(options.f16), validation: Some(validation.fingerprint()) }
    }
}

/// Where a run is, and the settings that decide its next steps.
///
/// Its floating-point numbers are strings in JSON: those come back bit for bit (and NaN and infinity come back at all),
/// which JSON's numbers do not promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Of the first prompts and of the order of the rows.
    pub seed: u64,
    /// The next training rows.
    pub position: DataPosition,
    /// [`Examples::fingerprint`](crate::data::Examples::fingerprint) of the training rows.
    pub data_fingerprint: u64,
    /// Tokens a batch, at most.
    pub batch_tokens: u32,
    /// Optimizer and schedule.
    #[serde(with = "encoding::StoredRecipe")]
    pub recipe: Recipe,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Validations since the best one.
    pub without_gain: u32,
    /// Training time so far, in seconds.
    #[serde(with = "crate::exact")]
    pub seconds: f64,
    /// Tokens of all batches so far.
    pub tokens: u64,
    /// Target tokens of them.
    pub trained_tokens: u64,
    /// Whether a validation comes before the next step.
    pub validation_due: bool,
    /// Where it computes, and what it is measured by.
    #[serde(default)]
    pub ground: Ground,
}

impl Progress {
    /// Where [`Run::resume`](crate::Run::resume) goes on.
    pub fn place(&self) -> Place {
        Place {
            position: self.position,
            best: self.best,
            without_gain: self.without_gain,
            tokens: self.tokens,
            trained_tokens: self.trained_tokens,
            validation_due: self.validation_due,
        }
    }
}

/// Writes a file so that there is the old one or the new one, never half of it, whenever the program or the machine stops.
///
/// # Errors
/// [`TrainError::File`] with what the system says; the old file is as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    write_through(path, bytes, &mut |file, bytes| file.write_all(bytes))
}

fn write_through(path: &Path, bytes: &[u8], write: WriteBytes<'_>) -> Result<(), TrainError> {
    write_streamed(path, Readers::Default, |file| write(file, bytes)).map_err(|error| TrainError::file(path, &error))
}

/// How bytes get into a file: tests put a full disk here.
#[doc(hidden)]
pub type WriteBytes<'a> = &'a mut dyn FnMut(&mut File, &[u8]) -> io::Result<()>;

impl Checkpoint {
    /// Writes `out/checkpoint-00000020/` (the step in eight digits or more) and returns its path. If it fails, checkpoints
    /// that were there before, also one of the same step, still are.
    ///
    /// # Errors
    /// Numbers that are not finite, a full disk, a folder that cannot be written.
    pub fn save(&self, out: &Path) -> Result<PathBuf, TrainError> {
        self.save_through(out, &mut |file, bytes| file.write_all(bytes))
    }

    /// [`Self::save`] with another way to write.
    #[doc(hidden)]
    pub fn save_through(&self, out: &Path, write: WriteBytes<'_>) -> Result<PathBuf, TrainError> {
        // All that can be refused is refused before the disk is touched.
        let contents = [
            (ADAPTER, self.snapshot.adapter.to_safetensors()?),
            (OPTIMIZER, encoding::optimizer_bytes(&self.snapshot)?),
            (PROGRESS, encoding::progress_bytes(&self.snapshot, &self.progress)?),
        ];
        folder::replace(out, self.snapshot.step, |folder| {
            for (name, bytes) in &contents {
                write_through(&folder.join(name), bytes, write)?;
            }
            let marker = marker::bytes(&contents.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())));
            write_through(&folder.join(COMPLETE), &marker, write)
        })
    }

    /// Reads a checkpoint's folder.
    ///
    /// # Errors
    /// [`TrainError::Incomplete`] names the file that is missing, cut off or changed; [`TrainError::CheckpointVersion`];
    /// [`TrainError::File`] if the system cannot read.
    pub fn load(folder: &Path) -> Result<Self, TrainError> {
        let [adapter, optimizer, progress] = marker::read_whole(folder)?;
        let adapter = adapter_engine::adapter::AdapterFile::from_safetensors(&adapter, None)
            .map_err(|error| marker::unusable(folder, ADAPTER, error))?;
        let moments = encoding::moments(&optimizer, &adapter.parameters())
            .map_err(|reason| marker::unusable(folder, OPTIMIZER, reason))?;
        let stored = encoding::progress(&progress).map_err(|reason| marker::unusable(folder, PROGRESS, reason))?;
        let encoding::Stored { step, skipped, skipped_in_a_row, progress } = stored;
        Ok(Self { snapshot: Snapshot { adapter, moments, step, skipped, skipped_in_a_row }, progress })
    }
}
