//! Forward and backward of one batch.

use super::Batch;
use super::buffers::{Buffers, Prompt, Saved, Sizes, logit_rows};
use super::memory::{count, middles, most_tokens};
use super::recorder::Recorder;
use crate::Error;
use crate::gpu::{Buffer, Gpu, GpuError, PlanBuilder, Step};
use crate::layers::block::{Activations, Block, Context, GateUp, qkv_width};
use crate::llama::Model;
use crate::ops::gated_attention::{self, MAX_ADAPTER_LEN, PromptCache};
use crate::ops::kv_cache::{self, CacheFormat, LayerCache};
use crate::ops::matmul::{self, Epilogue, Shape};
use crate::ops::rope::{self, Packed};
use crate::ops::swiglu::{self, Rows};
use crate::ops::{attention, cross_entropy, embedding, rms_norm};

/// Longest batch, whatever the model was trained for: its texts may be many.
const MAX_TOKENS: u32 = 1 << 16;

/// Buffers for steps of at most so many tokens.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    n_layers: u32,
    adapter_len: u32,
    max_tokens: u32,
    middles: u32,
    rounded: bool,
    buffers: Buffers<Buffer>,
    /// The buffers a block that keeps no middle works in.
    activations: Activations,
    cache: LayerCache,
    prompts: Vec<PromptCache>,
}

/// Where a step reads the adapter and leaves its gradients; all f32.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// `[L_a, A, C]`
    pub prompts: &'a wgpu::Buffer,
    /// Byte offset into `prompts`.
    pub prompts_offset: u64,
    /// Strength of every head, activation applied: `[L_a, H]`.
    pub gates: &'a wgpu::Buffer,
    /// Byte offset into `gates`.
    pub gates_offset: u64,
    /// `[L_a, A, C]`
    pub dprompts: &'a wgpu::Buffer,
    /// Byte offset into `dprompts`.
    pub dprompts_offset: u64,
    /// `[L_a, H]`, to the strengths.
    pub dgates: &'a wgpu::Buffer,
    /// Byte offset into `dgates`.
    pub dgates_offset: u64,
}

impl Trainer {
    /// Buffers for an adapter of the last `n_layers` layers with `adapter_len` prompt tokens, and batches of `max_tokens`.
    /// How many blocks keep their middle follows [`Memory::middles`](super::Memory::middles) and the GPU's memory limit.
    ///
    /// # Errors
    /// Sizes that the model or the kernels do not take, [`Error::TrainingBufferTooLarge`], too little memory.
    pub fn new(model: &Model, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Result<Self, Error> {
        check_sizes(model, n_layers, adapter_len, max_tokens)?;
        let mut middles = middles(model.config(), n_layers, adapter_len, max_tokens);
        loop {
            match Self::with_middles(model, n_layers, adapter_len, max_tokens, middles) {
                Err(Error::Gpu(GpuError::OutOfMemory { .. })) if middles > 1 => middles /= 2,
                other => return other,
            }
        }
    }

    /// [`Trainer::new`] with a given number of blocks, counted from the last, that keep their middle (at least 1).
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_middles(
        model: &Model,
        n_layers: u32,
        adapter_len: u32,
        max_tokens: u32,
        middles: u32,
    ) -> Result<Self, Error> {
        check_sizes(model, n_layers, adapter_len, max_tokens)?;
        let (gpu, config) = (model.gpu(), model.config());
        let middles = middles.clamp(1, n_layers);
        let sizes = Sizes { config, n_layers, adapter_len, max_tokens, middles };
        let limits = gpu.limits();
        let limit_bytes = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let (what, needed_bytes) = count(sizes).largest;
        if needed_bytes > limit_bytes {
            let fits = most_tokens(sizes, limit_bytes);
            return Err(Error::TrainingBufferTooLarge { max_tokens, what, needed_bytes, limit_bytes, fits });
        }
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
            middles,
            rounded: false,
            activations: Activations {
                x: buffers.x.clone(),
                normed: buffers.normed.clone(),
                qkv: buffers.qkv.clone(),
                q: shared.q.clone(),
                attended: shared.attended.clone(),
                hidden: buffers.hidden.clone(),
                gate_and_up: None,
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

    /// How many adapted blocks, counted from the last, keep their middle.
    pub fn middles(&self) -> u32 {
        self.middles
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

    fn check_operands(&self, operands: Operands<'_>, backward: bool) -> Result<(), Error> {
        let config = self.model.config();
        let prompts = u64::from(self.n_layers) * u64::from(self.adapter_len) * u64::from(config.n_channels) * 4;
        let gates = u64::from(self.n_layers) * u64::from(config.n_heads) * 4;
        let all = [
            ("prompts", operands.prompts, operands.prompts_offset, prompts),
            ("gates", operands.gates, operands.gates_offset, gates),
            ("gradients of prompts", operands.dprompts, operands.dprompts_offset, prompts),
            ("gradients of gates", operands.dgates, operands.dgates_offset, gates),
        ];
        for (what, buffer, offset, wanted) in all.into_iter().take(if backward { 4 } else { 2 }) {
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

    /// Whether an adapted layer keeps its middle on the way forward.
    fn keeps(&self, index: u32) -> bool {
        index + self.middles >= self.n_layers
    }

    /// Where an adapted layer's middle is or will be. Those that keep none share the first set with the lowest that does: they
    /// are done with it before on the way forward, and need it after on the way back.
    fn saved(&self, index: u32) -> &Saved<Buffer> {
        &self.buffers.saved[(index + self.middles).saturating_sub(self.n_layers) as usize]
    }

    /// Multiplications of one block's products for `n_tokens`.
    fn block_macs(&self, n_tokens: u32) -> u64 {
        self.model.config().block_weights() * u64::from(n_tokens)
    }

    fn channel_bytes(&self, n_tokens: u32) -> u64 {
        u64::from(n_tokens) * u64::from(self.model.config().n_channels) * 4
    }

    /// Keys and values of all prompts, then all blocks; each adapted block keeps its input, and some their middle.
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
        recorder
            .launch(0, |plan| embedding::launch(plan, &self.model.0.embedding, &buffers.ids, &buffers.x, n_tokens))?;
        let Some(shared) = buffers.saved.first() else { return Ok(()) };
        let context = Context {
            config,
            activations: &self.activations,
            step: &buffers.step,
            rope_table: &buffers.rope_table,
            n_tokens,
            packed: Some(self.packed(shared)),
            stretches: None,
        };
        for (layer, block) in self.model.0.blocks.iter().enumerate() {
            let index = layer.checked_sub(self.first());
            if let Some(index) = index.filter(|_| backward) {
                recorder.copy(&buffers.x, &buffers.inputs[index], self.channel_bytes(n_tokens));
            }
            let keeps = index.filter(|index| backward && self.keeps(*index as u32));
            let macs = self.block_macs(n_tokens);
            match (&block.gate_up, keeps) {
                (GateUp::Fused(_), None) => recorder.launch(macs, |plan| {
                    let prompt = index.map(|index| (&self.prompts[index], self.adapter_len));
                    block.launch(plan, context, &self.cache, prompt)
                })?,
                (_, keeps) => {
                    let saved = keeps.map_or(shared, |index| self.saved(index as u32));
                    let prompt = index.map(|index| &self.prompts[index]);
                    recorder.launch(macs, |plan| self.attention(plan, block, prompt, saved, &buffers.x, n_tokens))?;
                    if keeps.is_some() {
                        recorder.copy(&buffers.x, &saved.middle, self.channel_bytes(n_tokens));
                    }
                    recorder.launch(0, |plan| {
                        let rows = self.gate_and_up(plan, block, &buffers.x, &saved.z, n_tokens)?;
                        swiglu::launch_rows(plan, &saved.z, &buffers.hidden, [n_tokens, config.n_ffn], rows)?;
                        let shape = Shape { n_tokens, y_stride: config.n_channels, y_offset: 0 };
                        matmul::launch(plan, &block.down, &buffers.hidden, &buffers.x, shape, Epilogue::Add)
                    })?;
                }
            }
            recorder.cut();
        }
        Ok(())
    }

    fn packed<'a>(&'a self, saved: &'a Saved<Buffer>) -> Packed<'a> {
        Packed { starts: &self.buffers.starts, stats: &saved.stats }
    }

    fn norm(&self, n_tokens: u32) -> rms_norm::Shape {
        let config = self.model.config();
        rms_norm::Shape { n_tokens, n_channels: config.n_channels, first_token: 0, eps: config.eps }
    }

    /// `x += attention(norm(x))`, leaving in `saved` what its gradient needs.
    fn attention(
        &self,
        plan: &mut PlanBuilder<'_>,
        block: &Block,
        prompt: Option<&PromptCache>,
        saved: &Saved<Buffer>,
        x: &Buffer,
        n_tokens: u32,
    ) -> Result<(), GpuError> {
        let (config, buffers) = (self.model.config(), &self.buffers);
        let (heads, cache, packed) = (config.heads(), saved.cache(), Some(self.packed(saved)));
        let product = |y_stride| Shape { n_tokens, y_stride, y_offset: 0 };
        let (step, table) = (&buffers.step, &buffers.rope_table);
        rms_norm::launch(plan, x, &block.attention_norm, &buffers.normed, self.norm(n_tokens))?;
        let width = qkv_width(heads);
        matmul::launch(plan, &block.qkv, &buffers.normed, &buffers.qkv, product(width), Epilogue::Store)?;
        kv_cache::launch(plan, step, table, &buffers.qkv, &saved.q, &cache, heads, n_tokens, packed)?;
        let operands = attention::Operands { step, q: &saved.q, cache: &cache, o: &saved.attended, heads, n_tokens };
        attention::launch(plan, operands, packed)?;
        let output = match prompt {
            Some(prompt) => {
                let (q, o, o_base) = (&saved.q, &buffers.with_prompt, Some(&saved.attended));
                let adapter_len = self.adapter_len;
                let operands = gated_attention::Operands { q, prompt, o, o_base, heads, n_tokens, adapter_len };
                gated_attention::launch(plan, operands)?;
                &buffers.with_prompt
            }
            None => &saved.attended,
        };
        matmul::launch(plan, &block.output, output, x, product(config.n_channels), Epilogue::Add)
    }

    /// Gate and up of `norm(x)`, and how they lie in `z`.
    fn gate_and_up(
        &self,
        plan: &mut PlanBuilder<'_>,
        block: &Block,
        x: &Buffer,
        z: &Buffer,
        n_tokens: u32,
    ) -> Result<Rows, GpuError> {
        let (n_ffn, normed) = (self.model.config().n_ffn, &self.buffers.normed);
        rms_norm::launch(plan, x, &block.mlp_norm, normed, self.norm(n_tokens))?;
        let at = |y_offset| Shape { n_tokens, y_stride: 2 * n_ffn, y_offset };
        match &block.gate_up {
            GateUp::Fused(both) => matmul::launch(plan, both, normed, z, at(0), Epilogue::Store)?,
            GateUp::Apart { gate, up } => {
                matmul::launch(plan, gate, normed, z, at(0), Epilogue::Store)?;
                matmul::launch(plan, up, normed, z, at(n_ffn), Epilogue::Store)?;
            }
        }
        Ok(rows_of(block))
    }

    fn prompt_keys_and_values(
        &self,
        recorder: &mut Recorder<'_>,
        index: u32,
        operands: Operands<'_>,
    ) -> Result<(), Error> {
        let (buffers, heads) = (&self.buffers, self.model.config().heads());
        let prompt = &self.prompts[index as usize];
        let prompt_bytes = self.channel_bytes(self.adapter_len);
        let gate_bytes = u64::from(heads.n_heads) * 4;
        let encoder = recorder.encoder();
        let from = operands.prompts_offset + u64::from(index) * prompt_bytes;
        encoder.copy_buffer_to_buffer(operands.prompts, from, buffers.prompt.raw(), 0, prompt_bytes);
        let from = operands.gates_offset + u64::from(index) * gate_bytes;
        encoder.copy_buffer_to_buffer(operands.gates, from, prompt.gate.raw(), 0, gate_bytes);
        let shape = Shape { n_tokens: self.adapter_len, y_stride: qkv_width(heads), y_offset: 0 };
        let product = &buffers.prompt_product;
        recorder.launch(0, |plan| {
            matmul::launch(plan, &self.block(index).qkv, &buffers.prompt, product, shape, Epilogue::Store)
        })?;
        prompt.copy_from_product(recorder.encoder(), product, heads, self.adapter_len);
        Ok(())
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

    /// The gradients of a block, its middle computed again if it was not kept. `dx` is the gradient at the block's output
    /// and becomes that at its input.
    fn block_backward(
        &self,
        recorder: &mut Recorder<'_>,
        index: u32,
        n_tokens: u32,
        operands: Operands<'_>,
    ) -> Result<(), Error> {
        let (buffers, block, saved) = (&self.buffers, self.block(index), self.saved(index));
        let (input, prompt) = (&buffers.inputs[index as usize], &self.prompts[index as usize]);
        if !self.keeps(index) {
            recorder.copy(input, &saved.middle, self.channel_bytes(n_tokens));
            recorder.launch(self.block_macs(n_tokens), |plan| {
                self.attention(plan, block, Some(prompt), saved, &saved.middle, n_tokens)?;
                self.gate_and_up(plan, block, &saved.middle, &saved.z, n_tokens).map(|_| ())
            })?;
            recorder.cut();
        }
        let macs = self.block_macs(n_tokens) / 2;
        recorder.launch(macs, |plan| self.mlp_backward(plan, block, saved, n_tokens))?;
        recorder.cut();
        recorder.launch(macs, |plan| self.attention_backward(plan, index, n_tokens))?;
        let size = self.channel_bytes(self.adapter_len);
        let encoder = recorder.encoder();
        let to = operands.dprompts_offset + u64::from(index) * size;
        encoder.copy_buffer_to_buffer(buffers.prompt.raw(), 0, operands.dprompts, to, size);
        let size = u64::from(self.model.config().n_heads) * 4;
        let to = operands.dgates_offset + u64::from(index) * size;
        encoder.copy_buffer_to_buffer(buffers.dgate.raw(), 0, operands.dgates, to, size);
        recorder.cut();
        Ok(())
    }

    fn mlp_backward(
        &self,
        plan: &mut PlanBuilder<'_>,
        block: &Block,
        saved: &Saved<Buffer>,
        n_tokens: u32,
    ) -> Result<(), GpuError> {
        let (config, buffers) = (self.model.config(), &self.buffers);
        let (n_ffn, dnormed) = (config.n_ffn, &buffers.normed);
        let shape = Shape { n_tokens, y_stride: config.n_channels, y_offset: 0 };
        matmul::launch_backward(plan, &block.down, &buffers.dx, &buffers.hidden, shape, false)?;
        swiglu::launch_backward(plan, &buffers.hidden, &saved.z, [n_tokens, n_ffn], rows_of(block))?;
        let at = |y_offset| Shape { n_tokens, y_stride: 2 * n_ffn, y_offset };
        match &block.gate_up {
            GateUp::Fused(both) => matmul::launch_backward(plan, both, &saved.z, dnormed, at(0), false)?,
            GateUp::Apart { gate, up } => {
                matmul::launch_backward(plan, gate, &saved.z, dnormed, at(0), false)?;
                matmul::launch_backward(plan, up, &saved.z, dnormed, at(n_ffn), true)?;
            }
        }
        let norm = self.norm(n_tokens);
        rms_norm::launch_backward(plan, dnormed, &saved.middle, &block.mlp_norm, &buffers.dx, None, norm)
    }

    /// Attention and the adapter beside it. Nothing below the lowest adapted block learns: there it ends with the adapter.
    fn attention_backward(&self, plan: &mut PlanBuilder<'_>, index: u32, n_tokens: u32) -> Result<(), GpuError> {
        let (config, buffers, block) = (self.model.config(), &self.buffers, self.block(index));
        let (saved, prompt, heads) = (self.saved(index), &self.prompts[index as usize], config.heads());
        let (lowest, packed, width) = (index == 0, self.packed(saved), qkv_width(heads));
        let (d_o, dqkv, dprompt) = (&buffers.with_prompt, &buffers.qkv, &buffers.prompt_product);
        let product = |n_tokens, y_stride| Shape { n_tokens, y_stride, y_offset: 0 };
        let shape = product(n_tokens, config.n_channels);
        matmul::launch_backward(plan, &block.output, &buffers.dx, d_o, shape, false)?;
        if !lowest {
            let (q, cache, o) = (&saved.q, &saved.cache(), &saved.attended);
            let operands = attention::BackwardOperands { d_o, q, cache, o, packed, dqkv, heads, n_tokens };
            attention::launch_backward(plan, operands)?;
        }
        let operands = gated_attention::BackwardOperands {
            d_o,
            q: &saved.q,
            prompt,
            weights: &buffers.weights,
            dgates: &buffers.dgates,
            dqkv,
            add_dq: !lowest,
            dprompt,
            dgate: &buffers.dgate,
            heads,
            n_tokens,
            adapter_len: self.adapter_len,
        };
        gated_attention::launch_backward(plan, operands)?;
        let shape = product(self.adapter_len, width);
        matmul::launch_backward(plan, &block.qkv, dprompt, &buffers.prompt, shape, false)?;
        if lowest {
            return Ok(());
        }
        let turned = heads.n_heads + heads.n_kv_heads;
        let sizes = [n_tokens, turned + heads.n_kv_heads, heads.head_dim];
        rope::launch_backward(plan, &buffers.step, &buffers.rope_table, dqkv, packed, sizes, turned)?;
        let (dnormed, input) = (&buffers.normed, &buffers.inputs[index as usize]);
        matmul::launch_backward(plan, &block.qkv, dqkv, dnormed, product(n_tokens, width), false)?;
        let norm = self.norm(n_tokens);
        rms_norm::launch_backward(plan, dnormed, input, &block.attention_norm, &buffers.dx, None, norm)
    }
}

impl Saved<Buffer> {
    fn cache(&self) -> LayerCache {
        LayerCache { k: self.k.clone(), v: self.v.clone(), format: CacheFormat::F32 }
    }
}

fn rows_of(block: &Block) -> Rows {
    match &block.gate_up {
        GateUp::Fused(_) => Rows::Alternating,
        GateUp::Apart { .. } => Rows::Halves,
    }
}

fn check_sizes(model: &Model, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Result<(), Error> {
    let config = model.config();
    let bounds = [
        ("adapter layers", n_layers, config.n_layers),
        ("adapter length", adapter_len, MAX_ADAPTER_LEN),
        ("batch tokens", max_tokens, config.n_context.max(MAX_TOKENS)),
    ];
    match bounds.into_iter().find(|(_, value, limit)| *value == 0 || value > limit) {
        Some((field, value, limit)) => {
            Err(Error::Config { field: field.to_owned(), found: value.to_string(), wanted: format!("1 to {limit}") })
        }
        None => Ok(()),
    }
}
