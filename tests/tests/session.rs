//! Conversations: guesses change nothing, and what is kept is what would be computed.

use std::ops::ControlFlow;

use adapter_engine::adapter::GateKind;
use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::session::{MAX_GUESSED, Rows, SessionOptions, memory};
use adapter_engine::{Adapter, Model, Sampling, Session};
use adapter_tests::{
    baseline_gpu, gpu, ids, json, load, load_tiny, one_at_a_time, same_bits, smollm2_path, tiny_adapter,
};
use pollster::block_on;

fn session(model: &Model, prompt_lookup: u32, kept_conversations: u32) -> Session {
    let options =
        SessionOptions { prompt_lookup: Some(prompt_lookup), kept_conversations, ..SessionOptions::default() };
    Session::new(model, &options).expect("a session")
}

/// The greedy answer, the tokens that were guessed and those of them that were right.
fn answer(session: &mut Session, prompt: &[u32], n: usize) -> (Vec<u32>, (u32, u32)) {
    let mut answer = block_on(session.generate(prompt, &Sampling::greedy(), &mut |_, _| ControlFlow::Continue(())))
        .expect("an answer");
    let mut ids = Vec::new();
    while ids.len() < n {
        let Some(id) = block_on(answer.next()).expect("a token") else { break };
        ids.push(id);
    }
    (ids, answer.guesses())
}

/// Texts that repeat themselves, as a model that copies sees them, and one that does not.
fn prompts() -> Vec<Vec<u32>> {
    vec![
        (0..12).flat_map(|_| [3, 1, 4, 1, 5, 9, 2, 6]).collect(),
        (0..60).map(|t| (t * 37 + (t * t) % 11) % 320).collect(),
        vec![7; 20],
    ]
}

#[test]
fn guessed_tokens_are_those_of_one_at_a_time() {
    let _guard = one_at_a_time();
    for gpu in [gpu(), baseline_gpu()] {
        for format in ["f32", "q4_1", "q6_k"] {
            let model = load_tiny(gpu, format);
            let (mut guessed, mut right) = (0, 0);
            for prompt in prompts() {
                // Past where the cache grows (64 positions) and, in the last one, up to the end of the context.
                let n = if prompt.len() == 20 { 128 } else { 40 };
                let (wanted, none) = answer(&mut session(&model, 0, 0), &prompt, n);
                assert_eq!(none, (0, 0));
                for length in [1, 4, MAX_GUESSED] {
                    let mut session = session(&model, length, 0);
                    let (found, (g, r)) = answer(&mut session, &prompt, n);
                    assert_eq!(found, wanted, "{format}, {length} at a time");
                    (guessed, right) = (guessed + g, right + r);
                    // The cache is as if nothing had been guessed: the conversation goes on alike.
                    let more: Vec<u32> =
                        prompt.iter().chain(&found[..found.len() / 2]).copied().chain([5, 6]).collect();
                    let kept = session.reuse_prefix(&more);
                    assert_eq!(kept, more.len() - 2, "{format}, {length} at a time");
                    let a = block_on(session.logits(&more[kept..], Rows::Last)).expect("logits");
                    let mut fresh = self::session(&model, 0, 0);
                    let b = block_on(fresh.logits(&more, Rows::Last)).expect("logits");
                    assert!(adapter_tests::nmse(&a, &b) < 1e-9, "{format}, {length} at a time");
                }
            }
            assert!(right > 50 && guessed > right, "{format}: {right} of {guessed} were right");
        }
    }
}

#[test]
fn guesses_leave_the_real_model_its_golden_answers() {
    let _guard = one_at_a_time();
    let model = load(gpu(), &smollm2_path());
    let golden = json("smollm2/golden.json");
    let mut session = session(&model, MAX_GUESSED, 0);
    for case in [&golden[0], &golden[3]] {
        let wanted = ids(&case["greedy"]);
        let margins: Vec<f64> = serde_json::from_value(case["greedy_margins"].clone()).expect("margins");
        let n = margins.iter().position(|margin| *margin < 0.1).unwrap_or(wanted.len());
        let (found, _) = answer(&mut session, &ids(&case["ids"]), n);
        assert!(n > 40, "{n} tokens have a margin");
        assert_eq!(found, wanted[..n]);
    }
}

#[test]
fn going_back_to_a_conversation_computes_only_what_is_new() {
    let _guard = one_at_a_time();
    let model = load_tiny(gpu(), "q4_1");
    let texts: Vec<Vec<u32>> = (0..4u32).map(|k| (0..70).map(|t| (t * (k + 3) + k) % 320).collect()).collect();
    let mut session = session(&model, 0, 2);
    let wanted: Vec<Vec<f32>> = texts
        .iter()
        .map(|text| {
            assert_eq!(session.reuse_prefix(text), 0);
            block_on(session.logits(text, Rows::Last)).expect("logits")
        })
        .collect();
    // Three are there (two kept, one in use), the first is forgotten.
    for k in [3, 1, 2, 1, 3] {
        assert_eq!(session.reuse_prefix(&texts[k]), 69, "text {k}");
        let found = block_on(session.logits(&texts[k][69..], Rows::Last)).expect("logits");
        assert!(adapter_tests::nmse(&found, &wanted[k]) < 1e-9, "text {k}");
    }
    assert_eq!(session.reuse_prefix(&texts[0]), 0);
    // An edited question shares its beginning with the old one, and both stay.
    let edited: Vec<u32> = texts[1][..30].iter().copied().chain([8, 9, 10]).collect();
    assert_eq!(session.reuse_prefix(&edited), 30);
    let a = block_on(session.logits(&edited[30..], Rows::Last)).expect("logits");
    let b = block_on(self::session(&model, 0, 0).logits(&edited, Rows::Last)).expect("logits");
    assert!(adapter_tests::nmse(&a, &b) < 1e-9);
    assert_eq!(session.reuse_prefix(&texts[1]), 69);
}

#[test]
fn each_adapter_and_strength_has_its_own_conversation() {
    let _guard = one_at_a_time();
    let model = load_tiny(gpu(), "q4_1");
    let adapter = Adapter::load(&model, "paper", &tiny_adapter(GateKind::PAPER)).expect("an adapter");
    let text: Vec<u32> = (0..50).map(|t| (t * 7) % 320).collect();
    let settings = [None, Some((&adapter, 1.0)), Some((&adapter, 0.5))];
    let mut session = session(&model, 0, 2);
    let mut logits = |setting, wanted_prefix| {
        session.set_adapter(setting).expect("an adapter");
        let kept = session.reuse_prefix(&text);
        assert_eq!(kept, wanted_prefix);
        block_on(session.logits(&text[kept..], Rows::Last)).expect("logits")
    };
    let first = settings.map(|setting| logits(setting, 0));
    assert!(!same_bits(&first[0], &first[1]) && !same_bits(&first[1], &first[2]));
    for round in 0..2 {
        for (setting, first) in settings.iter().zip(&first) {
            assert!(adapter_tests::nmse(&logits(*setting, 49), first) < 1e-9, "round {round}");
        }
    }
}

#[test]
fn its_memory_is_predicted() {
    let _guard = one_at_a_time();
    // A device of its own: nothing else is on it.
    let gpu = adapter_tests::open(&Default::default());
    let path = smollm2_path();
    let source = ReadAtFile::open(&path).expect("the model");
    let gguf = Gguf::read(&source).expect("GGUF");
    let model = load(&gpu, &path);
    for cache_format in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8] {
        for (context, n_tokens) in [(64, 60), (4096, 130), (2048, 700)] {
            let options = SessionOptions { context: Some(context), cache_format, ..SessionOptions::default() };
            let mut session = Session::new(&model, &options).expect("a session");
            let ids: Vec<u32> = (0..n_tokens).map(|t| (t * 37) % 1000).collect();
            block_on(session.logits(&ids, Rows::Last)).expect("logits");
            let predicted =
                memory(&gguf, model.config(), gpu.tier(), &options, n_tokens).expect("formats with kernels");
            let ratio = gpu.used_bytes() as f64 / predicted.total() as f64;
            eprintln!("{cache_format:?}, {n_tokens} of {context}: {} bytes, {ratio:.4} of predicted", gpu.used_bytes());
            assert!((0.999..1.001).contains(&ratio), "{cache_format:?}, {n_tokens} of {context}: {ratio:.4}");
        }
    }
}
