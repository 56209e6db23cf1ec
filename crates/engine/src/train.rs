//! One training step through the frozen model: loss, and gradients to the adapter's prompts and gates.
//!
//! Only activations have gradients, nothing below the first adapted layer, and an adapted block keeps nothing but its input:
//! the rest is computed again on the way back. Texts of different length lie side by side in one batch, so that no work goes
//! into padding. Method and formulas: arXiv:2303.16199, section 3; every backward kernel names its own source.

use crate::Error;
use crate::adapter::{AdapterFile, GateActivation, GateShape};
use crate::gpu::{Buffer, Gpu, GpuError, PlanBuilder, Step};
use crate::layers::block::{Activations, Block, Context, GateUp, qkv_width};
use crate::llama::{Config, Model};
use crate::ops::gated_attention::{self, Gradients, MAX_ADAPTER_LEN, PromptCache};
use crate::ops::kv_cache::{self, LayerCache, plane_bytes};
use crate::ops::matmul::{self, Epilogue, Shape};
use crate::ops::rope::{self, Packed};
use crate::ops::{attention, cross_entropy, embedding, rms_norm, swiglu};

/// Rows of logits computed at once: bounds their memory to this many vocabularies.
const LOGIT_ROWS: u32 = 32;

/// Texts side by side and what is learnt of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[T]`
    ids: Vec<u32>,
    /// `[T]`, the first token of each token's text.
    starts: Vec<u32>,
    /// Rows that predict a trained token.
    rows: Vec<u32>,
    /// The tokens they should predict.
    targets: Vec<u32>,
}

impl Batch {
    /// Adds a text: its ids, and for each whether the model shall learn to say it. The first token has nothing before it and
    /// is never learnt.
    pub fn push(&mut self, ids: &[u32], trained: &[bool]) {
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(ids);
        self.starts.extend(std::iter::repeat_n(start, ids.len()));
        for (t, (id, trained)) in ids.iter().zip(trained).enumerate().skip(1) {
            if *trained {
                self.rows.push(start + t as u32 - 1);
                self.targets.push(*id);
            }
        }
    }

    /// T: tokens of all texts.
    pub fn n_tokens(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Tokens that are learnt.
    pub fn n_targets(&self) -> u32 {
        self.targets.len() as u32
    }

    /// `[T]`
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// `[T]`: for each token the first token of its text.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Tokens whose output predicts a learnt token; ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The tokens that [`Self::rows`] should predict.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Checks that there is something to learn and that all ids are in the model's vocabulary.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`].
    pub fn check(&self, config: &Config) -> Result<(), Error> {
        if self.targets.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        match self.ids.iter().find(|id| **id >= config.n_vocab) {
            Some(id) => Err(Error::TokenOutOfRange { id: *id, n_vocab: config.n_vocab }),
            None => Ok(()),
        }
    }
}

/// Buffers for steps of at most so many tokens.
pub struct Trainer {
    model: Model,
    n_layers: u32,
    adapter_len: u32,
    max_tokens: u32,
    activations: Activations,
    step: Buffer,
    rope_table: Buffer,
    ids: Buffer,
    starts: Buffer,
    rows: Buffer,
    targets: Buffer,
    losses: Buffer,
    stats: Buffer,
    cache: LayerCache,
    prompts: Vec<PromptCache>,
    prompt: Buffer,
    prompt_product: Buffer,
    /// `[L_a][T, C]`
    inputs: Vec<Buffer>,
    attended_with_prompt: Buffer,
    /// `[T, 2F]`
    z: Buffer,
    dx: Buffer,
    dnormed: Buffer,
    d_attended: Buffer,
    dqkv: Buffer,
    weights: Buffer,
    dgates: Buffer,
    dprompt: Buffer,
    dgate: Buffer,
    head_input: Buffer,
    d_head_input: Buffer,
    logits: Buffer,
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
    ///
    /// # Errors
    /// Sizes that the model or the kernels do not take, too little memory.
    pub fn new(model: &Model, n_layers: u32, adapter_len: u32, max_tokens: u32) -> Result<Self, Error> {
        let (gpu, config) = (model.gpu(), model.config());
        let bounds = [
            ("adapter layers", n_layers, config.n_layers),
            ("adapter length", adapter_len, MAX_ADAPTER_LEN),
            ("batch tokens", max_tokens, config.n_context.max(max_tokens.min(1 << 16))),
        ];
        for (field, value, limit) in bounds {
            if value == 0 || value > limit {
                return Err(Error::Config {
                    field: field.to_owned(),
                    found: value.to_string(),
                    wanted: format!("1 to {limit}"),
                });
            }
        }
        let first = (config.n_layers - n_layers) as usize;
        if model.0.blocks[first..].iter().any(|block| matches!(block.gate_up, GateUp::Apart { .. })) {
            return Err(Error::Unsupported { what: "different formats for ffn_gate and ffn_up (training)".to_owned() });
        }
        let apart = model.0.blocks.iter().any(|block| matches!(block.gate_up, GateUp::Apart { .. }));
        let heads = config.heads();
        let (q_width, width) = (heads.n_heads * heads.head_dim, qkv_width(heads));
        let rows = |what: &str, width: u32| gpu.buffer(what, u64::from(max_tokens) * u64::from(width) * 4);
        let prompt_rows = |what: &str, width: u32| gpu.buffer(what, u64::from(adapter_len) * u64::from(width) * 4);
        let kv_width = heads.n_kv_heads * heads.head_dim;
        let size = plane_bytes(heads, max_tokens);
        Ok(Self {
            n_layers,
            adapter_len,
            max_tokens,
            activations: Activations {
                x: rows("residual stream", config.n_channels)?,
                normed: rows("normed activations", config.n_channels)?,
                qkv: rows("queries, keys, values", width)?,
                q: rows("queries", q_width)?,
                attended: rows("attention output", q_width)?,
                hidden: rows("MLP activations", config.n_ffn)?,
                gate_and_up: match apart {
                    true => Some((rows("MLP gate", config.n_ffn)?, rows("MLP up", config.n_ffn)?)),
                    false => None,
                },
            },
            step: gpu.buffer("step", size_of::<Step>() as u64)?,
            rope_table: gpu.buffer_with("rope table", &config.rope.table(0..max_tokens))?,
            ids: rows("token ids", 1)?,
            starts: rows("text starts", 1)?,
            rows: rows("trained rows", 1)?,
            targets: rows("targets", 1)?,
            losses: rows("losses", 1)?,
            stats: rows("attention statistics", heads.n_heads * 2)?,
            cache: LayerCache { k: gpu.buffer("keys", size)?, v: gpu.buffer("values", size)? },
            prompts: (0..n_layers)
                .map(|_| {
                    Ok(PromptCache {
                        k: prompt_rows("prompt keys", kv_width)?,
                        v: prompt_rows("prompt values", kv_width)?,
                        gate: gpu.buffer("gates", u64::from(heads.n_heads) * 4)?,
                    })
                })
                .collect::<Result<_, GpuError>>()?,
            prompt: prompt_rows("adaption prompt", config.n_channels)?,
            prompt_product: prompt_rows("prompt products", width)?,
            inputs: (0..n_layers).map(|_| rows("block input", config.n_channels)).collect::<Result<_, _>>()?,
            attended_with_prompt: rows("attention output with prompt", q_width)?,
            z: rows("MLP gate and up", config.n_ffn * 2)?,
            dx: rows("gradient of the residual stream", config.n_channels)?,
            dnormed: rows("gradient of normed activations", config.n_channels)?,
            d_attended: rows("gradient of attention output", q_width)?,
            dqkv: rows("gradient of queries, keys, values", width)?,
            weights: rows("prompt weights", heads.n_heads * adapter_len * 2)?,
            dgates: rows("gate gradients by token", heads.n_heads)?,
            dprompt: prompt_rows("gradient of prompt keys and values", width)?,
            dgate: gpu.buffer("gradient of gates", u64::from(heads.n_heads) * 4)?,
            head_input: gpu.buffer("head input", u64::from(LOGIT_ROWS * config.n_channels) * 4)?,
            d_head_input: gpu.buffer("gradient of head input", u64::from(LOGIT_ROWS * config.n_channels) * 4)?,
            logits: gpu.buffer("logits", u64::from(LOGIT_ROWS) * u64::from(config.n_vocab) * 4)?,
            model: model.clone(),
        })
    }

    /// L_a: adapted layers.
    pub fn n_layers(&self) -> u32 {
        self.n_layers
    }

    /// A: prompt tokens a layer.
    pub fn adapter_len(&self) -> u32 {
        self.adapter_len
    }

    /// Submits forward and backward of one batch. Gradients are of the mean loss over all targets; the losses stay on the
    /// GPU until [`Trainer::losses`] reads them. With `backward` false only the losses are computed.
    ///
    /// # Errors
    /// A batch without targets or over the size of the buffers, ids outside the vocabulary, a lost GPU.
    pub fn submit(&self, batch: &Batch, operands: Operands<'_>, backward: bool) -> Result<(), Error> {
        batch.check(self.model.config())?;
        if batch.n_tokens() > self.max_tokens {
            return Err(Error::ContextFull { wanted: batch.n_tokens(), limit: self.max_tokens });
        }
        let gpu = self.gpu();
        let n_tokens = batch.n_tokens();
        gpu.write(&self.ids, 0, &batch.ids);
        gpu.write(&self.starts, 0, &batch.starts);
        gpu.write(&self.rows, 0, &batch.rows);
        gpu.write(&self.targets, 0, &batch.targets);
        gpu.write(&self.step, 0, &[Step { past: 0, n_tokens, ..Step::default() }]);
        self.forward(n_tokens, operands)?;
        self.loss(batch, backward)?;
        if backward {
            for index in (0..self.n_layers).rev() {
                self.block_backward(index, n_tokens, operands)?;
            }
        }
        Ok(())
    }

    /// The loss of every target of the batch that was submitted last.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn losses(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        Ok(self.gpu().read(&self.losses, 0, batch.targets.len()).await?)
    }

    /// Copies the losses of the batch that was submitted last, `[n_targets]` f32, to a buffer of the same device.
    pub fn copy_losses(&self, batch: &Batch, to: &wgpu::Buffer, to_offset: u64) {
        let mut encoder = self.gpu().encoder();
        encoder.copy_buffer_to_buffer(self.losses.raw(), 0, to, to_offset, u64::from(batch.n_targets()) * 4);
        self.gpu().submit(encoder);
    }

    fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    fn packed(&self) -> Packed<'_> {
        Packed { starts: &self.starts, stats: &self.stats }
    }

    /// Submits the launches that `fill` adds, then the copies of `after`.
    fn run(
        &self,
        fill: impl FnOnce(&mut PlanBuilder<'_>) -> Result<(), GpuError>,
        after: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<(), Error> {
        let gpu = self.gpu();
        let mut plan = PlanBuilder::new(gpu);
        fill(&mut plan)?;
        let plan = plan.build()?;
        let mut encoder = gpu.encoder();
        plan.encode(gpu, &mut encoder);
        after(&mut encoder);
        gpu.submit(encoder);
        Ok(())
    }

    /// Index of an adapted layer among the adapted ones.
    fn adapted(&self, layer: usize) -> Option<usize> {
        layer.checked_sub((self.model.config().n_layers - self.n_layers) as usize)
    }

    fn block(&self, index: u32) -> &Block {
        &self.model.0.blocks[(self.model.config().n_layers - self.n_layers + index) as usize]
    }

    /// Keys and values of all prompts, then all blocks; the input of each adapted block is kept.
    fn forward(&self, n_tokens: u32, operands: Operands<'_>) -> Result<(), Error> {
        let config = self.model.config();
        for index in 0..self.n_layers {
            self.prompt_keys_and_values(index, operands)?;
        }
        self.run(
            |plan| embedding::launch(plan, &self.model.0.embedding, &self.ids, &self.activations.x, n_tokens),
            |_| {},
        )?;
        let context = Context {
            config,
            activations: &self.activations,
            step: &self.step,
            rope_table: &self.rope_table,
            n_tokens,
            packed: Some(self.packed()),
        };
        for (layer, block) in self.model.0.blocks.iter().enumerate() {
            let index = self.adapted(layer);
            if let Some(index) = index {
                let size = u64::from(n_tokens * config.n_channels) * 4;
                let mut encoder = self.gpu().encoder();
                encoder.copy_buffer_to_buffer(self.activations.x.raw(), 0, self.inputs[index].raw(), 0, size);
                self.gpu().submit(encoder);
            }
            let prompt = index.map(|index| (&self.prompts[index], self.adapter_len));
            self.run(|plan| block.launch(plan, context, &self.cache, prompt), |_| {})?;
        }
        Ok(())
    }

    fn prompt_keys_and_values(&self, index: u32, operands: Operands<'_>) -> Result<(), Error> {
        let config = self.model.config();
        let heads = config.heads();
        let (width, prompt) = (qkv_width(heads), &self.prompts[index as usize]);
        let prompt_bytes = u64::from(self.adapter_len * config.n_channels) * 4;
        let gate_bytes = u64::from(heads.n_heads) * 4;
        let mut encoder = self.gpu().encoder();
        let from = operands.prompts_offset + u64::from(index) * prompt_bytes;
        encoder.copy_buffer_to_buffer(operands.prompts, from, self.prompt.raw(), 0, prompt_bytes);
        let from = operands.gates_offset + u64::from(index) * gate_bytes;
        encoder.copy_buffer_to_buffer(operands.gates, from, prompt.gate.raw(), 0, gate_bytes);
        self.gpu().submit(encoder);
        let shape = Shape { n_tokens: self.adapter_len, y_stride: width, y_offset: 0 };
        let (block, product) = (self.block(index), &self.prompt_product);
        self.run(
            |plan| matmul::launch(plan, &block.qkv, &self.prompt, product, shape, Epilogue::Store),
            |encoder| prompt.copy_from_product(encoder, product, heads, self.adapter_len),
        )
    }

    /// Losses of the trained rows and, for the way back, the gradient that enters the last block.
    fn loss(&self, batch: &Batch, backward: bool) -> Result<(), Error> {
        let config = self.model.config();
        let head = self.model.0.head();
        let mut encoder = self.gpu().encoder();
        encoder.clear_buffer(self.dx.raw(), 0, None);
        self.gpu().submit(encoder);
        let scale = 1.0 / batch.n_targets() as f32;
        let mut first = 0;
        while first < batch.n_targets() {
            let n = LOGIT_ROWS.min(batch.n_targets() - first);
            let norm =
                rms_norm::Shape { n_tokens: n, n_channels: config.n_channels, first_token: first, eps: config.eps };
            let shape = Shape { n_tokens: n, y_stride: config.n_vocab, y_offset: 0 };
            let (x, weight) = (&self.activations.x, &self.model.0.output_norm);
            self.run(
                |plan| {
                    rms_norm::launch_gather(plan, x, weight, &self.head_input, &self.rows, norm)?;
                    matmul::launch(plan, head, &self.head_input, &self.logits, shape, Epilogue::Store)?;
                    let sizes = [n, config.n_vocab, first];
                    cross_entropy::launch(plan, &self.targets, &self.logits, &self.losses, sizes, scale)?;
                    if backward {
                        matmul::launch_backward(plan, head, &self.logits, &self.d_head_input, shape, false)?;
                        let rows = Some(&self.rows);
                        rms_norm::launch_backward(plan, &self.d_head_input, x, weight, &self.dx, rows, norm)?;
                    }
                    Ok(())
                },
                |_| {},
            )?;
            first += n;
        }
        Ok(())
    }

    /// The block's middle again, then its gradients. `dx` is the gradient at its output and becomes that at its input.
    fn block_backward(&self, index: u32, n_tokens: u32, operands: Operands<'_>) -> Result<(), Error> {
        let (config, block) = (self.model.config(), self.block(index));
        let GateUp::Fused(gate_up) = &block.gate_up else {
            return Err(Error::Unsupported { what: "different formats for ffn_gate and ffn_up (training)".to_owned() });
        };
        let (heads, act, packed) = (config.heads(), &self.activations, self.packed());
        let (input, prompt) = (&self.inputs[index as usize], &self.prompts[index as usize]);
        let lowest = index == 0;
        let norm = rms_norm::Shape { n_tokens, n_channels: config.n_channels, first_token: 0, eps: config.eps };
        let product = |y_stride| Shape { n_tokens, y_stride, y_offset: 0 };
        let (c, f, width) = (config.n_channels, config.n_ffn, qkv_width(heads));
        let lengths = [n_tokens, self.adapter_len];
        let gradients = Gradients {
            weights: &self.weights,
            dgates: &self.dgates,
            dqkv: &self.dqkv,
            add_dq: !lowest,
            dprompt: &self.dprompt,
            dgate: &self.dgate,
        };

        let mut encoder = self.gpu().encoder();
        encoder.copy_buffer_to_buffer(input.raw(), 0, act.x.raw(), 0, u64::from(n_tokens * c) * 4);
        self.gpu().submit(encoder);
        self.run(
            |plan| {
                // The forward pass again, up to the inputs of swiglu.
                rms_norm::launch(plan, input, &block.attention_norm, &act.normed, norm)?;
                matmul::launch(plan, &block.qkv, &act.normed, &act.qkv, product(width), Epilogue::Store)?;
                let (step, table) = (&self.step, &self.rope_table);
                kv_cache::launch(plan, step, table, &act.qkv, &act.q, &self.cache, heads, n_tokens, Some(packed))?;
                attention::launch(plan, step, &act.q, &self.cache, &act.attended, heads, n_tokens, Some(packed))?;
                let with_prompt = &self.attended_with_prompt;
                gated_attention::launch(plan, &act.q, prompt, with_prompt, Some(&act.attended), heads, lengths)?;
                matmul::launch(plan, &block.output, with_prompt, &act.x, product(c), Epilogue::Add)?;
                rms_norm::launch(plan, &act.x, &block.mlp_norm, &act.normed, norm)?;
                matmul::launch(plan, gate_up, &act.normed, &self.z, product(2 * f), Epilogue::Store)?;
                // MLP.
                matmul::launch_backward(plan, &block.down, &self.dx, &act.hidden, product(c), false)?;
                swiglu::launch_backward(plan, &act.hidden, &self.z, [n_tokens, f])?;
                matmul::launch_backward(plan, gate_up, &self.z, &self.dnormed, product(2 * f), false)?;
                rms_norm::launch_backward(plan, &self.dnormed, &act.x, &block.mlp_norm, &self.dx, None, norm)?;
                // Attention and the adapter beside it.
                let d_o = &self.d_attended;
                matmul::launch_backward(plan, &block.output, &self.dx, d_o, product(c), false)?;
                if !lowest {
                    let (cache, o) = (&self.cache, &act.attended);
                    attention::launch_backward(plan, d_o, &act.q, cache, o, packed, &self.dqkv, heads, n_tokens)?;
                }
                gated_attention::launch_backward(plan, d_o, &act.q, prompt, gradients, heads, lengths)?;
                let prompt_shape = Shape { n_tokens: self.adapter_len, y_stride: width, y_offset: 0 };
                matmul::launch_backward(plan, &block.qkv, &self.dprompt, &self.prompt, prompt_shape, false)?;
                if !lowest {
                    let sizes = [n_tokens, heads.n_heads + 2 * heads.n_kv_heads, heads.head_dim];
                    let turned = heads.n_heads + heads.n_kv_heads;
                    rope::launch_backward(plan, step, table, &self.dqkv, packed, sizes, turned)?;
                    matmul::launch_backward(plan, &block.qkv, &self.dqkv, &self.dnormed, product(width), false)?;
                    let (weight, dx) = (&block.attention_norm, &self.dx);
                    rms_norm::launch_backward(plan, &self.dnormed, input, weight, dx, None, norm)?;
                }
                Ok(())
            },
            |encoder| {
                let size = u64::from(self.adapter_len * c) * 4;
                let to = operands.dprompts_offset + u64::from(index) * size;
                encoder.copy_buffer_to_buffer(self.prompt.raw(), 0, operands.dprompts, to, size);
                let size = u64::from(heads.n_heads) * 4;
                let to = operands.dgates_offset + u64::from(index) * size;
                encoder.copy_buffer_to_buffer(self.dgate.raw(), 0, operands.dgates, to, size);
            },
        )
    }
}

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
    let (gpu, config) = (model.gpu(), model.config());
    file.check_fits(config)?;
    let trainer = Trainer::new(model, file.n_layers, file.adapter_len, batch.n_tokens().max(1))?;
    let strengths = file.effective_gates(config.n_heads).concat();
    let (prompts, gates) = (gpu.buffer_with("prompts", &file.prompts)?, gpu.buffer_with("gates", &strengths)?);
    let dprompts = gpu.buffer("gradient of prompts", prompts.size())?;
    let dgates = gpu.buffer("gradient of gates", gates.size())?;
    let operands = Operands {
        prompts: prompts.raw(),
        prompts_offset: 0,
        gates: gates.raw(),
        gates_offset: 0,
        dprompts: dprompts.raw(),
        dprompts_offset: 0,
        dgates: dgates.raw(),
        dgates_offset: 0,
    };
    trainer.submit(batch, operands, true)?;
    let losses = trainer.losses(batch).await?;
    let to_strengths: Vec<f32> = gpu.read(&dgates, 0, strengths.len()).await?;
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
        dprompts: gpu.read(&dprompts, 0, file.prompts.len()).await?,
        dgates,
    })
}
