//! `metrics.jsonl`: what happened in a run, an object a line, for programs and for plots.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::StepReport;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// One optimizer step.
    Step(StepRecord),
    /// The loss on rows that are not learnt.
    Validation {
        /// After this step.
        step: u64,
        /// Nats a token; null where it is not finite.
        loss: Option<f64>,
        /// e to the loss.
        perplexity: Option<f64>,
        /// Whether it is the lowest so far.
        best: bool,
        /// Of training and validation so far.
        seconds: f64,
    },
    /// An answer of the adapter as it was.
    Sample {
        /// After this step; 0 is the model before training.
        step: u64,
        /// What was asked.
        prompt: String,
        /// What it said.
        answer: String,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// After this step.
        step: u64,
        /// Its folder.
        path: String,
    },
    /// The run is over.
    End {
        /// `done`, `early` (no gain in validation), `interrupted` or `failed`.
        reason: String,
        /// Steps done.
        step: u64,
        /// Steps left out because a number was not finite.
        skipped: u64,
        /// Mean loss of the last steps.
        loss: Option<f64>,
        /// The last validation.
        validation_loss: Option<f64>,
        /// e to that.
        validation_perplexity: Option<f64>,
        /// Of training and validation in all.
        seconds: f64,
    },
}

/// One optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: u64,
    /// Times all rows were used.
    pub epoch: f64,
    /// Nats a token; null where it is not finite.
    pub loss: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// Before clipping; null where it is not finite.
    pub grad_norm: Option<f64>,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Tokens of it that are learnt.
    pub trained_tokens: u32,
    /// Tokens a second in this step.
    pub tokens_per_second: f64,
    /// Of training and validation so far.
    pub seconds: f64,
    /// Which number was not finite: the step changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// JSON has no NaN.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl Record {
    /// The line of a step that took `step_seconds`, the run `seconds` so far.
    pub fn step(report: &StepReport, epoch: f64, step_seconds: f64, seconds: f64) -> Self {
        Self::Step(StepRecord {
            step: report.step,
            epoch,
            loss: finite(f64::from(report.loss)),
            lr: report.learning_rate,
            grad_norm: finite(f64::from(report.grad_norm)),
            tokens: report.n_tokens,
            trained_tokens: report.n_targets,
            tokens_per_second: finite(f64::from(report.n_tokens) / step_seconds).unwrap_or_default(),
            seconds,
            skipped: report.skipped.map(|what| format!("the {what} is not finite")),
        })
    }

    /// The line of a validation.
    pub fn validation(step: u64, loss: f64, best: bool, seconds: f64) -> Self {
        Self::Validation { step, loss: finite(loss), perplexity: finite(loss.exp()), best, seconds }
    }

    /// After which step it was written.
    pub fn after_step(&self) -> u64 {
        match self {
            Self::Step(StepRecord { step, .. })
            | Self::Validation { step, .. }
            | Self::Sample { step, .. }
            | Self::Checkpoint { step, .. }
            | Self::End { step, .. } => *step,
        }
    }

    /// As a line of JSON, with its end.
    ///
    /// # Errors
    /// Never for these types; serde's signature.
    pub fn line(&self) -> io::Result<String> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        Ok(line)
    }
}

/// The lines of a file, and how many could not be read: the last one of a program that was killed.
///
/// # Errors
/// What the system says.
pub fn read(path: &Path) -> io::Result<(Vec<Record>, u64)> {
    let (mut records, mut torn) = (Vec::new(), 0);
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        match serde_json::from_slice(&line) {
            Ok(record) => records.push(record),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => torn += 1,
        }
        line.clear();
    }
    Ok((records, torn))
}

/// A file that lines are added to; each is on its way to the disk when the call returns.
#[derive(Debug)]
pub struct Log(std::fs::File);

impl Log {
    /// A new file.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        std::fs::File::create(path).map(Self)
    }

    /// Goes on with a file after a resume from `step`: what was written behind that step is dropped, so that no step stands
    /// there twice. Returns the lines that stay.
    ///
    /// # Errors
    /// What the system says.
    pub fn resume(path: &Path, step: u64) -> io::Result<(Self, Vec<Record>)> {
        let mut records = match read(path) {
            Ok((records, _)) => records,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        records.retain(|record| record.after_step() <= step && !matches!(record, Record::End { .. }));
        let mut text = String::new();
        for record in &records {
            text.push_str(&record.line()?);
        }
        let temporary = path.with_extension("jsonl.new");
        std::fs::write(&temporary, text)?;
        std::fs::rename(&temporary, path)?;
        Ok((Self(std::fs::OpenOptions::new().append(true).open(path)?), records))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        self.0.write_all(record.line()?.as_bytes())
    }
}
