//! The custom operation: `frozen_llama_loss(applied) -> loss`, with its backward pass.
//!
//! The loss is a scalar, so its gradient is computed together with it and kept until burn asks for it, scaled by what comes from
//! above. Where nothing is tracked (validation) it is not computed at all.

use std::sync::{Arc, Mutex};

use adapter_engine::train::{Batch, Trainer};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use crate::TrainError;

/// What an operation is called with beside its tensor, and where it leaves an error: burn's operations cannot fail.
#[derive(Clone)]
pub struct Call {
    pub(super) trainer: Arc<Trainer>,
    pub(super) batch: Arc<Batch>,
    pub(super) failure: Arc<Mutex<Option<TrainError>>>,
}

/// What one step leaves.
#[derive(Debug)]
pub struct Step<B: Backend> {
    /// `[1]`
    pub loss: FloatTensor<B>,
    /// To the applied numbers, where it was wanted.
    pub gradient: Option<FloatTensor<B>>,
}

/// A backend whose buffers the engine's kernels can be run on.
pub trait FrozenStep: Backend {
    /// One forward pass and, if wanted, one backward pass.
    fn frozen_step(applied: FloatTensor<Self>, call: &Call, backward: bool) -> Step<Self>;
}

/// The operation in burn's terms.
#[backend_extension(Autodiff, Cube)]
pub trait FrozenLlama: Backend {
    /// Mean cross entropy `[1]` of the batch in `call`.
    fn frozen_llama_loss(applied: FloatTensor<Self>, call: Call) -> FloatTensor<Self>;
}

impl FrozenLlama for burn::backend::Cube {
    fn frozen_llama_loss(applied: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        Self::frozen_step(applied, &call, false).loss
    }
}

#[derive(Debug)]
struct FrozenLlamaBackward;

impl<B: FrozenStep> Backward<B, 1> for FrozenLlamaBackward {
    type State = Option<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        let ([Some(applied)], Some(gradient)) = (ops.parents, ops.state) else { return };
        grads.register::<B>(applied.id, B::float_mul(gradient, dloss));
    }
}

impl<B: FrozenStep + FrozenLlama, C: CheckpointStrategy> FrozenLlama for Autodiff<B, C> {
    fn frozen_llama_loss(applied: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let (applied, node) = applied.into_parts();
        match FrozenLlamaBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let step = B::frozen_step(applied, &call, true);
                prepared.finish(step.gradient, step.loss)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::frozen_step(applied, &call, false).loss),
        }
    }
}
