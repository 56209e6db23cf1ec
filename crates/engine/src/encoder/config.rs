//! Sizes of an encoder, from Hugging Face's `config.json`.

use serde_json::Value;

use super::Family;
use crate::Error;
use crate::ops::gelu::Gelu;
use crate::ops::heads::Heads;

/// What goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Patches of a picture of three channels.
    Pixels {
        /// Side of the square picture the positions were learnt for.
        image_size: u32,
        /// Side of a square patch.
        patch_size: u32,
    },
    /// Token ids.
    Ids {
        /// V
        n_vocab: u32,
        /// The most tokens of a text.
        n_positions: u32,
    },
}

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Its family.
    pub family: Family,
    /// L
    pub n_layers: u32,
    /// C, a multiple of 32.
    pub n_channels: u32,
    /// H
    pub n_heads: u32,
    /// F, a multiple of 32.
    pub n_ffn: u32,
    /// Of the layer norms.
    pub eps: f32,
    /// Between the MLP's products.
    pub gelu: Gelu,
    /// What goes in.
    pub input: Input,
}

impl EncoderConfig {
    /// Reads a `config.json`. Of a model of two halves (CLIP, SigLIP) the half for pictures is taken.
    ///
    /// # Errors
    /// A family that does not run here, sizes that are missing or that the kernels do not compute.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let json: Value = serde_json::from_str(text).map_err(|error| Error::Config {
            field: "config.json".to_owned(),
            found: error.to_string(),
            wanted: "JSON".to_owned(),
        })?;
        let halves = json.get("vision_config");
        let json = halves.unwrap_or(&json);
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let family = Family::ALL.into_iter().find(|family| family.model_type() == model_type).ok_or_else(|| {
            let known: Vec<&str> = Family::ALL.iter().map(|family| family.model_type()).collect();
            field("model_type", model_type, format!("one of {}", known.join(", ")))
        })?;
        let reader = Reader { json, family };
        let n_channels = reader.number("hidden_size", None)?;
        let n_heads = reader.number("num_attention_heads", None)?;
        let n_ffn = match (json.get("intermediate_size"), json.get("mlp_ratio")) {
            (None, Some(_)) => n_channels * reader.number("mlp_ratio", None)?,
            _ => reader.number("intermediate_size", Some(4 * n_channels))?,
        };
        for (name, value) in [("hidden_size", n_channels), ("intermediate_size", n_ffn)] {
            if value == 0 || !value.is_multiple_of(32) || value > 1 << 16 {
                return Err(field(name, &value.to_string(), "a multiple of 32 up to 65,536".to_owned()));
            }
        }
        let fits = n_heads > 0 && n_channels.is_multiple_of(n_heads);
        if !fits || !(n_channels / n_heads).is_multiple_of(4) || n_channels / n_heads > 256 {
            let wanted = format!("a divisor of hidden_size ({n_channels}) into heads of a multiple of 4 up to 256");
            return Err(field("num_attention_heads", &n_heads.to_string(), wanted));
        }
        let input = match family.is_text() {
            true => Input::Ids {
                n_vocab: reader.number("vocab_size", None)?,
                n_positions: reader.number("max_position_embeddings", None)?.saturating_sub(family.first_position()),
            },
            false => {
                let (image_size, patch_size) =
                    (reader.number("image_size", Some(224))?, reader.number("patch_size", Some(16))?);
                if patch_size == 0 || patch_size > image_size || image_size > 4096 {
                    let wanted = format!("between 1 and image_size ({image_size}, at most 4,096)");
                    return Err(field("patch_size", &patch_size.to_string(), wanted));
                }
                Input::Pixels { image_size, patch_size }
            }
        };
        reader.refuse_variants()?;
        Ok(Self {
            family,
            n_layers: reader.number("num_hidden_layers", None)?,
            n_channels,
            n_heads,
            n_ffn,
            eps: json.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(family.usual_eps()) as f32,
            gelu: reader.gelu()?,
            input,
        })
    }

    /// H, K and D.
    #[must_use]
    pub fn heads(&self) -> Heads {
        let n_heads = self.n_heads;
        Heads { n_heads, n_kv_heads: n_heads, head_dim: self.n_channels / n_heads }
    }
}

struct Reader<'a> {
    json: &'a Value,
    family: Family,
}

impl Reader<'_> {
    fn number(&self, name: &str, usual: Option<u32>) -> Result<u32, Error> {
        match (self.json.get(name), usual) {
            (None | Some(Value::Null), Some(usual)) => Ok(usual),
            (None | Some(Value::Null), None) => Err(field(name, "missing", "a number".to_owned())),
            (Some(value), _) => value
                .as_u64()
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| field(name, &value.to_string(), "a whole number".to_owned())),
        }
    }

    fn gelu(&self) -> Result<Gelu, Error> {
        match self.json.get("hidden_act").and_then(Value::as_str) {
            None => Ok(self.family.usual_gelu()),
            Some("gelu") => Ok(Gelu::Erf),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Gelu::Tanh),
            Some("quick_gelu") => Ok(Gelu::Quick),
            Some(other) => Err(Error::Unsupported { what: format!("the activation {other:?}") }),
        }
    }

    /// What is computed otherwise in some models of a family.
    fn refuse_variants(&self) -> Result<(), Error> {
        let usual: [(&str, &[Value]); 4] = [
            ("use_swiglu_ffn", &[Value::Bool(false)]),
            ("qkv_bias", &[Value::Bool(true)]),
            ("num_channels", &[Value::from(3)]),
            ("position_embedding_type", &[Value::from("absolute"), Value::Null]),
        ];
        for (name, known) in usual {
            if let Some(value) = self.json.get(name).filter(|value| !known.contains(value)) {
                return Err(Error::Unsupported { what: format!("{name} = {value}") });
            }
        }
        Ok(())
    }
}

fn field(name: &str, found: &str, wanted: String) -> Error {
    Error::Config { field: name.to_owned(), found: found.to_owned(), wanted }
}
