//! Opening GPUs, models and adapters: found by default, checked before anything large happens, with progress.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adapter_engine::adapter::{AdapterError, AdapterFile, BaseModel, GateActivation, GateKind};
use adapter_engine::formats::{Gguf, ReadAt, ReadAtFile};
use adapter_engine::gpu::{Gpu, GpuOptions};
use adapter_engine::llama::Config;
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{ChatTemplate, Tokenizer, VocabSource};
use adapter_engine::{Adapter, Model, Session};
use adapter_finetune::pth::{self, PthGates, PthOptions};
use pollster::block_on;

use crate::failure::Failure;
use crate::flags::{AdapterFlags, Gate, Global, ModelFlags};
use crate::{folders, interrupt, output, trust};

/// The file `cargo xtask chat` keeps in the cache folder.
pub const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// The largest adapter that is read into memory; a 70B model's has 40 MB.
const MAX_ADAPTER_BYTES: u64 = 1 << 30;
/// What `--adapter` says for the model alone. A file of that name is `./none`.
pub const NO_ADAPTER: &str = "none";

/// The model that is meant when none is named: where it is, or where it would be.
pub fn default_model() -> Option<PathBuf> {
    let mut places = folders::caches().map(|folder| folder.join(DEFAULT_MODEL)).peekable();
    let first = places.peek().cloned();
    places.find(|path| path.is_file()).or(first)
}

/// The path of the model: the flag, `$ADAPTER_MODEL`, or the fetched one.
///
/// # Errors
/// There is none of these.
pub fn model_path(flags: &ModelFlags) -> Result<PathBuf, Failure> {
    if let Some(path) = &flags.model {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("ADAPTER_MODEL").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let hint = "name a GGUF file with --model, or run `cargo xtask chat` once, which fetches a small model (94 MiB)";
    match default_model() {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(Failure::failed(format!("no model is named and none was fetched: {}", path.display()), hint)),
        None => Err(Failure::failed("no model is named", hint)),
    }
}

/// A model file whose header has been read.
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub source: ReadAtFile,
    /// Its header.
    pub gguf: Gguf,
    /// Its sizes.
    pub config: Config,
}

impl ModelFile {
    /// Opens a model and reads its header.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is no LLaMA.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let source = open_file(path)?;
        let gguf = Gguf::read(&source).map_err(|error| Failure::from(error).at(path))?;
        let config = Config::from_gguf(&gguf, &source).map_err(|error| Failure::from(error).at(path))?;
        Ok(Self { path: path.to_owned(), source, gguf, config })
    }

    /// What the model is called: its own name, or the file's.
    pub fn name(&self) -> String {
        if self.config.name.is_empty() { file_name(&self.path) } else { self.config.name.clone() }
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// A vocabulary that is damaged, unknown, or of another size than the embedding.
    pub fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let source = VocabSource::from_gguf(&self.gguf).map_err(|error| Failure::from(error).at(&self.path))?;
        let tokenizer = Tokenizer::from_vocab(source).map_err(|error| Failure::from(error).at(&self.path))?;
        Ok(tokenizer)
    }

    /// Checks the kernels the model needs, then streams the weights to the GPU, with a bar where somebody looks.
    ///
    /// # Errors
    /// As [`trust::require`] and [`Model::load`].
    pub fn load(&self, gpu: &Gpu) -> Result<Model, Failure> {
        trust::require(gpu, &trust::formats(self.gguf.tensors()))?;
        let bar = output::bar(self.gguf.file_bytes, "Loading {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}");
        let mut progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            interrupt::flow()
        };
        let model = Model::load(gpu, &self.gguf, &self.source, &mut progress);
        bar.finish_and_clear();
        let model = model.map_err(|error| Failure::from(error).at(&self.path))?;
        for (tensor, count) in model.damaged_tensors() {
            output::warn(&format!("tensor {tensor} holds {count} scales that are not finite: expect nonsense"));
        }
        Ok(model)
    }
}

/// `{path}` opened for reading by position.
///
/// # Errors
/// A file that is not there, a folder, a pipe.
pub fn open_file(path: &Path) -> Result<ReadAtFile, Failure> {
    ReadAtFile::open(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the spelling of the path",
            std::io::ErrorKind::IsADirectory => "a model is one .gguf file; adapters may be folders",
            _ => "check the path and who may read the file",
        };
        // The engine's sentence ends with the path already.
        Failure::failed(format!("cannot open the file: {error}"), hint)
    })
}

/// Last part of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Opens the GPU the flags name.
///
/// # Errors
/// No GPU, none of that name, or one that is too small.
pub fn gpu(global: &Global, profile: bool) -> Result<Gpu, Failure> {
    Ok(block_on(Gpu::open(&gpu_options(global, profile)))?)
}

/// The engine's form of the global flags.
pub fn gpu_options(global: &Global, profile: bool) -> GpuOptions {
    GpuOptions {
        name: global.gpu.clone(),
        baseline: global.baseline,
        memory_limit_bytes: global.gpu_memory.map(|mib| u64::from(mib) << 20),
        profile,
        ..GpuOptions::default()
    }
}

/// A model ready to answer.
pub struct Ready {
    /// The file.
    pub file: ModelFile,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Weights on the GPU.
    pub model: Model,
    /// A conversation.
    pub session: Session,
    /// The adapter of the flags.
    pub adapter: Option<Adapter>,
    /// From the start to here.
    pub load_time: Duration,
}

impl Ready {
    /// Opens, checks and loads everything the flags name, cheap checks first.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(global: &Global, model: &ModelFlags, adapter: &AdapterFlags) -> Result<Self, Failure> {
        let _busy = interrupt::busy();
        let start = Instant::now();
        let file = ModelFile::open(&model_path(model)?)?;
        let adapter_file = adapter_of(adapter, &file)?;
        let tokenizer = file.tokenizer()?;
        let gpu = gpu(global, false)?;
        let loaded = file.load(&gpu)?;
        let mut session = Session::new(&loaded, &session_options(model, &file.config))?;
        let resident = match adapter_file {
            Some((name, file)) => Some(Adapter::load(&loaded, &name, &file)?),
            None => None,
        };
        session.set_adapter(resident.as_ref().map(|resident| (resident, adapter.strength)))?;
        gpu.wait()?;
        Ok(Self { file, tokenizer, model: loaded, session, adapter: resident, load_time: start.elapsed() })
    }

    /// The chat template of that name, or the model's own.
    ///
    /// # Errors
    /// An unknown name or a template that does not parse.
    pub fn template(&self, name: Option<&str>) -> Result<ChatTemplate, Failure> {
        Ok(match name {
            Some(name) => ChatTemplate::built_in(name, &self.tokenizer)?,
            None => ChatTemplate::from_vocab(&self.tokenizer)?,
        })
    }

    /// The end of a sentence about a full context, where the model could have more.
    pub fn raise_context(&self) -> String {
        let (now, most) = (self.session.context(), self.file.config.n_context);
        if now < most { format!("; --context raises the limit up to {most}") } else { String::new() }
    }
}

/// An adapter and the model without it, or two strengths, each with its own cache: switching computes nothing again.
const KEPT_CONVERSATIONS: u32 = 1;

/// The session the flags ask for; says so when the model cannot have that many positions.
pub fn session_options(flags: &ModelFlags, config: &Config) -> SessionOptions {
    if let Some(wanted) = flags.context
        && wanted > config.n_context
    {
        output::warn(&format!("--context {wanted} is more than the model's {}, which is used", config.n_context));
    }
    SessionOptions {
        context: flags.context,
        prompt_lookup: flags.prompt_lookup,
        kept_conversations: KEPT_CONVERSATIONS,
        cache_format: flags.kv.format(),
        ..SessionOptions::default()
    }
}

/// The adapter of the flags, or the one inside the model, read and compared with the model.
///
/// # Errors
/// As [`adapter_file`] and [`built_in`], and an adapter of a model with other sizes.
pub fn adapter_of(flags: &AdapterFlags, model: &ModelFile) -> Result<Option<(String, AdapterFile)>, Failure> {
    let kind = flags.gate.map(Gate::kind);
    match &flags.adapter {
        Some(path) if path.as_os_str() == NO_ADAPTER => Ok(None),
        Some(path) => fitting_adapter(path, kind, None, model).map(Some),
        None => built_in(model, kind),
    }
}

/// The adapter inside the file of a model, if there is one.
///
/// # Errors
/// One that is damaged or of another kind than was asked for.
pub fn built_in(model: &ModelFile, kind: Option<GateKind>) -> Result<Option<(String, AdapterFile)>, Failure> {
    let found = AdapterFile::from_gguf(&model.gguf, &model.source).and_then(|found| {
        if let Some((_, file)) = &found {
            file.check_fits(&model.config)?;
        }
        Ok(found)
    });
    let found = found.map_err(|error| Failure::from(error).at(&model.path))?;
    found.map(|(name, file)| of_kind(name, file, kind, &model.path)).transpose()
}

/// Reads an adapter that is meant for `model`; says so when it was trained on another one of the same sizes.
///
/// # Errors
/// As [`adapter_file`], and an adapter of a model with other sizes.
pub fn fitting_adapter(
    path: &Path,
    kind: Option<GateKind>,
    adapter_len: Option<u32>,
    model: &ModelFile,
) -> Result<(String, AdapterFile), Failure> {
    let (name, file) = adapter_file(path, kind, adapter_len)?;
    file.check_fits(&model.config).map_err(|error| Failure::from(error).at(path))?;
    // Reading samples of all weights is worth it only for an adapter that says something about them.
    if file.base_model.is_some() || file.base_hash.is_some() {
        let base = BaseModel::of(&model.gguf, &model.source).map_err(|error| Failure::from(error).at(&model.path))?;
        let found = file.compare_base(&base);
        if found.is_doubtful() {
            output::warn(&found.to_string());
        }
    }
    Ok((name, file))
}

/// An adapter that says what its gates mean, compared with what was asked for.
fn of_kind(
    name: String,
    file: AdapterFile,
    kind: Option<GateKind>,
    path: &Path,
) -> Result<(String, AdapterFile), Failure> {
    match kind.filter(|kind| *kind != file.kind) {
        Some(wanted) => {
            let error = AdapterError::KindMismatch { found: file.kind.name().to_owned(), wanted: wanted.name() };
            Err(Failure::from(error).at(path))
        }
        None => Ok((name, file)),
    }
}

/// Reads an adapter: a PEFT folder, the weights inside one, a file of prompts and gates, a PyTorch checkpoint, or a GGUF
/// file with one in it. Returns its name, too. `adapter_len` is what the paper's checkpoints do not say; other files say it.
///
/// # Errors
/// Files that are missing, too large, or no adapter; each with its path.
pub fn adapter_file(
    path: &Path,
    kind: Option<GateKind>,
    adapter_len: Option<u32>,
) -> Result<(String, AdapterFile), Failure> {
    const WEIGHTS: &str = "adapter_model.safetensors";
    const CONFIG: &str = "adapter_config.json";
    // The folder of a run of `finetune`.
    let of_run = path.join("adapter.safetensors");
    if of_run.is_file() && !path.join(CONFIG).is_file() {
        let (_, file) = adapter_file(&of_run, kind, adapter_len)?;
        return Ok((path.canonicalize().map_or_else(|_| file_name(path), |full| file_name(&full)), file));
    }
    let inside_peft = path.file_name().is_some_and(|name| name == WEIGHTS);
    let folder = if path.is_dir() { Some(path) } else { path.parent().filter(|_| inside_peft) };
    let folder = folder.filter(|folder| path.is_dir() || folder.join(CONFIG).is_file());
    let fail = |error: AdapterError| Failure::from(error).at(path);
    let Some(folder) = folder else {
        if is_gguf(path) {
            let source = open_file(path)?;
            let found = Gguf::read(&source).map_err(adapter_engine::Error::from);
            let found = found.and_then(|gguf| AdapterFile::from_gguf(&gguf, &source));
            let (name, file) = match found {
                Ok(Some(found)) => found,
                Ok(None) => return Err(fail(AdapterError::NoAdapter)),
                Err(error) => return Err(Failure::from(error).at(path)),
            };
            return of_kind(name, file, kind, path);
        }
        let name = path.file_stem().map_or_else(|| file_name(path), |stem| stem.to_string_lossy().into_owned());
        if is_pth(path) {
            return of_kind(name, pth_file(path, kind, adapter_len)?, kind, path);
        }
        return Ok((name, AdapterFile::from_safetensors(&read_small(path)?, kind).map_err(fail)?));
    };
    for file in [CONFIG, WEIGHTS] {
        if !folder.join(file).is_file() {
            let pickle = file == WEIGHTS && folder.join("adapter_model.bin").is_file();
            let hint = if pickle {
                "save it with `save_pretrained(..., safe_serialization=True)`: a .bin is a Python pickle, which can run code"
            } else {
                "a PEFT folder holds adapter_config.json and adapter_model.safetensors"
            };
            return Err(Failure::failed(format!("the folder has no {file}: {}", folder.display()), hint));
        }
    }
    let file = AdapterFile::from_peft(&read_small(&folder.join(CONFIG))?, &read_small(&folder.join(WEIGHTS))?)
        .map_err(fail)?;
    // A trailing slash or `.` still names the folder.
    let name = folder.canonicalize().map_or_else(|_| file_name(folder), |full| file_name(&full));
    of_kind(name, file, kind, path)
}

/// Whether a file is, or is called, a PyTorch checkpoint.
pub fn is_pth(path: &Path) -> bool {
    let called = |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
    path.is_file() && (pth::is_pth(path) || ["pth", "pt", "ckpt", "bin"].into_iter().any(called))
}

/// Reads a PyTorch checkpoint, and says so where the meaning of its gates is nowhere written down.
fn pth_file(path: &Path, kind: Option<GateKind>, adapter_len: Option<u32>) -> Result<AdapterFile, Failure> {
    let gates = kind.map(|kind| match kind.activation {
        GateActivation::Tanh => PthGates::Tanh,
        GateActivation::None => PthGates::Raw,
    });
    let options = PthOptions { gates, adapter_len };
    let found = pth::import_pth(path, options).map_err(|error| Failure::from(error).at(path))?;
    if found.gates_assumed && found.file.kind == GateKind::PAPER {
        output::warn(
            "the file does not say what its gates mean; they are taken through tanh, as the paper's training code does \
             (--gate paper). Its inference code takes them raw (--gate linear)",
        );
    }
    Ok(found.file)
}

/// Whether a regular file begins as GGUF does. What cannot be read is explained by whoever reads it next.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = path.is_file().then(|| ReadAtFile::open(path).and_then(|file| file.read_exact_at(0, &mut magic)));
    read.is_some_and(|read| read.is_ok()) && &magic == b"GGUF"
}

/// All bytes of a file that should be small.
///
/// # Errors
/// What the system says, or a file over 1 GiB.
pub fn read_small(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |error: std::io::Error| Failure::file("cannot read the file", path, &error);
    let about = std::fs::metadata(path).map_err(fail)?;
    if about.is_dir() {
        return Err(fail(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::new();
    // The limit holds for pipes and devices, too, whose length nobody knows.
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(MAX_ADAPTER_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_ADAPTER_BYTES {
        let message = format!("the file has more than {}: {}", output::bytes(MAX_ADAPTER_BYTES), path.display());
        return Err(Failure::failed(message, "this is no adapter; models are given with --model"));
    }
    Ok(bytes)
}

/// Text from standard input, at most 16 MiB.
///
/// # Errors
/// What the system says, more text than that, or bytes that are not UTF-8.
pub fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let limit: u64 = 16 << 20;
    std::io::stdin()
        .lock()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::file("cannot read", Path::new("standard input"), &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::failed(
            format!("standard input has more than {}", output::bytes(limit)),
            "give less text",
        ));
    }
    utf8(bytes, Path::new("standard input"))
}

/// Bytes as text.
///
/// # Errors
/// Where it stops being UTF-8.
pub fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::failed(
            format!("the text is not UTF-8 at byte {at}: {}", path.display()),
            "convert it, for instance with iconv",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_not_there_is_named() {
        let error =
            adapter_file(Path::new("/nonexistent/adapter.safetensors"), None, None).expect_err("it is not there");
        assert!(error.to_string().ends_with("/nonexistent/adapter.safetensors"), "{error}");
    }

    #[test]
    fn a_folder_without_its_files_is_explained() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let message = |error: Failure| error.to_string();
        let error = adapter_file(folder.path(), None, None).expect_err("it is empty");
        assert!(message(error).starts_with("the folder has no adapter_config.json"));
        std::fs::write(folder.path().join("adapter_config.json"), "{}").expect("writable");
        std::fs::write(folder.path().join("adapter_model.bin"), "").expect("writable");
        match adapter_file(folder.path(), None, None) {
            Err(Failure::Failed { hint: Some(hint), .. }) => assert!(hint.contains("safe_serialization"), "{hint}"),
            other => panic!("{other:?}"),
        }
    }
}
