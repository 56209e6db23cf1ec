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
            let found = found.and_then(|gguf| AdapterFile::required_from_gguf(&gguf, &source));
            let (name, file) = found.map_err(|error| Problem::from(error).at(path))?;
            return FoundAdapter::new(name, file).of_kind(kind, path);
        }
        let name = path.file_stem().map_or_else(|| file_name(path), |stem| stem.to_string_lossy().into_owned());
        if is_pth(path) {
            return pth_file(name, path, kind, adapter_len)?.of_kind(kind, path);
        }
        return Ok(FoundAdapter::new(name, AdapterFile::from_safetensors(&read_small(path)?, kind).map_err(fail)?));
    };
    if !folder.join(CONFIG).is_file() {
        return Err(no_adapter_in(folder));
    }
    // Before the weights are looked for: a folder of another method is that first.
    let config = read_small(&folder.join(CONFIG))?;
    AdapterFile::check_peft_config(&config).map_err(fail)?;
    if !folder.join(WEIGHTS).is_file() {
        let hint = if folder.join("adapter_model.bin").is_file() {
            "save it with `save_pretrained(..., safe_serialization=True)`: a .bin is a Python pickle, which can run code"
        } else {
            "a PEFT folder holds adapter_config.json and adapter_model.safetensors"
        };
        return Err(Problem::new(format!("the folder has no {WEIGHTS}: {}", folder.display()), hint));
    }
    let mut file = AdapterFile::from_peft(&config, &read_small(&folder.join(WEIGHTS))?).map_err(fail)?;
    // Where transformers saves the template of the tokenizer that was trained with.
    let template = folder.join("chat_template.jinja");
    if file.chat_template.is_none() && template.is_file() {
        file.chat_template = String::from_utf8(read_small(&template)?).ok().filter(|text| !text.trim().is_empty());
    }
    FoundAdapter::new(called(folder), file).of_kind(kind, path)
}

/// Why a folder is no adapter: what it is, where that can be seen.
fn no_adapter_in(folder: &Path) -> Problem {
    let entries = || std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let shown = folder.display();
    let has_model = entries().any(|path| {
        let name = file_name(&path);
        let weights = [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pth"];
        ["model", "pytorch_model", "consolidated"].iter().any(|stem| name.starts_with(stem))
            && weights.iter().any(|end| name.ends_with(end))
    });
    if has_model || folder.join("config.json").is_file() {
        let config = read_small(&folder.join("config.json")).ok();
        let config = config.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let family = config.as_ref().and_then(|config| config.get("model_type")?.as_str());
        let family = family.map(|family| format!(" (config.json: model_type {family:?})")).unwrap_or_default();
        return Problem::new(
            format!("the folder holds a whole model{family}, not an adapter: {shown}"),
            "convert it with llama.cpp's convert_hf_to_gguf.py and load the GGUF file as a model",
        );
    }
    // PEFT saves adapters that have a name in folders of that name.
    if let Some(inner) = entries().find(|path| path.join("adapter_config.json").is_file()) {
        let hint = format!("give the folder inside it: {}", inner.display());
        return Problem::new(format!("the folder has no adapter_config.json: {shown}"), hint);
    }
    if let Some(inner) = entries().find(|path| is_gguf(path)) {
        let hint = format!("give the file inside it: {}", inner.display());
        return Problem::new(format!("the folder has no adapter_config.json, but a GGUF file: {shown}"), hint);
    }
    Problem::new(
        format!("the folder has no adapter_config.json: {shown}"),
        "a PEFT folder holds adapter_config.json and adapter_model.safetensors",
    )
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
    use adapter_engine::formats::{GgufWriter, TensorType};

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
        let config = r#"{"peft_type": "ADAPTION_PROMPT", "adapter_len": 10, "adapter_layers": 2}"#;
        std::fs::write(folder.path().join("adapter_config.json"), config).expect("writable");
        std::fs::write(folder.path().join("adapter_model.bin"), "").expect("writable");
        let error = adapter_file(folder.path(), None, None).expect_err("a pickle");
        assert!(error.hint.is_some_and(|hint| hint.contains("safe_serialization")));
    }

    /// Every file of another kind is called what it is, whatever door it comes through.
    #[test]
    fn what_is_no_adapter_of_ours_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(&path, bytes).expect("writable");
        };
        let refused = |name: &str, parts: &[&str]| {
            let error = adapter_file(&folder.path().join(name), None, None).expect_err(name);
            for part in parts {
                assert!(error.message.contains(part), "{name}: {error} should speak of {part}");
            }
            assert!(error.hint.is_some_and(|hint| !hint.is_empty()), "{name}");
        };
        let safetensors = |tensor: &str| {
            let header = format!("{{\"{tensor}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}");
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat()
        };
        let lora = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        // As PEFT writes them, with and without their weights.
        for (peft_type, what) in [
            ("LORA", "a LoRA"),
            ("PREFIX_TUNING", "prefix tuning"),
            ("PROMPT_TUNING", "prompt tuning"),
            ("P_TUNING", "P-tuning"),
            ("IA3", "(IA)3"),
            ("ADALORA", "an AdaLoRA"),
            ("FROM_2031", "of the method \"FROM_2031\""),
        ] {
            let json = format!("{{\"peft_type\": \"{peft_type}\", \"r\": 8}}");
            write(&format!("{peft_type}/adapter_config.json"), json.as_bytes());
            refused(peft_type, &[what, &format!("peft_type is \"{peft_type}\", expected \"ADAPTION_PROMPT\"")]);
            write(&format!("{peft_type}/adapter_model.bin"), b"");
            refused(peft_type, &[what]);
            write(&format!("{peft_type}/adapter_model.safetensors"), &safetensors(lora));
            refused(peft_type, &[what]);
        }
        write("alone.safetensors", &safetensors(lora));
        refused("alone.safetensors", &["a LoRA", "lora_A"]);
        write(
            "peft/adapter_model.safetensors",
            &safetensors("base_model.model.model.layers.1.self_attn.adaption_gate"),
        );
        refused("peft/adapter_model.safetensors", &["adapter_config.json: is missing"]);
        write("model.safetensors", &safetensors("model.layers.0.self_attn.q_proj.weight"));
        refused("model.safetensors", &["a whole model"]);
        // As llama.cpp's convert_lora_to_gguf.py writes it, and without the key.
        let lora_gguf = |keys: &[(&str, &str)]| {
            let mut writer = GgufWriter::new();
            for (key, value) in keys {
                writer.metadata(*key, *value);
            }
            writer.tensor("blk.0.attn_q.weight.lora_a", &[4, 2], TensorType::F32);
            let mut out = writer.start(Vec::new()).expect("a header");
            out.tensor("blk.0.attn_q.weight.lora_a", &[0; 32]).expect("data");
            out.finish().expect("a file")
        };
        let general = [("general.type", "adapter"), ("general.architecture", "llama")];
        write("lora.gguf", &lora_gguf(&[general[0], general[1], ("adapter.type", "lora")]));
        refused("lora.gguf", &["a LoRA", "adapter.type is \"lora\", expected \"llama_adapter\""]);
        write("unsaid.gguf", &lora_gguf(&general));
        refused("unsaid.gguf", &["a LoRA", "blk.0.attn_q.weight.lora_a"]);
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-llama/tiny-q4_1.gguf");
        let error = adapter_file(Path::new(model), None, None).expect_err("a model alone").message;
        let wanted = "the GGUF file holds no adapter: it is a model \"tiny-llama\" of the family \"llama\"";
        assert!(error.starts_with(wanted), "{error}");
        write("merged/config.json", br#"{"model_type": "llama"}"#);
        write("merged/model-00001-of-00002.safetensors", b"");
        refused("merged", &["a whole model", "model_type \"llama\""]);
        write("named/default/adapter_config.json", b"{}");
        refused("named", &["no adapter_config.json"]);
        refused("named/default", &["it has no peft_type"]);
    }

    #[test]
    fn a_configuration_may_begin_with_the_mark_of_an_editor() {
        let config = include_str!("../../../tests/data/tiny-llama/peft/adapter_config.json");
        let weights = include_bytes!("../../../tests/data/tiny-llama/peft/adapter_model.safetensors");
        let plain = AdapterFile::from_peft(config.as_bytes(), weights).expect("PEFT wrote it");
        let utf_16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            format!("\u{feff}{config}").encode_utf16().flat_map(order).collect()
        };
        for bytes in [format!("\u{feff}{config}").into_bytes(), utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes)] {
            assert_eq!(AdapterFile::from_peft(&bytes, weights).expect("a mark is no fault"), plain);
        }
        let error = AdapterFile::from_peft(b"{\"peft_type\": ", weights).expect_err("cut off").to_string();
        assert!(error.contains("it is not JSON"), "{error}");
    }
}
