//! What goes into the first block: patches of a picture, or words; with their positions.

use super::config::{EncoderConfig, Input};
use super::positions;
use super::run::{Activations, Pixels};
use super::weights::Weights;
use crate::Error;
use crate::gpu::{Buffer, Gpu, PlanBuilder};
use crate::model::Linear;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::matmul::{Epilogue, Shape};
use crate::ops::matrix::Matrix;
use crate::ops::{embedding, residual_add};

/// Weights of the input.
#[derive(Debug)]
pub(super) struct Embedding {
    what: What,
    /// In front of the first block.
    norm: Option<LayerNorm>,
}

#[derive(Debug)]
enum What {
    Patches {
        /// `[C, 3 p p]`, columns filled up with zeros to a multiple of 32.
        product: Linear,
        patch_size: u32,
        /// `[C]`, with its position; not of SigLIP.
        class: Option<Vec<f32>>,
        /// `[g g, C]`, without that of the class token.
        positions: Vec<f32>,
        /// g: patches along a side of the square that the positions were learnt for.
        grid: u32,
    },
    Words {
        /// `[V, C]`
        table: Matrix,
        /// `[positions, C]`, the first segment's vector added.
        positions: Buffer,
        n_positions: u32,
    },
}

impl Embedding {
    pub fn load(weights: &mut Weights<'_>) -> Result<Self, Error> {
        let EncoderConfig { family, n_channels, input, .. } = *weights.config;
        let (names, c) = (family.names(), u64::from(n_channels));
        let what = match input {
            Input::Pixels { image_size, patch_size } => {
                let (p, grid) = (u64::from(patch_size), image_size / patch_size);
                let values = weights.floats(&format!("{}weight", names.input), &[p, p, 3, c])?;
                let n_cols = patch_columns(patch_size);
                let mut padded = vec![0.0; (n_channels * n_cols) as usize];
                for (row, values) in padded
                    .chunks_exact_mut(n_cols as usize)
                    .zip(values.chunks_exact((3 * patch_size * patch_size) as usize))
                {
                    row.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
                }
                let bias = format!("{}bias", names.input);
                let bias = match weights.find(&bias) {
                    Some(_) => Some(weights.vector(&weights.floats(&bias, &[c])?)?),
                    None => None,
                };
                let n_class = u64::from(names.class.is_some());
                let mut positions =
                    weights.floats(names.positions, &[c, u64::from(grid) * u64::from(grid) + n_class])?;
                let class = match names.class {
                    Some(name) => {
                        let mut class = weights.floats(name, &[c])?;
                        let patches = positions.split_off(n_channels as usize);
                        class.iter_mut().zip(&positions).for_each(|(class, position)| *class += position);
                        positions = patches;
                        Some(class)
                    }
                    None => None,
                };
                let product = Linear { matrix: weights.matrix(&padded, n_cols)?, bias };
                What::Patches { product, patch_size, class, positions, grid }
            }
            Input::Ids { n_vocab, n_positions } => {
                let skipped = family.first_position();
                let all = weights.floats(names.positions, &[c, u64::from(n_positions + skipped)])?;
                let mut positions = all.get((skipped * n_channels) as usize..).unwrap_or_default().to_vec();
                if let Some(name) = names.segments {
                    let n = weights.find(name).map_or(1, |tensor| tensor.rows());
                    let first = weights.floats(name, &[c, n])?;
                    for row in positions.chunks_exact_mut(n_channels as usize) {
                        row.iter_mut().zip(&first).for_each(|(position, segment)| *position += segment);
                    }
                }
                let table = weights.table(names.input, [n_vocab, n_channels])?;
                What::Words { table, positions: weights.vector(&positions)?, n_positions }
            }
        };
        let norm = names.first_norm.map(|name| weights.norm(name)).transpose()?;
        Ok(Self { what, norm })
    }

    /// Tokens that a picture of this size makes.
    ///
    /// # Errors
    /// Smaller than a patch, or an encoder of text.
    pub fn tokens_of(&self, pixels: &Pixels) -> Result<u32, Error> {
        let What::Patches { patch_size, class, .. } = &self.what else {
            return Err(Error::Unsupported { what: "pictures with an encoder of text".to_owned() });
        };
        let (width, height) = (pixels.width / patch_size, pixels.height / patch_size);
        if width == 0 || height == 0 || pixels.values.len() != 3 * pixels.width as usize * pixels.height as usize {
            return Err(Error::Config {
                field: "picture".to_owned(),
                found: format!("{} x {} pixels, {} numbers", pixels.width, pixels.height, pixels.values.len()),
                wanted: format!("three numbers a pixel and at least {patch_size} x {patch_size} pixels"),
            });
        }
        Ok(width * height + u32::from(class.is_some()))
    }

    /// The most tokens of a text.
    ///
    /// # Errors
    /// More than that; an encoder of pictures.
    pub fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        let What::Words { table, n_positions, .. } = &self.what else {
            return Err(Error::Unsupported { what: "text with an encoder of pictures".to_owned() });
        };
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if ids.len() > *n_positions as usize {
            let wanted = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            return Err(Error::ContextFull { wanted, limit: *n_positions });
        }
        match ids.iter().find(|id| **id >= table.n_rows) {
            Some(id) => Err(Error::TokenOutOfRange { id: *id, n_vocab: table.n_rows }),
            None => Ok(()),
        }
    }

    /// Patches with their positions into `act.x`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch_pixels(
        &self,
        gpu: &Gpu,
        plan: &mut PlanBuilder<'_>,
        config: &EncoderConfig,
        pixels: &Pixels,
        act: &Activations,
    ) -> Result<(), Error> {
        let What::Patches { product, patch_size, class, positions, grid } = &self.what else { return Ok(()) };
        let (n_channels, n_class) = (config.n_channels, u32::from(class.is_some()));
        let size = [pixels.width / patch_size, pixels.height / patch_size];
        let mut begun = class.clone().unwrap_or_default();
        begun.extend(positions::interpolated(positions, *grid, size, n_channels as usize));
        let patches = gpu.buffer_with("patches", &pixels.patches(*patch_size, patch_columns(*patch_size)))?;
        let target = if self.norm.is_some() { &act.normed } else { &act.x };
        gpu.write(target, 0, &begun);
        let shape = Shape { n_tokens: size[0] * size[1], y_stride: n_channels, y_offset: n_class * n_channels };
        product.launch(plan, &patches, target, shape, Epilogue::Add)?;
        self.launch_norm(plan, config, act)
    }

    /// Words with their positions into `act.x`.
    ///
    /// # Errors
    /// As [`PlanBuilder::launch`].
    pub fn launch_ids(
        &self,
        gpu: &Gpu,
        plan: &mut PlanBuilder<'_>,
        config: &EncoderConfig,
        ids: &[u32],
        act: &Activations,
    ) -> Result<(), Error> {
        let What::Words { table, positions, .. } = &self.what else { return Ok(()) };
        let target = if self.norm.is_some() { &act.normed } else { &act.x };
        let ids = gpu.buffer_with("ids", ids)?;
        embedding::launch(plan, table, &ids, target, act.n_tokens)?;
        residual_add::launch(plan, positions, target, act.n_tokens * config.n_channels)?;
        self.launch_norm(plan, config, act)
    }

    fn launch_norm(&self, plan: &mut PlanBuilder<'_>, config: &EncoderConfig, act: &Activations) -> Result<(), Error> {
        match &self.norm {
            Some(norm) => Ok(norm.launch(plan, &act.normed, &act.x, [act.n_tokens, config.n_channels])?),
            None => Ok(()),
        }
    }
}

/// Columns of the product of patches: products take blocks of 32.
fn patch_columns(patch_size: u32) -> u32 {
    (3 * patch_size * patch_size).next_multiple_of(32)
}
