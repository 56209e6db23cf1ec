//! Which model an adapter belongs to. An adapter is prompts for *one* model's frozen weights: on other weights of the same
//! sizes it runs, and says something else than it learned.

use std::fmt;

use crate::Error;
use crate::formats::adapter_tensors::is_adapter_tensor;
use crate::formats::{Gguf, ReadAt, TensorInfo};
use crate::model::n_layers;

/// Bytes of each tensor that go into the hash.
const SAMPLE_BYTES: u64 = 4096;
/// Stands before the digits, so that another way to count can have another name.
const PREFIX: &str = "fnv1a64:";

/// A model as adapters remember it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    /// `general.name`, where the file has one.
    pub name: Option<String>,
    /// N: its layers.
    pub n_layers: u32,
    /// [`base_hash`] of its weights.
    pub hash: String,
    /// The chat template that an adapter is trained with, Jinja, once who trains has chosen one: [`Self::asked_with`].
    pub chat_template: Option<String>,
}

impl BaseModel {
    /// The model in a file; an adapter in the same file does not count.
    ///
    /// # Errors
    /// A file that cannot be read or does not say how many layers it has.
    pub fn of(gguf: &Gguf, source: &dyn ReadAt) -> Result<Self, Error> {
        let name = gguf.metadata.optional::<&str>("general.name")?.filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { name, n_layers: n_layers(gguf)?, hash: base_hash(gguf, source)?, chat_template: None })
    }

    /// The same model, asked with this chat template: adapters that are trained on it keep it
    /// ([`AdapterFile::set_base`](super::AdapterFile::set_base)).
    #[must_use]
    pub fn asked_with(self, chat_template: &str) -> Self {
        Self { chat_template: Some(chat_template.to_owned()), ..self }
    }
}

/// A short name of a model's weights: FNV-1a over the name, type and shape of each tensor and 4 KiB from its middle, in
/// the order of the names. Reads some MiB of the largest models, and tells apart files of other weights or quantization.
///
/// It finds mistakes, not attacks: whoever wants two files with the same hash can make them. Metadata and adapter tensors
/// do not count, so that a model keeps its hash when an adapter is merged into its file.
///
/// # Errors
/// A file that cannot be read.
pub fn base_hash(gguf: &Gguf, source: &dyn ReadAt) -> Result<String, Error> {
    let mut tensors: Vec<&TensorInfo> =
        gguf.tensors().iter().filter(|tensor| !is_adapter_tensor(&tensor.name)).collect();
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Fnv1a::default();
    let mut sample = Vec::new();
    for tensor in tensors {
        hash.update(&(tensor.name.len() as u64).to_le_bytes());
        hash.update(tensor.name.as_bytes());
        hash.update(&tensor.tensor_type.ggml_id().to_le_bytes());
        hash.update(&(tensor.shape.len() as u64).to_le_bytes());
        tensor.shape.iter().for_each(|dim| hash.update(&dim.to_le_bytes()));
        let n_bytes = tensor.size_bytes.min(SAMPLE_BYTES);
        sample.resize(n_bytes as usize, 0);
        tensor.read_data(source, (tensor.size_bytes - n_bytes) / 2, &mut sample)?;
        hash.update(&sample);
    }
    Ok(format!("{PREFIX}{:016x}", hash.0))
}

/// Fowler, Noll and Vo's hash, variant 1a with 64 bits.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// How what an adapter says about its model compares with a model of the right sizes. Nothing here forbids running it:
/// the same model in another quantization is other weights, too, and most often does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseMatch {
    /// The very weights it was trained on.
    Same,
    /// The adapter does not say enough to tell, and nothing it says speaks against the model.
    Unknown,
    /// It names no weights, and a model of another name.
    OtherName {
        /// The name the adapter gives.
        adapter: String,
        /// The model's.
        model: String,
    },
    /// It was trained on other weights.
    OtherWeights {
        /// The name the adapter gives, or its hash.
        adapter: String,
        /// The model's name, or its hash.
        model: String,
    },
}

impl BaseMatch {
    /// Whether there is something to tell the user.
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::OtherName { .. } | Self::OtherWeights { .. })
    }
}

/// A sentence for the user.
impl fmt::Display for BaseMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the adapter was trained on this very model"),
            Self::Unknown => f.write_str("the adapter does not say which weights it was trained on"),
            Self::OtherName { adapter, model } => {
                write!(f, "the adapter was made for {adapter:?}, this model is {model:?}: it may answer badly")
            }
            Self::OtherWeights { adapter, model } => write!(
                f,
                "the adapter was trained on other weights ({adapter}) than this model's ({model}), perhaps another \
                 quantization: it may answer worse"
            ),
        }
    }
}

/// Compares what an adapter says (name, hash) with a model.
pub(super) fn compare(name: Option<&str>, hash: Option<&str>, model: &BaseModel) -> BaseMatch {
    let model_name = model.name.as_deref();
    // A hash of another way to count says nothing.
    if let Some(hash) = hash.filter(|hash| hash.starts_with(PREFIX)) {
        if hash == model.hash {
            return BaseMatch::Same;
        }
        let both = |name: Option<&str>, hash: &str| name.map_or(hash.to_owned(), |name| format!("{name:?}, {hash}"));
        return BaseMatch::OtherWeights { adapter: both(name, hash), model: both(model_name, &model.hash) };
    }
    match (name, model_name) {
        (Some(adapter), Some(model)) if plain(adapter) != plain(model) => {
            BaseMatch::OtherName { adapter: adapter.to_owned(), model: model.to_owned() }
        }
        _ => BaseMatch::Unknown,
    }
}

/// A name without what hubs and tools write differently: `HuggingFaceTB/SmolLM2-135M` is `Smollm2 135M`.
fn plain(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    last.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        let of = |text: &str| {
            let mut hash = Fnv1a::default();
            hash.update(text.as_bytes());
            hash.0
        };
        // Published test vectors.
        assert_eq!(of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_are_compared_as_people_mean_them() {
        let model = BaseModel {
            name: Some("Smollm2 135M 8k".to_owned()),
            n_layers: 30,
            hash: format!("{PREFIX}0"),
            chat_template: None,
        };
        assert_eq!(compare(Some("HuggingFaceTB/SmolLM2-135M-8k"), None, &model), BaseMatch::Unknown);
        assert_eq!(compare(None, Some("blake9:0"), &model), BaseMatch::Unknown);
        assert_eq!(compare(Some("other"), Some("fnv1a64:0"), &model), BaseMatch::Same);
        let doubt = compare(Some("TinyLlama"), None, &model);
        assert!(doubt.is_doubtful() && doubt.to_string().contains("\"TinyLlama\""), "{doubt}");
        let doubt = compare(Some("TinyLlama"), Some("fnv1a64:1"), &model).to_string();
        assert!(doubt.contains("\"TinyLlama\"") && doubt.contains("\"Smollm2 135M 8k\""), "{doubt}");
    }
}
