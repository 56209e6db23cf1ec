//! Adapters: logits against float64, exactness of "off", switching, and files that must be refused.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use adapter_engine::adapter::{AdapterError, AdapterFile, GateKind};
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Adapter, Error, Model, Session};
use adapter_tests::{
    baseline_gpu, gpu, ids, json, load, load_tiny, nmse, one_at_a_time, read, same_bits, smollm2_path, tensor,
    tiny_adapter,
};
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;

const KINDS: [GateKind; 3] = [GateKind::PAPER, GateKind::LINEAR, GateKind::PEFT];

fn tokens() -> Vec<u32> {
    ids(&json("tiny-llama/base.json")["ids"])
}

fn logits(model: &Model, adapter: Option<(&Adapter, f32)>, tokens: &[u32]) -> Vec<f32> {
    let mut session = Session::new(model, &SessionOptions::default()).unwrap();
    session.set_adapter(adapter).unwrap();
    block_on(session.logits(tokens, Rows::All)).unwrap()
}

#[test]
fn three_kinds_of_gates_equal_float64() {
    let _turn = one_at_a_time();
    for gpu in [gpu(), baseline_gpu()] {
        let model = load_tiny(gpu, "f32");
        for kind in KINDS {
            let adapter = Adapter::load(&model, "tiny", &tiny_adapter(kind)).unwrap();
            let wanted = tensor(&format!("tiny-llama/golden-{}.safetensors", kind.name()), "logits");
            let found = logits(&model, Some((&adapter, 1.0)), &tokens());
            let error = nmse(&found, &wanted);
            println!("adapters::{} {error:.1e} <= 1e-6", kind.name());
            assert!(error <= 1e-6, "{}: NMSE {error}", kind.name());
            // Token by token is another road through the kernels.
            let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
            session.set_adapter(Some((&adapter, 1.0))).unwrap();
            let stepped: Vec<f32> =
                tokens().iter().flat_map(|id| block_on(session.logits(&[*id], Rows::All)).unwrap()).collect();
            assert!(nmse(&stepped, &wanted) <= 1e-6);
        }
    }
}

#[test]
fn a_folder_that_peft_wrote_equals_float64() {
    let _turn = one_at_a_time();
    let file = AdapterFile::from_peft(
        &read("tiny-llama/peft/adapter_config.json"),
        &read("tiny-llama/peft/adapter_model.safetensors"),
    )
    .unwrap();
    assert_eq!((file.kind, file.n_layers, file.adapter_len, file.n_channels), (GateKind::PEFT, 3, 10, 256));
    let model = load_tiny(gpu(), "f32");
    let adapter = Adapter::load(&model, "peft", &file).unwrap();
    let error = nmse(
        &logits(&model, Some((&adapter, 1.0)), &tokens()),
        &tensor("tiny-llama/golden-peft.safetensors", "logits"),
    );
    assert!(error <= 1e-6, "NMSE {error}");
}

/// Reliability N7: gate 0, strength 0 and adapter off are the base model bit for bit.
#[test]
fn gate_zero_leaves_logits_unchanged() {
    let _turn = one_at_a_time();
    for gpu in [gpu(), baseline_gpu()] {
        let model = load_tiny(gpu, "q4_1");
        let base = logits(&model, None, &tokens());
        for kind in KINDS {
            let mut file = tiny_adapter(kind);
            let open = Adapter::load(&model, "open", &file).unwrap();
            assert!(
                !same_bits(&logits(&model, Some((&open, 1.0)), &tokens()), &base),
                "an open gate changes something"
            );
            assert!(same_bits(&logits(&model, Some((&open, 0.0)), &tokens()), &base), "strength 0");
            file.gates.fill(0.0);
            let closed = Adapter::load(&model, "closed", &file).unwrap();
            assert!(same_bits(&logits(&model, Some((&closed, 1.0)), &tokens()), &base), "gate 0, {}", kind.name());
            file.gates.fill(-0.0);
            let closed = Adapter::load(&model, "closed", &file).unwrap();
            assert!(same_bits(&logits(&model, Some((&closed, 2.0)), &tokens()), &base), "gate -0");
        }
    }
}

#[test]
fn switching_needs_no_reload_and_forgets_nothing() {
    let _turn = one_at_a_time();
    let model = load_tiny(gpu(), "q8_0");
    let paper = Adapter::load(&model, "paper", &tiny_adapter(GateKind::PAPER)).unwrap();
    let peft = Adapter::load(&model, "peft", &tiny_adapter(GateKind::PEFT)).unwrap();
    let fresh = |adapter| logits(&model, adapter, &tokens());
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let settings = [None, Some((&paper, 1.0)), Some((&peft, 1.0)), Some((&paper, 0.5)), Some((&paper, 2.0)), None];
    for setting in settings {
        session.set_adapter(setting).unwrap();
        assert!(session.ids().is_empty() || setting.is_none(), "what was cached belongs to the old setting");
        session.truncate(0);
        let found = block_on(session.logits(&tokens(), Rows::All)).unwrap();
        assert!(same_bits(&found, &fresh(setting)));
    }
    // The same setting again keeps the cache.
    session.set_adapter(None).unwrap();
    assert_eq!(session.ids().len(), tokens().len());
}

#[test]
fn an_adapter_of_another_model_is_refused_by_name_and_shape() {
    let _turn = one_at_a_time();
    let model = load(gpu(), &smollm2_path());
    let error = Adapter::load(&model, "tiny", &tiny_adapter(GateKind::PAPER)).unwrap_err();
    let Error::Adapter(AdapterError::OtherModel { what, found, wanted, .. }) = &error else { panic!("{error}") };
    assert_eq!((*what, *found, wanted.as_str()), ("the number of channels", 256, "576"));
    assert!(error.to_string().contains("SmolLM2") || error.to_string().contains("Smollm2"), "{error}");
    assert!(error.hint().is_some());

    let model = load_tiny(gpu(), "q8_0");
    let mut file = tiny_adapter(GateKind::PAPER);
    file.gates = vec![0.1; 3 * 6];
    let error = Adapter::load(&model, "six heads", &file).unwrap_err();
    assert!(error.to_string().contains("the number of heads is 6 there and 4 here"), "{error}");
    let mut file = tiny_adapter(GateKind::PEFT);
    (file.n_layers, file.prompts, file.gates) = (5, vec![0.0; 5 * 10 * 256], vec![0.0; 5]);
    let error = Adapter::load(&model, "five layers", &file).unwrap_err();
    assert!(error.to_string().contains("the number of layers is 5 there and at most 4 here"), "{error}");
}

/// A safetensors file of f32 tensors.
fn safetensors_of(tensors: &[(&str, &[usize], &[f32])], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, shape, values)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).unwrap())
    });
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    serialize(views, Some(metadata)).unwrap()
}

#[test]
fn our_file_says_what_its_gates_mean() {
    let (prompts, gates) = ([0.5f32; 8], [0.1f32; 4]);
    let tensors: [(&str, &[usize], &[f32]); 2] = [("prompts", &[2, 1, 4], &prompts), ("gates", &[2, 2], &gates)];
    let paper = [("gate_shape", "per_head"), ("gate_activation", "tanh")];
    let bytes = safetensors_of(&tensors, &paper);
    assert_eq!(AdapterFile::from_safetensors(&bytes, None).unwrap().kind, GateKind::PAPER);
    let clash = AdapterFile::from_safetensors(&bytes, Some(GateKind::LINEAR)).unwrap_err();
    assert!(matches!(clash, AdapterError::KindMismatch { .. }), "{clash}");
    let bare = safetensors_of(&tensors, &[]);
    assert_eq!(AdapterFile::from_safetensors(&bare, None).unwrap_err(), AdapterError::KindUnknown);
    let scalar = AdapterFile::from_safetensors(&bare, Some(GateKind::PEFT)).unwrap_err();
    assert!(matches!(scalar, AdapterError::KindMismatch { .. }), "{scalar}");
}

#[test]
fn broken_files_are_refused_with_the_tensor_that_is_wrong() {
    let (prompts, gates) = ([0.5f32; 8], [0.1f32; 4]);
    let refuse = |tensors: &[(&str, &[usize], &[f32])], part: &str| {
        let error = AdapterFile::from_safetensors(&safetensors_of(tensors, &[]), Some(GateKind::PAPER)).unwrap_err();
        assert!(error.to_string().contains(part), "{error} should speak of {part}");
        assert!(!error.hint().is_empty());
    };
    refuse(&[("prompts", &[2, 1, 4], &prompts)], "\"gates\"");
    refuse(&[("gates", &[2, 2], &gates)], "\"prompts\"");
    refuse(&[("prompts", &[2, 4], &prompts), ("gates", &[2, 2], &gates)], "prompts");
    refuse(&[("prompts", &[2, 1, 4], &prompts), ("gates", &[4, 1], &gates)], "gates");
    refuse(&[("prompts", &[2, 1, 4], &prompts), ("gates", &[2, 2], &gates), ("more", &[4], &gates)], "\"more\"");
    let nan = [f32::NAN; 4];
    refuse(&[("prompts", &[2, 1, 4], &prompts), ("gates", &[2, 2], &nan)], "4 values that are not finite");
    for garbage in [&b""[..], b"x", &[0xff; 64], &8u64.to_le_bytes()] {
        let error = AdapterFile::from_safetensors(garbage, Some(GateKind::PAPER)).unwrap_err();
        assert!(matches!(error, AdapterError::NotSafetensors { .. }), "{error}");
    }
}

#[test]
fn peft_files_that_peft_loads_silently_are_refused_here() {
    let config = br#"{"peft_type":"ADAPTION_PROMPT","adapter_len":1,"adapter_layers":2}"#;
    let (prompt, gate) = ([0.5f32; 4], [0.1f32]);
    let name = |prefix: &str, layer: u32, part: &str| format!("{prefix}.layers.{layer}.self_attn.{part}");
    let file = |names: &[(String, bool)]| {
        let tensors: Vec<(&str, &[usize], &[f32])> = names
            .iter()
            .map(|(name, is_prompt)| match is_prompt {
                true => (name.as_str(), &[1usize, 1, 4][..], &prompt[..]),
                false => (name.as_str(), &[1usize][..], &gate[..]),
            })
            .collect();
        safetensors_of(&tensors, &[("format", "pt")])
    };
    let good = "base_model.model.model";
    let all = |prefix: &str| {
        [2, 3]
            .map(|layer| {
                [(name(prefix, layer, "adaption_prompt"), true), (name(prefix, layer, "adaption_gate"), false)]
            })
            .concat()
    };
    assert!(AdapterFile::from_peft(config, &file(&all(good))).is_ok());
    let wrong_prefix = AdapterFile::from_peft(config, &file(&all("base_model.model"))).unwrap_err();
    assert!(matches!(wrong_prefix, AdapterError::Unknown { .. }), "{wrong_prefix}");
    let missing_gate = AdapterFile::from_peft(config, &file(&all(good)[..3])).unwrap_err();
    let AdapterError::Missing { name, .. } = &missing_gate else { panic!("{missing_gate}") };
    assert_eq!(name, "base_model.model.model.layers.3.self_attn.adaption_gate");
    let one_layer = AdapterFile::from_peft(config, &file(&all(good)[..2])).unwrap_err();
    assert!(matches!(one_layer, AdapterError::Missing { .. }), "{one_layer}");
    let lora = AdapterFile::from_peft(br#"{"peft_type":"LORA","adapter_len":1,"adapter_layers":2}"#, &file(&all(good)));
    assert!(lora.unwrap_err().to_string().contains("\"LORA\""));
    let long = AdapterFile::from_peft(
        br#"{"peft_type":"ADAPTION_PROMPT","adapter_len":9,"adapter_layers":2}"#,
        &file(&all(good)),
    );
    assert!(matches!(long.unwrap_err(), AdapterError::Shape { .. }));
    for garbage in [&b"{"[..], b"[]", br#"{"peft_type":"ADAPTION_PROMPT","adapter_len":-1,"adapter_layers":2}"#] {
        assert!(matches!(AdapterFile::from_peft(garbage, &file(&all(good))), Err(AdapterError::Config { .. })));
    }
}
