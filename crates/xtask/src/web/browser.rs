//! A Chromium to test in: `$CHROMIUM`, one on the PATH, or Debian's package.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::{process, setup};

/// What it is called on one system or another.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// Finds it, and installs Debian's package where there is none.
pub fn find() -> Result<OsString> {
    if let Some(path) = std::env::var_os("CHROMIUM").filter(|path| !path.is_empty()) {
        return Ok(path);
    }
    if let Some(path) = on_path() {
        return Ok(path.into());
    }
    let by_hand = "the page is tested in Chromium, and there is none: install it, or name it with CHROMIUM=/path/to/it";
    if !process::succeeds("apt-get", &["--version"]) {
        return Err(Error::failed(by_hand));
    }
    let Some(prefix) = setup::as_root() else {
        return Err(Error::failed(format!("{by_hand} (Debian: `sudo apt-get install chromium`)")));
    };
    println!("web: installing chromium");
    setup::apt_get(prefix, &["update"])?;
    setup::apt_get(prefix, &["install", "-y", "--no-install-recommends", "chromium"])?;
    on_path().map(PathBuf::into_os_string).ok_or_else(|| Error::failed("the package chromium brought no chromium"))
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}
