//! The numbers of an adapter, and whether they fit a model.

use super::gate::{GateActivation, GateKind, GateShape};
use super::shape::AdapterShape;
use crate::adapter::ParameterTable;
use crate::adapter::base::{BaseMatch, BaseModel, compare};
use crate::adapter::error::AdapterError;
use crate::model::Config;

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
    /// N: layers of that model, where the file says so.
    pub base_layers: Option<u32>,
    /// [`base_hash`](crate::adapter::base_hash) of that model, where the file says so.
    pub base_hash: Option<String>,
    /// The chat template it was trained with, as Jinja, where the file says so: what it is to be asked with.
    pub chat_template: Option<String>,
}

impl AdapterFile {
    /// Checks that there are as many numbers as the sizes say, and that all are finite. Returns the gates a layer.
    ///
    /// # Errors
    /// [`AdapterError::Shape`] or [`AdapterError::NotFinite`].
    pub fn check(&self) -> Result<u32, AdapterError> {
        let wrong = |name: &str, found: usize, wanted: String| AdapterError::Shape {
            name: name.to_owned(),
            found: format!("{found} numbers"),
            wanted,
        };
        let [layers, length, channels] = [self.n_layers, self.adapter_len, self.n_channels].map(u64::from);
        let n_prompts = layers.checked_mul(length).and_then(|n| n.checked_mul(channels));
        if n_prompts.is_none_or(|n| n == 0 || n != self.prompts.len() as u64) {
            return Err(wrong("prompts", self.prompts.len(), format!("{layers} layers x {length} x {channels}")));
        }
        let n_gates = self.gates.len() as u64;
        let gate_width = n_gates / layers;
        let fits = match self.kind.shape {
            GateShape::Scalar => gate_width == 1,
            GateShape::PerHead => gate_width >= 1,
        };
        if !fits || n_gates != gate_width * layers {
            let wanted = format!("{layers} layers with {} gates", self.kind.shape.name());
            return Err(wrong("gates", self.gates.len(), wanted));
        }
        finite("prompts", &self.prompts)?;
        finite("gates", &self.gates)?;
        Ok(gate_width as u32)
    }

    /// Names and shapes of its numbers, as they train and as checkpoints hold them.
    pub fn parameters(&self) -> ParameterTable {
        let gate_width = self.gates.len() as u32 / self.n_layers.max(1);
        let Self { kind, n_layers, adapter_len, n_channels, .. } = *self;
        AdapterShape { n_layers, adapter_len, n_channels, n_heads: gate_width, kind }.trained()
    }

    /// All its numbers, one parameter after the other.
    pub fn numbers(&self) -> Vec<f32> {
        [self.prompts.as_slice(), &self.gates].concat()
    }

    /// An adapter of that shape with these numbers, one parameter after the other; of no known model and template.
    ///
    /// # Errors
    /// [`AdapterError::Shape`] for another number of them.
    pub fn from_numbers(shape: &AdapterShape, numbers: &[f32]) -> Result<Self, AdapterError> {
        let table = shape.trained();
        if numbers.len() != table.n_numbers() {
            return Err(AdapterError::Shape {
                name: "adapter".to_owned(),
                found: format!("{} numbers", numbers.len()),
                wanted: table.n_numbers().to_string(),
            });
        }
        Ok(Self {
            kind: shape.kind,
            n_layers: shape.n_layers,
            adapter_len: shape.adapter_len,
            n_channels: shape.n_channels,
            prompts: table.part(AdapterShape::PROMPTS, numbers).to_vec(),
            gates: table.part(AdapterShape::GATES, numbers).to_vec(),
            base_model: None,
            base_layers: None,
            base_hash: None,
            chat_template: None,
        })
    }

    /// Says which model it belongs to, as a training program does when it is done.
    pub fn set_base(&mut self, model: &BaseModel) {
        self.base_model.clone_from(&model.name);
        self.base_layers = Some(model.n_layers);
        self.base_hash = Some(model.hash.clone());
        if model.chat_template.is_some() {
            self.chat_template.clone_from(&model.chat_template);
        }
    }

    /// Compares what it says about its model with a model whose sizes fit. Other weights are no error: the same model in
    /// another quantization is the usual case. A doubtful outcome is a sentence for the user.
    pub fn compare_base(&self, model: &BaseModel) -> BaseMatch {
        compare(self.base_model.as_deref(), self.base_hash.as_deref(), model)
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
        if let Some(found) = self.base_layers.filter(|found| *found != config.n_layers) {
            return other("the number of the model's layers", found, config.n_layers.to_string());
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
        let width = (self.gates.len() / self.n_layers.max(1) as usize).max(1);
        self.gates
            .chunks_exact(width)
            .map(|layer| {
                let activate = |gate: f32| match self.kind.activation {
                    GateActivation::None => gate,
                    GateActivation::Tanh => f64::from(gate).tanh() as f32,
                };
                let gate = |head: usize| layer.get(if width == 1 { 0 } else { head }).copied().unwrap_or_default();
                (0..n_heads as usize).map(|head| activate(gate(head))).collect()
            })
            .collect()
    }
}

/// Refuses values that are not numbers.
pub(in crate::adapter) fn finite(name: &str, values: &[f32]) -> Result<(), AdapterError> {
    let count = values.iter().filter(|value| !value.is_finite()).count();
    if count > 0 {
        return Err(AdapterError::NotFinite { name: name.to_owned(), count });
    }
    Ok(())
}
