//! Causal attention with grouped queries. Shapes: `q, o: [T, H, D]`, `k, v: [S, K, D]`, `lse: [T, H]`.
//! Kernel: `shaders/attention.wgsl`.
//!
//! Sources: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; grouped queries: Ainslie et al. 2023, arXiv:2305.13245; the gradient
//! from the log-sum-exp: Dao et al. 2022, arXiv:2205.14135, appendix B.2.
//!
//! The tokens are the last T of S positions: token t is at position S - T + t and sees positions up to its own. `starts` packs
//! several texts into one: a token sees no position before the last start that is not after it. No starts: one text from 0.

use crate::matmul::{add_scaled, dot};
use crate::softmax::log_sum_exp;

/// Query head h shares kv head h / (H / K).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// H
    pub n_heads: usize,
    /// K, a divisor of H.
    pub n_kv_heads: usize,
    /// D
    pub head_dim: usize,
}

impl Heads {
    /// Places of one query head and of its kv head in `[T, H, D]` and `[S, K, D]`.
    pub(crate) fn q_at(self, t: usize, h: usize) -> std::ops::Range<usize> {
        let at = (t * self.n_heads + h) * self.head_dim;
        at..at + self.head_dim
    }
    pub(crate) fn kv_at(self, s: usize, h: usize) -> std::ops::Range<usize> {
        let at = (s * self.n_kv_heads + h / (self.n_heads / self.n_kv_heads)) * self.head_dim;
        at..at + self.head_dim
    }
    /// 1 / sqrt(D)
    pub(crate) fn scale(self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }
    /// (rows of q, rows of k), with the lengths checked.
    pub(crate) fn rows(self, q: &[f64], k: &[f64], v: &[f64]) -> (usize, usize) {
        assert!(self.n_kv_heads > 0 && self.n_heads.is_multiple_of(self.n_kv_heads), "K divides H");
        let (width, kv_width) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        assert!(q.len().is_multiple_of(width) && k.len().is_multiple_of(kv_width), "q is [T, H, D], k is [S, K, D]");
        assert_eq!(k.len(), v.len(), "k and v have one shape");
        (q.len() / width, k.len() / kv_width)
    }
}

/// The positions that the token at `position` sees.
fn visible(position: usize, starts: &[usize]) -> std::ops::RangeInclusive<usize> {
    let first = starts.iter().copied().filter(|start| *start <= position).max().unwrap_or(0);
    first..=position
}

/// `o[t,h] = softmax_s(q[t,h] . k[s,h/G] / sqrt(D)) v[s,h/G]` over visible s. Returns o, and lse for the gradient.
pub fn forward(heads: Heads, q: &[f64], k: &[f64], v: &[f64], starts: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let (n_tokens, n_positions) = heads.rows(q, k, v);
    assert!(n_tokens <= n_positions, "the tokens' own keys are among the positions");
    let past = n_positions - n_tokens;
    let (mut o, mut lse) = (vec![0.0; q.len()], Vec::with_capacity(n_tokens * heads.n_heads));
    for t in 0..n_tokens {
        for h in 0..heads.n_heads {
            let q = &q[heads.q_at(t, h)];
            let score = |s| dot(q, &k[heads.kv_at(s, h)]) * heads.scale();
            let scores: Vec<f64> = visible(past + t, starts).map(score).collect();
            let total = log_sum_exp(&scores);
            for (s, score) in visible(past + t, starts).zip(scores) {
                add_scaled(&mut o[heads.q_at(t, h)], (score - total).exp(), &v[heads.kv_at(s, h)]);
            }
            lse.push(total);
        }
    }
    (o, lse)
}

/// (dq, dk, dv). The probabilities `p = exp(score - lse)` are computed again;
/// `dscore[s] = p[s] (do . v[s] - do . o) / sqrt(D)`, `dq = sum_s dscore[s] k[s]`, `dk[s] += dscore[s] q`,
/// `dv[s] += p[s] do`.
pub fn backward(
    heads: Heads,
    do_: &[f64],
    q: &[f64],
    k: &[f64],
    v: &[f64],
    o: &[f64],
    lse: &[f64],
    starts: &[usize],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (n_tokens, n_positions) = heads.rows(q, k, v);
    assert!(
        do_.len() == q.len() && o.len() == q.len() && lse.len() == n_tokens * heads.n_heads,
        "do, o and lse are q's"
    );
    assert!(n_tokens <= n_positions, "the tokens' own keys are among the positions");
    let past = n_positions - n_tokens;
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for t in 0..n_tokens {
        for h in 0..heads.n_heads {
            let at = heads.q_at(t, h);
            let (q, do_, lse) = (&q[at.clone()], &do_[at.clone()], lse[t * heads.n_heads + h]);
            let row = dot(do_, &o[at.clone()]);
            for s in visible(past + t, starts) {
                let key = heads.kv_at(s, h);
                let p = (dot(q, &k[key.clone()]) * heads.scale() - lse).exp();
                let dscore = p * (dot(do_, &v[key.clone()]) - row) * heads.scale();
                add_scaled(&mut dq[at.clone()], dscore, &k[key.clone()]);
                add_scaled(&mut dk[key.clone()], dscore, q);
                add_scaled(&mut dv[key], p, do_);
            }
        }
    }
    (dq, dk, dv)
}
