//! `debug synthetic-model`: a model of a known shape with random weights, to measure speed and predict memory where the
//! real one is not at hand.

use std::io::{self, Write};
use std::path::PathBuf;

use adapter_atomic_file::Readers;
use adapter_engine::formats::{GgufError, GgufWriteError, GgufWriter, StringArray, TensorType};
use adapter_engine::model::architecture::{LLAMA, QWEN2, QWEN3};
use adapter_engine::model::tensors::{self, Role};
use adapter_engine::model::{Architecture, Config};
use adapter_engine::ops::rope::{Rope, Scaling};
use adapter_host::figures;
use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::interrupt;
use crate::output;
use crate::printable::printable;

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
    /// Qwen2.5 0.5B
    #[value(name = "qwen2.5-0.5b")]
    Qwen25,
    /// Qwen3 0.6B
    #[value(name = "qwen3-0.6b")]
    Qwen3,
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

/// Blocks of random weights that all tensors repeat. A prime, so that the rows of a tensor are not alike.
const PATTERN_BLOCKS: usize = 65_521;
// ggml's kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// Rows may be chats: the roles in words, as the tokens of real templates are not in this vocabulary.
const TEMPLATE: &str = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}\
    {% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

/// Sizes of a model.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    architecture: &'static Architecture,
    name: &'static str,
    n_layers: u32,
    n_channels: u32,
    n_ffn: u32,
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    n_vocab: u32,
    n_context: u32,
    rope_theta: f32,
    eps: f32,
    /// Whether the output product is the embedding's matrix.
    tied: bool,
}

/// From the models' own `config.json`.
const fn sizes(shape: ModelShape) -> Sizes {
    let llama = Sizes {
        architecture: &LLAMA,
        name: "LLaMA 7B",
        n_layers: 32,
        n_channels: 4096,
        n_ffn: 11_008,
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        n_vocab: 32_000,
        n_context: 4096,
        rope_theta: 10_000.0,
        eps: 1e-5,
        tied: false,
    };
    let llama32 = Sizes { n_vocab: 128_256, n_context: 131_072, rope_theta: 500_000.0, tied: true, ..llama };
    match shape {
        ModelShape::Llama7B => llama,
        ModelShape::Qwen25 => Sizes {
            architecture: &QWEN2,
            name: "Qwen2.5 0.5B",
            n_layers: 24,
            n_channels: 896,
            n_ffn: 4864,
            n_heads: 14,
            n_kv_heads: 2,
            head_dim: 64,
            n_vocab: 151_936,
            n_context: 32_768,
            rope_theta: 1e6,
            eps: 1e-6,
            tied: true,
        },
        ModelShape::Qwen3 => Sizes {
            architecture: &QWEN3,
            name: "Qwen3 0.6B",
            n_layers: 28,
            n_channels: 1024,
            n_ffn: 3072,
            n_heads: 16,
            n_kv_heads: 8,
            head_dim: 128,
            n_vocab: 151_936,
            n_context: 40_960,
            rope_theta: 1e6,
            eps: 1e-6,
            tied: true,
        },
        ModelShape::TinyLlama => Sizes {
            name: "TinyLlama 1.1B",
            n_layers: 22,
            n_channels: 2048,
            n_ffn: 5632,
            n_kv_heads: 4,
            head_dim: 64,
            n_context: 2048,
            ..llama
        },
        ModelShape::Llama32B1 => Sizes {
            name: "Llama 3.2 1B",
            n_layers: 16,
            n_channels: 2048,
            n_ffn: 8192,
            n_kv_heads: 8,
            head_dim: 64,
            ..llama32
        },
        ModelShape::Llama32B3 => Sizes {
            name: "Llama 3.2 3B",
            n_layers: 28,
            n_channels: 3072,
            n_ffn: 8192,
            n_heads: 24,
            n_kv_heads: 8,
            ..llama32
        },
        ModelShape::Tiny => Sizes {
            name: "tiny",
            n_layers: 2,
            n_channels: 256,
            n_ffn: 512,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 64,
            n_vocab: 512,
            n_context: 512,
            ..llama
        },
    }
}

impl Sizes {
    fn config(&self) -> Config {
        let (head_dim, theta) = (self.head_dim, f64::from(self.rope_theta));
        Config {
            architecture: self.architecture,
            name: format!("{} shape, random weights", self.name),
            n_layers: self.n_layers,
            n_channels: self.n_channels,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim,
            n_ffn: self.n_ffn,
            n_vocab: self.n_vocab,
            n_context: self.n_context,
            eps: self.eps,
            rope: Rope { head_dim, n_rot: head_dim, theta, scaling: Scaling::None },
            tied: self.tied,
        }
    }
}

impl WeightType {
    fn tensor_type(self) -> TensorType {
        match self {
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q4K => TensorType::Q4_K,
            Self::Q8_0 => TensorType::Q8_0,
        }
    }

    /// The f16 scales a block begins with; everything behind them is random. With them the weights have a mean near 0 and
    /// a deviation of about 0.02, the one LLaMA is initialized with, so that activations stay finite in any depth.
    fn scales(self) -> &'static [u16] {
        match self {
            Self::Q4_0 => &[0x1c00],        // 2^-8; -8..=7 deviates by 4.6
            Self::Q8_0 => &[0x0c00],        // 2^-12; -128..=127 deviates by 74
            Self::Q4K => &[0x0400, 0x0f80], // 2^-14, and 7.5 times that: the mean of 0..=15 is taken off
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be written: then nothing is left of it.
pub fn run(flags: &SyntheticModel) -> Result<(), Failure> {
    let _busy = interrupt::busy();
    let rows = [sizes(flags.shape).n_channels, sizes(flags.shape).n_ffn];
    let block = flags.weights.tensor_type().block_len();
    if let Some(row) = rows.into_iter().find(|row| !u64::from(*row).is_multiple_of(block)) {
        let (name, tensor_type) = (sizes(flags.shape).name, flags.weights.tensor_type());
        let what = format!("{name} has rows of {row} weights, {tensor_type} stores blocks of {block}");
        return Err(Failure::failed(what, "choose q4_0 or q8_0 with --type"));
    }
    let writer = describe(&sizes(flags.shape), flags.weights.tensor_type()).map_err(GgufWriteError::from);
    let writer = writer.map_err(|error| Failure::failed(error.to_string(), "please report this"))?;
    let pattern = pattern(flags.weights, flags.seed);
    let outcome =
        adapter_atomic_file::write_streamed(&flags.out, Readers::Default, |out| write(&writer, &pattern, out));
    outcome.map_err(|error| match error {
        GgufWriteError::Write(error) if error.kind() == io::ErrorKind::Interrupted => Failure::Interrupted,
        GgufWriteError::Write(error) => Failure::file("cannot write the model", &flags.out, &error),
        other => Failure::failed(other.to_string(), "please report this"),
    })?;
    let size = std::fs::metadata(&flags.out).map_or(0, |about| about.len());
    let out = flags.out.display().to_string();
    writeln!(
        io::stdout(),
        "Wrote random weights in the shape of {}, {}, {}: {}",
        sizes(flags.shape).name,
        flags.weights.tensor_type(),
        figures::bytes(size),
        printable(&out)
    )?;
    Ok(())
}

/// The header: sizes, a vocabulary that can encode any text (byte by byte), and all tensors.
fn describe(sizes: &Sizes, weights: TensorType) -> Result<GgufWriter, GgufError> {
    let mut writer = GgufWriter::new();
    let config = sizes.config();
    writer.metadata("general.architecture", config.architecture.name);
    writer.metadata("general.name", config.name.as_str());
    for (key, value) in [
        ("block_count", config.n_layers),
        ("context_length", config.n_context),
        ("embedding_length", config.n_channels),
        ("feed_forward_length", config.n_ffn),
        ("attention.head_count", config.n_heads),
        ("attention.head_count_kv", config.n_kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.n_vocab),
    ] {
        writer.metadata(config.architecture.key(key), value);
    }
    writer.metadata(config.architecture.key("attention.layer_norm_rms_epsilon"), config.eps);
    writer.metadata(config.architecture.key("rope.freq_base"), sizes.rope_theta);

    let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    let mut tokens: Vec<(String, i32)> = special.map(|(text, kind)| (text.to_owned(), kind)).to_vec();
    tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    tokens.push(("\u{2581}".to_owned(), NORMAL));
    tokens.extend((tokens.len()..sizes.n_vocab as usize).map(|id| (format!("<unused {id}>"), UNUSED)));
    writer.metadata("tokenizer.ggml.model", "llama");
    writer.metadata("tokenizer.ggml.tokens", StringArray::from_strings(tokens.iter().map(|(text, _)| text))?);
    writer.metadata("tokenizer.ggml.scores", vec![0f32; tokens.len()]);
    writer.metadata("tokenizer.ggml.token_type", tokens.iter().map(|(_, kind)| *kind).collect::<Vec<_>>());
    writer.metadata("tokenizer.ggml.unknown_token_id", 0u32);
    writer.metadata("tokenizer.ggml.bos_token_id", 1u32);
    writer.metadata("tokenizer.ggml.eos_token_id", 2u32);
    writer.metadata("tokenizer.chat_template", TEMPLATE);

    for (name, spec) in tensors::of(&config) {
        let tensor_type = match spec.role {
            Role::Matrix => weights,
            Role::Vector => TensorType::F32,
            Role::Unused => continue,
        };
        writer.tensor(name, &spec.shape_in(&config), tensor_type);
    }
    Ok(writer)
}

/// Random blocks: the scales of the type, then any bytes.
fn pattern(weights: WeightType, seed: u64) -> Vec<u8> {
    let block_bytes = weights.tensor_type().block_bytes() as usize;
    let scales: Vec<u8> = weights.scales().iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let mut bytes = Bytes(seed);
    (0..PATTERN_BLOCKS)
        .flat_map(|_| {
            let mut block = scales.clone();
            block.extend(bytes.by_ref().take(block_bytes - scales.len()));
            block
        })
        .collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), a byte of each number.
struct Bytes(u64);

impl Iterator for Bytes {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(((z ^ (z >> 31)) >> 56) as u8)
    }
}

/// Writes the header and then each tensor in pieces of the pattern: nothing larger than that is ever in memory.
fn write(writer: &GgufWriter, pattern: &[u8], out: &mut impl Write) -> Result<(), GgufWriteError> {
    let mut data = writer.start(out)?;
    let bar = output::bar(0, "Writing tensor {pos}");
    let one = 1f32.to_le_bytes();
    // A tensor begins anywhere in the pattern, or the tensors of a layer would begin alike.
    let (mut start, mut written) = (0, 0u64);
    while let Some(tensor) = data.next_tensor() {
        if interrupt::requested() {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        let (mut left, tensor_type) = (tensor.size_bytes, tensor.tensor_type);
        if tensor_type == TensorType::F32 {
            data.chunk(&one.repeat((left / 4) as usize))?;
            continue;
        }
        while left > 0 {
            let piece = pattern.get(start..).unwrap_or_default();
            let piece = piece.get(..left.min(piece.len() as u64) as usize).unwrap_or_default();
            data.chunk(piece)?;
            left -= piece.len() as u64;
            // Whole blocks, so that scales stay where scales are.
            start = (start + piece.len()) % pattern.len();
            debug_assert_eq!(start as u64 % tensor_type.block_bytes(), 0);
        }
        written += 1;
        bar.set_position(written);
    }
    bar.finish_and_clear();
    data.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use adapter_engine::formats::Gguf;

    use super::*;

    const TYPES: [WeightType; 3] = [WeightType::Q4_0, WeightType::Q4K, WeightType::Q8_0];

    #[test]
    fn a_tiny_model_of_each_type_is_one_the_engine_reads() {
        for weights in TYPES {
            let writer = describe(&sizes(ModelShape::Tiny), weights.tensor_type()).expect("a header");
            let mut file = Vec::new();
            write(&writer, &pattern(weights, 7), &mut file).expect("written");
            let gguf = Gguf::read(&file).expect("a GGUF file");
            assert_eq!(gguf.file_bytes, file.len() as u64);
            let config = Config::from_gguf(&gguf, &file).expect("a LLaMA");
            assert_eq!((config.n_layers, config.n_channels, config.n_vocab), (2, 256, 512));
            let norm = gguf.tensors().iter().find(|tensor| tensor.name == "output_norm.weight").expect("a norm");
            let start = norm.offset as usize;
            assert_eq!(file.get(start..start + 4), Some(1f32.to_le_bytes().as_slice()));
        }
    }

    /// The other families have all their tensors: as many weights as their authors count.
    #[test]
    fn shapes_of_other_families_have_the_weights_of_the_real_models() {
        for (shape, wanted) in [(ModelShape::Qwen25, 494_032_768), (ModelShape::Qwen3, 596_049_920u64)] {
            let sizes = sizes(shape);
            let config = sizes.config();
            let elements = |spec: &tensors::Spec| spec.shape_in(&config).iter().product::<u64>();
            let found: u64 = tensors::of(&config).map(|(_, spec)| elements(spec)).sum();
            assert_eq!(found, wanted, "{}", sizes.name);
            describe(&sizes, TensorType::Q4_0).expect("a header");
        }
    }

    /// The bound, from the header alone: a 7B model in Q4_0 trains in less than 5 GB at 512 tokens a batch.
    #[test]
    fn the_header_of_the_7b_shape_predicts_training_under_5_gb() {
        struct HeaderOnly(Vec<u8>, u64);
        impl adapter_engine::formats::ReadAt for HeaderOnly {
            fn len(&self) -> u64 {
                self.1
            }
            fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
                let from = self.0.get(offset as usize..).unwrap_or_default();
                buf.fill(0);
                buf.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                Ok(())
            }
        }
        let writer = describe(&sizes(ModelShape::Llama7B), TensorType::Q4_0).expect("a header");
        let mut header = Vec::new();
        writer.start(&mut header).expect("a header that can be read");
        let file = HeaderOnly(header, 4 << 30);
        let gguf = Gguf::read(&file).expect("a GGUF file");
        let weights: u64 = gguf.n_parameters();
        assert_eq!(weights, 6_738_415_616, "LLaMA 7B's own count");
        let config = Config::from_gguf(&gguf, &file).expect("a LLaMA");
        let on_gpu = adapter_engine::model::weight_bytes(&gguf).expect("sizes");
        let memory = adapter_engine::train::memory(&config, on_gpu, 30, 10, 512);
        assert!(memory.total() < 5_000_000_000, "{}", memory.total());
        assert!(memory.total() > on_gpu, "the trainer takes something, too");
    }

    #[test]
    fn random_weights_have_a_mean_near_0_and_the_deviation_of_a_fresh_llama() {
        // Q4_0 and Q8_0 by their definition in ggml: one scale, then the weights.
        let half = |bits: u16| 2f64.powi(i32::from(bits >> 10) - 15);
        let q4: Vec<f64> = pattern(WeightType::Q4_0, 1)
            .chunks(18)
            .take(4000)
            .flat_map(|block| {
                let d = half(u16::from_le_bytes([block[0], block[1]]));
                block[2..].iter().flat_map(move |q| [q & 15, q >> 4]).map(move |q| d * (f64::from(q) - 8.0))
            })
            .collect();
        let q8: Vec<f64> = pattern(WeightType::Q8_0, 1)
            .chunks(34)
            .take(4000)
            .flat_map(|block| {
                let d = half(u16::from_le_bytes([block[0], block[1]]));
                block[2..].iter().map(move |q| d * f64::from(*q as i8))
            })
            .collect();
        for weights in [q4, q8] {
            let n = weights.len() as f64;
            let mean = weights.iter().sum::<f64>() / n;
            let deviation = (weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n).sqrt();
            assert!(mean.abs() < 0.003 && (0.015..0.025).contains(&deviation), "{mean} {deviation}");
        }
    }
}
