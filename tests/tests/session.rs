//! Conversations: guesses change nothing, what is kept is what would be computed, and answers end where they should.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;

use adapter_engine::adapter::GateKind;
use adapter_engine::answer::{self, Finish, Listener, Request};
use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::session::{MAX_GUESSED, Rows, SessionOptions, memory};
use adapter_engine::text::{Shown, Tokenizer, VocabSource, decode};
use adapter_engine::{Adapter, Error, Model, Sampling, Session};
use adapter_tests::{
    baseline_gpu, gpu, ids, json, like_a_gpu, load, load_tiny, one_at_a_time, same_bits, smollm2_path, tiny_adapter,
};
use pollster::block_on;

fn session(model: &Model, prompt_lookup: u32, cached_conversations: u32) -> Session {
    let options =
        SessionOptions { prompt_lookup: Some(prompt_lookup), cached_conversations, ..SessionOptions::default() };
    Session::new(model, &options).expect("a session")
}

/// The greedy answer, the tokens that were guessed and those of them that were right.
fn greedy(session: &mut Session, prompt: &[u32], n: usize) -> (Vec<u32>, (u32, u32)) {
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
                let (wanted, none) = greedy(&mut session(&model, 0, 0), &prompt, n);
                assert_eq!(none, (0, 0));
                for length in [1, 4, MAX_GUESSED] {
                    let mut session = session(&model, length, 0);
                    let (found, (g, r)) = greedy(&mut session, &prompt, n);
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

/// Checking several tokens at once costs more than it gains on most GPUs: it is done where somebody asks for it.
#[test]
fn nothing_is_guessed_unless_asked_for() {
    let _guard = one_at_a_time();
    for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
        let model = load_tiny(gpu, "q4_1");
        let prompt = &prompts()[0];
        let mut usual = Session::new(&model, &SessionOptions::default()).expect("a session");
        let (wanted, guesses) = greedy(&mut usual, prompt, 40);
        assert_eq!(guesses, (0, 0), "{}", gpu.tier());
        let (found, (guessed, _)) = greedy(&mut session(&model, MAX_GUESSED, 0), prompt, 40);
        assert!(guessed > 0, "{}", gpu.tier());
        assert_eq!(found, wanted, "{}", gpu.tier());
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
        let (found, _) = greedy(&mut session, &ids(&case["ids"]), n);
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

/// The tokenizer of a model.
fn tokenizer_of(path: &Path) -> Tokenizer {
    let file = ReadAtFile::open(path).expect("the model file");
    Tokenizer::from_vocab(VocabSource::from_gguf(&Gguf::read(&file).expect("GGUF")).expect("a vocabulary"))
        .expect("a good vocabulary")
}

/// What a door hears, and what it may want.
#[derive(Default)]
struct Heard<'a> {
    ids: Vec<u32>,
    text: String,
    computed: u32,
    /// Stops after this many tokens, or while the prompt is read.
    stop_after: Option<usize>,
    stop_reading: bool,
    /// Changes the adapter after a number of tokens.
    change: Option<(usize, &'a Adapter)>,
    asked: Cell<u32>,
}

impl Listener for Heard<'_> {
    type Error = Error;

    fn reading(&mut self, _done: usize, _total: usize) -> ControlFlow<()> {
        if self.stop_reading { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn computed(&mut self) {
        self.computed += 1;
    }

    fn piece(&mut self, id: Option<u32>, text: &str) -> Result<(), Error> {
        self.ids.extend(id);
        self.text += text;
        Ok(())
    }

    fn is_stopped(&mut self) -> bool {
        self.stop_after.is_some_and(|n| self.ids.len() >= n)
    }

    fn setting(&self) -> Option<Option<(&Adapter, f32)>> {
        self.asked.set(self.asked.get() + 1);
        self.change.map(|(after, adapter)| (self.ids.len() >= after).then_some((adapter, 1.0)))
    }
}

/// llama.cpp's greedy ids, the last of which ends the answer: every way to end before, at and behind it.
#[test]
fn an_answer_of_the_real_model_ends_where_llama_cpp_ends_it() {
    let _guard = one_at_a_time();
    let (model, tokenizer) = (load(gpu(), &smollm2_path()), tokenizer_of(&smollm2_path()));
    let golden = json("smollm2/golden.json");
    let case = &golden[2];
    assert_eq!(case["name"], "multi-turn");
    let (prompt, wanted) = (ids(&case["ids"]), ids(&case["greedy"]));
    let (end, said) = wanted.split_last().expect("an answer");
    assert!(tokenizer.is_end_of_generation(*end));
    let whole = decode(&tokenizer, said, Shown::TextOnly).expect("text");
    let sampling = Sampling::greedy();
    let mut session = session(&model, 0, 0);
    let mut run = |request: Request<'_>| {
        let mut heard = Heard::default();
        let answer = block_on(answer::answer(&mut session, &tokenizer, &request, &mut heard)).expect("an answer");
        assert_eq!((&heard.ids, &heard.text, heard.computed), (&answer.ids, &answer.text, answer.n_tokens));
        answer
    };
    let request = Request::new(&prompt, &sampling);

    let answer = run(request);
    assert_eq!((answer.finish, &*answer.ids, &*answer.text), (Finish::Stop, said, &*whole));
    assert_eq!((answer.n_tokens as usize, answer.n_prompt as usize, answer.n_reused), (wanted.len(), prompt.len(), 0));

    // A limit that holds all but the end token, one that holds it, too, and one in the middle.
    let n = said.len() as u32;
    for (max, finish) in [(n, Finish::Length), (n + 1, Finish::Stop), (4, Finish::Length)] {
        let answer = run(Request { max_tokens: Some(max), ..request });
        assert_eq!((answer.finish, answer.n_tokens), (finish, max));
        assert_eq!(answer.ids, said[..said.len().min(max as usize)]);
        assert!(answer.n_reused > 0, "the prompt is in the cache");
    }

    // A stop string that begins in the middle of a token, with a letter of it before: never shown, not even in part.
    let (at, _) = whole.char_indices().nth(9).expect("a long answer");
    let stops = ["no such text".to_owned(), whole[at..at + 6].to_owned()];
    let answer = run(Request { stops: &stops, ..request });
    assert_eq!((answer.finish, &*answer.text), (Finish::Stop, &whole[..at]));
    assert!(answer.ids.len() < said.len() && said.starts_with(&answer.ids));

    let answer = run(Request { ignore_end: true, max_tokens: Some(n + 3), ..request });
    assert_eq!((answer.finish, answer.n_tokens, &answer.ids[..=said.len()]), (Finish::Length, n + 3, &*wanted));
    assert!(answer.text.starts_with(&*whole), "an end token is no text");

    // Going on from each place gives the same text, also from the middle of a character.
    for cut in 0..said.len() {
        let answer = run(Request { begun: &said[..cut], ..request });
        assert_eq!((&*answer.text, &*answer.ids), (&*whole, &said[cut..]), "from {cut}");
    }
    // What had begun ends with a stop string already.
    let answer = run(Request { begun: said, stops: &stops, ..request });
    assert_eq!((answer.finish, &*answer.text, answer.n_tokens), (Finish::Stop, &whole[..at], 0));
}

#[test]
fn an_answer_ends_at_the_context_and_at_a_stop() {
    let _guard = one_at_a_time();
    let (model, tokenizer) =
        (load_tiny(gpu(), "q4_1"), tokenizer_of(&adapter_tests::data("tiny-llama/tiny-q4_1.gguf")));
    let sampling = Sampling::greedy();
    let prompt = [3, 1, 4, 1, 5, 9, 2, 6];
    let made = |context| {
        Session::new(&model, &SessionOptions { context: Some(context), ..SessionOptions::default() })
            .expect("a session")
    };
    let request = Request { ignore_end: true, ..Request::new(&prompt, &sampling) };
    let run =
        |context, heard: &mut Heard<'_>| block_on(answer::answer(&mut made(context), &tokenizer, &request, heard));
    // One more id than fits the cache is known: that of the last position.
    let answer = run(12, &mut Heard::default()).expect("an answer");
    assert_eq!((answer.finish, answer.ids.len(), answer.n_tokens), (Finish::Context, 5, 5));
    for context in [1, 7, 8] {
        let full = run(context, &mut Heard::default());
        assert!(matches!(full, Err(Error::ContextFull { wanted: 9, limit }) if limit == context), "{full:?}");
    }
    for n in [0, 1, 7] {
        let answer = run(64, &mut Heard { stop_after: Some(n), ..Heard::default() }).expect("no error");
        assert_eq!((answer.finish, answer.ids.len()), (Finish::Stopped, n));
    }
    let answer = run(64, &mut Heard { stop_reading: true, ..Heard::default() }).expect("no error");
    assert_eq!((answer.finish, answer.n_tokens), (Finish::Stopped, 0));
    // Text that was held back for a stop string comes when the answer is stopped.
    let text = run(64, &mut Heard { stop_after: Some(12), ..Heard::default() }).expect("an answer").text;
    let stops = [format!("{}#", text.chars().last().expect("text"))];
    let request = Request { stops: &stops, ..request };
    let mut heard = Heard { stop_after: Some(12), ..Heard::default() };
    let answer = block_on(answer::answer(&mut made(64), &tokenizer, &request, &mut heard)).expect("an answer");
    assert_eq!((&answer.text, &heard.text), (&text, &text));
    // Ids for measuring are the same ids.
    let mut fresh = made(64);
    let ids = block_on(answer::ids(&mut fresh, &prompt, &sampling, 12, &mut || ControlFlow::Continue(())));
    assert_eq!(ids.expect("ids"), answer.ids);
    let stopped = block_on(answer::ids(&mut fresh, &prompt, &sampling, 12, &mut || ControlFlow::Break(())));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn the_adapter_may_change_in_the_middle_of_an_answer() {
    let _guard = one_at_a_time();
    let (model, tokenizer) =
        (load_tiny(gpu(), "q4_1"), tokenizer_of(&adapter_tests::data("tiny-llama/tiny-q4_1.gguf")));
    let adapter = Adapter::load(&model, "paper", &tiny_adapter(GateKind::PAPER)).expect("an adapter");
    let prompt = [3, 1, 4, 1, 5, 9, 2, 6];
    let n = 24;
    let (base, _) = greedy(&mut session(&model, 0, 0), &prompt, n);
    let mut adapted = session(&model, 0, 0);
    adapted.set_adapter(Some((&adapter, 1.0))).expect("an adapter");
    assert_ne!(greedy(&mut adapted, &prompt, n).0, base, "the adapter says something else");
    for after in [0, 1, 5, n] {
        let begun: Vec<u32> = prompt.iter().chain(&base[..after]).copied().collect();
        let (rest, _) = greedy(&mut adapted, &begun, n - after);
        let wanted = [&base[..after], &rest].concat();
        let sampling = Sampling::greedy();
        let request = Request { ignore_end: true, max_tokens: Some(n as u32), ..Request::new(&prompt, &sampling) };
        let mut heard = Heard { change: Some((after, &adapter)), ..Heard::default() };
        // Prompt lookup may be several tokens ahead when the change comes.
        for lookup in [0, 4] {
            heard = Heard { change: heard.change, ..Heard::default() };
            let mut session = session(&model, lookup, 1);
            let answer = block_on(answer::answer(&mut session, &tokenizer, &request, &mut heard)).expect("an answer");
            assert_eq!((answer.finish, &answer.ids), (Finish::Length, &wanted), "after {after}, {lookup} guessed");
        }
        assert!(heard.asked.get() >= n as u32, "asked before every token");
    }
}
