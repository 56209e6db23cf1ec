//! Files that are there as a whole or not at all.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use super::WriteBytes;
use crate::TrainError;

/// The ending of files that are being written.
pub(super) const PARTIAL: &str = ".partial";

/// Writes a file so that there is the old one or the new one, never half of it, whenever the program or the machine stops:
/// a temporary file in the same folder, synced, renamed, the folder synced.
///
/// # Errors
/// [`TrainError::File`] with what the system says; the old file is as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    write_through(path, bytes, &mut |file, bytes| file.write_all(bytes))
}

pub(super) fn write_through(path: &Path, bytes: &[u8], write: WriteBytes<'_>) -> Result<(), TrainError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    replace(path, folder, bytes, write)
        .and_then(|()| sync_folder(folder))
        .map_err(|error| TrainError::file(path, &error))
}

fn replace(path: &Path, folder: &Path, bytes: &[u8], write: WriteBytes<'_>) -> io::Result<()> {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // the system takes its umask off
    }
    let mut file = builder.tempfile_in(folder).map_err(without_temporary_name)?;
    write(file.as_file_mut(), bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The system's words alone: the name of a temporary file means nothing to people.
fn without_temporary_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((words, _)) => io::Error::new(error.kind(), words),
        None => error,
    }
}

/// Makes the names in a folder outlive a power failure.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, and some network file systems cannot sync one: they have other means.
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}
