//! The adapter: prompts and gates of the last `L_a` layers. Shapes: `prompts: [L_a, A, C]`, `gates: [L_a, H]` or `[L_a, 1]`.
//!
//! Source: Zhang et al. 2023, arXiv:2303.16199, sections 3.1 and 3.2.

use crate::Error;

/// How a stored gate becomes the strength of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateKind {
    /// One a head, strength tanh(gate): the paper and its training code.
    Paper,
    /// One a head, strength gate: the paper's first version.
    Linear,
    /// One a layer, strength gate: PEFT's `AdaptionPrompt`.
    Peft,
}

impl GateKind {
    /// Gates of one layer.
    pub fn gates_per_layer(self, n_heads: usize) -> usize {
        if self == Self::Peft { 1 } else { n_heads }
    }

    /// Strengths `[H]` from the gates of one layer.
    pub fn forward(self, gates: &[f64], n_heads: usize) -> Vec<f64> {
        match self {
            Self::Paper => gates.iter().map(|gate| gate.tanh()).collect(),
            Self::Linear => gates.to_vec(),
            Self::Peft => vec![gates[0]; n_heads],
        }
    }

    /// The gates' gradient from `dstrength: [H]`.
    pub fn backward(self, dstrength: &[f64], gates: &[f64]) -> Vec<f64> {
        match self {
            Self::Paper => dstrength.iter().zip(gates).map(|(d, gate)| d * (1.0 - gate.tanh().powi(2))).collect(),
            Self::Linear => dstrength.to_vec(),
            Self::Peft => vec![dstrength.iter().sum()],
        }
    }
}

/// An adapter for a model of L layers; it sits in layers `L - n_layers ..`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptionPrompt {
    /// How gates act.
    pub kind: GateKind,
    /// `L_a`
    pub n_layers: usize,
    /// A
    pub adapter_len: usize,
    /// `[L_a, A, C]`, lowest adapted layer first.
    pub prompts: Vec<f64>,
    /// `[L_a, H]` or `[L_a, 1]`
    pub gates: Vec<f64>,
}

impl AdaptionPrompt {
    /// Whether the lengths fit a model.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self, n_layers: usize, n_channels: usize, n_heads: usize) -> Result<(), Error> {
        if self.n_layers > n_layers {
            return Err(Error::Range { what: "adapter layers", found: self.n_layers, limit: n_layers + 1 });
        }
        if self.adapter_len == 0 {
            return Err(Error::Length { what: "the prompt of a layer".to_owned(), found: 0, wanted: 1 });
        }
        let prompts = self.n_layers * self.adapter_len * n_channels;
        let gates = self.n_layers * self.kind.gates_per_layer(n_heads);
        for (what, found, wanted) in [("prompts", self.prompts.len(), prompts), ("gates", self.gates.len(), gates)] {
            if found != wanted {
                return Err(Error::Length { what: what.to_owned(), found, wanted });
            }
        }
        Ok(())
    }

    /// The prompt `[A, C]` and the gates of the j-th adapted layer.
    pub(crate) fn layer(&self, j: usize) -> (&[f64], &[f64]) {
        let (prompt, gates) = (self.prompts.len() / self.n_layers, self.gates.len() / self.n_layers);
        (&self.prompts[j * prompt..(j + 1) * prompt], &self.gates[j * gates..(j + 1) * gates])
    }
}
