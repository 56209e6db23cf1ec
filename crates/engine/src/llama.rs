//! The model: sizes from the metadata, weights on the GPU.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::Error;
use crate::adapter::{is_adapter_tensor, layer_number, refuse_adapter};
use crate::formats::{Gguf, ReadAt, TensorInfo};
use crate::gpu::{Buffer, Gpu};
use crate::layers::block::{Block, GateUp, qkv_width};
use crate::ops::attention::Heads;
use crate::ops::matmul::Matrix;
use crate::ops::rope::{Rope, Scaling};
use crate::weights::{Loader, Order, matrix_bytes, read_floats};

/// Most layers a model may have.
const MAX_LAYERS: u32 = 512;
/// Most ids a vocabulary may have.
const MAX_VOCAB: u64 = 1 << 20;
/// Widest layer; keeps every index of a kernel far inside 32 bits.
const MAX_WIDTH: u32 = 1 << 17;

/// Sizes of a LLaMA.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `general.name`, or empty.
    pub name: String,
    /// N: blocks.
    pub n_layers: u32,
    /// C: channels of the residual stream.
    pub n_channels: u32,
    /// H: query heads.
    pub n_heads: u32,
    /// K: key and value heads.
    pub n_kv_heads: u32,
    /// D: channels of a head.
    pub head_dim: u32,
    /// F: width of the MLP.
    pub n_ffn: u32,
    /// V: ids.
    pub n_vocab: u32,
    /// Positions the model was trained for.
    pub n_context: u32,
    /// Added under the root of the norms.
    pub eps: f32,
    /// Angles.
    pub rope: Rope,
    /// The output head is the embedding table.
    pub tied: bool,
}

impl Config {
    /// The attention heads.
    pub fn heads(&self) -> Heads {
        Heads { n_heads: self.n_heads, n_kv_heads: self.n_kv_heads, head_dim: self.head_dim }
    }

    /// Weights of one block's products: as many multiplications a token.
    pub(crate) fn block_weights(&self) -> u64 {
        let (channels, heads) = (u64::from(self.n_channels), self.heads());
        channels * u64::from(qkv_width(heads) + heads.n_heads * heads.head_dim + 3 * self.n_ffn)
    }

    /// Reads the sizes and checks that they fit each other and the kernels.
    ///
    /// # Errors
    /// Another architecture, missing or contradicting metadata, or a feature the engine does not run; each by name.
    pub fn from_gguf(gguf: &Gguf, source: &dyn ReadAt) -> Result<Self, Error> {
        refuse_adapter(gguf)?;
        let meta = &gguf.metadata;
        let architecture = meta.str("general.architecture")?;
        if architecture != "llama" {
            return Err(Error::WrongArchitecture { found: architecture.to_owned() });
        }
        let bounded = |key: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                return Ok(value);
            }
            Err(Error::Config { field: key.to_owned(), found: value.to_string(), wanted: format!("{low} to {high}") })
        };
        let size = |key: &str, high: u32| bounded(key, meta.u32(key)?, 1, high);
        let optional = |key: &str| -> Result<Option<u32>, Error> { Ok(meta.optional::<u32>(key)?) };

        if let Some(experts) = optional("llama.expert_count")?
            && experts > 0
        {
            return Err(Error::Unsupported { what: format!("a mixture of {experts} experts") });
        }
        let n_layers = size("llama.block_count", MAX_LAYERS)?;
        let n_channels = size("llama.embedding_length", MAX_WIDTH)?;
        let n_ffn = size("llama.feed_forward_length", MAX_WIDTH)?;
        let n_heads = size("llama.attention.head_count", 1024)?;
        let n_kv_heads = match optional("llama.attention.head_count_kv")? {
            Some(value) => bounded("llama.attention.head_count_kv", value, 1, n_heads)?,
            None => n_heads,
        };
        let head_dim = match optional("llama.attention.key_length")? {
            Some(value) => value,
            None => n_channels / n_heads,
        };
        let wrong = |field: &str, found: u32, wanted: &str| {
            Err(Error::Config { field: field.to_owned(), found: found.to_string(), wanted: wanted.to_owned() })
        };
        if !n_heads.is_multiple_of(n_kv_heads) {
            return wrong("llama.attention.head_count_kv", n_kv_heads, &format!("a divisor of the {n_heads} heads"));
        }
        if !(4..=256).contains(&head_dim) || !head_dim.is_multiple_of(4) {
            return wrong("llama.attention.key_length", head_dim, "a multiple of 4 from 4 to 256");
        }
        if let Some(value) = optional("llama.attention.value_length")?
            && value != head_dim
        {
            return wrong("llama.attention.value_length", value, &format!("the key length, {head_dim}"));
        }
        for (field, width) in [
            ("llama.embedding_length", n_channels),
            ("llama.feed_forward_length", n_ffn),
            ("llama.attention.head_count", n_heads * head_dim),
        ] {
            if !width.is_multiple_of(32) {
                return wrong(field, width, "of a width that is a multiple of 32");
            }
        }
        let embedding = gguf.tensor("token_embd.weight")?;
        let n_vocab = embedding.rows();
        if n_vocab > MAX_VOCAB {
            return Err(Error::Config {
                field: "token_embd.weight".to_owned(),
                found: n_vocab.to_string(),
                wanted: format!("at most {MAX_VOCAB} rows"),
            });
        }
        let eps = meta.f32("llama.attention.layer_norm_rms_epsilon")?;
        if !(eps.is_finite() && (0.0..1.0).contains(&eps)) {
            return Err(Error::Config {
                field: "llama.attention.layer_norm_rms_epsilon".to_owned(),
                found: eps.to_string(),
                wanted: "from 0 to 1".to_owned(),
            });
        }
        Ok(Self {
            name: meta.optional::<&str>("general.name")?.unwrap_or_default().to_owned(),
            n_layers,
            n_channels,
            n_heads,
            n_kv_heads,
            head_dim,
            n_ffn,
            n_vocab: n_vocab as u32,
            n_context: size("llama.context_length", u32::MAX / 2)?,
            eps,
            rope: rope_of(gguf, source, head_dim)?,
            tied: gguf.find_tensor("output.weight").is_none(),
        })
    }
}

fn rope_of(gguf: &Gguf, source: &dyn ReadAt, head_dim: u32) -> Result<Rope, Error> {
    let meta = &gguf.metadata;
    let positive = |key: &str, default: Option<f64>| -> Result<f64, Error> {
        let value = match (meta.optional::<f32>(key)?, default) {
            (Some(value), _) => f64::from(value),
            (None, Some(default)) => default,
            (None, None) => f64::from(meta.f32(key)?),
        };
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        Err(Error::Config { field: key.to_owned(), found: value.to_string(), wanted: "a positive number".to_owned() })
    };
    let n_rot = meta.optional::<u32>("llama.rope.dimension_count")?.unwrap_or(head_dim);
    if n_rot == 0 || n_rot > head_dim || !n_rot.is_multiple_of(2) {
        return Err(Error::Config {
            field: "llama.rope.dimension_count".to_owned(),
            found: n_rot.to_string(),
            wanted: format!("even, at most the head's {head_dim} channels"),
        });
    }
    let theta = positive("llama.rope.freq_base", Some(10_000.0))?;
    let scaling = if let Some(tensor) = gguf.find_tensor("rope_freqs.weight") {
        let factors = read_floats(source, tensor)?;
        if factors.len() != n_rot as usize / 2 || factors.iter().any(|factor| !(factor.is_finite() && *factor > 0.0)) {
            return Err(Error::TensorShape {
                name: tensor.name.clone(),
                found: tensor.shape.clone(),
                wanted: format!("{} positive factors", n_rot / 2),
            });
        }
        Scaling::Factors(factors)
    } else {
        let legacy = meta.optional::<f32>("llama.rope.scale_linear")?.map(f64::from);
        match meta.optional::<&str>("llama.rope.scaling.type")? {
            None if legacy.is_some_and(|factor| factor > 0.0) => Scaling::Linear { factor: legacy.unwrap_or(1.0) },
            None | Some("none") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: positive("llama.rope.scaling.factor", legacy)? },
            Some("llama3") => Scaling::Llama3 {
                factor: positive("llama.rope.scaling.factor", None)?,
                low_freq_factor: positive("llama.rope.scaling.low_freq_factor", Some(1.0))?,
                high_freq_factor: positive("llama.rope.scaling.high_freq_factor", Some(4.0))?,
                original_context: positive("llama.rope.scaling.original_context_length", Some(8192.0))?,
            },
            Some(other) => return Err(Error::Unsupported { what: format!("rope scaling {other:?}") }),
        }
    };
    Ok(Rope { head_dim, n_rot, theta, scaling })
}

/// Bytes that the weights of a model take on the GPU, from its header alone.
///
/// # Errors
/// A tensor in a format without a kernel, or with rows that are not whole blocks.
pub fn weight_bytes(gguf: &Gguf) -> Result<u64, Error> {
    let on_gpu = |name: &str| {
        !(is_adapter_tensor(name) || name.ends_with("rope_freqs.weight") || name.ends_with("attn_rot_embd.weight"))
    };
    let mut total = 0u64;
    for tensor in gguf.tensors().iter().filter(|tensor| on_gpu(&tensor.name)) {
        total = total.saturating_add(match tensor.name.ends_with("norm.weight") {
            true => tensor.elements().saturating_mul(4),
            false => matrix_bytes(tensor)?,
        });
    }
    Ok(total)
}

/// A model on the GPU. Cloning is cheap and shares the weights.
#[derive(Debug, Clone)]
pub struct Model(pub(crate) Arc<Loaded>);

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) gpu: Gpu,
    pub(crate) config: Config,
    pub(crate) embedding: Matrix,
    pub(crate) blocks: Vec<Block>,
    pub(crate) output_norm: Buffer,
    pub(crate) output: Option<Matrix>,
    damaged: Vec<(String, u64)>,
}

impl Model {
    /// Streams the weights of `gguf` from `source` to the GPU. An adapter in the same file is left out:
    /// [`AdapterFile::from_gguf`](crate::adapter::AdapterFile::from_gguf) reads it.
    ///
    /// `progress` is told the bytes loaded so far and in all, and may stop the load.
    ///
    /// # Errors
    /// Everything that [`Config::from_gguf`] refuses, missing or misshapen tensors, tensors a LLaMA does not have, too
    /// little memory, a file that changed, or [`Error::Cancelled`].
    pub fn load(
        gpu: &Gpu,
        gguf: &Gguf,
        source: &dyn ReadAt,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let config = Config::from_gguf(gguf, source)?;
        let tensors = Tensors { gguf, config: &config };
        tensors.refuse_unknown()?;
        let weights = gguf.tensors().iter().filter(|tensor| !is_adapter_tensor(&tensor.name));
        let total_bytes = weights.map(|tensor| tensor.size_bytes).sum();
        let mut loader = Loader::new(gpu, source, total_bytes, progress);
        let (c, f) = (u64::from(config.n_channels), u64::from(config.n_ffn));
        let q_width = u64::from(config.n_heads * config.head_dim);
        let kv_width = u64::from(config.n_kv_heads * config.head_dim);
        let v = u64::from(config.n_vocab);

        let embedding = loader.matrix(&[tensors.get("token_embd", &[c, v])?], Order::Stacked)?;
        let mut blocks = Vec::with_capacity(config.n_layers as usize);
        for layer in 0..config.n_layers {
            let tensor = |name: &str, shape: &[u64]| tensors.get(&format!("blk.{layer}.{name}"), shape);
            let attention_norm = loader.vector(tensor("attn_norm", &[c])?)?;
            let qkv = loader.matrix(
                &[
                    tensor("attn_q", &[c, q_width])?,
                    tensor("attn_k", &[c, kv_width])?,
                    tensor("attn_v", &[c, kv_width])?,
                ],
                Order::Stacked,
            )?;
            let output = loader.matrix(&[tensor("attn_output", &[q_width, c])?], Order::Stacked)?;
            let mlp_norm = loader.vector(tensor("ffn_norm", &[c])?)?;
            let (gate, up) = (tensor("ffn_gate", &[c, f])?, tensor("ffn_up", &[c, f])?);
            let gate_up = if gate.tensor_type == up.tensor_type {
                GateUp::Fused(loader.matrix(&[gate, up], Order::Alternating)?)
            } else {
                GateUp::Apart {
                    gate: loader.matrix(&[gate], Order::Stacked)?,
                    up: loader.matrix(&[up], Order::Stacked)?,
                }
            };
            let down = loader.matrix(&[tensor("ffn_down", &[f, c])?], Order::Stacked)?;
            blocks.push(Block { attention_norm, qkv, output, mlp_norm, gate_up, down });
        }
        let output_norm = loader.vector(tensors.get("output_norm", &[c])?)?;
        let output = match config.tied {
            true => None,
            false => Some(loader.matrix(&[tensors.get("output", &[c, v])?], Order::Stacked)?),
        };
        let damaged = std::mem::take(&mut loader.damaged);
        gpu.submit(gpu.encoder());
        gpu.wait()?;
        let gpu = gpu.clone();
        Ok(Self(Arc::new(Loaded { gpu, config, embedding, blocks, output_norm, output, damaged })))
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The GPU it lies on.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// Tensors with scales that are not finite, and how many: such a file computes nonsense.
    pub fn damaged_tensors(&self) -> &[(String, u64)] {
        &self.0.damaged
    }
}

impl Loaded {
    /// The matrix of the output head.
    pub(crate) fn head(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

struct Tensors<'a> {
    gguf: &'a Gguf,
    config: &'a Config,
}

impl<'a> Tensors<'a> {
    fn get(&self, name: &str, shape: &[u64]) -> Result<&'a TensorInfo, Error> {
        let tensor = self.gguf.tensor(&format!("{name}.weight"))?;
        let trimmed = tensor.shape.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1);
        if tensor.shape[..trimmed.max(shape.len()).min(tensor.shape.len())] != *shape {
            return Err(Error::TensorShape {
                name: tensor.name.clone(),
                found: tensor.shape.clone(),
                wanted: format!("{shape:?}"),
            });
        }
        Ok(tensor)
    }

    /// A tensor nobody computes with (a bias, a second norm) would change the answers: better to say so.
    fn refuse_unknown(&self) -> Result<(), Error> {
        const TOP: [&str; 4] = ["token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"];
        const BLOCK: [&str; 9] = [
            "attn_norm.weight",
            "attn_q.weight",
            "attn_k.weight",
            "attn_v.weight",
            "attn_output.weight",
            "ffn_norm.weight",
            "ffn_gate.weight",
            "ffn_up.weight",
            "ffn_down.weight",
        ];
        // Old converters wrote the frequencies of rope, which follow from the metadata.
        const IGNORED: [&str; 2] = ["attn_rot_embd.weight", "rope_freqs.weight"];
        for tensor in self.gguf.tensors() {
            let name = tensor.name.as_str();
            let known = TOP.contains(&name)
                || name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).is_some_and(|(layer, rest)| {
                    layer_number(layer).is_some_and(|layer| layer < self.config.n_layers)
                        && (BLOCK.contains(&rest) || IGNORED.contains(&rest) || is_adapter_tensor(name))
                });
            if !known {
                return Err(Error::Unsupported { what: format!("the tensor {name:?}") });
            }
        }
        Ok(())
    }
}
