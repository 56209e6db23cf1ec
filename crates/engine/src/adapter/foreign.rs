//! What a file is that is given as an adapter and is none that runs here: another method, or a whole model. Known by what the file
//! says about itself, else by the names of its tensors.

use super::error::{AdapterError, shortened};
use crate::formats::{Gguf, GgufError};

const LORA: &str = "a LoRA (low-rank terms beside the weights)";
const PREFIX: &str = "prefix tuning (keys and values in front of the text)";
const PROMPT: &str = "prompt tuning (embeddings in front of the text)";
const IA3: &str = "(IA)3 (scales of keys, values and the MLP)";
const LOHA: &str = "a LoHa (Hadamard products beside the weights)";
const LOKR: &str = "a LoKr (Kronecker products beside the weights)";
const OFT: &str = "an OFT (rotations of the weights)";
const VERA: &str = "a VeRA (scales of shared low-rank terms)";

/// `peft_type` of PEFT 0.21, in small letters, and what it is. `adapter.type` of llama.cpp has the first of these names, too.
const METHODS: [(&str, &str); 24] = [
    ("lora", LORA),
    ("adalora", "an AdaLoRA (low-rank terms of several ranks)"),
    ("xlora", "an X-LoRA (a mixture of LoRAs)"),
    ("vblora", "a VB-LoRA (low-rank terms from a bank of vectors)"),
    ("randlora", "a RandLoRA (sums of random low-rank terms)"),
    ("delora", "a DeLoRA (low-rank terms of bounded length)"),
    ("gralora", "a GraLoRA (low-rank terms by blocks)"),
    ("vera", VERA),
    ("loha", LOHA),
    ("lokr", LOKR),
    ("oft", OFT),
    ("boft", "a BOFT (butterfly rotations of the weights)"),
    ("hra", "an HRA (reflections of the weights)"),
    ("bone", "a Bone (blocks added to the weights)"),
    ("miss", "a MiSS (shards added to the weights)"),
    ("fourierft", "a FourierFT (sparse Fourier coefficients of the weights)"),
    ("ia3", IA3),
    ("ln_tuning", "LN tuning (norms of the model)"),
    ("trainable_tokens", "trainable tokens (rows of the embedding table)"),
    ("prefix_tuning", PREFIX),
    ("prompt_tuning", PROMPT),
    ("p_tuning", "P-tuning (embeddings in front of the text, from an encoder)"),
    ("multitask_prompt_tuning", "multitask prompt tuning (embeddings in front of the text)"),
    ("cpt", "context-aware prompt tuning (embeddings in front of the text)"),
];

/// Parts of tensor names that only one method writes, in PEFT's files, in llama.cpp's and in those of image models.
const TENSORS: [(&str, &str); 15] = [
    ("lora_embedding_", LORA),
    ("lora_a", LORA),
    ("lora_b", LORA),
    ("lora_down", LORA),
    ("lora_up", LORA),
    ("lora_magnitude_vector", LORA),
    ("vera_lambda_", VERA),
    ("hada_w1", LOHA),
    ("hada_w2", LOHA),
    ("lokr_w", LOKR),
    ("oft_r", OFT),
    ("oft_diag", OFT),
    ("ia3_l", IA3),
    ("prompt_embeddings", "prompt or prefix tuning (numbers in front of the text)"),
    ("prompt_encoder", "P-tuning (embeddings in front of the text, from an encoder)"),
];

/// Parts of tensor names of whole models: Hugging Face's, GPT-2's, Meta's and llama.cpp's.
const MODEL_TENSORS: [&str; 8] = [
    "self_attn.q_proj.weight",
    "self_attn.qkv_proj.weight",
    "embed_tokens.weight",
    "attn.c_attn.weight",
    "attention.wq.weight",
    "attn_q.weight",
    "tok_embeddings.weight",
    "attn.attn.weight",
];

/// What the method of that name is, as PEFT's `peft_type` or llama.cpp's `adapter.type` has it.
pub(super) fn named(method: &str) -> String {
    let name = method.to_lowercase();
    let known = METHODS.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| format!("of the method {:?}", shortened(method)), |(_, what)| (*what).to_owned())
}

/// The error for a file that says of itself that it is of another method: `key` = `found` instead of `wanted`.
pub(super) fn other_method(key: &str, found: &str, wanted: &str) -> AdapterError {
    let because = format!("{key} is {:?}, expected {wanted:?}", shortened(found));
    AdapterError::OtherMethod { what: named(found), because }
}

/// The error for a file with these tensors, where they show that it is of another method or a whole model; `None` where
/// nothing is known.
pub fn of_tensors<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<AdapterError> {
    let mut model = None;
    for name in names {
        let small = name.to_lowercase();
        if let Some((_, what)) = TENSORS.iter().find(|(part, _)| has_part(&small, part)) {
            let because = format!("it holds the tensor {:?}", shortened(name));
            return Some(AdapterError::OtherMethod { what: (*what).to_owned(), because });
        }
        if MODEL_TENSORS.iter().any(|part| small.ends_with(part)) {
            model.get_or_insert(name);
        }
    }
    model.map(|name| AdapterError::WholeModel { because: format!("it holds the tensor {:?}", shortened(name)) })
}

/// Whether a name holds `part` where a word of it begins.
fn has_part(name: &str, part: &str) -> bool {
    name.match_indices(part).any(|(at, _)| at == 0 || name[..at].ends_with(['.', '_', '/']))
}

/// What a GGUF file without an adapter is, as its metadata say.
///
/// # Errors
/// Keys of another type than text.
pub(super) fn of_gguf(gguf: &Gguf) -> Result<String, GgufError> {
    let text = |key: &str| gguf.metadata.optional::<&str>(key);
    let kind = text("general.type")?.unwrap_or("model");
    let name = text("general.name")?.map(|name| format!(" {:?}", shortened(name))).unwrap_or_default();
    let family = text("general.architecture")?.map(|family| format!(" of the family {:?}", shortened(family)));
    Ok(format!("a {}{name}{}", shortened(kind), family.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{named, of_tensors};

    #[test]
    fn methods_are_known_by_name_and_by_tensors() {
        assert!(named("LORA").starts_with("a LoRA") && named("lora").starts_with("a LoRA"));
        assert_eq!(named("NEW_ONE"), "of the method \"NEW_ONE\"");
        let found = |name: &str| of_tensors([name]).map(|error| error.to_string()).unwrap_or_default();
        for (name, part) in [
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "a LoRA"),
            ("blk.0.attn_q.weight.lora_b", "a LoRA"),
            ("lora_unet_down_blocks_0.lora_down.weight", "a LoRA"),
            ("base_model.model.model.layers.0.self_attn.k_proj.ia3_l", "(IA)3"),
            ("prompt_embeddings", "prompt or prefix tuning"),
            ("blk.0.soft_relu.weight", ""),
            ("base_model.model.model.layers.3.mlp.up_proj.hada_w1_a", "a LoHa"),
            ("model.layers.0.self_attn.q_proj.weight", "a whole model"),
            ("layers.0.attention.wq.weight", "a whole model"),
            ("transformer.h.0.attn.c_attn.weight", "a whole model"),
        ] {
            assert!(found(name).contains(part), "{name}: {}", found(name));
        }
        assert_eq!(found("prompts"), "");
    }
}
