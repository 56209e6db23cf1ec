//! How fast and how long: the numbers of a training run.

use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::optim::{AdamW, AdamWConfig};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Falls along a half cosine to 0.
    #[default]
    Cosine,
    /// Stays.
    Constant,
}

impl Schedule {
    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Constant => "constant",
        }
    }
}

/// Optimizer and schedule. The defaults are those of the paper's code where it fixes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The highest learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// Steps in which the rate rises from 0.
    pub warmup_steps: u64,
    /// Steps in all.
    pub n_steps: u64,
    /// What the rate does after the warm-up.
    pub schedule: Schedule,
    /// Memory of the gradient's mean.
    pub beta_1: f32,
    /// Memory of its square.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of each number, prompts and gates, that decays at learning rate 1.
    pub weight_decay: f32,
    /// A gradient longer than this is shortened to it; `None`: never.
    pub max_grad_norm: Option<f32>,
}

/// The paper's code states its learning rate for a batch of 256 rows: `--blr 9e-3`.
pub const OFFICIAL_BASE_RATE: f64 = 9e-3;

/// The rate that the paper's code really uses with batches of `rows` rows: `9e-3 * rows / 256`.
pub fn official_rate(rows: f64) -> f64 {
    OFFICIAL_BASE_RATE * rows / 256.0
}

impl Recipe {
    /// The paper's optimizer (betas 0.9 and 0.95, decay 0.02) with gradients no longer than 1.
    pub fn new(learning_rate: f64, warmup_steps: u64, n_steps: u64) -> Self {
        Self {
            learning_rate,
            warmup_steps,
            n_steps,
            schedule: Schedule::Cosine,
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.02,
            max_grad_norm: Some(1.0),
        }
    }

    /// burn's optimizer with these numbers.
    pub(crate) fn optimizer(&self) -> AdamW {
        AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay)
            .build()
    }

    /// Whether every number is in its range.
    ///
    /// # Errors
    /// [`TrainError::Setting`] with the first that is not.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong =
            |field, found: String, wanted: &str| Err(TrainError::Setting { field, found, wanted: wanted.to_owned() });
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return wrong("lr", self.learning_rate.to_string(), "more than 0 and at most 1");
        }
        if self.n_steps == 0 {
            return wrong("steps", "0".to_owned(), "at least 1");
        }
        if self.warmup_steps >= self.n_steps && self.n_steps > 1 {
            return wrong("warmup", self.warmup_steps.to_string(), &format!("less than the {} steps", self.n_steps));
        }
        if let Some(norm) = self.max_grad_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            return wrong("max-grad-norm", norm.to_string(), "more than 0");
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return wrong("weight-decay", self.weight_decay.to_string(), "0 to 1");
        }
        Ok(())
    }

    /// burn's schedule with these numbers, as it stands after `done` steps.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn schedule(&self, done: u64) -> Result<ModuleLrScheduler, TrainError> {
        self.check()?;
        let steps = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (warmup, n_steps) = (steps(self.warmup_steps.min(self.n_steps - 1)), steps(self.n_steps));
        let after = match self.schedule {
            Schedule::Cosine => {
                LrSchedulerConfig::Cosine(CosineAnnealingLrSchedulerConfig::new(self.learning_rate, n_steps - warmup))
            }
            Schedule::Constant => LrSchedulerConfig::Constant(self.learning_rate),
        };
        let (mut parts, mut milestones) = (vec![after], vec![]);
        if warmup > 0 {
            // The first step already learns a little: lr / warmup; lr is reached where the warm-up ends.
            let first = self.learning_rate / warmup as f64;
            let linear = LinearLrSchedulerConfig::new(first, self.learning_rate, (warmup - 1).max(1));
            parts.insert(0, LrSchedulerConfig::Linear(linear));
            milestones.push(warmup);
        }
        let mut schedule = SequentialLrSchedulerConfig::new(parts, milestones)
            .init()
            .map_err(|reason| TrainError::Burn { doing: "making the learning rate's schedule", reason })?;
        for _ in 0..done.min(self.n_steps) {
            schedule.step();
        }
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::Recipe;
    use crate::TrainError;

    #[test]
    fn rises_to_the_rate_and_falls_along_a_half_cosine() {
        let recipe = Recipe::new(1e-2, 10, 110);
        let mut schedule = recipe.schedule(0).expect("valid");
        let rates: Vec<f64> = (0..110).map(|_| schedule.step().base()).collect();
        assert!((rates[0] - 1e-3).abs() < 1e-12, "{}", rates[0]);
        assert!((rates[9] - 1e-2).abs() < 1e-12, "{}", rates[9]);
        // half way down: 0.5 * (1 + cos(pi / 2))
        assert!((rates[60] - 0.5e-2).abs() < 1e-9, "{}", rates[60]);
        assert!(rates[109] < 1e-5, "{}", rates[109]);
        let mut resumed = recipe.schedule(37).expect("valid");
        assert_eq!(resumed.step().base().to_bits(), rates[37].to_bits());
    }

    #[test]
    fn refuses_numbers_out_of_range() {
        for (recipe, field) in [
            (Recipe::new(0.0, 0, 10), "lr"),
            (Recipe::new(f64::NAN, 0, 10), "lr"),
            (Recipe::new(2.0, 0, 10), "lr"),
            (Recipe::new(0.1, 0, 0), "steps"),
            (Recipe::new(0.1, 10, 10), "warmup"),
            (Recipe { max_grad_norm: Some(0.0), ..Recipe::new(0.1, 0, 10) }, "max-grad-norm"),
        ] {
            match recipe.schedule(0).err() {
                Some(TrainError::Setting { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
