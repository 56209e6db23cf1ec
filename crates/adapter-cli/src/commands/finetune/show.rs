//! What a person sees of a run: what will be done, a bar, answers, the end.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use adapter_engine::text::TerminalSanitizer;
use adapter_finetune::data::{DatasetReport, Sample};
use adapter_finetune::metrics::Record;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::failure::Failure;
use crate::output;
use crate::printable;

/// Where words and records go.
pub struct Show {
    json: bool,
    bar: ProgressBar,
    terminal: bool,
    n_steps: u64,
    loss: Option<f64>,
}

impl Show {
    /// With `json`, records go to standard output and words to standard error; else words go to standard output.
    pub fn new(json: bool) -> Self {
        Self { json, bar: ProgressBar::hidden(), terminal: io::stderr().is_terminal(), n_steps: 0, loss: None }
    }

    /// A line of words.
    ///
    /// # Errors
    /// The output is closed.
    pub fn say(&self, text: &str) -> Result<(), Failure> {
        let text: String = text.lines().map(|line| format!("{}\n", printable::printable(line))).collect();
        self.bar.suspend(|| match self.json {
            true => {
                // Nobody is left to tell when standard error is closed.
                let _ = io::stderr().lock().write_all(text.as_bytes());
                Ok(())
            }
            false => Ok(io::stdout().lock().write_all(text.as_bytes())?),
        })
    }

    /// Words that have been made safe, to standard output.
    ///
    /// # Errors
    /// The output is closed.
    pub fn say_raw(&self, text: &str) -> Result<(), Failure> {
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }

    /// A record, where programs listen.
    ///
    /// # Errors
    /// The output is closed.
    pub fn record(&self, record: &Record) -> Result<(), Failure> {
        if self.json {
            let mut out = io::stdout().lock();
            out.write_all(&output::json_line(&record.writable())?)?;
            out.flush()?;
        }
        Ok(())
    }

    /// What was found in the rows: words, and an object where programs listen.
    ///
    /// # Errors
    /// The output is closed.
    pub fn data(&self, report: &DatasetReport) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Event<'a> {
            event: &'static str,
            #[serde(flatten)]
            report: &'a DatasetReport,
        }
        self.say(&report.to_string())?;
        if self.json {
            let mut out = io::stdout().lock();
            out.write_all(&output::json_line(&Event { event: "data", report })?)?;
            out.flush()?;
        }
        Ok(())
    }

    /// Begins the bar.
    pub fn start(&mut self, n_steps: u64, done: u64) {
        self.n_steps = n_steps;
        self.bar = output::bar(n_steps, "{wide_bar} {pos}/{len} {msg} {eta} left");
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// One step done. Where nobody looks at a bar, a line now and then.
    ///
    /// # Errors
    /// The output is closed.
    pub fn step(&mut self, step: u64, loss: f64, rate: f64, tokens_per_second: f64) -> Result<(), Failure> {
        // As smooth as an eye likes it, and as quick as twenty steps.
        let smooth = self.loss.filter(|_| loss.is_finite()).map_or(loss, |before| before + (loss - before) * 0.1);
        self.loss = Some(smooth);
        self.bar.set_position(step);
        self.bar.set_message(format!("loss {smooth:.3}, lr {rate:.1e}, {tokens_per_second:.0} tokens/s,"));
        let every = (self.n_steps / 20).max(1);
        if !self.terminal && (step.is_multiple_of(every) || step == 1) {
            self.say(&format!(
                "step {step}/{}: loss {loss:.3}, lr {rate:.1e}, {tokens_per_second:.0} tokens/s",
                self.n_steps
            ))?;
        }
        Ok(())
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Rows as tokens, target tokens marked: in colour for a terminal, in brackets elsewhere. Control tokens are underlined, or in
/// guillemets, so that they differ from letters that spell one.
pub fn samples(samples: &[Sample]) -> String {
    let colour = io::stdout().is_terminal();
    let (on, off) = if colour { ("\x1b[30;42m", "\x1b[39;49m") } else { ("[", "]") };
    let (control_on, control_off) = if colour { ("\x1b[4m", "\x1b[24m") } else { ("«", "»") };
    let (target, control) = if colour { ("on green", "underlined") } else { ("in brackets", "in « »") };
    let mut out = String::new();
    for sample in samples {
        let targets = sample.tokens.iter().filter(|token| token.trained).count();
        let _ = writeln!(
            out,
            "row {}: {} tokens, {targets} target tokens ({target}); control tokens {control}",
            sample.row + 1,
            sample.tokens.len()
        );
        let mut marked = false;
        for token in &sample.tokens {
            if token.trained != marked {
                out.push_str(if token.trained { on } else { off });
                marked = token.trained;
            }
            let text = TerminalSanitizer::new().push(&token.text);
            match token.control {
                true => {
                    let _ = write!(out, "{control_on}{text}{control_off}"); // a String takes everything
                }
                false => out.push_str(&text),
            }
        }
        if marked {
            out.push_str(off);
        }
        out.push_str("\n\n");
    }
    out
}

/// `2 h 05 min`, `3 min 20 s`, `12 s`
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}
