//! Flags over a file over defaults.

use std::path::{Path, PathBuf};

use adapter_engine::adapter::AdapterFile;
use adapter_engine::model::Config;
use adapter_finetune::data::{DataOptions, Dataset, Split, Template};
use adapter_finetune::run_folder::CONFIG;
use adapter_finetune::{AdapterShape, Recipe, RunSettings, steps_of_epochs, usual};

use super::flags::{Backend, Finetune};
use crate::failure::Failure;
use crate::load;

/// Puts the settings of a file under those of the command line.
macro_rules! under {
    ($flags:expr, $file:expr; $($field:ident)*) => { $( if $flags.$field.is_none() { $flags.$field = $file.$field; } )* };
}

impl Finetune {
    /// The flags with the file of `--config`, or that of the run to go on with, under them.
    ///
    /// # Errors
    /// A file that is not there, is no TOML or has settings that do not exist.
    pub fn with_file(&self) -> Result<Self, Failure> {
        let path = match (&self.config, &self.resume) {
            (Some(path), _) => path.clone(),
            (None, Some(resume)) => run_folder(resume)?.join(CONFIG),
            (None, None) => return Ok(self.clone()),
        };
        let text = load::utf8(load::read_small(&path)?, &path)?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            let hint = "its settings are the flags of `adapter-cli finetune --help`, written as in `--print-config`";
            Failure::failed(format!("{}: {}", path.display(), error.to_string().trim_end()), hint)
        })?;
        let mut flags = self.clone();
        // Either of two that exclude each other wins over the other one in the file.
        let file = Self {
            steps: file.steps.filter(|_| flags.epochs.is_none()),
            epochs: file.epochs.filter(|_| flags.steps.is_none()),
            val: file.val.filter(|_| flags.val_split.is_none()),
            val_split: file.val_split.filter(|_| flags.val.is_none()),
            ..file
        };
        under!(flags, file; model data val val_split template max_tokens adapter adapter_len adapter_layers gate lr epochs steps
               batch_tokens warmup schedule weight_decay max_grad_norm seed backend validate_every patience sample_tokens out
               save_every);
        flags.train_on_prompt |= file.train_on_prompt;
        flags.strict |= file.strict;
        flags.f16 |= file.f16;
        if flags.set.is_empty() {
            flags.set = file.set;
        }
        if flags.sample.is_empty() {
            flags.sample = file.sample;
        }
        Ok(flags)
    }

    /// How rows are read.
    ///
    /// # Errors
    /// A `--set` without `=`.
    pub fn data_options(&self) -> Result<DataOptions, Failure> {
        let substitutions = self.set.iter().map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((format!("{{{{{name}}}}}"), value.to_owned())),
            _ => Err(Failure::wrong_use(format!("--set {text:?} has no NAME=VALUE"), "for instance --set name=Nova")),
        });
        Ok(DataOptions {
            template: self.template.clone().map_or(Template::OfModel, Template::Named),
            max_tokens: self.max_tokens.unwrap_or_else(|| self.batch_tokens()),
            train_on_prompt: self.train_on_prompt,
            substitutions: substitutions.collect::<Result<_, _>>()?,
            split: Split {
                fraction: self.val_split.unwrap_or(usual::VALIDATION_SHARE),
                seed: self.seed.unwrap_or_default(),
            },
            refuse_bad_rows: self.strict,
            ..DataOptions::default()
        })
    }

    /// Tokens of a batch at most.
    pub fn batch_tokens(&self) -> u32 {
        self.batch_tokens.unwrap_or(usual::BATCH_TOKENS)
    }

    /// Tokens of a sample answer.
    pub fn sample_tokens(&self) -> u32 {
        self.sample_tokens.unwrap_or(usual::SAMPLE_TOKENS)
    }

    /// Where it computes.
    pub fn backend(&self) -> Backend {
        self.backend.unwrap_or(Backend::Wgpu)
    }

    /// The folder of the run.
    ///
    /// # Errors
    /// `--resume` names no run.
    pub fn out(&self) -> Result<PathBuf, Failure> {
        if let Some(resume) = &self.resume {
            return run_folder(resume);
        }
        let stem = self.data.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        Ok(self.out.clone().unwrap_or_else(|| format!("adapter-{}", stem.unwrap_or_default()).into()))
    }

    /// What trains: of the adapter to begin with, or of the flags.
    ///
    /// # Errors
    /// More layers than the model has.
    pub fn shape(&self, config: &Config, start: Option<&AdapterFile>) -> Result<AdapterShape, Failure> {
        if let Some(file) = start {
            return Ok(AdapterShape::new(config, file.n_layers, file.adapter_len, file.kind));
        }
        let n_layers = self.adapter_layers.unwrap_or_else(|| usual::adapter_layers(config));
        if n_layers > config.n_layers {
            return Err(Failure::wrong_use(
                format!("--adapter-layers {n_layers} is more than the model's {} layers", config.n_layers),
                format!("give at most {}", config.n_layers),
            ));
        }
        let kind = self.gate.unwrap_or_default();
        Ok(AdapterShape::new(config, n_layers, self.adapter_len.unwrap_or(usual::ADAPTER_LEN), kind))
    }

    /// The settings of the run.
    ///
    /// # Errors
    /// A setting out of its range, rows that do not fit a batch.
    pub fn run_settings(&self, dataset: &Dataset, shape: AdapterShape) -> Result<RunSettings, Failure> {
        let (batch_tokens, seed) = (self.batch_tokens(), self.seed.unwrap_or_default());
        let epochs = self.epochs.unwrap_or(usual::EPOCHS);
        if !(epochs > 0.0 && epochs <= 1e6) {
            return Err(Failure::wrong_use(format!("--epochs is {epochs}"), "give a number above 0, for instance 3"));
        }
        let n_steps = match self.steps {
            Some(steps) => steps,
            None => steps_of_epochs(&dataset.training, batch_tokens, seed, epochs)?,
        };
        let warmup = self.warmup.unwrap_or_else(|| usual::warmup_steps(n_steps));
        let defaults = Recipe::new(self.lr.unwrap_or(usual::LEARNING_RATE), warmup, n_steps);
        let max_grad_norm = self.max_grad_norm.map_or(defaults.max_grad_norm, |norm| (norm != 0.0).then_some(norm));
        let recipe = Recipe {
            schedule: self.schedule.map_or(defaults.schedule, Into::into),
            weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
            max_grad_norm,
            ..defaults
        };
        recipe.check()?;
        let validate_every = self.validate_every.unwrap_or_else(|| usual::validate_every(n_steps));
        Ok(RunSettings { shape, recipe, batch_tokens, seed, validate_every, patience: self.patience })
    }

    /// All settings as they are used, for `config.toml`. Paths are absolute, so that a run can go on from another folder.
    pub fn resolved(&self, settings: &RunSettings, model: &Path) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let RunSettings { shape, recipe, .. } = settings;
        Self {
            model: Some(absolute(model)),
            data: self.data.as_deref().map(absolute),
            val: self.val.as_deref().map(absolute),
            val_split: match self.val {
                Some(_) => None,
                None => Some(self.val_split.unwrap_or(usual::VALIDATION_SHARE)),
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
            schedule: self.schedule,
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

    /// As TOML.
    ///
    /// # Errors
    /// A setting that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(self)
            .map_err(|error| Failure::failed(format!("the settings cannot be written: {error}"), "use plainer paths"))
    }

    /// Steps from one checkpoint to the next.
    pub fn save_every(&self, settings: &RunSettings) -> u64 {
        self.save_every.unwrap_or(settings.validate_every.max(1))
    }
}

/// The folder of a run, from itself or one of its checkpoints.
///
/// # Errors
/// Neither.
pub fn run_folder(path: &Path) -> Result<PathBuf, Failure> {
    let parent = path.parent().filter(|parent| parent.join(CONFIG).is_file());
    match (path.join(CONFIG).is_file(), parent) {
        (true, _) => Ok(path.to_owned()),
        (false, Some(parent)) => Ok(parent.to_owned()),
        (false, None) => Err(Failure::failed(
            format!("there is no run to go on with: {} has no {CONFIG}", path.display()),
            "--resume takes the --out folder of an earlier run; to train an adapter further, begin with --adapter",
        )),
    }
}
