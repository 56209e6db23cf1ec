//! Control tokens that are spelled as letters in the text of a row.

use adapter_engine::text::Tokenizer;

/// Signs of chat templates that no vocabulary at hand need have: a row with one was written for another model.
const SIGNS: [&str; 22] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|start|>",
    "<|message|>",
    "<|return|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "</s>",
];

/// Whether a control token of `tokenizer`, or a sign of a usual template, is spelled in `text`.
pub(super) fn is_in(text: &str, tokenizer: &Tokenizer) -> bool {
    SIGNS.iter().any(|sign| text.contains(sign)) || tokenizer.spells_control_token(text)
}
