//! The folder that PEFT's `AdaptionPromptModel.save_pretrained` writes, and that it loads.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::AdapterFile;
use super::gate::{GateKind, GateShape};
use super::peft_names::layer_of;
use super::safetensors::{CHAT_TEMPLATE, dims, floats, missing, parse, write, wrong_shape};
use crate::adapter::error::AdapterError;
use crate::adapter::foreign;
use crate::model::Config;

/// The configuration of the method.
const METHOD: &str = "ADAPTION_PROMPT";

#[derive(Deserialize)]
struct PeftConfig {
    adapter_len: u32,
    adapter_layers: u32,
    base_model_name_or_path: Option<String>,
}

impl PeftConfig {
    /// What `adapter_config.json` says. Its method is looked at first: other methods have other settings.
    fn read(bytes: &[u8]) -> Result<Self, AdapterError> {
        let wrong = |reason: String| AdapterError::Config { reason };
        let text = text_of(bytes).ok_or_else(|| wrong("it is not text in UTF-8".to_owned()))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("it is not JSON: {error}")))?;
        match json.get("peft_type") {
            Some(Value::String(found)) if found.eq_ignore_ascii_case(METHOD) => {}
            Some(Value::String(found)) => return Err(foreign::other_method("peft_type", found, METHOD)),
            _ => {
                let reason = "it has no peft_type, so it is not the configuration of a PEFT adapter".to_owned();
                return Err(wrong(reason));
            }
        }
        let config: Self = serde_json::from_value(json).map_err(|error| wrong(error.to_string()))?;
        if config.adapter_len == 0 || config.adapter_layers == 0 {
            return Err(wrong(format!(
                "adapter_len {} and adapter_layers {} must not be 0",
                config.adapter_len, config.adapter_layers
            )));
        }
        Ok(config)
    }
}

/// Text in UTF-8, or in UTF-16 with a mark in front, as editors and shells of Windows write it; the mark is left out.
fn text_of(bytes: &[u8]) -> Option<String> {
    let units = |order: fn([u8; 2]) -> u16| {
        let (units, _) = bytes.as_chunks();
        String::from_utf16(&units.iter().skip(1).map(|unit| order(*unit)).collect::<Vec<u16>>()).ok()
    };
    match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

/// What PEFT 0.21 writes, without its version: it loads files that name none.
#[derive(Serialize)]
struct WrittenConfig<'a> {
    adapter_layers: u32,
    adapter_len: u32,
    auto_mapping: Option<()>,
    base_model_name_or_path: Option<&'a str>,
    inference_mode: bool,
    peft_type: &'a str,
    revision: Option<()>,
    target_modules: &'a str,
    task_type: &'a str,
}

impl AdapterFile {
    /// Reads what PEFT's `AdaptionPromptModel.save_pretrained` writes: the two files of its folder.
    ///
    /// PEFT itself loads a file with a wrong prefix or a missing gate without a word, and then answers as the base model;
    /// here every tensor must be there and no other.
    ///
    /// # Errors
    /// As [`AdapterFile::from_safetensors`], and a configuration of another PEFT method.
    pub fn from_peft(config: &[u8], weights: &[u8]) -> Result<Self, AdapterError> {
        let config = PeftConfig::read(config)?;
        let (file, metadata) = parse(weights)?;
        let mut layers = Vec::new();
        for name in file.names() {
            match layer_of(name) {
                Some(layer) => layers.push(layer),
                None => {
                    let unknown = AdapterError::Unknown { name: name.to_owned() };
                    return Err(foreign::of_tensors(file.names()).unwrap_or(unknown));
                }
            }
        }
        layers.sort_unstable();
        layers.dedup();
        let first = layers.first().copied().unwrap_or(0);
        let base_layers = layers.last().map(|last| last + 1);
        let mut wanted = first..first.saturating_add(config.adapter_layers);
        // Stops at the first gap: the number in the configuration may be anything.
        if let Some(layer) = wanted.find(|layer| layers.binary_search(layer).is_err()) {
            return Err(missing(&file, &peft_name(layer, "adaption_prompt")));
        }
        if layers.len() as u64 != u64::from(config.adapter_layers) {
            let reason = format!("adapter_layers is {}, the file holds {} layers", config.adapter_layers, layers.len());
            return Err(AdapterError::Config { reason });
        }
        let (mut prompts, mut gates, mut n_channels) = (Vec::new(), Vec::new(), 0);
        for layer in layers {
            let name = peft_name(layer, "adaption_prompt");
            let (values, shape) = floats(&file, &name)?;
            let [one, length, channels] = dims(&file, &name, &shape, "[1, length, channels]")?;
            if one != 1 || length != config.adapter_len || (n_channels != 0 && channels != n_channels) {
                return Err(wrong_shape(&file, &name, format!("[1, {}, channels]", config.adapter_len)));
            }
            n_channels = channels;
            prompts.extend(values);
            let name = peft_name(layer, "adaption_gate");
            let (values, _) = floats(&file, &name)?;
            if values.len() != 1 {
                return Err(wrong_shape(&file, &name, "[1]".to_owned()));
            }
            gates.extend(values);
        }
        Ok(Self {
            kind: GateKind::PEFT,
            n_layers: config.adapter_layers,
            adapter_len: config.adapter_len,
            n_channels,
            prompts,
            gates,
            base_model: config.base_model_name_or_path.filter(|name| !name.is_empty()),
            base_layers,
            base_hash: None,
            chat_template: metadata.get(CHAT_TEMPLATE).filter(|template| !template.is_empty()).cloned(),
        })
    }

    /// Whether an `adapter_config.json` is of this method, before its weights are looked for.
    ///
    /// # Errors
    /// As [`AdapterFile::from_peft`].
    pub fn check_peft_config(config: &[u8]) -> Result<(), AdapterError> {
        PeftConfig::read(config).map(|_| ())
    }

    /// The two files of a PEFT folder: `adapter_config.json` and `adapter_model.safetensors`. PEFT numbers layers from the
    /// model's first, so the model's sizes are needed. Its gates are raw: a gate through `tanh` is written as its `tanh`,
    /// which computes the same.
    ///
    /// # Errors
    /// [`AdapterError::PeftCannotHold`] for gates that differ from head to head, since PEFT has one a layer, and for a
    /// model whose heads PEFT does not compute; numbers that are not finite; an adapter of another model.
    pub fn to_peft(&self, config: &Config) -> Result<(Vec<u8>, Vec<u8>), AdapterError> {
        let gate_width = self.check()? as usize;
        self.check_fits(config)?;
        let first = config.n_layers - self.n_layers;
        if self.kind.shape == GateShape::PerHead {
            let differs =
                |gates: &&[f32]| gates.iter().any(|gate| Some(gate.to_bits()) != gates.first().map(|g| g.to_bits()));
            if let Some(layer) = self.gates.chunks_exact(gate_width).position(|gates| differs(&gates)) {
                let reason = format!(
                    "it has a gate for each of {gate_width} heads, which differ in layer {}, and PEFT has one gate a layer",
                    first as usize + layer
                );
                return Err(AdapterError::PeftCannotHold { reason });
            }
        }
        if config.n_heads * config.head_dim != config.n_channels {
            let reason = format!(
                "the model's {} heads of {} channels are not its {} channels, which PEFT takes for granted",
                config.n_heads, config.head_dim, config.n_channels
            );
            return Err(AdapterError::PeftCannotHold { reason });
        }
        // One head's gate stands for all: they are equal here.
        let gates: Vec<f32> = self.effective_gates(1).into_iter().flatten().collect();
        let per_layer = self.adapter_len as usize * self.n_channels as usize;
        let shape = vec![1, u64::from(self.adapter_len), u64::from(self.n_channels)];
        let mut tensors = Vec::new();
        for (layer, (prompt, gate)) in (first..).zip(self.prompts.chunks_exact(per_layer).zip(gates.chunks_exact(1))) {
            tensors.push((peft_name(layer, "adaption_gate"), vec![1], gate));
            tensors.push((peft_name(layer, "adaption_prompt"), shape.clone(), prompt));
        }
        tensors.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let written = WrittenConfig {
            adapter_layers: self.n_layers,
            adapter_len: self.adapter_len,
            auto_mapping: None,
            base_model_name_or_path: self.base_model.as_deref(),
            inference_mode: true,
            peft_type: METHOD,
            revision: None,
            target_modules: "self_attn",
            task_type: "CAUSAL_LM",
        };
        let json =
            serde_json::to_vec_pretty(&written).map_err(|error| AdapterError::Config { reason: error.to_string() })?;
        // PEFT and transformers read `format` and nothing else of the metadata.
        let template = self.chat_template.clone().map(|template| (CHAT_TEMPLATE, template));
        let metadata = [("format", "pt".to_owned())].into_iter().chain(template).collect();
        Ok((json, write(&metadata, &tensors)))
    }
}

fn peft_name(layer: u32, part: &str) -> String {
    format!("base_model.model.model.layers.{layer}.self_attn.{part}")
}
