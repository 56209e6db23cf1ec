//! What is refused: a sentence, a next step, an exit code.

use adapter_tests::data;

use crate::support::*;

#[test]
fn wrong_flags_are_wrong_use() {
    let home = Home::new();
    home.refuse("", 2, "no command", "adapter-cli chat");
    home.refuse("genrate -p x", 2, "genrate", "'generate'");
    home.refuse("generate --temprature 1", 2, "--temprature", "--temperature");
    home.refuse("generate -p x --greedy --temperature 1", 2, "--greedy", "generate --help");
    home.refuse("generate -p x --temperature -1", 2, "temperature is -1", "Sampling");
    home.refuse("generate -p x --top-p 0", 2, "top_p is 0", "Sampling");
    home.refuse("generate -p x --strength 3", 2, "from 0 (off)", "generate --help");
    home.refuse("generate -p x --gate flat", 2, "paper, linear, peft", "generate --help");
    home.refuse("generate -p x --context 0", 2, "--context", "generate --help");
    home.refuse("generate -p x --raw --system y", 2, "--raw", "generate --help");
    home.refuse("debug tokenize", 2, "--file <FILE>", "debug tokenize --help");
    home.refuse("bench -m TINY -p 4096", 2, "-p 4096 is more than the context of 128", "-p 128");
    home.refuse("bench -m TINY -p 0 -n 0", 2, "both tests have 0 tokens", "-p or -n");
    home.refuse("generate -m TINY", 2, "the prompt is empty", "-p 'text'");
}

#[test]
fn files_that_are_no_model_are_named_with_a_next_step() {
    let home = Home::new();
    let whole = std::fs::read(tiny("tiny-q4_k.gguf")).expect("test data");
    home.write("short.gguf", &whole[..2000]);
    home.write("cut.gguf", &whole[..whole.len() - 1000]);
    home.write("page.gguf", "<!DOCTYPE html><title>Sign in</title>");
    home.write("bert.gguf", other_architecture());
    home.write("empty.gguf", "");
    home.refuse("generate -p x", 1, "no model is named", "cargo xtask chat");
    home.refuse("generate -p x -m HERE/none.gguf", 1, "none.gguf", "spelling");
    home.refuse("generate -p x -m HERE", 1, "folder", "one .gguf file");
    home.refuse("generate -p x -m HERE/short.gguf", 1, "short.gguf", "cut off");
    home.refuse("generate -p x -m HERE/cut.gguf", 1, "cut.gguf", "incomplete");
    home.refuse("generate -p x -m HERE/page.gguf", 1, "page.gguf", "web page");
    home.refuse("generate -p x -m HERE/empty.gguf", 1, "empty.gguf", "too short");
    home.refuse("generate -p x -m HERE/bert.gguf", 1, "\"bert\"", "inspect");
    home.refuse("chat -m HERE/cut.gguf", 1, "cut.gguf", "incomplete");
    home.refuse("bench -m HERE/cut.gguf", 1, "cut.gguf", "incomplete");
    home.refuse("generate -p x -m DATA/adapter-paper.safetensors", 1, "magic", "adapters are loaded");
}

/// A key that a converter left out is named, with what converters write there.
#[test]
fn a_missing_key_is_named_with_what_converters_write() {
    let home = Home::new();
    let whole = std::fs::read(tiny("tiny-f32.gguf")).expect("test data");
    for (key, field) in [
        ("llama.context_length", "max_position_embeddings"),
        ("llama.block_count", "num_hidden_layers"),
        ("llama.embedding_length", "hidden_size"),
        ("llama.feed_forward_length", "intermediate_size"),
        ("llama.attention.head_count", "num_attention_heads"),
        ("llama.attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ] {
        let mut bytes = whole.clone();
        // With its length in front, so that `head_count` is not found in `head_count_kv`.
        let name = [&(key.len() as u64).to_le_bytes(), key.as_bytes()].concat();
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap_or_else(|| panic!("{key}"));
        bytes[at + name.len() - 1] = b'_';
        home.write("model.gguf", bytes);
        home.refuse("generate -p x -m HERE/model.gguf", 1, &format!("{key} is missing"), field);
    }
}

#[test]
fn the_default_model_is_the_variable_s() {
    let home = Home::new();
    let outcome = home.run_with("generate -p x --raw -n 1 --json", "", &[("ADAPTER_MODEL", &tiny("tiny-f32.gguf"))]);
    assert_done(&outcome);
    assert_eq!(json(&outcome.stdout)["model"], "tiny-llama");
    let outcome = home.run_with("generate -p x", "", &[("ADAPTER_MODEL", "/nonexistent/m.gguf")]);
    assert_refused(&outcome, "ADAPTER_MODEL", 1, "/nonexistent/m.gguf", "spelling");
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let home = Home::new();
    let peft = read_tensors(&data("tiny-llama/peft/adapter_model.safetensors"));
    let config = std::fs::read(data("tiny-llama/peft/adapter_config.json")).expect("test data");
    let folder = |name: &str, tensors: &Tensors, config: &[u8]| {
        home.write(&format!("{name}/adapter_model.safetensors"), safetensors_of(tensors));
        home.write(&format!("{name}/adapter_config.json"), config);
    };
    // PEFT itself loads these two without a word and answers as the base model.
    let renamed =
        peft.iter().map(|(name, shape, values)| (name.replace("base_model.model.", ""), shape.clone(), values.clone()));
    folder("prefix", &renamed.collect(), &config);
    let without = peft.iter().filter(|(name, ..)| !name.ends_with("layers.2.self_attn.adaption_gate")).cloned();
    folder("gateless", &without.collect(), &config);
    folder("lora", &peft, br#"{"peft_type": "LORA", "adapter_len": 10, "adapter_layers": 3}"#);
    home.write("bare/adapter_config.json", &config);
    let other = vec![
        ("prompts".to_owned(), vec![3, 10, 128], vec![0.5; 3 * 10 * 128]),
        ("gates".to_owned(), vec![3, 4], vec![0.5; 12]),
    ];
    home.write("other.safetensors", safetensors_of(&other));
    let nan = vec![
        ("prompts".to_owned(), vec![3, 10, 256], vec![f32::NAN; 3 * 10 * 256]),
        ("gates".to_owned(), vec![3, 4], vec![0.5; 12]),
    ];
    home.write("nan.safetensors", safetensors_of(&nan));

    let refuse = |flags: &str, sentence: &str, hint: &str| {
        home.refuse(&format!("generate -m TINY -p x -n 1 {flags}"), 1, sentence, hint);
    };
    refuse("-a HERE/prefix", "no part of a LLaMA-Adapter", "base_model.model.model.layers.N");
    refuse("-a HERE/gateless", "layers.2.self_attn.adaption_gate", "adaption_gate");
    refuse("-a HERE/lora", "LORA", "save the adapter again");
    refuse("-a HERE/bare", "no adapter_model.safetensors", "PEFT folder");
    refuse("-a HERE/none", "none", "spelling");
    refuse("-a HERE/other.safetensors --gate paper", "channels is 128 there and 256 here", "trained on");
    refuse("-a HERE/nan.safetensors --gate paper", "not finite", "checkpoint");
    refuse("-a DATA/adapter-paper.safetensors", "does not say what its gates mean", "--gate paper");
    refuse("-a DATA/adapter-paper.safetensors --gate peft", "not peft", "--gate");
    refuse("-a DATA/peft --gate paper", "not paper", "--gate");
    refuse("-a DATA/tiny-f32.gguf --gate paper", "the GGUF file holds no adapter", "inspect");
}

#[test]
fn gpus_that_are_not_there_are_refused() {
    let home = Home::new();
    home.refuse("generate -m TINY -p x --gpu nonsense", 2, "no GPU is named \"nonsense\"", "doctor");
    home.refuse("generate -m TINY -p x --gpu-memory 1", 1, "out of GPU memory", "--context");
    let none = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    for line in ["generate -m TINY -p x", "chat -m TINY", "bench -m TINY -p 8 -n 8", "doctor"] {
        let outcome = home.run_with(line, "", &none);
        if cfg!(target_os = "linux") {
            assert_refused(&outcome, line, 1, "no GPU was found", "mesa-vulkan-drivers");
        }
    }
}

#[test]
fn ids_that_are_no_tokens_are_refused() {
    let home = Home::new();
    home.write("high.json", "[1, 320]");
    home.write("text.json", "[1, \"two\"]");
    home.write("empty.json", "[]");
    home.write("broken.json", "[1,");
    home.write("long.json", format!("{:?}", vec![1; 129]));
    home.write("good.json", "{\"ids\": [1, 2, 3]}");
    let refuse = |ids: &str, sentence: &str, hint: &str| {
        home.refuse(
            &format!("debug logits -m TINY --ids HERE/{ids}.json --out HERE/out.safetensors"),
            1,
            sentence,
            hint,
        );
    };
    refuse("high", "token id 320 is outside the vocabulary of 320", "another model");
    refuse("text", "id 1 is \"two\"", "[1, 2, 3]");
    refuse("empty", "no tokens", "prompt");
    refuse("broken", "not JSON", "[1, 2, 3]");
    refuse("long", "129 tokens do not fit the context of 128", "--context");
    refuse("none", "none.json", "spelling");
    assert!(!home.path("out.safetensors").exists(), "a failed run leaves no file");
    home.refuse(
        "debug logits -m TINY --ids HERE/good.json --out HERE/none/out.safetensors",
        1,
        "out.safetensors",
        "folder",
    );
}
