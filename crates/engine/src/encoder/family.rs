//! The families, a row each: what their tensors are called, where their norms stand.

use crate::ops::gelu::Gelu;

/// Names of a family's tensors. `{l}` stands for the block's number. `None`: it has no such tensor. What ends in a dot stands for a
/// `weight` and a `bias` below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// What some files put in front of every name.
    pub prefixes: &'static [&'static str],
    /// `[C]`, the token in front of the patches.
    pub class: Option<&'static str>,
    /// `[positions, C]`
    pub positions: &'static str,
    /// The product of a patch, `[C, 3, p, p]`, or the table of words, `[V, C]`.
    pub input: &'static str,
    /// The table of segments, `[2, C]`.
    pub segments: Option<&'static str>,
    /// The norm of what goes into the first block.
    pub first_norm: Option<&'static str>,
    /// The norm behind the last block.
    pub last_norm: Option<&'static str>,
    /// The norm of the attention.
    pub attention_norm: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub output: &'static str,
    /// The norm of the MLP.
    pub mlp_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    /// `[C]` each: what attention and MLP are multiplied with before they are added.
    pub scales: Option<[&'static str; 2]>,
}

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The plain vision transformer.
    Vit,
    /// DINOv2.
    Dinov2,
    /// The image half of CLIP.
    Clip,
    /// The image half of SigLIP.
    Siglip,
    /// BERT.
    Bert,
    /// RoBERTa.
    Roberta,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Vit, Self::Dinov2, Self::Clip, Self::Siglip, Self::Bert, Self::Roberta];

    /// What `model_type` of a `config.json` calls it.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Vit => "vit",
            Self::Dinov2 => "dinov2",
            Self::Clip => "clip_vision_model",
            Self::Siglip => "siglip_vision_model",
            Self::Bert => "bert",
            Self::Roberta => "roberta",
        }
    }

    /// Whether it reads sentences.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Bert | Self::Roberta)
    }

    /// Whether norms stand behind the sums, not before attention and MLP.
    #[must_use]
    pub fn norms_behind(self) -> bool {
        self.is_text()
    }

    /// The number of the first position: RoBERTa counts from behind its padding token.
    #[must_use]
    pub(super) fn first_position(self) -> u32 {
        if self == Self::Roberta { 2 } else { 0 }
    }

    /// What `hidden_act` is where the file does not say so.
    pub(super) fn usual_gelu(self) -> Gelu {
        match self {
            Self::Clip => Gelu::Quick,
            Self::Siglip => Gelu::Tanh,
            _ => Gelu::Erf,
        }
    }

    /// What the norms' eps is where the file does not say so.
    pub(super) fn usual_eps(self) -> f64 {
        match self {
            Self::Clip | Self::Roberta => 1e-5,
            Self::Dinov2 | Self::Siglip => 1e-6,
            Self::Vit | Self::Bert => 1e-12,
        }
    }

    pub(super) fn names(self) -> Names {
        match self {
            Self::Vit => Names {
                prefixes: &["", "vit."],
                class: Some("embeddings.cls_token"),
                positions: "embeddings.position_embeddings",
                input: "embeddings.patch_embeddings.projection.",
                segments: None,
                first_norm: None,
                last_norm: Some("layernorm."),
                attention_norm: "encoder.layer.{l}.layernorm_before.",
                query: "encoder.layer.{l}.attention.attention.query.",
                key: "encoder.layer.{l}.attention.attention.key.",
                value: "encoder.layer.{l}.attention.attention.value.",
                output: "encoder.layer.{l}.attention.output.dense.",
                mlp_norm: "encoder.layer.{l}.layernorm_after.",
                up: "encoder.layer.{l}.intermediate.dense.",
                down: "encoder.layer.{l}.output.dense.",
                scales: None,
            },
            Self::Dinov2 => Names {
                prefixes: &["", "dinov2."],
                attention_norm: "encoder.layer.{l}.norm1.",
                mlp_norm: "encoder.layer.{l}.norm2.",
                up: "encoder.layer.{l}.mlp.fc1.",
                down: "encoder.layer.{l}.mlp.fc2.",
                scales: Some(["encoder.layer.{l}.layer_scale1.lambda1", "encoder.layer.{l}.layer_scale2.lambda1"]),
                ..Self::Vit.names()
            },
            Self::Clip => Names {
                prefixes: &["vision_model.", ""],
                class: Some("embeddings.class_embedding"),
                positions: "embeddings.position_embedding.weight",
                input: "embeddings.patch_embedding.",
                segments: None,
                first_norm: Some("pre_layrnorm."),
                last_norm: Some("post_layernorm."),
                attention_norm: "encoder.layers.{l}.layer_norm1.",
                query: "encoder.layers.{l}.self_attn.q_proj.",
                key: "encoder.layers.{l}.self_attn.k_proj.",
                value: "encoder.layers.{l}.self_attn.v_proj.",
                output: "encoder.layers.{l}.self_attn.out_proj.",
                mlp_norm: "encoder.layers.{l}.layer_norm2.",
                up: "encoder.layers.{l}.mlp.fc1.",
                down: "encoder.layers.{l}.mlp.fc2.",
                scales: None,
            },
            Self::Siglip => Names { class: None, first_norm: None, ..Self::Clip.names() },
            Self::Bert => Names {
                prefixes: &["", "bert."],
                class: None,
                positions: "embeddings.position_embeddings.weight",
                input: "embeddings.word_embeddings.weight",
                segments: Some("embeddings.token_type_embeddings.weight"),
                first_norm: Some("embeddings.LayerNorm."),
                last_norm: None,
                attention_norm: "encoder.layer.{l}.attention.output.LayerNorm.",
                query: "encoder.layer.{l}.attention.self.query.",
                key: "encoder.layer.{l}.attention.self.key.",
                value: "encoder.layer.{l}.attention.self.value.",
                output: "encoder.layer.{l}.attention.output.dense.",
                mlp_norm: "encoder.layer.{l}.output.LayerNorm.",
                up: "encoder.layer.{l}.intermediate.dense.",
                down: "encoder.layer.{l}.output.dense.",
                scales: None,
            },
            Self::Roberta => Names { prefixes: &["", "roberta."], ..Self::Bert.names() },
        }
    }
}
