//! Penalty, argmax and the draw.

use super::bench::{Bench, F32};
use adapter_engine::gpu::Step;
use adapter_engine::ops::sample::{self, Buffers, HISTORY};
use adapter_engine::sampler::Sampling;
use adapter_reference::{sampling as twin, widen};
use adapter_tests::uniform;
use pollster::block_on;

pub fn sampling(bench: &mut Bench<'_>) {
    let settings = [
        Sampling::greedy(),
        Sampling::default(),
        Sampling { top_k: 1, ..Sampling::default() },
        Sampling { top_k: 256, top_p: 1.0, min_p: 0.0, temperature: 1.5, ..Sampling::default() },
        Sampling { top_k: 7, top_p: 0.6, ..Sampling::default() },
        Sampling { top_k: 100, min_p: 0.3, top_p: 1.0, temperature: 0.1, ..Sampling::default() },
        Sampling { repeat_penalty: 1.7, ..Sampling::greedy() },
        Sampling { repeat_penalty: 1.3, repeat_last_n: 256, ..Sampling::default() },
    ];
    for n_vocab in [1, 2, 31, 255, 256, 257, 320, 4099, 49_152, 128_256] {
        for (index, sampling) in settings.iter().enumerate() {
            for draw in [0.0, 0.37, 0.999_99] {
                one(bench, n_vocab, index, sampling, draw);
            }
        }
    }
    ties(bench);
}

fn one(bench: &mut Bench<'_>, n_vocab: usize, index: usize, sampling: &Sampling, draw: f32) {
    let case = format!("sample[V={n_vocab},settings={index},draw={draw}]");
    if !bench.wants(&case) {
        return;
    }
    bench.cases += 1;
    let logits = uniform(index as u64 + 40, n_vocab, -12.0, 12.0);
    // 300 tokens so far, so that the ring has gone round; the most likely ids are among them.
    let past: Vec<u32> = (0..300).map(|i| (i * 7919 % n_vocab) as u32).collect();
    let mut ring = vec![0u32; HISTORY as usize];
    for (at, id) in past.iter().enumerate() {
        ring[at % HISTORY as usize] = *id;
    }
    let (logits_buffer, next_id, history) = (bench.in_place(&logits), bench.words(&[u32::MAX; 4]), bench.words(&ring));
    let step = bench.gpu.buffer_with("step", &[Step { past: 299, n_tokens: 1, draw, history: 300 }]).unwrap();
    let buffers = Buffers { logits: &logits_buffer, next_id: &next_id, history: &history };
    bench.run(|plan| sample::launch(plan, &step, buffers, n_vocab as u32, sampling).unwrap());

    let mut wanted = widen(&logits);
    #[expect(clippy::float_cmp, reason = "exactly 1 is off")]
    if sampling.repeat_penalty != 1.0 {
        let recent = &past[past.len() - sampling.repeat_last_n as usize..];
        twin::repeat_penalty(&mut wanted, recent, f64::from(sampling.repeat_penalty));
        let penalized: Vec<f32> = wanted.iter().map(|value| *value as f32).collect();
        bench.compare(&format!("{case} penalty"), &logits_buffer, &penalized, F32);
    }
    let theirs = twin::Sampling {
        temperature: f64::from(sampling.temperature),
        top_k: sampling.top_k as usize,
        top_p: f64::from(sampling.top_p),
        min_p: f64::from(sampling.min_p),
    };
    // f32 rounding may move a border of the candidates' stretches of [0, 1) by 1e-5: any whose stretch is that near is right.
    let mut end = 0.0;
    let candidates = twin::candidates(theirs, &wanted);
    let near = |(id, p): &(u32, f64)| {
        let start = end;
        end += p;
        (start <= f64::from(draw) + 1e-5 && f64::from(draw) - 1e-5 <= end).then_some(*id)
    };
    let allowed: Vec<u32> = candidates.iter().filter_map(near).collect();
    // The middle of [0, 1) has room for one candidate or two: the check can fail.
    assert!(draw > 0.9 || allowed.len() <= 2, "{case}: {allowed:?}");
    let found: Vec<u32> = block_on(bench.gpu.read(&next_id, 0, 4)).unwrap();
    let ring: Vec<u32> = block_on(bench.gpu.read(&history, 0, HISTORY as usize)).unwrap();
    if !allowed.contains(&found[0]) || found[1..] != [u32::MAX; 3] {
        bench.failures.push(format!("{case}: {} instead of {allowed:?}", found[0]));
    }
    if ring[300 % HISTORY as usize] != found[0] {
        bench.failures.push(format!("{case}: the id is not in the history"));
    }
    // The CPU form, for settings that keep too many candidates for the GPU, is the same function.
    let penalized: Vec<f32> = wanted.iter().map(|value| *value as f32).collect();
    if !allowed.contains(&sampling.choose(&penalized, draw)) {
        bench.failures.push(format!("{case}: on the CPU {} instead of {allowed:?}", sampling.choose(&penalized, draw)));
    }
}

/// Equal logits at the border of the top k: the lowest ids, in every run.
fn ties(bench: &mut Bench<'_>) {
    let logits = vec![0.25f32; 1000];
    let sampling = Sampling { top_k: 5, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..Sampling::default() };
    for (draw, wanted) in [(0.0, 0), (0.3, 1), (0.5, 2), (0.7, 3), (0.95, 4)] {
        let case = format!("sample[ties,draw={draw}]");
        if !bench.wants(&case) {
            continue;
        }
        bench.cases += 1;
        let (logits, next_id, history) =
            (bench.input(&logits), bench.words(&[0; 4]), bench.words(&vec![0; HISTORY as usize]));
        let step = bench.gpu.buffer_with("step", &[Step { draw, history: 1, ..Step::default() }]).unwrap();
        let buffers = Buffers { logits: &logits, next_id: &next_id, history: &history };
        bench.run(|plan| sample::launch(plan, &step, buffers, 1000, &sampling).unwrap());
        let found: Vec<u32> = block_on(bench.gpu.read(&next_id, 0, 1)).unwrap();
        if found[0] != wanted {
            bench.failures.push(format!("{case}: {} instead of {wanted}", found[0]));
        }
    }
}
