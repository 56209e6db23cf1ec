//! Sizes of a model, from its metadata.

use super::architecture::Architecture;
use super::loader::{Halves, read_floats};
use crate::Error;
use crate::formats::adapter_tensors::lone_adapter;
use crate::formats::{Gguf, ReadAt};
use crate::ops::heads::Heads;
use crate::ops::rope::{Rope, Scaling};

/// Most layers a model may have.
const MAX_LAYERS: u32 = 512;
/// Most ids a vocabulary may have.
const MAX_VOCAB: u64 = 1 << 20;
/// Widest layer; keeps every index of a kernel far inside 32 bits.
const MAX_WIDTH: u32 = 1 << 17;

const EPS_KEY: &str = "attention.layer_norm_rms_epsilon";

/// Sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its family.
    pub architecture: &'static Architecture,
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

    /// The heads of q and k in a file whose rotation pairs are halves.
    pub(super) fn halves(&self) -> Halves {
        Halves { head_dim: self.head_dim, n_rot: self.rope.n_rot }
    }

    /// Weights of one block's products: as many multiplications a token.
    pub(crate) fn block_weights(&self) -> u64 {
        let (channels, heads) = (u64::from(self.n_channels), self.heads());
        channels * u64::from(heads.qkv_width() + heads.n_heads * heads.head_dim + 3 * self.n_ffn)
    }

    /// Reads the sizes and checks that they fit each other and the kernels.
    ///
    /// # Errors
    /// Another architecture, missing or contradicting metadata, or a feature the engine does not run; each by name.
    pub fn from_gguf(gguf: &Gguf, source: &dyn ReadAt) -> Result<Self, Error> {
        if let Some(method) = lone_adapter(gguf)? {
            return Err(Error::NotAModel { method: method.chars().take(64).collect() });
        }
        let meta = &gguf.metadata;
        let architecture = Architecture::find(meta.str("general.architecture")?)?;
        let bounded = |name: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                return Ok(value);
            }
            let field = architecture.key(name);
            Err(Error::Config { field, found: value.to_string(), wanted: format!("{low} to {high}") })
        };
        let size = |name: &str, high: u32| bounded(name, meta.u32(&architecture.key(name))?, 1, high);
        let optional =
            |name: &str| -> Result<Option<u32>, Error> { Ok(meta.optional::<u32>(&architecture.key(name))?) };

        if let Some(experts) = optional("expert_count")?
            && experts > 0
        {
            return Err(Error::Unsupported { what: format!("a mixture of {experts} experts") });
        }
        let n_layers = size("block_count", MAX_LAYERS)?;
        let n_channels = size("embedding_length", MAX_WIDTH)?;
        let n_ffn = size("feed_forward_length", MAX_WIDTH)?;
        let n_heads = size("attention.head_count", 1024)?;
        let n_kv_heads = match optional("attention.head_count_kv")? {
            Some(value) => bounded("attention.head_count_kv", value, 1, n_heads)?,
            None => n_heads,
        };
        let head_dim = match optional("attention.key_length")? {
            Some(value) => value,
            None => n_channels / n_heads,
        };
        let wrong = |name: &str, found: u32, wanted: &str| {
            let field = architecture.key(name);
            Err(Error::Config { field, found: found.to_string(), wanted: wanted.to_owned() })
        };
        if !n_heads.is_multiple_of(n_kv_heads) {
            return wrong("attention.head_count_kv", n_kv_heads, &format!("a divisor of the {n_heads} heads"));
        }
        if !(4..=256).contains(&head_dim) || !head_dim.is_multiple_of(4) {
            return wrong("attention.key_length", head_dim, "a multiple of 4 from 4 to 256");
        }
        if let Some(value) = optional("attention.value_length")?
            && value != head_dim
        {
            return wrong("attention.value_length", value, &format!("the key length, {head_dim}"));
        }
        for (field, width) in [
            ("embedding_length", n_channels),
            ("feed_forward_length", n_ffn),
            ("attention.head_count", n_heads * head_dim),
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
        let eps = meta.f32(&architecture.key(EPS_KEY))?;
        if !(eps.is_finite() && (0.0..1.0).contains(&eps)) {
            return Err(Error::Config {
                field: architecture.key(EPS_KEY),
                found: eps.to_string(),
                wanted: "from 0 to 1".to_owned(),
            });
        }
        Ok(Self {
            architecture,
            name: meta.optional::<&str>("general.name")?.unwrap_or_default().to_owned(),
            n_layers,
            n_channels,
            n_heads,
            n_kv_heads,
            head_dim,
            n_ffn,
            n_vocab: n_vocab as u32,
            n_context: size("context_length", u32::MAX / 2)?,
            eps,
            rope: rope_of(architecture, gguf, source, head_dim)?,
            tied: gguf.find_tensor("output.weight").is_none(),
        })
    }
}

fn rope_of(architecture: &Architecture, gguf: &Gguf, source: &dyn ReadAt, head_dim: u32) -> Result<Rope, Error> {
    let meta = &gguf.metadata;
    let positive = |name: &str, default: Option<f64>| -> Result<f64, Error> {
        let key = architecture.key(name);
        let value = match (meta.optional::<f32>(&key)?, default) {
            (Some(value), _) => f64::from(value),
            (None, Some(default)) => default,
            (None, None) => f64::from(meta.f32(&key)?),
        };
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        Err(Error::Config { field: key, found: value.to_string(), wanted: "a positive number".to_owned() })
    };
    let n_rot = meta.optional::<u32>(&architecture.key("rope.dimension_count"))?.unwrap_or(head_dim);
    if n_rot == 0 || n_rot > head_dim || !n_rot.is_multiple_of(2) {
        return Err(Error::Config {
            field: architecture.key("rope.dimension_count"),
            found: n_rot.to_string(),
            wanted: format!("even, at most the head's {head_dim} channels"),
        });
    }
    let theta = positive("rope.freq_base", Some(10_000.0))?;
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
        let legacy = meta.optional::<f32>(&architecture.key("rope.scale_linear"))?.map(f64::from);
        match meta.optional::<&str>(&architecture.key("rope.scaling.type"))? {
            None if legacy.is_some_and(|factor| factor > 0.0) => Scaling::Linear { factor: legacy.unwrap_or(1.0) },
            None | Some("none") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: positive("rope.scaling.factor", legacy)? },
            Some("llama3") => Scaling::Llama3 {
                factor: positive("rope.scaling.factor", None)?,
                low_freq_factor: positive("rope.scaling.low_freq_factor", Some(1.0))?,
                high_freq_factor: positive("rope.scaling.high_freq_factor", Some(4.0))?,
                original_context: positive("rope.scaling.original_context_length", Some(8192.0))?,
            },
            Some(other) => return Err(Error::Unsupported { what: format!("rope scaling {other:?}") }),
        }
    };
    Ok(Rope { head_dim, n_rot, theta, scaling })
}

/// N, where the file says it: `block_count` of its own family, also of one that does not run.
///
/// # Errors
/// A value of another type.
pub fn block_count(gguf: &Gguf) -> Result<Option<u32>, Error> {
    match gguf.metadata.optional::<&str>("general.architecture")? {
        Some(name) => Ok(gguf.metadata.optional::<u32>(&format!("{name}.block_count"))?),
        None => Ok(None),
    }
}

/// N: layers of the model in a file.
///
/// # Errors
/// A file that does not say it.
pub fn n_layers(gguf: &Gguf) -> Result<u32, Error> {
    Ok(gguf.metadata.u32(&format!("{}.block_count", gguf.metadata.str("general.architecture")?))?)
}
