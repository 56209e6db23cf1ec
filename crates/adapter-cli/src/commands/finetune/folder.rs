//! The folder of a run: settings, adapters, checkpoints, metrics, pictures.

use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, BaseModel, GateShape};
use adapter_finetune::checkpoint::write_atomically;
use adapter_finetune::metrics::{self, MetricsLog, Record};
use adapter_finetune::plot::{self, LossPoint};

use super::flags::Finetune;
use super::settings::CONFIG;
use crate::failure::Failure;

/// The adapter to use: the best by validation, or the last one where nothing was measured.
pub const ADAPTER: &str = "adapter.safetensors";
/// The adapter of the last step.
pub const LAST: &str = "last.safetensors";
const METRICS: &str = "metrics.jsonl";
const LOSS: &str = "loss.svg";
const GATES: &str = "gates.svg";

/// An open run.
pub struct Folder {
    path: PathBuf,
    base: BaseModel,
    log: MetricsLog,
    records: Vec<Record>,
}

impl Folder {
    /// A new folder, or an empty one that is there.
    ///
    /// # Errors
    /// One with a run in it, or one that cannot be written.
    pub fn create(path: &Path, base: BaseModel, settings: &Finetune) -> Result<Self, Failure> {
        if path.join(CONFIG).is_file() {
            return Err(Failure::failed(
                format!("there is a run in the folder already: {}", path.display()),
                format!("go on with it: --resume {}; or name another folder with --out", path.display()),
            ));
        }
        let fail = |error: &std::io::Error| Failure::file("cannot write", path, error);
        std::fs::create_dir_all(path).map_err(|error| fail(&error))?;
        let log = MetricsLog::open(&path.join(METRICS))?;
        let config = settings.to_toml()?;
        write_atomically(&path.join(CONFIG), config.as_bytes())?;
        Ok(Self { path: path.to_owned(), base, log, records: Vec::new() })
    }

    /// The folder of a run that goes on after `step`.
    ///
    /// # Errors
    /// One that cannot be written.
    pub fn resume(path: &Path, base: BaseModel, step: u64) -> Result<Self, Failure> {
        let metrics = path.join(METRICS);
        let mut log = MetricsLog::open(&metrics)?;
        log.truncate_after(step)?;
        let records = metrics::read(&metrics)?.records;
        Ok(Self { path: path.to_owned(), base, log, records })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that happened so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&mut self, record: Record) -> Result<(), Failure> {
        self.log.append(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// Writes an adapter, with the name and hash of its model.
    ///
    /// # Errors
    /// The file cannot be written, numbers that are not finite.
    pub fn adapter(&self, name: &str, mut file: AdapterFile) -> Result<(), Failure> {
        file.set_base(&self.base);
        Ok(write_atomically(&self.path.join(name), &file.to_safetensors()?)?)
    }

    /// Draws the losses so far and the gates of `file`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn pictures(&self, file: &AdapterFile, n_heads: u32) -> Result<(), Failure> {
        let points: Vec<LossPoint> = self.records.iter().filter_map(LossPoint::of).collect();
        write_atomically(&self.path.join(LOSS), plot::loss_svg("Loss", &points).as_bytes())?;
        let first_layer = self.base.n_layers.saturating_sub(file.n_layers);
        let strengths = match file.kind.shape {
            GateShape::PerHead => file.effective_gates(n_heads),
            GateShape::Scalar => file.effective_gates(1),
        };
        let gates = plot::gates_svg("Gates", &strengths, first_layer);
        Ok(write_atomically(&self.path.join(GATES), gates.as_bytes())?)
    }
}

impl Finetune {
    /// As TOML.
    ///
    /// # Errors
    /// A setting that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, Failure> {
        let text = toml::to_string(self).map_err(|error| {
            Failure::failed(format!("the settings cannot be written: {error}"), "use plainer paths")
        })?;
        Ok(text)
    }
}
