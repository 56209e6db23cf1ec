//! `inspect` for adapters: tensors, what the gates mean, how far each layer's gates are open.

use std::io::{self, Write};
use std::path::Path;

use adapter_engine::adapter::{AdapterFile, GateKind, GateShape};
use adapter_engine::text::ChatTemplate;
use adapter_host::figures;
use safetensors::SafeTensors;

use crate::failure::Failure;
use crate::load;
use crate::output::{Align, Table};
use crate::printable::{printable, shortened};

/// Shows a file of safetensors, a PyTorch checkpoint or a PEFT folder.
///
/// # Errors
/// A file that cannot be read, or that is no adapter: after its tensors have been shown.
pub fn run(path: &Path, kind: Option<GateKind>) -> Result<(), Failure> {
    let weights = if path.is_dir() { path.join("adapter_model.safetensors") } else { path.to_owned() };
    let mut out = io::stdout().lock();
    if load::is_pth(path) {
        let size = std::fs::metadata(path).map_or(0, |about| about.len());
        writeln!(out, "{}\nPyTorch checkpoint, {}", printable(&path.display().to_string()), figures::bytes(size))?;
    } else if weights.is_file() || !path.is_dir() {
        let bytes = load::read_small(&weights)?;
        write_tensors(&mut out, &weights, &bytes)?;
        out.flush()?;
    }
    let (name, file) = load::adapter_file(path, kind, None)?;
    write_adapter(&mut out, &name, &file)?;
    out.flush()?;
    Ok(())
}

fn write_tensors(out: &mut dyn Write, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let broken = |error: safetensors::SafeTensorError| {
        let message = format!("not a sound safetensors file: {error}: {}", path.display());
        Failure::failed(message, "the file is damaged, cut off, or of another kind: fetch or save it again")
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    writeln!(out, "{}", printable(&path.display().to_string()))?;
    writeln!(out, "safetensors, {}", figures::bytes(bytes.len() as u64))?;
    if let Some(metadata) = header.metadata() {
        writeln!(out, "\nMetadata")?;
        let mut entries: Vec<_> = metadata.iter().collect();
        entries.sort_unstable();
        for (key, value) in entries {
            writeln!(out, "  {}  {}", shortened(key, 48), shortened(value, 96))?;
        }
    }
    writeln!(out, "\nTensors")?;
    let right = Align::Right;
    let mut table = Table::new(&[("name", Align::Left), ("type", Align::Left), ("shape", right), ("bytes", right)]);
    for name in header.offset_keys() {
        if let Some(info) = header.info(&name) {
            let shape: Vec<String> = info.shape.iter().map(usize::to_string).collect();
            let size = info.data_offsets.1.saturating_sub(info.data_offsets.0);
            table.row([name, format!("{:?}", info.dtype), shape.join(" x "), size.to_string()]);
        }
    }
    table.write(out)?;
    Ok(())
}

/// What an adapter computes with.
///
/// # Errors
/// An output that takes nothing any more.
pub fn write_adapter(out: &mut dyn Write, name: &str, file: &AdapterFile) -> Result<(), Failure> {
    let width = file.gates.len() / file.n_layers.max(1) as usize;
    writeln!(
        out,
        "\nAdapter {}: {} gates, {} layers, {} prompt tokens of {} channels, {} numbers to train",
        printable(name),
        file.kind.name(),
        file.n_layers,
        file.adapter_len,
        file.n_channels,
        file.prompts.len() + file.gates.len(),
    )?;
    if let Some(base) = &file.base_model {
        writeln!(out, "Made for {}", printable(base))?;
    }
    if let Some(template) = &file.chat_template {
        let named = ChatTemplate::name_of(template).map_or_else(|| shortened(template, 60), str::to_owned);
        writeln!(out, "Trained with the chat template {named}")?;
    }
    writeln!(out, "\nStrength of the prompts by layer (gates after their activation; 0 is closed)")?;
    let heads = match file.kind.shape {
        GateShape::Scalar => 1,
        GateShape::PerHead => width as u32,
    };
    let per_layer = file.adapter_len as usize * file.n_channels as usize;
    let mut table =
        Table::new(&[("layer from the end", Align::Right), ("prompt rms", Align::Right), ("gates", Align::Left)]);
    let prompts = file.prompts.chunks(per_layer.max(1));
    for (index, (gates, prompt)) in file.effective_gates(heads).iter().zip(prompts).enumerate() {
        // Which of the model's layers these are depends on the model: they are its last.
        let layer = (file.n_layers as usize).saturating_sub(index).to_string();
        let squares: f64 = prompt.iter().map(|value| f64::from(*value).powi(2)).sum();
        let rms = (squares / prompt.len().max(1) as f64).sqrt();
        let mut shown: Vec<String> = gates.iter().take(8).map(|gate| format!("{gate:+.4}")).collect();
        if gates.len() > 8 {
            shown.push(format!("... {} in all", gates.len()));
        }
        table.row([layer, format!("{rms:.4}"), shown.join(" ")]);
    }
    table.write(out)?;
    Ok(())
}
