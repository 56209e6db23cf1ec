//! One block of an encoder.

use super::config::EncoderConfig;
use super::run::Activations;
use super::weights::Weights;
use crate::Error;
use crate::gpu::{GpuError, PlanBuilder};
use crate::model::Linear;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::matmul::{Epilogue, Shape};
use crate::ops::{attention, kv_cache};

/// The frozen weights of one block.
#[derive(Debug)]
pub(super) struct Block {
    attention_norm: LayerNorm,
    /// q, k and v below each other: `[3 H D, C]`
    qkv: Linear,
    /// `[C, H D]`, multiplied by the block's scale where there is one.
    output: Linear,
    mlp_norm: LayerNorm,
    /// `[F, C]`
    up: Linear,
    /// `[C, F]`, multiplied by the block's scale where there is one.
    down: Linear,
}

impl Block {
    pub fn load(weights: &mut Weights<'_>, layer: u32) -> Result<Self, Error> {
        let EncoderConfig { n_channels, n_ffn, family, .. } = *weights.config;
        let (names, layer) = (family.names(), layer.to_string());
        let of = |name: &str| name.replace("{l}", &layer);
        let scales = names.scales.map(|scales| scales.map(of));
        let scale = |index: usize| scales.as_ref().map(|scales| scales[index].as_str());
        let qkv = [names.query, names.key, names.value].map(of);
        Ok(Self {
            attention_norm: weights.norm(&of(names.attention_norm))?,
            qkv: weights.linear(&qkv, [n_channels, n_channels], None)?,
            output: weights.linear(&[of(names.output)], [n_channels, n_channels], scale(0))?,
            mlp_norm: weights.norm(&of(names.mlp_norm))?,
            up: weights.linear(&[of(names.up)], [n_ffn, n_channels], None)?,
            down: weights.linear(&[of(names.down)], [n_channels, n_ffn], scale(1))?,
        })
    }

    /// `x += attention(norm(x)); x += mlp(norm(x))`, or, with norms behind, `x = norm(x + attention(x)); x = norm(x + mlp(x))`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch(
        &self,
        plan: &mut PlanBuilder<'_>,
        config: &EncoderConfig,
        act: &Activations,
    ) -> Result<(), GpuError> {
        let (n_channels, n_ffn, t) = (config.n_channels, config.n_ffn, act.n_tokens);
        let rows = |y_stride| Shape { n_tokens: t, y_stride, y_offset: 0 };
        let (x, other) = (&act.x, &act.normed);
        let behind = config.family.norms_behind();
        let input = match behind {
            true => x,
            false => {
                self.attention_norm.launch(plan, x, other, [t, n_channels])?;
                other
            }
        };
        let heads = config.heads();
        self.qkv.launch(plan, input, &act.qkv, rows(heads.qkv_width()), Epilogue::Store)?;
        // Into the layout that attention reads; the table turns by nothing.
        let Activations { step, table, qkv, q, cache, .. } = act;
        let operands = kv_cache::Operands { step, table, qkv, norm: None, q, cache, heads, n_tokens: t, packed: None };
        kv_cache::launch(plan, operands)?;
        let operands = attention::Operands { step, q, cache, o: &act.attended, heads, n_tokens: t };
        attention::launch_whole(plan, attention::Variant::choose(plan.gpu(), heads, t), operands)?;
        self.output.launch(plan, &act.attended, x, rows(n_channels), Epilogue::Add)?;
        // With norms behind, what is normed is the stream itself from here on.
        let norm = if behind { &self.attention_norm } else { &self.mlp_norm };
        norm.launch(plan, x, other, [t, n_channels])?;
        self.up.launch(plan, other, &act.hidden, rows(n_ffn), Epilogue::Store)?;
        config.gelu.launch(plan, &act.hidden, t * n_ffn)?;
        if !behind {
            return self.down.launch(plan, &act.hidden, x, rows(n_channels), Epilogue::Add);
        }
        self.down.launch(plan, &act.hidden, other, rows(n_channels), Epilogue::Add)?;
        self.mlp_norm.launch(plan, other, x, [t, n_channels])
    }
}
