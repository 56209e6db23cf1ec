//! The folder of a run, as the terminal program writes and reads it.

use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_files::Problem;
use adapter_finetune::RunSettings;
use adapter_finetune::checkpoint::write_atomically;
use adapter_finetune::metrics::{self, MetricsLog, Record};
use adapter_finetune::plot::{self, LossPoint};
use serde::{Deserialize, Serialize};

use super::samples::SAMPLE_TOKENS;
use super::{GateChoice, TeachSettings, VALIDATION, of_metrics, of_training};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const ADAPTER: &str = "adapter.safetensors";

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
    gate: GateChoice,
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

/// The folder of a run.
pub(super) struct Folder {
    pub path: PathBuf,
    pub base: BaseModel,
    log: MetricsLog,
    pub records: Vec<Record>,
}

impl Folder {
    pub fn create(path: &Path, base: BaseModel, config: &RunFile) -> Result<Self, Problem> {
        if path.join(CONFIG).is_file() {
            return Err(Problem::new(
                format!("there is a run of that name already: {}", path.display()),
                "go on with it, or give this one another name",
            ));
        }
        std::fs::create_dir_all(path).map_err(|error| Problem::file("cannot make the folder", path, &error))?;
        let log = MetricsLog::open(&path.join(METRICS)).map_err(of_metrics)?;
        let text = toml::to_string(config).map_err(|error| {
            Problem::new(format!("the settings cannot be written: {error}"), "choose a plainer path for the rows")
        })?;
        write_atomically(&path.join(CONFIG), text.as_bytes()).map_err(of_training)?;
        Ok(Self { path: path.to_owned(), base, log, records: Vec::new() })
    }

    pub fn resume(path: &Path, base: BaseModel, step: u64) -> Result<Self, Problem> {
        let metrics = path.join(METRICS);
        let mut log = MetricsLog::open(&metrics).map_err(of_metrics)?;
        log.truncate_after(step).map_err(of_metrics)?;
        let records = metrics::read(&metrics).map_err(of_metrics)?.records;
        Ok(Self { path: path.to_owned(), base, log, records })
    }

    pub fn record(&mut self, record: Record) -> Result<(), Problem> {
        self.log.append(&record).map_err(of_metrics)?;
        self.records.push(record);
        Ok(())
    }

    pub fn adapter(&self, mut file: AdapterFile) -> Result<(), Problem> {
        file.set_base(&self.base);
        let bytes = file.to_safetensors().map_err(|error| of_training(error.into()))?;
        write_atomically(&self.path.join(ADAPTER), &bytes).map_err(of_training)
    }

    pub fn pictures(&self, file: &AdapterFile, gate_width: u32) -> Result<(), Problem> {
        let points: Vec<LossPoint> = self.records.iter().filter_map(LossPoint::of).collect();
        write_atomically(&self.path.join("loss.svg"), plot::loss_svg("Loss", &points).as_bytes())
            .map_err(of_training)?;
        let first_layer = self.base.n_layers.saturating_sub(file.n_layers);
        let gates = plot::gates_svg("Gates", &file.effective_gates(gate_width), first_layer);
        write_atomically(&self.path.join("gates.svg"), gates.as_bytes()).map_err(of_training)
    }
}

/// `config.toml` of a run.
pub(super) fn read_run(folder: &Path) -> Result<RunFile, Problem> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|error| Problem::file("cannot read the run", &path, &error))?;
    toml::from_str(&text).map_err(|error| {
        let hint = "go on with it in the terminal: `adapter-cli finetune --resume` knows every setting";
        Problem::new(format!("this run was made elsewhere: {}", error.message()), hint).at(&path)
    })
}

impl RunFile {
    pub fn of(settings: &TeachSettings, run: &RunSettings, model: &Path) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            model: absolute(model),
            data: absolute(&settings.data),
            val_split: VALIDATION,
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
            sample_tokens: SAMPLE_TOKENS,
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
