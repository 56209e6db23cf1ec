//! Tokenizers and short ways to read a data set.
#![allow(dead_code, reason = "not every test file uses all of it")]

use std::ops::ControlFlow;

use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::text::{Tokenizer, VocabSource};
use adapter_finetune::data::{DataError, DataOptions, Dataset, Split, Template};

fn of_file(path: &std::path::Path) -> Tokenizer {
    let file = ReadAtFile::open(path).expect("the model file");
    Tokenizer::from_vocab(VocabSource::from_gguf(&Gguf::read(&file).expect("GGUF")).expect("a vocabulary"))
        .expect("a good vocabulary")
}

/// 256 bytes and eight merges; the end token is `<|endoftext|>`.
pub fn tiny() -> Tokenizer {
    of_file(&adapter_tests::data("tiny-llama/tiny-q8_0.gguf"))
}

/// SmolLM2's, with its own ChatML template.
pub fn smollm2() -> Tokenizer {
    of_file(&adapter_tests::smollm2_path())
}

/// A SentencePiece vocabulary with all bytes, letters, and merges that run over spaces and colons.
pub fn sentencepiece() -> Tokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut token_types = vec![2, 3, 3];
    for byte in 0..=255 {
        tokens.push(format!("<0x{byte:02X}>"));
        token_types.push(6);
    }
    for c in "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:#?[]/.".chars() {
        tokens.push(c.to_string());
        token_types.push(1);
    }
    tokens.extend(["▁▁", "▁a", "th", "▁th", "he", "▁the", "er", ":#", ":X", "[/", "INST"].map(str::to_owned));
    token_types.resize(tokens.len(), 1);
    let scores = (0..tokens.len()).map(|id| if id < 259 { 0.0 } else { -(id as f32) }).collect();
    let source = VocabSource { model: "llama".to_owned(), tokens, scores, token_types, ..VocabSource::default() };
    Tokenizer::from_vocab(source).expect("a good vocabulary")
}

/// Everything is trained on, in the template of alpaca.
pub fn options() -> DataOptions {
    let template = Template::Named("alpaca".to_owned());
    DataOptions { template, split: Split { fraction: 0.0, seed: 0 }, ..DataOptions::default() }
}

pub fn read_with(data: &[u8], tokenizer: &Tokenizer, options: &DataOptions) -> Result<Dataset, DataError> {
    let mut bytes = data;
    Dataset::read((&mut bytes, "train.jsonl"), None, tokenizer, options, &mut |_| ControlFlow::Continue(()))
}

pub fn read(data: impl AsRef<[u8]>) -> Result<Dataset, DataError> {
    read_with(data.as_ref(), &tiny(), &options())
}
