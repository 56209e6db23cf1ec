//! Peers that Python packages carry: PEFT on PyTorch, and what turns a GGUF file into ONNX.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::{cache, package, process};

/// What the scripts of `bench/peers/*.py` need. torch brings the CUDA libraries, which nothing here uses: most of the 5 GB.
const PACKAGES: [&str; 8] = [
    "torch==2.15.0",
    "transformers==5.24.0",
    "peft==0.21.2",
    "gguf==0.19.0",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "onnxruntime==1.32.0",
    "onnxruntime-genai==0.18.0",
];

/// A virtual environment with the packages in it.
#[derive(Debug)]
pub struct Venv(PathBuf);

impl Venv {
    /// The environment in the cache, where it is complete; with `install` it is made. Without, the error is the line that
    /// makes it.
    pub fn find(install: bool, how: &str) -> Result<Self> {
        let venv = Self(cache::folder()?.join("peers/python"));
        if venv.is_complete() {
            return Ok(venv);
        }
        if !install {
            return Err(Error::failed(format!(
                "PyTorch and PEFT are not installed: `{how} --install-peers` fetches them (5 GB, into the cache folder)"
            )));
        }
        println!("bench: fetching {} (5 GB)", PACKAGES.join(", "));
        let python = package::python()?;
        process::run(Command::new(python).args(["-m", "venv"]).arg(&venv.0)).map_err(|error| {
            Error::failed(format!("{error}. A virtual environment is needed (Debian: `apt-get install python3-venv`)"))
        })?;
        let flags = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        process::run(venv.python().args(flags).args(PACKAGES)).map_err(|error| {
            Error::failed(format!(
                "{error}. Check the network and pip's own index settings (`pip config list`), then run this again"
            ))
        })?;
        if !venv.is_complete() {
            return Err(Error::failed(format!("pip ended well, but {} is not complete", venv.0.display())));
        }
        Ok(venv)
    }

    /// The interpreter of the environment, to be completed.
    pub fn python(&self) -> Command {
        let program = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
        Command::new(self.0.join(program))
    }

    /// A script of `bench/peers/`, to be completed.
    pub fn script(&self, name: &str) -> Command {
        let mut command = self.python();
        command.arg(process::repository_root().join("bench/peers").join(name));
        command
    }

    /// Whether every package is there in its version: a name and a version are a folder's name.
    fn is_complete(&self) -> bool {
        let lib = self.0.join(if cfg!(windows) { "Lib" } else { "lib" });
        let inside = std::fs::read_dir(&lib).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut places = std::iter::once(lib.clone()).chain(inside);
        places.any(|place| PACKAGES.iter().all(|package| is_installed(&place.join("site-packages"), package)))
    }
}

/// `onnx-ir==1.1.0` is in `onnx_ir-1.1.0.dist-info`.
fn is_installed(site_packages: &Path, package: &str) -> bool {
    package.split_once("==").is_some_and(|(name, version)| {
        site_packages.join(format!("{}-{version}.dist-info", name.replace('-', "_"))).is_dir()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Scratch;

    #[test]
    fn a_package_of_another_version_is_not_installed() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-venv").expect("a folder");
        let folder = scratch.path().join("lib/python3.11/site-packages");
        for package in PACKAGES {
            let name = package.replace('-', "_").replace("==", "-");
            std::fs::create_dir_all(folder.join(format!("{name}.dist-info"))).expect("made");
        }
        let venv = Venv(scratch.path().to_path_buf());
        assert!(venv.is_complete());
        std::fs::rename(folder.join("peft-0.21.2.dist-info"), folder.join("peft-0.1.0.dist-info")).expect("renamed");
        assert!(!venv.is_complete());
    }
}
