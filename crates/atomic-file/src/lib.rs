//! Files that are there as a whole or not at all: whenever the program or the machine stops there is the old one or the new one,
//! never half of it. A temporary file in the same folder, synced, renamed, the folder synced.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

/// The ending of files that are being written; their names begin with a dot.
pub const PARTIAL: &str = ".partial";

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Whoever the user's settings allow.
    Default,
    /// The user only: conversations.
    Owner,
}

/// Writes a whole file.
///
/// # Errors
/// What the system says; the old file is as it was.
pub fn write_whole(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    write_streamed(path, readers, |file| file.write_all(content))
}

/// [`write_whole`] for content that `write` makes as it goes.
///
/// # Errors
/// What the system or `write` says; the old file is as it was.
pub fn write_streamed<E: From<io::Error>>(
    path: &Path,
    readers: Readers,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let folder = folder_of(path);
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(PARTIAL);
    #[cfg(unix)]
    if readers == Readers::Default {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // the system takes its umask off
    }
    let mut file = builder.tempfile_in(folder).map_err(without_temporary_name)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)?;
    Ok(())
}

/// The folder a path lies in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The system's words alone: the name of a temporary file means nothing to people.
#[must_use]
pub fn without_temporary_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((words, _)) => io::Error::new(error.kind(), words),
        None => error,
    }
}

/// Makes the names in a folder outlive a power failure.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, some network file systems cannot sync one, and a folder that may be written but not
    // listed cannot be opened: there is nothing more to do about them.
    if cfg!(not(unix)) {
        return Ok(());
    }
    let opened = match File::open(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?,
    };
    match opened.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notes");
        write_whole(&path, b"old", Readers::Default).expect("written");
        let failed = write_streamed(&path, Readers::Owner, |file| {
            file.write_all(b"half")?;
            Err(io::Error::from(ErrorKind::StorageFull))
        });
        assert_eq!(failed.expect_err("it is full").kind(), ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).expect("still there"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        write_whole(&path, b"new", Readers::Default).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"new");
        let nowhere = write_whole(&folder.path().join("no/such"), b"x", Readers::Default).expect_err("no folder");
        assert!(!nowhere.to_string().contains(".partial"), "{nowhere}");
    }
}
