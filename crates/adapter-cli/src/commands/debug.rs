//! `debug`: what the engine computes, for comparing with other programs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use adapter_atomic_file::Readers;
use adapter_engine::adapter::GateKind;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::text::Special;
use adapter_engine::train::{self, Batch};
use adapter_engine::{Adapter, Session};
use clap::Args;
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView};

use crate::failure::Failure;
use crate::flags::{AdapterFlags, Global, ModelFlags, gate_kind};
use crate::load::{self, ModelFile};
use crate::printable;
use crate::{interrupt, output};

/// `debug tokenize`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug tokenize -m model.gguf --file prompt.txt > ids.json")]
pub struct Tokenize {
    #[command(flatten)]
    pub model: ModelFlags,
    /// Text in UTF-8; - is standard input
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub file: PathBuf,
    /// Put the model's begin token first
    #[arg(long, help_heading = "Input and output")]
    pub bos: bool,
}

/// `debug logits`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug logits -m model.gguf --ids ids.json --last -a my-adapter/ --out logits.safetensors")]
pub struct Logits {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub adapter: AdapterFlags,
    /// JSON: an array of ids, or an object with one under \"ids\"; fed as they are, without a begin token
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub ids: PathBuf,
    /// Only the last token's logits, [V], instead of [T, V]
    #[arg(long, help_heading = "Input and output")]
    pub last: bool,
    /// File to write: the tensor \"logits\", f32
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// `debug gradients`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug gradients -m model.gguf --ids ids.json --first-target 17 -a adapter --out gradients.safetensors")]
pub struct Gradients {
    #[command(flatten)]
    pub model: ModelFlags,
    /// PEFT folder, or a .safetensors or .pth file with prompts and gates
    #[arg(long, short, value_name = "PATH", help_heading = "Adapter")]
    pub adapter: PathBuf,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Adapter")]
    pub gate: Option<GateKind>,
    /// JSON: an array of ids, or an object with one under \"ids\"; fed as they are, without a begin token
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub ids: PathBuf,
    /// The loss is the mean cross entropy over the ids from this index on (from 1: nothing comes before id 0)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Input and output")]
    pub first_target: u32,
    /// File to write: the tensors \"loss\", \"d_prompts\" and \"d_gates\", f32
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// `debug tokenize`
///
/// # Errors
/// A model or text that cannot be used.
pub fn tokenize(flags: &Tokenize) -> Result<(), Failure> {
    let text = match flags.file.to_str() {
        Some("-") => load::read_stdin()?,
        _ => load::utf8(load::read_small(&flags.file)?, &flags.file)?,
    };
    let tokenizer = ModelFile::open(&load::model_path(&flags.model)?)?.tokenizer()?;
    let mut ids = tokenizer.encode(&text, Special::Parse)?;
    if flags.bos {
        let missing = || Failure::failed("the model has no begin token", "leave --bos out");
        ids.insert(0, tokenizer.bos().ok_or_else(missing)?);
    }
    io::stdout().write_all(&output::json_line(&ids)?)?;
    Ok(())
}

/// `debug logits`
///
/// # Errors
/// Ids, a model or an adapter that cannot be used, or a file that cannot be written.
pub fn logits(global: &Global, flags: &Logits) -> Result<(), Failure> {
    let ids = read_ids(&flags.ids)?;
    let _busy = interrupt::busy();
    let file = ModelFile::open(&load::model_path(&flags.model)?)?;
    let adapter = load::adapter_of(&flags.adapter, &file)?;
    let gpu = load::gpu(global, false)?;
    let model = file.load(&gpu)?;
    let adapter = match adapter {
        Some((name, file)) => Some(Adapter::load(&model, &name, &file)?),
        None => None,
    };
    let wanted = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let context = Some(flags.model.context.unwrap_or(wanted));
    let options =
        SessionOptions { context, cache_format: flags.model.kv.format(), exact: true, ..SessionOptions::default() };
    let mut session = Session::new(&model, &options)?;
    session.set_adapter(adapter.as_ref().map(|adapter| (adapter, flags.adapter.strength)))?;
    let rows = if flags.last { Rows::Last } else { Rows::All };
    let values = block_on(session.logits(&ids, rows)).map_err(|error| Failure::from(error).at(&flags.ids))?;
    let n_vocab = model.config().n_vocab as usize;
    let shape = if flags.last { vec![n_vocab] } else { vec![ids.len(), n_vocab] };
    write_tensors(&flags.out, &[("logits", shape, &values)])?;
    if global.verbose {
        output::note(&format!("[{} tokens on {}: {}]", ids.len(), gpu.summary().name, flags.out.display()));
    }
    Ok(())
}

/// `debug gradients`
///
/// # Errors
/// Ids, a model or an adapter that cannot be used, or a file that cannot be written.
pub fn gradients(global: &Global, flags: &Gradients) -> Result<(), Failure> {
    let ids = read_ids(&flags.ids)?;
    let first = flags.first_target as usize;
    if first >= ids.len() {
        return Err(Failure::wrong_use(
            format!("--first-target is {first}, there are {} ids", ids.len()),
            "give an index from 1 to the last id",
        ));
    }
    let _busy = interrupt::busy();
    let (_, adapter) = load::adapter_file(&flags.adapter, flags.gate, None)?;
    let file = ModelFile::open(&load::model_path(&flags.model)?)?;
    let gpu = load::gpu(global, false)?;
    let model = file.load(&gpu)?;
    let mut batch = Batch::default();
    let trained: Vec<bool> = (0..ids.len()).map(|index| index >= first).collect();
    batch.push(&ids, &trained);
    let found =
        block_on(train::gradients(&model, &adapter, &batch)).map_err(|error| Failure::from(error).at(&flags.ids))?;
    let [layers, length, channels] = [adapter.n_layers, adapter.adapter_len, adapter.n_channels].map(|n| n as usize);
    let gates = vec![layers, found.dgates.len() / layers];
    let loss = [found.loss as f32];
    write_tensors(
        &flags.out,
        &[
            ("loss", vec![1], &loss),
            ("d_prompts", vec![layers, length, channels], &found.dprompts),
            ("d_gates", gates, &found.dgates),
        ],
    )?;
    if global.verbose {
        output::note(&format!("[loss {:.6} on {}: {}]", found.loss, gpu.summary().name, flags.out.display()));
    }
    Ok(())
}

/// A safetensors file of f32 tensors: name, shape, values.
pub(super) fn write_tensors(path: &Path, tensors: &[(&str, Vec<usize>, &[f32])]) -> Result<(), Failure> {
    let not_written = |error: safetensors::SafeTensorError| Failure::failed(error.to_string(), "please report this");
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(not_written)?;
    let content = safetensors::serialize(views, None).map_err(not_written)?;
    adapter_atomic_file::write_whole(path, &content, Readers::Default)
        .map_err(|error| Failure::file("cannot write the tensors", path, &error))
}

/// Ids from JSON: an array, or an object with one under `ids`.
pub(super) fn read_ids(path: &Path) -> Result<Vec<u32>, Failure> {
    let hint = "write [1, 2, 3] or {\"ids\": [1, 2, 3]}; `adapter-cli debug tokenize` does";
    let wrong = |what: String| Failure::failed(format!("{what}: {}", path.display()), hint);
    let value: serde_json::Value = serde_json::from_slice(&load::read_small(path)?)
        .map_err(|error| wrong(format!("the ids are not JSON: {error}")))?;
    let list = value.as_array().or_else(|| value.get("ids").and_then(serde_json::Value::as_array));
    let Some(list) = list else { return Err(wrong("there is no array of ids".to_owned())) };
    let id = |(index, value): (usize, &serde_json::Value)| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            wrong(format!("id {index} is {}, a whole number was wanted", printable::shortened(&value.to_string(), 40)))
        })
    };
    list.iter().enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_both_forms_and_wrong_ones_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ids.json");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("writable");
            read_ids(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
        };
        assert_eq!(read("[1, 2]"), Ok(vec![1, 2]));
        assert_eq!(read("{\"ids\": [7], \"loss\": 1.5}"), Ok(vec![7]));
        assert_eq!(read("[1, -2]"), Err("id 1 is -2, a whole number was wanted: F".to_owned()));
        assert_eq!(read("[4294967296]"), Err("id 0 is 4294967296, a whole number was wanted: F".to_owned()));
        assert_eq!(read("{}"), Err("there is no array of ids: F".to_owned()));
        assert!(read("[1").is_err_and(|error| error.starts_with("the ids are not JSON")));
    }
}
