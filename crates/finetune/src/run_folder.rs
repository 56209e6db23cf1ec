//! The folder of a run, the same for every program that trains: settings, adapters, checkpoints, metrics, pictures.

use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, BaseModel};

use crate::checkpoint::{self, Checkpoint, Progress, write_atomically};
use crate::metrics::{self, End, MetricsLog, Record};
use crate::plot::{self, LossPoint};
use crate::{Run, RunSettings, TrainError};

/// The settings of a run, in its folder.
pub const CONFIG: &str = "config.toml";
/// The adapter to use: the best by validation, or the last one where nothing was measured.
pub const ADAPTER: &str = "adapter.safetensors";
const METRICS: &str = "metrics.jsonl";
const LOSS: &str = "loss.svg";
const GATES: &str = "gates.svg";
/// Checkpoints that are kept beside the best one.
const KEPT: usize = 2;

/// An open run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    base: BaseModel,
    log: MetricsLog,
    records: Vec<Record>,
    /// Step of the newest checkpoint of this sitting.
    saved: Option<u64>,
    /// Of the training rows, once it was needed: it reads all of them.
    fingerprint: Option<u64>,
}

impl RunFolder {
    /// A new folder, or an empty one that is there; `config` is the text of its settings.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] for one with a run in it, [`TrainError::File`] for one that cannot be written.
    pub fn create(path: &Path, base: BaseModel, config: &str) -> Result<Self, TrainError> {
        if path.join(CONFIG).is_file() {
            return Err(TrainError::RunExists { path: path.display().to_string() });
        }
        std::fs::create_dir_all(path).map_err(|error| TrainError::file(path, &error))?;
        let log = MetricsLog::open(&path.join(METRICS))?;
        write_atomically(&path.join(CONFIG), config.as_bytes())?;
        Ok(Self { path: path.to_owned(), base, log, records: Vec::new(), saved: None, fingerprint: None })
    }

    /// The folder of a run that goes on after `step`: what its log says of later ones is removed.
    ///
    /// # Errors
    /// [`TrainError::Metrics`] for a log that cannot be read or written.
    pub fn resume(path: &Path, base: BaseModel, step: u64) -> Result<Self, TrainError> {
        let metrics = path.join(METRICS);
        let mut log = MetricsLog::open(&metrics)?;
        log.truncate_after(step)?;
        let records = metrics::read(&metrics)?.records;
        Ok(Self { path: path.to_owned(), base, log, records, saved: None, fingerprint: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model of the run.
    pub fn base(&self) -> &BaseModel {
        &self.base
    }

    /// All that happened so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// [`TrainError::Metrics`]: the log cannot be written.
    pub fn record(&mut self, record: Record) -> Result<(), TrainError> {
        self.log.append(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// Writes an adapter under `name`, with the name and hash of its model.
    ///
    /// # Errors
    /// A file that cannot be written, numbers that are not finite.
    pub fn adapter(&self, name: &str, mut file: AdapterFile) -> Result<(), TrainError> {
        file.set_base(&self.base);
        write_atomically(&self.path.join(name), &file.to_safetensors()?)
    }

    /// Draws the losses so far and the gates of `file`, `gate_width` of them a layer.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn pictures(&self, file: &AdapterFile, gate_width: u32) -> Result<(), TrainError> {
        let points: Vec<LossPoint> = self.records.iter().filter_map(LossPoint::of).collect();
        write_atomically(&self.path.join(LOSS), plot::loss_svg("Loss", &points).as_bytes())?;
        let first_layer = self.base.n_layers.saturating_sub(file.n_layers);
        let gates = plot::gates_svg("Gates", &file.effective_gates(gate_width), first_layer);
        write_atomically(&self.path.join(GATES), gates.as_bytes())
    }

    /// Writes a checkpoint and removes those that it makes needless. `None`: this step has one already. The record says
    /// where it is as seen from the log, since the folder may be moved; it is for [`Self::record`].
    ///
    /// # Errors
    /// A full disk, a lost GPU.
    pub async fn checkpoint(&mut self, run: &Run<'_>, seconds: f64) -> Result<Option<Record>, TrainError> {
        let step = run.trainer().step();
        if self.saved == Some(step) {
            return Ok(None);
        }
        let (settings, place) = (run.settings(), *run.place());
        let progress = Progress {
            seed: settings.seed,
            position: place.position,
            data_fingerprint: *self.fingerprint.get_or_insert_with(|| run.training().fingerprint()),
            batch_tokens: settings.batch_tokens,
            recipe: settings.recipe.clone(),
            best: place.best,
            without_gain: place.without_gain,
            seconds,
            tokens: place.tokens,
            trained_tokens: place.trained_tokens,
            validation_due: place.validation_due,
        };
        let snapshot = run.trainer().snapshot().await?;
        let path = Checkpoint { snapshot, progress }.save(&self.path)?;
        checkpoint::prune(&self.path, KEPT)?;
        self.saved = Some(step);
        let inside = path.strip_prefix(&self.path).unwrap_or(&path);
        Ok(Some(Record::Checkpoint { step, path: inside.display().to_string() }))
    }

    /// How it ended. The loss is a mean in which each step counts a tenth and what was before it the rest.
    pub fn ended(&self, run: &Run<'_>, reason: String, seconds: f64) -> End {
        let mut loss = None;
        let mut val_loss = None;
        for record in &self.records {
            match record {
                Record::Step(step) => {
                    if let Some(new) = step.loss.filter(|new| new.is_finite()) {
                        loss = Some(loss.map_or(new, |before| before + (new - before) * 0.1));
                    }
                }
                Record::Eval(eval) => val_loss = eval.val_loss,
                _ => {}
            }
        }
        End {
            step: run.trainer().step(),
            reason,
            seconds,
            loss,
            val_loss,
            val_ppl: val_loss.map(f64::exp),
            skipped_steps: run.trainer().skipped(),
        }
    }
}

/// The newest checkpoint of the run in `path`, after checking that it belongs to these settings and to rows with this
/// [fingerprint](crate::data::Examples::fingerprint).
///
/// # Errors
/// [`TrainError::NoCheckpoint`], [`TrainError::OtherRun`] with the first difference, a checkpoint that cannot be read.
pub fn to_resume(path: &Path, settings: &RunSettings, fingerprint: u64) -> Result<Checkpoint, TrainError> {
    let Some(newest) = checkpoint::latest(path)? else {
        return Err(TrainError::NoCheckpoint { path: path.display().to_string() });
    };
    let found = Checkpoint::load(&newest)?;
    let Progress { seed, data_fingerprint, batch_tokens, recipe, .. } = &found.progress;
    let (adapter, shape) = (&found.snapshot.adapter, settings.shape);
    let sizes = |kind: adapter_engine::adapter::GateKind, layers, len| {
        format!("{}, {layers} layers, {len} prompts", kind.name())
    };
    let differences = [
        ("seed", seed.to_string(), settings.seed.to_string()),
        ("data set", format!("fingerprint {data_fingerprint:016x}"), format!("fingerprint {fingerprint:016x}")),
        ("number of tokens a batch", batch_tokens.to_string(), settings.batch_tokens.to_string()),
        ("recipe", format!("{recipe:?}"), format!("{:?}", settings.recipe)),
        (
            "adapter",
            sizes(adapter.kind, adapter.n_layers, adapter.adapter_len),
            sizes(shape.kind, shape.n_layers, shape.adapter_len),
        ),
    ];
    match differences.into_iter().find(|(_, found, wanted)| found != wanted) {
        Some((what, found, wanted)) => {
            Err(TrainError::OtherRun { path: newest.display().to_string(), what, found, wanted })
        }
        None => Ok(found),
    }
}
