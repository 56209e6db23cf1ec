//! The loop around a [`Run`], the same for every program that trains: when samples are asked and checkpoints written, which adapter
//! is kept, what a stop leaves, what is left of a run that diverged. Without a clock, files or a user interface: a [`Store`] keeps
//! what there is to keep, a [`Listener`] hears, says what time it is and when to stop.

use std::future::Future;

use adapter_engine::adapter::AdapterFile;

use crate::metrics::{End, Eval, Record, Step};
use crate::samples::Samples;
use crate::{Event, Run, StepReport, TrainError};

/// Which adapter of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one to use: the best by validation, or the last one where none was better than the start.
    Best,
    /// The one of the last step.
    Last,
}

/// Where a run keeps what it leaves.
pub trait Store {
    /// All that happened, in earlier sittings, too.
    fn records(&self) -> &[Record];

    /// Keeps a record.
    ///
    /// # Errors
    /// A log that cannot be written.
    fn record(&mut self, record: Record) -> Result<(), TrainError>;

    /// Keeps an adapter in place of the one before.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn adapter(&mut self, which: Which, file: &AdapterFile) -> Result<(), TrainError>;

    /// Keeps all that the run needs to go on, once a step. `None`: this step has been kept already, or never is. The record is for
    /// [`Self::record`].
    fn checkpoint(&mut self, run: &Run<'_>, seconds: f64) -> impl Future<Output = Result<Option<Record>, TrainError>>;

    /// The run is over and `last` its last adapter, with `gate_width` gates a layer: draws pictures.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn pictures(&mut self, last: &AdapterFile, gate_width: u32) -> Result<(), TrainError> {
        let _ = (last, gate_width);
        Ok(())
    }
}

/// What a listener hears.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// A step was made, or left out because a number was not finite.
    Step(&'a StepReport, &'a Step),
    /// So many validation rows are done, of all.
    Validating(u64, u64),
    /// A validation was made.
    Validation(&'a Eval),
    /// A sample question was answered, and whether the answer was cut.
    Sample {
        /// What was asked.
        question: &'a str,
        /// What it said.
        answer: &'a str,
        /// Whether it has more to say.
        cut: bool,
    },
    /// Something for the log, which has it: comes after what it tells of.
    Record(&'a Record),
    /// The adapter as it is after this step: after validations, checkpoints and at the end.
    Adapter(u64, &'a AdapterFile),
    /// The adapter of this step was kept.
    Kept(Which, u64, &'a AdapterFile),
    /// Too many steps were left out: the run ends. The adapter from before them is kept next, where something was learnt.
    Diverged,
}

/// Who watches a run.
pub trait Listener {
    /// What can go wrong in it, or in the run.
    type Error: From<TrainError>;

    /// Seconds on a clock that only goes forward.
    fn seconds(&self) -> f64;

    /// Whether the run should stop: asked between steps, validation batches and tokens of sample answers.
    fn wants_stop(&mut self) -> bool;

    /// A stop was wanted, and the run waits between two steps. Returns whether it ends here; it goes on otherwise.
    fn stops(&mut self, run: &Run<'_>) -> impl Future<Output = Result<bool, Self::Error>> {
        let _ = run;
        async { Ok(true) }
    }

    /// Something happened. The run waits until this is done.
    fn hear(&mut self, run: &Run<'_>, news: News<'_>) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are made.
    Done,
    /// Validation no longer gained.
    Early,
    /// A stop was wanted. It can go on.
    Stopped,
}

impl Outcome {
    /// As `reason` in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Early => "early",
            Self::Stopped => "interrupted",
        }
    }
}

/// A run and everything around it.
#[derive(Debug)]
pub struct Driver<'d, S, L> {
    /// The run.
    pub run: Run<'d>,
    /// What keeps it.
    pub store: S,
    /// Who watches it.
    pub listener: L,
    /// Questions to ask on the way.
    pub samples: Option<Samples<'d>>,
    /// The adapter it began with, for the answers before the first step.
    pub start: Option<AdapterFile>,
    /// Steps from one checkpoint to the next, at least 1.
    pub save_every: u64,
    /// Training time so far, in seconds.
    pub seconds: f64,
}

impl<S: Store, L: Listener> Driver<'_, S, L> {
    /// Trains to the last step or to a stop, and keeps what there is: in any case the log of how it ended; after a stop a
    /// checkpoint and the last adapter; after steps that were not finite the last adapter before them.
    ///
    /// # Errors
    /// [`TrainError::Diverged`], a GPU or a disk that fails, what the listener says.
    pub async fn drive(&mut self) -> Result<Outcome, L::Error> {
        let worked = self.work().await;
        let ended = match worked {
            Ok(outcome) => self.keep_all().await.map(|()| outcome),
            Err(error) => Err(error),
        };
        match ended {
            Ok(outcome) => {
                self.ended(outcome.name().to_owned()).await?;
                Ok(outcome)
            }
            Err(Failed::Run(error)) => {
                // The first error is what there is to say, whatever goes wrong after it.
                if matches!(error, TrainError::Diverged { .. }) {
                    let _ = self.hear(News::Diverged).await;
                    let _ = self.keep_last().await;
                }
                let _ = self.ended(error.to_string()).await;
                Err(error.into())
            }
            Err(Failed::Listener(error)) => {
                let _ = self.ended("the program that watched it failed".to_owned()).await;
                Err(error)
            }
        }
    }

    async fn work(&mut self) -> Result<Outcome, Failed<L::Error>> {
        if self.run.trainer().step() == 0 && !self.store.records().iter().any(|r| matches!(r, Record::Sample { .. })) {
            let start = self.start.take();
            self.ask(start.as_ref()).await?;
        }
        loop {
            if self.listener.wants_stop() && self.listener.stops(&self.run).await.map_err(Failed::Listener)? {
                return Ok(Outcome::Stopped);
            }
            let start = self.listener.seconds();
            let event = self.run.next().await?;
            let took = self.listener.seconds() - start;
            self.seconds += took;
            match event {
                Event::Step { report, epoch } => {
                    let step = Step::of_report(&report, epoch, took, self.seconds);
                    self.hear(News::Step(&report, &step)).await?;
                    self.record(Record::Step(step)).await?;
                    if report.step.is_multiple_of(self.save_every) && !self.run.place().validation_due {
                        self.checkpoint().await?;
                        self.adapter().await?;
                    }
                }
                Event::Validating { done, total } => self.hear(News::Validating(done, total)).await?,
                Event::Validation { step, loss, best } => {
                    let eval = Eval::of_loss(step, loss, best);
                    self.hear(News::Validation(&eval)).await?;
                    self.record(Record::Eval(eval)).await?;
                    let adapter = self.adapter().await?;
                    // What it began with is there already.
                    if step == 0 {
                        continue;
                    }
                    if best {
                        self.keep(Which::Best, &adapter).await?;
                    }
                    if step.is_multiple_of(self.save_every) {
                        self.checkpoint().await?;
                    }
                    self.ask(Some(&adapter)).await?;
                }
                Event::Done { early: true } => return Ok(Outcome::Early),
                Event::Done { early: false } => {
                    self.ask_at_the_end().await?;
                    return Ok(Outcome::Done);
                }
            }
        }
    }

    /// Asks the samples, until a stop is wanted.
    async fn ask(&mut self, adapter: Option<&AdapterFile>) -> Result<(), Failed<L::Error>> {
        let step = self.run.trainer().step();
        let Some(samples) = &mut self.samples else { return Ok(()) };
        if self.listener.wants_stop() {
            return Ok(());
        }
        samples.set_adapter(adapter)?;
        let n = samples.questions().len();
        for index in 0..n {
            let Some(samples) = &mut self.samples else { return Ok(()) };
            let listener = &mut self.listener;
            let Some((answer, cut)) = samples.ask(index, &mut || listener.wants_stop()).await? else { return Ok(()) };
            let prompt = samples.questions().get(index).map(|question| question.text.clone()).unwrap_or_default();
            self.hear(News::Sample { question: &prompt, answer: &answer, cut }).await?;
            self.record(Record::Sample { step, prompt, answer }).await?;
        }
        Ok(())
    }

    /// A run without validations has not asked yet what it trained for.
    async fn ask_at_the_end(&mut self) -> Result<(), Failed<L::Error>> {
        let now = self.run.trainer().step();
        let asked = self.store.records().iter().any(|r| matches!(r, Record::Sample { step, .. } if *step == now));
        if self.samples.is_none() || asked {
            return Ok(());
        }
        let adapter = self.run.trainer().adapter().await?;
        self.ask(Some(&adapter)).await
    }

    /// All that a run leaves that ended well or was stopped.
    async fn keep_all(&mut self) -> Result<(), Failed<L::Error>> {
        self.checkpoint().await?;
        let last = self.keep_last().await?;
        Ok(self.store.pictures(&last, self.run.trainer().shape().gate_width())?)
    }

    /// The adapter as it is now, kept as the last one, and as the one to use where no validation has found a better one. Before the
    /// first step that learnt something there is nothing to keep.
    async fn keep_last(&mut self) -> Result<AdapterFile, Failed<L::Error>> {
        let last = self.adapter().await?;
        let trainer = self.run.trainer();
        if trainer.step() > trainer.skipped() {
            self.keep(Which::Last, &last).await?;
            if self.run.best_kept().is_none() {
                self.keep(Which::Best, &last).await?;
            }
        }
        Ok(last)
    }

    async fn adapter(&mut self) -> Result<AdapterFile, Failed<L::Error>> {
        let adapter = self.run.trainer().adapter().await?;
        self.hear(News::Adapter(self.run.trainer().step(), &adapter)).await?;
        Ok(adapter)
    }

    async fn keep(&mut self, which: Which, adapter: &AdapterFile) -> Result<(), Failed<L::Error>> {
        self.store.adapter(which, adapter)?;
        self.hear(News::Kept(which, self.run.trainer().step(), adapter)).await
    }

    async fn checkpoint(&mut self) -> Result<(), Failed<L::Error>> {
        match self.store.checkpoint(&self.run, self.seconds).await? {
            Some(record) => self.record(record).await,
            None => Ok(()),
        }
    }

    async fn ended(&mut self, reason: String) -> Result<(), L::Error> {
        let trainer = self.run.trainer();
        let end = End::of(self.store.records(), trainer.step(), reason, self.seconds, trainer.skipped());
        self.record(Record::End(end)).await.map_err(|failed| match failed {
            Failed::Run(error) => error.into(),
            Failed::Listener(error) => error,
        })
    }

    async fn record(&mut self, record: Record) -> Result<(), Failed<L::Error>> {
        self.store.record(record.clone())?;
        self.hear(News::Record(&record)).await
    }

    async fn hear(&mut self, news: News<'_>) -> Result<(), Failed<L::Error>> {
        self.listener.hear(&self.run, news).await.map_err(Failed::Listener)
    }
}

/// Whose error it is: a run that diverged is handled, what a listener says is passed on.
enum Failed<E> {
    Run(TrainError),
    Listener(E),
}

impl<E> From<TrainError> for Failed<E> {
    fn from(error: TrainError) -> Self {
        Self::Run(error)
    }
}
