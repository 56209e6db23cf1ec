//! The whole model in plain burn operations on the CPU, dequantized: `--backend cpu`.

use std::ops::ControlFlow;

use adapter_engine::adapter::{AdapterShape, Method};
use adapter_engine::formats::{Gguf, ReadAt, TensorInfo};
use adapter_engine::model::Config;
use adapter_engine::model::architecture::RopePairs;
use adapter_engine::model::tensors::{self, Tensors};
use adapter_engine::train::Batch;
use burn::tensor::activation::silu;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::TrainError;
use crate::flat::part;
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

/// A product with frozen weights, and its bias where the family has one.
#[derive(Debug)]
struct Linear {
    /// `[out, in]`, as it lies in the file.
    weight: Tensor<2>,
    /// `[out]`
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// `x [T, in]` to `[T, out]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = product(x, &self.weight);
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze::<2>(),
            None => y,
        }
    }
}

/// Matrices as they lie in the file: `[out, in]`.
#[derive(Debug)]
struct Block {
    attention_norm: Tensor<1>,
    q: Linear,
    k: Linear,
    v: Linear,
    /// Norm of each head of q and of k `[D]`, where the family has one.
    head_norms: Option<[Tensor<1>; 2]>,
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
            let vector = |name: &str, data: &mut dyn FnMut(&TensorInfo) -> Result<Vec<f32>, TrainError>| {
                Ok::<_, TrainError>(vector(data(tensors.block(layer, name)?)?))
            };
            let matrix = |name: &str, data: &mut dyn FnMut(&TensorInfo) -> Result<Vec<f32>, TrainError>| {
                let tensor = tensors.block(layer, name)?;
                Ok::<_, TrainError>(matrix(tensor, data(tensor)?))
            };
            let linear = |part: &str, data: &mut dyn FnMut(&TensorInfo) -> Result<Vec<f32>, TrainError>| {
                let weight = matrix(&format!("attn_{part}.weight"), data)?;
                let bias = match config.architecture.qkv_bias {
                    true => Some(vector(&format!("attn_{part}.bias"), data)?),
                    false => None,
                };
                Ok::<_, TrainError>(Linear { weight, bias })
            };
            blocks.push(Block {
                attention_norm: vector("attn_norm.weight", &mut data)?,
                q: linear("q", &mut data)?,
                k: linear("k", &mut data)?,
                v: linear("v", &mut data)?,
                head_norms: match config.architecture.head_norm {
                    true => Some([vector("attn_q_norm.weight", &mut data)?, vector("attn_k_norm.weight", &mut data)?]),
                    false => None,
                },
                output: matrix("attn_output.weight", &mut data)?,
                mlp_norm: vector("ffn_norm.weight", &mut data)?,
                gate: matrix("ffn_gate.weight", &mut data)?,
                up: matrix("ffn_up.weight", &mut data)?,
                down: matrix("ffn_down.weight", &mut data)?,
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
        let [q_norm, k_norm] = match &block.head_norms {
            Some([q, k]) => [Some(q), Some(k)],
            None => [None, None],
        };
        let q = table.turn(head_norm(by_head(block.q.forward(normed.clone()), n_heads), q_norm, config.eps));
        let k = head_norm(by_head(block.k.forward(normed.clone()), n_kv_heads), k_norm, config.eps);
        let k = shared(table.turn(k));
        let v = shared(by_head(block.v.forward(normed), n_kv_heads));
        let mut o = attention(q.clone(), k, v, Some(mask));
        if let Some((prompt, strengths)) = adapter {
            let k_prompt = head_norm(by_head(block.k.forward(prompt.clone()), n_kv_heads), k_norm, config.eps);
            let k_prompt = shared(k_prompt);
            let v_prompt = shared(by_head(block.v.forward(prompt), n_kv_heads));
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

/// The norm of each head of `x [1, heads, T, D]`, where the family has one.
fn head_norm(x: Tensor<4>, weight: Option<&Tensor<1>>, eps: f32) -> Tensor<4> {
    let Some(weight) = weight else { return x };
    let r = x.clone().square().mean_dim(3).add_scalar(eps).sqrt().recip();
    x * r * weight.clone().unsqueeze::<4>()
}

/// `[1, 1, T, T]`, true where the row's token must not see the column's: later ones, and those of other texts.
fn hidden(starts: &[u32], device: &Device) -> Tensor<4, Bool> {
    let n = starts.len();
    let values: Vec<bool> =
        starts.iter().enumerate().flat_map(|(t, start)| (0..n).map(move |s| s > t || s < *start as usize)).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, n, n]), device)
}

/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) on the pairs that the rows of the file have.
struct Rotation {
    pairs: RopePairs,
    /// Channels of a head that rotate, from the first on.
    n_rot: usize,
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
        let (pairs, n_rot) = (config.architecture.rope_pairs, config.rope.n_rot as usize);
        Self { pairs, n_rot, cos: pick(0), sin: pick(1) }
    }

    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        match self.pairs {
            RopePairs::Neighbours => self.turn_neighbours(x),
            RopePairs::Halves => self.turn_halves(x),
        }
    }

    fn turn_neighbours(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, h, t, d] = x.dims();
        let pairs: Tensor<5> = x.reshape([b, h, t, d / 2, 2]);
        let part = |which: usize| -> Tensor<4> {
            pairs.clone().slice([0..b, 0..h, 0..t, 0..d / 2, which..which + 1]).squeeze_dim(4)
        };
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let (even, odd) = rotated(part(0), part(1), cos, sin);
        Tensor::stack::<5>(vec![even, odd], 4).reshape([b, h, t, d])
    }

    fn turn_halves(&self, x: Tensor<4>) -> Tensor<4> {
        let d = x.dims()[3];
        let half = self.n_rot / 2;
        let angles = |table: &Tensor<4>| table.clone().narrow(3, 0, half);
        let part = |from: usize, n: usize| x.clone().narrow(3, from, n);
        let (first, second) = rotated(part(0, half), part(half, half), angles(&self.cos), angles(&self.sin));
        let mut parts = vec![first, second];
        if d > self.n_rot {
            parts.push(part(self.n_rot, d - self.n_rot));
        }
        Tensor::cat(parts, 3)
    }
}

/// `(x, y)` by the angle of `cos` and `sin`.
fn rotated(x: Tensor<4>, y: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    (x.clone() * cos.clone() - y.clone() * sin.clone(), x * sin + y * cos)
}
