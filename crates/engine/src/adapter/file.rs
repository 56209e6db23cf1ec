//! Adapter files: our safetensors, a bare one, and the folder PEFT writes.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

use crate::llama::Config;

/// One gate for all heads of a layer, or one a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateShape {
    /// `[L_a, 1]`
    Scalar,
    /// `[L_a, H]`
    PerHead,
}

/// What a stored gate goes through before it scales the prompt's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateActivation {
    /// Nothing.
    None,
    /// `tanh`
    Tanh,
}

/// The forms of the method that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateKind {
    /// One gate a layer or a head.
    pub shape: GateShape,
    /// Raw or through `tanh`.
    pub activation: GateActivation,
}

impl GateKind {
    /// The paper and its training code: a head each, through `tanh`.
    pub const PAPER: Self = Self { shape: GateShape::PerHead, activation: GateActivation::Tanh };
    /// The paper's first version: a head each, raw.
    pub const LINEAR: Self = Self { shape: GateShape::PerHead, activation: GateActivation::None };
    /// PEFT: one a layer, raw.
    pub const PEFT: Self = Self { shape: GateShape::Scalar, activation: GateActivation::None };

    /// `paper`, `linear` or `peft`; a scalar gate through `tanh` is `scalar-tanh`.
    pub fn name(self) -> &'static str {
        match (self.shape, self.activation) {
            (GateShape::PerHead, GateActivation::Tanh) => "paper",
            (GateShape::PerHead, GateActivation::None) => "linear",
            (GateShape::Scalar, GateActivation::None) => "peft",
            (GateShape::Scalar, GateActivation::Tanh) => "scalar-tanh",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let scalar_tanh = Self { shape: GateShape::Scalar, activation: GateActivation::Tanh };
        [Self::PAPER, Self::LINEAR, Self::PEFT, scalar_tanh].into_iter().find(|kind| kind.name() == name)
    }
}

/// What is wrong with an adapter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// Not a safetensors file.
    #[error("the adapter is not a safetensors file: {reason}")]
    NotSafetensors {
        /// The parser's words.
        reason: String,
    },
    /// `adapter_config.json` cannot be used.
    #[error("adapter_config.json: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that must be there is not.
    #[error("the adapter has no tensor {name:?}; it holds {found}")]
    Missing {
        /// The tensor.
        name: String,
        /// Some names that are there.
        found: String,
    },
    /// A tensor that should not be there.
    #[error("the adapter holds a tensor {name:?} that is no part of a LLaMA-Adapter")]
    Unknown {
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape or type.
    #[error("the adapter's tensor {name:?} is {found}, expected {wanted}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its type and shape.
        found: String,
        /// What fits.
        wanted: String,
    },
    /// The file does not say what its gates mean.
    #[error("the adapter does not say what its gates mean (no gate_shape and gate_activation in its metadata)")]
    KindUnknown,
    /// The file says something else than the user.
    #[error("the adapter's gates are {found}, not {wanted}")]
    KindMismatch {
        /// What the file says or its shape implies.
        found: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Values that are not numbers.
    #[error("the adapter's tensor {name:?} holds {count} values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
        /// How many.
        count: usize,
    },
    /// Made for another model.
    #[error("the adapter {adapter:?} does not fit the model {model:?}: {what} is {found} there and {wanted} here")]
    OtherModel {
        /// The base model the adapter names, or its shape.
        adapter: String,
        /// The model that is loaded.
        model: String,
        /// Which size differs.
        what: &'static str,
        /// The adapter's.
        found: u32,
        /// The model's.
        wanted: String,
    },
    /// A prompt longer than the kernel takes.
    #[error("the adapter's prompt has {found} tokens, the limit is {limit}")]
    TooLong {
        /// A
        found: u32,
        /// The limit.
        limit: u32,
    },
}

impl AdapterError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::KindUnknown => {
                "say it with --gate paper (a head each, tanh), --gate linear (a head each) or --gate peft"
            }
            Self::KindMismatch { .. } => "leave --gate out, or give the kind the adapter was trained with",
            Self::OtherModel { .. } => "load the model the adapter was trained on",
            Self::Missing { .. } | Self::Unknown { .. } => {
                "the keys must be base_model.model.model.layers.N.self_attn.adaption_prompt and .adaption_gate (PEFT) or \
                 prompts and gates (ours)"
            }
            Self::NotFinite { .. } => "the training went wrong; take an earlier checkpoint",
            Self::TooLong { .. } => "train with a shorter --adapter-len",
            Self::NotSafetensors { .. } | Self::Config { .. } | Self::Shape { .. } => {
                "save the adapter again; `adapter-cli inspect` shows what a file holds"
            }
        }
    }
}

/// The numbers of an adapter, on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFile {
    /// What the gates mean.
    pub kind: GateKind,
    /// L_a: adapted layers, the last ones of the model.
    pub n_layers: u32,
    /// A: prompt tokens a layer.
    pub adapter_len: u32,
    /// C: channels.
    pub n_channels: u32,
    /// `[L_a, A, C]`
    pub prompts: Vec<f32>,
    /// `[L_a, H]` or `[L_a, 1]`, as stored.
    pub gates: Vec<f32>,
    /// Name of the model it was trained on, where the file says so.
    pub base_model: Option<String>,
}

#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    adapter_len: u32,
    adapter_layers: u32,
    base_model_name_or_path: Option<String>,
}

impl AdapterFile {
    /// Reads `prompts [L_a,A,C]` and `gates [L_a,H or 1]`. What the gates mean stands in the metadata
    /// (`gate_shape` = `scalar` | `per_head`, `gate_activation` = `none` | `tanh`) or is given as `kind`.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors, values that are not finite, an unknown or contradicting kind.
    pub fn from_safetensors(bytes: &[u8], kind: Option<GateKind>) -> Result<Self, AdapterError> {
        let (file, metadata) = parse(bytes)?;
        if let Some(name) = file.names().iter().find(|name| !["prompts", "gates"].contains(*name)) {
            return Err(AdapterError::Unknown { name: (*name).to_owned() });
        }
        let (prompts, prompt_shape) = floats(&file, "prompts")?;
        let (gates, gate_shape) = floats(&file, "gates")?;
        let [n_layers, adapter_len, n_channels] = dims(&file, "prompts", &prompt_shape, "[layers, length, channels]")?;
        let [gate_layers, gate_width] = dims(&file, "gates", &gate_shape, "[layers, heads or 1]")?;
        if gate_layers != n_layers {
            return Err(wrong_shape(&file, "gates", format!("{n_layers} layers, as prompts has")));
        }
        let shape = if gate_width == 1 { GateShape::Scalar } else { GateShape::PerHead };
        let said = match (metadata.get("gate_shape"), metadata.get("gate_activation")) {
            (Some(shape), Some(activation)) => Some(GateKind {
                shape: match shape.as_str() {
                    "scalar" => GateShape::Scalar,
                    "per_head" => GateShape::PerHead,
                    other => return Err(AdapterError::Config { reason: format!("gate_shape is {other:?}") }),
                },
                activation: match activation.as_str() {
                    "none" => GateActivation::None,
                    "tanh" => GateActivation::Tanh,
                    other => return Err(AdapterError::Config { reason: format!("gate_activation is {other:?}") }),
                },
            }),
            _ => None,
        };
        let kind = match (said, kind) {
            (Some(said), Some(asked)) if said != asked => {
                return Err(AdapterError::KindMismatch { found: said.name().to_owned(), wanted: asked.name() });
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) => return Err(AdapterError::KindUnknown),
        };
        if kind.shape != shape {
            let found = format!("{gate_width} a layer");
            return Err(AdapterError::KindMismatch { found, wanted: kind.name() });
        }
        let base_model = metadata.get("base_model").cloned();
        Ok(Self { kind, n_layers, adapter_len, n_channels, prompts, gates, base_model })
    }

    /// Reads what PEFT's `AdaptionPromptModel.save_pretrained` writes: the two files of its folder.
    ///
    /// PEFT itself loads a file with a wrong prefix or a missing gate without a word, and then answers as the base model;
    /// here every tensor must be there and no other.
    ///
    /// # Errors
    /// As [`AdapterFile::from_safetensors`], and a configuration of another PEFT method.
    pub fn from_peft(config: &[u8], weights: &[u8]) -> Result<Self, AdapterError> {
        let config: PeftConfig =
            serde_json::from_slice(config).map_err(|error| AdapterError::Config { reason: error.to_string() })?;
        if config.peft_type != "ADAPTION_PROMPT" {
            let reason = format!("peft_type is {:?}, this engine runs ADAPTION_PROMPT", config.peft_type);
            return Err(AdapterError::Config { reason });
        }
        if config.adapter_len == 0 || config.adapter_layers == 0 {
            let reason = format!(
                "adapter_len {} and adapter_layers {} must not be 0",
                config.adapter_len, config.adapter_layers
            );
            return Err(AdapterError::Config { reason });
        }
        let (file, _) = parse(weights)?;
        let mut layers = Vec::new();
        for name in file.names() {
            let layer = name
                .strip_prefix("base_model.model.model.layers.")
                .and_then(|rest| rest.split_once(".self_attn."))
                .filter(|(_, part)| ["adaption_prompt", "adaption_gate"].contains(part))
                .and_then(|(layer, _)| layer.parse::<u32>().ok());
            match layer {
                Some(layer) => layers.push(layer),
                None => return Err(AdapterError::Unknown { name: name.to_owned() }),
            }
        }
        layers.sort_unstable();
        layers.dedup();
        let first = layers.first().copied().unwrap_or(0);
        let wanted: Vec<u32> = (first..first.saturating_add(config.adapter_layers)).collect();
        if let Some(layer) = wanted.iter().find(|layer| !layers.contains(layer)) {
            return Err(missing(&file, &peft_name(*layer, "adaption_prompt")));
        }
        if layers.len() != wanted.len() {
            let reason = format!("adapter_layers is {}, the file holds {} layers", config.adapter_layers, layers.len());
            return Err(AdapterError::Config { reason });
        }
        let (mut prompts, mut gates, mut n_channels) = (Vec::new(), Vec::new(), 0);
        for layer in wanted {
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
        })
    }

    /// Whether prompts and gates have the sizes of a model.
    ///
    /// # Errors
    /// [`AdapterError::OtherModel`] with the first size that differs.
    pub fn check_fits(&self, config: &Config) -> Result<(), AdapterError> {
        let gate_width = self.gates.len() as u32 / self.n_layers.max(1);
        let adapter = self.base_model.clone().unwrap_or_else(|| {
            format!("{} layers, {} channels, {gate_width} gates a layer", self.n_layers, self.n_channels)
        });
        let other = |what, found, wanted: String| {
            let model = if config.name.is_empty() { "without a name".to_owned() } else { config.name.clone() };
            Err(AdapterError::OtherModel { adapter: adapter.clone(), model, what, found, wanted })
        };
        if self.n_channels != config.n_channels {
            return other("the number of channels", self.n_channels, config.n_channels.to_string());
        }
        if self.n_layers > config.n_layers {
            return other("the number of layers", self.n_layers, format!("at most {}", config.n_layers));
        }
        if self.kind.shape == GateShape::PerHead && gate_width != config.n_heads {
            return other("the number of heads", gate_width, config.n_heads.to_string());
        }
        Ok(())
    }

    /// Gates as the kernel takes them, `[L_a][H]`: `tanh` is taken here, in f64, because WGSL's may be off by 1e-5 and
    /// need not map 0 to 0.
    pub fn effective_gates(&self, n_heads: u32) -> Vec<Vec<f32>> {
        let width = self.gates.len() / self.n_layers.max(1) as usize;
        self.gates
            .chunks_exact(width.max(1))
            .map(|layer| {
                let activate = |gate: f32| match self.kind.activation {
                    GateActivation::None => gate,
                    GateActivation::Tanh => f64::from(gate).tanh() as f32,
                };
                (0..n_heads as usize).map(|head| activate(layer[if width == 1 { 0 } else { head }])).collect()
            })
            .collect()
    }
}

fn peft_name(layer: u32, part: &str) -> String {
    format!("base_model.model.model.layers.{layer}.self_attn.{part}")
}

type Metadata = std::collections::HashMap<String, String>;

fn parse(bytes: &[u8]) -> Result<(SafeTensors<'_>, Metadata), AdapterError> {
    let wrong = |error: safetensors::SafeTensorError| AdapterError::NotSafetensors { reason: error.to_string() };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok((SafeTensors::deserialize(bytes).map_err(wrong)?, metadata))
}

fn view<'a>(file: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>, AdapterError> {
    file.tensor(name).map_err(|_| missing(file, name))
}

fn missing(file: &SafeTensors<'_>, name: &str) -> AdapterError {
    let mut found = file.names().iter().take(3).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if found.is_empty() {
        found.push_str("nothing");
    }
    AdapterError::Missing { name: name.to_owned(), found }
}

fn wrong_shape(file: &SafeTensors<'_>, name: &str, wanted: String) -> AdapterError {
    let found = file.tensor(name).map_or_else(|_| "missing".into(), |v| format!("{:?} {:?}", v.dtype(), v.shape()));
    AdapterError::Shape { name: name.to_owned(), found, wanted }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<f32>, Vec<usize>), AdapterError> {
    let tensor = view(file, name)?;
    let data = tensor.data();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => bytemuck::pod_collect_to_vec(data),
        Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => return Err(wrong_shape(file, name, "F32, F16 or BF16".to_owned())),
    };
    let count = values.iter().filter(|value| !value.is_finite()).count();
    if count > 0 {
        return Err(AdapterError::NotFinite { name: name.to_owned(), count });
    }
    Ok((values, tensor.shape().to_vec()))
}

fn dims<const N: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
    wanted: &str,
) -> Result<[u32; N], AdapterError> {
    let dims: Option<Vec<u32>> =
        shape.iter().map(|dim| u32::try_from(*dim).ok().filter(|dim| (1..1 << 24).contains(dim))).collect();
    dims.and_then(|dims| dims.try_into().ok()).ok_or_else(|| wrong_shape(file, name, wanted.to_owned()))
}
