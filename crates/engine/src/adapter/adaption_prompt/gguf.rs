//! Adapters as GGUF: a small file of their own, or keys and tensors inside their model's file.
//!
//! ```text
//! general.type                          "adapter"        only in a file of its own
//! general.architecture                  the family of its model
//! adapter.type                          "llama_adapter"
//! adapter.llama_adapter.version         u32, 1
//! adapter.llama_adapter.name            string
//! adapter.llama_adapter.length          u32, A
//! adapter.llama_adapter.layers          u32, L_a: the model's last layers
//! adapter.llama_adapter.gate_shape      "scalar" or "per_head"
//! adapter.llama_adapter.gate_activation "none" or "tanh"
//! adapter.llama_adapter.base_model      string, where it is known
//! adapter.llama_adapter.base_hash       string, where it is known
//! adapter.llama_adapter.chat_template   string, Jinja, where it is known
//! blk.N.adapter_prompt.weight           F32 [C, A]       N counts from the model's first layer
//! blk.N.adapter_gate.weight             F32 [H] or [1]
//! ```
//!
//! Keys follow those of llama.cpp's LoRA files (`adapter.type`, `adapter.lora.*`), names its model tensors. llama.cpp refuses
//! files with tensors it does not know, so nobody takes a model with an adapter for the model alone.

use std::io::Write;
use std::ops::ControlFlow;

use super::file::{AdapterFile, finite};
use super::gate::{GateShape, kind_of};
use crate::Error;
use crate::adapter::error::{AdapterError, shortened};
use crate::adapter::foreign;
use crate::adapter::write_error::AdapterWriteError;
use crate::formats::adapter_tensors::{GATE, PROMPT, TYPE_KEY, is_adapter_tensor, lone_adapter, part_of};
use crate::formats::{Gguf, GgufDataWriter, GgufWriter, ReadAt, TensorInfo, TensorType};
use crate::model::{Config, block_count};
use crate::ops::gated_attention::MAX_ADAPTER_LEN;

const TYPE: &str = "llama_adapter";
const VERSION: u32 = 1;
/// Bytes of the model that are copied at once.
const WINDOW_BYTES: u64 = 4 << 20;
/// Most channels and heads that are believed; the model's own limits are lower or equal.
const MAX_WIDTH: u64 = 1 << 17;

fn key(name: &str) -> String {
    format!("adapter.{TYPE}.{name}")
}

impl AdapterFile {
    /// The adapter in a GGUF file and its name, `None` where the file holds none: a file of its own, or a model's.
    ///
    /// # Errors
    /// Keys or tensors that are missing, of another kind, type or shape, or too many; layers that are not the model's last;
    /// values that are not finite; a file that cannot be read.
    pub fn from_gguf(gguf: &Gguf, source: &dyn ReadAt) -> Result<Option<(String, Self)>, Error> {
        let meta = &gguf.metadata;
        let parts: Vec<(u32, &str)> = gguf.tensors().iter().filter_map(|tensor| part_of(&tensor.name)).collect();
        let wrong = |key: &str, found: String, wanted: &str| AdapterError::Metadata {
            key: key.to_owned(),
            found,
            wanted: wanted.to_owned(),
        };
        let wrong_text = |key: &str, found: Option<&str>, wanted: &str| {
            wrong(key, found.map_or_else(|| "missing".to_owned(), |text| format!("{:?}", shortened(text))), wanted)
        };
        let no_type = || wrong_text(TYPE_KEY, None, "\"llama_adapter\", the one this engine runs");
        let tensors = || gguf.tensors().iter().map(|tensor| tensor.name.as_str());
        match (meta.optional::<&str>(TYPE_KEY)?, lone_adapter(gguf)?) {
            (Some(TYPE), _) => {}
            (Some(other), _) => return Err(foreign::other_method(TYPE_KEY, other, TYPE).into()),
            (None, None) if parts.is_empty() => return Ok(None),
            (None, Some(_)) if parts.is_empty() => {
                return Err(foreign::of_tensors(tensors()).unwrap_or_else(no_type).into());
            }
            (None, _) => return Err(no_type().into()),
        }
        let number = |name: &str, low: u32, high: u32| -> Result<u32, Error> {
            let key = key(name);
            let found = meta.optional::<u32>(&key)?;
            found.filter(|found| (low..=high).contains(found)).ok_or_else(|| {
                let wanted = if low == high { low.to_string() } else { format!("{low} to {high}") };
                wrong(&key, found.map_or_else(|| "missing".to_owned(), |found| found.to_string()), &wanted).into()
            })
        };
        let text = |name: &str| -> Result<Option<&str>, Error> { Ok(meta.optional::<&str>(&key(name))?) };
        number("version", VERSION, VERSION)?;
        let adapter_len = number("length", 1, MAX_ADAPTER_LEN)?;
        let n_layers = number("layers", 1, 512)?;
        let kind = kind_of(text("gate_shape")?, text("gate_activation")?)?;
        let kind = kind.ok_or_else(|| wrong_text(&key("gate_shape"), None, "\"scalar\" or \"per_head\""))?;

        if lone_adapter(gguf)?.is_some()
            && let Some(other) = gguf.tensors().iter().find(|tensor| part_of(&tensor.name).is_none())
        {
            return Err(AdapterError::Unknown { name: other.name.clone() }.into());
        }
        if parts.is_empty() {
            let (name, found) = (format!("blk.N.{PROMPT}"), "nothing of an adapter".to_owned());
            return Err(AdapterError::Missing { name, found }.into());
        }
        let base_layers = match block_count(gguf)? {
            Some(n_layers) => n_layers,
            None => parts.iter().map(|(layer, _)| layer + 1).max().unwrap_or_default(),
        };
        let Some(first) = base_layers.checked_sub(n_layers) else {
            let wanted = format!("at most the {base_layers} of the model");
            return Err(wrong(&key("layers"), n_layers.to_string(), &wanted).into());
        };
        if let Some((layer, part)) = parts.iter().find(|(layer, _)| !(first..base_layers).contains(layer)) {
            return Err(AdapterError::Shape {
                name: format!("blk.{layer}.{part}"),
                found: format!("of layer {layer}"),
                wanted: format!("of one of the model's last {n_layers} layers, which begin with {first}"),
            }
            .into());
        }
        let find = |layer: u32, part: &str| {
            let name = format!("blk.{layer}.{part}");
            let found = || {
                let names: Vec<String> = parts.iter().take(3).map(|(n, part)| format!("\"blk.{n}.{part}\"")).collect();
                names.join(", ")
            };
            gguf.find_tensor(&name).ok_or_else(|| AdapterError::Missing { name: name.clone(), found: found() })
        };
        let (mut prompts, mut gates) = (Vec::new(), Vec::new());
        let (mut n_channels, mut gate_width) = (None, None);
        if kind.shape == GateShape::Scalar {
            gate_width = Some(1);
        }
        for layer in first..base_layers {
            let prompt = find(layer, PROMPT)?;
            let channels = *n_channels.get_or_insert(prompt.shape.first().copied().unwrap_or_default());
            prompts.extend(floats(source, prompt, &[channels, u64::from(adapter_len)])?);
            let gate = find(layer, GATE)?;
            let width = *gate_width.get_or_insert(gate.shape.first().copied().unwrap_or_default());
            gates.extend(floats(source, gate, &[width])?);
        }
        let name = text("name")?.filter(|name| !name.is_empty()).unwrap_or("adapter");
        let file = Self {
            kind,
            n_layers,
            adapter_len,
            n_channels: n_channels.unwrap_or_default() as u32, // at most MAX_WIDTH
            prompts,
            gates,
            base_model: text("base_model")?.filter(|name| !name.is_empty()).map(str::to_owned),
            base_layers: Some(base_layers),
            base_hash: text("base_hash")?.map(str::to_owned),
            chat_template: text("chat_template")?.filter(|template| !template.is_empty()).map(str::to_owned),
        };
        Ok(Some((shortened(name), file)))
    }

    /// [`AdapterFile::from_gguf`] of a file that is given as an adapter.
    ///
    /// # Errors
    /// As there, and [`AdapterError::NoAdapter`] for a file that holds none.
    pub fn required_from_gguf(gguf: &Gguf, source: &dyn ReadAt) -> Result<(String, Self), Error> {
        match Self::from_gguf(gguf, source)? {
            Some(found) => Ok(found),
            None => Err(AdapterError::NoAdapter { what: foreign::of_gguf(gguf)? }.into()),
        }
    }

    /// A GGUF file of its own, which [`AdapterFile::from_gguf`] reads. It numbers layers from the model's first, so the
    /// model's sizes are needed.
    ///
    /// # Errors
    /// Numbers that are not finite, an adapter of another model.
    pub fn to_gguf(&self, config: &Config, name: &str) -> Result<Vec<u8>, AdapterWriteError> {
        let gate_width = self.check_writable(config)?;
        let mut writer = GgufWriter::new();
        writer.metadata("general.type", "adapter").metadata("general.architecture", config.architecture.name);
        writer.metadata("general.name", name);
        self.describe(&mut writer, name, config, gate_width);
        let mut data = writer.start(Vec::new())?;
        self.write_tensors(&mut data, gate_width)?;
        Ok(data.finish()?)
    }

    /// Checks itself and that it fits; returns the gates a layer.
    fn check_writable(&self, config: &Config) -> Result<u32, AdapterError> {
        let gate_width = self.check()?;
        self.check_fits(config)?;
        if self.adapter_len > MAX_ADAPTER_LEN {
            return Err(AdapterError::TooLong { found: self.adapter_len, limit: MAX_ADAPTER_LEN });
        }
        Ok(gate_width)
    }

    /// Adds keys and tensors.
    fn describe(&self, writer: &mut GgufWriter, name: &str, config: &Config, gate_width: u32) {
        writer.metadata(TYPE_KEY, TYPE);
        writer.metadata(key("version"), VERSION).metadata(key("name"), name);
        writer.metadata(key("length"), self.adapter_len).metadata(key("layers"), self.n_layers);
        writer.metadata(key("gate_shape"), self.kind.shape.name());
        writer.metadata(key("gate_activation"), self.kind.activation.name());
        let known =
            [("base_model", &self.base_model), ("base_hash", &self.base_hash), ("chat_template", &self.chat_template)];
        for (name, value) in known {
            if let Some(value) = value {
                writer.metadata(key(name), value.as_str());
            }
        }
        let prompt_shape = [u64::from(self.n_channels), u64::from(self.adapter_len)];
        for layer in config.n_layers.saturating_sub(self.n_layers)..config.n_layers {
            writer.tensor(format!("blk.{layer}.{PROMPT}"), &prompt_shape, TensorType::F32);
            writer.tensor(format!("blk.{layer}.{GATE}"), &[u64::from(gate_width)], TensorType::F32);
        }
    }

    /// Writes the data of the tensors that [`Self::describe`] added.
    fn write_tensors<W: Write>(&self, data: &mut GgufDataWriter<W>, gate_width: u32) -> Result<(), AdapterWriteError> {
        let per_layer = self.adapter_len as usize * self.n_channels as usize;
        let gates = self.gates.chunks_exact(gate_width as usize);
        for (prompt, gates) in self.prompts.chunks_exact(per_layer).zip(gates) {
            for values in [prompt, gates] {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                data.chunk(&bytes)?;
            }
        }
        Ok(())
    }
}

/// Writes a model and an adapter as one file. The model's metadata and tensors are copied as they are, quantized blocks byte
/// for byte, some MiB at a time; `progress` is told the bytes copied so far and in all, and may stop it.
///
/// # Errors
/// A file that is no LLaMA or holds an adapter already, an adapter that does not fit it, and what the system says.
pub fn merge<W: Write>(
    gguf: &Gguf,
    source: &dyn ReadAt,
    (name, adapter): (&str, &AdapterFile),
    out: W,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<W, AdapterWriteError> {
    let config = Config::from_gguf(gguf, source)?;
    if gguf.metadata.get(TYPE_KEY).is_some() || gguf.tensors().iter().any(|tensor| is_adapter_tensor(&tensor.name)) {
        let name = gguf.metadata.optional::<&str>(&key("name"))?.unwrap_or("adapter");
        return Err(AdapterError::AlreadyMerged { name: shortened(name) }.into());
    }
    let gate_width = adapter.check_writable(&config)?;
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&gguf.metadata);
    for tensor in gguf.tensors() {
        writer.tensor(tensor.name.as_str(), &tensor.shape, tensor.tensor_type);
    }
    adapter.describe(&mut writer, name, &config, gate_width);
    let mut data = writer.start(out)?;
    let total_bytes: u64 = gguf.tensors().iter().map(|tensor| tensor.size_bytes).sum();
    let mut done_bytes = 0;
    let mut window = Vec::new();
    for tensor in gguf.tensors() {
        let mut start = 0;
        while start < tensor.size_bytes {
            let n_bytes = (tensor.size_bytes - start).min(WINDOW_BYTES);
            window.resize(n_bytes as usize, 0);
            tensor.read_data(source, start, &mut window)?;
            data.chunk(&window)?;
            start += n_bytes;
            done_bytes += n_bytes;
            if progress(done_bytes, total_bytes).is_break() {
                return Err(AdapterWriteError::Cancelled);
            }
        }
    }
    adapter.write_tensors(&mut data, gate_width)?;
    Ok(data.finish()?)
}

/// The values of a tensor of that shape; ones at the end of a shape mean nothing.
fn floats(source: &dyn ReadAt, tensor: &TensorInfo, shape: &[u64]) -> Result<Vec<f32>, Error> {
    let trimmed = |shape: &[u64]| shape.iter().rposition(|dim| *dim != 1).map_or(0, |last| last + 1);
    let same = tensor.shape.get(..trimmed(&tensor.shape)) == shape.get(..trimmed(shape));
    if !same || tensor.tensor_type != TensorType::F32 || shape.iter().any(|dim| !(1..=MAX_WIDTH).contains(dim)) {
        return Err(AdapterError::Shape {
            name: tensor.name.clone(),
            found: format!("{} {:?}", tensor.tensor_type.name(), tensor.shape),
            wanted: format!("F32 {shape:?}"),
        }
        .into());
    }
    let mut bytes = vec![0; tensor.size_bytes as usize]; // at most MAX_WIDTH * MAX_ADAPTER_LEN * 4
    tensor.read_data(source, 0, &mut bytes)?;
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    finite(&tensor.name, &values)?;
    Ok(values)
}
