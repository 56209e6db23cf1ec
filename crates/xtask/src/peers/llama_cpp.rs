//! llama.cpp's Vulkan backend, to measure ourselves against: the prebuilt libraries that an npm package carries, driven
//! by `bench/peers/llama_cpp_vulkan.mjs`. Nothing is compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Driven, npm};
use crate::error::{Error, Result};
use crate::process;

/// Both at one version: the second is the native half of the first.
const PACKAGES: [&str; 2] = ["node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64-vulkan@3.22.1"];

/// A running llama.cpp with the model loaded and its pipelines compiled.
pub struct Peer(Driven);

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
        Driven::start("llama.cpp", &mut command).map(Self)
    }

    /// Runs one repetition.
    pub fn measure(&mut self) -> Result<Figures> {
        figures(self.0.measure()?)
    }
}

/// Reads one answer of the script.
fn figures(answer: Value) -> Result<Figures> {
    let figure = |name: &str| {
        let value = answer.get(name).and_then(Value::as_f64).filter(|value| value.is_finite() && *value > 0.0);
        value.ok_or_else(|| Error::failed(format!("the peer's answer has no {name}: {answer}")))
    };
    let (prefill_tps, decode_tps) = (figure("prefill_tps")?, figure("decode_tps")?);
    let device = answer.get("device").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Figures { prefill_tps, decode_tps, device, answer })
}

/// The folder that holds the packages, filled the first time.
fn install() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::failed(
            "the peer's prebuilt libraries are for Linux on x86_64: run `bench` without --peers",
        ));
    }
    npm::install(&mut Command::new("npm"), &PACKAGES, "126 MB")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_a_figure_is_refused() {
        let good = figures(json!({ "prefill_tps": 14.5, "decode_tps": 3, "device": "llvmpipe" })).expect("complete");
        assert_eq!((good.prefill_tps, good.decode_tps), (14.5, 3.0));
        assert_eq!(good.device, "llvmpipe");
        for answer in [json!(null), json!({ "prefill_tps": 14.5 }), json!({ "prefill_tps": 0, "decode_tps": 3 })] {
            assert!(figures(answer.clone()).is_err(), "{answer}");
        }
    }
}
