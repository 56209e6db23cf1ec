//! One training step through the frozen model: loss, and gradients to the adapter's prompts and gates.
//!
//! Only activations have gradients, and nothing below the first adapted layer. Where memory allows it a block
//! saves its activations for the backward pass, else only its input, and the rest is computed again. Texts of different length lie side by side in one
//! batch, so that no work goes into padding. Method and formulas: arXiv:2303.16199, section 3; every backward kernel names its
//! own source.

mod batch;
mod buffers;
mod memory;
mod recorder;
mod step;

pub use batch::Batch;
pub use memory::{Memory, check_buffers, memory};
pub use step::{Operands, Trainer, most_batch_tokens};

use crate::Error;
use crate::adapter::{AdapterFile, GateActivation, GateShape};
use crate::model::Model;
pub use crate::ops::gated_attention::MAX_ADAPTER_LEN;

/// Loss and gradients of an adapter's stored numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterGradients {
    /// Mean cross entropy over the batch's targets.
    pub loss: f64,
    /// `[L_a, A, C]`
    pub dprompts: Vec<f32>,
    /// `[L_a, H]` or `[L_a, 1]`, to the gates as stored: through the activation, summed over heads that share a gate.
    pub dgates: Vec<f32>,
}

/// One forward and backward pass for an adapter that lies on the CPU: for checking a driver or another implementation.
///
/// # Errors
/// As [`Trainer::new`] and [`Trainer::submit`], and an adapter of another model.
pub async fn gradients(model: &Model, file: &AdapterFile, batch: &Batch) -> Result<AdapterGradients, Error> {
    file.check_fits(model.config())?;
    let trainer = Trainer::new(model, file.n_layers, file.adapter_len, batch.n_tokens().max(1))?;
    gradients_with(&trainer, file, batch).await
}

/// [`gradients`] in the buffers of a trainer made for such an adapter.
///
/// # Errors
/// As [`Trainer::submit`], and an adapter of another model or another size.
pub async fn gradients_with(trainer: &Trainer, file: &AdapterFile, batch: &Batch) -> Result<AdapterGradients, Error> {
    let model = trainer.model();
    let (gpu, config) = (model.gpu(), model.config());
    file.check_fits(config)?;
    let sizes = [("layers", file.n_layers, trainer.n_layers()), ("length", file.adapter_len, trainer.adapter_len())];
    if let Some((field, found, wanted)) = sizes.into_iter().find(|(_, found, wanted)| found != wanted) {
        return Err(Error::Config {
            field: format!("adapter {field}"),
            found: found.to_string(),
            wanted: format!("the trainer's {wanted}"),
        });
    }
    let strengths = file.effective_gates(config.n_heads).concat();
    let numbers = gpu.buffer_with("adapter", &[file.prompts.as_slice(), &strengths].concat())?;
    let gradient = gpu.buffer("gradient of the adapter", numbers.size())?;
    let operands = Operands { numbers: numbers.raw(), numbers_offset: 0, gradient: gradient.raw(), gradient_offset: 0 };
    trainer.submit(batch, operands, true)?;
    let losses = trainer.losses(batch).await?;
    let mut dprompts: Vec<f32> = gpu.read(&gradient, 0, file.prompts.len() + strengths.len()).await?;
    let to_strengths = dprompts.split_off(file.prompts.len());
    let through = to_strengths.iter().zip(&strengths).map(|(gradient, strength)| match file.kind.activation {
        GateActivation::Tanh => gradient * (1.0 - strength * strength),
        GateActivation::None => *gradient,
    });
    let dgates = match file.kind.shape {
        GateShape::PerHead => through.collect(),
        GateShape::Scalar => {
            let all: Vec<f32> = through.collect();
            all.chunks_exact(config.n_heads as usize).map(|layer| layer.iter().sum()).collect()
        }
    };
    Ok(AdapterGradients {
        loss: losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64,
        dprompts,
        dgates,
    })
}
