//! Zero-init attention to an adaption prompt. Shapes: `q, o: [T, H, D]` (q after rope), `k_prompt, v_prompt: [A, K, D]`
//! (no rope, no position), `gate: [H]` (the strength: tanh already applied). Kernel: `shaders/gated_attention.wgsl`.
//!
//! Source: Zhang et al. 2023, arXiv:2303.16199, eq. 6 to 8. The prompt has a softmax of its own, every token sees all of it,
//! and the tokens' part is not scaled down to make room: the total weight is 1 + gate.

use crate::attention::Heads;
use crate::matmul::{add_scaled, dot};
use crate::softmax::log_sum_exp;

/// What the gradient needs of the forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The prompt's part before the gate, `[T, H, D]`.
    pub o_prompt: Vec<f64>,
    /// Log-sum-exp of the prompt's scores, `[T, H]`.
    pub lse: Vec<f64>,
}

/// `o[t,h] += gate[h] softmax_a(q[t,h] . k_prompt[a,h/G] / sqrt(D)) v_prompt[a,h/G]`
pub fn forward(heads: Heads, q: &[f64], k_prompt: &[f64], v_prompt: &[f64], gate: &[f64], o: &mut [f64]) -> Saved {
    let (n_tokens, adapter_len) = heads.rows(q, k_prompt, v_prompt);
    assert!(o.len() == q.len() && gate.len() == heads.n_heads, "o is [T, H, D], gate is [H]");
    let (mut o_prompt, mut lse) = (vec![0.0; q.len()], Vec::with_capacity(n_tokens * heads.n_heads));
    for t in 0..n_tokens {
        for h in 0..heads.n_heads {
            let at = heads.q_at(t, h);
            let score = |a| dot(&q[at.clone()], &k_prompt[heads.kv_at(a, h)]) * heads.scale();
            let scores: Vec<f64> = (0..adapter_len).map(score).collect();
            let total = log_sum_exp(&scores);
            for (a, score) in scores.into_iter().enumerate() {
                add_scaled(&mut o_prompt[at.clone()], (score - total).exp(), &v_prompt[heads.kv_at(a, h)]);
            }
            add_scaled(&mut o[at.clone()], gate[h], &o_prompt[at]);
            lse.push(total);
        }
    }
    Saved { o_prompt, lse }
}

/// The gradients of [`forward`]; the o that came in has the gradient do unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// `[T, H, D]`, to be added to the gradient of the tokens' attention before rope is undone.
    pub dq: Vec<f64>,
    /// `[A, K, D]`
    pub dk_prompt: Vec<f64>,
    /// `[A, K, D]`
    pub dv_prompt: Vec<f64>,
    /// `[H]`
    pub dgate: Vec<f64>,
}

/// `dgate[h] = sum_t do . o_prompt`; the rest is the gradient of attention with `gate[h] do` in place of do.
pub fn backward(
    heads: Heads,
    do_: &[f64],
    q: &[f64],
    k_prompt: &[f64],
    v_prompt: &[f64],
    gate: &[f64],
    saved: &Saved,
) -> Gradients {
    let (n_tokens, adapter_len) = heads.rows(q, k_prompt, v_prompt);
    assert!(do_.len() == q.len() && saved.o_prompt.len() == q.len(), "do and o_prompt are [T, H, D]");
    assert!(gate.len() == heads.n_heads && saved.lse.len() == n_tokens * heads.n_heads, "gate is [H], lse is [T, H]");
    let mut d = Gradients {
        dq: vec![0.0; q.len()],
        dk_prompt: vec![0.0; k_prompt.len()],
        dv_prompt: vec![0.0; v_prompt.len()],
        dgate: vec![0.0; gate.len()],
    };
    for t in 0..n_tokens {
        for h in 0..heads.n_heads {
            let at = heads.q_at(t, h);
            let (q, do_, lse) = (&q[at.clone()], &do_[at.clone()], saved.lse[t * heads.n_heads + h]);
            let row = dot(do_, &saved.o_prompt[at.clone()]);
            d.dgate[h] += row;
            for a in 0..adapter_len {
                let key = heads.kv_at(a, h);
                let p = (dot(q, &k_prompt[key.clone()]) * heads.scale() - lse).exp();
                let dscore = gate[h] * p * (dot(do_, &v_prompt[key.clone()]) - row) * heads.scale();
                add_scaled(&mut d.dq[at.clone()], dscore, &k_prompt[key.clone()]);
                add_scaled(&mut d.dk_prompt[key.clone()], dscore, q);
                add_scaled(&mut d.dv_prompt[key], gate[h] * p, do_);
            }
        }
    }
    d
}
