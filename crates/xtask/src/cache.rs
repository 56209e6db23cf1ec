//! Where fetched things are kept: `adapter-engine` in the user's cache folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder of everything this project fetches, made when it is not there.
pub fn folder() -> Result<PathBuf> {
    let folder = locate(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
        .ok_or_else(|| Error::failed("neither XDG_CACHE_HOME nor HOME is set: there is nowhere to keep the model"))?;
    std::fs::create_dir_all(&folder).map_err(|error| Error::io("make the folder", &folder, &error))?;
    Ok(folder)
}

/// The cache folder that these two variables name; an empty one counts as not set.
fn locate(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set(xdg_cache_home).or_else(|| set(home).map(|home| home.join(".cache")))?;
    Some(cache.join("adapter-engine"))
}

/// A folder of this process's own inside the cache, removed when it goes out of scope. What is made in it is renamed
/// to its place when it is complete, so that no other run ever sees half of it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder beside the things it will become.
    pub fn new(purpose: &str) -> Result<Self> {
        Self::within(&folder()?, purpose)
    }

    /// An empty folder in another one.
    pub fn within(parent: &Path, purpose: &str) -> Result<Self> {
        let path = parent.join(format!(".{purpose}-{}", std::process::id()));
        // One of an earlier process with the same id.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|error| Error::io("make the folder", &path, &error))?;
        Ok(Self(path))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_follows_xdg_then_home() {
        let some = |value: &str| Some(OsString::from(value));
        assert_eq!(locate(some("/c"), some("/home/u")), Some("/c/adapter-engine".into()));
        assert_eq!(locate(None, some("/home/u")), Some("/home/u/.cache/adapter-engine".into()));
        assert_eq!(locate(some(""), some("/home/u")), Some("/home/u/.cache/adapter-engine".into()));
        assert_eq!(locate(None, None), None);
    }
}
