//! What the tests share: test data, a small GGUF reader of our own, random numbers, central differences.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::PathBuf;

use adapter_reference::dequantize::dequantize;
use adapter_reference::llama::{Config, Llama, Weights};
use adapter_reference::rope::{Rope, Scaling};
use adapter_reference::widen;
use safetensors::{Dtype, SafeTensors};

pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

pub fn read(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap_or_else(|error| panic!("tests/data/{name}: {error}"))
}

/// Numbers of a GGUF header by key, and (ggml type, number of weights, bytes) of its tensors by name.
pub struct Gguf {
    pub numbers: HashMap<String, f64>,
    pub tensors: HashMap<String, (u32, Vec<u8>)>,
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("the header is whole");
        self.0 = rest;
        *head
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }
    fn u64(&mut self) -> usize {
        u64::from_le_bytes(self.bytes()) as usize
    }
    fn string(&mut self) -> String {
        let n = self.u64();
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        String::from_utf8(head.to_vec()).expect("names are UTF-8")
    }
    /// A value of this GGUF type; only plain numbers are kept.
    fn value(&mut self, kind: u32) -> Option<f64> {
        match kind {
            0 | 1 | 7 => Some(f64::from(self.bytes::<1>()[0])),
            2 | 3 => Some(f64::from(u16::from_le_bytes(self.bytes()))),
            4 | 5 => Some(f64::from(self.u32())),
            6 => Some(f64::from(f32::from_le_bytes(self.bytes()))),
            8 => {
                self.string();
                None
            }
            9 => {
                let (kind, n) = (self.u32(), self.u64());
                for _ in 0..n {
                    self.value(kind);
                }
                None
            }
            10 | 11 => Some(self.u64() as f64),
            12 => Some(f64::from_le_bytes(self.bytes())),
            _ => panic!("GGUF value type {kind}"),
        }
    }
}

/// Bytes of `n` weights of a type, from ggml's table of blocks.
fn n_bytes(ggml_type: u32, n: usize) -> usize {
    let (weights, bytes) = match ggml_type {
        0 => (1, 4),
        1 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        _ => panic!("ggml type {ggml_type}"),
    };
    n / weights * bytes
}

pub fn gguf(name: &str) -> Gguf {
    let file = read(name);
    let mut at = Cursor(&file);
    assert_eq!((at.bytes::<4>(), at.u32()), (*b"GGUF", 3));
    let (n_tensors, n_values) = (at.u64(), at.u64());
    let mut numbers = HashMap::new();
    for _ in 0..n_values {
        let (key, kind) = (at.string(), at.u32());
        if let Some(value) = at.value(kind) {
            numbers.insert(key, value);
        }
    }
    let mut infos = Vec::new();
    for _ in 0..n_tensors {
        let (name, n_dims) = (at.string(), at.u32());
        let n: usize = (0..n_dims).map(|_| at.u64()).product();
        infos.push((name, n, at.u32(), at.u64()));
    }
    let start = (file.len() - at.0.len()).next_multiple_of(32);
    let tensor = |(name, n, ggml_type, offset): (String, usize, u32, usize)| {
        let bytes = file[start + offset..][..n_bytes(ggml_type, n)].to_vec();
        (name, (ggml_type, bytes))
    };
    Gguf { numbers, tensors: infos.into_iter().map(tensor).collect() }
}

/// The model of `tests/data/tiny-llama/tiny-<format>.gguf`.
pub fn tiny_llama(format: &str) -> Llama {
    let gguf = gguf(&format!("tiny-llama/tiny-{format}.gguf"));
    let size = |key: &str| gguf.numbers[&format!("llama.{key}")] as usize;
    let (n_channels, n_heads) = (size("embedding_length"), size("attention.head_count"));
    let config = Config {
        n_layers: size("block_count"),
        n_channels,
        n_heads,
        n_kv_heads: size("attention.head_count_kv"),
        head_dim: n_channels / n_heads,
        n_ffn: size("feed_forward_length"),
        n_vocab: size("vocab_size"),
        // The fixture computes with 1e-5 in f64, the file holds it as f32: 9.999999747e-6.
        eps: 1e-5,
        rope: Rope {
            n_rot: size("rope.dimension_count"),
            theta: gguf.numbers["llama.rope.freq_base"],
            scaling: Scaling::None,
        },
        halves: false,
    };
    assert!((gguf.numbers["llama.attention.layer_norm_rms_epsilon"] - config.eps).abs() < 1e-12);
    let mut weights = Weights::new();
    for (name, (ggml_type, bytes)) in &gguf.tensors {
        weights.insert(name, widen(&dequantize(*ggml_type, bytes).expect("a known type")));
    }
    Llama::new(config, weights).expect("the file is a whole model")
}

/// Tensors of a safetensors file of `tests/data/tiny-llama`, in f64.
pub fn tensors(name: &str) -> HashMap<String, Vec<f64>> {
    let file = read(&format!("tiny-llama/{name}.safetensors"));
    let parsed = SafeTensors::deserialize(&file).expect("safetensors");
    let numbers = |dtype, bytes: &[u8]| match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => panic!("{other:?}"),
    };
    parsed.tensors().into_iter().map(|(name, view)| (name, numbers(view.dtype(), view.data()))).collect()
}

/// Token ids, first target, and the base model's loss.
pub fn sample() -> (Vec<u32>, usize, f64) {
    let json: serde_json::Value = serde_json::from_slice(&read("tiny-llama/base.json")).expect("JSON");
    let ids = json["ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect();
    (ids, json["first_target"].as_u64().expect("a number") as usize, json["loss"].as_f64().expect("a number"))
}

/// Uniform numbers in (-1, 1), the same each time (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn vec(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.number()).collect()
    }
    pub fn number(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Largest |found - wanted| over the largest |wanted|.
pub fn worst(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len(), "lengths differ");
    let size = wanted.iter().fold(0.0, |size: f64, w| size.max(w.abs()));
    let error = found.iter().zip(wanted).fold(0.0, |error: f64, (f, w)| error.max((f - w).abs()));
    assert!(error.is_finite() && found.iter().all(|f| f.is_finite()), "not finite");
    if size == 0.0 { error } else { error / size }
}

pub fn assert_close(what: &str, found: &[f64], wanted: &[f64], limit: f64) {
    let worst = worst(found, wanted);
    eprintln!("{what}: {worst:.1e} <= {limit:.0e}");
    assert!(worst <= limit, "{what}: {worst:e} > {limit:e}");
}

/// Whether `dx` is the gradient of sum(dy . f(x)), by central differences on every element.
pub fn assert_gradient(what: &str, x: &[f64], dx: &[f64], dy: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) {
    let value = |x: &[f64]| {
        let y = f(x);
        assert_eq!(y.len(), dy.len(), "{what}: f and dy");
        y.iter().zip(dy).map(|(y, dy)| y * dy).sum::<f64>()
    };
    // The error of the difference is h^2 f'''/6 + rounding/h: 1e-5 leaves about 1e-10 of both.
    let h = 1e-5;
    let mut moved = x.to_vec();
    let mut difference = |i: usize| {
        moved[i] = x[i] + h;
        let above = value(&moved);
        moved[i] = x[i] - h;
        let below = value(&moved);
        moved[i] = x[i];
        (above - below) / (2.0 * h)
    };
    let wanted: Vec<f64> = (0..x.len()).map(&mut difference).collect();
    assert!(wanted.iter().any(|d| d.abs() > 1e-3), "{what}: a test without a gradient tests nothing");
    assert_close(what, dx, &wanted, 1e-6);
}
