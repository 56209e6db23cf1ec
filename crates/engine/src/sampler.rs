//! Choosing the next token: settings, the counter-based random numbers, and the CPU form of `shaders/sample.wgsl`.

/// Length of the ring of recent ids.
pub const HISTORY: u32 = 256;
/// Most candidates the sampling kernel sorts.
pub const MAX_TOP_K: u32 = 256;

/// How the next token is chosen. Order as in llama.cpp: repeat penalty, top-k, top-p, min-p, temperature, draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits before the draw; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the most likely tokens up to this probability in sum; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely one; 0 drops none.
    pub min_p: f32,
    /// Divides positive logits of recent tokens (multiplies negative ones); 1 is off.
    pub repeat_penalty: f32,
    /// How many recent tokens the penalty looks at, at most 256.
    pub repeat_last_n: u32,
    /// Same seed, same prompt, same GPU: same answer.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty: 1.0, repeat_last_n: 64, seed: 0 }
    }
}

/// A setting that is out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{setting} is {found}, it must be {wanted}")]
pub struct SamplingError {
    /// Which one.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// The range.
    pub wanted: &'static str,
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), SamplingError> {
        let checks: [(&'static str, f32, bool, &'static str); 4] = [
            ("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "from 0 to 100"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "over 0, at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty <= 10.0,
                "over 0, at most 10",
            ),
        ];
        for (setting, value, good, wanted) in checks {
            if !good {
                return Err(SamplingError { setting, found: value.to_string(), wanted });
            }
        }
        if self.repeat_last_n > HISTORY {
            let found = self.repeat_last_n.to_string();
            return Err(SamplingError { setting: "repeat_last_n", found, wanted: "at most 256" });
        }
        Ok(())
    }

    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    #[expect(clippy::float_cmp, reason = "exactly 1 is the value that means off")]
    pub(crate) fn has_penalty(&self) -> bool {
        self.repeat_penalty != 1.0 && self.repeat_last_n > 0
    }

    /// Candidates the GPU sorts.
    pub(crate) fn candidates(&self, n_vocab: u32) -> u32 {
        let all = n_vocab.min(MAX_TOP_K);
        if self.top_k == 0 { all } else { self.top_k.min(all) }
    }

    /// Whether the GPU cannot hold all candidates, so that the logits have to come back to the CPU.
    pub(crate) fn needs_cpu(&self, n_vocab: u32) -> bool {
        let wanted = if self.top_k == 0 { n_vocab } else { self.top_k.min(n_vocab) };
        !self.is_greedy() && wanted > MAX_TOP_K
    }

    /// The uniform number in [0, 1) for the token at `position`: a hash of seed and position, so that an answer does not
    /// depend on how many numbers were drawn before it.
    pub fn draw(&self, position: u32) -> f32 {
        // SplitMix64 (Steele, Lea and Flood 2014).
        let mut z = self.seed.wrapping_add((u64::from(position) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Divides (or multiplies) the logits of `recent` ids, each once.
    pub fn penalize(&self, logits: &mut [f32], recent: &[u32]) {
        if !self.has_penalty() {
            return;
        }
        let from = recent.len().saturating_sub(self.repeat_last_n as usize);
        let mut ids: Vec<u32> = recent[from..].to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = if *logit > 0.0 { *logit / self.repeat_penalty } else { *logit * self.repeat_penalty };
            }
        }
    }

    /// The next id from `logits [V]` (penalty already applied) and a uniform number.
    pub fn choose(&self, logits: &[f32], draw: f32) -> u32 {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let better = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if self.is_greedy() {
            return order.iter().copied().min_by(better).unwrap_or(0);
        }
        let k = if self.top_k == 0 { order.len() } else { order.len().min(self.top_k as usize) };
        if k < order.len() && k > 0 {
            order.select_nth_unstable_by(k - 1, better);
            order.truncate(k);
        }
        order.sort_unstable_by(better);
        let Some(top) = order.first().map(|id| logits[*id as usize]) else { return 0 };
        let share = |id: &u32| (logits[*id as usize] - top).max(-80.0).exp();
        let total: f32 = order.iter().map(share).sum();
        let (mut kept, mut mass) = (0, 0.0);
        for id in &order {
            if kept > 0 && share(id) < self.min_p {
                break;
            }
            mass += share(id);
            kept += 1;
            // 1 keeps all: a sum in f32 reaches the total before the last of many unlikely tokens.
            if self.top_p < 1.0 && mass >= self.top_p * total {
                break;
            }
        }
        let weight = |id: &u32| ((logits[*id as usize] - top) / self.temperature).max(-80.0).exp();
        let weights: f32 = order[..kept].iter().map(weight).sum();
        let mut remaining = draw * weights;
        for id in &order[..kept] {
            remaining -= weight(id);
            if remaining < 0.0 {
                return *id;
            }
        }
        order[kept - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_lowest_id_of_a_tie() {
        assert_eq!(Sampling::greedy().choose(&[1.0, 3.0, 3.0, 2.0], 0.9), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7, ..Sampling::default() };
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut counts = [0u32; 3];
        for position in 0..20_000 {
            counts[sampling.choose(&logits, sampling.draw(position)) as usize] += 1;
        }
        // Four standard deviations of a binomial count: 4 * sqrt(20000 * 0.5 * 0.5) = 283.
        for (count, expected) in counts.iter().zip([10_000.0, 6_000.0, 4_000.0]) {
            assert!((f64::from(*count) - expected).abs() < 283.0, "{counts:?}");
        }
    }

    #[test]
    fn cuts_keep_the_most_likely() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        let base = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let worst = |sampling: Sampling| sampling.choose(&logits, 0.9999);
        assert_eq!(worst(base.clone()), 2);
        assert_eq!(worst(Sampling { top_k: 2, ..base.clone() }), 1);
        assert_eq!(worst(Sampling { top_p: 0.5, ..base.clone() }), 0);
        assert_eq!(worst(Sampling { min_p: 0.4, ..base }), 1);
    }

    #[test]
    fn penalty_counts_an_id_once() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Sampling::default() };
        let mut logits = [4.0, -1.0, 3.0];
        sampling.penalize(&mut logits, &[0, 0, 1, 99]);
        assert_eq!(logits, [2.0, -2.0, 3.0]);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = Sampling { top_p: 0.0, ..Sampling::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "top_p is 0, it must be over 0, at most 1");
    }
}
