//! Forward and backward of one batch.

use super::Batch;
use super::buffers::{Buffers, Prompt, Sizes, logit_rows};
use super::memory::{check_buffers, saved_blocks};
use super::recorder::Recorder;
use crate::Error;
use crate::gpu::{Buffer, Gpu, GpuError, Step};
use crate::model::block::{self, Activations, Block, Context, SavedActivations, Saving};
use crate::model::block_backward;
use crate::model::{Config, Model};
use crate::ops::gated_attention::{MAX_ADAPTER_LEN, PromptCache};
use crate::ops::kv_cache::LayerCache;
use crate::ops::matmul::{self, Epilogue, Shape};
use crate::ops::rope::Packed;
use crate::ops::{cross_entropy, embedding, rms_norm};

/// Longest batch, whatever the model was trained for: its texts may be many.
const MAX_TOKENS: u32 = 1 << 16;

/// Buffers for steps of at most so many tokens.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    n_layers: u32,
    adapter_len: u32,
    max_tokens: u32,
    saved_blocks: u32,
    rounded: bool,
    buffers: Buffers<Buffer>,
    /// The buffers a block that saves nothing works in.
    activations: Activations,
    cache: LayerCache,
    prompts: Vec<PromptCache>,
}

/// Where a step reads the adapter and leaves its gradient: one vector each, f32, in the order of
/// [`Method::applied`](crate::adapter::Method::applied).
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// What the blocks take.
    pub numbers: &'a wgpu::Buffer,
    /// Byte offset into `numbers`.
    pub numbers_offset: u64,
    /// The gradient to each of them.
    pub gradient: &'a wgpu::Buffer,
    /// Byte offset into `gradient`.
    pub gradient_offset: u64,
}

impl Trainer {
    /// Buffers for an adapter of the last `n_layers` layers with `adapter_len` prompt tokens, and batches of `max_tokens`.
    /// How many blocks save their activations follows [`Memory::saved_blocks`](super::Memory::saved_blocks) and the GPU's memory
    /// limit.
    ///
    /// # Errors
    /// Sizes that the model or the kernels do not take, [`Error::TrainingBufferTooLarge`], too little memory.
    pub fn new(model: &Model, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Result<Self, Error> {
        check_sizes(model, n_layers, adapter_len, max_tokens)?;
        let mut saved_blocks = saved_blocks(model.config(), n_layers, adapter_len, max_tokens);
        loop {
            match Self::with_saved_blocks(model, n_layers, adapter_len, max_tokens, saved_blocks) {
                Err(Error::Gpu(GpuError::OutOfMemory { .. })) if saved_blocks > 1 => saved_blocks /= 2,
                other => return other,
            }
        }
    }

    /// [`Trainer::new`] with a given number of blocks, counted from the last, that save their activations (at least 1).
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_saved_blocks(
        model: &Model,
        n_layers: u32,
        adapter_len: u32,
        max_tokens: u32,
        saved_blocks: u32,
    ) -> Result<Self, Error> {
        check_sizes(model, n_layers, adapter_len, max_tokens)?;
        let (gpu, config) = (model.gpu(), model.config());
        let saved_blocks = saved_blocks.clamp(1, n_layers);
        let sizes = Sizes { config, n_layers, adapter_len, max_tokens, saved_blocks };
        check_buffers(config, n_layers, adapter_len, max_tokens, gpu.most_bytes())?;
        let buffers = Buffers::make(sizes, |_, what, bytes| gpu.buffer(what, bytes))?;
        gpu.write(&buffers.rope_table, 0, &config.rope.table(0..max_tokens));
        let Some(shared) = buffers.saved.first() else {
            return Err(Error::Config {
                field: "adapter layers".to_owned(),
                found: n_layers.to_string(),
                wanted: "at least 1".to_owned(),
            });
        };
        let of_prompt = |prompt: &Prompt<Buffer>| PromptCache {
            k: prompt.k.clone(),
            v: prompt.v.clone(),
            gate: prompt.gate.clone(),
        };
        Ok(Self {
            n_layers,
            adapter_len,
            max_tokens,
            saved_blocks,
            rounded: false,
            activations: Activations {
                x: buffers.x.clone(),
                normed: buffers.normed.clone(),
                qkv: buffers.qkv.clone(),
                q: shared.q.clone(),
                attended: shared.attended.clone(),
                hidden: buffers.hidden.clone(),
                gate_and_up: shared.gate_and_up.clone(),
            },
            cache: shared.cache(),
            prompts: buffers.prompts.iter().map(of_prompt).collect(),
            buffers,
            model: model.clone(),
        })
    }

    /// The same trainer, whose products with the frozen weights are rounded to f16 where that was measured to be faster on this
    /// GPU. Gradients are then off by about a thousandth; bf16, in which most adapters are trained, by several.
    #[must_use]
    pub fn rounded(mut self, rounded: bool) -> Self {
        self.rounded = rounded;
        self
    }

    /// The frozen model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// L_a: adapted layers.
    pub fn n_layers(&self) -> u32 {
        self.n_layers
    }

    /// A: prompt tokens a layer.
    pub fn adapter_len(&self) -> u32 {
        self.adapter_len
    }

    /// The most tokens a batch may have.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// How many adapted blocks, counted from the last, save their activations.
    pub fn saved_blocks(&self) -> u32 {
        self.saved_blocks
    }

    /// Submits forward and backward of one batch. Gradients are of the mean loss over all targets; the losses stay on the
    /// GPU until [`Trainer::losses`] reads them. With `backward` false only the losses are computed.
    ///
    /// # Errors
    /// A batch without targets or over the size of the buffers, ids outside the vocabulary, operands too small for the
    /// adapter, a lost GPU.
    pub fn submit(&self, batch: &Batch, operands: Operands<'_>, backward: bool) -> Result<(), Error> {
        batch.check(self.max_tokens, self.model.config().n_vocab)?;
        self.check_operands(operands, backward)?;
        let (gpu, buffers, n_tokens) = (self.gpu(), &self.buffers, batch.n_tokens());
        gpu.check()?;
        gpu.write(&buffers.ids, 0, batch.ids());
        gpu.write(&buffers.starts, 0, batch.starts());
        gpu.write(&buffers.rows, 0, batch.rows());
        gpu.write(&buffers.targets, 0, batch.targets());
        gpu.write(&buffers.step, 0, &[Step { past: 0, n_tokens, ..Step::default() }]);
        let mut recorder = Recorder::new(gpu, self.rounded);
        self.forward(&mut recorder, n_tokens, operands, backward)?;
        self.loss(&mut recorder, batch, backward)?;
        if backward {
            for index in (0..self.n_layers).rev() {
                self.block_backward(&mut recorder, index, n_tokens, operands)?;
            }
        }
        recorder.submit();
        Ok(())
    }

    /// Copies the losses of the batch that was submitted last, `[n_targets]` f32, to a buffer of the same device.
    pub fn copy_losses(&self, batch: &Batch, to: &wgpu::Buffer, to_offset: u64) {
        let mut encoder = self.gpu().encoder();
        encoder.copy_buffer_to_buffer(self.buffers.losses.raw(), 0, to, to_offset, u64::from(batch.n_targets()) * 4);
        self.gpu().submit(encoder);
    }

    /// The loss of every target of the batch that was submitted last.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn losses(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        Ok(self.gpu().read(&self.buffers.losses, 0, batch.targets().len()).await?)
    }

    fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    /// Bytes of all prompts, behind which the gates' strengths lie.
    fn n_prompt_bytes(&self) -> u64 {
        u64::from(self.n_layers) * self.channel_bytes(self.adapter_len)
    }

    /// Bytes of a layer's strengths.
    fn gate_bytes(&self) -> u64 {
        u64::from(self.model.config().n_heads) * 4
    }

    fn check_operands(&self, operands: Operands<'_>, backward: bool) -> Result<(), Error> {
        let wanted = self.n_prompt_bytes() + u64::from(self.n_layers) * self.gate_bytes();
        let all = [
            ("numbers", operands.numbers, operands.numbers_offset),
            ("the gradient", operands.gradient, operands.gradient_offset),
        ];
        for (what, buffer, offset) in all.into_iter().take(if backward { 2 } else { 1 }) {
            if offset.checked_add(wanted).is_none_or(|end| end > buffer.size()) || !offset.is_multiple_of(4) {
                return Err(Error::Config {
                    field: format!("buffer of {what}"),
                    found: format!(
                        "{} bytes at offset {offset} of {}",
                        buffer.size().saturating_sub(offset),
                        buffer.size()
                    ),
                    wanted: format!("at least {wanted} bytes at a multiple of 4"),
                });
            }
        }
        Ok(())
    }

    /// Index of the first adapted layer.
    fn first(&self) -> usize {
        (self.model.config().n_layers - self.n_layers) as usize
    }

    fn block(&self, index: u32) -> &Block {
        &self.model.0.blocks[self.first() + index as usize]
    }

    /// Whether an adapted layer saves its activations in the forward pass.
    fn saves(&self, index: u32) -> bool {
        index + self.saved_blocks >= self.n_layers
    }

    /// Where an adapted layer's activations are or will be. Those that save none share the first set with the lowest that does:
    /// they are done with it before in the forward pass, and need it after in the backward pass.
    fn saved(&self, index: u32) -> &SavedActivations<Buffer> {
        &self.buffers.saved[(index + self.saved_blocks).saturating_sub(self.n_layers) as usize]
    }

    fn channel_bytes(&self, n_tokens: u32) -> u64 {
        u64::from(n_tokens) * u64::from(self.model.config().n_channels) * 4
    }

    /// Keys and values of all prompts, then all blocks; each adapted block saves its input, and some their activations.
    fn forward(
        &self,
        recorder: &mut Recorder<'_>,
        n_tokens: u32,
        operands: Operands<'_>,
        backward: bool,
    ) -> Result<(), Error> {
        let (config, buffers) = (self.model.config(), &self.buffers);
        for index in 0..self.n_layers {
            self.prompt_keys_and_values(recorder, index, operands)?;
        }
        let (table, x) = (&self.model.0.embedding, &buffers.x);
        recorder.launch(0, |plan| embedding::launch(plan, table, &buffers.ids, x, n_tokens))?;
        let macs = config.block_weights() * u64::from(n_tokens);
        for (layer, block) in self.model.0.blocks.iter().enumerate() {
            let index = layer.checked_sub(self.first());
            if let Some(index) = index.filter(|_| backward) {
                recorder.copy(x, &buffers.inputs[index], self.channel_bytes(n_tokens));
            }
            let prompt = index.map(|index| (&self.prompts[index], self.adapter_len));
            match index.filter(|index| backward && self.saves(*index as u32)) {
                None => {
                    let context = self.context(n_tokens, &buffers.saved[0], false);
                    recorder.launch(macs, |plan| block.launch(plan, context, &self.cache, prompt))?;
                }
                Some(index) => {
                    let saved = self.saved(index as u32);
                    let context = self.context(n_tokens, saved, true);
                    recorder.launch(macs, |plan| block.attention(plan, context, x, &saved.cache(), prompt))?;
                    recorder.copy(x, &saved.residual, self.channel_bytes(n_tokens));
                    recorder.launch(0, |plan| block.mlp(plan, context, x))?;
                }
            }
            recorder.cut();
        }
        Ok(())
    }

    /// A block's forward pass with the statistics of `saved`, which gets all activations where `saves`.
    fn context<'a>(&'a self, n_tokens: u32, saved: &'a SavedActivations<Buffer>, saves: bool) -> Context<'a> {
        let buffers = &self.buffers;
        Context {
            config: self.model.config(),
            activations: &self.activations,
            step: &buffers.step,
            rope_table: &buffers.rope_table,
            n_tokens,
            packed: Some(Packed { starts: &buffers.starts, stats: &saved.stats }),
            kv_splits: None,
            saving: saves.then_some(Saving { activations: saved, with_prompt: &buffers.with_prompt }),
        }
    }

    fn norm(&self, n_tokens: u32) -> rms_norm::Shape {
        let config = self.model.config();
        rms_norm::Shape { n_tokens, n_channels: config.n_channels, first_token: 0, eps: config.eps }
    }

    fn prompt_keys_and_values(
        &self,
        recorder: &mut Recorder<'_>,
        index: u32,
        operands: Operands<'_>,
    ) -> Result<(), Error> {
        let (buffers, config) = (&self.buffers, self.model.config());
        let cache = &self.prompts[index as usize];
        let prompt_bytes = self.channel_bytes(self.adapter_len);
        let gate_bytes = self.gate_bytes();
        let encoder = recorder.encoder();
        let from = operands.numbers_offset + u64::from(index) * prompt_bytes;
        encoder.copy_buffer_to_buffer(operands.numbers, from, buffers.prompt.raw(), 0, prompt_bytes);
        let from = operands.numbers_offset + self.n_prompt_bytes() + u64::from(index) * gate_bytes;
        encoder.copy_buffer_to_buffer(operands.numbers, from, cache.gate.raw(), 0, gate_bytes);
        let prompt = block::Prompt {
            embeddings: &buffers.prompt,
            product: &buffers.prompts[index as usize].product,
            cache,
            adapter_len: self.adapter_len,
            f16_products: recorder.f16_products(),
        };
        Ok(self.block(index).prompt_keys_and_values(self.gpu(), recorder.encoder(), config, prompt)?)
    }

    /// Losses of the trained rows and, for the way back, the gradient that enters the last block.
    fn loss(&self, recorder: &mut Recorder<'_>, batch: &Batch, backward: bool) -> Result<(), Error> {
        let (config, buffers, head) = (self.model.config(), &self.buffers, self.model.0.head());
        recorder.encoder().clear_buffer(buffers.dx.raw(), 0, None);
        let scale = 1.0 / batch.n_targets() as f32;
        let (most, weight) = (logit_rows(config), &self.model.0.output_norm);
        let mut first = 0;
        while first < batch.n_targets() {
            let n = most.min(batch.n_targets() - first);
            let norm = rms_norm::Shape { n_tokens: n, first_token: first, ..self.norm(n) };
            let shape = Shape { n_tokens: n, y_stride: config.n_vocab, y_offset: 0 };
            let macs = u64::from(n) * u64::from(config.n_vocab) * u64::from(config.n_channels);
            let (x, input, logits) = (&buffers.x, &buffers.head_input, &buffers.logits);
            recorder.launch(macs, |plan| {
                rms_norm::launch_gather(plan, x, weight, input, &buffers.rows, norm)?;
                matmul::launch(plan, head, input, logits, shape, Epilogue::Store)?;
                let sizes = [n, config.n_vocab, first];
                cross_entropy::launch(plan, &buffers.targets, logits, &buffers.losses, sizes, scale)
            })?;
            recorder.cut();
            if backward {
                recorder.launch(macs, |plan| {
                    matmul::launch_backward(plan, head, logits, input, shape, false)?;
                    rms_norm::launch_backward(plan, input, x, weight, &buffers.dx, Some(&buffers.rows), norm)
                })?;
                recorder.cut();
            }
            first += n;
        }
        Ok(())
    }

    /// The gradients of a block, its activations computed again if they were not saved. `dx` is the gradient at the block's
    /// output and becomes that at its input.
    fn block_backward(
        &self,
        recorder: &mut Recorder<'_>,
        index: u32,
        n_tokens: u32,
        operands: Operands<'_>,
    ) -> Result<(), Error> {
        let (buffers, block, saved) = (&self.buffers, self.block(index), self.saved(index));
        let (input, cache) = (&buffers.inputs[index as usize], &self.prompts[index as usize]);
        let macs = self.model.config().block_weights() * u64::from(n_tokens);
        if !self.saves(index) {
            recorder.copy(input, &saved.residual, self.channel_bytes(n_tokens));
            let context = self.context(n_tokens, saved, true);
            recorder.launch(macs, |plan| {
                let prompt = Some((cache, self.adapter_len));
                block.attention(plan, context, &saved.residual, &saved.cache(), prompt)?;
                block.gate_and_up(plan, context, &saved.residual).map(|_| ())
            })?;
            recorder.cut();
        }
        let gradients = block_backward::Operands {
            config: self.model.config(),
            saved,
            input,
            step: &buffers.step,
            rope_table: &buffers.rope_table,
            starts: &buffers.starts,
            n_tokens,
            dx: &buffers.dx,
            dnormed: &buffers.normed,
            dhidden: &buffers.hidden,
            dattended: &buffers.with_prompt,
            dqkv: &buffers.qkv,
        };
        let prompt = block_backward::PromptOperands {
            cache,
            product: &buffers.prompts[index as usize].product,
            adapter_len: self.adapter_len,
            weights: &buffers.weights,
            dgates: &buffers.dgates,
            dproduct: &buffers.prompt_product,
            dembeddings: &buffers.prompt,
            dgate: &buffers.dgate,
            lowest: index == 0,
        };
        recorder.launch(macs / 2, |plan| block.mlp_backward(plan, gradients))?;
        recorder.cut();
        recorder.launch(macs / 2, |plan| block.attention_backward(plan, gradients, prompt))?;
        let size = self.channel_bytes(self.adapter_len);
        let encoder = recorder.encoder();
        let to = operands.gradient_offset + u64::from(index) * size;
        encoder.copy_buffer_to_buffer(buffers.prompt.raw(), 0, operands.gradient, to, size);
        let size = self.gate_bytes();
        let to = operands.gradient_offset + self.n_prompt_bytes() + u64::from(index) * size;
        encoder.copy_buffer_to_buffer(buffers.dgate.raw(), 0, operands.gradient, to, size);
        recorder.cut();
        Ok(())
    }
}

/// The most tokens of a batch that the kernels take, whatever the memory.
#[must_use]
pub fn most_batch_tokens(config: &Config) -> u32 {
    config.n_context.max(MAX_TOKENS)
}

fn check_sizes(model: &Model, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Result<(), Error> {
    let config = model.config();
    let bounds = [
        ("adapter layers", n_layers, config.n_layers),
        ("adapter length", adapter_len, MAX_ADAPTER_LEN),
        ("batch tokens", max_tokens, most_batch_tokens(config)),
    ];
    match bounds.into_iter().find(|(_, value, limit)| *value == 0 || value > limit) {
        Some((field, value, limit)) => {
            Err(Error::Config { field: field.to_owned(), found: value.to_string(), wanted: format!("1 to {limit}") })
        }
        None => Ok(()),
    }
}
