//! The command line: every command and flag, and how wrong use is explained.

use std::ffi::OsString;
use std::path::PathBuf;

use adapter_engine::adapter::GateKind;
use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::sampler::Sampling;
use adapter_engine::session::MAX_GUESSED;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use crate::commands::Finetune;
use crate::failure::Failure;

/// The largest strength an adapter may have.
pub const MAX_STRENGTH: f32 = 2.0;

/// Quantized LLaMA with zero-init attention adapters, on any GPU
#[derive(Debug, Parser)]
#[command(
    name = "adapter-cli",
    version,
    after_help = "Examples:
  adapter-cli chat                                 talk to the model `cargo xtask chat` fetched
  adapter-cli chat -m model.gguf -a my-adapter/    with a PEFT folder or .safetensors file
  adapter-cli generate -m model.gguf -p 'Why is the sky blue?' --json
  adapter-cli finetune --data rows.jsonl           teach an adapter from examples
  adapter-cli bench -m model.gguf                  tokens per second, as llama-bench has them
  adapter-cli doctor                               what this machine's GPUs can do

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
}

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

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Talk to a model, with or without an adapter
    Chat(Box<Chat>),
    /// Answer one prompt from -p or standard input
    Generate(Box<Generate>),
    /// Teach an adapter from rows of examples
    Finetune(Box<Finetune>),
    /// Measure reading (pp) and writing (tg) speed, in tokens per second
    Bench(Bench),
    /// Show what is in a model or adapter file, and where a broken one breaks
    Inspect(Inspect),
    /// Write an adapter in another form: a PEFT folder, .safetensors or .gguf
    Export(Export),
    /// Write a model and an adapter as one GGUF file
    Merge(Merge),
    /// Show the GPUs of this machine and check the one that will be used
    Doctor,
    /// Tools for comparing with other programs
    #[command(subcommand)]
    Debug(Debug),
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
    /// Guess up to N tokens from what was said before and check them at once, at temperature 0; 0: never [default: what gains
    /// on this GPU]
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
    /// The same seed gives the same answer on the same machine [default: another one each time]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
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

/// `generate`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli generate -p 'Name three rivers.'
  git diff | adapter-cli generate --system 'Summarize this change in one line.' --greedy
  adapter-cli generate --raw -p 'Once upon a time' -n 64 --seed 7
  adapter-cli generate -p 'Hi' -a adapter.safetensors --gate paper --json")]
pub struct Generate {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub adapter: AdapterFlags,
    #[command(flatten)]
    pub prompt: PromptFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,
    /// What to answer [default: read from standard input]
    #[arg(long = "prompt", short = 'p', value_name = "TEXT", help_heading = "Prompt", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Feed the prompt as it is: no chat template, and control tokens written in it count
    #[arg(long, help_heading = "Prompt", conflicts_with_all = ["system", "template"])]
    pub raw: bool,
    /// One JSON object at the end instead of text as it comes
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// `bench`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli bench -m model.gguf
  adapter-cli bench -m model.gguf -p 128 -n 32 -r 3 --format json > bench.json
  adapter-cli bench -m model.gguf --verbose            with the time of every kernel
  adapter-cli bench -m model.gguf -p 64 -n 16 --depth 128,1024,4096
  adapter-cli bench -m model.gguf --train 4x128,1x512  training steps instead

ppN reads a prompt of N tokens at once, tgN writes N tokens one by one; both are run once before they are measured.
trainRxT is a step of training an adapter on R rows of T tokens, every token learnt; one step is made before it is measured.")]
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

/// `inspect`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli inspect model.gguf
  adapter-cli inspect my-adapter/                      a PEFT folder
  adapter-cli inspect adapter.safetensors --gate paper")]
pub struct Inspect {
    /// A GGUF, .safetensors or .pth file, or a PEFT folder
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// What the gates of an adapter without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind())]
    pub gate: Option<GateKind>,
}

/// `export`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli export -m model.gguf -a adapter.safetensors --to peft --out my-adapter/
  adapter-cli export -m model.gguf -a my-adapter/ --to gguf --out adapter.gguf
  adapter-cli export -m merged.gguf --to safetensors --out adapter.safetensors      the adapter inside a model
  adapter-cli export -m model.gguf -a release.pth --gate paper --to safetensors --out adapter.safetensors

PEFT has one gate a layer: an adapter with a gate a head is refused.")]
pub struct Export {
    /// GGUF file of the model the adapter was trained on
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub model: PathBuf,
    /// PEFT folder, .safetensors, .gguf or .pth file [default: the one inside the model]
    #[arg(long, short, value_name = "PATH", help_heading = "Input and output")]
    pub adapter: Option<PathBuf>,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Input and output")]
    pub gate: Option<GateKind>,
    /// Prompt tokens a layer of a .pth file that leaves it open [default: found from its open gates]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Input and output")]
    pub adapter_len: Option<u32>,
    /// What to write
    #[arg(long, value_name = "FORM", help_heading = "Input and output")]
    pub to: Form,
    /// File to write, or a new folder for peft
    #[arg(long, short, value_name = "PATH", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// The forms an adapter can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A folder that Hugging Face PEFT loads
    Peft,
    /// One file with its meaning in the metadata: every kind of gate
    Safetensors,
    /// A small GGUF file: every kind of gate
    Gguf,
}

/// `merge`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli merge -m model.gguf -a adapter.safetensors --out merged.gguf
  adapter-cli chat -m merged.gguf                       with the adapter
  adapter-cli chat -m merged.gguf -a none               the model alone, as it was

The model's weights are copied as they are. Other programs refuse the file: they do not know the adapter's tensors.")]
pub struct Merge {
    /// GGUF file of the model the adapter was trained on
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub model: PathBuf,
    /// PEFT folder, .safetensors, .gguf or .pth file
    #[arg(long, short, value_name = "PATH", help_heading = "Input and output")]
    pub adapter: PathBuf,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Input and output")]
    pub gate: Option<GateKind>,
    /// GGUF file to write
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// `debug`
#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Token ids of a text as a JSON array; control tokens written in it count
    Tokenize(Tokenize),
    /// Logits of given token ids as a safetensors file
    Logits(Logits),
    /// Loss and gradients of an adapter's prompts and gates as a safetensors file
    Gradients(Gradients),
    /// A model file of a known shape with random weights, for measuring and for foretelling memory
    SyntheticModel(SyntheticModel),
}

/// `debug synthetic-model`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug synthetic-model --shape 7b --type q4_0 --out 7b.gguf
  adapter-cli finetune -m 7b.gguf --data rows.jsonl --dry-run

Every tensor repeats one block of random weights: fast to write, finite to compute, and nothing it says means anything.")]
pub struct SyntheticModel {
    /// Whose sizes
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub shape: ModelShape,
    /// How the products' weights are stored; norms are f32
    #[arg(long = "type", value_name = "TYPE", help_heading = "Output")]
    pub weights: WeightType,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Output")]
    pub seed: u64,
    /// GGUF file to write
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    pub out: PathBuf,
}

/// Models whose sizes `debug synthetic-model` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelShape {
    /// A model for tests: 2 layers of 256 channels, 512 ids
    Tiny,
    /// TinyLlama 1.1B
    #[value(name = "tinyllama", alias = "tinyllama-1.1b")]
    TinyLlama,
    /// Llama 3.2 1B
    #[value(name = "llama-3.2-1b", alias = "1b")]
    Llama32B1,
    /// Llama 3.2 3B
    #[value(name = "llama-3.2-3b", alias = "3b")]
    Llama32B3,
    /// LLaMA 7B
    #[value(name = "7b", alias = "llama-7b")]
    Llama7B,
}

/// Types of weights that `debug synthetic-model` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightType {
    /// 32 weights of 4 bits, one f16 scale
    #[value(name = "q4_0")]
    Q4_0,
    /// 256 weights of 4 bits with 6-bit scales and minimums
    #[value(name = "q4_k")]
    Q4K,
    /// 32 weights of 8 bits, one f16 scale
    #[value(name = "q8_0")]
    Q8_0,
}

/// `debug gradients`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug gradients -m model.gguf --ids ids.json --first-target 17 -a adapter --out gradients.safetensors")]
pub struct Gradients {
    #[command(flatten)]
    pub model: ModelFlags,
    /// PEFT folder, or a .safetensors or .pth file with prompts and gates
    #[arg(long, short, value_name = "PATH", help_heading = "Adapter")]
    pub adapter: PathBuf,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Adapter")]
    pub gate: Option<GateKind>,
    /// JSON: an array of ids, or an object with one under \"ids\"; fed as they are, without a begin token
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub ids: PathBuf,
    /// The loss is the mean cross entropy over the ids from this index on (from 1: nothing comes before id 0)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Input and output")]
    pub first_target: u32,
    /// File to write: the tensors \"loss\", \"d_prompts\" and \"d_gates\", f32
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// `debug tokenize`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug tokenize -m model.gguf --file prompt.txt > ids.json")]
pub struct Tokenize {
    #[command(flatten)]
    pub model: ModelFlags,
    /// Text in UTF-8; - is standard input
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub file: PathBuf,
    /// Put the model's begin token first
    #[arg(long, help_heading = "Input and output")]
    pub bos: bool,
}

/// `debug logits`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug logits -m model.gguf --ids ids.json --last -a my-adapter/ --out logits.safetensors")]
pub struct Logits {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub adapter: AdapterFlags,
    /// JSON: an array of ids, or an object with one under \"ids\"; fed as they are, without a begin token
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub ids: PathBuf,
    /// Only the last token's logits, [V], instead of [T, V]
    #[arg(long, help_heading = "Input and output")]
    pub last: bool,
    /// File to write: the tensor \"logits\", f32
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
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

/// Turns what clap has to say into help (printed, fine) or into wrong use in this program's words.
///
/// # Errors
/// [`Failure::WrongUse`], with the way out as the hint.
pub fn explain(error: &clap::Error, arguments: &[OsString]) -> Result<(), Failure> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return error.print().map_err(Failure::from);
    }
    let text = error.render().to_string();
    let one_line = |lines: &str| lines.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let message = one_line(paragraphs.next().unwrap_or_default().trim_start_matches("error: "));
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    let help = format!("`{} --help` lists what there is", command_of(arguments));
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure::wrong_use("no command is given", format!("start with `adapter-cli chat`; {help}")));
    }
    let hint = if tips.is_empty() { help } else { format!("{}; {help}", tips.join("; ")) };
    Err(Failure::wrong_use(message, hint))
}

/// The command that was meant, as far as it was written: `adapter-cli debug`.
fn command_of(arguments: &[OsString]) -> String {
    let root = Cli::command();
    let (mut command, mut name) = (&root, root.get_name().to_owned());
    for word in arguments.iter().skip(1) {
        let Some(found) = word.to_str().and_then(|word| command.find_subcommand(word)) else { break };
        command = found;
        name = format!("{name} {}", found.get_name());
    }
    name
}

#[cfg(test)]
mod tests {

    use super::*;

    fn refusal(line: &str) -> String {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).expect_err("the line is wrong");
        match explain(&error, &arguments) {
            Err(Failure::WrongUse { message, hint }) => format!("{message} | {}", hint.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_use_names_the_way_out() {
        assert_eq!(
            refusal("adapter-cli generate --temprature 1"),
            "unexpected argument '--temprature' found | a similar argument exists: '--temperature'; \
             `adapter-cli generate --help` lists what there is"
        );
        assert!(refusal("adapter-cli chat --strength 3").contains("from 0 (off) over 1 (as trained) to 2"));
        assert!(refusal("adapter-cli debug tokenize").contains("--file <FILE>"));
        let gate = refusal("adapter-cli generate --gate flat");
        assert!(gate.contains("paper, linear, peft") && gate.contains("`adapter-cli generate --help`"), "{gate}");
    }

    #[test]
    fn sampling_out_of_range_is_refused() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).expect("the flags exist").command {
            Command::Generate(flags) => flags.sampling.sampling(),
            _ => panic!("not generate"),
        };
        assert!(matches!(parse("adapter-cli generate --temperature -1"), Err(Failure::WrongUse { .. })));
        assert!(matches!(parse("adapter-cli generate --top-p 0"), Err(Failure::WrongUse { .. })));
        let greedy = parse("adapter-cli generate --greedy --seed 3").expect("both are fine");
        assert_eq!((greedy.temperature.to_bits(), greedy.seed), (0, 3));
    }

    #[test]
    fn gates_have_the_engine_s_names() {
        let parse =
            |name: &str| Cli::try_parse_from(["adapter-cli", "generate", "--gate", name]).map(|cli| cli.command);
        for kind in GateKind::ALL {
            for name in [kind.name(), kind.old_name()] {
                match parse(name).expect("a kind of gates") {
                    Command::Generate(flags) => assert_eq!(flags.adapter.gate, Some(kind)),
                    _ => panic!("not generate"),
                }
            }
        }
        let wrong = parse("round").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(wrong.contains("paper, linear, peft, scalar-tanh"), "{wrong}");
    }

    #[test]
    fn seeds_differ_and_fit_json() {
        let seeds: Vec<u64> = (0..8).map(|_| random_seed()).collect();
        assert!(seeds.iter().all(|seed| *seed <= u64::from(u32::MAX)));
        assert!(seeds.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
