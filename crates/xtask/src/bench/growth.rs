//! What it costs as work grows: speed by the length of the context, a training step by the length of the batch, and the
//! memory of both.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::result;
use crate::error::{Error, Result};
use crate::{chat, machine, model, process, setup};

const KNOWN: &str = "--repeat N, --depths 128,1024,4096,8064, --lengths 128,256,512,1024, --model FILE";
/// Tokens read and written at each depth: few, so that the depth is what is measured.
const N_PREFILL: u32 = 64;
const N_DECODE: u32 = 16;

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    n_repetitions: u32,
    /// Tokens in the context before a test.
    depths: Vec<u32>,
    /// Tokens of a training batch of one row.
    lengths: Vec<u32>,
    model: Option<PathBuf>,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        // 8064 and the 64 of the test are the whole context of SmolLM2, less what is computed ahead.
        let (depths, lengths) = (vec![128, 1024, 4096, 8064], vec![128, 256, 512, 1024]);
        let mut plan = Self { n_repetitions: 3, depths, lengths, model: None };
        super::read_flags(
            args,
            KNOWN,
            |_| false,
            |flag, text| {
                Some(match flag {
                    "--repeat" => super::number(flag, text).map(|n| plan.n_repetitions = n),
                    "--depths" => super::numbers(flag, text).map(|depths| plan.depths = depths),
                    "--lengths" => super::numbers(flag, text).map(|lengths| plan.lengths = lengths),
                    "--model" if !text.is_empty() => {
                        plan.model = Some(text.into());
                        Ok(())
                    }
                    _ => return None,
                })
            },
        )?;
        // Each is reached from the one before.
        plan.depths.sort_unstable();
        plan.lengths.sort_unstable();
        Ok(plan)
    }
}

/// `cargo xtask bench --growth`.
pub fn run(args: &[String]) -> Result<()> {
    let plan = Plan::parse(args)?;
    setup::ensure()?;
    let model = plan.model.clone().map_or_else(model::ensure, Ok)?;
    drop(chat::cli_with_training()?);
    let machine = machine::describe();
    let bench = |flags: &[String]| -> Result<Value> {
        let mut command = chat::cli_built()?;
        command.args(["bench", "--format", "json", "--repetitions", &plan.n_repetitions.to_string()]);
        command.args(flags).arg("--model").arg(&model);
        result::parse(&process::output(&mut command)?, "adapter-cli bench")
    };
    // Training first: it takes seconds a length, a full context takes minutes.
    let mut training = Vec::new();
    for length in &plan.lengths {
        // A process each, so that its peak of memory is its own.
        let answer = bench(&["--train".to_owned(), format!("1x{length}")])?;
        let row = training_row(*length, &answer)?;
        let ratio = row["gpu_bytes"].as_f64().unwrap_or_default() / row["predicted_bytes"].as_f64().unwrap_or_default();
        println!(
            "training step of {length} tokens: {:.2} s, {:.1} tokens/s, GPU memory {ratio:.3} of what was predicted",
            row["step_s"].as_f64().unwrap_or_default(),
            row["tokens_per_s"].as_f64().unwrap_or_default(),
        );
        training.push(row);
    }
    let depths = plan.depths.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let flags = ["-p".to_owned(), N_PREFILL.to_string(), "-n".to_owned(), N_DECODE.to_string()];
    let answer = bench(&[flags.as_slice(), &["--depth".to_owned(), depths]].concat())?;
    let context = context_rows(&answer)?;
    for row in &context {
        println!(
            "after {} tokens: prefill {:.1}, decode {:.2} tokens/s, GPU memory {:.3} of what was predicted",
            row["depth"],
            row["prefill_tokens_per_s"].as_f64().unwrap_or_default(),
            row["decode_tokens_per_s"].as_f64().unwrap_or_default(),
            row["gpu_bytes"].as_f64().unwrap_or_default() / row["predicted_bytes"].as_f64().unwrap_or_default(),
        );
    }
    let gpu = answer["gpu"].as_str().unwrap_or_default().to_owned();
    let result = json!({
        "machine": machine,
        "model": model.file_name().map(|name| name.to_string_lossy().into_owned()),
        "gpu": gpu,
        "driver": answer["driver"],
        "n_repetitions": plan.n_repetitions,
        "tokens": { "prefill": N_PREFILL, "decode": N_DECODE },
        "cache_bytes_per_position": answer["cache_bytes_per_position"],
        "context": context,
        "training": training,
    });
    result::write("growth", &gpu, result)
}

fn training_row(length: u32, answer: &Value) -> Result<Value> {
    let figure = |pointer: &str| result::figure(answer, pointer, "adapter-cli bench");
    let speed = figure("/tests/0/tokens_per_second/median")?;
    Ok(json!({
        "tokens": length,
        "tokens_per_s": speed,
        "step_s": f64::from(length) / speed,
        "gpu_bytes": figure("/tests/0/gpu_bytes")?,
        "predicted_bytes": figure("/tests/0/predicted_bytes")?,
        "peak_rss_bytes": answer["peak_rss_bytes"],
    }))
}

/// A row a depth, of the two tests that were made there.
fn context_rows(answer: &Value) -> Result<Vec<Value>> {
    let tests = answer["tests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |test: &&Value, key: &str| test[key].as_u64().is_some_and(|n_tokens| n_tokens > 0);
    let reads = tests.iter().filter(|test| is(test, "n_prompt"));
    reads
        .map(|read| {
            let write = tests.iter().find(|test| is(test, "n_gen") && test["n_depth"] == read["n_depth"]);
            let write = write.ok_or_else(|| Error::failed(format!("no decode at depth {}", read["n_depth"])))?;
            let median = |test| result::figure(test, "/tokens_per_second/median", "adapter-cli bench");
            Ok(json!({
                "depth": read["n_depth"],
                "prefill_tokens_per_s": median(read)?,
                "decode_tokens_per_s": median(write)?,
                "gpu_bytes": write["gpu_bytes"],
                "predicted_bytes": write["predicted_bytes"],
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_and_lengths_are_taken_in_rising_order() {
        let args = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let plan = Plan::parse(&args("--depths 512,128 --lengths 64 --repeat 1")).expect("a plan");
        assert_eq!((plan.depths, plan.lengths, plan.n_repetitions), (vec![128, 512], vec![64], 1));
        assert_eq!(Plan::parse(&args("--depths 1,,2")).expect_err("refused").exit_code(), 2);
    }

    #[test]
    fn both_tests_of_a_depth_become_one_row() {
        let test = |n_prompt, n_gen, depth, speed| {
            json!({ "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth, "gpu_bytes": 9,
                "tokens_per_second": { "median": speed } })
        };
        let tests = vec![test(64, 0, 128, 70.0), test(0, 16, 128, 19.0), test(64, 0, 1024, 60.0)];
        let rows = context_rows(&json!({ "tests": tests[..2] })).expect("one row");
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0]["prefill_tokens_per_s"], &rows[0]["decode_tokens_per_s"]), (&json!(70.0), &json!(19.0)));
        assert!(context_rows(&json!({ "tests": tests })).is_err(), "the second depth has no decode");
    }
}
