//! What trains: prompts and gates of the last layers, as burn parameters.

use adapter_engine::adapter::{AdapterFile, GateActivation, GateKind, GateShape};
use adapter_engine::model::Config;
use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};

use crate::TrainError;
use crate::random::Normal;

// The optimizer keeps its moments by these: a run that is resumed must find them again.
const PROMPTS: u64 = 1;
const GATES: u64 = 2;

/// Adaption prompts and zero-initialised gates (arXiv:2303.16199, section 3.1 and 3.2).
#[derive(Module, Debug)]
pub struct AdaptionPrompt {
    /// `[L_a, A, C]`
    pub prompts: Param<Tensor<3>>,
    /// `[L_a, H]` or `[L_a, 1]`, as stored: before the activation.
    pub gates: Param<Tensor<2>>,
}

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

    /// Numbers that are learnt.
    pub fn n_parameters(&self) -> u64 {
        let [layers, length, channels, gates] =
            [self.n_layers, self.adapter_len, self.n_channels, self.gate_width()].map(u64::from);
        layers * (length * channels + gates)
    }

    fn dims(&self) -> ([usize; 3], [usize; 2]) {
        let [layers, length, channels, gates] =
            [self.n_layers, self.adapter_len, self.n_channels, self.gate_width()].map(|n| n as usize);
        ([layers, length, channels], [layers, gates])
    }
}

impl AdaptionPrompt {
    /// Prompts drawn from the standard normal distribution, gates 0: the model answers as without an adapter.
    pub fn new(shape: &AdapterShape, seed: u64, device: &Device) -> Self {
        let (prompts, gates) = shape.dims();
        let mut normal = Normal::new(seed);
        let values: Vec<f32> = (0..prompts.iter().product()).map(|_| normal.next() as f32).collect();
        Self::of(TensorData::new(values, prompts), TensorData::zeros::<f32, _>(gates), device)
    }

    /// The numbers of a file.
    ///
    /// # Errors
    /// They are not as many as `shape` says.
    pub fn from_file(file: &AdapterFile, shape: &AdapterShape, device: &Device) -> Result<Self, TrainError> {
        file.check()?;
        let (prompts, gates) = shape.dims();
        let counts = [(&file.prompts, prompts.iter().product()), (&file.gates, gates.iter().product::<usize>())];
        if let Some((found, wanted)) = counts.into_iter().find(|(values, n)| values.len() != *n) {
            return Err(TrainError::Setting {
                field: "the adapter's size",
                found: format!("{} numbers", found.len()),
                wanted: format!("{wanted} for this model and these settings"),
            });
        }
        let (p, g) = (TensorData::new(file.prompts.clone(), prompts), TensorData::new(file.gates.clone(), gates));
        Ok(Self::of(p, g, device))
    }

    fn of(prompts: TensorData, gates: TensorData, device: &Device) -> Self {
        Self {
            prompts: Param::initialized(ParamId::from(PROMPTS), Tensor::from_data(prompts, device).require_grad()),
            gates: Param::initialized(ParamId::from(GATES), Tensor::from_data(gates, device).require_grad()),
        }
    }

    /// Effective strengths `[L_a, H]`: through the activation, one a head.
    pub fn strengths(&self, shape: &AdapterShape) -> Tensor<2> {
        let gates = match shape.kind.activation {
            GateActivation::Tanh => self.gates.val().tanh(),
            GateActivation::None => self.gates.val(),
        };
        gates.expand([shape.n_layers as usize, shape.n_heads as usize])
    }

    /// The numbers as a file.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn to_file(&self, shape: &AdapterShape) -> Result<AdapterFile, TrainError> {
        Ok(AdapterFile {
            kind: shape.kind,
            n_layers: shape.n_layers,
            adapter_len: shape.adapter_len,
            n_channels: shape.n_channels,
            prompts: read(self.prompts.val().inner()).await?,
            gates: read(self.gates.val().inner()).await?,
            base_model: None,
            base_layers: None,
            base_hash: None,
            chat_template: None,
        })
    }
}

/// The values of a tensor.
pub(crate) async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let failed = |reason: String| TrainError::Burn { doing: "reading numbers back", reason };
    let data = tensor.into_data_async().await.map_err(|error| failed(format!("{error:?}")))?;
    data.try_into_vec::<f32>().map_err(|error| failed(format!("{error:?}")))
}
