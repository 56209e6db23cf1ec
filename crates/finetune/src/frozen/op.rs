//! The custom operation: `frozen_llama_loss(prompts, strengths) -> loss`, with its backward pass.
//!
//! The loss is a scalar, so its gradients are computed together with it and kept until burn asks for them, scaled by what
//! comes from above. Where nothing is tracked (validation) they are not computed at all.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

use super::seam::Call;

/// What one step leaves.
#[derive(Debug)]
pub struct Step<B: Backend> {
    /// `[1]`
    pub loss: FloatTensor<B>,
    /// To prompts `[L_a, A, C]` and strengths `[L_a, H]`, where they were wanted.
    pub gradients: Option<(FloatTensor<B>, FloatTensor<B>)>,
}

/// A backend whose buffers the engine's kernels can be run on.
pub trait FrozenStep: Backend {
    /// One forward pass and, if wanted, one backward pass.
    fn frozen_step(prompts: FloatTensor<Self>, strengths: FloatTensor<Self>, call: &Call, backward: bool)
    -> Step<Self>;
}

/// The operation in burn's terms.
#[backend_extension(Autodiff, Cube)]
pub trait FrozenLlama: Backend {
    /// Mean cross entropy `[1]` of the batch in `call`.
    fn frozen_llama_loss(prompts: FloatTensor<Self>, strengths: FloatTensor<Self>, call: Call) -> FloatTensor<Self>;
}

impl FrozenLlama for burn::backend::Cube {
    fn frozen_llama_loss(prompts: FloatTensor<Self>, strengths: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        Self::frozen_step(prompts, strengths, &call, false).loss
    }
}

#[derive(Debug)]
struct FrozenLlamaBackward;

impl<B: FrozenStep> Backward<B, 2> for FrozenLlamaBackward {
    type State = Option<(FloatTensor<B>, FloatTensor<B>)>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        let Some((dprompts, dstrengths)) = ops.state else { return };
        let [prompts, strengths] = ops.parents;
        for (parent, gradient) in [(prompts, dprompts), (strengths, dstrengths)] {
            if let Some(parent) = parent {
                let ones = vec![1; gradient.shape().num_dims()];
                let scale = B::float_reshape(dloss.clone(), ones.into());
                grads.register::<B>(parent.id, B::float_mul(gradient, scale));
            }
        }
    }
}

impl<B: FrozenStep + FrozenLlama, C: CheckpointStrategy> FrozenLlama for Autodiff<B, C> {
    fn frozen_llama_loss(prompts: FloatTensor<Self>, strengths: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let ((prompts, prompts_node), (strengths, strengths_node)) = (prompts.into_parts(), strengths.into_parts());
        match FrozenLlamaBackward.prepare::<C>([prompts_node, strengths_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let step = B::frozen_step(prompts, strengths, &call, true);
                prepared.finish(step.gradients, step.loss)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::frozen_step(prompts, strengths, &call, false).loss),
        }
    }
}
