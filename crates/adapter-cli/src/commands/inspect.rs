//! `inspect`: what is in a file, also in a broken one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::formats::{Array, Gguf, Metadata, PartialGguf, ReadAt, TensorInfo, Value};
use adapter_engine::gpu::{AdapterSummary, Gpu};
use adapter_engine::model::Config;
use adapter_host::figures;
use clap::Args;
use pollster::block_on;

use super::inspect_adapter;
use crate::failure::Failure;
use crate::flags::{Global, gate_kind};
use crate::load;
use crate::output::{Align, Table};
use crate::printable::{printable, shortened};

/// `inspect`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli inspect model.gguf
  adapter-cli inspect my-adapter/                      a PEFT folder
  adapter-cli inspect adapter.safetensors --gate paper")]
pub struct Inspect {
    /// A GGUF, .safetensors or .pth file, or a PEFT folder
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// What the gates of an adapter without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind())]
    pub gate: Option<GateKind>,
}

/// Elements of an array that are shown.
const SHOWN_ELEMENTS: usize = 6;
/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 72;
const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Runs the command.
///
/// # Errors
/// A file that cannot be read or is broken: after all that is sound in it has been shown.
pub fn run(global: &Global, flags: &Inspect) -> Result<(), Failure> {
    let path = &flags.path;
    let is_safetensors = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    if path.is_dir() || is_safetensors || load::is_pth(path) {
        return inspect_adapter::run(path, flags.gate);
    }
    let source = load::open_file(path)?;
    let (partial, error) = Gguf::read_partial(&source);
    let mut out = io::stdout().lock();
    if partial.version.is_some() {
        write_head(&mut out, path, &partial)?;
        write_metadata(&mut out, &partial.metadata)?;
        // Listing GPUs opens none; a machine without one can still inspect.
        let gpus = if error.is_none() { block_on(Gpu::list()) } else { Vec::new() };
        let gpu = chosen(&gpus, global.gpu.as_deref());
        write_tensors(&mut out, &partial.tensors, gpu)?;
        write_template(&mut out, &partial.metadata)?;
    }
    let Some(error) = error else {
        write_engine(&mut out, &source, &partial)?;
        out.flush()?;
        return Ok(());
    };
    out.flush()?;
    Err(match (Failure::from(error), partial.version) {
        (Failure::Failed { message, hint }, Some(_)) => {
            let (position, total) = (partial.position, partial.file_bytes);
            Failure::Failed { message: format!("{message} (reading stopped at byte {position} of {total})"), hint }
        }
        (other, _) => other,
    }
    .at(path))
}

/// The GPU that a model would be loaded on.
fn chosen<'a>(gpus: &'a [AdapterSummary], wanted: Option<&str>) -> Option<&'a AdapterSummary> {
    let Some(wanted) = wanted else { return gpus.first() };
    let lower = wanted.to_lowercase();
    let by_name = gpus.iter().find(|gpu| gpu.name.to_lowercase().contains(&lower));
    by_name.or_else(|| wanted.parse::<usize>().ok().and_then(|index| gpus.get(index)))
}

fn write_head(out: &mut dyn Write, path: &Path, file: &PartialGguf) -> Result<(), Failure> {
    writeln!(out, "{}", printable(&path.display().to_string()))?;
    let count = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    writeln!(
        out,
        "GGUF version {}, {}, {} metadata keys, {} tensors, alignment {}, data from byte {}",
        file.version.unwrap_or_default(),
        figures::bytes(file.file_bytes),
        count(file.declared_keys),
        count(file.declared_tensors),
        count(file.alignment),
        count(file.data_offset),
    )?;
    Ok(())
}

fn write_metadata(out: &mut dyn Write, metadata: &Metadata) -> Result<(), Failure> {
    if metadata.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nMetadata")?;
    let width = metadata.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0).min(48);
    for (key, value) in metadata.iter() {
        let shown = if key == TEMPLATE_KEY { "see the end".to_owned() } else { show(value) };
        writeln!(out, "  {:<width$}  {:<16} {shown}", printable(key), value.type_name())?;
    }
    Ok(())
}

fn show(value: &Value) -> String {
    match value {
        Value::U8(x) => x.to_string(),
        Value::I8(x) => x.to_string(),
        Value::U16(x) => x.to_string(),
        Value::I16(x) => x.to_string(),
        Value::U32(x) => x.to_string(),
        Value::I32(x) => x.to_string(),
        Value::F32(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
        Value::U64(x) => x.to_string(),
        Value::I64(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::String(text) => shortened(&String::from_utf8_lossy(text), SHOWN_CHARS),
        Value::Array(array) => show_array(array),
    }
}

fn show_array(array: &Array) -> String {
    let elements: Vec<String> = (0..array.len().min(SHOWN_ELEMENTS))
        .filter_map(|index| array.get(index))
        .map(|value| match &value {
            Value::String(text) => format!("{:?}", shortened(&String::from_utf8_lossy(text), 16)),
            single => show(single),
        })
        .collect();
    let more = if array.len() > SHOWN_ELEMENTS { format!(", ... {} in all", array.len()) } else { String::new() };
    format!("[{}{more}]", elements.join(", "))
}

fn write_tensors(out: &mut dyn Write, tensors: &[TensorInfo], gpu: Option<&AdapterSummary>) -> Result<(), Failure> {
    if tensors.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nTensors (innermost dimension first)")?;
    let right = Align::Right;
    let mut columns = vec![("name", Align::Left), ("type", Align::Left), ("shape", right), ("bytes", right)];
    if gpu.is_some() {
        columns.push(("bindings", right));
    }
    let mut table = Table::new(&columns);
    for tensor in tensors {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        let mut row = vec![
            tensor.name.clone(),
            tensor.tensor_type.name().to_owned(),
            shape.join(" x "),
            tensor.size_bytes.to_string(),
        ];
        row.extend(gpu.map(|gpu| tensor.size_bytes.div_ceil(gpu.max_binding_bytes.max(1)).to_string()));
        table.row(row);
    }
    table.write(out)?;
    write_mix(out, tensors)?;
    if let (Some(gpu), Some(largest)) = (gpu, tensors.iter().max_by_key(|tensor| tensor.size_bytes)) {
        let limit = figures::bytes(gpu.max_binding_bytes);
        let size = figures::bytes(largest.size_bytes);
        let name = printable(&largest.name).into_owned();
        let fits = if largest.size_bytes <= gpu.max_binding_bytes { "fits one" } else { "is split over several" };
        writeln!(out, "\nOn {}: a binding holds {limit}; the largest tensor, {name} with {size}, {fits}", gpu.name)?;
    }
    Ok(())
}

fn write_mix(out: &mut dyn Write, tensors: &[TensorInfo]) -> Result<(), Failure> {
    let mut mix: BTreeMap<&str, (u64, u64, u64, bool)> = BTreeMap::new();
    for tensor in tensors {
        let entry = mix.entry(tensor.tensor_type.name()).or_default();
        entry.0 += 1;
        entry.1 = entry.1.saturating_add(tensor.elements());
        entry.2 = entry.2.saturating_add(tensor.size_bytes);
        entry.3 = tensor.tensor_type.is_supported();
    }
    let (elements, bytes) = mix
        .values()
        .fold((0u64, 0u64), |(e, b), (_, elements, bytes, _)| (e.saturating_add(*elements), b.saturating_add(*bytes)));
    writeln!(out, "\nTypes")?;
    let right = Align::Right;
    let mut table = Table::new(&[
        ("type", Align::Left),
        ("tensors", right),
        ("weights", right),
        ("size", right),
        ("share", right),
        ("runs here", Align::Left),
    ]);
    for (name, (count, weights, size, runs)) in &mix {
        table.row([
            (*name).to_owned(),
            count.to_string(),
            figures::count(*weights),
            figures::bytes(*size),
            format!("{:.1} %", *size as f64 * 100.0 / bytes.max(1) as f64),
            if *runs { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.write(out)?;
    let bits = bytes as f64 * 8.0 / elements.max(1) as f64;
    writeln!(
        out,
        "Together {} weights in {}, {bits:.2} bits a weight",
        figures::count(elements),
        figures::bytes(bytes)
    )?;
    Ok(())
}

fn write_template(out: &mut dyn Write, metadata: &Metadata) -> Result<(), Failure> {
    if let Some(Value::String(text)) = metadata.get(TEMPLATE_KEY) {
        writeln!(out, "\nChat template")?;
        for line in String::from_utf8_lossy(text).lines() {
            writeln!(out, "  {}", printable(line))?;
        }
    }
    Ok(())
}

/// What the engine makes of a sound file.
fn write_engine(out: &mut dyn Write, source: &dyn ReadAt, partial: &PartialGguf) -> Result<(), Failure> {
    // The header was sound a moment ago; a file that changed since is not worth another message here.
    let Ok(gguf) = Gguf::read(source) else { return Ok(()) };
    debug_assert_eq!(gguf.tensors().len(), partial.tensors.len());
    let adapter = AdapterFile::from_gguf(&gguf, source);
    if matches!(gguf.metadata.optional("general.type"), Ok(Some("adapter"))) {
        return write_gguf_adapter(out, adapter);
    }
    match Config::from_gguf(&gguf, source) {
        Ok(config) => writeln!(
            out,
            "\nRuns here: {} layers, {} channels, {} heads on {} key/value heads of {}, MLP {}, {} ids, context {}{}",
            config.n_layers,
            config.n_channels,
            config.n_heads,
            config.n_kv_heads,
            config.head_dim,
            config.n_ffn,
            config.n_vocab,
            config.n_context,
            if config.tied { ", output tied to the embedding" } else { "" },
        )?,
        Err(error) => {
            writeln!(out, "\nDoes not run here: {}", printable(&error.to_string()))?;
            if let Some(hint) = error.hint() {
                writeln!(out, "  {hint}")?;
            }
        }
    }
    write_gguf_adapter(out, adapter)
}

/// The adapter in the file, if there is one.
fn write_gguf_adapter(
    out: &mut dyn Write,
    adapter: Result<Option<(String, AdapterFile)>, adapter_engine::Error>,
) -> Result<(), Failure> {
    match adapter {
        Ok(Some((name, file))) => inspect_adapter::write_adapter(out, &name, &file),
        Ok(None) => Ok(()),
        Err(error) => {
            writeln!(out, "\nIts adapter does not run here: {}", printable(&error.to_string()))?;
            if let Some(hint) = error.hint() {
                writeln!(out, "  {hint}")?;
            }
            Ok(())
        }
    }
}
