//! One picture or one text through an encoder.

use super::{Encoder, EncoderConfig};
use crate::Error;
use crate::gpu::{Buffer, Gpu, PlanBuilder, Step};
use crate::ops::kv_cache::{CacheFormat, LayerCache};

/// A picture as an encoder takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[3, height, width]`: red, green and blue, less their mean, over their deviation.
    pub values: Vec<f32>,
}

impl Pixels {
    /// `[patches, columns]`: of each patch the numbers of a channel row by row, channel after channel; zeros behind. What does not fill a
    /// patch at the right and the lower edge is left out.
    pub(super) fn patches(&self, patch_size: u32, n_columns: u32) -> Vec<f32> {
        let (p, width, height) = (patch_size as usize, self.width as usize, self.height as usize);
        let mut out = Vec::with_capacity((height / p) * (width / p) * n_columns as usize);
        for (row, column) in (0..height / p).flat_map(|row| (0..width / p).map(move |column| (row, column))) {
            for (channel, y) in (0..3).flat_map(|channel| (0..p).map(move |y| (channel, y))) {
                let from = (channel * height + row * p + y) * width + column * p;
                out.extend_from_slice(self.values.get(from..from + p).unwrap_or_default());
            }
            out.resize(out.len().next_multiple_of(n_columns as usize), 0.0);
        }
        out
    }
}

/// What an encoder made of a picture or a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// T: patches and the token in front of them, or tokens of the text.
    pub n_tokens: u32,
    /// `[T, C]` behind each of the blocks that were asked for, before any last norm.
    pub layers: Vec<Vec<f32>>,
    /// `[T, C]` at the end.
    pub last: Vec<f32>,
}

/// Buffers of a run, all f32.
#[derive(Debug)]
pub(super) struct Activations {
    pub n_tokens: u32,
    /// The residual stream `[T, C]`.
    pub x: Buffer,
    /// `[T, C]`
    pub normed: Buffer,
    /// `[T, 3 H D]`
    pub qkv: Buffer,
    /// `[T, H, D]`
    pub q: Buffer,
    /// Keys and values of the block at work.
    pub cache: LayerCache,
    /// `[T, H, D]`
    pub attended: Buffer,
    /// `[T, F]`
    pub hidden: Buffer,
    /// The step's uniform.
    pub step: Buffer,
    /// Rope's table for those who do not rotate: cosines of 1 and sines of 0, `[T, D/2, 2]`.
    pub table: Buffer,
}

impl Activations {
    fn new(gpu: &Gpu, config: &EncoderConfig, n_tokens: u32) -> Result<Self, Error> {
        let heads = config.heads();
        let rows = |what: &str, width: u32| gpu.buffer(what, u64::from(n_tokens) * u64::from(width) * 4);
        let (format, width) = (CacheFormat::F32, heads.n_heads * heads.head_dim);
        let plane = format.plane_bytes(heads, n_tokens);
        let table = [1.0f32, 0.0].repeat((n_tokens * heads.head_dim / 2) as usize);
        Ok(Self {
            n_tokens,
            x: rows("residual stream", config.n_channels)?,
            normed: rows("normed", config.n_channels)?,
            qkv: rows("q, k, v", heads.qkv_width())?,
            q: rows("queries", width)?,
            cache: LayerCache { k: gpu.buffer("keys", plane)?, v: gpu.buffer("values", plane)?, format },
            attended: rows("attended", width)?,
            hidden: rows("hidden", config.n_ffn)?,
            step: gpu.buffer_with("step", &[Step { past: 0, n_tokens, ..Step::default() }])?,
            table: gpu.buffer_with("no rotation", &table)?,
        })
    }
}

impl Encoder {
    /// Encodes a picture. `layers`: behind how many blocks the tokens are wanted, 0 to L; in the order asked for.
    ///
    /// # Errors
    /// A picture smaller than a patch, a layer that is not there, too little memory, a lost GPU.
    pub async fn pixels(&self, pixels: &Pixels, layers: &[u32]) -> Result<Encoded, Error> {
        let act = Activations::new(&self.gpu, &self.config, self.embedding.tokens_of(pixels)?)?;
        let mut plan = PlanBuilder::new(&self.gpu);
        self.embedding.launch_pixels(&self.gpu, &mut plan, &self.config, pixels, &act)?;
        self.run(plan, &act, layers).await
    }

    /// Encodes a text of ids. `layers` as in [`Encoder::pixels`].
    ///
    /// # Errors
    /// No ids or too many, ids outside the vocabulary, otherwise as [`Encoder::pixels`].
    pub async fn ids(&self, ids: &[u32], layers: &[u32]) -> Result<Encoded, Error> {
        self.embedding.check_ids(ids)?;
        let act = Activations::new(&self.gpu, &self.config, ids.len() as u32)?;
        let mut plan = PlanBuilder::new(&self.gpu);
        self.embedding.launch_ids(&self.gpu, &mut plan, &self.config, ids, &act)?;
        self.run(plan, &act, layers).await
    }

    async fn run(&self, embedding: PlanBuilder<'_>, act: &Activations, layers: &[u32]) -> Result<Encoded, Error> {
        let (gpu, n_layers) = (&self.gpu, self.config.n_layers);
        if let Some(layer) = layers.iter().find(|layer| **layer > n_layers) {
            let wanted = format!("0 to {n_layers}");
            return Err(Error::Config { field: "layer".to_owned(), found: layer.to_string(), wanted });
        }
        let size = act.x.size();
        let count = (act.n_tokens * self.config.n_channels) as usize;
        let kept = layers.iter().map(|_| gpu.buffer("a layer's tokens", size)).collect::<Result<Vec<_>, _>>()?;
        let keep = |encoder: &mut wgpu::CommandEncoder, done: u32| {
            for (buffer, _) in kept.iter().zip(layers).filter(|(_, layer)| **layer == done) {
                encoder.copy_buffer_to_buffer(act.x.raw(), 0, buffer.raw(), 0, size);
            }
        };
        let mut encoder = gpu.encoder();
        embedding.build()?.encode(gpu, &mut encoder);
        keep(&mut encoder, 0);
        gpu.submit(encoder);
        for (block, done) in self.blocks.iter().zip(1..) {
            let mut plan = PlanBuilder::new(gpu);
            block.launch(&mut plan, &self.config, act)?;
            // A block is a submit of its own: no driver takes a slow GPU for a hung one.
            let mut encoder = gpu.encoder();
            plan.build()?.encode(gpu, &mut encoder);
            keep(&mut encoder, done);
            gpu.submit(encoder);
        }
        let last = match &self.last_norm {
            Some(norm) => {
                let mut plan = PlanBuilder::new(gpu);
                norm.launch(&mut plan, &act.x, &act.normed, [act.n_tokens, self.config.n_channels])?;
                let mut encoder = gpu.encoder();
                plan.build()?.encode(gpu, &mut encoder);
                gpu.submit(encoder);
                &act.normed
            }
            None => &act.x,
        };
        let last = gpu.read(last, 0, count).await?;
        let mut layers = Vec::with_capacity(kept.len());
        for buffer in &kept {
            layers.push(gpu.read(buffer, 0, count).await?);
        }
        Ok(Encoded { n_tokens: act.n_tokens, layers, last })
    }
}
