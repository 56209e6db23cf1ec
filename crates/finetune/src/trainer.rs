//! One optimizer step after the other.

use adapter_engine::adapter::{AdapterFile, AdapterShape, GateActivation, Method};
use adapter_engine::train::Batch;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::optim::{AdamW, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Tensor, TensorData};

use crate::flat::{part, read};
use crate::trainable::Trainable;
use crate::{Frozen, Recipe, TrainError};

/// So many steps in a row may be left out because a number was not finite.
const MAX_SKIPPED: u32 = 2;

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Counted from 1.
    pub step: u64,
    /// Mean cross entropy of the batch before the step, nats per token.
    pub loss: f32,
    /// Length of the gradient of all that trains together, before clipping.
    pub grad_norm: f32,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Tokens of the batch.
    pub n_tokens: u32,
    /// Target tokens of it.
    pub n_targets: u32,
    /// Which number was not finite: the step changed nothing.
    pub skipped: Option<&'static str>,
}

/// Everything that decides how training goes on, as plain numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What trains.
    pub adapter: AdapterFile,
    /// AdamW's moments; `None` before the first step.
    pub moments: Option<Moments>,
    /// Steps done.
    pub step: u64,
    /// Steps left out.
    pub skipped: u64,
    /// Steps left out since the last good one.
    pub skipped_in_a_row: u32,
}

/// The optimizer's state; its vectors lie as the adapter's [numbers](AdapterFile::numbers) do.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Steps that were aggregated.
    pub time: u64,
    /// Mean of the gradient.
    pub first: Vec<f32>,
    /// Mean of its square.
    pub second: Vec<f32>,
}

/// A run in progress: parameters, optimizer and schedule on burn, the frozen model as one operation.
pub struct Trainer {
    frozen: Frozen,
    shape: AdapterShape,
    recipe: Recipe,
    trainable: Trainable,
    optimizer: AdamW,
    state: Option<AdamWState<1>>,
    schedule: ModuleLrScheduler,
    step: u64,
    skipped: u64,
    skipped_in_a_row: u32,
    infinite: std::ops::Range<u64>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("shape", &self.shape)
            .field("recipe", &self.recipe)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A fresh run: prompts drawn with `seed`, gates 0.
    ///
    /// # Errors
    /// A recipe out of range.
    pub fn new(frozen: Frozen, shape: AdapterShape, recipe: Recipe, seed: u64) -> Result<Self, TrainError> {
        let trainable = Trainable::new(Method::AdaptionPrompt(shape), seed, frozen.device());
        Self::of(frozen, shape, recipe, trainable)
    }

    /// A fresh run that begins with the numbers of a file.
    ///
    /// # Errors
    /// As [`Self::new`]; or the file has other sizes.
    pub fn with_adapter(
        frozen: Frozen,
        shape: AdapterShape,
        recipe: Recipe,
        file: &AdapterFile,
    ) -> Result<Self, TrainError> {
        let trainable = Trainable::from_file(file, Method::AdaptionPrompt(shape), frozen.device())?;
        Self::of(frozen, shape, recipe, trainable)
    }

    /// Goes on where a run stopped: every later step is the same as if it had not.
    ///
    /// # Errors
    /// As [`Self::with_adapter`].
    pub fn resume(
        frozen: Frozen,
        shape: AdapterShape,
        recipe: Recipe,
        snapshot: &Snapshot,
    ) -> Result<Self, TrainError> {
        let schedule = recipe.schedule(snapshot.step)?;
        let trainer = Self::with_adapter(frozen, shape, recipe, &snapshot.adapter)?;
        let device = trainer.frozen.device().clone().inner();
        let state = match &snapshot.moments {
            None => None,
            Some(Moments { time, first, second }) => {
                let wanted = trainer.trainable.table().n_numbers();
                if let Some(found) = [first, second].into_iter().find(|moment| moment.len() != wanted) {
                    return Err(TrainError::Setting {
                        field: "the optimizer's state",
                        found: format!("{} numbers", found.len()),
                        wanted: format!("{wanted}"),
                    });
                }
                let time = usize::try_from(*time).unwrap_or(usize::MAX);
                let [first, second] =
                    [first, second].map(|m| Tensor::from_data(TensorData::new(m.clone(), [wanted]), &device));
                Some(AdamWState::new(AdaptiveMomentumState::new(time, first, second)))
            }
        };
        Ok(Self {
            state,
            schedule,
            step: snapshot.step,
            skipped: snapshot.skipped,
            skipped_in_a_row: snapshot.skipped_in_a_row,
            ..trainer
        })
    }

    fn of(frozen: Frozen, shape: AdapterShape, recipe: Recipe, trainable: Trainable) -> Result<Self, TrainError> {
        Ok(Self {
            optimizer: recipe.optimizer(),
            schedule: recipe.schedule(0)?,
            frozen,
            shape,
            recipe,
            trainable,
            state: None,
            step: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            infinite: 0..0,
        })
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps left out because a number was not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Sizes and kind of what trains.
    pub fn shape(&self) -> &AdapterShape {
        &self.shape
    }

    /// Optimizer and schedule.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The frozen model.
    pub fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    /// Makes the gradients of these steps infinite, so that tests can show what happens then.
    #[doc(hidden)]
    pub fn inject_infinity(&mut self, steps: std::ops::Range<u64>) {
        self.infinite = steps;
    }

    /// Learns from one batch. A step whose loss or gradient is not finite changes nothing but the counters.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] at the third such step in a row; a batch that does not fit, a lost GPU, and as
    /// [`Frozen::require_right_kernels`]: gradients that are wrong would be learnt without a word.
    pub async fn train(&mut self, batch: &Batch) -> Result<StepReport, TrainError> {
        self.frozen.require_right_kernels().await?;
        let loss = self.frozen.loss(self.trainable.applied()?, self.trainable.method(), batch)?;
        let mut gradients = loss.backward();
        let missing = || TrainError::Burn { doing: "computing gradients", reason: "a gradient is missing".to_owned() };
        let mut gradient = self.trainable.numbers().grad_remove(&mut gradients).ok_or_else(missing)?;
        self.step += 1;
        if self.infinite.contains(&self.step) {
            gradient = gradient.add_scalar(f32::INFINITY);
        }
        // By parameter: a message can say whose gradient it was that is not finite.
        let table = self.trainable.table();
        let mut numbers = vec![loss.inner()];
        for parameter in table {
            numbers.push(part::<1>(table, parameter.name, &gradient)?.square().sum());
        }
        let numbers = read(Tensor::cat(numbers, 0)).await?;
        let (loss, squares) = numbers.split_first().ok_or_else(missing)?;
        let grad_norm = squares.iter().copied().map(f64::from).sum::<f64>().sqrt() as f32;
        let learning_rate = self.schedule.step().base();
        let names = ["loss"].into_iter().chain(table.iter().map(|parameter| parameter.gradient));
        let skipped = names.zip(&numbers).find(|(_, value)| !value.is_finite()).map(|(what, _)| what);
        let loss = *loss;
        match skipped {
            Some(what) => {
                self.skipped += 1;
                self.skipped_in_a_row += 1;
                if self.skipped_in_a_row > MAX_SKIPPED {
                    return Err(TrainError::Diverged { steps: self.skipped_in_a_row, step: self.step, what });
                }
            }
            None => {
                self.skipped_in_a_row = 0;
                self.update(gradient, grad_norm, learning_rate);
            }
        }
        let (n_tokens, n_targets) = (batch.n_tokens(), batch.n_targets());
        Ok(StepReport { step: self.step, loss, grad_norm, learning_rate, n_tokens, n_targets, skipped })
    }

    fn update(&mut self, gradient: Tensor<1>, grad_norm: f32, learning_rate: f64) {
        // By the norm of all that trains together, as `max_grad_norm` is meant everywhere; burn clips tensor by tensor.
        let gradient = match self.recipe.max_grad_norm {
            Some(max) if grad_norm > max => gradient.mul_scalar(max / grad_norm),
            _ => gradient,
        };
        let numbers = self.trainable.numbers().clone().inner();
        let (numbers, state) = self.optimizer.step(learning_rate, numbers, gradient, self.state.take());
        self.state = state;
        self.trainable.set(numbers);
    }

    /// Mean cross entropy of one batch, without learning from it.
    ///
    /// # Errors
    /// A batch that does not fit, a lost GPU, and as [`Frozen::require_right_kernels`].
    pub async fn loss(&self, batch: &Batch) -> Result<f32, TrainError> {
        self.frozen.require_right_kernels().await?;
        // burn's `detach` leaves `require_grad` on, and with it the backward pass of the frozen model.
        let applied = self.trainable.applied()?.detach().set_require_grad(false);
        let loss = self.frozen.loss(applied, self.trainable.method(), batch)?;
        Ok(read(loss.inner()).await?.first().copied().unwrap_or(f32::NAN))
    }

    /// Effective strength of each gate as it is now, `[L_a][H or 1]`: through the activation.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn gates(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        let gates = self.trainable.read_part(AdapterShape::GATES).await?;
        let effective = |gate: &f32| match self.shape.kind.activation {
            GateActivation::Tanh => f64::from(*gate).tanh() as f32,
            GateActivation::None => *gate,
        };
        let width = self.shape.gate_width() as usize;
        Ok(gates.chunks_exact(width).map(|layer| layer.iter().map(effective).collect()).collect())
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn adapter(&self) -> Result<AdapterFile, TrainError> {
        self.trainable.to_file().await
    }

    /// All that [`Self::resume`] needs.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn snapshot(&self) -> Result<Snapshot, TrainError> {
        let moments = match &self.state {
            None => None,
            Some(AdamWState { momentum, .. }) => Some(Moments {
                time: momentum.time as u64,
                first: read(momentum.moment_1.clone()).await?,
                second: read(momentum.moment_2.clone()).await?,
            }),
        };
        Ok(Snapshot {
            adapter: self.adapter().await?,
            moments,
            step: self.step,
            skipped: self.skipped,
            skipped_in_a_row: self.skipped_in_a_row,
        })
    }
}
