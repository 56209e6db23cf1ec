//! Models made for these tests: one of two formats, one that is only a header, and the float64 twin of a file.

use adapter_engine::Model;
use adapter_engine::formats::{Gguf, GgufWriter, ReadAt, TensorType};
use adapter_engine::gpu::Gpu;
use adapter_engine::model::{self, architecture::RopePairs};
use adapter_reference::llama::{Config, Llama, Weights};
use adapter_reference::rope::{Rope, Scaling};
use std::io;
use std::ops::ControlFlow;

fn tensor_bytes(gguf: &Gguf, file: &[u8], name: &str) -> (TensorType, Vec<u64>, Vec<u8>) {
    let tensor = gguf.find_tensor(name).unwrap_or_else(|| panic!("{name}"));
    let mut bytes = vec![0; tensor.size_bytes as usize];
    tensor.read_data(&file, 0, &mut bytes).expect("the data is there");
    (tensor.tensor_type, tensor.shape.clone(), bytes)
}

/// tiny-llama in the format `base`, but the tensors whose names contain a word of `others` in that word's format.
pub fn mixed(base: &str, others: &[(&str, &str)]) -> Vec<u8> {
    let read = |format: &str| {
        let bytes = adapter_tests::read(&format!("tiny-llama/tiny-{format}.gguf"));
        (Gguf::read(&bytes).expect("GGUF"), bytes)
    };
    let (gguf, file) = read(base);
    let others: Vec<_> = others.iter().map(|(word, format)| (*word, read(format))).collect();
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&gguf.metadata);
    let tensors: Vec<_> = gguf
        .tensors()
        .iter()
        .map(|tensor| {
            let other = others.iter().find(|(word, _)| tensor.name.contains(word));
            let (gguf, file) = other.map_or((&gguf, &file), |(_, (gguf, file))| (gguf, file));
            (&tensor.name, tensor_bytes(gguf, file, &tensor.name))
        })
        .collect();
    for (name, (tensor_type, shape, _)) in &tensors {
        writer.tensor(name.as_str(), shape, *tensor_type);
    }
    let mut data = writer.start(Vec::new()).expect("a good header");
    for (name, (.., bytes)) in &tensors {
        data.tensor(name, bytes).expect("the data fits");
    }
    data.finish().expect("all data is written")
}

/// A file in memory, loaded.
pub fn load_bytes(gpu: &Gpu, bytes: &[u8]) -> Model {
    let gguf = Gguf::read(&bytes).expect("GGUF");
    Model::load(gpu, &gguf, &bytes, &mut |_, _| ControlFlow::Continue(())).expect("a good model")
}

/// The plain-Rust model of a file's dequantized weights.
pub fn reference(bytes: &[u8]) -> Llama {
    let gguf = Gguf::read(&bytes).expect("GGUF");
    let config = model::Config::from_gguf(&gguf, &bytes).expect("a LLaMA");
    let mut weights = Weights::new();
    for tensor in gguf.tensors() {
        let (tensor_type, _, data) = tensor_bytes(&gguf, bytes, &tensor.name);
        weights.insert_quantized(&tensor.name, tensor_type.ggml_id(), &data).expect("a known format");
    }
    let config = Config {
        n_layers: config.n_layers as usize,
        n_channels: config.n_channels as usize,
        n_heads: config.n_heads as usize,
        n_kv_heads: config.n_kv_heads as usize,
        head_dim: config.head_dim as usize,
        n_ffn: config.n_ffn as usize,
        n_vocab: config.n_vocab as usize,
        eps: f64::from(config.eps),
        rope: Rope { n_rot: config.rope.n_rot as usize, theta: config.rope.theta, scaling: Scaling::None },
        halves: config.architecture.rope_pairs == RopePairs::Halves,
    };
    Llama::new(config, weights).expect("a whole model")
}

/// A file of which only the header is there.
pub struct Header {
    bytes: Vec<u8>,
    len: u64,
}

impl ReadAt for Header {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let n = buf.len().min(self.bytes.len() - start);
        buf[..n].copy_from_slice(&self.bytes[start..start + n]);
        buf[n..].fill(0);
        Ok(())
    }
}

/// The header of LLaMA-7B, all matrices in one format.
pub fn header_7b(tensor_type: TensorType) -> Header {
    const CHANNELS: u64 = 4096;
    const FFN: u64 = 11_008;
    const VOCAB: u64 = 32_000;
    let mut writer = GgufWriter::new();
    writer.metadata("general.architecture", "llama");
    for (key, value) in [
        ("block_count", 32),
        ("embedding_length", CHANNELS as u32),
        ("feed_forward_length", FFN as u32),
        ("attention.head_count", 32),
        ("context_length", 2048),
    ] {
        writer.metadata(format!("llama.{key}"), value);
    }
    writer.metadata("llama.attention.layer_norm_rms_epsilon", 1e-6f32);
    writer.tensor("token_embd.weight", &[CHANNELS, VOCAB], tensor_type);
    writer.tensor("output.weight", &[CHANNELS, VOCAB], tensor_type);
    writer.tensor("output_norm.weight", &[CHANNELS], TensorType::F32);
    for layer in 0..32 {
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            writer.tensor(format!("blk.{layer}.{name}.weight"), &[CHANNELS, CHANNELS], tensor_type);
        }
        for name in ["ffn_gate", "ffn_up"] {
            writer.tensor(format!("blk.{layer}.{name}.weight"), &[CHANNELS, FFN], tensor_type);
        }
        writer.tensor(format!("blk.{layer}.ffn_down.weight"), &[FFN, CHANNELS], tensor_type);
        for name in ["attn_norm", "ffn_norm"] {
            writer.tensor(format!("blk.{layer}.{name}.weight"), &[CHANNELS], TensorType::F32);
        }
    }
    let mut bytes = Vec::new();
    writer.start(&mut bytes).expect("a good header");
    Header { len: bytes.len() as u64 + 8_000_000_000, bytes }
}
