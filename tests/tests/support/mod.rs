//! Vocabularies of llama.cpp for the tests of text, unpacked from `tests/data/vocab`.

use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::text::{Tokenizer, VocabSource};
use serde_json::Value;

/// The vocabularies in `tests/data/vocab`.
#[allow(dead_code, reason = "not every test file goes through all of them")]
pub const VOCABULARIES: [&str; 3] = ["gpt-2", "llama-bpe", "llama-spm"];

/// The vocabulary `name` of [`VOCABULARIES`] as a model file would give it.
pub fn source(name: &str) -> VocabSource {
    let file = adapter_tests::read(&format!("vocab/{name}.json.gz"));
    // Ten bytes of header, as make.py writes it, and eight of checksum and length.
    let packed = &file[10..file.len() - 8];
    let json = miniz_oxide::inflate::decompress_to_vec(packed).expect("gzip");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    let text = |key: &str| json[key].as_str().map(str::to_owned);
    let id = |key: &str| json[key].as_u64().map(|id| u32::try_from(id).expect("an id"));
    let tokens: Vec<String> = serde_json::from_value(json["tokens"].clone()).expect("tokens");
    let mut score = 0.0;
    VocabSource {
        model: text("model").expect("a model"),
        pre: text("pre"),
        merges: merges(&tokens, &numbers(&json["merges"])),
        scores: runs(&json["score_steps"])
            .map(|step| {
                score += step;
                score as f32
            })
            .collect(),
        token_types: runs(&json["token_types"]).map(|kind| kind as i32).collect(),
        bos_id: id("bos_id"),
        eos_id: id("eos_id"),
        unk_id: id("unk_id"),
        add_bos: json["add_bos"].as_bool(),
        add_eos: json["add_eos"].as_bool(),
        tokens,
        ..VocabSource::default()
    }
}

/// The tokenizer of [`source`].
pub fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_vocab(source(name)).expect("a good vocabulary")
}

/// The vocabulary of SmolLM2.
pub fn smollm2_source() -> VocabSource {
    let file = ReadAtFile::open(adapter_tests::smollm2_path()).expect("the model file");
    VocabSource::from_gguf(&Gguf::read(&file).expect("GGUF")).expect("a vocabulary")
}

/// The tokenizer of SmolLM2.
pub fn smollm2() -> Tokenizer {
    Tokenizer::from_vocab(smollm2_source()).expect("a good vocabulary")
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// The items of `[[item, count], ...]`.
fn runs(list: &Value) -> impl Iterator<Item = f64> {
    let runs: Vec<Vec<f64>> = list.as_array().expect("a list").iter().map(numbers).collect();
    runs.into_iter().flat_map(|run| std::iter::repeat_n(run[0], run[1] as usize))
}

/// Merges from (step to the joined token, characters of the left part), as make.py writes them.
fn merges(tokens: &[String], steps: &[f64]) -> Vec<String> {
    let mut token = 0_i64;
    let merge = |pair: &[f64]| {
        token += pair[0] as i64;
        let joined = &tokens[usize::try_from(token).expect("a token")];
        let split = joined.char_indices().nth(pair[1] as usize).expect("two parts").0;
        format!("{} {}", &joined[..split], &joined[split..])
    };
    steps.chunks(2).map(merge).collect()
}
