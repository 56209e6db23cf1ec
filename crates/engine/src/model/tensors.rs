//! The tensors of a model, in one table: it drives the load, the refusal of tensors nobody computes with, the count of bytes,
//! and the programs that make or read a whole model.

use super::config::Config;
use super::loader::matrix_bytes;
use crate::Error;
use crate::formats::adapter_tensors::{is_adapter_tensor, layer_number, part_of};
use crate::formats::{Gguf, TensorInfo};

/// A dimension of a tensor, by the size it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// C
    Channels,
    /// H D
    Queries,
    /// K D
    KeyValues,
    /// D
    Head,
    /// F
    Ffn,
    /// V
    Vocab,
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A product's weights: quantized, in tiles.
    Matrix,
    /// Weights of a norm, a bias: f32.
    Vector,
    /// Read with the metadata, or left out: old converters wrote the frequencies of rope, which follow from the metadata.
    Unused,
}

/// When a model has a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// The output head is a matrix of its own.
    Untied,
    /// The family adds a bias to q, k and v.
    Biased,
    /// The family norms each head of q and k.
    HeadNormed,
    /// It may be there.
    Perhaps,
}

/// A tensor as GGUF names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Its name; in a block what follows `blk.N.`.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// Its shape, innermost first.
    pub shape: &'static [Dim],
    when: When,
}

const fn spec(name: &'static str, role: Role, shape: &'static [Dim], when: When) -> Spec {
    Spec { name, role, shape, when }
}

use Dim::{Channels as C, Ffn as F, Head as D, KeyValues as KD, Queries as HD, Vocab as V};
use Role::{Matrix, Unused, Vector};
use When::{Always, Biased, HeadNormed, Perhaps, Untied};

/// Those beside the blocks, the embedding first.
const TOP: &[Spec] = &[
    spec("token_embd.weight", Matrix, &[C, V], Always),
    spec("output_norm.weight", Vector, &[C], Always),
    spec("output.weight", Matrix, &[C, V], Untied),
    spec("rope_freqs.weight", Unused, &[], Perhaps),
];

/// Those of each block.
const BLOCK: &[Spec] = &[
    spec("attn_norm.weight", Vector, &[C], Always),
    spec("attn_q.weight", Matrix, &[C, HD], Always),
    spec("attn_k.weight", Matrix, &[C, KD], Always),
    spec("attn_v.weight", Matrix, &[C, KD], Always),
    spec("attn_q.bias", Vector, &[HD], Biased),
    spec("attn_k.bias", Vector, &[KD], Biased),
    spec("attn_v.bias", Vector, &[KD], Biased),
    spec("attn_q_norm.weight", Vector, &[D], HeadNormed),
    spec("attn_k_norm.weight", Vector, &[D], HeadNormed),
    spec("attn_output.weight", Matrix, &[HD, C], Always),
    spec("ffn_norm.weight", Vector, &[C], Always),
    spec("ffn_gate.weight", Matrix, &[C, F], Always),
    spec("ffn_up.weight", Matrix, &[C, F], Always),
    spec("ffn_down.weight", Matrix, &[F, C], Always),
    spec("attn_rot_embd.weight", Unused, &[], Perhaps),
    spec("rope_freqs.weight", Unused, &[], Perhaps),
];

impl Spec {
    fn is_in(&self, config: &Config) -> bool {
        match self.when {
            Always => true,
            Untied => !config.tied,
            Biased => config.architecture.qkv_bias,
            HeadNormed => config.architecture.head_norm,
            Perhaps => false,
        }
    }

    fn may_be_in(&self, config: &Config) -> bool {
        self.when == Perhaps || self.is_in(config)
    }

    /// The shape in a model of these sizes.
    pub fn shape_in(&self, config: &Config) -> Vec<u64> {
        let width = |dim: &Dim| match dim {
            C => config.n_channels,
            HD => config.n_heads * config.head_dim,
            KD => config.n_kv_heads * config.head_dim,
            D => config.head_dim,
            F => config.n_ffn,
            V => config.n_vocab,
        };
        self.shape.iter().map(|dim| u64::from(width(dim))).collect()
    }
}

/// Every tensor that a model of these sizes has, from its input to its output: its name and what the table says about it.
pub fn of(config: &Config) -> impl Iterator<Item = (String, &'static Spec)> {
    let within = |specs: &'static [Spec]| specs.iter().filter(|spec| spec.is_in(config));
    let top = |specs: &'static [Spec]| within(specs).map(|spec| (spec.name.to_owned(), spec));
    let block = move |layer| within(BLOCK).map(move |spec| (format!("blk.{layer}.{}", spec.name), spec));
    let (input, output) = TOP.split_at(1);
    top(input).chain((0..config.n_layers).flat_map(block)).chain(top(output))
}

/// The layer a tensor belongs to, if it does, and what the table says about it.
fn find(name: &str) -> Option<(Option<u32>, &'static Spec)> {
    let (layer, rest, specs) = match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) => (Some(layer_number(layer)?), rest, BLOCK),
        None => (None, name, TOP),
    };
    specs.iter().find(|spec| spec.name == rest).map(|spec| (layer, spec))
}

/// The tensors of a file that is a model of these sizes.
#[derive(Clone, Copy)]
pub struct Tensors<'a> {
    gguf: &'a Gguf,
    config: &'a Config,
}

impl<'a> Tensors<'a> {
    /// Refuses a file with a tensor nobody computes with: a second norm, a bias in a family without one would change the answers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the tensor's name.
    pub fn new(gguf: &'a Gguf, config: &'a Config) -> Result<Self, Error> {
        let unknown = gguf.tensors().iter().map(|tensor| tensor.name.as_str()).find(|name| {
            let fits = |(layer, spec): (Option<u32>, &Spec)| {
                layer.is_none_or(|layer| layer < config.n_layers) && spec.may_be_in(config)
            };
            let of_adapter = || {
                let layer = part_of(name).map(|(layer, _)| layer);
                layer.is_some_and(|layer| layer < config.n_layers)
            };
            !(find(name).is_some_and(fits) || of_adapter())
        });
        match unknown {
            Some(name) => Err(Error::Unsupported { what: format!("the tensor {name:?}") }),
            None => Ok(Self { gguf, config }),
        }
    }

    /// The model's sizes.
    pub fn config(&self) -> &'a Config {
        self.config
    }

    /// A tensor beside the blocks, its shape checked.
    ///
    /// # Errors
    /// It is missing, or of another shape.
    pub fn top(&self, name: &str) -> Result<&'a TensorInfo, Error> {
        self.get(name)
    }

    /// A tensor of a block, its shape checked.
    ///
    /// # Errors
    /// It is missing, or of another shape.
    pub fn block(&self, layer: u32, name: &str) -> Result<&'a TensorInfo, Error> {
        self.get(&format!("blk.{layer}.{name}"))
    }

    fn get(&self, name: &str) -> Result<&'a TensorInfo, Error> {
        let tensor = self.gguf.tensor(name)?;
        let wanted = find(name).map(|(_, spec)| spec.shape_in(self.config)).unwrap_or_default();
        // Ones at the end of a shape mean nothing.
        let trimmed = tensor.shape.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1);
        if tensor.shape[..trimmed.max(wanted.len()).min(tensor.shape.len())] != wanted {
            return Err(Error::TensorShape {
                name: tensor.name.clone(),
                found: tensor.shape.clone(),
                wanted: format!("{wanted:?}"),
            });
        }
        Ok(tensor)
    }

    /// Bytes of the model's tensors in the file, an adapter's not counted.
    pub fn file_bytes(&self) -> u64 {
        let own = self.gguf.tensors().iter().filter(|tensor| !is_adapter_tensor(&tensor.name));
        own.map(|tensor| tensor.size_bytes).sum()
    }
}

/// Bytes that the weights of a model take on the GPU, from its header alone.
///
/// # Errors
/// A tensor in a format without a kernel, or with rows that are not whole blocks.
pub fn weight_bytes(gguf: &Gguf) -> Result<u64, Error> {
    let mut total = 0u64;
    for tensor in gguf.tensors().iter().filter(|tensor| !is_adapter_tensor(&tensor.name)) {
        total = total.saturating_add(match find(&tensor.name).map_or(Matrix, |(_, spec)| spec.role) {
            Matrix => matrix_bytes(tensor)?,
            Vector => tensor.elements().saturating_mul(4),
            Unused => 0,
        });
    }
    Ok(total)
}
