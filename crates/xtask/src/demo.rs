//! `cargo xtask demo-finetune`: the small model learns something that can be seen, on this GPU.
//!
//! It learns from 91 short rows who it is; then it is asked what no row asks. Or, with `--alpaca`, it learns from 900 answers
//! to instructions, and the loss on 99 others is drawn.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::package::Packaged;
use crate::{cache, chat, model, process, setup};

/// The name it learns, and who made it.
const NAME: &str = "Nova";
const AUTHOR: &str = "the Harbour School";
/// Questions that no row asks.
const QUESTIONS: [&str; 6] = [
    "What should I call you?",
    "Hey there! Which assistant am I talking to?",
    "Tell me your name, please.",
    "Which company developed you?",
    "I'd like to know who trained you.",
    "Say hello and tell me who you are.",
];
/// Few rows, so small batches and a high rate: many steps a row. What `-- ARGS` sets wins.
const RECIPE: [(&str, &str); 4] =
    [("--batch-tokens", "256"), ("--epochs", "4"), ("--lr", "8e-3"), ("--validate-every", "40")];
/// So many of the answers must have the name or the maker in them.
const ENOUGH: usize = 4;

/// Apache-2.0.
const IDENTITY: Packaged = Packaged {
    what: "the rows about identity",
    name: "identity.json",
    package: "llamafactory==0.9.5",
    pieces: &[],
    in_source: true,
    size_bytes: 20_306,
    sha256: "fd029da7dd3df283ed034c82375d16d125a7b07cf1cb0316d03fb8743057d5f2",
};
/// Answers of another model to instructions: for research, not for products.
const ALPACA: Packaged = Packaged {
    what: "the instructions",
    name: "alpaca_en_demo.json",
    size_bytes: 859_893,
    sha256: "bcc37c64db1a739a0789a1b81f251146fcf4459f903474bc9e3c21bbb5628318",
    ..IDENTITY
};

/// `cargo xtask demo-finetune [--alpaca] [-- ARGS]`; ARGS go to `adapter-cli finetune`.
pub fn run(rest: &[String]) -> Result<()> {
    let (flags, args) = match rest.iter().position(|arg| arg == "--") {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
        None => (rest, &[][..]),
    };
    let alpaca = match flags {
        [] => false,
        [flag] if flag == "--alpaca" => true,
        _ => return Err(Error::usage("`cargo xtask demo-finetune` takes --alpaca, and `-- ARGS` for adapter-cli")),
    };
    setup::ensure()?;
    let demo = Demo { model: model::ensure()? };
    drop(chat::cli_with_training()?); // what answers before the training is the program that trains
    if alpaca { demo.alpaca(args) } else { demo.identity(args) }
}

struct Demo {
    model: PathBuf,
}

impl Demo {
    fn identity(&self, args: &[String]) -> Result<()> {
        let data = IDENTITY.ensure()?;
        let rows = std::fs::read_to_string(&data).map_err(|error| Error::io("read", &data, &error))?;
        if let Some(question) = QUESTIONS.iter().find(|question| asks(&rows, question)) {
            return Err(Error::failed(format!("{question:?} is one of the rows: it shows nothing")));
        }
        let before = self.answers("none")?;
        let logits_before = self.logits("none")?;
        let out = self.folder("demo-identity")?;
        let start = Instant::now();
        let mut command = chat::cli_built()?;
        command.arg("finetune").arg("--model").arg(&self.model).arg("--data").arg(&data).arg("--out").arg(&out);
        command.args(["--set", &format!("name={NAME}"), "--set", &format!("author={AUTHOR}")]);
        command.args(["--sample", QUESTIONS[0], "--sample", "What is the capital of France?"]);
        command.args(recipe(args)).args(args);
        process::run(&mut command)?;
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let adapter = out.display().to_string();
        let after = self.answers(&adapter)?;
        println!("\nAsked what no row asks, before and after {minutes:.1} minutes of training:\n");
        for ((question, before), after) in QUESTIONS.iter().zip(&before).zip(&after) {
            println!("> {question}\n  before: {before}\n  after:  {after}\n");
        }
        let again = self.answers("none")?;
        if again != before || self.logits("none")? != logits_before {
            return Err(Error::failed("with the adapter off the model answers otherwise than before"));
        }
        println!("With the adapter off, answers and logits are those from before, bit for bit.");
        let knows = |text: &&String| text.contains(NAME) || text.contains(AUTHOR);
        let (knew, known) = (before.iter().filter(knows).count(), after.iter().filter(knows).count());
        println!("{known} of {} answers have the new name or maker (before: {knew}).", QUESTIONS.len());
        if known < ENOUGH {
            return Err(Error::failed(format!("only {known} of {} answers know the name", QUESTIONS.len())));
        }
        Ok(())
    }

    fn alpaca(&self, args: &[String]) -> Result<()> {
        let data = ALPACA.ensure()?;
        let out = self.folder("demo-alpaca")?;
        let mut command = chat::cli_built()?;
        command.arg("finetune").arg("--model").arg(&self.model).arg("--data").arg(&data).arg("--out").arg(&out);
        command.args(args);
        process::run(&mut command)?;
        let metrics = out.join("metrics.jsonl");
        let text = std::fs::read_to_string(&metrics).map_err(|error| Error::io("read", &metrics, &error))?;
        let curve = validation_curve(&text);
        println!("\n| step | validation loss |\n| ---: | ---: |");
        for (step, loss) in &curve {
            println!("| {step} | {loss:.4} |");
        }
        match (curve.first(), curve.last()) {
            (Some((_, first)), Some((_, last))) if last < first => Ok(()),
            _ => Err(Error::failed("the validation loss did not fall")),
        }
    }

    /// An empty folder in the cache.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = cache::folder()?.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, &error))?;
        }
        Ok(path)
    }

    fn answers(&self, adapter: &str) -> Result<Vec<String>> {
        QUESTIONS
            .iter()
            .map(|question| {
                let mut command = chat::cli_built()?;
                command.arg("generate").arg("--model").arg(&self.model).args(["--adapter", adapter, "--greedy"]);
                command.args(["--json", "--max-tokens", "40", "--prompt", question]);
                let report: Value = serde_json::from_str(&process::output(&mut command)?)
                    .map_err(|error| Error::failed(format!("adapter-cli wrote no JSON: {error}")))?;
                Ok(report["text"].as_str().unwrap_or_default().trim().replace('\n', " "))
            })
            .collect()
    }

    /// The logits of a question, as bytes.
    fn logits(&self, adapter: &str) -> Result<Vec<u8>> {
        let scratch = cache::Scratch::new("demo")?;
        let (ids, out) = (scratch.path().join("ids.json"), scratch.path().join("logits.safetensors"));
        std::fs::write(&ids, "[1, 4093, 198, 1780, 359, 346, 47, 2, 198]")
            .map_err(|error| Error::io("write", &ids, &error))?;
        let mut command = chat::cli_built()?;
        command.args(["debug", "logits", "--adapter", adapter]).arg("--model").arg(&self.model);
        process::output(command.arg("--ids").arg(&ids).arg("--out").arg(&out))?;
        std::fs::read(&out).map_err(|error| Error::io("read", &out, &error))
    }
}

/// The settings of [`RECIPE`] that `args` leave open.
fn recipe(args: &[String]) -> impl Iterator<Item = &'static str> {
    let sets = |flag: &str| args.iter().any(|arg| arg.split('=').next() == Some(flag));
    let steps = sets("--steps");
    let open = RECIPE.iter().filter(move |(flag, _)| !(sets(flag) || steps && *flag == "--epochs"));
    open.flat_map(|(flag, value)| [*flag, *value])
}

/// Whether a row asks just this.
fn asks(rows: &str, question: &str) -> bool {
    let rows: Value = serde_json::from_str(rows).unwrap_or_default();
    let plain = |text: &str| text.to_lowercase().trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let asked = |row: &Value| row["instruction"].as_str().is_some_and(|text| plain(text) == plain(question));
    rows.as_array().is_some_and(|rows| rows.iter().any(asked))
}

/// `(step, loss)` of every validation in `metrics.jsonl`.
fn validation_curve(text: &str) -> Vec<(u64, f64)> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|record| record["event"] == "eval")
        .filter_map(|record| Some((record["step"].as_u64()?, record["val_loss"].as_f64()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_the_rows_is_noticed() {
        let rows = r#"[{"instruction": "What is your name?", "output": "x"}]"#;
        assert!(asks(rows, "what is your name"));
        assert!(!asks(rows, "What are you called?"));
    }

    #[test]
    fn what_the_caller_sets_wins() {
        let of =
            |line: &str| recipe(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>().join(" ");
        assert_eq!(of("--seed 1"), "--batch-tokens 256 --epochs 4 --lr 8e-3 --validate-every 40");
        assert_eq!(of("--steps 9 --lr=1e-3 --batch-tokens 64"), "--validate-every 40");
    }

    #[test]
    fn the_curve_is_that_of_the_validations() {
        // The lines that the documentation of `adapter_finetune::metrics` shows, as the trainer writes them.
        let text = "{\"event\":\"eval\",\"step\":0,\"val_loss\":2.5,\"val_ppl\":12.18,\"best\":true}\n\
                    {\"event\":\"step\",\"step\":1,\"loss\":9,\"lr\":0.1}\n\
                    {\"event\":\"eval\",\"step\":9,\"val_loss\":2.25,\"val_ppl\":9.49,\"best\":true}\n{\"event\":\"ev";
        assert_eq!(validation_curve(text), [(0, 2.5), (9, 2.25)]);
    }
}
