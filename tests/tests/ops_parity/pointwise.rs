//! Norm, rotation, activation, residual sum.

use super::bench::{Bench, F32};
use adapter_engine::ops::gelu::Gelu;
use adapter_engine::ops::layer_norm::LayerNorm;
use adapter_engine::ops::{residual_add, rms_norm, rope, swiglu};
use adapter_reference::{self as twin, narrow, widen};
use adapter_tests::uniform;

pub fn rms_norm(bench: &mut Bench<'_>) {
    let shapes = [
        (1, 4),
        (1, 32),
        (1, 576),
        (2, 8),
        (3, 252),
        (4, 256),
        (5, 2048),
        (7, 1028),
        (8, 64),
        (9, 36),
        (13, 96),
        (16, 576),
        (17, 20),
        (31, 124),
        (63, 32),
        (64, 4),
        (65, 12),
        (127, 60),
        (257, 28),
        (3, 4096),
        (70_001, 4),
    ];
    for (n_tokens, n_channels) in shapes {
        for (first_token, eps) in [(0u32, 1e-5f32), (2, 1e-6)] {
            let case = format!("rms_norm[T={n_tokens},C={n_channels},first={first_token},eps={eps:e}]");
            if !bench.wants(&case) {
                continue;
            }
            let skipped = first_token as usize * n_channels;
            let x = uniform(1, skipped + n_tokens * n_channels, -10.0, 10.0);
            let weight = uniform(2, n_channels, -2.0, 2.0);
            let (wanted, _) = twin::rms_norm::forward(&widen(&x[skipped..]), &widen(&weight), f64::from(eps));
            let (x, weight, y) = (bench.input(&x), bench.input(&weight), bench.output(wanted.len()));
            let shape = rms_norm::Shape { n_tokens: n_tokens as u32, n_channels: n_channels as u32, first_token, eps };
            bench.run(|plan| rms_norm::launch(plan, &x, &weight, &y, shape).unwrap());
            bench.compare(&case, &y, &narrow(&wanted), F32);
        }
    }
}

pub fn layer_norm(bench: &mut Bench<'_>) {
    for (n_tokens, n_channels) in
        [(1, 4), (1, 384), (2, 8), (3, 252), (5, 1024), (17, 20), (65, 12), (257, 28), (3, 4096)]
    {
        // Far from 0 as well: the mean of squares would cancel there.
        for (centre, eps) in [(0.0f32, 1e-6f32), (100.0, 1e-12)] {
            let case = format!("layer_norm[T={n_tokens},C={n_channels},centre={centre},eps={eps:e}]");
            if !bench.wants(&case) {
                continue;
            }
            let x = uniform(1, n_tokens * n_channels, centre - 10.0, centre + 10.0);
            let (weight, bias) = (uniform(2, n_channels, -2.0, 2.0), uniform(3, n_channels, -2.0, 2.0));
            let wanted = twin::layer_norm::forward(&widen(&x), &widen(&weight), &widen(&bias), f64::from(eps));
            let (x, y) = (bench.input(&x), bench.output(wanted.len()));
            let norm = LayerNorm { weight: bench.input(&weight), bias: bench.input(&bias), eps };
            bench.run(|plan| norm.launch(plan, &x, &y, [n_tokens as u32, n_channels as u32]).unwrap());
            bench.compare(&case, &y, &narrow(&wanted), F32);
        }
    }
}

pub fn gelu(bench: &mut Bench<'_>) {
    for form in Gelu::ALL {
        for n in [4, 60, 64 * 4, 1028, 70_000] {
            let case = format!("gelu[{},N={n}]", form.name());
            if !bench.wants(&case) {
                continue;
            }
            let mut x = uniform(1, n, -10.0, 10.0);
            x[..4].copy_from_slice(&[0.0, -0.0, 88.0, -88.0]);
            let wanted = match form {
                Gelu::Erf => twin::gelu::erf(&widen(&x)),
                Gelu::Tanh => twin::gelu::tanh(&widen(&x)),
                Gelu::Quick => twin::gelu::quick(&widen(&x)),
            };
            let x = bench.in_place(&x);
            bench.run(|plan| form.launch(plan, &x, n as u32).unwrap());
            bench.compare(&case, &x, &narrow(&wanted), F32);
        }
    }
}

fn scalings() -> [(rope::Scaling, twin::rope::Scaling); 4] {
    let factors: Vec<f32> = (0..32).map(|i| 1.0 + i as f32 * 0.25).collect();
    let llama3 = (8.0, 1.0, 4.0, 8192.0);
    [
        (rope::Scaling::None, twin::rope::Scaling::None),
        (rope::Scaling::Linear { factor: 4.0 }, twin::rope::Scaling::Linear { factor: 4.0 }),
        (
            rope::Scaling::Llama3 {
                factor: llama3.0,
                low_freq_factor: llama3.1,
                high_freq_factor: llama3.2,
                original_context: llama3.3,
            },
            twin::rope::Scaling::Llama3 {
                factor: llama3.0,
                low_freq_factor: llama3.1,
                high_freq_factor: llama3.2,
                original_context: llama3.3,
            },
        ),
        (rope::Scaling::Factors(factors.clone()), twin::rope::Scaling::Factors(widen(&factors))),
    ]
}

pub fn rope(bench: &mut Bench<'_>) {
    // The last position of a 128k context: the table must be exact there.
    for (past, n_tokens, n_heads, head_dim, n_rot) in [
        (0, 1, 1, 4, 4),
        (0, 5, 3, 64, 64),
        (7, 3, 9, 64, 64),
        (100, 17, 2, 32, 32),
        (3, 2, 4, 128, 128),
        (5, 9, 2, 80, 80),
        (1, 4, 2, 64, 32),
        (131_070, 2, 3, 64, 64),
        (131_064, 8, 1, 128, 128),
    ] {
        for (ours, theirs) in scalings() {
            let case = format!("rope[P={past},T={n_tokens},H={n_heads},D={head_dim},rot={n_rot},{ours:?}]");
            if !bench.wants(&case) || (matches!(ours, rope::Scaling::Factors(_)) && n_rot > 64) {
                continue;
            }
            let ours = rope::Rope { head_dim, n_rot, theta: 500_000.0, scaling: ours };
            let theirs = twin::rope::Rope { n_rot: n_rot as usize, theta: 500_000.0, scaling: theirs };
            let x = uniform(4, (n_tokens * n_heads * head_dim) as usize, -3.0, 3.0);
            let positions: Vec<usize> = (past..past + n_tokens).map(|position| position as usize).collect();
            // The table of a far position alone: the kernel sees it as position 0.
            let table = bench.input(&ours.table(past..past + n_tokens));
            let step = bench.step(0, n_tokens);
            let dims = [n_tokens, n_heads, head_dim];
            let forward = twin::rope::forward(&theirs, &widen(&x), head_dim as usize, &positions);
            let buffer = bench.in_place(&x);
            bench.run(|plan| rope::launch(plan, &step, &table, &buffer, dims, false).unwrap());
            bench.compare(&case, &buffer, &narrow(&forward), F32);
            let backward = twin::rope::backward(&theirs, &widen(&x), head_dim as usize, &positions);
            let buffer = bench.in_place(&x);
            bench.run(|plan| rope::launch(plan, &step, &table, &buffer, dims, true).unwrap());
            bench.compare(&format!("{case} inverse"), &buffer, &narrow(&backward), F32);
        }
    }
}

const LENGTHS: [usize; 20] =
    [4, 8, 60, 64, 68, 252, 256, 260, 1020, 1024, 1028, 1536, 2044, 4096, 5120, 8188, 16_384, 65_536, 99_996, 262_148];

pub fn swiglu(bench: &mut Bench<'_>) {
    for n in LENGTHS {
        let case = format!("swiglu[n={n}]");
        if !bench.wants(&case) {
            continue;
        }
        // Past +-88 a careless exp overflows.
        let (gate, up) = (uniform(5, n, -120.0, 120.0), uniform(6, n, -4.0, 4.0));
        let wanted = narrow(&twin::swiglu::forward(&widen(&gate), &widen(&up)));
        let (gate, up, y) = (bench.input(&gate), bench.input(&up), bench.output(n));
        bench.run(|plan| swiglu::launch(plan, &gate, &up, &y, n as u32).unwrap());
        bench.compare(&case, &y, &wanted, F32);
    }
}

pub fn residual_add(bench: &mut Bench<'_>) {
    // The last one has more workgroups than one dimension of a dispatch may have.
    for n in LENGTHS.into_iter().chain([65_537 * 256]) {
        let case = format!("residual_add[n={n}]");
        if !bench.wants(&case) {
            continue;
        }
        let (x, y) = (uniform(7, n, -5.0, 5.0), uniform(8, n, -5.0, 5.0));
        let wanted = narrow(&twin::residual_add::forward(&widen(&x), &widen(&y)));
        let (x, y) = (bench.input(&x), bench.in_place(&y));
        bench.run(|plan| residual_add::launch(plan, &x, &y, n as u32).unwrap());
        bench.compare(&case, &y, &wanted, 0.0);
    }
}
