//! One decoder block, pre-norm, with its adaption prompt if it has one.

use super::{Config, Weights};
use crate::adaption_prompt::GateKind;
use crate::{attention, gated_attention, matmul, residual_add, rms_norm, rope, swiglu};

/// How the gates act, and the prompt [A, C] and gates of this layer.
type Prompt<'a> = (GateKind, (&'a [f64], &'a [f64]));

/// What the backward pass needs.
pub(super) struct Saved {
    /// [T, C], the block's input, and its norm's scale [T].
    x: Vec<f64>,
    x_r: Vec<f64>,
    /// [T, H, D] and [T, K, D] as the products gave them, and the scales of their heads' norms.
    raw: [Normed; 2],
    /// [T, H, D], [T, K, D] (both rotated), [T, K, D]
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// [T, H, D] of the tokens alone, and the log-sum-exp [T, H].
    o: Vec<f64>,
    lse: Vec<f64>,
    prompt: Option<SavedPrompt>,
    /// [T, C], the stream after attention, and its norm's scale [T].
    h: Vec<f64>,
    h_r: Vec<f64>,
    /// [T, F]
    gate: Vec<f64>,
    up: Vec<f64>,
}

/// Heads in front of their norm, and what each is scaled by; empty where the family norms none.
#[derive(Default)]
struct Normed {
    x: Vec<f64>,
    r: Vec<f64>,
}

struct SavedPrompt {
    /// [A, K, D] as the product gave it.
    raw_k: Normed,
    /// [A, K, D]
    k: Vec<f64>,
    v: Vec<f64>,
    /// [H]
    strength: Vec<f64>,
    attention: gated_attention::Saved,
}

/// The block's output [T, C].
pub(super) fn forward(
    config: &Config,
    weights: &Weights,
    i: usize,
    x: Vec<f64>,
    positions: &[usize],
    starts: &[usize],
    prompt: Option<Prompt<'_>>,
) -> (Vec<f64>, Saved) {
    let heads = config.heads();
    let linear = |name: &str, x: &[f64]| {
        let bias = weights.block(i, &format!("{name}.bias"));
        let n_in = match name {
            "attn_output" => config.n_heads * config.head_dim,
            "ffn_down" => config.n_ffn,
            _ => config.n_channels,
        };
        let mut y = matmul::forward(x, weights.block(i, &format!("{name}.weight")), n_in);
        if !bias.is_empty() {
            for row in y.chunks_exact_mut(bias.len()) {
                matmul::add_scaled(row, 1.0, bias);
            }
        }
        y
    };

    // Attention of the tokens.
    let (y, x_r) = rms_norm::forward(&x, weights.block(i, "attn_norm.weight"), config.eps);
    let normed = |name: &str, x: Vec<f64>| normed(config, weights.block(i, &format!("{name}_norm.weight")), x);
    let (q, raw_q) = normed("attn_q", linear("attn_q", &y));
    let (k, raw_k) = normed("attn_k", linear("attn_k", &y));
    let (q, k) = (rotated(config, q, positions), rotated(config, k, positions));
    let v = linear("attn_v", &y);
    let (o, lse) = attention::forward(heads, &q, &k, &v, starts);

    // Attention to the prompt: through the same frozen matrices and norms of heads, but not rotated.
    let mut o_all = o.clone();
    let prompt = prompt.map(|(kind, (prompt, gates))| {
        let (k, raw_k) = normed("attn_k", linear("attn_k", prompt));
        let (k, v) = (neighbours(config, k), linear("attn_v", prompt));
        let strength = kind.forward(gates, config.n_heads);
        let attention = gated_attention::forward(heads, &q, &k, &v, &strength, &mut o_all);
        SavedPrompt { raw_k, k, v, strength, attention }
    });
    let h = residual_add::forward(&x, &linear("attn_output", &o_all));

    // Feed-forward.
    let (y, h_r) = rms_norm::forward(&h, weights.block(i, "ffn_norm.weight"), config.eps);
    let (gate, up) = (linear("ffn_gate", &y), linear("ffn_up", &y));
    let out = residual_add::forward(&h, &linear("ffn_down", &swiglu::forward(&gate, &up)));
    (out, Saved { x, x_r, raw: [raw_q, raw_k], q, k, v, o, lse, prompt, h, h_r, gate, up })
}

/// The block's gradients.
pub(super) struct Gradients {
    /// [T, C]; empty if it was not wanted.
    pub(super) dx: Vec<f64>,
    /// [A, C]
    pub(super) dprompt: Vec<f64>,
    /// [H] or [1]
    pub(super) dgates: Vec<f64>,
}

/// Gradients of an adapted block from `dout: [T, C]`. Without `want_dx` the tokens' attention is left out: below the lowest
/// adapted block nothing learns.
pub(super) fn backward(
    config: &Config,
    weights: &Weights,
    i: usize,
    dout: &[f64],
    saved: &Saved,
    positions: &[usize],
    starts: &[usize],
    (kind, (_, gates)): Prompt<'_>,
    want_dx: bool,
) -> Gradients {
    let (heads, n_channels) = (config.heads(), config.n_channels);
    let weight = |name: &str| weights.block(i, name);

    // Feed-forward.
    let (dh, dy) = residual_add::backward(dout);
    let (dgate, dup) =
        swiglu::backward(&matmul::backward(&dy, weight("ffn_down.weight"), config.n_ffn), &saved.gate, &saved.up);
    let dy = sum([
        matmul::backward(&dgate, weight("ffn_gate.weight"), n_channels),
        matmul::backward(&dup, weight("ffn_up.weight"), n_channels),
    ]);
    let dh = sum([dh, rms_norm::backward(&dy, &saved.h, weight("ffn_norm.weight"), &saved.h_r)]);

    // Attention to the prompt.
    let (dx, dy) = residual_add::backward(&dh);
    let do_ = matmul::backward(&dy, weight("attn_output.weight"), config.n_heads * config.head_dim);
    // A block without a prompt has nothing that learns.
    let Some(prompt) = &saved.prompt else {
        return Gradients { dx: Vec::new(), dprompt: Vec::new(), dgates: Vec::new() };
    };
    let unnormed = |name: &str, d: Vec<f64>, raw: &Normed| match raw.r.is_empty() {
        true => d,
        false => rms_norm::backward(&d, &raw.x, weight(&format!("{name}_norm.weight")), &raw.r),
    };
    let d = gated_attention::backward(heads, &do_, &saved.q, &prompt.k, &prompt.v, &prompt.strength, &prompt.attention);
    let dprompt = sum([
        matmul::backward(
            &unnormed("attn_k", file_order(config, d.dk_prompt), &prompt.raw_k),
            weight("attn_k.weight"),
            n_channels,
        ),
        matmul::backward(&d.dv_prompt, weight("attn_v.weight"), n_channels),
    ]);
    let dgates = kind.backward(&d.dgate, gates);
    if !want_dx {
        return Gradients { dx: Vec::new(), dprompt, dgates };
    }

    // Attention of the tokens; the prompt's part of dq joins before the rotation is undone.
    let (dq, dk, dv) = attention::backward(heads, &do_, &saved.q, &saved.k, &saved.v, &saved.o, &saved.lse, starts);
    let unrotated = |d: &[f64]| file_order(config, rope::backward(&config.rope, d, config.head_dim, positions));
    let (dq, dk) = (unrotated(&sum([dq, d.dq])), unrotated(&dk));
    let [raw_q, raw_k] = &saved.raw;
    let (dq, dk) = (unnormed("attn_q", dq, raw_q), unnormed("attn_k", dk, raw_k));
    let dy = sum([
        matmul::backward(&dq, weight("attn_q.weight"), n_channels),
        matmul::backward(&dk, weight("attn_k.weight"), n_channels),
        matmul::backward(&dv, weight("attn_v.weight"), n_channels),
    ]);
    let dx = sum([dx, rms_norm::backward(&dy, &saved.x, weight("attn_norm.weight"), &saved.x_r)]);
    Gradients { dx, dprompt, dgates }
}

/// The norm of each head, where there are weights for one.
fn normed(config: &Config, weight: &[f64], x: Vec<f64>) -> (Vec<f64>, Normed) {
    if weight.is_empty() {
        return (x, Normed::default());
    }
    let (y, r) = rms_norm::forward(&x, weight, config.eps);
    (y, Normed { x, r })
}

/// Heads in the file's order, their pairs made neighbours, and rotated.
fn rotated(config: &Config, x: Vec<f64>, positions: &[usize]) -> Vec<f64> {
    rope::forward(&config.rope, &neighbours(config, x), config.head_dim, positions)
}

/// For each channel of a head where it stands in the file.
fn places(config: &Config) -> Vec<usize> {
    let (n_rot, half) = (config.rope.n_rot, config.rope.n_rot / 2);
    let place = |channel: usize| match config.halves && channel < n_rot {
        true => channel / 2 + if channel.is_multiple_of(2) { 0 } else { half },
        false => channel,
    };
    (0..config.head_dim).map(place).collect()
}

/// Heads in the file's order with the pairs that rotate side by side: q and k alike, so that their products stay.
fn neighbours(config: &Config, x: Vec<f64>) -> Vec<f64> {
    let places = places(config);
    x.chunks_exact(config.head_dim).flat_map(|head| places.iter().map(|place| head[*place])).collect()
}

/// The other way.
fn file_order(config: &Config, x: Vec<f64>) -> Vec<f64> {
    let places = places(config);
    let mut y = x.clone();
    for (y, x) in y.chunks_exact_mut(config.head_dim).zip(x.chunks_exact(config.head_dim)) {
        places.iter().zip(x).for_each(|(place, x)| y[*place] = *x);
    }
    y
}

/// Where a value went several ways, its gradients add up.
fn sum<const N: usize>(parts: [Vec<f64>; N]) -> Vec<f64> {
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |sum, part| residual_add::forward(&sum, &part))
}
