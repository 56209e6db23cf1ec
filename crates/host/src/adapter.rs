//! A path becomes an adapter.

use std::io::Read as _;
use std::path::Path;

use crate::pth::{self, PthGates, PthOptions};
use adapter_engine::adapter::{AdapterError, AdapterFile, BaseModel, GateActivation, GateKind};
use adapter_engine::formats::{Gguf, ReadAt as _, ReadAtFile};

use crate::{ModelFile, Problem, file_name, open_file};

/// The largest adapter that is read into memory; a 70B model's has 40 MB.
const MAX_ADAPTER_BYTES: u64 = 1 << 30;

/// An adapter that was read from a file or a folder.
#[derive(Debug, Clone)]
pub struct FoundAdapter {
    /// What it is called: its folder, file or own name.
    pub name: String,
    /// Its numbers.
    pub file: AdapterFile,
    /// Sentences about what the file leaves open, to be shown.
    pub warnings: Vec<String>,
}

impl FoundAdapter {
    fn new(name: String, file: AdapterFile) -> Self {
        Self { name, file, warnings: Vec::new() }
    }

    /// The same adapter, if it is of the kind that was asked for.
    fn of_kind(self, kind: Option<GateKind>, path: &Path) -> Result<Self, Problem> {
        match kind.filter(|kind| *kind != self.file.kind) {
            Some(wanted) => {
                let error =
                    AdapterError::KindMismatch { found: self.file.kind.name().to_owned(), wanted: wanted.name() };
                Err(Problem::from(error).at(path))
            }
            None => Ok(self),
        }
    }
}

/// The adapter inside the file of a model, if there is one.
///
/// # Errors
/// One that is damaged or of another kind than was asked for.
pub fn built_in(model: &ModelFile, kind: Option<GateKind>) -> Result<Option<FoundAdapter>, Problem> {
    let found = AdapterFile::from_gguf(&model.gguf, &model.source).and_then(|found| {
        if let Some((_, file)) = &found {
            file.check_fits(&model.config)?;
        }
        Ok(found)
    });
    let found = found.map_err(|error| Problem::from(error).at(&model.path))?;
    found.map(|(name, file)| FoundAdapter::new(name, file).of_kind(kind, &model.path)).transpose()
}

/// Reads an adapter that is meant for `model`; warns when it was trained on another one of the same sizes.
///
/// # Errors
/// As [`adapter_file`], and an adapter of a model with other sizes.
pub fn fitting_adapter(
    path: &Path,
    kind: Option<GateKind>,
    adapter_len: Option<u32>,
    model: &ModelFile,
) -> Result<FoundAdapter, Problem> {
    let mut found = adapter_file(path, kind, adapter_len)?;
    found.file.check_fits(&model.config).map_err(|error| Problem::from(error).at(path))?;
    // Reading samples of all weights is worth it only for an adapter that says something about them.
    if found.file.base_model.is_some() || found.file.base_hash.is_some() {
        let base = BaseModel::of(&model.gguf, &model.source).map_err(|error| Problem::from(error).at(&model.path))?;
        let compared = found.file.compare_base(&base);
        if compared.is_doubtful() {
            found.warnings.push(compared.to_string());
        }
    }
    Ok(found)
}

/// Reads an adapter: a PEFT folder, the weights inside one, a file of prompts and gates, the folder of a training run, a PyTorch
/// checkpoint, or a GGUF file with one in it. `adapter_len` is what the paper's checkpoints do not say; other files say it.
///
/// # Errors
/// Files that are missing, too large, or no adapter; each with its path.
pub fn adapter_file(path: &Path, kind: Option<GateKind>, adapter_len: Option<u32>) -> Result<FoundAdapter, Problem> {
    const WEIGHTS: &str = "adapter_model.safetensors";
    const CONFIG: &str = "adapter_config.json";
    // A trailing slash or `.` still names the folder.
    let called = |folder: &Path| folder.canonicalize().map_or_else(|_| file_name(folder), |full| file_name(&full));
    // The folder of a training run.
    let of_run = path.join("adapter.safetensors");
    if of_run.is_file() && !path.join(CONFIG).is_file() {
        return Ok(FoundAdapter { name: called(path), ..adapter_file(&of_run, kind, adapter_len)? });
    }
    let inside_peft = path.file_name().is_some_and(|name| name == WEIGHTS);
    let folder = if path.is_dir() { Some(path) } else { path.parent().filter(|_| inside_peft) };
    let folder = folder.filter(|folder| path.is_dir() || folder.join(CONFIG).is_file());
    let fail = |error: AdapterError| Problem::from(error).at(path);
    let Some(folder) = folder else {
        if is_gguf(path) {
            let source = open_file(path)?;
            let found = Gguf::read(&source).map_err(adapter_engine::Error::from);
            let found = found.and_then(|gguf| AdapterFile::from_gguf(&gguf, &source));
            return match found {
                Ok(Some((name, file))) => FoundAdapter::new(name, file).of_kind(kind, path),
                Ok(None) => Err(fail(AdapterError::NoAdapter)),
                Err(error) => Err(Problem::from(error).at(path)),
            };
        }
        let name = path.file_stem().map_or_else(|| file_name(path), |stem| stem.to_string_lossy().into_owned());
        if is_pth(path) {
            return pth_file(name, path, kind, adapter_len)?.of_kind(kind, path);
        }
        return Ok(FoundAdapter::new(name, AdapterFile::from_safetensors(&read_small(path)?, kind).map_err(fail)?));
    };
    for file in [CONFIG, WEIGHTS] {
        if !folder.join(file).is_file() {
            let pickle = file == WEIGHTS && folder.join("adapter_model.bin").is_file();
            let hint = if pickle {
                "save it with `save_pretrained(..., safe_serialization=True)`: a .bin is a Python pickle, which can run code"
            } else {
                "a PEFT folder holds adapter_config.json and adapter_model.safetensors"
            };
            return Err(Problem::new(format!("the folder has no {file}: {}", folder.display()), hint));
        }
    }
    let file = AdapterFile::from_peft(&read_small(&folder.join(CONFIG))?, &read_small(&folder.join(WEIGHTS))?)
        .map_err(fail)?;
    FoundAdapter::new(called(folder), file).of_kind(kind, path)
}

/// Whether a file is, or is called, a PyTorch checkpoint.
#[must_use]
pub fn is_pth(path: &Path) -> bool {
    let called = |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
    path.is_file() && (pth::is_pth(path) || ["pth", "pt", "ckpt", "bin"].into_iter().any(called))
}

/// Reads a PyTorch checkpoint, and says so where the meaning of its gates is nowhere written down.
fn pth_file(
    name: String,
    path: &Path,
    kind: Option<GateKind>,
    adapter_len: Option<u32>,
) -> Result<FoundAdapter, Problem> {
    let gates = kind.map(|kind| match kind.activation {
        GateActivation::Tanh => PthGates::Tanh,
        GateActivation::None => PthGates::Raw,
    });
    let options = PthOptions { gates, adapter_len };
    let found = pth::import_pth(path, options).map_err(|error| Problem::from(error).at(path))?;
    let mut adapter = FoundAdapter::new(name, found.file);
    if found.gates_assumed && adapter.file.kind == GateKind::PAPER {
        adapter.warnings.push(
            "the file does not say what its gates mean; they are taken through tanh, as the paper's training code does \
             (--gate paper). Its inference code takes them raw (--gate linear)"
                .to_owned(),
        );
    }
    Ok(adapter)
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
pub fn read_small(path: &Path) -> Result<Vec<u8>, Problem> {
    let fail = |error: std::io::Error| Problem::file("cannot read the file", path, &error);
    let about = std::fs::metadata(path).map_err(fail)?;
    if about.is_dir() {
        return Err(fail(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::new();
    // The limit holds for pipes and devices, too, whose length nobody knows.
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(MAX_ADAPTER_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_ADAPTER_BYTES {
        let message = format!("the file has more than {} MiB: {}", MAX_ADAPTER_BYTES >> 20, path.display());
        return Err(Problem::new(message, "this is no adapter; models are opened as models"));
    }
    Ok(bytes)
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
        let error = adapter_file(folder.path(), None, None).expect_err("it is empty");
        assert!(error.message.starts_with("the folder has no adapter_config.json"), "{error}");
        std::fs::write(folder.path().join("adapter_config.json"), "{}").expect("writable");
        std::fs::write(folder.path().join("adapter_model.bin"), "").expect("writable");
        let error = adapter_file(folder.path(), None, None).expect_err("a pickle");
        assert!(error.hint.is_some_and(|hint| hint.contains("safe_serialization")));
    }
}
