//! A whole run: batches in order, validation in between, stopping early. No clock and no files: the program around it has those.

use adapter_engine::adapter::AdapterFile;
use adapter_engine::train::Batch;

use crate::data::{Batches, DataError, DataPosition, Examples, Order};
use crate::{AdapterShape, Frozen, Recipe, StepReport, TrainError, Trainer};

/// What decides a run beside the data.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    /// What trains.
    pub shape: AdapterShape,
    /// Optimizer, schedule and number of steps.
    pub recipe: Recipe,
    /// Tokens of a batch at most.
    pub batch_tokens: u32,
    /// Decides the first prompts and the order of rows.
    pub seed: u64,
    /// Steps from one validation to the next; 0: only at the end.
    pub validate_every: u64,
    /// Stop after so many validations without gain; `None`: never.
    pub patience: Option<u32>,
}

/// The best validation so far.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Best {
    /// After this step.
    pub step: u64,
    /// Nats a token. A string in JSON, so that it comes back bit for bit.
    #[serde(with = "crate::exact")]
    pub loss: f64,
}

/// Where a run is, beside its numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Place {
    /// The next training rows.
    pub position: DataPosition,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Validations since.
    pub without_gain: u32,
    /// Tokens that were read.
    pub tokens: u64,
    /// Target tokens of them.
    pub trained_tokens: u64,
    /// Whether a validation comes before the next step.
    pub validation_due: bool,
}

/// What happened last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// One optimizer step.
    Step {
        /// Its numbers.
        report: StepReport,
        /// Times all rows were used, with the fraction of this time.
        epoch: f64,
    },
    /// A batch of a validation that goes on with the next one: a place to stop, and to show how far it is.
    Validating {
        /// Validation rows done.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// The loss on rows that are not trained on.
    Validation {
        /// After this step.
        step: u64,
        /// Nats a token.
        loss: f64,
        /// Whether it is the lowest so far. A loss that is not finite never is.
        best: bool,
    },
    /// The run is over.
    Done {
        /// Whether it stopped before its last step, because validation no longer gained.
        early: bool,
    },
}

/// A run in progress.
#[derive(Debug)]
pub struct Run<'d> {
    trainer: Trainer,
    batches: Batches<'d>,
    validation: Batches<'d>,
    has_validation: bool,
    training: &'d Examples,
    settings: RunSettings,
    place: Place,
    /// The validation on its way. No checkpoint has it: a run that goes on validates anew.
    measured: Measured,
}

/// What validation batches have given so far.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    position: DataPosition,
    /// Sum of the losses of all target tokens, nats.
    sum: f64,
    /// Target tokens.
    n: u64,
}

/// Steps of so many epochs.
///
/// # Errors
/// No rows, or a row longer than a batch.
pub fn steps_of_epochs(training: &Examples, batch_tokens: u32, seed: u64, epochs: f64) -> Result<u64, DataError> {
    let mut batches = Batches::new(training, batch_tokens, Order::Shuffled { seed })?;
    let whole = epochs.max(0.0).floor();
    let steps: u64 = (0..whole as u64).map(|epoch| batches.n_batches(epoch)).sum();
    let rest = (epochs - whole).max(0.0) * batches.n_batches(whole as u64) as f64;
    Ok((steps + rest.ceil() as u64).max(1))
}

impl<'d> Run<'d> {
    /// A fresh run, or one that begins with the numbers of `start`.
    ///
    /// # Errors
    /// A setting out of range, rows that do not fit a batch, `start` of other sizes.
    pub fn new(
        frozen: Frozen,
        training: &'d Examples,
        validation: &'d Examples,
        settings: RunSettings,
        start: Option<&AdapterFile>,
    ) -> Result<Self, TrainError> {
        let (shape, recipe) = (settings.shape, settings.recipe.clone());
        let trainer = match start {
            Some(file) => Trainer::with_adapter(frozen, shape, recipe, file)?,
            None => Trainer::new(frozen, shape, recipe, settings.seed)?,
        };
        // Where it begins is what the rest is measured by.
        let place = Place { validation_due: !validation.is_empty() && settings.validate_every > 0, ..Place::default() };
        Self::of(trainer, training, validation, settings, place)
    }

    /// Goes on where a run stopped: `trainer` from [`Trainer::resume`], `place` from [`Self::place`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn resume(
        trainer: Trainer,
        training: &'d Examples,
        validation: &'d Examples,
        settings: RunSettings,
        place: Place,
    ) -> Result<Self, TrainError> {
        Self::of(trainer, training, validation, settings, place)
    }

    fn of(
        trainer: Trainer,
        training: &'d Examples,
        validation: &'d Examples,
        settings: RunSettings,
        place: Place,
    ) -> Result<Self, TrainError> {
        let has_validation = !validation.is_empty();
        let batches = Batches::new(training, settings.batch_tokens, Order::Shuffled { seed: settings.seed })?;
        // Without validation rows the training rows stand in: they are never taken.
        let rows = if has_validation { validation } else { training };
        let validation = Batches::new(rows, settings.batch_tokens, Order::AsRead)?;
        // A loss that is not finite is beaten by none.
        let place = Place { best: place.best.filter(|best| best.loss.is_finite()), ..place };
        Ok(Self {
            trainer,
            batches,
            validation,
            has_validation,
            training,
            settings,
            place,
            measured: Measured::default(),
        })
    }

    /// Parameters, optimizer, steps done.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// For tests that inject faults.
    #[doc(hidden)]
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// The rows that are trained on.
    pub fn training(&self) -> &'d Examples {
        self.training
    }

    /// What decides the run.
    pub fn settings(&self) -> &RunSettings {
        &self.settings
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The best validation after a step: what it began with is where the others are measured from, and no adapter of this run.
    #[must_use]
    pub fn best_kept(&self) -> Option<Best> {
        self.place.best.filter(|best| best.step > 0)
    }

    /// The rows that are measured on.
    #[must_use]
    pub fn validation(&self) -> Option<&'d Examples> {
        self.has_validation.then(|| self.validation.examples())
    }

    /// Does the next thing and says what it was. After [`Event::Done`] it says so again.
    ///
    /// # Errors
    /// As [`Trainer::train`].
    pub async fn next(&mut self) -> Result<Event, TrainError> {
        if self.place.validation_due {
            let done = self.validate_batch().await?;
            let total = self.validation.n_rows();
            let Some(loss) = done else {
                return Ok(Event::Validating { done: self.measured.position.index, total });
            };
            let step = self.trainer.step();
            self.place.validation_due = false;
            let best = loss.is_finite() && self.place.best.is_none_or(|best| loss < best.loss);
            if best {
                self.place.best = Some(Best { step, loss });
                self.place.without_gain = 0;
            } else {
                self.place.without_gain += 1;
            }
            return Ok(Event::Validation { step, loss, best });
        }
        let n_steps = self.settings.recipe.n_steps;
        let out_of_patience = self.settings.patience.is_some_and(|patience| self.place.without_gain >= patience);
        if self.trainer.step() >= n_steps || out_of_patience {
            return Ok(Event::Done { early: self.trainer.step() < n_steps });
        }
        let epoch = self.place.position.epoch;
        let mut position = self.place.position;
        let batch = self.batches.take(&mut position)?;
        let report = self.trainer.train(&batch).await?;
        self.place.position = position;
        self.place.tokens += u64::from(report.n_tokens);
        self.place.trained_tokens += u64::from(report.n_targets);
        let every = self.settings.validate_every;
        let at_its_turn = every > 0 && report.step.is_multiple_of(every);
        self.place.validation_due = self.has_validation && (at_its_turn || report.step >= n_steps);
        let rest = if position.epoch > epoch { 1.0 } else { position.index as f64 / self.training.len() as f64 };
        Ok(Event::Step { report, epoch: epoch as f64 + rest })
    }

    /// One more batch of the validation; after the last one the loss on all of them, nats a token.
    async fn validate_batch(&mut self) -> Result<Option<f64>, TrainError> {
        let Measured { mut position, sum, n } = self.measured;
        let batch: Batch = self.validation.take(&mut position)?;
        let sum = sum + f64::from(self.trainer.loss(&batch).await?) * f64::from(batch.n_targets());
        let n = n + u64::from(batch.n_targets());
        if position.epoch == 0 {
            self.measured = Measured { position, sum, n };
            return Ok(None);
        }
        self.measured = Measured::default();
        Ok(Some(sum / n as f64))
    }
}
