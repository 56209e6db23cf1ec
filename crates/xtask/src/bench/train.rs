//! Training steps of ours on this GPU beside Hugging Face PEFT on PyTorch's CPU: the same model, batch, length and adapter.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::result::{self, Samples};
use crate::error::{Error, Result};
use crate::peers::python::Venv;
use crate::{chat, machine, model, process, setup};

const KNOWN: &str = "--repeat N, --batches 4x128,1x512, --model FILE, --install-peers";
/// PEFT's steps a repetition; each is a second or two, ours many.
const PEER_STEPS: &str = "3";
const MIB: f64 = 1024.0 * 1024.0;

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    n_repetitions: u32,
    batches: Vec<(u32, u32)>,
    model: Option<PathBuf>,
    install_peers: bool,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self { n_repetitions: 5, batches: vec![(4, 128), (1, 512)], model: None, install_peers: false };
        let mut install_peers = false;
        super::read_flags(
            args,
            KNOWN,
            |flag| {
                let known = flag == "--install-peers";
                install_peers |= known;
                known
            },
            |flag, text| {
                Some(match flag {
                    "--repeat" => super::number(flag, text).map(|n| plan.n_repetitions = n),
                    "--batches" => batches(text).map(|batches| plan.batches = batches),
                    "--model" if !text.is_empty() => {
                        plan.model = Some(text.into());
                        Ok(())
                    }
                    _ => return None,
                })
            },
        )?;
        Ok(Self { install_peers, ..plan })
    }
}

/// `4x128,1x512`
fn batches(text: &str) -> Result<Vec<(u32, u32)>> {
    let wrong = || Error::usage("--batches takes rows times tokens with commas between them, such as 4x128,1x512");
    let batch = |part: &str| {
        let (rows, tokens) = part.split_once('x').ok_or_else(wrong)?;
        match (super::number("--batches", rows), super::number("--batches", tokens)) {
            (Ok(rows), Ok(tokens)) if tokens > 1 => Ok((rows, tokens)),
            _ => Err(wrong()),
        }
    };
    text.split(',').map(batch).collect()
}

/// One side's figures of one batch.
#[derive(Debug, Default)]
struct Side {
    tps: Samples,
    peak_mib: Samples,
    last_answer: Value,
}

impl Side {
    fn to_json(&self) -> Value {
        json!({
            "tokens_per_s": self.tps.to_json(),
            "peak_rss_mib": self.peak_mib.to_json(),
            "last_answer": self.last_answer,
        })
    }
}

/// `cargo xtask bench --train`.
pub fn run(args: &[String]) -> Result<()> {
    let plan = Plan::parse(args)?;
    setup::ensure()?;
    let model = plan.model.clone().map_or_else(model::ensure, Ok)?;
    drop(chat::cli_with_training()?); // built before the first measurement
    let machine = machine::describe();
    let peft = Venv::find(plan.install_peers, "cargo xtask bench --train");
    if let Err(why) = &peft {
        if plan.install_peers {
            return Err(Error::failed(why.to_string()));
        }
        println!("{why}; ours is measured alone");
    }
    let mut results = Vec::new();
    let mut gpu = String::new();
    for (rows, tokens) in &plan.batches {
        let name = format!("{rows} x {tokens}");
        let (mut ours, mut theirs) = (Side::default(), Side::default());
        for repetition in 1..=plan.n_repetitions {
            measure_ours(&mut ours, &model, *rows, *tokens)?;
            report("ours", &name, &ours, repetition);
            if let Ok(venv) = &peft {
                measure_peft(&mut theirs, venv, &model, *rows, *tokens, &ours.last_answer)?;
                report("PEFT", &name, &theirs, repetition);
            }
        }
        gpu = ours.last_answer["gpu"].as_str().unwrap_or_default().to_owned();
        let mut result = json!({ "batch": { "rows": rows, "tokens": tokens }, "ours": ours.to_json() });
        println!("ours  {name}: {:.1} tokens/s, {:.0} MiB", ours.tps.median(), ours.peak_mib.median());
        if peft.is_ok() {
            let speed = ours.tps.median() / theirs.tps.median();
            let memory = ours.peak_mib.median() / theirs.peak_mib.median();
            println!("PEFT  {name}: {:.1} tokens/s, {:.0} MiB", theirs.tps.median(), theirs.peak_mib.median());
            println!("ratio {name}: {speed:.3} of its speed, {memory:.3} of its memory");
            result["peft"] = theirs.to_json();
            result["ratio"] = json!({ "tokens_per_s": speed, "peak_rss": memory });
        }
        results.push(result);
    }
    let model = model.file_name().map(|name| name.to_string_lossy().into_owned());
    result::write("train", &gpu, json!({ "machine": machine, "model": model, "batches": results }))
}

fn report(side: &str, batch: &str, figures: &Side, repetition: u32) {
    let answer = &figures.last_answer;
    let speed = answer.pointer("/tests/0/tokens_per_second/median").or_else(|| answer.pointer("/tokens_per_s"));
    let speed = speed.and_then(Value::as_f64).unwrap_or(f64::NAN);
    println!("{side:<5} {batch}: {speed:>8.1} tokens/s  ({repetition})");
}

/// A process a repetition: one step that does not count, and one that does.
fn measure_ours(side: &mut Side, model: &Path, rows: u32, tokens: u32) -> Result<()> {
    let mut command = chat::cli_built()?;
    command.args(["bench", "--format", "json", "--repetitions", "1", "--train", &format!("{rows}x{tokens}")]);
    let answer = result::parse(&process::output(command.arg("--model").arg(model))?, "adapter-cli bench")?;
    side.tps.push(result::figure(&answer, "/tests/0/tokens_per_second/median", "adapter-cli bench")?);
    side.peak_mib.push(result::figure(&answer, "/peak_rss_bytes", "adapter-cli bench")? / MIB);
    side.last_answer = answer;
    Ok(())
}

/// PEFT with the adapter that ours had.
fn measure_peft(side: &mut Side, venv: &Venv, model: &Path, rows: u32, tokens: u32, ours: &Value) -> Result<()> {
    let mut command = venv.script("peft_train.py");
    command.arg("--gguf").arg(model).args(["--json", "--steps", PEER_STEPS]);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    command.args(["--batch", &rows.to_string(), "--tokens", &tokens.to_string(), "--threads", &threads.to_string()]);
    for (flag, key) in [("--adapter-len", "adapter_len"), ("--adapter-layers", "adapter_layers")] {
        command.args([flag, &ours[key].to_string()]);
    }
    let answer = result::parse(&process::output(&mut command)?, "peft_train.py")?;
    side.tps.push(result::figure(&answer, "/tokens_per_s", "peft_train.py")?);
    side.peak_mib.push(result::figure(&answer, "/peak_rss_mb", "peft_train.py")?);
    side.last_answer = answer;
    Ok(())
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
        let plan = parse("").expect("the default");
        assert_eq!((plan.n_repetitions, plan.batches.as_slice()), (5, [(4, 128), (1, 512)].as_slice()));
        let plan = parse("--repeat 2 --install-peers --batches 2x64 --model a.gguf").expect("a plan");
        assert!(plan.install_peers);
        assert_eq!((plan.n_repetitions, plan.batches.as_slice()), (2, [(2, 64)].as_slice()));
        assert_eq!(plan.model, Some("a.gguf".into()));
        for wrong in ["--batches 4", "--batches 4x1", "--batches 0x8", "--model", "--peers"] {
            assert_eq!(parse(wrong).expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}
