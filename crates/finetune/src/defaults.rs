//! Defaults: the settings of a run where nothing else is asked for, in terminal, window and page.

use adapter_engine::model::Config;

/// The highest learning rate. It learns fast on small data and is still calm on a thousand rows (measured: bench/NOTES.md,
/// Training).
pub const LEARNING_RATE: f64 = 5e-3;
/// Times all rows are used.
pub const EPOCHS: f64 = 5.0;
/// Tokens of a batch at most.
pub const BATCH_TOKENS: u32 = 512;
/// Share of the rows that is kept for validation.
pub const VALIDATION_SHARE: f64 = 0.1;
/// A: prompt tokens a layer.
pub const ADAPTER_LEN: u32 = 10;
/// Tokens of a sample answer.
pub const SAMPLE_TOKENS: u32 = 48;
/// Rows whose questions are asked before, during and after.
pub const SAMPLES: usize = 2;

/// L_a: all layers but the first two, as the paper adapts 30 of 32.
pub fn adapter_layers(config: &Config) -> u32 {
    config.n_layers.saturating_sub(2).max(1)
}

/// Steps in which the rate rises: a tenth, none in a run too short to have one.
pub fn warmup_steps(n_steps: u64) -> u64 {
    if n_steps >= 10 { n_steps / 10 } else { 0 }
}

/// Steps from one validation to the next: a tenth.
pub fn validate_every(n_steps: u64) -> u64 {
    (n_steps / 10).max(1)
}
