//! From what the page asks for to the options of a run.

use adapter_browser::Failure;
use adapter_engine::adapter::GateKind;
use adapter_finetune::RunOptions;

use crate::types::TrainSettings;

impl TrainSettings {
    /// As options of a run.
    ///
    /// # Errors
    /// Gates of an unknown kind.
    pub fn options(&self) -> Result<RunOptions, Failure> {
        let gate = match &self.gate {
            None => None,
            Some(name) => Some(GateKind::from_name(name).ok_or_else(|| {
                let message = format!("the kind of gates is {name}, it must be paper, linear, peft or scalar-tanh");
                Failure::new("teach-setting", message, "change it under Settings")
            })?),
        };
        Ok(RunOptions {
            adapter_layers: self.layers,
            adapter_len: self.length,
            gate,
            lr: self.learning_rate,
            epochs: self.epochs,
            steps: self.steps,
            batch_tokens: self.batch_tokens,
            max_tokens: self.max_tokens,
            warmup: self.warmup,
            schedule: self.schedule,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            val_split: self.validation_share,
            validate_every: self.validate_every,
            patience: self.patience,
            seed: self.seed,
            train_on_prompt: self.train_on_prompt,
            template: self.template.clone(),
            ..RunOptions::default()
        })
    }
}
