//! Zero-initialised attention as a plain burn module, for any burn model: a ViT, an encoder, a decoder.
//!
//! The engine's kernels compute the same function on quantized weights; here burn's own operations and autodiff do, which
//! makes this module their second opinion.

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor};

/// Configuration of [`ZeroInitAttention`].
#[derive(Config, Debug)]
pub struct ZeroInitAttentionConfig {
    /// C: channels of the model.
    pub d_model: usize,
    /// H: query heads; divides `d_model`.
    pub n_heads: usize,
    /// A: prompt tokens.
    pub adapter_len: usize,
    /// K: key and value heads; divides `n_heads` (grouped-query attention).
    #[config(default = "None")]
    pub n_kv_heads: Option<usize>,
    /// Whether the four projections have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// One gate a head (the paper), or one for all (Hugging Face PEFT).
    #[config(default = true)]
    pub gate_per_head: bool,
    /// Whether the gate goes through tanh (the paper).
    #[config(default = true)]
    pub gate_tanh: bool,
}

/// Multi-head attention with zero-initialised gated prompts.
///
/// ```math
/// o = softmax(q kᵀ / √D + mask) v + γ · softmax(q k_Pᵀ / √D) v_P,    k_P = W_k P,  v_P = W_v P,  γ = tanh(g)
/// ```
///
/// Where:
/// - `P [A, C]` are the adaption prompts, standard normal; they pass through the layer's own key and value projection, get no
///   position and no mask: every token sees all of them;
/// - `g` is the gate, 0 at the beginning: the module then computes exactly what attention without prompts computes, and the
///   gradient of `P` is exactly 0 while that of `g` is not.
///
/// The two softmaxes are apart and the token part is not rescaled. Source: Zhang et al. 2023, arXiv:2303.16199, equations 5 to
/// 8 (with 1/√D, as all published code has it, where the paper prints 1/√C).
///
/// # Example
/// Teach a frozen attention layer something new with prompts and gate alone:
///
/// ```
/// use adapter_finetune::{ZeroInitAttention, ZeroInitAttentionConfig};
/// use burn::optim::{AdamWConfig, GradientsParams};
/// use burn::tensor::{Device, Distribution, Tensor};
///
/// let device = Device::flex().autodiff();
/// let config = ZeroInitAttentionConfig::new(32, 4, 10);
/// let mut layer = config.init(&device).freeze_projections();
/// let x = Tensor::<3>::random([2, 7, 32], Distribution::Default, &device);
/// let wanted = Tensor::<3>::ones([2, 7, 32], &device);
///
/// let mut optimizer = AdamWConfig::new().init();
/// let mut losses = Vec::new();
/// for _ in 0..20 {
///     let loss = (layer.forward(x.clone(), None) - wanted.clone()).square().mean();
///     losses.push(loss.clone().into_scalar::<f32>());
///     let gradients = GradientsParams::from_grads(loss.backward(), &layer);
///     layer = optimizer.step(0.05, layer, gradients);
/// }
/// assert!(losses[19] < losses[0]);
/// ```
#[derive(Module, Debug)]
pub struct ZeroInitAttention {
    /// `[C, C]`
    pub query: Linear,
    /// `[C, K * D]`
    pub key: Linear,
    /// `[C, K * D]`
    pub value: Linear,
    /// `[C, C]`
    pub output: Linear,
    /// `[A, C]`
    pub prompt: Param<Tensor<2>>,
    /// `[H]` or `[1]`
    pub gate: Param<Tensor<1>>,
    n_heads: usize,
    n_kv_heads: usize,
    gate_tanh: bool,
}

impl ZeroInitAttentionConfig {
    /// A layer with fresh projections, standard normal prompts and gates 0.
    ///
    /// # Panics
    /// If `n_heads` does not divide `d_model`, or `n_kv_heads` does not divide `n_heads`: a mistake in the program, found when
    /// it is first run.
    pub fn init(&self, device: &Device) -> ZeroInitAttention {
        let n_kv_heads = self.n_kv_heads.unwrap_or(self.n_heads);
        assert!(
            self.n_heads > 0 && self.d_model.is_multiple_of(self.n_heads),
            "{} channels do not divide into {} heads",
            self.d_model,
            self.n_heads
        );
        assert!(
            n_kv_heads > 0 && self.n_heads.is_multiple_of(n_kv_heads),
            "{} query heads do not share {n_kv_heads} key and value heads",
            self.n_heads
        );
        let kv_width = self.d_model / self.n_heads * n_kv_heads;
        let linear = |width| LinearConfig::new(self.d_model, width).with_bias(self.bias).init(device);
        let n_gates = if self.gate_per_head { self.n_heads } else { 1 };
        ZeroInitAttention {
            query: linear(self.d_model),
            key: linear(kv_width),
            value: linear(kv_width),
            output: linear(self.d_model),
            prompt: Initializer::Normal { mean: 0.0, std: 1.0 }.init([self.adapter_len, self.d_model], device),
            gate: Initializer::Zeros.init([n_gates], device),
            n_heads: self.n_heads,
            n_kv_heads,
            gate_tanh: self.gate_tanh,
        }
    }
}

impl ZeroInitAttention {
    /// Attention over `x [B, T, C]`; `mask [B, T, T]` is true where the token of the row must not see that of the column.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - output: `[B, T, C]`
    pub fn forward(&self, x: Tensor<3>, mask: Option<Tensor<3, Bool>>) -> Tensor<3> {
        let [b, t, c] = x.dims();
        let prompt = self.prompt.val().unsqueeze::<3>();
        let q = heads(self.query.forward(x.clone()), self.n_heads);
        let (k, v) = (self.kv(&self.key, x.clone()), self.kv(&self.value, x));
        let (k_prompt, v_prompt) = (self.kv(&self.key, prompt.clone()), self.kv(&self.value, prompt));
        let gate = if self.gate_tanh { self.gate.val().tanh() } else { self.gate.val() };
        let strengths = gate.expand([self.n_heads]);
        let o = attention(q.clone(), k, v, mask.map(|mask| mask.unsqueeze_dim::<4>(1)))
            + gated_prompt_attention(q, k_prompt, v_prompt, strengths);
        self.output.forward(o.swap_dims(1, 2).reshape([b, t, c]))
    }

    /// The same layer, of which only prompts and gate learn.
    #[must_use]
    pub fn freeze_projections(mut self) -> Self {
        for linear in [&mut self.query, &mut self.key, &mut self.value, &mut self.output] {
            *linear = linear.clone().no_grad();
        }
        self
    }

    fn kv(&self, projection: &Linear, x: Tensor<3>) -> Tensor<4> {
        repeat_heads(heads(projection.forward(x), self.n_kv_heads), self.n_heads / self.n_kv_heads)
    }
}

/// `[B, T, H * D]` to `[B, H, T, D]`.
pub(crate) fn heads(x: Tensor<3>, n_heads: usize) -> Tensor<4> {
    let [b, t, width] = x.dims();
    x.reshape([b, t, n_heads, width / n_heads.max(1)]).swap_dims(1, 2)
}

/// `[B, K, T, D]` to `[B, K * n, T, D]`: each key and value head serves `n` query heads.
pub(crate) fn repeat_heads(x: Tensor<4>, n: usize) -> Tensor<4> {
    let [b, k, t, d] = x.dims();
    if n == 1 {
        return x;
    }
    x.unsqueeze_dim::<5>(2).expand([b, k, n, t, d]).reshape([b, k * n, t, d])
}

/// `softmax(q kᵀ / √D + mask) v`: `q [B, H, T, D]`, `k, v [B, H, S, D]`, `mask [B or 1, H or 1, T, S]` true where hidden.
pub(crate) fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let scale = (q.dims()[3] as f64).sqrt();
    let scores = q.matmul(k.transpose()).div_scalar(scale);
    let scores = match mask {
        // Large and finite: a row that hides everything would otherwise be 0 / 0.
        Some(mask) => {
            let dims = scores.dims();
            scores.mask_fill(mask.expand(dims), -1e30)
        }
        None => scores,
    };
    softmax(scores, 3).matmul(v)
}

/// `γ · softmax(q k_Pᵀ / √D) v_P`: `q [B, H, T, D]`, `k_prompt, v_prompt [1, H, A, D]`, `strengths [H]`. Equation 8.
pub(crate) fn gated_prompt_attention(
    q: Tensor<4>,
    k_prompt: Tensor<4>,
    v_prompt: Tensor<4>,
    strengths: Tensor<1>,
) -> Tensor<4> {
    let n_heads = strengths.dims()[0];
    attention(q, k_prompt, v_prompt, None) * strengths.reshape([1, n_heads, 1, 1])
}
