//! What a person sees of a run: what will be done, a bar, answers, the end.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use adapter_engine::text::TerminalSanitizer;
use adapter_finetune::Run;
use adapter_finetune::data::{DatasetReport, Sample};
use adapter_finetune::driver::{Listener, News};
use adapter_finetune::metrics::{Record, Smoothed};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::failure::Failure;
use crate::printable;
use crate::{interrupt, output};

/// Where words and records go.
pub struct Show {
    json: bool,
    bar: ProgressBar,
    terminal: bool,
    n_steps: u64,
    loss: Smoothed,
}

impl Show {
    /// With `json`, records go to standard output and words to standard error; else words go to standard output.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            bar: ProgressBar::hidden(),
            terminal: io::stderr().is_terminal(),
            n_steps: 0,
            loss: Smoothed::default(),
        }
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

    /// What was found in the rows: words, and of a dry run an object where programs listen (a run's records are those of its log).
    ///
    /// # Errors
    /// The output is closed.
    pub fn data(&self, report: &DatasetReport, dry_run: bool) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Event<'a> {
            event: &'static str,
            #[serde(flatten)]
            report: &'a DatasetReport,
        }
        self.say(&report.to_string())?;
        if self.json && dry_run {
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
        self.loss.push(loss);
        let smooth = self.loss.mean().unwrap_or(loss);
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

    /// How far a validation is, in the place of the loss.
    pub fn validating(&self, done: u64, total: u64) {
        self.bar.set_message(format!("validating {done}/{total} rows,"));
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Shows a run to a person and to programs. An output that is closed stops it.
pub struct Watch {
    /// Where it is shown.
    pub show: Show,
    /// What became of the output.
    pub lost: Option<Failure>,
    /// Whether steps were left out up to the last one.
    pub diverged: bool,
    began: Instant,
}

impl Watch {
    /// Watches from now on.
    pub fn new(show: Show) -> Self {
        Self { show, lost: None, diverged: false, began: Instant::now() }
    }

    fn shown(&mut self, shown: Result<(), Failure>) {
        if let Err(failure) = shown
            && self.lost.is_none()
        {
            self.lost = Some(failure);
        }
    }

    fn say(&mut self, text: &str) {
        let said = self.show.say(text);
        self.shown(said);
    }
}

impl Listener for Watch {
    type Error = Failure;

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn wants_stop(&mut self) -> bool {
        interrupt::requested() || self.lost.is_some()
    }

    async fn hear(&mut self, _: &Run<'_>, news: News<'_>) -> Result<(), Failure> {
        if self.lost.is_some() {
            return Ok(());
        }
        match news {
            News::Step(report, step) => {
                if let Some(what) = report.skipped {
                    self.say(&format!("step {}: the {what} is not finite; the step is left out", report.step));
                }
                let shown = self.show.step(report.step, f64::from(report.loss), step.lr, step.tokens_per_sec);
                self.shown(shown);
            }
            News::Validating(done, total) => self.show.validating(done, total),
            News::Validation(eval) => {
                let mark = if eval.best { ", the best so far" } else { "" };
                let loss = eval.val_loss.unwrap_or(f64::NAN);
                self.say(&format!(
                    "step {}: validation loss {loss:.4} (perplexity {:.2}){mark}",
                    eval.step,
                    loss.exp()
                ));
            }
            News::Sample { question, answer, cut } => {
                let more = if cut { " ..." } else { "" };
                let (question, answer) = (printable::shortened(question, 100), printable::shortened(answer, 300));
                self.say(&format!("  > {question}\n    {answer}{more}"));
            }
            News::Record(record) => {
                let shown = self.show.record(record);
                self.shown(shown);
            }
            News::Diverged => self.diverged = true,
            News::Adapter(..) | News::Kept(..) => {}
        }
        Ok(())
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
