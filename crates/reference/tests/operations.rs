//! Properties that the golden files do not show.

mod support;

use std::f64::consts::TAU;

use adapter_reference::adamw::{self, AdamW, Moments};
use adapter_reference::attention::{self, Heads};
use adapter_reference::kv_cache::{self, KvCache};
use adapter_reference::llama::{Config, Llama, Weights};
use adapter_reference::rope::{self, Rope, Scaling};
use adapter_reference::sampling::{self, Sampling};
use adapter_reference::{Error, cross_entropy, embedding, rms_norm, softmax};
use support::{Random, assert_close};

fn rope(scaling: Scaling) -> Rope {
    Rope { n_rot: 64, theta: 500_000.0, scaling }
}

#[test]
fn rope_turns_neighbours_and_keeps_lengths() {
    let rope = Rope { n_rot: 4, theta: 100.0, scaling: Scaling::None };
    // Position 3: pair 0 turns by 3, pair 1 by 3 / 100^(1/2) = 0.3; channels 4 and 5 stay.
    let y = rope::forward(&rope, &[1.0, 0.0, 0.0, 1.0, 7.0, 8.0], 6, &[3]);
    assert_close("rope", &y, &[3f64.cos(), 3f64.sin(), -(0.3f64.sin()), 0.3f64.cos(), 7.0, 8.0], 1e-15);
    let x = Random(1).vec(3 * 2 * 6);
    let back = rope::backward(&rope, &rope::forward(&rope, &x, 6, &[0, 9, 4000]), 6, &[0, 9, 4000]);
    assert_close("rope and back", &back, &x, 1e-15);
}

/// Scores depend on the distance of two positions only.
#[test]
fn rope_is_relative() {
    let rope = Rope { n_rot: 8, theta: 10_000.0, scaling: Scaling::None };
    let mut random = Random(2);
    let (q, k) = (random.vec(8), random.vec(8));
    let score = |p: usize, s: usize| {
        let (q, k) = (rope::forward(&rope, &q, 8, &[p]), rope::forward(&rope, &k, 8, &[s]));
        q.iter().zip(&k).map(|(q, k)| q * k).sum::<f64>()
    };
    assert_close("score", &[score(17, 5)], &[score(1012, 1000)], 1e-12);
}

#[test]
fn linear_scaling_divides_positions() {
    let (plain, scaled) = (rope(Scaling::None), rope(Scaling::Linear { factor: 4.0 }));
    assert_close("linear", &rope::angles(&scaled, 400), &rope::angles(&plain, 100), 1e-15);
}

/// Meta's `apply_scaling` written out, and the divisors that GGUF files carry instead.
#[test]
fn llama3_scaling() {
    let scaling =
        Scaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
    let plain = rope::angles(&rope(Scaling::None), 1);
    let by_wavelength = |frequency: &f64| {
        let wavelength = TAU / frequency;
        if wavelength < 8192.0 / 4.0 {
            *frequency
        } else if wavelength > 8192.0 {
            frequency / 32.0
        } else {
            let smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
            (1.0 - smooth) * frequency / 32.0 + smooth * frequency
        }
    };
    let wanted: Vec<f64> = plain.iter().map(by_wavelength).collect();
    let found = rope::angles(&rope(scaling), 1);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_close("llama3", &[*found], &[*wanted], 1e-14);
    }
    assert_eq!(found[0], plain[0], "the highest frequency is kept");
    assert_close("lowest", &found[31..], &[plain[31] / 32.0], 1e-15);
    assert!(found.iter().zip(&plain).any(|(f, p)| *f < 0.99 * p && *f > 1.01 * p / 32.0), "some lie on the ramp");
    let factors = Scaling::Factors(plain.iter().zip(&found).map(|(p, f)| p / f).collect());
    assert_close("factors", &rope::angles(&rope(factors), 1), &found, 1e-15);
}

/// Tokens one at a time through the cache see what they see all at once.
#[test]
fn kv_cache_steps_equal_one_pass() {
    let heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 6 };
    let rope = Rope { n_rot: 6, theta: 10_000.0, scaling: Scaling::None };
    let qkv = Random(3).vec(9 * 8 * 6);
    let mut all = KvCache::default();
    let q = kv_cache::write(&mut all, &rope, heads, &qkv);
    let (wanted, _) = attention::forward(heads, &q, &all.k, &all.v, &[]);
    let (mut cache, mut found) = (KvCache::default(), Vec::new());
    for step in [&qkv[..4 * 48], &qkv[4 * 48..5 * 48], &qkv[5 * 48..]] {
        let q = kv_cache::write(&mut cache, &rope, heads, step);
        found.extend(attention::forward(heads, &q, &cache.k, &cache.v, &[]).0);
    }
    assert_eq!(cache, all);
    assert_close("steps", &found, &wanted, 1e-15);
}

#[test]
fn attention_of_one_token_is_its_value() {
    let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 2 };
    let (o, lse) = attention::forward(heads, &[1.0, 2.0, 3.0, 4.0], &[0.5, 0.25], &[7.0, 9.0], &[]);
    assert_eq!(o, [7.0, 9.0, 7.0, 9.0]);
    assert_close("lse", &lse, &[1.0 / 2f64.sqrt(), 2.5 / 2f64.sqrt()], 1e-15);
}

/// Scores of a thousand would overflow exp if the largest were not taken out.
#[test]
fn large_scores_do_not_overflow() {
    assert_eq!(softmax::log_sum_exp(&[1000.0, -1000.0]), 1000.0);
    assert_eq!(softmax::forward(&[1e4, 1e4, -1e4], 3), [0.5, 0.5, 0.0]);
    assert_eq!(softmax::log_sum_exp(&[]), f64::NEG_INFINITY);
    let (losses, _) = cross_entropy::forward(&[0.0, 5000.0], 2, &[Some(0)]);
    assert_eq!(losses, [5000.0]);
}

#[test]
fn rms_norm_by_hand() {
    // mean(9 + 16) / 2 = 12.5
    let (y, r) = rms_norm::forward(&[3.0, 4.0], &[1.0, 2.0], 0.0);
    assert_close("y", &y, &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()], 1e-15);
    assert_close("r", &r, &[1.0 / 12.5f64.sqrt()], 1e-15);
    assert_eq!(rms_norm::forward(&[0.0, 0.0], &[1.0, 1.0], 1e-5).0, [0.0, 0.0]);
    assert_eq!(embedding::forward(&[1, 0, 1], &[1.0, 2.0, 3.0, 4.0], 2), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
}

/// The first step moves each parameter by lr against the sign of its gradient, whatever the gradient's size.
#[test]
fn adamw_first_step() {
    let settings = AdamW { lr: 0.1, betas: (0.9, 0.95), eps: 0.0, weight_decay: 0.5 };
    let (mut p, mut moments) = (vec![1.0, 1.0, 0.0], Moments::zeros(3));
    adamw::step(settings, 1, &mut p, &[1e-3, -50.0, 2.0], &mut moments);
    assert_close("p", &p, &[0.85, 1.05, -0.1], 1e-14);
}

const OFF: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

fn logits() -> Vec<f64> {
    [0.1, 0.4, 0.2, 0.3f64].map(f64::ln).to_vec()
}

fn ids(sampling: Sampling) -> Vec<u32> {
    sampling::candidates(sampling, &logits()).iter().map(|(id, _)| *id).collect()
}

#[test]
fn each_cut_keeps_the_most_likely() {
    assert_eq!(ids(OFF), [1, 3, 2, 0]);
    assert_eq!(ids(Sampling { top_k: 2, ..OFF }), [1, 3]);
    assert_eq!(ids(Sampling { top_p: 0.39, ..OFF }), [1]);
    assert_eq!(ids(Sampling { top_p: 0.41, ..OFF }), [1, 3]);
    assert_eq!(ids(Sampling { min_p: 0.6, ..OFF }), [1, 3]);
    assert_eq!(ids(Sampling { temperature: 0.0, ..OFF }), [1]);
    // top_p counts after top_k: of 0.4 and 0.3 the first holds 0.57.
    assert_eq!(ids(Sampling { top_k: 2, top_p: 0.56, ..OFF }), [1]);
    assert!(sampling::candidates(OFF, &[]).is_empty());
}

#[test]
fn temperature_comes_after_the_cuts() {
    let found = sampling::candidates(Sampling { temperature: 0.5, top_k: 2, ..OFF }, &logits());
    let probabilities: Vec<f64> = found.iter().map(|(_, p)| *p).collect();
    assert_close("p", &probabilities, &[16.0 / 25.0, 9.0 / 25.0], 1e-14);
}

#[test]
fn a_draw_falls_into_its_stretch() {
    let found: Vec<_> =
        [0.0, 0.39, 0.41, 0.69, 0.71, 0.91, 1.0].map(|draw| sampling::choose(OFF, &logits(), draw)).into();
    assert_eq!(found, [1, 1, 3, 3, 2, 0, 0].map(Some));
    assert_eq!(sampling::choose(OFF, &[], 0.5), None);
}

#[test]
fn ties_go_to_the_lowest_id() {
    assert_eq!(sampling::argmax(&[1.0, 3.0, 2.0, 3.0]), Some(1));
    assert_eq!(sampling::top_k(&[1.0, 3.0, 1.0, 3.0], 3), [1, 3, 0]);
    assert_eq!(sampling::argmax(&[]), None);
}

#[test]
fn repeat_penalty_counts_an_id_once() {
    let mut logits = [2.0, -2.0, 4.0];
    sampling::repeat_penalty(&mut logits, &[0, 1, 0, 99], 2.0);
    assert_eq!(logits, [1.0, -4.0, 4.0]);
}

#[test]
fn a_model_without_its_weights_is_an_error() {
    let config = Config {
        n_layers: 1,
        n_channels: 2,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 2,
        n_ffn: 2,
        n_vocab: 3,
        eps: 1e-5,
        rope: Rope { n_rot: 2, theta: 10_000.0, scaling: Scaling::None },
        halves: false,
    };
    let mut weights = Weights::new();
    weights.insert("token_embd.weight", vec![0.0; 5]);
    let found = Llama::new(config.clone(), weights.clone()).expect_err("the embedding is too short");
    assert_eq!(found.to_string(), "token_embd.weight has 5 elements, the configuration asks for 6");
    weights.insert("token_embd.weight", vec![0.0; 6]);
    let found = Llama::new(config, weights).expect_err("there is no norm");
    assert_eq!(found, Error::MissingWeight { name: "output_norm.weight".to_owned() });
}
