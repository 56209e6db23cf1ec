//! The flags of `bench`.

use clap::{Args, ValueEnum};

use crate::flags::{AdapterFlags, ModelFlags};

/// `bench`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli bench -m model.gguf
  adapter-cli bench -m model.gguf -p 128 -n 32 -r 3 --format json > bench.json
  adapter-cli bench -m model.gguf --verbose            with the time of every kernel
  adapter-cli bench -m model.gguf -p 64 -n 16 --depth 128,1024,4096
  adapter-cli bench -m model.gguf --train 4x128,1x512  training steps instead

ppN reads a prompt of N tokens at once, tgN writes N tokens one by one; both are run once before they are measured.
trainRxT is a step of training an adapter on R rows of T tokens, every token a target; one step is made before it is measured.")]
pub struct Bench {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub adapter: AdapterFlags,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(long, short = 'p', value_name = "N", default_value_t = 512, help_heading = "Measurement")]
    pub n_prompt: u32,
    /// Tokens to write; 0 leaves the test out
    #[arg(long, short, value_name = "N", default_value_t = 128, help_heading = "Measurement")]
    pub n_gen: u32,
    /// Tokens that stand in the context before both tests; several with commas
    #[arg(
        long,
        short = 'd',
        value_name = "N",
        value_delimiter = ',',
        default_value = "0",
        help_heading = "Measurement"
    )]
    pub depth: Vec<u32>,
    /// Measure training steps of ROWSxTOKENS instead of both tests; several with commas
    #[arg(long, value_name = "ROWSxTOKENS", value_delimiter = ',', value_parser = rows,
          conflicts_with_all = ["adapter", "gate", "strength", "depth", "n_prompt", "n_gen"], help_heading = "Measurement")]
    pub train: Vec<TrainRows>,
    /// Let --train round products to f16, as `finetune --f16` does
    #[arg(long, requires = "train", help_heading = "Measurement")]
    pub f16: bool,
    /// Prompt tokens a layer of the adapter that --train trains
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..),
          help_heading = "Measurement")]
    pub adapter_len: u32,
    /// Layers it has, counted from the last [default: all but two]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Measurement")]
    pub adapter_layers: Option<u32>,
    /// How often each test is measured
    #[arg(long, short, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000),
          help_heading = "Measurement")]
    pub repetitions: u32,
    /// How the result is written
    #[arg(long, value_name = "FORMAT", default_value = "table", help_heading = "Measurement")]
    pub format: Format,
}

/// A batch of training rows of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainRows {
    /// Rows side by side.
    pub n_rows: u32,
    /// Tokens of each.
    pub n_tokens: u32,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table, which is also Markdown
    Table,
    /// One JSON object
    Json,
}

/// `4x128`
///
/// # Errors
/// What was wanted, in words.
pub fn rows(text: &str) -> Result<TrainRows, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0);
    let found = text.split_once('x').and_then(|(n_rows, n_tokens)| Some((number(n_rows)?, number(n_tokens)?)));
    match found {
        // The first token of a row has nothing before it: a row of one teaches nothing.
        Some((n_rows, n_tokens)) if n_tokens > 1 && n_rows.checked_mul(n_tokens).is_some() => {
            Ok(TrainRows { n_rows, n_tokens })
        }
        _ => Err("rows times tokens, such as 4x128, with at least 2 tokens a row".to_owned()),
    }
}
