//! llama.cpp's Vulkan backend, to measure ourselves against: the prebuilt libraries that an npm package carries, driven
//! by `bench/peers/llama_cpp_vulkan.mjs`. Nothing is compiled.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::process;

/// Both at one version: the second is the native half of the first.
const PACKAGES: [&str; 2] = ["node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64-vulkan@3.22.1"];

/// A running llama.cpp with the model loaded and its pipelines compiled.
pub struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// One repetition's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub prefill_tps: f64,
    pub decode_tps: f64,
    /// The Vulkan device it ran on.
    pub device: String,
    /// All that the peer said about itself: device, version, memory.
    pub answer: Value,
}

impl Peer {
    /// Starts it, having fetched it if need be, and waits until it is ready and at rest.
    pub fn start(model: &Path, n_prefill: u32, n_decode: u32) -> Result<Self> {
        let modules = install()?;
        let script = process::repository_root().join("bench/peers/llama_cpp_vulkan.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg("--modules").arg(modules).arg("--model").arg(model);
        command.args(["--prefill", &n_prefill.to_string(), "--decode", &n_decode.to_string()]);
        // Without it llama.cpp leaves out a driver that runs on the CPU, and computes there itself.
        if std::env::var_os("GGML_VK_VISIBLE_DEVICES").is_none() {
            command.env("GGML_VK_VISIBLE_DEVICES", "0");
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| process::not_started(&command, &error))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(stdout)) => {
                let mut peer = Self { child, requests, answers: BufReader::new(stdout) };
                peer.read_line()?;
                Ok(peer)
            }
            _ => Err(Error::failed("the peer's pipes could not be opened")),
        }
    }

    /// Runs one repetition.
    pub fn measure(&mut self) -> Result<Figures> {
        let asked = self.requests.write_all(b"\n").and_then(|()| self.requests.flush());
        asked.map_err(|error| Error::failed(format!("llama.cpp takes no more requests: {error}")))?;
        figures(&self.read_line()?)
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(n_bytes) if n_bytes > 0 => Ok(line),
            _ => Err(Error::failed("llama.cpp ended without an answer; what it said is above")),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one answer of the script.
fn figures(line: &str) -> Result<Figures> {
    let answer: Value = serde_json::from_str(line)
        .map_err(|error| Error::failed(format!("the peer's answer is not JSON ({error}): {}", line.trim())))?;
    let figure = |name: &str| {
        let value = answer.get(name).and_then(Value::as_f64).filter(|value| value.is_finite() && *value > 0.0);
        value.ok_or_else(|| Error::failed(format!("the peer's answer has no {name}: {}", line.trim())))
    };
    let (prefill_tps, decode_tps) = (figure("prefill_tps")?, figure("decode_tps")?);
    let device = answer.get("device").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Figures { prefill_tps, decode_tps, device, answer })
}

/// The folder that holds the packages, filled the first time.
fn install() -> Result<PathBuf> {
    let folder = cache::folder()?.join("peers").join(PACKAGES.map(crate::machine::slug).join("+"));
    if folder.is_dir() {
        return Ok(folder);
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::failed(
            "the peer's prebuilt libraries are for Linux on x86_64: run `bench` without --peers",
        ));
    }
    println!("bench: fetching {} (126 MB)", PACKAGES.join(" and "));
    let scratch = Scratch::new("peers")?;
    // A folder with a manifest of its own, or npm installs into the next one above that has one.
    let manifest = scratch.path().join("package.json");
    std::fs::write(&manifest, "{\"private\": true}\n").map_err(|error| Error::io("write", &manifest, &error))?;
    // No scripts: they would look for a compiler and other downloads.
    let flags = ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"];
    process::run(Command::new("npm").args(flags).args(PACKAGES).current_dir(scratch.path())).map_err(|error| {
        Error::failed(format!(
            "{error}. --peers needs Node.js 20 or newer with npm (Debian: nodejs npm) and its registry"
        ))
    })?;
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::io("make the folder", parent, &error))?;
    }
    std::fs::rename(scratch.path(), &folder).map_err(|error| Error::io("move the packages to", &folder, &error))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_figure_is_refused() {
        let good = figures("{\"prefill_tps\": 14.5, \"decode_tps\": 3, \"device\": \"llvmpipe\"}\n").expect("complete");
        assert_eq!((good.prefill_tps, good.decode_tps), (14.5, 3.0));
        assert_eq!(good.device, "llvmpipe");
        for line in ["", "llvmpipe", "{\"prefill_tps\": 14.5}", "{\"prefill_tps\": 0, \"decode_tps\": 3}"] {
            assert!(figures(line).is_err(), "{line:?}");
        }
    }
}
