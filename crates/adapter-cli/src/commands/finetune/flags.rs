//! The flags of `finetune`. A TOML file given with `--config` may set each of them by the same name; flags win.

use std::path::PathBuf;

use adapter_engine::adapter::GateKind;
use adapter_finetune::RunOptions;
use adapter_finetune::recipe::Schedule;
use clap::{Args, ValueEnum};

use crate::flags::gate_kind;

/// `finetune`
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  adapter-cli finetune --data rows.jsonl --out my-adapter            good defaults, the fetched model
  adapter-cli finetune -m model.gguf --data rows.json --dry-run      what it would take
  adapter-cli finetune -m model.gguf --data rows.json --show-sample 3     which tokens are learnt, marked
  adapter-cli finetune --data rows.jsonl --steps 200 --lr 5e-3 --gate peft --out for-peft
  adapter-cli finetune --resume my-adapter                           go on after Ctrl+C
  adapter-cli chat -a my-adapter                                     talk to it

Rows may be alpaca (instruction, input or context, output), chat `messages`, sharegpt, prompt and completion, question and
answer, prompt and chosen, or text; .json or .jsonl. Answers with weight 0, train, training or loss false, and rows with label
or kto_tag false are not learnt; fields that are not read are named with their number of rows.
The paper's code states its learning rate as 9e-3 for a batch of 256 rows: it really uses 9e-3 * rows / 256, which is 1.1e-3
for its 32 rows. --lr is the real rate.")]
pub struct Finetune {
    /// GGUF file of a LLaMA [default: $ADAPTER_MODEL, else the model `cargo xtask chat` fetched]
    #[arg(long, short, value_name = "FILE", help_heading = "Model and data")]
    pub model: Option<PathBuf>,
    /// Rows to learn, .json or .jsonl; their format is found out
    #[arg(long, short, value_name = "FILE", help_heading = "Model and data")]
    pub data: Option<PathBuf>,
    /// Validation rows, instead of a share of --data
    #[arg(long, value_name = "FILE", conflicts_with = "val_split", help_heading = "Model and data")]
    pub val: Option<PathBuf>,
    /// Share of the rows used for validation; the same rows whatever is added [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Model and data")]
    pub val_split: Option<f64>,
    /// Chat template instead of the model's own: chatml, llama3, llama2, zephyr or alpaca
    #[arg(long, value_name = "NAME", help_heading = "Model and data")]
    pub template: Option<String>,
    /// Replace {{NAME}} in the rows by VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Model and data")]
    pub set: Vec<String>,
    /// Cut rows to so many tokens [default: --batch-tokens]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..), help_heading = "Model and data")]
    pub max_tokens: Option<u32>,
    /// Learn the prompts, too, not the answers alone
    #[arg(long, help_heading = "Model and data")]
    pub train_on_prompt: bool,
    /// Stop at the first row that cannot be used, instead of leaving it out
    #[arg(long, help_heading = "Model and data")]
    pub strict: bool,

    /// Begin with this adapter: PEFT folder, .safetensors or .gguf file; it decides the next three
    #[arg(long, short, value_name = "PATH", conflicts_with_all = ["adapter_len", "adapter_layers"], help_heading = "Adapter")]
    pub adapter: Option<PathBuf>,
    /// Prompt tokens a layer [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Adapter")]
    pub adapter_len: Option<u32>,
    /// Layers that get prompts, counted from the last [default: all but two]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Adapter")]
    pub adapter_layers: Option<u32>,
    /// What a gate is [default: paper]
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Adapter")]
    pub gate: Option<GateKind>,

    /// The highest learning rate [default: 5e-3]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    pub lr: Option<f64>,
    /// Times all rows are used [default: 5]
    #[arg(long, value_name = "N", conflicts_with = "steps", help_heading = "Training")]
    pub epochs: Option<f64>,
    /// Optimizer steps, instead of --epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Training")]
    pub steps: Option<u64>,
    /// Tokens of a batch at most; rows lie side by side without padding [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..), help_heading = "Training")]
    pub batch_tokens: Option<u32>,
    /// Steps in which the rate rises [default: a tenth of all]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub warmup: Option<u64>,
    /// What the rate does after that [default: cosine]
    #[arg(long, value_name = "SHAPE", help_heading = "Training")]
    pub schedule: Option<ScheduleFlag>,
    /// Share of prompts and gates that decays, times the rate [default: 0.02]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub weight_decay: Option<f32>,
    /// Shorten longer gradients to this; 0: never [default: 1]
    #[arg(long, value_name = "X", help_heading = "Training")]
    pub max_grad_norm: Option<f32>,
    /// The same seed gives the same run on the same machine [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub seed: Option<u64>,
    /// Where it computes [default: wgpu]
    #[arg(long, value_name = "NAME", help_heading = "Training")]
    pub backend: Option<Backend>,
    /// Round products to f16 where this GPU was measured to be faster at that: gradients are off by 0.2 %
    #[arg(long, help_heading = "Training")]
    pub f16: bool,

    /// Steps from one validation to the next [default: a tenth of all]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub validate_every: Option<u64>,
    /// Stop after so many validations without gain [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Validation")]
    pub patience: Option<u32>,
    /// Ask this before, during and after; may be given several times [default: two validation rows]
    #[arg(long, value_name = "TEXT", help_heading = "Validation")]
    pub sample: Vec<String>,
    /// Tokens of a sample answer; 0: no samples [default: 48]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub sample_tokens: Option<u32>,

    /// Folder of the run: adapter, checkpoints, metrics, pictures [default: adapter-NAME, NAME from --data]
    #[arg(long, short, value_name = "DIR", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Steps from one checkpoint to the next [default: as --validate-every]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Output")]
    pub save_every: Option<u64>,
    /// Go on with the run of this folder, exactly where its last checkpoint was
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "adapter", "config"], help_heading = "Output")]
    pub resume: Option<PathBuf>,
    /// TOML file with any of these settings
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub config: Option<PathBuf>,
    /// Show the settings of this run as TOML and stop
    #[arg(long, help_heading = "Output")]
    pub print_config: bool,
    /// Say what the run would take (parameters, steps, memory) and stop
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,
    /// Show the first N rows as tokens, what is learnt marked, and stop
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub show_sample: Option<usize>,
    /// JSON objects on standard output, a line each, as in metrics.jsonl
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

impl Finetune {
    /// What is asked for on the command line.
    pub fn options(&self) -> RunOptions {
        let flags = self.clone();
        RunOptions {
            model: flags.model,
            data: flags.data,
            val: flags.val,
            val_split: flags.val_split,
            template: flags.template,
            set: flags.set,
            max_tokens: flags.max_tokens,
            train_on_prompt: flags.train_on_prompt,
            strict: flags.strict,
            adapter: flags.adapter,
            adapter_len: flags.adapter_len,
            adapter_layers: flags.adapter_layers,
            gate: flags.gate,
            lr: flags.lr,
            epochs: flags.epochs,
            steps: flags.steps,
            batch_tokens: flags.batch_tokens,
            warmup: flags.warmup,
            schedule: flags.schedule.map(Into::into),
            weight_decay: flags.weight_decay,
            max_grad_norm: flags.max_grad_norm,
            seed: flags.seed,
            backend: flags.backend.map(Into::into),
            f16: flags.f16,
            validate_every: flags.validate_every,
            patience: flags.patience,
            sample: flags.sample,
            sample_tokens: flags.sample_tokens,
            out: flags.out,
            save_every: flags.save_every,
        }
    }
}

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleFlag {
    /// Falls along a half cosine to 0
    Cosine,
    /// Stays
    Constant,
}

impl From<ScheduleFlag> for Schedule {
    fn from(flag: ScheduleFlag) -> Self {
        match flag {
            ScheduleFlag::Cosine => Self::Cosine,
            ScheduleFlag::Constant => Self::Constant,
        }
    }
}

/// Where training computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The GPU: Vulkan, Metal or Direct3D 12
    Wgpu,
    /// The processor, with dequantized weights: slow, for machines without any GPU driver
    Cpu,
}

impl From<Backend> for adapter_finetune::Backend {
    fn from(flag: Backend) -> Self {
        match flag {
            Backend::Wgpu => Self::Wgpu,
            Backend::Cpu => Self::Cpu,
        }
    }
}
