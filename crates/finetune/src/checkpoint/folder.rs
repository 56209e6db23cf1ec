//! The checkpoints of a run, side by side in its folder.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use adapter_atomic_file::{PARTIAL, sync_folder};

use super::{ADAPTER, COMPLETE, OPTIMIZER, PROGRESS, encoding, marker};
use crate::TrainError;

const PREFIX: &str = "checkpoint-";
/// A checkpoint that waits until another one of the same step is whole.
const OLD: &str = ".old";

/// The newest complete checkpoint in the folder of a run, or `out` itself if it is a checkpoint. `None`: there is none, or
/// no such folder. Folders that are not complete are passed over.
///
/// # Errors
/// A folder that cannot be read; a checkpoint of another format version, because going on from an older one would repeat
/// what that one holds; `out` is itself a checkpoint, but not a whole one.
pub fn latest(out: &Path) -> Result<Option<PathBuf>, TrainError> {
    if out.join(COMPLETE).is_file() {
        return marker::read_whole(out).map(|_| Some(out.to_owned()));
    }
    for Found { path, .. } in list(out)? {
        match marker::read_whole(&path) {
            Ok(_) => return Ok(Some(path)),
            Err(TrainError::Incomplete { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a folder of this name is a checkpoint, or was to become one.
pub(crate) fn is_checkpoint_name(name: &str) -> bool {
    step_of(name).is_some()
}

/// Whether `out` has a checkpoint that was complete once, damaged or not.
pub(crate) fn any_complete(out: &Path) -> Result<bool, TrainError> {
    Ok(list(out)?.iter().any(|found| found.path.join(COMPLETE).exists()))
}

/// Removes complete checkpoints but the `keep` newest (at least one) and the one of the best validation, as the newest knows
/// it, and what interrupted writes left. Files that no checkpoint writes stay, and so do checkpoints that were damaged after
/// they were complete and those of another format version.
///
/// # Errors
/// A folder that cannot be read or written.
pub fn prune(out: &Path, keep: usize) -> Result<(), TrainError> {
    let mut best = None;
    let mut kept = Vec::new();
    for Found { path, step, .. } in list(out)? {
        if !path.join(COMPLETE).exists() {
            clear(&path)?;
            continue;
        }
        let [.., progress] = match marker::read_whole(&path) {
            Ok(contents) => contents,
            Err(TrainError::Incomplete { .. } | TrainError::CheckpointVersion { .. }) => continue,
            Err(error) => return Err(error),
        };
        if kept.is_empty() {
            best = encoding::progress(&progress).ok().and_then(|stored| stored.progress.best).map(|best| best.step);
        }
        // The same step twice: the first is the newer one.
        if !kept.contains(&step) && (kept.len() < keep.max(1) || best == Some(step)) {
            kept.push(step);
        } else {
            clear(&path)?;
        }
    }
    remove_partial(out).map_err(|error| TrainError::file(out, &error))
}

/// Lets `write` fill the folder of a step. One that is complete is moved aside until the new one is, and comes back if that
/// fails.
pub(super) fn replace(
    out: &Path,
    step: u64,
    write: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let folder = out.join(format!("{PREFIX}{step:08}"));
    let old = out.join(format!("{PREFIX}{step:08}{OLD}"));
    let failed = |path: &Path, error: io::Error| TrainError::file(path, &error);
    fs::create_dir_all(out).map_err(|error| failed(out, error))?;
    if folder.join(COMPLETE).exists() {
        clear(&old)?;
        fs::rename(&folder, &old).map_err(|error| failed(&folder, error))?;
    } else {
        clear(&folder)?;
    }
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    sync_folder(out).map_err(|error| failed(out, error))?;
    let written = write(&folder);
    // What fails from here on costs space, which the next `prune` frees; the outcome is known.
    match written {
        Ok(()) => {
            let _ = clear(&old);
            Ok(folder)
        }
        Err(error) => {
            let _ = clear(&folder);
            if old.join(COMPLETE).exists() {
                let _ = fs::rename(&old, &folder);
            }
            Err(error)
        }
    }
}

struct Found {
    step: u64,
    old: bool,
    path: PathBuf,
}

/// The step in the name of a checkpoint, and whether it is one that waits.
fn step_of(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let digits = rest.strip_suffix(OLD).unwrap_or(rest);
    let step = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((step, digits.len() < rest.len()))
}

/// All folders that are named like checkpoints, the newest first.
fn list(out: &Path) -> Result<Vec<Found>, TrainError> {
    let failed = |error: io::Error| TrainError::file(out, &error);
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((step, old)) = name.to_str().and_then(step_of) else { continue };
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(Found { step, old, path: entry.path() });
        }
    }
    found.sort_by_key(|found| (std::cmp::Reverse(found.step), found.old));
    Ok(found)
}

/// Removes a checkpoint, whole or not: first its mark, so that it is never taken for a damaged one. Files of others stay,
/// and the folder with them.
fn clear(folder: &Path) -> Result<(), TrainError> {
    let cleared = (|| {
        if remove(&folder.join(COMPLETE))? {
            sync_folder(folder)?;
        }
        for name in [ADAPTER, OPTIMIZER, PROGRESS] {
            remove(&folder.join(name))?;
        }
        remove_partial(folder)?;
        match fs::remove_dir(folder) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
            removed => removed,
        }
    })();
    cleared.map_err(|error| TrainError::file(folder, &error))
}

/// Removes a file. Says whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the temporary files of writes that were interrupted.
fn remove_partial(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_partial = name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(PARTIAL));
        if is_partial && entry.file_type()?.is_file() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
