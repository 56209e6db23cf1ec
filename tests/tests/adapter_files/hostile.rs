//! Files that are broken or lie: what is wrong is said, and nothing panics.

use adapter_engine::adapter::{AdapterError, AdapterFile, GateKind};
use adapter_engine::formats::{Gguf, GgufWriter, TensorInfo, TensorType, Value};
use adapter_engine::model::Config;
use adapter_engine::{Error, Model};
use adapter_tests::{gpu, one_at_a_time};

use crate::{adapter_of, assert_same, from_gguf, keep_on, merged, tiny};

/// A tensor of a file to be written: name, shape, type, data.
type Tensor = (String, Vec<u64>, TensorType, Vec<u8>);
/// Metadata and tensors of a file, to be changed.
type Parts = (Vec<(String, Value)>, Vec<Tensor>);

fn rewrite(bytes: &[u8], change: &dyn Fn(&mut Parts)) -> Vec<u8> {
    let gguf = Gguf::read(&bytes).unwrap();
    let data = |tensor: &TensorInfo| {
        let mut data = vec![0; tensor.size_bytes as usize];
        tensor.read_data(&bytes, 0, &mut data).unwrap();
        (tensor.name.clone(), tensor.shape.clone(), tensor.tensor_type, data)
    };
    let metadata = gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let mut parts = (metadata, gguf.tensors().iter().map(data).collect());
    change(&mut parts);
    let mut writer = GgufWriter::new();
    for (key, value) in &parts.0 {
        writer.metadata(key.as_str(), value.clone());
    }
    for (name, shape, tensor_type, _) in &parts.1 {
        writer.tensor(name.as_str(), shape, *tensor_type);
    }
    let mut out = writer.start(Vec::new()).unwrap();
    for (name, .., data) in &parts.1 {
        out.tensor(name, data).unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn hostile_merged_files_are_refused_with_what_is_wrong() {
    let (_, _, config) = tiny("q8_0");
    let file = adapter_of(GateKind::PAPER);
    let files = [merged("q8_0", "x", &file), file.to_gguf(&config, "x").unwrap()];
    let refuse = |change: &dyn Fn(&mut Parts), part: &str| {
        for bytes in &files {
            let error = from_gguf(&rewrite(bytes, change)).unwrap_err();
            assert!(error.to_string().contains(part), "{error} should speak of {part}");
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
        }
    };
    let set = |parts: &mut Parts, key: &str, value: Value| {
        let key = format!("adapter.{key}");
        match parts.0.iter_mut().find(|(found, _)| *found == key) {
            Some(entry) => entry.1 = value,
            None => parts.0.push((key, value)),
        }
    };
    let drop_key = |parts: &mut Parts, key: &str| parts.0.retain(|(found, _)| *found != format!("adapter.{key}"));
    let drop_tensor = |parts: &mut Parts, name: &str| parts.1.retain(|(found, ..)| found != name);
    let rename = |parts: &mut Parts, old: &str, new: &str| {
        parts.1.iter_mut().filter(|(name, ..)| name == old).for_each(|(name, ..)| new.clone_into(name));
    };
    let reshape = |parts: &mut Parts, name: &str, shape: &[u64], tensor_type: TensorType, bytes: usize| {
        for tensor in parts.1.iter_mut().filter(|(found, ..)| found == name) {
            *tensor = (name.to_owned(), shape.to_vec(), tensor_type, vec![0; bytes]);
        }
    };
    let (prompt, gate) = ("blk.2.adapter_prompt.weight", "blk.2.adapter_gate.weight");

    refuse(&|parts| drop_key(parts, "type"), "adapter.type is missing");
    refuse(&|parts| set(parts, "type", "lora".into()), "adapter.type is \"lora\", expected \"llama_adapter\"");
    refuse(&|parts| set(parts, "type", 7u32.into()), "adapter.type");
    refuse(&|parts| set(parts, "llama_adapter.version", 2u32.into()), "version is 2, expected 1");
    refuse(&|parts| drop_key(parts, "llama_adapter.version"), "version is missing");
    refuse(&|parts| set(parts, "llama_adapter.gate_shape", "round".into()), "gate_shape is \"round\"");
    refuse(&|parts| set(parts, "llama_adapter.gate_activation", "relu".into()), "gate_activation is \"relu\"");
    refuse(&|parts| drop_key(parts, "llama_adapter.gate_activation"), "gate_activation is missing");
    refuse(&|parts| set(parts, "llama_adapter.gate_shape", "scalar".into()), "adapter_gate.weight\" is F32 [4]");
    refuse(&|parts| set(parts, "llama_adapter.length", 0u32.into()), "length is 0");
    refuse(&|parts| set(parts, "llama_adapter.length", u32::MAX.into()), "length is 4294967295, expected 1 to 256");
    refuse(&|parts| set(parts, "llama_adapter.length", 9u32.into()), "F32 [256, 10], expected F32 [256, 9]");
    refuse(&|parts| set(parts, "llama_adapter.length", "ten".into()), "length");
    refuse(
        &|parts| set(parts, "llama_adapter.layers", 2u32.into()),
        "of layer 1, expected of one of the model's last 2",
    );
    refuse(&|parts| set(parts, "llama_adapter.layers", 4u32.into()), "no tensor \"blk.0.adapter_prompt.weight\"");
    refuse(&|parts| set(parts, "llama_adapter.layers", 500u32.into()), "layers is 500, expected at most the 4");
    refuse(&|parts| drop_tensor(parts, gate), "no tensor \"blk.2.adapter_gate.weight\"");
    refuse(&|parts| drop_tensor(parts, prompt), "no tensor \"blk.2.adapter_prompt.weight\"");
    refuse(
        &|parts| parts.1.retain(|(name, ..)| !name.contains("adapter")),
        "no tensor \"blk.N.adapter_prompt.weight\"",
    );
    refuse(&|parts| reshape(parts, prompt, &[128, 10], TensorType::F32, 5120), "F32 [128, 10], expected F32 [256, 10]");
    refuse(&|parts| reshape(parts, gate, &[2], TensorType::F32, 8), "F32 [2], expected F32 [4]");
    refuse(&|parts| reshape(parts, gate, &[4], TensorType::F16, 8), "F16 [4], expected F32 [4]");
    refuse(&|parts| reshape(parts, gate, &[2, 2], TensorType::F32, 16), "F32 [2, 2]");
    let nan = |parts: &mut Parts| {
        for (.., data) in parts.1.iter_mut().filter(|(name, ..)| name == prompt) {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    };
    refuse(&nan, "1 values that are not finite");
    // Layers that the model does not have, and numbers that only look like one.
    rename_all(&files, &|parts| rename(parts, gate, "blk.4294967295.adapter_gate.weight"));
    rename_all(&files, &|parts| rename(parts, gate, "blk.+2.adapter_gate.weight"));
    rename_all(&files, &|parts| rename(parts, gate, "blk.02.adapter_gate.weight"));
    rename_all(&files, &|parts| rename(parts, gate, "blk.2.adapter_extra.weight"));
    let moved = rewrite(&files[0], &|parts| rename(parts, gate, "blk.4.adapter_gate.weight"));
    let error = from_gguf(&moved).unwrap_err();
    assert!(error.to_string().contains("\"blk.4.adapter_gate.weight\" is of layer 4"), "{error}");
    // Sound in itself, but the model has other sizes: found when it is compared with the model.
    let wide = |parts: &mut Parts| {
        for (name, shape, _, data) in &mut parts.1 {
            if name.ends_with("adapter_gate.weight") {
                (*shape, *data) = (vec![6], vec![0; 24]);
            }
        }
    };
    let (_, wide) = from_gguf(&rewrite(&files[0], &wide)).unwrap().unwrap();
    assert!(wide.check_fits(&config).unwrap_err().to_string().contains("heads is 6 there and 4 here"));
}

/// Names that belong to no adapter: the tensor that should be there is missed.
#[track_caller]
fn rename_all(files: &[Vec<u8>], change: &dyn Fn(&mut Parts)) {
    for bytes in files {
        let hostile = rewrite(bytes, change);
        let error = from_gguf(&hostile).unwrap_err();
        let wanted = matches!(error, Error::Adapter(AdapterError::Missing { .. } | AdapterError::Unknown { .. }));
        assert!(wanted, "{error}");
        let gguf = Gguf::read(&hostile).unwrap();
        if Config::from_gguf(&gguf, &hostile).is_ok() {
            let _turn = one_at_a_time();
            let error = Model::load(gpu(), &gguf, &hostile, &mut keep_on).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        }
    }
}

/// Changed, cut and spliced files give an answer or an error, never a panic, and what is read can be written.
#[test]
fn damaged_files_never_panic() {
    let (_, _, config) = tiny("q8_0");
    let file = adapter_of(GateKind::PAPER);
    let (json, peft) = adapter_of(GateKind::PEFT).to_peft(&config).unwrap();
    let (ours, gguf) = (file.to_safetensors().unwrap(), file.to_gguf(&config, "x").unwrap());
    let header = |bytes: &[u8]| bytes.len() - file.prompts.len() * 4 - file.gates.len() * 4;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..3000 {
        let sound = [&ours, &gguf, &peft][round % 3];
        let mut bytes = sound.clone();
        for _ in 0..=next(4) {
            let at = next(header(sound));
            match next(3) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes[at] ^= 1 << next(8),
                _ => bytes.truncate(bytes.len() - next(64)),
            }
        }
        let outcome = match round % 3 {
            0 => AdapterFile::from_safetensors(&bytes, None).ok(),
            1 => from_gguf(&bytes).ok().flatten().map(|(_, file)| file),
            _ => AdapterFile::from_peft(&json, &bytes).ok(),
        };
        match outcome {
            Some(found) => {
                read += 1;
                let again = AdapterFile::from_safetensors(&found.to_safetensors().unwrap(), None).unwrap();
                assert_same(&again, &found);
            }
            None => refused += 1,
        }
    }
    assert!(read > 20 && refused > 1000, "{read} read, {refused} refused");
    let huge = br#"{"peft_type":"ADAPTION_PROMPT","adapter_len":10,"adapter_layers":4294967295}"#;
    assert!(matches!(AdapterFile::from_peft(huge, &peft), Err(AdapterError::Missing { .. })));
}
