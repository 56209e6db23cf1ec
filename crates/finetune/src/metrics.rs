//! What happened in a training, step by step: one JSON object a line in `metrics.jsonl`.
//!
//! ```json
//! {"event":"step","step":1,"epoch":0.25,"loss":2.5,"lr":0.0001,"grad_norm":0.5,"tokens":512,"trained_tokens":130,"tokens_per_sec":96.5,"seconds":5.25}
//! {"event":"eval","step":1,"val_loss":2.25,"val_ppl":9.487735836358526,"best":true}
//! {"event":"checkpoint","step":1,"path":"step-1"}
//! {"event":"sample","step":1,"prompt":"Who are you?","answer":"Nova."}
//! {"event":"end","step":1,"reason":"done","seconds":6.5,"loss":2.5,"val_loss":2.25,"val_ppl":9.487735836358526,"skipped_steps":0}
//! ```
//!
//! A line is in the file before the next one is made, so a run that is killed loses at most the line it was writing. JSON
//! has no word for what is not finite: such a value is `null`, and `skipped` says why.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::metrics_error::MetricsError;
use crate::trainer::StepReport;

/// The longest line that is read: one with a sample of a long answer has some KiB.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// `skipped` of a step whose loss is not finite.
const NOT_FINITE: &str = "loss is not finite";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// An optimizer's step.
    Step(Step),
    /// A look at the validation rows.
    Eval(Eval),
    /// An adapter was saved.
    Checkpoint {
        /// The last step that is in it.
        step: u64,
        /// Where, as seen from the folder of the log.
        path: String,
    },
    /// An answer, to see what has been learnt.
    Sample {
        /// After which step; 0 is before the training.
        step: u64,
        /// What was asked.
        prompt: String,
        /// What it said.
        answer: String,
    },
    /// The training ended.
    End(End),
}

/// An optimizer's step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: u64,
    /// Passes over the data after it: 1.5 is in the middle of the second.
    pub epoch: f64,
    /// Mean cross entropy of its target tokens, in nats; `None`: not finite.
    pub loss: Option<f64>,
    /// Learning rate it was made with.
    pub lr: f64,
    /// Euclidean norm of the gradient before clipping; `None`: not finite.
    pub grad_norm: Option<f64>,
    /// Tokens of its batch.
    pub tokens: u64,
    /// Target tokens of these.
    pub trained_tokens: u64,
    /// Tokens a second.
    pub tokens_per_sec: f64,
    /// Seconds since the training, or this part of it, began.
    pub seconds: f64,
    /// Why it changed nothing, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// The end of a training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct End {
    /// The last step.
    pub step: u64,
    /// Why: `done`, `early` (no gain in validation), `interrupted`, or an error's sentence.
    pub reason: String,
    /// Seconds of training.
    pub seconds: f64,
    /// Mean loss of the last steps, in nats per token; `None`: not finite.
    pub loss: Option<f64>,
    /// The last validation, in nats per token; `None`: there was none.
    pub val_loss: Option<f64>,
    /// Perplexity, `exp(val_loss)`.
    pub val_ppl: Option<f64>,
    /// Steps that changed nothing because a number was not finite.
    pub skipped_steps: u64,
}

/// A look at the validation rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Eval {
    /// After which step.
    pub step: u64,
    /// Mean cross entropy, in nats per token; `None`: not finite.
    pub val_loss: Option<f64>,
    /// Perplexity, `exp(val_loss)`; `None`: not finite.
    pub val_ppl: Option<f64>,
    /// Whether it is the lowest loss so far.
    pub best: bool,
    /// Why there is no loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

impl Step {
    /// The line of a step that took `took` seconds, `seconds` after the training began; times to three decimals, which is more
    /// than a clock knows.
    #[must_use]
    pub fn of_report(report: &StepReport, epoch: f64, took: f64, seconds: f64) -> Self {
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        Self {
            step: report.step,
            epoch,
            loss: Some(f64::from(report.loss)),
            lr: report.learning_rate,
            grad_norm: Some(f64::from(report.grad_norm)),
            tokens: u64::from(report.n_tokens),
            trained_tokens: u64::from(report.n_targets),
            tokens_per_sec: rounded(f64::from(report.n_tokens) / took.max(1e-9)),
            seconds: rounded(seconds),
            skipped: report.skipped.map(|what| format!("the {what} is not finite")),
        }
    }
}

/// A mean of losses in which each new one counts a tenth, as if those before had always been there (bias-corrected): the first
/// value is the mean of one, and no start weighs on it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Smoothed {
    sum: f64,
    weight: f64,
}

impl Smoothed {
    /// With one more value. One that is not finite does not count.
    pub fn push(&mut self, value: f64) {
        if value.is_finite() {
            self.sum += (value - self.sum) * 0.1;
            self.weight += (1.0 - self.weight) * 0.1;
        }
    }

    /// The mean; `None` before the first value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl End {
    /// The end of a training of which `records` tell: the [smoothed](Smoothed) loss of its steps, and the last validation.
    #[must_use]
    pub fn of(records: &[Record], step: u64, reason: String, seconds: f64, skipped_steps: u64) -> Self {
        let (mut loss, mut val_loss) = (Smoothed::default(), None);
        for record in records {
            match record {
                Record::Step(step) => step.loss.into_iter().for_each(|new| loss.push(new)),
                Record::Eval(eval) => val_loss = eval.val_loss,
                _ => {}
            }
        }
        let seconds = (seconds * 1e3).round() / 1e3;
        Self { step, reason, seconds, loss: loss.mean(), val_loss, val_ppl: val_loss.map(f64::exp), skipped_steps }
    }
}

impl Eval {
    /// A look whose perplexity follows from its loss.
    #[must_use]
    pub fn of_loss(step: u64, val_loss: f64, best: bool) -> Self {
        Self { step, val_loss: Some(val_loss), val_ppl: Some(val_loss.exp()), best, ..Self::default() }
    }
}

impl Record {
    /// The step it belongs to.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(record) => record.step,
            Self::Eval(record) => record.step,
            Self::End(record) => record.step,
            Self::Checkpoint { step, .. } | Self::Sample { step, .. } => *step,
        }
    }

    /// The same with `null` for what JSON cannot write, and the reason where a loss is not finite.
    pub fn writable(&self) -> Self {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        // Speeds and times that are not finite say nothing.
        let number = |value: f64| if value.is_finite() { value } else { 0.0 };
        let reason = |loss: Option<f64>, skipped: &Option<String>| match (finite(loss), skipped) {
            (None, None) => Some(NOT_FINITE.to_owned()),
            (_, skipped) => skipped.clone(),
        };
        match self {
            Self::Step(record) => Self::Step(Step {
                epoch: number(record.epoch),
                loss: finite(record.loss),
                lr: number(record.lr),
                grad_norm: finite(record.grad_norm),
                tokens_per_sec: number(record.tokens_per_sec),
                seconds: number(record.seconds),
                skipped: reason(record.loss, &record.skipped),
                ..record.clone()
            }),
            Self::Eval(record) => Self::Eval(Eval {
                val_loss: finite(record.val_loss),
                val_ppl: finite(record.val_ppl),
                skipped: reason(record.val_loss, &record.skipped),
                ..record.clone()
            }),
            Self::End(record) => Self::End(End {
                seconds: number(record.seconds),
                loss: finite(record.loss),
                val_loss: finite(record.val_loss),
                val_ppl: finite(record.val_ppl),
                ..record.clone()
            }),
            Self::Checkpoint { .. } | Self::Sample { .. } => self.clone(),
        }
    }
}

/// The log of a training, open for more lines.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Opens a log, or begins one. A last line that was cut off by a crash is removed, so that the next one is whole.
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn open(path: &Path) -> Result<Self, MetricsError> {
        let at = |source| MetricsError::Io { source, path: path.to_owned() };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(at)?;
        let end = whole_lines(&mut file).map_err(at)?;
        file.set_len(end).map_err(at)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes a line, which is with the system when this returns: it outlives the program, though not the power.
    ///
    /// # Errors
    /// [`MetricsError::Io`], for instance a full disk.
    pub fn append(&mut self, record: &Record) -> Result<(), MetricsError> {
        let at = |source| MetricsError::Io { source, path: self.path.clone() };
        let mut line = serde_json::to_vec(&record.writable()).map_err(|error| at(error.into()))?;
        line.push(b'\n');
        // One write of the whole line: nobody who reads along sees half of it.
        self.file.write_all(&line).and_then(|()| self.file.flush()).map_err(at)
    }

    /// Removes what was written after `step`, and what says that the training ended: a training that goes on from a
    /// checkpoint makes those steps again. Returns how many lines were removed.
    ///
    /// The new file replaces the old one in one go, so that a crash leaves one of the two.
    ///
    /// # Errors
    /// As [`read`], and [`MetricsError::Io`].
    pub fn truncate_after(&mut self, step: u64) -> Result<u64, MetricsError> {
        let at = |source| MetricsError::Io { source, path: self.path.clone() };
        let log = read(&self.path)?;
        let all = log.records.len();
        let stays = |record: &Record| record.step() <= step && !matches!(record, Record::End { .. });
        let kept: Vec<Record> = log.records.into_iter().filter(stays).collect();
        if kept.len() == all {
            return Ok(0);
        }
        let mut text = Vec::new();
        for record in &kept {
            serde_json::to_writer(&mut text, &record.writable()).map_err(|error| at(error.into()))?;
            text.push(b'\n');
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = self.path.with_file_name(name);
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            OpenOptions::new().read(true).append(true).open(&self.path)
        };
        let written = write();
        if written.is_err() {
            // Nothing more can be done about a file that cannot be removed either.
            let _ = std::fs::remove_file(&new);
        }
        self.file = written.map_err(at)?;
        Ok((all - kept.len()) as u64)
    }
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let part = block.get_mut(..(end - start) as usize).unwrap_or_default();
        file.read_exact(part)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// What stands in a log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// The records, in the order of the file.
    pub records: Vec<Record>,
    /// Last lines that were dropped because they were cut off: 0 or 1.
    pub torn: u64,
}

/// The last record of a log, without reading what is before it. `None`: there is none, or a crash cut it off.
///
/// # Errors
/// A file that cannot be read.
pub fn last(path: &Path) -> Result<Option<Record>, MetricsError> {
    let at = |source| MetricsError::Io { source, path: path.to_owned() };
    let mut file = File::open(path).map_err(at)?;
    let length = file.metadata().map_err(at)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LINE_BYTES))).map_err(at)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(at)?;
    let line = tail.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice(line).ok())
}

/// Reads a log. A last line that a crash cut off is left out and counted; keys this version does not know are passed over.
///
/// # Errors
/// A file that cannot be read, and a line before the last that is no record.
pub fn read(path: &Path) -> Result<Metrics, MetricsError> {
    let at = |source| MetricsError::Io { source, path: path.to_owned() };
    let mut reader = BufReader::new(File::open(path).map_err(at)?);
    let mut metrics = Metrics::default();
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(at)?;
        let is_whole = line.last() == Some(&b'\n');
        if line.is_empty() {
            return Ok(metrics);
        }
        let too_long = !is_whole && line.len() as u64 == MAX_LINE_BYTES;
        if !is_whole && !too_long {
            metrics.torn = 1;
            return Ok(metrics);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let reason = match serde_json::from_slice(&line) {
            Ok(record) => {
                metrics.records.push(record);
                continue;
            }
            Err(_) if too_long => format!("it has more than {MAX_LINE_BYTES} bytes"),
            Err(error) => error.to_string(),
        };
        return Err(MetricsError::Line { line: number, reason, path: path.to_owned() });
    }
}
