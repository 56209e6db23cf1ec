//! `complete`: what makes a folder a checkpoint.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ADAPTER, COMPLETE, OPTIMIZER, PROGRESS};
use crate::TrainError;

/// The version of the format that is written and read.
const VERSION: u32 = 1;
/// A `complete` has half a kilobyte.
const MAX_MARKER_BYTES: u64 = 1 << 16;

#[derive(Serialize, Deserialize)]
struct Marker {
    version: u32,
    files: Vec<Entry>,
    /// Of the entries: so damage here is not blamed on the files.
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Older and newer versions say at least this.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_bytes(files: Vec<Entry>) -> Vec<u8> {
    let listed: String =
        files.iter().map(|Entry { name, bytes, sha256 }| format!("{name} {bytes} {sha256}\n")).collect();
    let marker = Marker { version: VERSION, sha256: sha256(listed.as_bytes()), files };
    // Strings and whole numbers: there is nothing that JSON could refuse.
    serde_json::to_vec_pretty(&marker).unwrap_or_default()
}

/// The `complete` of these files.
pub(super) fn bytes(files: &[(&str, &[u8])]) -> Vec<u8> {
    let entry = |(name, content): &(&str, &[u8])| Entry {
        name: (*name).to_owned(),
        bytes: content.len() as u64,
        sha256: sha256(content),
    };
    to_bytes(files.iter().map(entry).collect())
}

/// `file` in `folder` makes it no checkpoint.
pub(super) fn unusable(folder: &Path, file: &'static str, reason: impl std::fmt::Display) -> TrainError {
    TrainError::Incomplete { path: folder.display().to_string(), file, reason: format!("cannot be read ({reason})") }
}

/// The three files of a checkpoint, each with the size and the hash it was written with.
pub(super) fn read_whole(folder: &Path) -> Result<[Vec<u8>; 3], TrainError> {
    let marker = read(folder, COMPLETE, MAX_MARKER_BYTES)?;
    let changed = |reason| unusable(folder, COMPLETE, reason);
    let damaged = || changed("it was changed or cut off after it was written".to_owned());
    let Versioned { version } = serde_json::from_slice(&marker).map_err(|_| damaged())?;
    if version != VERSION {
        let path = folder.display().to_string();
        return Err(TrainError::CheckpointVersion { path, found: version, wanted: VERSION });
    }
    let Marker { files, .. } = serde_json::from_slice(&marker).map_err(|_| damaged())?;
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    if names != [ADAPTER, OPTIMIZER, PROGRESS] {
        return Err(damaged());
    }
    let wanted: Vec<(u64, String)> = files.iter().map(|file| (file.bytes, file.sha256.clone())).collect();
    // The same entries always give the same bytes: any other byte was not written by us.
    if to_bytes(files) != marker {
        return Err(damaged());
    }
    let mut contents = [ADAPTER, OPTIMIZER, PROGRESS].map(|name| (name, Vec::new()));
    for ((name, content), (bytes, hash)) in contents.iter_mut().zip(wanted) {
        let incomplete = |reason| TrainError::Incomplete { path: folder.display().to_string(), file: name, reason };
        *content = read(folder, name, bytes)?;
        if content.len() as u64 != bytes {
            return Err(incomplete(match content.len() as u64 {
                found if found < bytes => format!("has {found} of {bytes} bytes"),
                _ => format!("has more than the {bytes} bytes that were written"),
            }));
        }
        if sha256(content) != hash {
            return Err(incomplete("holds other bytes than were written (its SHA-256 differs)".to_owned()));
        }
    }
    Ok(contents.map(|(_, content)| content))
}

/// At most `limit` bytes of a file and one more, by which it shows that there are more.
fn read(folder: &Path, name: &'static str, limit: u64) -> Result<Vec<u8>, TrainError> {
    let path = folder.join(name);
    let mut content = Vec::new();
    match File::open(&path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content)) {
        Ok(_) => Ok(content),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let reason = match name {
                COMPLETE => "is missing: it is written last, so the program stopped before the checkpoint was whole",
                _ => "is missing",
            };
            Err(TrainError::Incomplete { path: folder.display().to_string(), file: name, reason: reason.to_owned() })
        }
        Err(error) => Err(TrainError::file(&path, &error)),
    }
}
