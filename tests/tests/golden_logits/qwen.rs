//! The real Qwen2.5-Coder-0.5B-Instruct Q4_K_M against llama.cpp and against transformers in f32 (tests/data/qwen2.5-coder).

use adapter_engine::Session;
use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::sampler::Sampling;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::text::{
    ChatTemplate, Message, RenderOptions, Shown, Special, Tokenizer, VocabSource, decode, encode_chat,
};
use adapter_tests::{gpu, ids, json, load, one_at_a_time, qwen_path};
use pollster::block_on;
use std::ops::ControlFlow;

fn tokenizer(path: &std::path::Path) -> Tokenizer {
    let file = ReadAtFile::open(path).unwrap();
    Tokenizer::from_vocab(VocabSource::from_gguf(&Gguf::read(&file).unwrap()).unwrap()).unwrap()
}

/// llama.cpp's ids of text and of markup, its end tokens, and the model's own template.
#[test]
fn qwen_tokens_equal_llama_cpp() {
    let Some(path) = qwen_path() else { return };
    let (tokenizer, golden) = (tokenizer(&path), json("qwen2.5-coder/golden.json"));
    for case in golden["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for (special, wanted) in [(Special::AsText, &case["ids"]), (Special::Parse, &case["special"])] {
            assert_eq!(tokenizer.encode(text, special).unwrap(), ids(wanted), "{text:?} {special:?}");
        }
    }
    for case in golden["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, Special::Parse).unwrap(), ids(&case["ids"]), "{text:?}");
        let answer = decode(&tokenizer, &ids(&case["greedy"]), Shown::WithControl).unwrap();
        assert_eq!(answer, case["greedy_text"].as_str().unwrap());
    }
    assert!(!tokenizer.add_bos(), "tokenizer.ggml.add_bos_token is false");
    let ends = ["<|im_end|>", "<|endoftext|>"].map(|end| tokenizer.encode(end, Special::Parse).unwrap());
    assert!(ends.iter().all(|end| end.len() == 1 && tokenizer.is_end_of_generation(end[0])), "{ends:?}");
    assert_eq!(tokenizer.eos(), Some(ends[0][0]));
    // ChatML with a branch for tools, which gives a conversation without a system message its own.
    let template = ChatTemplate::from_vocab(&tokenizer).unwrap();
    assert!(template.source().contains("tools"));
    let chat = [Message::new("user", "What is the capital of France? One word.")];
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let found = encode_chat(&tokenizer, &template, &chat, &options).unwrap();
    assert_eq!(found, ids(&golden["cases"][0]["ids"]), "the template's own system message");
}

/// Logits of the last position within 0.02 of transformers in f32 and within 0.25 of llama.cpp, which multiplies 8-bit
/// activations; the likelihood of the prompt within a thousandth; greedy ids as far as margins are safe.
#[test]
fn qwen_equals_llama_cpp_and_transformers() {
    let _turn = one_at_a_time();
    let Some(path) = qwen_path() else { return };
    let model = load(gpu(), &path);
    let mut session =
        Session::new(&model, &SessionOptions { context: Some(512), ..SessionOptions::default() }).unwrap();
    let n_vocab = model.config().n_vocab as usize;
    for case in json("qwen2.5-coder/golden.json")["cases"].as_array().unwrap() {
        let (name, prompt) = (case["name"].as_str().unwrap(), ids(&case["ids"]));
        session.truncate(0);
        let all = block_on(session.logits(&prompt, Rows::All)).unwrap();
        let log_sum = |row: &[f32]| {
            let top = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
            top + row.iter().map(|logit| (f64::from(*logit) - top).exp()).sum::<f64>().ln()
        };
        let last = &all[all.len() - n_vocab..];
        let entries = |key: &str| -> Vec<(usize, f64)> {
            let list = case[key].as_array().unwrap();
            list.iter().map(|entry| (entry[0].as_u64().unwrap() as usize, entry[1].as_f64().unwrap())).collect()
        };
        let (f32_top, top) = (entries("f32_top"), entries("top"));
        let best = (0..n_vocab).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
        assert_eq!((best, best), (f32_top[0].0, top[0].0), "{name}: top-1");
        let worst = |wanted: &[(usize, f64)], shift: f64| {
            wanted.iter().map(|(id, wanted)| (f64::from(last[*id]) - shift - wanted).abs()).fold(0.0, f64::max)
        };
        let off = worst(&f32_top, 0.0);
        assert!(off <= 0.02, "{name}: a top-20 logit is {off} off transformers");
        let rough = worst(&top, log_sum(last));
        assert!(rough <= 0.25, "{name}: a top-20 log-probability is {rough} off llama.cpp");

        let nll = prompt[1..].iter().zip(all.chunks_exact(n_vocab));
        let nll: f64 = nll.map(|(next, row)| log_sum(row) - f64::from(row[*next as usize])).sum();
        let (nll, wanted) = (nll / (prompt.len() - 1) as f64, case["mean_nll"].as_f64().unwrap());
        assert!((nll / wanted - 1.0).abs() <= 1e-3, "{name}: mean NLL {nll}, wanted {wanted}");

        let greedy = ids(&case["greedy"]);
        let margins: Vec<f64> = serde_json::from_value(case["margins"].clone()).unwrap();
        let sure = margins.iter().position(|margin| *margin < 0.3).unwrap_or(greedy.len());
        let mut go_on = |_, _| ControlFlow::Continue(());
        let mut answer = block_on(session.generate(&prompt, &Sampling::greedy(), &mut go_on)).unwrap();
        let found: Vec<u32> = (0..sure).map(|_| block_on(answer.next()).unwrap().unwrap()).collect();
        assert_eq!(found, greedy[..sure], "{name}: greedy ids");
        println!(
            "qwen::{name} top-20 within {off:.5} of f32, {rough:.4} of llama.cpp, NLL {nll:.6} of {wanted}, {sure} of {} ids",
            greedy.len()
        );
    }
}
