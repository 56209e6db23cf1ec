//! Every backward against central differences of its forward.

mod support;

use adapter_reference::adaption_prompt::{AdaptionPrompt, GateKind};
use adapter_reference::attention::{self, Heads};
use adapter_reference::llama::{Config, Llama, Weights};
use adapter_reference::rope::{Rope, Scaling};
use adapter_reference::{cross_entropy, gated_attention, matmul, residual_add, rms_norm, rope, softmax, swiglu};
use support::{Random, assert_gradient};

#[test]
fn rms_norm_backward() {
    let mut random = Random(1);
    let (x, weight, dy) = (random.vec(3 * 7), random.vec(7), random.vec(3 * 7));
    let (_, r) = rms_norm::forward(&x, &weight, 1e-5);
    let dx = rms_norm::backward(&dy, &x, &weight, &r);
    assert_gradient("rms_norm dx", &x, &dx, &dy, |x| rms_norm::forward(x, &weight, 1e-5).0);
}

#[test]
fn matmul_backward() {
    let mut random = Random(2);
    let (x, w, dy) = (random.vec(3 * 6), random.vec(5 * 6), random.vec(3 * 5));
    assert_gradient("matmul dx", &x, &matmul::backward(&dy, &w, 6), &dy, |x| matmul::forward(x, &w, 6));
}

#[test]
fn residual_add_backward() {
    let mut random = Random(3);
    let (x, y, dout) = (random.vec(6), random.vec(6), random.vec(6));
    let (dx, dy) = residual_add::backward(&dout);
    assert_gradient("residual_add dx", &x, &dx, &dout, |x| residual_add::forward(x, &y));
    assert_gradient("residual_add dy", &y, &dy, &dout, |y| residual_add::forward(&x, y));
}

#[test]
fn swiglu_backward() {
    let mut random = Random(4);
    let gate: Vec<f64> = random.vec(12).iter().map(|z| 4.0 * z).collect();
    let (up, dy) = (random.vec(12), random.vec(12));
    let (dgate, dup) = swiglu::backward(&dy, &gate, &up);
    assert_gradient("swiglu dgate", &gate, &dgate, &dy, |gate| swiglu::forward(gate, &up));
    assert_gradient("swiglu dup", &up, &dup, &dy, |up| swiglu::forward(&gate, up));
}

#[test]
fn softmax_backward() {
    let mut random = Random(5);
    let (x, dy) = (random.vec(2 * 5), random.vec(2 * 5));
    let dx = softmax::backward(&dy, &softmax::forward(&x, 5), 5);
    assert_gradient("softmax dx", &x, &dx, &dy, |x| softmax::forward(x, 5));
}

#[test]
fn rope_backward() {
    let mut random = Random(6);
    let rope = Rope { n_rot: 4, theta: 10_000.0, scaling: Scaling::None };
    let (x, dy) = (random.vec(3 * 2 * 6), random.vec(3 * 2 * 6));
    let positions = [0, 5, 1000];
    let dx = rope::backward(&rope, &dy, 6, &positions);
    assert_gradient("rope dx", &x, &dx, &dy, |x| rope::forward(&rope, x, 6, &positions));
}

#[test]
fn attention_backward() {
    let heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 3 };
    // (tokens, positions, starts): a whole text, tokens after a past, several texts in one.
    for (n_tokens, n_positions, starts) in [(5, 5, &[][..]), (2, 6, &[][..]), (7, 7, &[0, 3, 4][..])] {
        let mut random = Random(7);
        let (q, k, v) = (random.vec(n_tokens * 12), random.vec(n_positions * 6), random.vec(n_positions * 6));
        let dout = random.vec(n_tokens * 12);
        let (o, lse) = attention::forward(heads, &q, &k, &v, starts);
        let (dq, dk, dv) = attention::backward(heads, &dout, &q, &k, &v, &o, &lse, starts);
        let case = format!("attention[T={n_tokens},S={n_positions},starts={starts:?}]");
        assert_gradient(&format!("{case} dq"), &q, &dq, &dout, |q| attention::forward(heads, q, &k, &v, starts).0);
        assert_gradient(&format!("{case} dk"), &k, &dk, &dout, |k| attention::forward(heads, &q, k, &v, starts).0);
        assert_gradient(&format!("{case} dv"), &v, &dv, &dout, |v| attention::forward(heads, &q, &k, v, starts).0);
    }
}

#[test]
fn gated_attention_backward() {
    let heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 3 };
    let mut random = Random(8);
    let (q, k, v, gate) = (random.vec(3 * 12), random.vec(5 * 6), random.vec(5 * 6), random.vec(4));
    let (base, dout) = (random.vec(3 * 12), random.vec(3 * 12));
    let forward = |q: &[f64], k: &[f64], v: &[f64], gate: &[f64]| {
        let mut o = base.clone();
        let saved = gated_attention::forward(heads, q, k, v, gate, &mut o);
        (o, saved)
    };
    let (_, saved) = forward(&q, &k, &v, &gate);
    let d = gated_attention::backward(heads, &dout, &q, &k, &v, &gate, &saved);
    assert_gradient("gated_attention dq", &q, &d.dq, &dout, |q| forward(q, &k, &v, &gate).0);
    assert_gradient("gated_attention dk_prompt", &k, &d.dk_prompt, &dout, |k| forward(&q, k, &v, &gate).0);
    assert_gradient("gated_attention dv_prompt", &v, &d.dv_prompt, &dout, |v| forward(&q, &k, v, &gate).0);
    assert_gradient("gated_attention dgate", &gate, &d.dgate, &dout, |gate| forward(&q, &k, &v, gate).0);
}

#[test]
fn gate_kinds_backward() {
    for kind in [GateKind::Paper, GateKind::Linear, GateKind::Peft] {
        let mut random = Random(9);
        let (gates, dstrength) = (random.vec(kind.gates_per_layer(4)), random.vec(4));
        let dgates = kind.backward(&dstrength, &gates);
        assert_gradient(&format!("{kind:?} dgates"), &gates, &dgates, &dstrength, |gates| kind.forward(gates, 4));
    }
}

#[test]
fn cross_entropy_backward() {
    let mut random = Random(10);
    let logits: Vec<f64> = random.vec(4 * 6).iter().map(|x| 3.0 * x).collect();
    let targets = [Some(5), None, Some(0), Some(2)];
    let (_, lse) = cross_entropy::forward(&logits, 6, &targets);
    let dlogits = cross_entropy::backward(cross_entropy::scale(&targets), &logits, 6, &targets, &lse);
    assert_gradient("cross_entropy dlogits", &logits, &dlogits, &[1.0], |logits| {
        vec![cross_entropy::mean(&cross_entropy::forward(logits, 6, &targets).0, &targets)]
    });
    assert!(dlogits[6..12].iter().all(|d| *d == 0.0), "a row without a target has no gradient");
}

/// A model with all that the fixtures lack: biases, tied output, partial rope, scaled frequencies, H D != C; with the pairs of rope
/// neighbours or halves, and with norms of heads.
#[test]
fn llama_backward() {
    for (halves, head_norm) in [(false, false), (true, false), (true, true)] {
        model_backward(halves, head_norm);
    }
}

fn model_backward(halves: bool, head_norm: bool) {
    let config = Config {
        n_layers: 3,
        n_channels: 6,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 4,
        n_ffn: 5,
        n_vocab: 7,
        eps: 1e-5,
        rope: Rope { n_rot: 2, theta: 100.0, scaling: Scaling::Linear { factor: 2.0 } },
        halves,
    };
    let mut random = Random(11);
    let mut weights = Weights::new();
    weights.insert("token_embd.weight", random.vec(7 * 6));
    weights.insert("output_norm.weight", random.vec(6));
    for i in 0..3 {
        for name in ["attn_norm", "ffn_norm"] {
            weights.insert(format!("blk.{i}.{name}.weight"), random.vec(6));
        }
        for (name, n_out, n_in) in [
            ("attn_q", 16, 6),
            ("attn_k", 8, 6),
            ("attn_v", 8, 6),
            ("attn_output", 6, 16),
            ("ffn_gate", 5, 6),
            ("ffn_up", 5, 6),
            ("ffn_down", 6, 5),
        ] {
            weights.insert(format!("blk.{i}.{name}.weight"), random.vec(n_out * n_in));
            weights.insert(format!("blk.{i}.{name}.bias"), random.vec(n_out));
        }
        for name in ["attn_q_norm", "attn_k_norm"].into_iter().filter(|_| head_norm) {
            weights.insert(format!("blk.{i}.{name}.weight"), random.vec(4));
        }
    }
    let llama = Llama::new(config, weights).expect("a whole model");
    let ids = [3, 1, 6, 0, 2, 2, 5];
    let targets = [None, Some(6), Some(0), None, Some(2), Some(5), Some(4)];
    let starts = [0, 4];
    for kind in [GateKind::Paper, GateKind::Linear, GateKind::Peft] {
        let (prompts, gates) = (random.vec(2 * 3 * 6), random.vec(2 * kind.gates_per_layer(4)));
        let run = |prompts: &[f64], gates: &[f64]| {
            let (prompts, gates) = (prompts.to_vec(), gates.to_vec());
            let adapter = AdaptionPrompt { kind, n_layers: 2, adapter_len: 3, prompts, gates };
            llama.packed_loss_and_gradients(&ids, &targets, &starts, &adapter).expect("gradients")
        };
        let d = run(&prompts, &gates);
        assert_gradient(&format!("llama {kind:?} dprompts"), &prompts, &d.dprompts, &[1.0], |p| {
            vec![run(p, &gates).loss]
        });
        assert_gradient(&format!("llama {kind:?} dgates"), &gates, &d.dgates, &[1.0], |g| vec![run(&prompts, g).loss]);
    }
}
