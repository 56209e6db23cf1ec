//! The whole model in plain burn operations on the CPU, dequantized: `--backend cpu`.

use std::ops::ControlFlow;

use adapter_engine::adapter::{AdapterShape, Method};
use adapter_engine::formats::{Gguf, ReadAt, TensorInfo};
use adapter_engine::model::Config;
use adapter_engine::model::tensors::{self, Tensors};
use adapter_engine::train::Batch;
use burn::tensor::activation::silu;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::TrainError;
use crate::trainable::part;
use crate::zero_init_attention::{attention, gated_prompt_attention, heads, repeat_heads};

/// A LLaMA of burn tensors. Takes 4 bytes a weight.
#[derive(Debug)]
pub struct CpuLlama {
    config: Config,
    device: Device,
    /// `[V, C]`
    embedding: Tensor<2>,
    blocks: Vec<Block>,
    /// `[C]`
    output_norm: Tensor<1>,
    /// `[V, C]`; the embedding where it is tied.
    output: Tensor<2>,
}

/// Matrices as they lie in the file: `[out, in]`.
#[derive(Debug)]
struct Block {
    attention_norm: Tensor<1>,
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    output: Tensor<2>,
    mlp_norm: Tensor<1>,
    gate: Tensor<2>,
    up: Tensor<2>,
    down: Tensor<2>,
}

impl CpuLlama {
    /// Reads and dequantizes all weights. `progress` is told the tensors read and in all, and may stop.
    ///
    /// # Errors
    /// A file that [`Config::from_gguf`] refuses, missing tensors or of another shape, [`adapter_engine::Error::Cancelled`].
    pub fn load(
        gguf: &Gguf,
        source: &dyn ReadAt,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, TrainError> {
        let config = Config::from_gguf(gguf, source)?;
        let device = Device::flex().autodiff();
        let tensors = Tensors::new(gguf, &config)?;
        let n_tensors = tensors::of(&config).count() as u64;
        let mut done = 0;
        let mut data = |tensor: &TensorInfo| {
            done += 1;
            if progress(done.min(n_tensors), n_tensors).is_break() {
                return Err(TrainError::from(adapter_engine::Error::Cancelled));
            }
            weights(tensor, source)
        };
        let vector = |values: Vec<f32>| {
            let shape = [values.len()];
            Tensor::<1>::from_data(TensorData::new(values, shape), &device)
        };
        let matrix = |tensor: &TensorInfo, values: Vec<f32>| {
            let n_in = tensor.shape.first().map_or(1, |n_in| *n_in as usize);
            Tensor::<2>::from_data(TensorData::new(values, [tensor.rows() as usize, n_in]), &device)
        };
        let top_matrix = |name: &str, data: &mut dyn FnMut(&TensorInfo) -> Result<Vec<f32>, TrainError>| {
            let tensor = tensors.top(name)?;
            Ok::<_, TrainError>(matrix(tensor, data(tensor)?))
        };
        let embedding = top_matrix("token_embd.weight", &mut data)?;
        let mut blocks = Vec::with_capacity(config.n_layers as usize);
        for layer in 0..config.n_layers {
            let mut block_vector = |name: &str| Ok::<_, TrainError>(vector(data(tensors.block(layer, name)?)?));
            let (attention_norm, mlp_norm) = (block_vector("attn_norm.weight")?, block_vector("ffn_norm.weight")?);
            let mut matrix = |name: &str| {
                let tensor = tensors.block(layer, name)?;
                Ok::<_, TrainError>(matrix(tensor, data(tensor)?))
            };
            blocks.push(Block {
                attention_norm,
                q: matrix("attn_q.weight")?,
                k: matrix("attn_k.weight")?,
                v: matrix("attn_v.weight")?,
                output: matrix("attn_output.weight")?,
                mlp_norm,
                gate: matrix("ffn_gate.weight")?,
                up: matrix("ffn_up.weight")?,
                down: matrix("ffn_down.weight")?,
            });
        }
        let output_norm = vector(data(tensors.top("output_norm.weight")?)?);
        let output = match config.tied {
            true => embedding.clone(),
            false => top_matrix("output.weight", &mut data)?,
        };
        Ok(Self { config, device, embedding, blocks, output_norm, output })
    }

    /// Sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The burn device, with autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// As [`super::Frozen::loss`].
    pub(super) fn loss(&self, applied: Tensor<1>, method: &Method, batch: &Batch) -> Result<Tensor<1>, TrainError> {
        let Method::AdaptionPrompt(shape) = method;
        let table = shape.applied();
        let prompts: Tensor<3> = part(&table, AdapterShape::PROMPTS, &applied)?;
        let strengths: Tensor<2> = part(&table, AdapterShape::GATES, &applied)?;
        batch.check(u32::MAX, self.config.n_vocab)?;
        let (n_tokens, config) = (batch.n_tokens() as usize, &self.config);
        let first = config.n_layers as usize - prompts.dims()[0].min(config.n_layers as usize);
        let device = &self.device;
        let table = Rotation::new(config, batch.starts(), device);
        let mask = hidden(batch.starts(), device);
        let mut x = self.embedding.clone().select(0, indices(batch.ids(), device));
        for (layer, block) in self.blocks.iter().enumerate() {
            let adapter = layer.checked_sub(first).map(|index| {
                let prompt: Tensor<2> = prompts.clone().narrow(0, index, 1).squeeze_dim(0);
                let strength: Tensor<1> = strengths.clone().narrow(0, index, 1).squeeze_dim(0);
                (prompt, strength)
            });
            x = self.block(block, x, &table, mask.clone(), adapter);
        }
        debug_assert_eq!(x.dims()[0], n_tokens);
        let rows = rms_norm(x.select(0, indices(batch.rows(), device)), &self.output_norm, config.eps);
        let logits = product(rows, &self.output);
        let targets = indices(batch.targets(), device).unsqueeze_dim::<2>(1);
        let log_probabilities = burn::tensor::activation::log_softmax(logits, 1);
        Ok(log_probabilities.gather(1, targets).mean().neg())
    }

    fn block(
        &self,
        block: &Block,
        x: Tensor<2>,
        table: &Rotation,
        mask: Tensor<4, Bool>,
        adapter: Option<(Tensor<2>, Tensor<1>)>,
    ) -> Tensor<2> {
        let config = &self.config;
        let (n_heads, n_kv_heads) = (config.n_heads as usize, config.n_kv_heads as usize);
        let by_head = |x: Tensor<2>, n| heads(x.unsqueeze::<3>(), n);
        let shared = |x: Tensor<4>| repeat_heads(x, n_heads / n_kv_heads);
        let normed = rms_norm(x.clone(), &block.attention_norm, config.eps);
        let q = table.turn(by_head(product(normed.clone(), &block.q), n_heads));
        let k = shared(table.turn(by_head(product(normed.clone(), &block.k), n_kv_heads)));
        let v = shared(by_head(product(normed, &block.v), n_kv_heads));
        let mut o = attention(q.clone(), k, v, Some(mask));
        if let Some((prompt, strengths)) = adapter {
            let k_prompt = shared(by_head(product(prompt.clone(), &block.k), n_kv_heads));
            let v_prompt = shared(by_head(product(prompt, &block.v), n_kv_heads));
            o = o + gated_prompt_attention(q, k_prompt, v_prompt, strengths);
        }
        let n_tokens = x.dims()[0];
        let o: Tensor<2> = o.swap_dims(1, 2).reshape([n_tokens, n_heads * config.head_dim as usize]);
        let x = x + product(o, &block.output);
        let normed = rms_norm(x.clone(), &block.mlp_norm, config.eps);
        let hidden = silu(product(normed.clone(), &block.gate)) * product(normed, &block.up);
        x + product(hidden, &block.down)
    }
}

/// All values of a tensor.
fn weights(tensor: &TensorInfo, source: &dyn ReadAt) -> Result<Vec<f32>, TrainError> {
    let mut bytes = vec![0; tensor.size_bytes as usize];
    tensor.read_data(source, 0, &mut bytes).map_err(adapter_engine::Error::from)?;
    adapter_reference::dequantize::dequantize(tensor.tensor_type.ggml_id(), &bytes)
        .map_err(|error| TrainError::Burn { doing: "reading weights", reason: format!("{}: {error}", tensor.name) })
}

fn indices(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

/// `x [T, in] * w[out, in]ᵀ`
fn product(x: Tensor<2>, w: &Tensor<2>) -> Tensor<2> {
    x.matmul(w.clone().transpose())
}

/// Zhang and Sennrich 2019, arXiv:1910.07467, equation 4.
fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, eps: f32) -> Tensor<2> {
    let r = x.clone().square().mean_dim(1).add_scalar(eps).sqrt().recip();
    x * r * weight.clone().unsqueeze::<2>()
}

/// `[1, 1, T, T]`, true where the row's token must not see the column's: later ones, and those of other texts.
fn hidden(starts: &[u32], device: &Device) -> Tensor<4, Bool> {
    let n = starts.len();
    let values: Vec<bool> =
        starts.iter().enumerate().flat_map(|(t, start)| (0..n).map(move |s| s > t || s < *start as usize)).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, n, n]), device)
}

/// Rotary position embedding on neighbouring pairs (Su et al. 2021, arXiv:2104.09864), as GGUF's rows are ordered.
struct Rotation {
    /// `[1, 1, T, D/2]`
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    fn new(config: &Config, starts: &[u32], device: &Device) -> Self {
        let (n, half) = (starts.len(), config.head_dim as usize / 2);
        let table = config.rope.table(0..n as u32);
        let pick = |which: usize| {
            let angle = |t: usize, pair: usize| {
                let position = t - starts.get(t).map_or(0, |start| *start as usize).min(t);
                table.get((position * half + pair) * 2 + which).copied().unwrap_or_default()
            };
            let values: Vec<f32> =
                (0..n).flat_map(|t| (0..half).map(move |pair| (t, pair))).map(|(t, p)| angle(t, p)).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, n, half]), device)
        };
        Self { cos: pick(0), sin: pick(1) }
    }

    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, h, t, d] = x.dims();
        let pairs: Tensor<5> = x.reshape([b, h, t, d / 2, 2]);
        let part = |which: usize| -> Tensor<4> {
            pairs.clone().slice([0..b, 0..h, 0..t, 0..d / 2, which..which + 1]).squeeze_dim(4)
        };
        let (even, odd) = (part(0), part(1));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned_even = even.clone() * cos.clone() - odd.clone() * sin.clone();
        let turned_odd = even * sin + odd * cos;
        Tensor::stack::<5>(vec![turned_even, turned_odd], 4).reshape([b, h, t, d])
    }
}
