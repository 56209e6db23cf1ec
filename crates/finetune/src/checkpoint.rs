//! Checkpoints: everything a run needs to go on as if it had never stopped, in a folder that is either complete or not one.
//!
//! ```text
//! checkpoint-00000020/
//!   adapter.safetensors     prompts and gates: the same form as any adapter of ours
//!   optimizer.safetensors   AdamW's moments
//!   progress.json           steps, place in the data, recipe
//!   complete                sizes and digests of the three; written last
//! ```
//! Files are written under another name, synced and renamed. A folder whose `complete` is missing, or does not describe the
//! files beside it, is never resumed from.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use adapter_engine::adapter::AdapterFile;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::run::Place;
use crate::{Moments, Recipe, Snapshot, TrainError};

const ADAPTER: &str = "adapter.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const PROGRESS: &str = "progress.json";
const COMPLETE: &str = "complete";
const FILES: [&str; 3] = [ADAPTER, OPTIMIZER, PROGRESS];
const PREFIX: &str = "checkpoint-";
/// Folders that are being written; what is left of one after a crash is removed.
const PARTIAL: &str = ".partial";
const VERSION: u32 = 1;

/// Everything a run needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The numbers.
    pub snapshot: Snapshot,
    /// Where the run is.
    pub progress: Progress,
}

/// Where a run is, and what it must be continued with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Decides first prompts and order of rows.
    pub seed: u64,
    /// [`Examples::fingerprint`](crate::data::Examples::fingerprint) of the training rows.
    pub data_fingerprint: u64,
    /// Tokens of a batch at most.
    pub batch_tokens: u32,
    /// Optimizer and schedule.
    pub recipe: Recipe,
    /// The next rows, the best validation, counts.
    pub place: Place,
    /// Of training and validation so far.
    pub seconds: f64,
}

/// `progress.json`.
#[derive(Serialize, Deserialize)]
struct ProgressFile {
    step: u64,
    skipped: u64,
    skipped_in_a_row: u32,
    #[serde(flatten)]
    progress: Progress,
}

/// `complete`.
#[derive(Serialize, Deserialize)]
struct Complete {
    version: u32,
    files: HashMap<String, Described>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Described {
    bytes: u64,
    sha256: String,
}

impl Described {
    fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes: bytes.len() as u64, sha256: digest }
    }
}

fn file_error(path: &Path, reason: impl std::fmt::Display) -> TrainError {
    TrainError::File { path: path.display().to_string(), reason: reason.to_string() }
}

/// Writes a file so that under its name there is either what was there before or all of `bytes`, whatever happens meanwhile.
///
/// # Errors
/// What the system says.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let fail = |error| file_error(path, format!("cannot write the file: {error}"));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    if let Err(error) = write().and_then(|()| fs::rename(&temporary, path)) {
        // What is there already stays; what was begun is worth nothing.
        let _ = fs::remove_file(&temporary);
        return Err(fail(error));
    }
    sync_folder(path.parent())
}

/// Makes names that were written to a folder last.
fn sync_folder(folder: Option<&Path>) -> Result<(), TrainError> {
    let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    // Windows has no such thing, and needs none.
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(|error| file_error(folder, error))?;
    }
    Ok(())
}

impl Checkpoint {
    /// Writes a new folder into `out` and returns its path.
    ///
    /// # Errors
    /// What the system says; numbers that are not finite.
    pub fn save(&self, out: &Path) -> Result<PathBuf, TrainError> {
        let path = out.join(format!("{PREFIX}{:08}", self.snapshot.step));
        let partial = out.join(format!("{PREFIX}{:08}{PARTIAL}", self.snapshot.step));
        let contents = [self.snapshot.adapter.to_safetensors()?, self.optimizer()?, self.progress_json()?];
        remove(&partial)?;
        fs::create_dir_all(&partial).map_err(|error| file_error(&partial, error))?;
        let mut complete = Complete { version: VERSION, files: HashMap::new() };
        for (name, bytes) in FILES.into_iter().zip(&contents) {
            write_atomically(&partial.join(name), bytes)?;
            complete.files.insert(name.to_owned(), Described::of(bytes));
        }
        remove(&path)?;
        fs::rename(&partial, &path).map_err(|error| file_error(&path, error))?;
        sync_folder(Some(out))?;
        let complete = serde_json::to_vec_pretty(&complete).map_err(|error| file_error(&path, error))?;
        write_atomically(&path.join(COMPLETE), &complete)?;
        Ok(path)
    }

    /// Reads the folder of a checkpoint.
    ///
    /// # Errors
    /// A folder that is not complete, with the file that is missing or damaged.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let complete = read_complete(path)?;
        let read = |name: &str| {
            let file = path.join(name);
            let bytes = fs::read(&file).map_err(|error| file_error(&file, error))?;
            match complete.files.get(name) {
                Some(described) if *described == Described::of(&bytes) => Ok(bytes),
                Some(described) => Err(file_error(
                    &file,
                    format!(
                        "the file is damaged: it has {} bytes and another digest than the {} bytes that were written",
                        bytes.len(),
                        described.bytes
                    ),
                )),
                None => Err(file_error(&file, "the checkpoint does not describe this file")),
            }
        };
        let adapter = AdapterFile::from_safetensors(&read(ADAPTER)?, None)?;
        let moments = moments(&read(OPTIMIZER)?).map_err(|reason| file_error(&path.join(OPTIMIZER), reason))?;
        let progress: ProgressFile =
            serde_json::from_slice(&read(PROGRESS)?).map_err(|error| file_error(&path.join(PROGRESS), error))?;
        let ProgressFile { step, skipped, skipped_in_a_row, progress } = progress;
        Ok(Self { snapshot: Snapshot { adapter, moments, step, skipped, skipped_in_a_row }, progress })
    }

    fn progress_json(&self) -> Result<Vec<u8>, TrainError> {
        let Snapshot { step, skipped, skipped_in_a_row, .. } = self.snapshot;
        let file = ProgressFile { step, skipped, skipped_in_a_row, progress: self.progress.clone() };
        serde_json::to_vec_pretty(&file).map_err(|error| file_error(Path::new(PROGRESS), error))
    }

    fn optimizer(&self) -> Result<Vec<u8>, TrainError> {
        let fail = |error| file_error(Path::new(OPTIMIZER), error);
        let Some(moments) = &self.snapshot.moments else {
            return safetensors::serialize(std::iter::empty::<(String, TensorView<'_>)>(), None).map_err(fail);
        };
        let named = [
            ("prompts.mean", &moments.prompts[0]),
            ("prompts.square", &moments.prompts[1]),
            ("gates.mean", &moments.gates[0]),
            ("gates.square", &moments.gates[1]),
        ];
        let bytes = named.map(|(name, values)| {
            (name, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(), values.len())
        });
        let views = bytes.iter().map(|(name, bytes, n)| {
            TensorView::new(Dtype::F32, vec![*n], bytes).map(|view| ((*name).to_owned(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(fail)?;
        let metadata = HashMap::from([("time".to_owned(), moments.time.to_string())]);
        safetensors::serialize(views, Some(metadata)).map_err(fail)
    }
}

fn moments(bytes: &[u8]) -> Result<Option<Moments>, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    if tensors.is_empty() {
        return Ok(None);
    }
    let time = metadata.metadata().as_ref().and_then(|metadata| metadata.get("time")?.parse().ok());
    let time = time.ok_or("it does not say how many steps were aggregated")?;
    let values = |name: &str| -> Result<Vec<f32>, String> {
        let view = tensors.tensor(name).map_err(|error| error.to_string())?;
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}, not F32", view.dtype()));
        }
        Ok(view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    };
    Ok(Some(Moments {
        time,
        prompts: [values("prompts.mean")?, values("prompts.square")?],
        gates: [values("gates.mean")?, values("gates.square")?],
    }))
}

fn read_complete(path: &Path) -> Result<Complete, TrainError> {
    let file = path.join(COMPLETE);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(file_error(path, "this is no complete checkpoint: it has no file named `complete`"));
        }
        Err(error) => return Err(file_error(&file, error)),
    };
    let complete: Complete = serde_json::from_slice(&bytes).map_err(|error| file_error(&file, error))?;
    if complete.version != VERSION {
        return Err(file_error(
            &file,
            format!("version {} is unknown, this program reads {VERSION}", complete.version),
        ));
    }
    Ok(complete)
}

/// Step numbers and paths of folders named as checkpoints, newest first.
fn candidates(out: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(out, error)),
    };
    let numbered = entries.flatten().filter_map(|entry| {
        let step = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
        Some((step, entry.path()))
    });
    let mut found: Vec<(u64, PathBuf)> = numbered.collect();
    found.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// The newest complete checkpoint of a run's folder, or `out` itself if it is a checkpoint.
///
/// # Errors
/// What the system says.
pub fn latest(out: &Path) -> Result<Option<PathBuf>, TrainError> {
    if out.join(COMPLETE).is_file() {
        return Ok(Some(out.to_owned()));
    }
    Ok(candidates(out)?.into_iter().map(|(_, path)| path).find(|path| Checkpoint::load(path).is_ok()))
}

/// Removes all but the `keep` newest checkpoints that are complete, and what crashes have left.
///
/// # Errors
/// What the system says.
pub fn prune(out: &Path, keep: usize) -> Result<(), TrainError> {
    let complete = |(_, path): &(u64, PathBuf)| path.join(COMPLETE).is_file();
    let (whole, torn): (Vec<_>, Vec<_>) = candidates(out)?.into_iter().partition(complete);
    let old = whole.into_iter().skip(keep.max(1));
    for (_, path) in old.chain(torn) {
        // The mark goes first: what is half removed must not be taken for a checkpoint.
        remove_file(&path.join(COMPLETE))?;
        remove(&path)?;
    }
    let entries = fs::read_dir(out).map_err(|error| file_error(out, error))?;
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(PARTIAL)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(folder, error)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(path, error)),
        _ => Ok(()),
    }
}
