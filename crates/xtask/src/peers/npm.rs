//! Peers that npm packages carry.

use std::path::PathBuf;
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::{machine, process};

/// The folder in the cache that holds `packages` (`name@version`) in `node_modules`, filled the first time with `npm`.
pub fn install(npm: &mut Command, packages: &[&str], size: &str) -> Result<PathBuf> {
    let name: Vec<String> = packages.iter().map(|package| machine::slug(package)).collect();
    let folder = cache::folder()?.join("peers").join(name.join("+"));
    if folder.is_dir() {
        return Ok(folder);
    }
    println!("bench: fetching {} ({size})", packages.join(" and "));
    let scratch = Scratch::new("peers")?;
    // A folder with a manifest of its own, or npm installs into the next one above that has one.
    let manifest = scratch.path().join("package.json");
    std::fs::write(&manifest, "{\"private\": true}\n").map_err(|error| Error::io("write", &manifest, &error))?;
    // No scripts: they would look for a compiler and other downloads.
    let flags = ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"];
    process::run(npm.args(flags).args(packages).current_dir(scratch.path())).map_err(|error| {
        Error::failed(format!("{error}. Peers need Node.js 20 or newer with npm (Debian: nodejs npm) and its registry"))
    })?;
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::io("make the folder", parent, &error))?;
    }
    std::fs::rename(scratch.path(), &folder).map_err(|error| Error::io("move the packages to", &folder, &error))?;
    Ok(folder)
}
