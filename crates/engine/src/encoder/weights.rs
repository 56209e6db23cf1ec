//! The tensors of a safetensors file on their way to a GPU.

use std::ops::ControlFlow;

use super::config::EncoderConfig;
use crate::Error;
use crate::formats::{ReadAt, Safetensors, TensorInfo, TensorType};
use crate::gpu::{Buffer, Gpu};
use crate::model::Linear;
use crate::model::loader::{Loader, Order, Progress, floats};
use crate::ops::layer_norm::LayerNorm;
use crate::ops::matrix::Matrix;

/// The tensors of a file on their way.
pub(super) struct Weights<'a> {
    gpu: &'a Gpu,
    source: &'a dyn ReadAt,
    file: &'a Safetensors,
    loader: Loader<'a>,
    pub config: &'a EncoderConfig,
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    /// Those of `file`, whatever it puts in front of its names.
    pub fn new(
        gpu: &'a Gpu,
        source: &'a dyn ReadAt,
        file: &'a Safetensors,
        config: &'a EncoderConfig,
        progress: Progress<'a>,
    ) -> Self {
        let total = file.names().filter_map(|name| file.get(name)).map(|tensor| tensor.size_bytes).sum();
        let names = config.family.names();
        let prefix = names.prefixes.iter().find(|prefix| file.get(&format!("{prefix}{}", names.positions)).is_some());
        let loader = Loader::new(gpu, source, total, progress);
        Self { gpu, source, file, loader, config, prefix: prefix.copied().unwrap_or("") }
    }

    /// A tensor of the file, if it is there.
    pub fn find(&self, name: &str) -> Option<&'a TensorInfo> {
        self.file.get(&format!("{}{name}", self.prefix))
    }

    fn tensor(&self, name: &str) -> Result<&'a TensorInfo, Error> {
        self.find(name).ok_or_else(|| Error::Config {
            field: format!("tensor {:?}", format!("{}{name}", self.prefix)),
            found: "missing".to_owned(),
            wanted: format!("there in a file of the family {:?}", self.config.family.model_type()),
        })
    }

    /// A tensor of this shape, innermost dimension first; dimensions of 1 in front do not count.
    pub fn shaped(&self, name: &str, shape: &[u64]) -> Result<&'a TensorInfo, Error> {
        let tensor = self.tensor(name)?;
        let significant = |shape: &[u64]| {
            let n = shape.iter().rposition(|n| *n != 1).map_or(1, |last| last + 1);
            shape.get(..n).unwrap_or(shape).to_vec()
        };
        if significant(&tensor.shape) != significant(shape) {
            let wanted = format!("{shape:?}");
            return Err(Error::TensorShape { name: tensor.name.clone(), found: tensor.shape.clone(), wanted });
        }
        Ok(tensor)
    }

    /// All numbers of a tensor of this shape.
    pub fn floats(&self, name: &str, shape: &[u64]) -> Result<Vec<f32>, Error> {
        floats(self.source, self.shaped(name, shape)?)
    }

    /// A norm's weight and bias; `name` ends in a dot.
    pub fn norm(&mut self, name: &str) -> Result<LayerNorm, Error> {
        let shape = [u64::from(self.config.n_channels)];
        let (weight, bias) =
            (self.shaped(&format!("{name}weight"), &shape)?, self.shaped(&format!("{name}bias"), &shape)?);
        let eps = self.config.eps;
        Ok(LayerNorm { weight: self.loader.vector(weight)?, bias: self.loader.vector(bias)?, eps })
    }

    /// Products of the same input below each other, with their biases; each name ends in a dot. With `scale [N]`, a tensor's name, each
    /// output is multiplied by its number, which is done to the weights: `s (w x + b) = (s w) x + s b`.
    pub fn linear(
        &mut self,
        names: &[String],
        [n_rows, n_cols]: [u32; 2],
        scale: Option<&str>,
    ) -> Result<Linear, Error> {
        let (rows, cols) = (u64::from(n_rows), u64::from(n_cols));
        let each = |weights: &Self, what: &str, shape: &[u64]| {
            names.iter().map(|name| weights.shaped(&format!("{name}{what}"), shape)).collect::<Result<Vec<_>, _>>()
        };
        let (weight, bias) = (each(self, "weight", &[cols, rows])?, each(self, "bias", &[rows])?);
        let Some(scale) = scale else {
            let matrix = self.loader.matrix(&weight, Order::Stacked)?;
            return Ok(Linear { matrix, bias: Some(self.loader.vectors(&bias, Order::Stacked)?) });
        };
        let scales = self.floats(scale, &[rows])?;
        let (mut values, mut biases) = (Vec::new(), Vec::new());
        for (weight, bias) in weight.into_iter().zip(bias) {
            values.extend(floats(self.source, weight)?);
            biases.extend(floats(self.source, bias)?);
        }
        for (row, scale) in values.chunks_exact_mut(n_cols as usize).zip(scales.iter().cycle()) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        for (bias, scale) in biases.iter_mut().zip(scales.iter().cycle()) {
            *bias *= scale;
        }
        Ok(Linear { matrix: self.matrix(&values, n_cols)?, bias: Some(self.vector(&biases)?) })
    }

    /// A matrix of numbers at hand.
    pub fn matrix(&self, values: &[f32], n_cols: u32) -> Result<Matrix, Error> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let tensor = TensorInfo {
            name: "weights".to_owned(),
            shape: vec![u64::from(n_cols), (values.len() / n_cols.max(1) as usize) as u64],
            tensor_type: TensorType::F32,
            offset: 0,
            size_bytes: bytes.len() as u64,
        };
        let mut go_on = |_, _| ControlFlow::Continue(());
        Loader::new(self.gpu, &bytes, 0, &mut go_on).matrix(&[&tensor], Order::Stacked)
    }

    /// A matrix of the file, as it is.
    pub fn table(&mut self, name: &str, [n_rows, n_cols]: [u32; 2]) -> Result<Matrix, Error> {
        let tensor = self.shaped(name, &[u64::from(n_cols), u64::from(n_rows)])?;
        self.loader.matrix(&[tensor], Order::Stacked)
    }

    /// A vector of numbers at hand.
    pub fn vector(&self, values: &[f32]) -> Result<Buffer, Error> {
        Ok(self.gpu.buffer_with("weights", values)?)
    }
}
