//! Sizes of a model and its weights by their names in GGUF.

use std::collections::BTreeMap;

use crate::attention::Heads;
use crate::rope::Rope;
use crate::{Error, dequantize, widen};

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// L
    pub n_layers: usize,
    /// C
    pub n_channels: usize,
    /// H
    pub n_heads: usize,
    /// K
    pub n_kv_heads: usize,
    /// D
    pub head_dim: usize,
    /// F
    pub n_ffn: usize,
    /// V
    pub n_vocab: usize,
    /// Added under the root of each norm.
    pub eps: f64,
    /// The rotation of q and k.
    pub rope: Rope,
    /// Whether the pairs that rotate are halves of a head (ggml's NEOX: Qwen2) and not neighbours (its NORM: LLaMA).
    pub halves: bool,
}

impl Config {
    /// H, K and D together.
    pub fn heads(&self) -> Heads {
        Heads { n_heads: self.n_heads, n_kv_heads: self.n_kv_heads, head_dim: self.head_dim }
    }
}

/// Weights by name: `token_embd.weight`, `output_norm.weight`, `output.weight` (without it the embedding is used: tied), and
/// of each block `blk.<i>.` with `attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down` + `.weight`, or
/// `.bias` where there is one, and `attn_q_norm`, `attn_k_norm` where each head is normed. Matrices are [out, in], the rows of q and k in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    by_name: BTreeMap<String, Vec<f64>>,
}

impl Weights {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a weight, or replaces it.
    pub fn insert(&mut self, name: impl Into<String>, values: Vec<f64>) {
        self.by_name.insert(name.into(), values);
    }

    /// Adds a weight from the bytes of a GGUF tensor.
    ///
    /// # Errors
    /// See [`dequantize::dequantize`].
    pub fn insert_quantized(&mut self, name: impl Into<String>, ggml_type: u32, bytes: &[u8]) -> Result<(), Error> {
        self.insert(name, widen(&dequantize::dequantize(ggml_type, bytes)?));
        Ok(())
    }

    /// Whether the model has all it needs, in the right lengths.
    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        let Config { n_layers, n_channels: c, n_heads, n_kv_heads, head_dim, n_ffn: f, n_vocab, .. } = *config;
        if n_kv_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
            return Err(Error::Length {
                what: "a group of query heads".to_owned(),
                found: n_heads,
                wanted: n_kv_heads,
            });
        }
        for (what, size) in [("channels", c), ("head_dim", head_dim), ("ffn", f), ("vocabulary", n_vocab)] {
            if size == 0 {
                return Err(Error::Length { what: what.to_owned(), found: 0, wanted: 1 });
            }
        }
        if config.rope.n_rot > head_dim || !config.rope.n_rot.is_multiple_of(2) {
            return Err(Error::Range {
                what: "rotated channels (even)",
                found: config.rope.n_rot,
                limit: head_dim + 1,
            });
        }
        let (width, kv_width) = (n_heads * head_dim, n_kv_heads * head_dim);
        let matrices = [
            ("attn_q", width, c),
            ("attn_k", kv_width, c),
            ("attn_v", kv_width, c),
            ("attn_output", c, width),
            ("ffn_gate", f, c),
            ("ffn_up", f, c),
            ("ffn_down", c, f),
        ];
        self.check_one("token_embd.weight", n_vocab * c)?;
        self.check_one("output_norm.weight", c)?;
        if self.by_name.contains_key("output.weight") {
            self.check_one("output.weight", n_vocab * c)?;
        }
        for i in 0..n_layers {
            self.check_one(&format!("blk.{i}.attn_norm.weight"), c)?;
            self.check_one(&format!("blk.{i}.ffn_norm.weight"), c)?;
            for name in ["attn_q_norm", "attn_k_norm"].map(|name| format!("blk.{i}.{name}.weight")) {
                if self.by_name.contains_key(&name) {
                    self.check_one(&name, head_dim)?;
                }
            }
            for (name, n_out, n_in) in matrices {
                self.check_one(&format!("blk.{i}.{name}.weight"), n_out * n_in)?;
                let bias = format!("blk.{i}.{name}.bias");
                if self.by_name.contains_key(&bias) {
                    self.check_one(&bias, n_out)?;
                }
            }
        }
        Ok(())
    }

    fn check_one(&self, name: &str, wanted: usize) -> Result<(), Error> {
        match self.by_name.get(name) {
            None => Err(Error::MissingWeight { name: name.to_owned() }),
            Some(values) if values.len() != wanted => {
                Err(Error::Length { what: name.to_owned(), found: values.len(), wanted })
            }
            Some(_) => Ok(()),
        }
    }

    /// A weight by name; empty if there is none, which `check` has ruled out for all but biases.
    pub(super) fn get(&self, name: &str) -> &[f64] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// `blk.<i>.<name>`
    pub(super) fn block(&self, i: usize, name: &str) -> &[f64] {
        self.get(&format!("blk.{i}.{name}"))
    }

    /// The matrix that makes logits, [V, C].
    pub(super) fn output(&self) -> &[f64] {
        match self.get("output.weight") {
            [] => self.get("token_embd.weight"),
            weight => weight,
        }
    }
}
