//! A path becomes a model.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use adapter_engine::Model;
use adapter_engine::check::self_test::Set;
use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::gpu::Gpu;
use adapter_engine::model::Config;
use adapter_engine::text::{Tokenizer, VocabSource};

use crate::{Problem, checked_devices, folders, tuning};

/// The file `cargo xtask model` keeps in the cache folder.
pub const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model that is meant when none is named: where it is, or where it would be.
#[must_use]
pub fn default_model() -> Option<PathBuf> {
    let mut places = folders::caches().map(|folder| folder.join(DEFAULT_MODEL)).peekable();
    let first = places.peek().cloned();
    places.find(|path| path.is_file()).or(first)
}

/// What takes time while a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The GPU's kernels are compared with stored answers, once for each driver; done and total are 0 and 1.
    Kernels,
    /// Weights are streamed to the GPU; done and total are bytes.
    Weights,
}

/// A model file whose header has been read.
#[derive(Debug)]
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
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let source = open_file(path)?;
        let gguf = Gguf::read(&source).map_err(|error| Problem::from(error).at(path))?;
        let config = Config::from_gguf(&gguf, &source).map_err(|error| Problem::from(error).at(path))?;
        Ok(Self { path: path.to_owned(), source, gguf, config })
    }

    /// What the model is called: its own name, or the file's.
    #[must_use]
    pub fn name(&self) -> String {
        if self.config.name.is_empty() { file_name(&self.path) } else { self.config.name.clone() }
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// A vocabulary that is damaged, unknown, or of another size than the embedding.
    pub fn tokenizer(&self) -> Result<Tokenizer, Problem> {
        let source = VocabSource::from_gguf(&self.gguf).map_err(|error| Problem::from(error).at(&self.path))?;
        Tokenizer::from_vocab(source).map_err(|error| Problem::from(error).at(&self.path))
    }

    /// Measures and checks the kernels the model needs where that was not done before, then streams the weights to the GPU.
    /// `progress` may stop it.
    ///
    /// # Errors
    /// As [`checked_devices::require`] and [`Model::load`].
    pub fn load(
        &self,
        gpu: &Gpu,
        progress: &mut dyn FnMut(Stage, u64, u64) -> ControlFlow<()>,
    ) -> Result<Model, Problem> {
        if !tuning::recall(gpu) {
            if progress(Stage::Kernels, 0, 1).is_break() {
                return Err(adapter_engine::Error::Cancelled.into());
            }
            tuning::renew(gpu)?;
        }
        let formats = self.gguf.formats();
        if !checked_devices::is_remembered(gpu, Set::Forward, &formats) {
            if progress(Stage::Kernels, 0, 1).is_break() {
                return Err(adapter_engine::Error::Cancelled.into());
            }
            checked_devices::require(gpu, Set::Forward, &formats)?;
        }
        let mut weights = |done, total| progress(Stage::Weights, done, total);
        Model::load(gpu, &self.gguf, &self.source, &mut weights).map_err(|error| Problem::from(error).at(&self.path))
    }
}

/// `{path}` opened for reading by position.
///
/// # Errors
/// A file that is not there, a folder, a pipe.
pub fn open_file(path: &Path) -> Result<ReadAtFile, Problem> {
    ReadAtFile::open(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the spelling of the path",
            std::io::ErrorKind::IsADirectory => "a model is one .gguf file; adapters may be folders",
            _ => "check the path and who may read the file",
        };
        // The engine's sentence ends with the path already.
        Problem::new(format!("cannot open the file: {error}"), hint)
    })
}

/// Last part of a path.
#[must_use]
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
