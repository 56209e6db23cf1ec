//! One optimizer step after the other.

use adapter_engine::adapter::{AdapterFile, GateActivation};
use adapter_engine::train::Batch;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Param;
use burn::optim::{AdamW, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Tensor, TensorData};

use crate::adaption_prompt::read;
use crate::{AdapterShape, AdaptionPrompt, Frozen, Recipe, TrainError};

/// So many steps in a row may be left out because a number was not finite.
const MAX_SKIPPED: u32 = 2;

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Counted from 1.
    pub step: u64,
    /// Mean cross entropy of the batch before the step, nats per token.
    pub loss: f32,
    /// Length of the gradient of prompts and gates together, before clipping.
    pub grad_norm: f32,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Tokens of the batch.
    pub n_tokens: u32,
    /// Tokens of it that are learnt.
    pub n_targets: u32,
    /// Which number was not finite: the step changed nothing.
    pub skipped: Option<&'static str>,
}

/// Everything that decides how training goes on, as plain numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Prompts and gates.
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

/// The optimizer's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Steps that were aggregated.
    pub time: u64,
    /// `[L_a, A, C]`: mean of the gradient, and of its square.
    pub prompts: [Vec<f32>; 2],
    /// `[L_a, H or 1]`: the same for the gates.
    pub gates: [Vec<f32>; 2],
}

/// A run in progress: parameters, optimizer and schedule on burn, the frozen model as one operation.
pub struct Trainer {
    frozen: Frozen,
    shape: AdapterShape,
    recipe: Recipe,
    adaption: AdaptionPrompt,
    optimizer: AdamW,
    prompts_state: Option<AdamWState<3>>,
    gates_state: Option<AdamWState<2>>,
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
        let adaption = AdaptionPrompt::new(&shape, seed, frozen.device());
        Self::of(frozen, shape, recipe, adaption)
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
        let adaption = AdaptionPrompt::from_file(file, &shape, frozen.device())?;
        Self::of(frozen, shape, recipe, adaption)
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
        let (prompts_state, gates_state) = match &snapshot.moments {
            None => (None, None),
            Some(moments) => {
                let (p, g) = (trainer.adaption.prompts.dims(), trainer.adaption.gates.dims());
                let counts = [(&moments.prompts, p.iter().product()), (&moments.gates, g.iter().product::<usize>())];
                if let Some((found, wanted)) = counts.into_iter().find(|(m, n)| m.iter().any(|m| m.len() != *n)) {
                    return Err(TrainError::Setting {
                        field: "the optimizer's state",
                        found: format!("{} numbers", found[0].len()),
                        wanted: format!("{wanted}"),
                    });
                }
                let time = usize::try_from(moments.time).unwrap_or(usize::MAX);
                let prompts = moments.prompts.clone().map(|m| Tensor::from_data(TensorData::new(m, p), &device));
                let gates = moments.gates.clone().map(|m| Tensor::from_data(TensorData::new(m, g), &device));
                let ([p1, p2], [g1, g2]) = (prompts, gates);
                (
                    Some(AdamWState::new(AdaptiveMomentumState::new(time, p1, p2))),
                    Some(AdamWState::new(AdaptiveMomentumState::new(time, g1, g2))),
                )
            }
        };
        Ok(Self {
            prompts_state,
            gates_state,
            schedule,
            step: snapshot.step,
            skipped: snapshot.skipped,
            skipped_in_a_row: snapshot.skipped_in_a_row,
            ..trainer
        })
    }

    fn of(frozen: Frozen, shape: AdapterShape, recipe: Recipe, adaption: AdaptionPrompt) -> Result<Self, TrainError> {
        Ok(Self {
            optimizer: recipe.optimizer(),
            schedule: recipe.schedule(0)?,
            frozen,
            shape,
            recipe,
            adaption,
            prompts_state: None,
            gates_state: None,
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
    /// [`TrainError::Diverged`] at the third such step in a row; a batch that does not fit, a lost GPU.
    pub async fn train(&mut self, batch: &Batch) -> Result<StepReport, TrainError> {
        let strengths = self.adaption.strengths(&self.shape);
        let loss = self.frozen.loss(self.adaption.prompts.val(), strengths, batch)?;
        let mut gradients = loss.backward();
        let missing = || TrainError::Burn { doing: "computing gradients", reason: "a gradient is missing".to_owned() };
        let mut dprompts = self.adaption.prompts.val().grad_remove(&mut gradients).ok_or_else(missing)?;
        let dgates = self.adaption.gates.val().grad_remove(&mut gradients).ok_or_else(missing)?;
        self.step += 1;
        if self.infinite.contains(&self.step) {
            dprompts = dprompts.add_scalar(f32::INFINITY);
        }
        let squares = [loss.inner(), dprompts.clone().square().sum(), dgates.clone().square().sum()];
        let numbers = read(Tensor::cat(squares.to_vec(), 0)).await?;
        let [loss, prompts_square, gates_square] = numbers.try_into().map_err(|_| missing())?;
        let grad_norm = (f64::from(prompts_square) + f64::from(gates_square)).sqrt() as f32;
        let learning_rate = self.schedule.step().base();
        let checked =
            [("loss", loss), ("gradient of the prompts", prompts_square), ("gradient of the gates", gates_square)];
        let skipped = checked.into_iter().find(|(_, value)| !value.is_finite()).map(|(what, _)| what);
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
                self.update(dprompts, dgates, grad_norm, learning_rate);
            }
        }
        let (n_tokens, n_targets) = (batch.n_tokens(), batch.n_targets());
        Ok(StepReport { step: self.step, loss, grad_norm, learning_rate, n_tokens, n_targets, skipped })
    }

    fn update(&mut self, dprompts: Tensor<3>, dgates: Tensor<2>, grad_norm: f32, learning_rate: f64) {
        // By the norm of all that trains together, as `max_grad_norm` is meant everywhere; burn clips tensor by tensor.
        let scale = match self.recipe.max_grad_norm {
            Some(max) if grad_norm > max => max / grad_norm,
            _ => 1.0,
        };
        let clipped = |scale: f32| scale < 1.0;
        let dprompts = if clipped(scale) { dprompts.mul_scalar(scale) } else { dprompts };
        let dgates = if clipped(scale) { dgates.mul_scalar(scale) } else { dgates };
        let AdaptionPrompt { prompts, gates } = &mut self.adaption;
        self.prompts_state = step(&self.optimizer, learning_rate, prompts, dprompts, self.prompts_state.take());
        self.gates_state = step(&self.optimizer, learning_rate, gates, dgates, self.gates_state.take());
    }

    /// Mean cross entropy of one batch, without learning from it.
    ///
    /// # Errors
    /// A batch that does not fit, a lost GPU.
    pub async fn loss(&self, batch: &Batch) -> Result<f32, TrainError> {
        // burn's `detach` leaves `require_grad` on, and with it the backward pass of the frozen model.
        let prompts = self.adaption.prompts.val().detach().set_require_grad(false);
        let strengths = self.adaption.strengths(&self.shape).detach().set_require_grad(false);
        let loss = self.frozen.loss(prompts, strengths, batch)?;
        Ok(read(loss.inner()).await?.first().copied().unwrap_or(f32::NAN))
    }

    /// Effective strength of each gate as it is now, `[L_a][H or 1]`: through the activation.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn gates(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        let gates = read(self.adaption.gates.val().inner()).await?;
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
        self.adaption.to_file(&self.shape).await
    }

    /// All that [`Self::resume`] needs.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn snapshot(&self) -> Result<Snapshot, TrainError> {
        let moments = match (&self.prompts_state, &self.gates_state) {
            (Some(prompts), Some(gates)) => {
                let (p, g) = (&prompts.momentum, &gates.momentum);
                Some(Moments {
                    time: p.time as u64,
                    prompts: [read(p.moment_1.clone()).await?, read(p.moment_2.clone()).await?],
                    gates: [read(g.moment_1.clone()).await?, read(g.moment_2.clone()).await?],
                })
            }
            _ => None,
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

/// One step of one parameter.
fn step<const D: usize>(
    optimizer: &AdamW,
    learning_rate: f64,
    parameter: &mut Param<Tensor<D>>,
    gradient: Tensor<D>,
    state: Option<AdamWState<D>>,
) -> Option<AdamWState<D>> {
    let (value, state) = optimizer.step(learning_rate, parameter.val().inner(), gradient, state);
    *parameter = Param::initialized(parameter.id, Tensor::from_inner(value).require_grad());
    state
}
