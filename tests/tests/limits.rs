//! Small GPUs: tensors that span bindings, too little memory, a lost device.

use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::gpu::{GpuError, GpuOptions};
use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::sampler::Sampling;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Error, Model, Session};
use adapter_tests::{data, gpu, ids, json, load, load_tiny, one_at_a_time, open, same_bits, smollm2_path};
use pollster::block_on;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const SMALL: SessionOptions = SessionOptions {
    context: Some(128),
    prefill_chunk: Some(16),
    prompt_lookup: None,
    cached_conversations: 0,
    exact: false,
    cache_format: CacheFormat::F32,
};

/// Reliability G4: rows split over several bindings give the same bits as unsplit.
#[test]
fn a_tensor_over_several_bindings_gives_the_same_bits() {
    let _turn = one_at_a_time();
    let tokens = ids(&json("tiny-llama/base.json")["ids"]);
    for format in ["f32", "q8_0", "q4_1", "q6_k"] {
        let whole =
            block_on(Session::new(&load_tiny(gpu(), format), &SMALL).unwrap().logits(&tokens, Rows::All)).unwrap();
        // 128 KiB: the embedding, the head and the MLP of this model are larger in most formats.
        let small = open(&GpuOptions { max_binding_bytes: Some(128 << 10), ..GpuOptions::default() });
        let model = load_tiny(&small, format);
        let split = block_on(Session::new(&model, &SMALL).unwrap().logits(&tokens, Rows::All)).unwrap();
        assert!(same_bits(&whole, &split), "{format}");
    }
}

#[test]
fn too_little_memory_is_a_sentence() {
    let _turn = one_at_a_time();
    // Enough for nothing, for a part of the weights, for the weights but not the cache.
    for limit in [1_000, 600_000, 2_300_000] {
        let small = open(&GpuOptions { memory_limit_bytes: Some(limit), ..GpuOptions::default() });
        let file = ReadAtFile::open(data("tiny-llama/tiny-q8_0.gguf")).unwrap();
        let gguf = Gguf::read(&file).unwrap();
        let error = Model::load(&small, &gguf, &file, &mut |_, _| ControlFlow::Continue(()))
            .and_then(|model| Session::new(&model, &SessionOptions::default()).map(|_| ()))
            .unwrap_err();
        assert!(matches!(error, Error::Gpu(GpuError::OutOfMemory { .. })), "{error}");
        assert!(error.to_string().contains(&limit.to_string()), "{error} names the limit");
        assert!(error.hint().is_some());
        assert_eq!(small.used_bytes(), 0, "everything is given back");
        small.check().unwrap();
    }
}

#[test]
fn one_buffer_too_large_is_a_sentence() {
    let _turn = one_at_a_time();
    let tiny = open(&GpuOptions { max_binding_bytes: Some(64 << 10), ..GpuOptions::default() });
    let model = load_tiny(&tiny, "q8_0");
    let Err(error) = Session::new(&model, &SessionOptions::default()) else { panic!("a cache over the limit") };
    assert!(matches!(error, Error::Gpu(GpuError::BufferTooLarge { limit_bytes: 65_536, .. })), "{error}");
}

#[test]
fn loading_can_be_stopped() {
    let _turn = one_at_a_time();
    let file = ReadAtFile::open(data("tiny-llama/tiny-f32.gguf")).unwrap();
    let gguf = Gguf::read(&file).unwrap();
    let mut calls = 0;
    let result = Model::load(gpu(), &gguf, &file, &mut |done, total| {
        assert!(done <= total);
        calls += 1;
        if calls == 100 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(calls, 100);
}

/// A prompt's chunk is submitted in pieces: who stops does not wait for all of it, and what was there before goes on.
#[test]
fn reading_can_be_stopped_within_a_chunk() {
    let _turn = one_at_a_time();
    let model = load(gpu(), &smollm2_path());
    let options = SessionOptions { prefill_chunk: Some(128), ..SessionOptions::default() };
    let mut session = Session::new(&model, &options).unwrap();
    let text: Vec<u32> = (0..100).map(|t| (t * 37) % 1000).collect();
    let mut heard = Vec::new();
    let stopped = block_on(session.generate(&text, &Sampling::greedy(), &mut |done, total| {
        assert!(done < total);
        heard.push(done);
        if done > 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    assert!(matches!(stopped.err(), Some(Error::Cancelled)));
    assert!(heard.len() > 3 && heard.is_sorted(), "{heard:?}");
    let mut fresh = Session::new(&model, &options).unwrap();
    let [after, wanted] =
        [&mut session, &mut fresh].map(|session| block_on(session.logits(&text, Rows::Last)).unwrap());
    assert!(same_bits(&after, &wanted));
}

/// Reliability G1: a lost device is an error within a second, not a hang and not garbage; a new device goes on.
#[test]
fn a_lost_gpu_is_an_error_and_a_new_one_goes_on() {
    let _turn = one_at_a_time();
    let doomed = open(&GpuOptions::default());
    let model = load_tiny(&doomed, "q8_0");
    let mut session = Session::new(&model, &SMALL).unwrap();
    let prompt = [1, 2, 3];
    let mut go_on = |_, _| ControlFlow::Continue(());
    let mut answer = block_on(session.generate(&prompt, &Sampling::greedy(), &mut go_on)).unwrap();
    let first = block_on(answer.next()).unwrap().unwrap();
    doomed.destroy();
    let start = Instant::now();
    let error = loop {
        match block_on(answer.next()) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the context is not full"),
            Err(error) => break error,
        }
    };
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(matches!(error, Error::Gpu(GpuError::DeviceLost { .. })), "{error}");
    drop(answer);

    let fresh = open(&GpuOptions::default());
    let mut session = Session::new(&load_tiny(&fresh, "q8_0"), &SMALL).unwrap();
    let mut answer = block_on(session.generate(&prompt, &Sampling::greedy(), &mut go_on)).unwrap();
    assert_eq!(block_on(answer.next()).unwrap(), Some(first));
}

#[test]
fn the_context_ends_with_a_sentence_and_not_before() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q8_0");
    for on_cpu in [false, true] {
        // More candidates than the GPU sorts: sampled on the CPU.
        let sampling = if on_cpu { Sampling { top_k: 0, seed: 3, ..Sampling::default() } } else { Sampling::greedy() };
        let mut session =
            Session::new(&model, &SessionOptions { context: Some(16), ..SessionOptions::default() }).unwrap();
        let mut go_on = |_, _| ControlFlow::Continue(());
        let mut answer = block_on(session.generate(&[5; 10], &sampling, &mut go_on)).unwrap();
        let mut count = 0;
        while block_on(answer.next()).unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 7, "10 of the prompt, 6 more positions, and the id after the last");
        drop(answer);
        assert_eq!(session.ids().len(), 16);
        let Err(error) = block_on(session.generate(&[5; 17], &sampling, &mut go_on)) else { panic!("too long") };
        assert!(matches!(error, Error::ContextFull { wanted: 17, limit: 16 }), "{error}");
    }
}

#[test]
fn bad_ids_and_empty_prompts_are_refused() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q8_0");
    let mut session = Session::new(&model, &SMALL).unwrap();
    let error = block_on(session.logits(&[1, 320], Rows::Last)).unwrap_err();
    assert!(matches!(error, Error::TokenOutOfRange { id: 320, n_vocab: 320 }), "{error}");
    assert!(matches!(block_on(session.logits(&[], Rows::Last)), Err(Error::EmptyPrompt)));
    let wrong = Sampling { temperature: f32::NAN, ..Sampling::default() };
    let mut go_on = |_, _| ControlFlow::Continue(());
    assert!(matches!(block_on(session.generate(&[1], &wrong, &mut go_on)), Err(Error::Sampling(_))));
    assert!(session.ids().is_empty());
}

/// Same seed, same answer; a stop in the middle and a second try continue from the same state.
#[test]
fn answers_repeat_by_seed_on_the_gpu_and_on_the_cpu() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q8_0");
    for top_k in [40, 0] {
        let sampling = Sampling { top_k, seed: 42, temperature: 1.0, repeat_penalty: 1.2, ..Sampling::default() };
        let mut session = Session::new(&model, &SMALL).unwrap();
        let mut run = |n: usize| -> Vec<u32> {
            let mut go_on = |_, _| ControlFlow::Continue(());
            let mut answer = block_on(session.generate(&[9, 8, 7, 6], &sampling, &mut go_on)).unwrap();
            (0..n).map(|_| block_on(answer.next()).unwrap().unwrap()).collect()
        };
        let long = run(40);
        assert_eq!(run(5), long[..5]);
        assert_eq!(run(40), long);
    }
}
