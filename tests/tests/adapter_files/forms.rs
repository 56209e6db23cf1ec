//! Every form holds the same numbers, and only numbers that can be used are written.

use adapter_engine::adapter::{self, AdapterError, AdapterFile, AdapterWriteError, BaseMatch, BaseModel, GateKind};
use adapter_tests::{one_at_a_time, read, same_bits};

use crate::{KINDS, adapter_of, assert_same, from_gguf, keep_on, load, logits, merged, tiny};

/// Reliability F5: what is written is what is read, and the same adapter gives the same bytes.
#[test]
fn our_files_hold_every_kind_bit_for_bit() {
    let (bytes, gguf, config) = tiny("q4_1");
    let base = BaseModel::of(&gguf, &bytes).unwrap();
    for kind in KINDS {
        let mut file = adapter_of(kind);
        file.prompts[0] = -0.0;
        file.prompts[1] = f32::MIN_POSITIVE / 4.0; // subnormal
        let bare = AdapterFile::from_safetensors(&file.to_safetensors().unwrap(), None).unwrap();
        assert_same(&bare, &file);
        file.set_base(&base);
        file.base_model = Some("a \"quoted\" name\n\u{1b} \u{fc}".to_owned());
        file.chat_template = Some(String::from_utf8(read("templates/form-qwen3.jinja")).unwrap());
        let ours = file.to_safetensors().unwrap();
        assert_eq!(ours, file.to_safetensors().unwrap(), "the same bytes each time");
        assert_same(&AdapterFile::from_safetensors(&ours, None).unwrap(), &file);
        assert_same(&AdapterFile::from_safetensors(&ours, Some(kind)).unwrap(), &file);
        let (name, alone) = from_gguf(&file.to_gguf(&config, "my adapter").unwrap()).unwrap().unwrap();
        assert_eq!(name, "my adapter");
        assert_same(&alone, &file);
        let (name, inside) = from_gguf(&merged("q4_1", "my adapter", &file)).unwrap().unwrap();
        assert_eq!(name, "my adapter");
        assert_same(&inside, &file);
        // A round through all of them.
        let again = AdapterFile::from_safetensors(&inside.to_safetensors().unwrap(), None).unwrap();
        assert_eq!(again.to_safetensors().unwrap(), ours);
    }
}

#[test]
fn export_to_peft_is_what_peft_wrote() {
    let _turn = one_at_a_time();
    let (bytes, _, config) = tiny("f32");
    let (json, weights) =
        (read("tiny-llama/peft/adapter_config.json"), read("tiny-llama/peft/adapter_model.safetensors"));
    let imported = AdapterFile::from_peft(&json, &weights).unwrap();
    let (new_json, new_weights) = imported.to_peft(&config).unwrap();
    assert_eq!(new_weights, weights, "the very bytes that PEFT wrote");
    let parse = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap();
    let (mut wanted, found) = (parse(&json), parse(&new_json));
    wanted.as_object_mut().unwrap().remove("peft_version");
    assert_eq!(found, wanted);
    assert_same(&AdapterFile::from_peft(&new_json, &new_weights).unwrap(), &imported);

    // From our own form, and with tanh taken: the same logits.
    let model = load(&bytes);
    for kind in [GateKind::PEFT, GateKind::SCALAR_TANH] {
        let file = adapter_of(kind);
        let (json, weights) = file.to_peft(&config).unwrap();
        let again = AdapterFile::from_peft(&json, &weights).unwrap();
        assert_eq!(again.kind, GateKind::PEFT);
        assert!(same_bits(&again.prompts, &file.prompts));
        assert_eq!(same_bits(&again.gates, &file.gates), kind == GateKind::PEFT);
        assert!(same_bits(&logits(&model, Some((&again, 1.0))), &logits(&model, Some((&file, 1.0)))), "{kind:?}");
    }
}

/// F5 of the faults found by use: PEFT reads nothing of the metadata, so the template travels there, and a folder without one is
/// the same to the byte as before.
#[test]
fn a_peft_folder_keeps_the_chat_template_in_the_metadata_of_its_weights() {
    let (_, _, config) = tiny("f32");
    let plain = adapter_of(GateKind::PEFT);
    let with = AdapterFile { chat_template: Some("{{ messages[0].content }}\n\"é\"".to_owned()), ..plain.clone() };
    let ((json, weights), (same_json, longer)) = (plain.to_peft(&config).unwrap(), with.to_peft(&config).unwrap());
    assert_eq!(json, same_json);
    let read = |weights: &[u8]| AdapterFile::from_peft(&json, weights).unwrap();
    assert_eq!((read(&weights).chat_template, read(&longer).chat_template), (None, with.chat_template));
    let tensors = |bytes: &[u8]| {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let mut all: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(tensors(&weights), tensors(&longer));
    let (_, header) = safetensors::SafeTensors::read_metadata(&longer).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt", "transformers asks for it");
}

#[test]
fn gates_a_head_go_to_peft_only_where_they_are_equal() {
    let _turn = one_at_a_time();
    let (bytes, _, config) = tiny("q8_0");
    for kind in [GateKind::PAPER, GateKind::LINEAR] {
        let mut file = adapter_of(kind);
        let error = file.to_peft(&config).unwrap_err();
        assert!(matches!(error, AdapterError::PeftCannotHold { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "PEFT cannot hold this adapter: it has a gate for each of 4 heads, which differ in layer 1, and PEFT has one \
             gate a layer"
        );
        assert!(error.hint().contains("safetensors or gguf"), "{}", error.hint());
        let equal = [0.25f32, -0.5, 0.75].into_iter().flat_map(|gate| [gate; 4]).collect::<Vec<_>>();
        file.gates.clone_from(&equal);
        let (json, weights) = file.to_peft(&config).unwrap();
        let again = AdapterFile::from_peft(&json, &weights).unwrap();
        let model = load(&bytes);
        assert!(same_bits(&logits(&model, Some((&again, 1.0))), &logits(&model, Some((&file, 1.0)))), "{kind:?}");
        // Equal to a reader, not to the bit: 0 and -0.
        file.gates = equal;
        file.gates[8..].copy_from_slice(&[0.0, 0.0, 0.0, -0.0]);
        assert!(file.to_peft(&config).unwrap_err().to_string().contains("differ in layer 3"));
    }
    let mut odd = config;
    odd.head_dim *= 2;
    let error = adapter_of(GateKind::PEFT).to_peft(&odd).unwrap_err();
    assert!(error.to_string().contains("heads of 128 channels are not its 256 channels"), "{error}");
}

/// Reliability T3 and T7: nothing broken and nothing for another model is written.
#[test]
fn nothing_is_written_that_could_not_be_used() {
    let (bytes, gguf, config) = tiny("q8_0");
    let refuse = |change: &dyn Fn(&mut AdapterFile), part: &str| {
        let mut file = adapter_of(GateKind::PEFT);
        change(&mut file);
        let merged = adapter::merge(&gguf, &bytes, ("x", &file), Vec::new(), &mut keep_on).map(|_| ());
        let outcomes = [
            file.to_peft(&config).map(|_| ()).map_err(AdapterWriteError::from),
            file.to_gguf(&config, "x").map(|_| ()),
            merged,
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains(part), "{error} should speak of {part}");
            assert!(error.hint().is_some(), "{error}");
        }
        file.to_safetensors()
    };
    assert!(refuse(&|file| file.prompts[7] = f32::NAN, "1 values that are not finite").is_err());
    assert!(refuse(&|file| file.gates[0] = f32::INFINITY, "\"gates\" holds 1 values").is_err());
    assert!(refuse(&|file| file.prompts.truncate(7679), "7679 numbers").is_err());
    assert!(refuse(&|file| file.gates.push(0.0), "4 numbers").is_err());
    assert!(refuse(&|file| file.n_layers = 0, "0 layers").is_err());
    assert!(refuse(&|file| file.adapter_len = u32::MAX, "numbers").is_err());
    // These are sound, but for another model.
    assert!(refuse(&|file| file.base_layers = Some(32), "the model's layers is 32 there and 4 here").is_ok());
    let narrow = |file: &mut AdapterFile| {
        file.n_channels = 128;
        file.prompts.truncate(3 * 10 * 128);
    };
    assert!(refuse(&narrow, "channels is 128 there and 256 here").is_ok());
    let tall = |file: &mut AdapterFile| {
        file.n_layers = 5;
        (file.prompts, file.gates) = (vec![0.5; 5 * 10 * 256], vec![0.5; 5]);
    };
    assert!(refuse(&tall, "layers is 5 there and at most 4 here").is_ok());
}

#[test]
fn another_model_of_the_same_sizes_is_a_warning() {
    let of = |format: &str| {
        let (bytes, gguf, _) = tiny(format);
        BaseModel::of(&gguf, &bytes).unwrap()
    };
    let (base, other) = (of("q4_1"), of("q8_0"));
    assert_eq!((base.name.as_deref(), base.n_layers), (Some("tiny-llama"), 4));
    assert_ne!(base.hash, other.hash);
    let mut file = adapter_of(GateKind::PAPER);
    assert_eq!(file.compare_base(&base), BaseMatch::Unknown);
    file.set_base(&base);
    assert_eq!(file.compare_base(&base), BaseMatch::Same);
    let doubt = file.compare_base(&other);
    assert!(doubt.is_doubtful() && doubt.to_string().contains(&base.hash), "{doubt}");
    file.base_hash = None;
    assert_eq!(file.compare_base(&other), BaseMatch::Unknown, "the same name");
    file.base_model = Some("org/Another-Model".to_owned());
    assert!(file.compare_base(&other).to_string().contains("\"org/Another-Model\""));

    // One weight in the middle of one tensor is another model.
    let (mut bytes, gguf, _) = tiny("q4_1");
    let tensor = gguf.tensor("blk.2.ffn_up.weight").unwrap();
    bytes[(tensor.offset + tensor.size_bytes / 2) as usize] ^= 1;
    assert_ne!(BaseModel::of(&gguf, &bytes).unwrap().hash, base.hash);
}

/// The page cannot ask the engine before it has loaded it: its list is written down, and compared here.
#[test]
fn the_page_offers_the_engine_s_kinds_of_gates() {
    let path = adapter_tests::data("").join("../../web/src/gates.ts");
    let text = std::fs::read_to_string(&path).unwrap();
    let found: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("[\"")?.strip_suffix("\"],"))
        .map(|row| row.split("\", \"").collect())
        .collect();
    assert_eq!(found, GateKind::ALL.map(|kind| vec![kind.name(), kind.words()]));
}
