//! Zero-init attention as it trains: first numbers, and what the blocks take of them.

use adapter_engine::adapter::{AdapterShape, GateActivation};
use burn::tensor::Tensor;

use crate::TrainError;
use crate::flat::part;
use crate::random::Normal;

/// Prompts drawn from the standard normal distribution, gates 0: the model answers as without an adapter (arXiv:2303.16199,
/// sections 3.1 and 3.2).
pub(crate) fn initial(shape: &AdapterShape, seed: u64) -> Vec<f32> {
    let table = shape.trained();
    let mut normal = Normal::new(seed);
    let n_prompts = table.find(AdapterShape::PROMPTS).map_or(0, |prompts| prompts.n_numbers());
    let mut numbers: Vec<f32> = (0..n_prompts).map(|_| normal.next() as f32).collect();
    numbers.resize(table.n_numbers(), 0.0);
    numbers
}

/// From [`AdapterShape::trained`] to [`AdapterShape::applied`]: prompts as they are, gates through their activation, one a head.
pub(crate) fn apply(shape: &AdapterShape, trained: &Tensor<1>) -> Result<Tensor<1>, TrainError> {
    let table = shape.trained();
    let prompts: Tensor<1> = part(&table, AdapterShape::PROMPTS, trained)?;
    let gates: Tensor<2> = part(&table, AdapterShape::GATES, trained)?;
    let gates = match shape.kind.activation {
        GateActivation::Tanh => gates.tanh(),
        GateActivation::None => gates,
    };
    let (layers, heads) = (shape.n_layers as usize, shape.n_heads as usize);
    let strengths: Tensor<1> = gates.expand([layers, heads]).reshape([layers * heads]);
    Ok(Tensor::cat(vec![prompts, strengths], 0))
}
