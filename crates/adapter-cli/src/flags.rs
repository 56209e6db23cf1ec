//! Flags that several commands share, and what their values are. Each command's own stand beside it.

use std::path::PathBuf;

use adapter_engine::adapter::GateKind;
use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::sampler::Sampling;
use adapter_engine::session::MAX_GUESSED;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::failure::Failure;

/// The largest strength an adapter may have.
pub const MAX_STRENGTH: f32 = 2.0;

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// GPU to use: a part of its name, or its number in `doctor`
    #[arg(long, global = true, value_name = "NAME")]
    pub gpu: Option<String>,
    /// Use core WebGPU only, as every browser has it
    #[arg(long, global = true)]
    pub baseline: bool,
    /// Refuse to take more GPU memory than this
    #[arg(long, global = true, value_name = "MIB")]
    pub gpu_memory: Option<u32>,
    /// Say more: speeds, times of kernels, features
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// Which model, and how much of a conversation it keeps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelFlags {
    /// GGUF file of a LLaMA [default: $ADAPTER_MODEL, else the model `cargo xtask chat` fetched]
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Tokens a conversation may have [default: what the model was trained for, at most 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// How keys and values are kept: f16 takes half the memory, q8 a quarter, and both round
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    pub kv: Kv,
    /// Guess up to N tokens from what was said before and check them at once, at temperature 0: for text that repeats itself
    /// [default: 0, never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_GUESSED)))]
    pub prompt_lookup: Option<u32>,
}

/// Which adapter.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Adapter")]
pub struct AdapterFlags {
    /// PEFT folder, .safetensors, .gguf or .pth file; none: not even the one inside the model [default: the one inside the model]
    #[arg(long, short, value_name = "PATH")]
    pub adapter: Option<PathBuf>,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind())]
    pub gate: Option<GateKind>,
    /// Strength of the adapter: 0 is the base model, 1 as trained, up to 2
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = strength, allow_negative_numbers = true)]
    pub strength: f32,
}

/// Reads the name of a kind of gates, old names included.
pub fn gate_kind() -> impl TypedValueParser<Value = GateKind> {
    let value = |kind: GateKind| PossibleValue::new(kind.name()).alias(kind.old_name()).help(kind.words());
    PossibleValuesParser::new(GateKind::ALL.map(value)).try_map(|name| name.parse::<GateKind>())
}

/// `--kv`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    /// Exact.
    F32,
    /// Rounded to 11 bits.
    F16,
    /// Rounded to 8 bits.
    Q8,
}

impl Kv {
    /// What the engine calls it.
    pub fn format(self) -> CacheFormat {
        match self {
            Self::F32 => CacheFormat::F32,
            Self::F16 => CacheFormat::F16,
            Self::Q8 => CacheFormat::Q8,
        }
    }
}

/// How the next token is chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingFlags {
    /// 0 takes the most likely token, higher is more varied [default: 0.8]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Always take the most likely token: the same as --temperature 0
    #[arg(long, conflicts_with = "temperature")]
    pub greedy: bool,
    /// Choose among this many of the most likely tokens; 0: all [default: 40]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub top_k: Option<u32>,
    /// Choose among the most likely tokens that make up this probability; 1: all [default: 0.95]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the most likely one [default: 0.05]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Make tokens of the last 64 less likely; 1: off [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repeat_penalty: Option<f32>,
    /// The same seed gives the same answer on the same machine; random or -1: another one each time [default: random]
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// End an answer after this many tokens [default: when the model ends it]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// End an answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SamplingFlags {
    /// The engine's settings.
    ///
    /// # Errors
    /// A setting that is out of its range.
    pub fn sampling(&self) -> Result<Sampling, Failure> {
        let default = Sampling::default();
        let sampling = Sampling {
            temperature: if self.greedy { 0.0 } else { self.temperature.unwrap_or(default.temperature) },
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: default.repeat_last_n,
            seed: self.seed.unwrap_or_else(random_seed),
        };
        sampling.check().map_err(adapter_engine::Error::from)?;
        Ok(sampling)
    }
}

/// A seed nobody can foresee: the keys of the standard library's hash maps are random. 32 bits, so that every program
/// that reads our JSON keeps it whole.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// A seed as people write it: a whole number, or `random` and `-1`, as in other programs, for one that nobody can foresee.
///
/// # Errors
/// What was wanted, in words.
pub fn seed(text: &str) -> Result<u64, String> {
    match text {
        "random" | "-1" => Ok(random_seed()),
        number => number.parse().map_err(|_| "a whole number from 0, or random (the same as -1)".to_owned()),
    }
}

/// How a conversation becomes a prompt.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompt")]
pub struct PromptFlags {
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Chat template instead of the model's own: chatml, llama3, llama2, zephyr or alpaca
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
}

/// A strength as people write it.
///
/// # Errors
/// The range, in words.
pub fn strength(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=MAX_STRENGTH).contains(&value) => Ok(value),
        _ => Err(format!("a number from 0 (off) over 1 (as trained) to {MAX_STRENGTH}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_fit_json() {
        let seeds: Vec<u64> = (0..8).map(|_| random_seed()).collect();
        assert!(seeds.iter().all(|seed| *seed <= u64::from(u32::MAX)));
        assert!(seeds.windows(2).any(|pair| pair[0] != pair[1]));
        assert_ne!(seed("-1"), seed("random"), "another one each time");
        assert_eq!(seed("7"), Ok(7));
        for wrong in ["-2", "1.5", "", "many", "18446744073709551616"] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }
}
