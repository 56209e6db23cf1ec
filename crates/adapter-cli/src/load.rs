//! Opening GPUs, models and adapters: found by default, checked before anything large happens, with progress.

use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::formats::ReadAtFile;
use adapter_engine::gpu::{Gpu, GpuOptions};
use adapter_engine::model::Config;
use adapter_engine::session::SessionOptions;
use adapter_engine::text::{ChatTemplate, Tokenizer};
use adapter_engine::{Adapter, Model, Session};
use adapter_host::figures;
use adapter_host::{FoundAdapter, Stage};
use pollster::block_on;

use crate::failure::Failure;
use crate::flags::{AdapterFlags, Global, ModelFlags};
use crate::{interrupt, output};

pub use adapter_host::{default_model, is_pth};

/// What `--adapter` says for the model alone. A file of that name is `./none`.
pub const NO_ADAPTER: &str = "none";

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
pub struct ModelFile(adapter_host::ModelFile);

impl Deref for ModelFile {
    type Target = adapter_host::ModelFile;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl ModelFile {
    /// Opens a model and reads its header.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is no LLaMA.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self(adapter_host::ModelFile::open(path)?))
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// A vocabulary that is damaged, unknown, or of another size than the embedding.
    pub fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        Ok(self.0.tokenizer()?)
    }

    /// Checks the kernels the model needs, then streams the weights to the GPU, with a bar where somebody looks.
    ///
    /// # Errors
    /// As [`adapter_host::ModelFile::load`].
    pub fn load(&self, gpu: &Gpu) -> Result<Model, Failure> {
        let mut spinner = None;
        let bar = output::bar(self.gguf.file_bytes, "Loading {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}");
        let mut progress = |stage, done, total| {
            match stage {
                Stage::Kernels => {
                    let shown = output::bar(1, "Checking the GPU's kernels, once for each driver");
                    shown.tick();
                    spinner = Some(shown);
                }
                Stage::Weights => {
                    if let Some(shown) = spinner.take() {
                        shown.finish_and_clear();
                    }
                    bar.set_length(total);
                    bar.set_position(done);
                }
            }
            interrupt::flow()
        };
        let model = self.0.load(gpu, &mut progress);
        if let Some(shown) = spinner {
            shown.finish_and_clear();
        }
        bar.finish_and_clear();
        let model = model?;
        for (tensor, count) in model.damaged_tensors() {
            output::warn(&format!("tensor {tensor} holds {count} scales that are not finite: expect nonsense"));
        }
        Ok(model)
    }
}

/// Checks the kernels of a training on the model's GPU where that was not done before, with a word to whoever looks.
///
/// # Errors
/// As [`adapter_host::checked_devices::before_training`].
pub fn before_training(model: &Model) -> Result<(), Failure> {
    let shown = output::bar(1, "Checking the GPU's kernels for training, once for each driver");
    let checked = adapter_host::checked_devices::before_training(model.gpu(), model.formats(), || shown.tick());
    shown.finish_and_clear();
    Ok(checked?)
}

/// `{path}` opened for reading by position.
///
/// # Errors
/// A file that is not there, a folder, a pipe.
pub fn open_file(path: &Path) -> Result<ReadAtFile, Failure> {
    Ok(adapter_host::open_file(path)?)
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

    /// The chat template of that name; without one, that of the adapter in use, or the model's own.
    ///
    /// # Errors
    /// An unknown name or a template that does not parse.
    pub fn template(&self, name: Option<&str>) -> Result<ChatTemplate, Failure> {
        let kept = self.session.adapter().and_then(|(adapter, _)| adapter.chat_template());
        Ok(ChatTemplate::choose(name, kept, &self.tokenizer)?)
    }

    /// A sentence about the template, where it is that of the adapter in use and another one than the model's own.
    pub fn template_note(&self, name: Option<&str>) -> Option<String> {
        let (adapter, _) = self.session.adapter().filter(|_| name.is_none())?;
        let kept = adapter.chat_template()?;
        if ChatTemplate::from_vocab(&self.tokenizer).is_ok_and(|own| own.source() == kept) {
            return None;
        }
        let template = ChatTemplate::name_of(kept).map_or_else(|| "its own".to_owned(), str::to_owned);
        Some(format!(
            "The adapter {} was trained with the chat template {template}, which is used; --template names another.",
            crate::printable::printable(adapter.name())
        ))
    }

    /// The end of a sentence about a full context, where the model could have more.
    pub fn raise_context(&self) -> String {
        let (now, most) = (self.session.context(), self.file.config.n_context);
        if now < most { format!("; --context raises the limit up to {most}") } else { String::new() }
    }
}

/// An adapter and the model without it, or two strengths, each with its own cache: switching computes nothing again.
const CACHED_CONVERSATIONS: u32 = 1;

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
        cached_conversations: CACHED_CONVERSATIONS,
        cache_format: flags.kv.format(),
        ..SessionOptions::default()
    }
}

/// The adapter of the flags, or the one inside the model, read and compared with the model.
///
/// # Errors
/// As [`adapter_file`] and [`built_in`], and an adapter of a model with other sizes.
pub fn adapter_of(flags: &AdapterFlags, model: &ModelFile) -> Result<Option<(String, AdapterFile)>, Failure> {
    let kind = flags.gate;
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
    Ok(adapter_host::built_in(model, kind)?.map(said))
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
    Ok(said(adapter_host::fitting_adapter(path, kind, adapter_len, model)?))
}

/// Reads an adapter and its name: see [`adapter_host::adapter_file`].
///
/// # Errors
/// Files that are missing, too large, or no adapter; each with its path.
pub fn adapter_file(
    path: &Path,
    kind: Option<GateKind>,
    adapter_len: Option<u32>,
) -> Result<(String, AdapterFile), Failure> {
    Ok(said(adapter_host::adapter_file(path, kind, adapter_len)?))
}

/// Says what an adapter's file leaves open.
fn said(found: FoundAdapter) -> (String, AdapterFile) {
    for warning in &found.warnings {
        output::warn(warning);
    }
    (found.name, found.file)
}

/// All bytes of a file that should be small.
///
/// # Errors
/// What the system says, or a file over 1 GiB.
pub fn read_small(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(adapter_host::read_small(path)?)
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
            format!("standard input has more than {}", figures::bytes(limit)),
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
