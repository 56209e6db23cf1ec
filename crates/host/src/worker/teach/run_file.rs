//! The settings of a run, as the terminal program writes and reads them.

use std::path::{Path, PathBuf};

use crate::Problem;
use adapter_engine::adapter::GateKind;
use adapter_finetune::run_folder::CONFIG;
use adapter_finetune::{RunSettings, usual};
use serde::{Deserialize, Serialize};

use super::TeachSettings;

/// `config.toml` of a run, as `adapter-cli finetune --resume` reads it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RunFile {
    model: PathBuf,
    data: PathBuf,
    val_split: f64,
    max_tokens: u32,
    adapter_len: u32,
    adapter_layers: u32,
    gate: GateKind,
    pub lr: f64,
    pub steps: u64,
    batch_tokens: u32,
    pub warmup: u64,
    pub weight_decay: f32,
    pub max_grad_norm: f32,
    seed: u64,
    backend: String,
    pub validate_every: u64,
    sample_tokens: u32,
    save_every: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sample: Vec<String>,
}

/// `config.toml` of the run in `folder`.
pub(super) fn read_run(folder: &Path) -> Result<RunFile, Problem> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|error| Problem::file("cannot read the run", &path, &error))?;
    toml::from_str(&text).map_err(|error| {
        let hint = "go on with it in the terminal: `adapter-cli finetune --resume` knows every setting";
        Problem::new(format!("this run was made elsewhere: {}", error.message()), hint).at(&path)
    })
}

impl RunFile {
    pub fn to_toml(&self) -> Result<String, Problem> {
        toml::to_string(self).map_err(|error| {
            Problem::new(format!("the settings cannot be written: {error}"), "choose a plainer path for the rows")
        })
    }

    pub fn of(settings: &TeachSettings, run: &RunSettings, model: &Path) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            model: absolute(model),
            data: absolute(&settings.data),
            val_split: usual::VALIDATION_SHARE,
            max_tokens: settings.batch_tokens,
            adapter_len: run.shape.adapter_len,
            adapter_layers: run.shape.n_layers,
            gate: settings.gate,
            lr: run.recipe.learning_rate,
            steps: run.recipe.n_steps,
            batch_tokens: run.batch_tokens,
            warmup: run.recipe.warmup_steps,
            weight_decay: run.recipe.weight_decay,
            max_grad_norm: run.recipe.max_grad_norm.unwrap_or_default(),
            seed: run.seed,
            backend: "wgpu".to_owned(),
            validate_every: run.validate_every,
            sample_tokens: usual::SAMPLE_TOKENS,
            save_every: run.validate_every.max(1),
            sample: Some(settings.question.trim())
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect(),
        }
    }

    pub fn settings(&self, out: &Path) -> TeachSettings {
        TeachSettings {
            data: self.data.clone(),
            out: out.to_owned(),
            learning_rate: self.lr,
            adapter_len: self.adapter_len,
            adapter_layers: self.adapter_layers,
            gate: self.gate,
            batch_tokens: self.batch_tokens,
            seed: self.seed,
            question: self.sample.first().cloned().unwrap_or_default(),
            ..TeachSettings::default()
        }
    }
}
