//! A cache in halves: half the memory, nearly the same logits.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::sampler::Sampling;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Model, Session};
use adapter_tests::{baseline_gpu, gpu, ids, json, load, load_tiny, nmse, one_at_a_time, smollm2_path};
use pollster::block_on;
use std::ops::ControlFlow;

fn session(model: &Model, cache_format: CacheFormat) -> Session {
    let options =
        SessionOptions { context: Some(128), prefill_chunk: Some(16), cache_format, ..SessionOptions::default() };
    Session::new(model, &options).unwrap()
}

/// A half keeps 11 bits: relative errors up to 2^-12 of values that are spread evenly between powers of two, so the mean squared
/// error is 2^-24 / 3 times a mean of 1.5 or so, 3e-8 of the power. A byte is off by up to 1/254 of a head's largest channel,
/// whose square is 6 to 9 times the mean: 4e-5. A layer adds errors of keys and of values, and the logits of a few layers gather
/// them: a hundred times that.
const BUDGETS: [(CacheFormat, f64); 2] = [(CacheFormat::F16, 3e-6), (CacheFormat::Q8, 4e-3)];

#[test]
fn logits_are_nearly_the_same_in_less_memory() {
    let _turn = one_at_a_time();
    for gpu in [gpu(), baseline_gpu()] {
        let model = load_tiny(gpu, "f32");
        let prompt = ids(&json("tiny-llama/base.json")["ids"]);
        let open = |format| {
            let before = gpu.used_bytes();
            let mut session = session(&model, format);
            let all = block_on(session.logits(&prompt, Rows::All)).unwrap();
            (session, all, gpu.used_bytes() - before)
        };
        let (_, exact, exact_bytes) = open(CacheFormat::F32);
        for (format, budget) in BUDGETS {
            let (mut session, rounded, bytes) = open(format);
            let error = nmse(&rounded, &exact);
            println!("tiny-llama, {}: NMSE {error:.1e}, allowed {budget:.0e}", format.name());
            assert!(error <= budget && error > 0.0, "{}: {error:.1e}", format.name());

            let config = model.config();
            let cache = |format: CacheFormat| format.plane_bytes(config.heads(), 64) * 2 * u64::from(config.n_layers);
            assert_eq!(exact_bytes - bytes, cache(CacheFormat::F32) - cache(format), "one page");
            assert!(cache(format) * 2 <= cache(CacheFormat::F32));

            // Growing copies whole pages: what follows is as if it had been computed at once.
            let longer: Vec<u32> = prompt.iter().cycle().copied().take(100).collect();
            session.reuse_prefix(&longer);
            let done = session.ids().len();
            let grown = block_on(session.logits(&longer[done..], Rows::Last)).unwrap();
            session.truncate(0);
            let fresh = block_on(session.logits(&longer, Rows::Last)).unwrap();
            assert!(nmse(&grown, &fresh) <= 1e-6, "{}: {:.1e}", format.name(), nmse(&grown, &fresh));
        }
    }
}

#[test]
fn the_real_model_says_the_same() {
    let _turn = one_at_a_time();
    let model = load(gpu(), &smollm2_path());
    for case in json("smollm2/golden.json").as_array().unwrap().iter().take(1) {
        let prompt = ids(&case["ids"]);
        let margins: Vec<f64> = serde_json::from_value(case["greedy_margins"].clone()).unwrap();
        // As far as a margin of logits says that rounding cannot matter.
        let sure = margins.iter().take(16).take_while(|margin| **margin >= 0.1).count();
        let mut session = session(&model, CacheFormat::F16);
        let mut go_on = |_, _| ControlFlow::Continue(());
        let mut generation = block_on(session.generate(&prompt, &Sampling::greedy(), &mut go_on)).unwrap();
        let found: Vec<u32> = (0..sure).map(|_| block_on(generation.next()).unwrap().unwrap()).collect();
        assert_eq!(found, ids(&case["greedy"])[..sure], "{}", case["name"]);
        assert!(sure > 3, "{sure} tokens prove little");
    }
}
