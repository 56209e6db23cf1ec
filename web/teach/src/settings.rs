//! From what the page asks for to the settings of a run.

use adapter_browser::Failure;
use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::model::Config;
use adapter_finetune::data::{DataOptions, Examples, Split, Template};
use adapter_finetune::{AdapterShape, Recipe, RunSettings, steps_of_epochs, usual};

use crate::failure::OrFailure as _;
use crate::types::TeachSettings;

fn refused(what: &str, found: &dyn std::fmt::Display, wanted: &str) -> Failure {
    Failure::new("teach-setting", format!("{what} is {found}, it must be {wanted}"), "change it under Settings")
}

impl TeachSettings {
    fn batch_tokens(&self) -> u32 {
        self.batch_tokens.unwrap_or(usual::BATCH_TOKENS)
    }

    /// How rows are read.
    pub fn data_options(&self) -> DataOptions {
        DataOptions {
            template: self.template.clone().map_or(Template::OfModel, Template::Named),
            max_tokens: self.max_tokens.unwrap_or_else(|| self.batch_tokens()).min(self.batch_tokens()),
            train_on_prompt: self.train_on_prompt,
            split: Split {
                fraction: self.validation_share.unwrap_or(usual::VALIDATION_SHARE),
                seed: self.seed.unwrap_or_default(),
            },
            ..DataOptions::default()
        }
    }

    /// What trains: of the adapter to begin with, or as asked.
    ///
    /// # Errors
    /// More layers than the model has, no prompts, gates of an unknown kind.
    pub fn shape(&self, config: &Config, start: Option<&AdapterFile>) -> Result<AdapterShape, Failure> {
        if let Some(file) = start {
            return Ok(AdapterShape::new(config, file.n_layers, file.adapter_len, file.kind));
        }
        let n_layers = self.layers.unwrap_or_else(|| usual::adapter_layers(config));
        if !(1..=config.n_layers).contains(&n_layers) {
            let wanted = format!("1 to {}, the layers of the model", config.n_layers);
            return Err(refused("the number of adapted layers", &n_layers, &wanted));
        }
        let length = self.length.unwrap_or(usual::ADAPTER_LEN);
        if length == 0 {
            return Err(refused("the number of prompt tokens", &length, "at least 1"));
        }
        let kind = match &self.gate {
            None => GateKind::default(),
            Some(name) => GateKind::from_name(name)
                .ok_or_else(|| refused("the kind of gates", name, &GateKind::ALL.map(GateKind::name).join(", ")))?,
        };
        Ok(AdapterShape::new(config, n_layers, length, kind))
    }

    /// The settings of the run.
    ///
    /// # Errors
    /// One that is out of its range, rows that do not fit a batch.
    pub fn run(&self, training: &Examples, shape: AdapterShape) -> Result<RunSettings, Failure> {
        let (batch_tokens, seed) = (self.batch_tokens(), self.seed.unwrap_or_default());
        let epochs = self.epochs.unwrap_or(usual::EPOCHS);
        if !(epochs > 0.0 && epochs <= 1e6) {
            return Err(refused("the number of epochs", &epochs, "above 0, for instance 3"));
        }
        let n_steps = match self.steps {
            Some(steps) => steps,
            None => steps_of_epochs(training, batch_tokens, seed, epochs).or_failure()?,
        };
        let learning_rate = self.learning_rate.unwrap_or(usual::LEARNING_RATE);
        if !(learning_rate > 0.0 && learning_rate <= 1.0) {
            return Err(refused("the learning rate", &learning_rate, "more than 0 and at most 1"));
        }
        let warmup = self.warmup.unwrap_or_else(|| usual::warmup_steps(n_steps));
        let defaults = Recipe::new(learning_rate, warmup, n_steps);
        let recipe = Recipe {
            schedule: self.schedule.unwrap_or(defaults.schedule),
            weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
            max_grad_norm: self.max_grad_norm.map_or(defaults.max_grad_norm, |norm| (norm != 0.0).then_some(norm)),
            ..defaults
        };
        recipe.check().or_failure()?;
        let validate_every = self.validate_every.unwrap_or_else(|| usual::validate_every(n_steps));
        Ok(RunSettings { shape, recipe, batch_tokens, seed, validate_every, patience: self.patience })
    }
}
