//! Sizes of an adapter, and the names of what trains in it.

use super::gate::{GateKind, GateShape};
use crate::adapter::ParameterTable;
use crate::model::Config;

/// Sizes and kind of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterShape {
    /// L_a: adapted layers, the last of the model.
    pub n_layers: u32,
    /// A: prompt tokens a layer.
    pub adapter_len: u32,
    /// C: channels of the model.
    pub n_channels: u32,
    /// H: query heads of the model.
    pub n_heads: u32,
    /// What the gates mean.
    pub kind: GateKind,
}

impl AdapterShape {
    /// Name of the prompts `[L_a, A, C]` in files, checkpoints and messages.
    pub const PROMPTS: &'static str = "prompts";
    /// Name of the gates `[L_a, H]` or `[L_a, 1]`.
    pub const GATES: &'static str = "gates";

    /// An adapter for a model.
    pub fn new(config: &Config, n_layers: u32, adapter_len: u32, kind: GateKind) -> Self {
        Self { n_layers, adapter_len, n_channels: config.n_channels, n_heads: config.n_heads, kind }
    }

    /// Gates a layer.
    pub fn gate_width(&self) -> u32 {
        match self.kind.shape {
            GateShape::Scalar => 1,
            GateShape::PerHead => self.n_heads,
        }
    }

    /// Numbers that train.
    pub fn n_parameters(&self) -> u64 {
        let [layers, length, channels, gates] =
            [self.n_layers, self.adapter_len, self.n_channels, self.gate_width()].map(u64::from);
        layers * (length * channels + gates)
    }

    /// What trains and what files hold: prompts `[L_a, A, C]`, and gates before their activation `[L_a, H]` or `[L_a, 1]`.
    pub fn trained(&self) -> ParameterTable {
        self.table(self.gate_width())
    }

    /// What the blocks take: the prompts, and the strength of every head `[L_a, H]`, activation applied.
    pub fn applied(&self) -> ParameterTable {
        self.table(self.n_heads)
    }

    fn table(&self, gate_width: u32) -> ParameterTable {
        let [layers, length, channels, gates] =
            [self.n_layers, self.adapter_len, self.n_channels, gate_width].map(|n| n as usize);
        ParameterTable::default().with(Self::PROMPTS, "gradient of the prompts", &[layers, length, channels]).with(
            Self::GATES,
            "gradient of the gates",
            &[layers, gates],
        )
    }
}
