//! What a run is asked for, in one form for every program that trains: `config.toml` of its folder, what is left out, and from
//! there to the settings of the run.

use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::model::Config;
use adapter_engine::train::{MAX_ADAPTER_LEN, most_batch_tokens};
use serde::{Deserialize, Serialize};

use crate::data::{DataOptions, Dataset, Examples, Split, Template, check_lengths};
use crate::recipe::Schedule;
use crate::{AdapterShape, Recipe, RunSettings, TrainError, defaults, steps_of_epochs};

/// The settings of a run, in its folder.
pub const CONFIG: &str = "config.toml";

/// Where training computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The GPU.
    #[default]
    Wgpu,
    /// The processor, with dequantized weights.
    Cpu,
}

impl Backend {
    /// Its name in `config.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wgpu => "wgpu",
            Self::Cpu => "cpu",
        }
    }
}

/// All that can be asked of a run; what is `None` has its default ([`defaults`]). Written as TOML it is the `config.toml` of a run:
/// a field that is not listed here is refused by its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RunOptions {
    /// The model's file.
    pub model: Option<PathBuf>,
    /// Rows to train on.
    pub data: Option<PathBuf>,
    /// Rows to validate on, instead of a share of `data`.
    pub val: Option<PathBuf>,
    /// Share of the rows that is kept for validation.
    pub val_split: Option<f64>,
    /// A built-in chat template instead of the model's own.
    pub template: Option<String>,
    /// `NAME=VALUE`: what stands in for `{{NAME}}` in the rows.
    pub set: Vec<String>,
    /// The most tokens of a row.
    pub max_tokens: Option<u32>,
    /// Whether prompts are target tokens, too.
    pub train_on_prompt: bool,
    /// Whether one bad row is an error.
    pub strict: bool,
    /// The adapter to begin with; it decides length, layers and gates.
    pub adapter: Option<PathBuf>,
    /// A: prompt tokens a layer.
    pub adapter_len: Option<u32>,
    /// L_a: adapted layers, counted from the last.
    pub adapter_layers: Option<u32>,
    /// What a gate is.
    pub gate: Option<GateKind>,
    /// The highest learning rate.
    pub lr: Option<f64>,
    /// Times all rows are used.
    pub epochs: Option<f64>,
    /// Optimizer steps, instead of `epochs`.
    pub steps: Option<u64>,
    /// Tokens of a batch at most.
    pub batch_tokens: Option<u32>,
    /// Steps in which the rate rises.
    pub warmup: Option<u64>,
    /// What the rate does after that.
    pub schedule: Option<Schedule>,
    /// Share of prompts and gates that decays, times the rate.
    pub weight_decay: Option<f32>,
    /// Longer gradients are shortened to this; 0: never.
    pub max_grad_norm: Option<f32>,
    /// Decides the first prompts, the order of the rows and which are kept for validation.
    pub seed: Option<u64>,
    /// Where it computes.
    pub backend: Option<Backend>,
    /// Whether products are computed in f16 where that is faster.
    pub f16: bool,
    /// Steps from one validation to the next.
    pub validate_every: Option<u64>,
    /// Stop after so many validations without gain.
    pub patience: Option<u32>,
    /// Questions to ask before, during and after; empty: those of two rows.
    pub sample: Vec<String>,
    /// Tokens of a sample answer; 0: no samples.
    pub sample_tokens: Option<u32>,
    /// The folder of the run.
    pub out: Option<PathBuf>,
    /// Steps from one checkpoint to the next.
    pub save_every: Option<u64>,
}

/// Puts `under` where `over` says nothing.
macro_rules! under {
    ($over:ident, $under:ident; $($field:ident)*) => { $( $over.$field = $over.$field.or($under.$field); )* };
}

impl RunOptions {
    /// These options, and where they say nothing those of `under`. Of two that exclude each other, one that is said here wins over
    /// the other one there.
    #[must_use]
    pub fn over(self, under: Self) -> Self {
        let mut over = self;
        let under = Self {
            steps: under.steps.filter(|_| over.epochs.is_none()),
            epochs: under.epochs.filter(|_| over.steps.is_none()),
            val: under.val.filter(|_| over.val_split.is_none()),
            val_split: under.val_split.filter(|_| over.val.is_none()),
            ..under
        };
        under!(over, under; model data val val_split template max_tokens adapter adapter_len adapter_layers gate lr epochs steps
               batch_tokens warmup schedule weight_decay max_grad_norm seed backend validate_every patience sample_tokens out
               save_every);
        over.train_on_prompt |= under.train_on_prompt;
        over.strict |= under.strict;
        over.f16 |= under.f16;
        if over.set.is_empty() {
            over.set = under.set;
        }
        if over.sample.is_empty() {
            over.sample = under.sample;
        }
        over
    }

    /// How rows are read.
    ///
    /// # Errors
    /// A substitution without its `=`.
    pub fn data_options(&self) -> Result<DataOptions, TrainError> {
        let substitutions = self.set.iter().map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((format!("{{{{{name}}}}}"), value.to_owned())),
            _ => setting("set", text, "NAME=VALUE, for instance name=Nova"),
        });
        Ok(DataOptions {
            template: self.template.clone().map_or(Template::OfModel, Template::Named),
            max_tokens: self.max_tokens.unwrap_or_else(|| self.batch_tokens()),
            train_on_prompt: self.train_on_prompt,
            substitutions: substitutions.collect::<Result<_, _>>()?,
            split: Split {
                fraction: self.val_split.unwrap_or(defaults::VALIDATION_SHARE),
                seed: self.seed.unwrap_or_default(),
            },
            refuse_bad_rows: self.strict,
            ..DataOptions::default()
        })
    }

    /// Tokens of a batch at most.
    #[must_use]
    pub fn batch_tokens(&self) -> u32 {
        self.batch_tokens.unwrap_or(defaults::BATCH_TOKENS)
    }

    /// Tokens of a sample answer.
    #[must_use]
    pub fn sample_tokens(&self) -> u32 {
        self.sample_tokens.unwrap_or(defaults::SAMPLE_TOKENS)
    }

    /// Where it computes.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend.unwrap_or_default()
    }

    /// What can be refused before rows or a model are read: settings that no run can have.
    ///
    /// # Errors
    /// [`TrainError::Setting`] with the first.
    pub fn check(&self, config: &Config) -> Result<(), TrainError> {
        if self.f16 && self.backend() == Backend::Cpu {
            return setting("f16", &true, "left out on the CPU, which computes in f32");
        }
        let most = most_batch_tokens(config);
        if !(2..=most).contains(&self.batch_tokens()) {
            return setting("batch-tokens", &self.batch_tokens(), &format!("2 to {most}"));
        }
        if let Some(tokens) = self.max_tokens.filter(|tokens| *tokens < 2) {
            return setting("max-tokens", &tokens, "at least 2");
        }
        Ok(())
    }

    /// What trains: of the adapter to begin with or of the checkpoint to go on from, or as asked.
    ///
    /// # Errors
    /// More layers than the model has, more prompt tokens than the kernels take, or none.
    pub fn shape(&self, config: &Config, start: Option<&AdapterFile>) -> Result<AdapterShape, TrainError> {
        if let Some(file) = start {
            return Ok(AdapterShape::new(config, file.n_layers, file.adapter_len, file.kind));
        }
        let n_layers = self.adapter_layers.unwrap_or_else(|| defaults::adapter_layers(config));
        if !(1..=config.n_layers).contains(&n_layers) {
            return setting("adapter-layers", &n_layers, &format!("1 to {}, the layers of the model", config.n_layers));
        }
        let length = self.adapter_len.unwrap_or(defaults::ADAPTER_LEN);
        if !(1..=MAX_ADAPTER_LEN).contains(&length) {
            return setting("adapter-len", &length, &format!("1 to {MAX_ADAPTER_LEN}"));
        }
        Ok(AdapterShape::new(config, n_layers, length, self.gate.unwrap_or_default()))
    }

    /// [`Self::shape`] of a run that goes on from the adapter of a checkpoint: sizes that are asked for stay as they are, so that they
    /// can be compared.
    ///
    /// # Errors
    /// As [`Self::shape`].
    pub fn shape_of_checkpoint(&self, config: &Config, file: &AdapterFile) -> Result<AdapterShape, TrainError> {
        let sizes = Self {
            adapter_layers: self.adapter_layers.or(Some(file.n_layers)),
            adapter_len: self.adapter_len.or(Some(file.adapter_len)),
            gate: self.gate.or(Some(file.kind)),
            ..Self::default()
        };
        sizes.shape(config, None)
    }

    /// The settings of the run.
    ///
    /// # Errors
    /// A setting out of its range, rows that do not fit a batch.
    pub fn run_settings(&self, dataset: &Dataset, shape: AdapterShape) -> Result<RunSettings, TrainError> {
        let (batch_tokens, seed) = (self.batch_tokens(), self.seed.unwrap_or_default());
        for side in [&dataset.training, &dataset.validation] {
            check_lengths(side, batch_tokens)?;
        }
        let epochs = self.epochs.unwrap_or(defaults::EPOCHS);
        if !(epochs > 0.0 && epochs <= 1e6) {
            return setting("epochs", &epochs, "a number above 0, for instance 3");
        }
        let n_steps = match self.steps {
            Some(steps) => steps,
            None => steps_of_epochs(&dataset.training, batch_tokens, seed, epochs)?,
        };
        let warmup = self.warmup.unwrap_or_else(|| defaults::warmup_steps(n_steps));
        let plain = Recipe::new(self.lr.unwrap_or(defaults::LEARNING_RATE), warmup, n_steps);
        let recipe = Recipe {
            schedule: self.schedule.unwrap_or(plain.schedule),
            weight_decay: self.weight_decay.unwrap_or(plain.weight_decay),
            max_grad_norm: self.max_grad_norm.map_or(plain.max_grad_norm, |norm| (norm != 0.0).then_some(norm)),
            ..plain
        };
        recipe.check()?;
        if let Some(patience) = self.patience
            && dataset.validation.is_empty()
        {
            return setting("patience", &patience, "left out: there are no validation rows by which to stop");
        }
        let validate_every = self.validate_every.unwrap_or_else(|| defaults::validate_every(n_steps));
        Ok(RunSettings { shape, recipe, batch_tokens, seed, validate_every, patience: self.patience })
    }

    /// Steps from one checkpoint to the next.
    #[must_use]
    pub fn save_every(&self, settings: &RunSettings) -> u64 {
        self.save_every.unwrap_or(settings.validate_every).max(1)
    }

    /// All options as they are used, for `config.toml`. Paths are absolute, so that a run can go on from another folder.
    #[must_use]
    pub fn resolved(&self, settings: &RunSettings, model: &Path) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let RunSettings { shape, recipe, .. } = settings;
        Self {
            model: Some(absolute(model)),
            data: self.data.as_deref().map(absolute),
            val: self.val.as_deref().map(absolute),
            val_split: match self.val {
                Some(_) => None,
                None => Some(self.val_split.unwrap_or(defaults::VALIDATION_SHARE)),
            },
            max_tokens: Some(self.max_tokens.unwrap_or(settings.batch_tokens)),
            adapter: self.adapter.as_deref().map(absolute),
            adapter_len: self.adapter.is_none().then_some(shape.adapter_len),
            adapter_layers: self.adapter.is_none().then_some(shape.n_layers),
            gate: Some(shape.kind),
            lr: Some(recipe.learning_rate),
            epochs: None,
            steps: Some(recipe.n_steps),
            batch_tokens: Some(settings.batch_tokens),
            warmup: Some(recipe.warmup_steps),
            schedule: Some(recipe.schedule),
            weight_decay: Some(recipe.weight_decay),
            max_grad_norm: Some(recipe.max_grad_norm.unwrap_or_default()),
            seed: Some(settings.seed),
            backend: Some(self.backend()),
            validate_every: Some(settings.validate_every),
            sample_tokens: Some(self.sample_tokens()),
            save_every: Some(self.save_every(settings)),
            out: None,
            ..self.clone()
        }
    }

    /// `config.toml` as text becomes options.
    ///
    /// # Errors
    /// The parser's words: no TOML, or a field that does not exist.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// As TOML.
    ///
    /// # Errors
    /// A path that is no Unicode.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| TrainError::File { path: CONFIG.to_owned(), reason: error.to_string() })
    }
}

/// Which rows a model with a context of `n_context` tokens cannot read whole in a chat: how many have more tokens.
#[must_use]
pub fn rows_over_context(rows: &Examples, n_context: u32) -> u64 {
    rows.iter().filter(|example| example.ids.len() > n_context as usize).count() as u64
}

fn setting<T>(field: &'static str, found: &dyn std::fmt::Display, wanted: &str) -> Result<T, TrainError> {
    Err(TrainError::Setting { field, found: found.to_string(), wanted: wanted.to_owned() })
}
