//! The flags of `chat`.

use clap::Args;

use crate::flags::{AdapterFlags, ModelFlags, PromptFlags, SamplingFlags};

/// `chat`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli chat
  adapter-cli chat -m model.gguf --system 'Answer in one sentence.' --temperature 0.3
  adapter-cli chat -m model.gguf -a alpaca-adapter/ --strength 0.5
  printf 'Hello\\n/regen\\n' | adapter-cli chat         a line each, errors to standard error

At the prompt, /? lists the commands. Ctrl+C stops an answer, Ctrl+D leaves.")]
pub struct Chat {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub adapter: AdapterFlags,
    #[command(flatten)]
    pub prompt: PromptFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,
    /// Do not keep what is typed for the next time
    #[arg(long, help_heading = "Prompt")]
    pub no_history: bool,
}
