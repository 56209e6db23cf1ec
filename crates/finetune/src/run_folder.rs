//! The folder of a run, the same for every program that trains: settings, adapters, checkpoints, metrics, pictures.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, BaseMatch, BaseModel};

use crate::checkpoint::{self, Checkpoint, Ground, Progress, write_atomically};
use crate::driver::{Outcome, Store, Which};
use crate::metrics::{self, MetricsLog, Record};
use crate::plot::{self, LossPoint};
pub use crate::settings::CONFIG;
use crate::settings::RunOptions;
use crate::{Recipe, Run, RunSettings, TrainError};

/// The adapter to use: the best by validation, or the last one where no validation after a step was the best.
pub const ADAPTER: &str = "adapter.safetensors";
/// The adapter of the last step.
pub const LAST: &str = "last.safetensors";
const METRICS: &str = "metrics.jsonl";
const LOSS: &str = "loss.svg";
const GATES: &str = "gates.svg";
/// What a run may leave before its first checkpoint.
const EARLY: [&str; 4] = [CONFIG, METRICS, LOSS, GATES];
/// Checkpoints that are kept beside the best one.
const KEPT: usize = 2;
/// Names of foreign files that an error lists.
const MAX_NAMED: usize = 3;

/// An open run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    base: BaseModel,
    template: Option<String>,
    ground: Ground,
    log: MetricsLog,
    records: Vec<Record>,
    /// Step of the newest checkpoint of this sitting.
    saved: Option<u64>,
    /// Of the training rows, once it was needed: it reads all of them.
    fingerprint: Option<u64>,
}

/// A folder in which a run may begin. Folders that were made for it are removed when nothing begins.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    /// The folders that were not there, the innermost first.
    made: Vec<PathBuf>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Only empty ones can be removed; what stays is no harm.
        for folder in &self.made {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl Reserved {
    /// Takes a folder for a new run: one that is not there, an empty one, or one in which a run ended before its first checkpoint.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] for one with a run in it, [`TrainError::FolderInUse`] for one with anything else,
    /// [`TrainError::File`] for one that cannot be made.
    pub fn new(path: &Path) -> Result<Self, TrainError> {
        check_vacant(path)?;
        let missing = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        std::fs::create_dir_all(path).map_err(|error| TrainError::file(path, &error))?;
        Ok(Self { path: path.to_owned(), made })
    }

    /// Begins the run; `config` is the text of its settings. What an earlier start left is removed.
    ///
    /// # Errors
    /// A folder that cannot be written, or in which something appeared since.
    pub fn begin(self, base: BaseModel, ground: Ground, config: &str) -> Result<RunFolder, TrainError> {
        let path = self.path.clone();
        check_vacant(&path)?;
        for name in EARLY {
            match std::fs::remove_file(path.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(TrainError::file(&path.join(name), &error));
                }
                _ => {}
            }
        }
        checkpoint::prune(&path, KEPT)?;
        // First of all: by it the folder is known as that of a run.
        write_atomically(&path.join(CONFIG), config.as_bytes())?;
        let log = MetricsLog::open(&path.join(METRICS))?;
        Ok(RunFolder { path, base, template: None, ground, log, records: Vec::new(), saved: None, fingerprint: None })
    }
}

/// The runs in `folder` that can go on: they have a checkpoint, and their log does not say that they came to their end. In the order
/// of their names; what cannot be read is passed over.
#[must_use]
pub fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_over = |path: &Path| match metrics::last(&path.join(METRICS)) {
        Ok(Some(Record::End(end))) => {
            [Outcome::Done, Outcome::Early].iter().any(|end_of_all| end_of_all.name() == end.reason)
        }
        _ => false,
    };
    let can_go_on = |path: &PathBuf| {
        path.join(CONFIG).is_file() && checkpoint::any_complete(path).is_ok_and(|any| any) && !is_over(path)
    };
    let mut runs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(can_go_on).collect();
    runs.sort();
    runs
}

/// Whether a new run may write into `path`.
fn check_vacant(path: &Path) -> Result<(), TrainError> {
    let failed = |error: std::io::Error| TrainError::file(path, &error);
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory && path.exists() => {
            return Err(TrainError::FolderInUse { path: path.display().to_string(), found: "it is a file".to_owned() });
        }
        entries => entries.map_err(failed)?,
    };
    let (mut adapters, mut foreign) = (false, Vec::new());
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Such files are the system's, or a write that was interrupted; nobody loads them.
        if name.starts_with('.') || EARLY.contains(&name.as_str()) || checkpoint::is_checkpoint_name(&name) {
            continue;
        }
        match [ADAPTER, LAST].contains(&name.as_str()) {
            true => adapters = true,
            false => foreign.push(name),
        }
    }
    let complete = checkpoint::any_complete(path)?;
    if path.join(CONFIG).is_file() && (adapters || complete) {
        return Err(TrainError::RunExists { path: path.display().to_string() });
    }
    // Other programs have a `config.toml`, too.
    let early: &[&str] = if options(path).is_ok() { &[] } else { &EARLY };
    let there = early.iter().chain(&[ADAPTER, LAST]).filter(|name| path.join(name).exists());
    foreign.extend(there.map(|name| (*name).to_owned()));
    if complete {
        foreign.push("a checkpoint".to_owned());
    }
    if foreign.is_empty() {
        return Ok(());
    }
    foreign.sort();
    let more = foreign.len().saturating_sub(MAX_NAMED);
    let mut found = foreign.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        found += &format!(" and {more} more");
    }
    Err(TrainError::FolderInUse { path: path.display().to_string(), found: format!("it holds {found}") })
}

impl RunFolder {
    /// The folder of a run that goes on after `step`: what its log says of later ones is removed. Call it last, when nothing can
    /// fail any more: it changes the folder.
    ///
    /// # Errors
    /// [`TrainError::Metrics`] for a log that cannot be read or written.
    pub fn resume(path: &Path, base: BaseModel, ground: Ground, step: u64) -> Result<Self, TrainError> {
        let metrics = path.join(METRICS);
        let mut log = MetricsLog::open(&metrics)?;
        log.truncate_after(step)?;
        let records = metrics::read(&metrics)?.records;
        Ok(Self { path: path.to_owned(), base, template: None, ground, log, records, saved: None, fingerprint: None })
    }

    /// The same folder, whose adapters say with which chat template they were trained.
    #[must_use]
    pub fn with_template(self, source: &str) -> Self {
        Self { template: Some(source.to_owned()), ..self }
    }

    /// What an adapter of this run says of its origin.
    fn label(&self, file: &mut AdapterFile) {
        file.set_base(&self.base);
        file.chat_template.clone_from(&self.template);
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model of the run.
    #[must_use]
    pub fn base(&self) -> &BaseModel {
        &self.base
    }
}

impl Store for RunFolder {
    fn records(&self) -> &[Record] {
        &self.records
    }

    fn record(&mut self, record: Record) -> Result<(), TrainError> {
        self.log.append(&record)?;
        self.records.push(record);
        Ok(())
    }

    fn adapter(&mut self, which: Which, file: &AdapterFile) -> Result<(), TrainError> {
        let mut file = file.clone();
        self.label(&mut file);
        let name = match which {
            Which::Best => ADAPTER,
            Which::Last => LAST,
        };
        write_atomically(&self.path.join(name), &file.to_safetensors()?)
    }

    /// Writes a checkpoint and removes those that it makes needless. The record says where it is as seen from the log, since the
    /// folder may be moved.
    async fn checkpoint(&mut self, run: &Run<'_>, seconds: f64) -> Result<Option<Record>, TrainError> {
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
            ground: self.ground.clone(),
        };
        let mut snapshot = run.trainer().snapshot().await?;
        self.label(&mut snapshot.adapter);
        let path = Checkpoint { snapshot, progress }.save(&self.path)?;
        checkpoint::prune(&self.path, KEPT)?;
        self.saved = Some(step);
        let inside = path.strip_prefix(&self.path).unwrap_or(&path);
        Ok(Some(Record::Checkpoint { step, path: inside.display().to_string() }))
    }

    fn pictures(&mut self, last: &AdapterFile, gate_width: u32) -> Result<(), TrainError> {
        let points: Vec<LossPoint> = self.records.iter().filter_map(LossPoint::of).collect();
        write_atomically(&self.path.join(LOSS), plot::loss_svg("Loss", &points).as_bytes())?;
        let first_layer = self.base.n_layers.saturating_sub(last.n_layers);
        let gates = plot::gates_svg("Gates", &last.effective_gates(gate_width), first_layer);
        write_atomically(&self.path.join(GATES), gates.as_bytes())
    }
}

/// The folder of a run, from itself or one of its checkpoints.
///
/// # Errors
/// [`TrainError::NoRun`]: neither.
pub fn run_of(path: &Path) -> Result<PathBuf, TrainError> {
    let parent = path.parent().filter(|parent| parent.join(CONFIG).is_file());
    match (path.join(CONFIG).is_file(), parent) {
        (true, _) => Ok(path.to_owned()),
        (false, Some(parent)) => Ok(parent.to_owned()),
        (false, None) => Err(TrainError::NoRun { path: path.display().to_string() }),
    }
}

/// The options of the run in `folder`.
///
/// # Errors
/// A `config.toml` that cannot be read, or has fields that do not exist.
pub fn options(folder: &Path) -> Result<RunOptions, TrainError> {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|error| TrainError::file(&path, &error))?;
    RunOptions::from_toml(&text).map_err(|reason| TrainError::Config { path: path.display().to_string(), reason })
}

/// The newest checkpoint of the run in `path`, or `path` itself if it is a checkpoint. `None`: the run ended before its first one,
/// and may begin anew in its folder.
///
/// # Errors
/// [`TrainError::NoCheckpoint`] for a run whose adapters alone are left; a checkpoint that cannot be read.
pub fn newest(path: &Path) -> Result<Option<Checkpoint>, TrainError> {
    match checkpoint::latest(path)? {
        Some(newest) => Checkpoint::load(&newest).map(Some),
        None if check_vacant(path).is_ok() => Ok(None),
        None => Err(TrainError::NoCheckpoint { path: path.display().to_string() }),
    }
}

/// What a run is made of, to be compared with a checkpoint.
#[derive(Debug)]
pub struct Made<'a> {
    /// Its settings.
    pub settings: &'a RunSettings,
    /// [`Examples::fingerprint`](crate::data::Examples::fingerprint) of the training rows.
    pub fingerprint: u64,
    /// The model.
    pub base: &'a BaseModel,
    /// Where it computes, and what it is measured by.
    pub ground: &'a Ground,
}

/// Checks that `found`, a checkpoint of the run in `path`, is one of this run. Returns what an older checkpoint does not say, so
/// that nobody can tell: `the weights of the model`, ...
///
/// # Errors
/// [`TrainError::OtherRun`] with the first difference.
pub fn check_same(path: &Path, found: &Checkpoint, made: &Made<'_>) -> Result<Vec<&'static str>, TrainError> {
    let Made { settings, fingerprint, base, ground } = made;
    let Progress { seed, data_fingerprint, batch_tokens, recipe, ground: before, .. } = &found.progress;
    let (adapter, shape) = (&found.snapshot.adapter, settings.shape);
    let sizes = |kind: adapter_engine::adapter::GateKind, layers, len| {
        format!("{} gates, {layers} layers, {len} prompt tokens", kind.name())
    };
    let print = |fingerprint: u64| format!("fingerprint {fingerprint:016x}");
    let yes = |on: bool| if on { "on" } else { "off" }.to_owned();
    let mut differences = vec![
        ("seed", seed.to_string(), settings.seed.to_string()),
        ("data set", print(*data_fingerprint), print(*fingerprint)),
        ("batch size", format!("{batch_tokens} tokens"), format!("{} tokens", settings.batch_tokens)),
        (
            "adapter",
            sizes(adapter.kind, adapter.n_layers, adapter.adapter_len),
            sizes(shape.kind, shape.n_layers, shape.adapter_len),
        ),
    ];
    let [there, here] = recipe_difference(recipe, &settings.recipe);
    differences.push(("recipe", there, here));
    let mut unknown = Vec::new();
    let mut compare = |what, name, there: Option<String>, here: Option<String>| match (there, here) {
        (Some(there), Some(here)) => differences.push((what, there, here)),
        (None, Some(_)) => unknown.push(name),
        _ => {}
    };
    compare(
        "set of validation rows",
        "the validation rows",
        before.validation.map(print),
        ground.validation.map(print),
    );
    let backend = |backend: crate::settings::Backend| backend.name().to_owned();
    compare("backend", "the backend", before.backend.map(backend), ground.backend.map(backend));
    compare("setting of f16", "whether products were in f16", before.f16.map(yes), ground.f16.map(yes));
    if !check_base(path, found, base)? {
        unknown.push("the weights of the model");
    }
    match differences.into_iter().find(|(_, found, wanted)| found != wanted) {
        Some((what, found, wanted)) => {
            Err(TrainError::OtherRun { path: path.display().to_string(), what, found, wanted })
        }
        None => Ok(unknown),
    }
}

/// Checks that `found`, a checkpoint of the run in `path`, was made with these weights, before anything else: whoever has another
/// model has other sizes and other ids, too. Returns whether it says so.
///
/// # Errors
/// [`TrainError::OtherRun`].
pub fn check_base(path: &Path, found: &Checkpoint, base: &BaseModel) -> Result<bool, TrainError> {
    match known_base(path, &found.snapshot.adapter, base) {
        BaseMatch::Same => Ok(true),
        BaseMatch::Unknown => Ok(false),
        BaseMatch::OtherWeights { adapter, model } | BaseMatch::OtherName { adapter, model } => {
            Err(TrainError::OtherRun { path: path.display().to_string(), what: "model", found: adapter, wanted: model })
        }
    }
}

/// What a checkpoint says about its model, or where it is an old one the adapters beside it.
fn known_base(path: &Path, adapter: &AdapterFile, base: &BaseModel) -> BaseMatch {
    let mut compared = adapter.compare_base(base);
    for name in [LAST, ADAPTER] {
        if compared != BaseMatch::Unknown {
            break;
        }
        let read = std::fs::read(path.join(name)).ok();
        let file = read.and_then(|bytes| AdapterFile::from_safetensors(&bytes, None).ok());
        compared = file.map_or(compared, |file| file.compare_base(base));
    }
    compared
}

/// The first number of two recipes that differs, in words; twice the same where none does.
fn recipe_difference(there: &Recipe, here: &Recipe) -> [String; 2] {
    let words = |recipe: &Recipe| {
        let clipped = recipe.max_grad_norm.map_or("no".to_owned(), |norm| norm.to_string());
        [
            format!("learning rate {}", recipe.learning_rate),
            format!("{} steps", recipe.n_steps),
            format!("{} steps of warm-up", recipe.warmup_steps),
            format!("a {} schedule", recipe.schedule.name()),
            format!("weight decay {}", recipe.weight_decay),
            format!("{clipped} limit of the gradient"),
            format!("betas {} and {}, epsilon {}", recipe.beta_1, recipe.beta_2, recipe.epsilon),
        ]
    };
    let different = words(there).into_iter().zip(words(here)).find(|(there, here)| there != here);
    different.map_or_else(Default::default, |(there, here)| [there, here])
}
