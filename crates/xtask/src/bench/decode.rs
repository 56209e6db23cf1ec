//! Prefill and decode of the release build on this GPU, and the same of llama.cpp's Vulkan backend in the same minutes.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::result::{self, Samples};
use crate::error::{Error, Result};
use crate::peers::llama_cpp::{Figures, Peer};
use crate::{chat, machine, model, process, setup};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    peers: bool,
    n_repetitions: u32,
    n_prefill: u32,
    n_decode: u32,
    /// The peer decodes three tokens a second on lavapipe: a few tell its speed.
    n_decode_peer: u32,
}

impl Plan {
    const DEFAULT: Self = Self { peers: false, n_repetitions: 5, n_prefill: 256, n_decode: 128, n_decode_peer: 32 };

    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self::DEFAULT;
        let mut peers = false;
        super::read_flags(
            args,
            "--peers, --repeat N, --prefill N, --decode N, --peer-decode N, and --train, --web, --growth, --table",
            |flag| {
                let known = flag == "--peers";
                peers |= known;
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
        Ok(Self { peers, ..plan })
    }
}

/// One side's figures, a value a repetition.
#[derive(Debug, Default)]
struct Side {
    prefill_tps: Samples,
    decode_tps: Samples,
    device: String,
    /// All that the last repetition said.
    last_answer: Value,
}

impl Side {
    fn add(&mut self, name: &str, repetition: u32, figures: &Figures) {
        println!(
            "{name:<10} prefill {:>8.2}  decode {:>8.2} tok/s  ({repetition})",
            figures.prefill_tps, figures.decode_tps
        );
        self.prefill_tps.push(figures.prefill_tps);
        self.decode_tps.push(figures.decode_tps);
        self.device.clone_from(&figures.device);
        self.last_answer.clone_from(&figures.answer);
    }

    fn prefill(&self) -> f64 {
        self.prefill_tps.median()
    }

    fn decode(&self) -> f64 {
        self.decode_tps.median()
    }

    fn to_json(&self) -> Value {
        json!({
            "prefill_tokens_per_s": self.prefill_tps.to_json(),
            "decode_tokens_per_s": self.decode_tps.to_json(),
            "last_answer": self.last_answer,
        })
    }
}

/// `cargo xtask bench [--peers] [--repeat N] [--prefill N] [--decode N] [--peer-decode N]`.
pub fn run(rest: &[String]) -> Result<()> {
    let plan = Plan::parse(rest)?;
    setup::ensure()?;
    let model = model::ensure()?;
    let mut command = chat::cli()?;
    // Before the first measurement: compiling has to be over by then.
    let machine = machine::describe();
    let mut peer = plan.peers.then(|| Peer::start(&model, plan.n_prefill, plan.n_decode_peer)).transpose()?;
    ours_arguments(&mut command, &model, &plan);

    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for repetition in 1..=plan.n_repetitions {
        let figures = parse_ours(&process::output(&mut command)?)?;
        ours.add("ours", repetition, &figures);
        if let Some(peer) = &mut peer {
            let (gpu, figures) = (figures.device, peer.measure()?);
            if figures.device != gpu {
                return Err(Error::failed(format!(
                    "llama.cpp ran on {:?}, ours on {gpu:?}: choose its device with GGML_VK_VISIBLE_DEVICES=0, 1, ...",
                    figures.device
                )));
            }
            theirs.add("llama.cpp", repetition, &figures);
        }
    }

    let mut result = json!({
        "machine": machine,
        "model": model.file_name().map(|name| name.to_string_lossy().into_owned()),
        "tokens": { "prefill": plan.n_prefill, "decode": plan.n_decode, "decode_peer": plan.n_decode_peer },
        "ours": ours.to_json(),
    });
    println!("{:<10} prefill {:>8.2}  decode {:>8.2} tok/s", "ours", ours.prefill(), ours.decode());
    if peer.is_some() {
        let (prefill, decode) = (ours.prefill() / theirs.prefill(), ours.decode() / theirs.decode());
        println!("{:<10} prefill {:>8.2}  decode {:>8.2} tok/s", "llama.cpp", theirs.prefill(), theirs.decode());
        println!("{:<10} prefill {prefill:>8.2}  decode {decode:>8.2}", "ratio");
        result["llama_cpp_vulkan"] = theirs.to_json();
        result["ratio"] = json!({ "prefill": prefill, "decode": decode });
    }
    result::write("decode", &ours.device, result)
}

/// One repetition of our own program.
fn ours_arguments(command: &mut Command, model: &Path, plan: &Plan) {
    command.arg("bench").arg("--model").arg(model).args(["--format", "json", "--repetitions", "1"]);
    command.args(["--n-prompt", &plan.n_prefill.to_string(), "--n-gen", &plan.n_decode.to_string()]);
}

/// Reads what `adapter-cli bench` printed.
fn parse_ours(output: &str) -> Result<Figures> {
    let answer: Value = serde_json::from_str(output).map_err(|error| {
        Error::failed(format!("`adapter-cli bench` did not print JSON ({error}): {}", output.trim()))
    })?;
    // A row a test, as llama-bench has them: one only reads a prompt, the other only writes.
    let median = |phase: &str| {
        let rows = answer.get("tests").and_then(Value::as_array)?;
        let measures = |row: &&Value| row.get(phase).and_then(Value::as_u64).is_some_and(|n_tokens| n_tokens > 0);
        let speed = rows.iter().find(measures)?.pointer("/tokens_per_second/median")?;
        speed.as_f64().filter(|tps| tps.is_finite() && *tps > 0.0)
    };
    let figure = |phase: &str| {
        let missing = || Error::failed(format!("`adapter-cli bench` gave no speed for {phase}: {}", output.trim()));
        median(phase).ok_or_else(missing)
    };
    let (prefill_tps, decode_tps) = (figure("n_prompt")?, figure("n_gen")?);
    let device = answer.get("gpu").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Figures { prefill_tps, decode_tps, device, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_change_the_plan() {
        assert_eq!(Plan::parse(&[]).expect("the default"), Plan::DEFAULT);
        let plan = Plan::parse(&args("--repeat 3 --peers --prefill 64")).expect("a plan");
        assert_eq!(plan, Plan { peers: true, n_repetitions: 3, n_prefill: 64, ..Plan::DEFAULT });
        for wrong in ["--fast", "--repeat", "--repeat 0", "--repeat many", "3"] {
            assert_eq!(Plan::parse(&args(wrong)).expect_err(wrong).exit_code(), 2);
        }
    }

    #[test]
    fn the_speeds_are_found_in_the_programs_answer() {
        let answer = json!({ "gpu": "llvmpipe", "tests": [
            { "test": "pp256", "n_prompt": 256, "n_gen": 0, "tokens_per_second": { "median": 120.5 } },
            { "test": "tg128", "n_prompt": 0, "n_gen": 128, "tokens_per_second": { "median": 30.25 } },
        ]});
        let ours = parse_ours(&answer.to_string()).expect("complete");
        assert_eq!((ours.prefill_tps, ours.decode_tps, ours.device.as_str()), (120.5, 30.25, "llvmpipe"));
        assert!(parse_ours("{\"tests\": []}").is_err());
        assert!(parse_ours("no GPU").is_err());
    }
}
