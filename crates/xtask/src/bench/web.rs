//! The page's engine in Chromium beside the peers that can run the same model there: transformers.js on WebGPU, wllama on the
//! CPU. Everything is served from this machine.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::result::{self, Samples};
use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::peers::python::Venv;
use crate::peers::{Driven, npm};
use crate::web::node::Node;
use crate::web::server::{Offer, Server, Site};
use crate::{machine, model, process, web};

const KNOWN: &str = "--peers, --install-peers, --repeat N, --prefill N, --decode N, --peer-decode N";
/// transformers.js brings the onnxruntime-web that goes with it.
const PACKAGES: [&str; 2] = ["@huggingface/transformers@4.3.1", "@wllama/wllama@2.4.0"];
/// Threads of WebAssembly share memory only on pages that let nothing foreign in.
const ISOLATED: [(&str, &str); 2] =
    [("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Embedder-Policy", "require-corp")];
/// Raised when `gguf_to_onnx.py` makes another model of the same file.
const ONNX_VERSION: u32 = 1;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    peers: bool,
    install_peers: bool,
    n_repetitions: u32,
    n_prefill: u32,
    n_decode: u32,
    /// A WebGPU peer takes seconds a token on a software GPU: a few tell its speed.
    n_decode_peer: u32,
}

impl Plan {
    const DEFAULT: Self =
        Self { peers: false, install_peers: false, n_repetitions: 3, n_prefill: 128, n_decode: 24, n_decode_peer: 4 };

    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self::DEFAULT;
        let (mut peers, mut install_peers) = (false, false);
        super::read_flags(
            args,
            KNOWN,
            |flag| {
                let known = ["--peers", "--install-peers"].contains(&flag);
                peers |= known;
                install_peers |= flag == "--install-peers";
                known
            },
            |flag, text| {
                let figure = match flag {
                    "--repeat" => &mut plan.n_repetitions,
                    "--prefill" => &mut plan.n_prefill,
                    "--decode" => &mut plan.n_decode,
                    "--peer-decode" => &mut plan.n_decode_peer,
                    _ => return None,
                };
                Some(super::number(flag, text).map(|value| *figure = value))
            },
        )?;
        // Speed is measured from the first token on.
        if plan.n_decode < 2 || plan.n_decode_peer < 2 {
            return Err(Error::usage("--decode and --peer-decode take at least 2"));
        }
        Ok(Self { peers, install_peers, ..plan })
    }
}

/// One engine in its browser, and what it has shown so far.
struct Side {
    name: &'static str,
    driven: Driven,
    first_token_s: Samples,
    decode_tps: Samples,
    last_answer: Value,
}

impl Side {
    fn new(name: &'static str, driven: Driven) -> Self {
        let (first_token_s, decode_tps) = Default::default();
        Self { name, driven, first_token_s, decode_tps, last_answer: Value::Null }
    }

    fn measure(&mut self, repetition: u32) -> Result<()> {
        let answer = self.driven.measure()?;
        let first_token_s = result::figure(&answer, "/first_token_s", self.name)?;
        let decode_tps = result::figure(&answer, "/decode_tps", self.name)?;
        println!(
            "{:<16} first token after {first_token_s:>7.2} s, then {decode_tps:>7.2} tokens/s  ({repetition})",
            self.name
        );
        self.first_token_s.push(first_token_s);
        self.decode_tps.push(decode_tps);
        self.last_answer = answer;
        Ok(())
    }

    fn peak_mib(&self) -> f64 {
        self.last_answer["peak_rss_mb"].as_f64().unwrap_or(f64::NAN)
    }

    fn to_json(&self) -> Value {
        json!({
            "first_token_s": self.first_token_s.to_json(),
            "decode_tokens_per_s": self.decode_tps.to_json(),
            "peak_browser_rss_mib": self.peak_mib(),
            "last_answer": self.last_answer,
        })
    }
}

/// `cargo xtask bench --web`.
pub fn run(args: &[String]) -> Result<()> {
    let plan = Plan::parse(args)?;
    let model = model::ensure()?;
    web::build(web::Speed::Shipping)?;
    let browser = Browser { node: Node::find()?, chromium: web::browser::find()?, model, plan };
    let machine = machine::describe();

    let page = browser.serve_page()?;
    let mut sides = vec![Side::new("ours", browser.start("ours", &page.url(), plan.n_decode)?)];
    // A peer that does not run is named, and its figure is absent: the others are measured all the same.
    let mut absent = Map::new();
    let peers_page = if plan.peers { Some(browser.serve_peers(plan.install_peers, &mut absent)?) } else { None };
    if let Some(peers_page) = &peers_page {
        for (name, n_decode) in [("transformers.js", plan.n_decode_peer), ("wllama", plan.n_decode)] {
            if absent.contains_key(name) {
                continue;
            }
            println!("{name}: loading, and one repetition that does not count");
            match browser.start(name, &peers_page.url(), n_decode) {
                Ok(driven) => sides.push(Side::new(name, driven)),
                Err(error) => {
                    absent.insert(name.to_owned(), error.to_string().into());
                }
            }
        }
    }
    for repetition in 1..=plan.n_repetitions {
        for side in &mut sides {
            side.measure(repetition)?;
        }
    }
    report(&plan, machine, &browser.model, &sides, absent)
}

/// Prints medians and ratios, and writes the result.
fn report(plan: &Plan, machine: Value, model: &Path, sides: &[Side], absent: Map<String, Value>) -> Result<()> {
    let [ours, peers @ ..] = sides else { return Err(Error::failed("nothing was measured")) };
    let gpu = ours.last_answer["gpu"].as_str().unwrap_or_default().to_owned();
    let mut result = json!({
        "machine": machine,
        "model": model.file_name().map(|name| name.to_string_lossy().into_owned()),
        "gpu": gpu,
        "browser": ours.last_answer["browser"],
        "tokens": { "prefill": plan.n_prefill, "decode": plan.n_decode, "decode_webgpu_peer": plan.n_decode_peer },
        "ours": ours.to_json(),
    });
    for side in sides {
        let (first, speed) = (side.first_token_s.median(), side.decode_tps.median());
        println!("{:<16} first token {first:.2} s, decode {speed:.2} tokens/s, {:.0} MiB", side.name, side.peak_mib());
    }
    for peer in peers {
        let ratio = json!({
            "decode": ours.decode_tps.median() / peer.decode_tps.median(),
            "first_token": peer.first_token_s.median() / ours.first_token_s.median(),
            "peak_browser_rss": ours.peak_mib() / peer.peak_mib(),
        });
        println!("ours against {}: {ratio}", peer.name);
        let mut entry = peer.to_json();
        entry["ratio"] = ratio;
        result["peers"][peer.name] = entry;
    }
    for (name, why) in &absent {
        println!("{name} was not measured: {}", why.as_str().unwrap_or_default());
    }
    if !absent.is_empty() {
        result["absent"] = absent.into();
    }
    result::write("web", &gpu, result)
}

/// What every side needs.
struct Browser {
    node: Node,
    chromium: std::ffi::OsString,
    model: PathBuf,
    plan: Plan,
}

impl Browser {
    fn start(&self, side: &str, url: &str, n_decode: u32) -> Result<Driven> {
        let mut command = self.node.command();
        command.arg(process::repository_root().join("bench/peers/browser.mjs"));
        command.args(["--side", side, "--url", url]).arg("--model").arg(&self.model);
        command.args(["--prefill", &self.plan.n_prefill.to_string(), "--decode", &n_decode.to_string()]);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.args(["--threads", &threads.to_string()]).env("CHROMIUM", &self.chromium);
        Driven::start(side, &mut command)
    }

    /// The page as any server sends it, and the engine's package beside it.
    fn serve_page(&self) -> Result<Server> {
        let folder = web::folder();
        let models = vec![Offer::smollm2(self.model.clone())];
        let site = Site { root: folder.join("dist"), models, mounts: vec![("engine", folder.join("engine"))] };
        Server::start(0, site)
    }

    /// An empty page, and beside it the peers' packages and models.
    fn serve_peers(&self, install: bool, absent: &mut Map<String, Value>) -> Result<Server> {
        let modules = npm::install(&mut self.node.npm(), &PACKAGES, "420 MB")?.join("node_modules");
        let onnx = onnx_model(&self.model, install).unwrap_or_else(|error| {
            absent.insert("transformers.js".to_owned(), error.to_string().into());
            PathBuf::new()
        });
        let site = Site {
            root: process::repository_root().join("bench/peers/page"),
            models: vec![Offer::smollm2(self.model.clone())],
            mounts: vec![
                ("transformers", modules.join("@huggingface/transformers/dist")),
                ("ort", modules.join("onnxruntime-web/dist")),
                ("wllama", modules.join("@wllama/wllama/esm")),
                ("onnx", onnx),
            ],
        };
        Server::start_with(0, site, &ISOLATED)
    }
}

/// A folder with the model in ONNX under `smollm2/`, made of the GGUF file the first time.
fn onnx_model(model: &Path, install: bool) -> Result<PathBuf> {
    let sha256 = model::SMOLLM2.sha256.get(..12).unwrap_or_default();
    let folder = cache::folder()?.join("peers").join(format!("onnx-{ONNX_VERSION}-{sha256}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let venv = Venv::find(install, "cargo xtask bench --web")?;
    println!("bench: making an ONNX model of {}", model.display());
    let scratch = Scratch::new("onnx")?;
    let mut command = venv.script("gguf_to_onnx.py");
    process::run(command.arg("--gguf").arg(model).arg("--out").arg(scratch.path().join("smollm2")))?;
    std::fs::rename(scratch.path(), &folder).map_err(|error| Error::io("move the model to", &folder, &error))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_change_the_plan() {
        let parse = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Plan::parse(&args)
        };
        assert_eq!(parse("").expect("the default"), Plan::DEFAULT);
        let plan = parse("--peers --repeat 5 --peer-decode 3").expect("a plan");
        assert_eq!(plan, Plan { peers: true, n_repetitions: 5, n_decode_peer: 3, ..Plan::DEFAULT });
        assert!(parse("--install-peers").expect("a plan").peers, "installing them means to run them");
        for wrong in ["--decode 1", "--peer-decode 1", "--depths 1"] {
            assert_eq!(parse(wrong).expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}
