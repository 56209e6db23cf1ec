//! The burn module: nothing at first, gradients as the paper says, frozen projections, shared heads.

use adapter_finetune::{ZeroInitAttention, ZeroInitAttentionConfig};
use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Distribution, Tensor, TensorData};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn input(device: &Device) -> Tensor<3> {
    Tensor::random([2, 5, 32], Distribution::Normal(0.0, 1.0), device)
}

fn with_gate(mut layer: ZeroInitAttention, gate: &[f32], device: &Device) -> ZeroInitAttention {
    layer.gate = Param::from_data(TensorData::new(gate.to_vec(), [gate.len()]), device);
    layer
}

/// Attention and the gated part by hand, in f64, from the module's own weights.
fn by_hand(layer: &ZeroInitAttention, x: &[f32], [t, c, h, k]: [usize; 4], strengths: &[f64]) -> Vec<f64> {
    let d = c / h;
    let wide = |values: Vec<f32>| -> Vec<f64> { values.into_iter().map(f64::from).collect() };
    let product = |x: &[f64], weight: &[f64], n: usize, m: usize, w: usize| -> Vec<f64> {
        let mut y = vec![0.0; n * w];
        for i in 0..n {
            for j in 0..w {
                y[i * w + j] = (0..m).map(|a| x[i * m + a] * weight[a * w + j]).sum();
            }
        }
        y
    };
    let weight = |linear: &burn::nn::Linear| wide(values(linear.weight.val()));
    let (x, prompt) = (wide(x.to_vec()), wide(values(layer.prompt.val())));
    let a = prompt.len() / c;
    let (wq, wk, wv, wo) = (weight(&layer.query), weight(&layer.key), weight(&layer.value), weight(&layer.output));
    let q = product(&x, &wq, t, c, c);
    let sides = [(&x, t), (&prompt, a)].map(|(x, n)| (product(x, &wk, n, c, k * d), product(x, &wv, n, c, k * d), n));
    let mut o = vec![0.0; t * c];
    for head in 0..h {
        let kv = head / (h / k);
        for row in 0..t {
            for (side, (keys, vals, n)) in sides.iter().enumerate() {
                // Causal over tokens; every token sees all prompts.
                let seen = if side == 0 { row + 1 } else { *n };
                let score = |s: usize| -> f64 {
                    let dot: f64 = (0..d).map(|i| q[row * c + head * d + i] * keys[s * k * d + kv * d + i]).sum();
                    (dot / (d as f64).sqrt()).exp()
                };
                let total: f64 = (0..seen).map(score).sum();
                let strength = if side == 0 { 1.0 } else { strengths[head] };
                for s in 0..seen {
                    for i in 0..d {
                        o[row * c + head * d + i] += strength * score(s) / total * vals[s * k * d + kv * d + i];
                    }
                }
            }
        }
    }
    product(&o, &wo, t, c, c)
}

fn causal(t: usize, device: &Device) -> Tensor<3, Bool> {
    let hidden: Vec<bool> = (0..t).flat_map(|row| (0..t).map(move |column| column > row)).collect();
    Tensor::from_data(TensorData::new(hidden, [1, t, t]), device)
}

#[test]
fn equals_the_equations_written_out() {
    let device = Device::flex();
    let gates: [f32; 4] = [0.7, -1.2, 0.0, 2.0];
    for (n_kv_heads, tanh) in [(4, true), (2, true), (1, false)] {
        let config = ZeroInitAttentionConfig::new(32, 4, 6).with_n_kv_heads(Some(n_kv_heads)).with_gate_tanh(tanh);
        let layer = with_gate(config.init(&device), &gates, &device);
        let x: Tensor<3> = Tensor::random([1, 5, 32], Distribution::Normal(0.0, 1.0), &device);
        let found = values(layer.forward(x.clone(), Some(causal(5, &device))));
        let strengths = gates.map(|gate| if tanh { f64::from(gate).tanh() } else { f64::from(gate) });
        let wanted = by_hand(&layer, &values(x), [5, 32, 4, n_kv_heads], &strengths);
        let worst = found.iter().zip(&wanted).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        // f32 sums of 32 terms of size 1: a few times 32 * 2^-24.
        assert!(worst < 1e-5, "{n_kv_heads} heads, tanh {tanh}: {worst}");
    }
}

#[test]
fn says_nothing_at_first_and_only_the_gate_feels_the_loss() {
    let device = Device::flex().autodiff();
    let layer = ZeroInitAttentionConfig::new(32, 4, 6).init(&device).freeze_projections();
    let x = input(&device);
    let mut no_prompts = layer.clone();
    no_prompts.prompt = Param::from_tensor(Tensor::zeros([6, 32], &device));
    let y = layer.forward(x.clone(), None);
    assert_eq!(values(y.clone().inner()), values(no_prompts.forward(x, None).inner()));
    let gradients = y.square().sum().backward();
    let prompt = values(layer.prompt.val().grad(&gradients).expect("a gradient"));
    let gate = values(layer.gate.val().grad(&gradients).expect("a gradient"));
    assert!(prompt.iter().all(|value| *value == 0.0));
    assert!(gate.iter().all(|value| *value != 0.0));
    assert!(layer.query.weight.val().grad(&gradients).is_none(), "a frozen projection has a gradient");
}

#[test]
fn counts_what_trains() {
    let device = Device::flex();
    let per_head = ZeroInitAttentionConfig::new(64, 8, 10).init(&device);
    let scalar = ZeroInitAttentionConfig::new(64, 8, 10).with_gate_per_head(false).init(&device);
    assert_eq!(per_head.num_params() - scalar.num_params(), 7);
    assert_eq!(per_head.num_params(), 4 * 64 * 64 + 10 * 64 + 8);
}
