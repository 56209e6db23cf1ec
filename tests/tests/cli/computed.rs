//! What is computed agrees with the golden files and with itself.

use adapter_tests::{data, nmse};

use crate::support::*;

#[test]
fn logits_agree_with_float64_and_strength_0_is_the_base_model() {
    let home = Home::new();
    let ids = shown(&data("tiny-llama/base.json"));
    let logits = |name: &str, flags: &str| {
        let out = home.path(name);
        assert_done(&home.run(&format!("debug logits -m TINY --ids {ids} --out {} {flags}", shown(&out))));
        logits_of(&out)
    };
    let base = logits("base", "");
    assert_eq!(base.0, [48, 320]);
    for (name, flags, golden) in [
        ("base", "", "base"),
        ("paper", "-a DATA/adapter-paper.safetensors --gate paper", "golden-paper"),
        ("linear", "-a DATA/adapter-linear.safetensors --gate linear", "golden-linear"),
        ("peft", "-a DATA/peft", "golden-peft"),
        ("inside", "-a DATA/peft/adapter_model.safetensors", "golden-peft"),
    ] {
        let error = nmse(&logits(name, flags).1, &logits_of(&data(&format!("tiny-llama/{golden}.safetensors"))).1);
        assert!(error <= 1e-9, "cli::logits[{name}] NMSE {error:.1e} <= 1e-9");
    }
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&logits("off", "-a DATA/peft --strength 0").1), bits(&base.1));
    let last = logits("last", "--last");
    assert_eq!(last.0, [320]);
    assert!(nmse(&last.1, &base.1[47 * 320..]) <= 1e-9);
}

#[test]
fn greedy_json_tells_everything_and_is_repeatable() {
    let home = Home::new();
    let line = "generate -m TINY -p hello --raw --greedy -n 12 --json";
    let first = home.run(line);
    assert_done(&first);
    let report = json(&first.stdout);
    assert_eq!(first.stdout.lines().count(), 1);
    assert!(report["tokens"].as_u64().is_some_and(|tokens| (1..=12).contains(&tokens)), "{report}");
    assert!(report["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0));
    assert!(["stop", "length"].contains(&report["finish_reason"].as_str().unwrap_or_default()), "{report}");
    assert!(report["time_to_first_token_ms"].as_f64().is_some_and(|time| time > 0.0));
    assert!(report["gpu"].is_string() && report["seed"].is_u64() && report["adapter"].is_null());
    assert_eq!(report["model"], "tiny-llama");
    assert_eq!(json(&home.run(line).stdout)["text"], report["text"]);

    let adapted = json(&home.run(&format!("{line} -a DATA/adapter-paper.safetensors --gate paper")).stdout);
    assert_eq!(adapted["adapter"], "adapter-paper");
    assert_ne!(adapted["text"], report["text"], "an adapter with open gates changes the answer");
}

#[test]
fn a_prompt_may_come_on_standard_input() {
    let home = Home::new();
    let line = "generate -m TINY --raw --greedy -n 8 --json";
    let piped = home.run_with(line, "hello\n", &[]);
    assert_done(&piped);
    let given = home.run(&format!("{line} -p hello"));
    assert_eq!(json(&piped.stdout)["text"], json(&given.stdout)["text"]);
    assert_eq!(json(&piped.stdout)["prompt_tokens"], json(&given.stdout)["prompt_tokens"]);
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let home = Home::new();
    let text = |seed: u32| {
        let outcome =
            home.run(&format!("generate -m TINY -p hello --raw -n 16 --temperature 1.5 --json --seed {seed}"));
        assert_done(&outcome);
        json(&outcome.stdout)["text"].clone()
    };
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    let home = Home::new();
    let line = "generate -m TINY -p hello --raw -n 40 --seed 3 --temperature 3 --top-k 0 --json";
    let whole = json(&home.run(line).stdout);
    let text = whole["text"].as_str().expect("text");
    let word = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| !word.is_empty())
        .expect("some letters among 40 bytes");
    let stopped = json(&home.run(&format!("{line} --stop {word}")).stdout);
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), text.split(word).next());
}

/// The tiny model is random: hot sampling makes it write any byte there is, escapes included.
#[test]
fn answers_cannot_command_a_terminal() {
    let home = Home::new();
    let mut controls_in_json = 0;
    for seed in 0..4 {
        let line =
            format!("generate -m TINY -p hello --raw --temperature 50 --top-k 0 --top-p 1 --min-p 0 --seed {seed}");
        let plain = home.run(&line);
        assert_done(&plain);
        let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!plain.stdout.contains(harmful), "{:?}", plain.stdout);
        let outcome = home.run(&format!("{line} --json"));
        assert!(!outcome.stdout.trim_end().contains(char::is_control), "{:?}", outcome.stdout);
        controls_in_json +=
            json(&outcome.stdout)["text"].as_str().expect("text").chars().filter(|c| harmful(*c)).count();
    }
    assert!(controls_in_json > 0, "the model wrote no control character, so nothing was tested");
}

#[test]
fn a_full_context_is_said() {
    let home = Home::new();
    let outcome = home.run("generate -m TINY -p hello --raw --context 16 --seed 1 --json");
    assert_done(&outcome);
    assert_eq!(json(&outcome.stdout)["finish_reason"], "context");
    let wanted = "the context of 16 tokens is full: the answer stops here; --context raises the limit up to 128";
    assert!(outcome.stderr.contains(wanted), "{}", outcome.stderr);
    let long = "x".repeat(300);
    let outcome = home.run(&format!("generate -m TINY -p {long} --raw"));
    assert_refused(&outcome, "a long prompt", 1, "do not fit the context of 128", "--context");
}

#[test]
fn tokenize_counts_control_tokens_and_adds_none() {
    let home = Home::new();
    home.write("text.txt", "Hi");
    let plain = home.run("debug tokenize -m TINY --file HERE/text.txt");
    assert_done(&plain);
    assert_eq!(plain.stdout, "[72,105]\n"); // the tiny vocabulary begins with the 256 bytes
    assert_eq!(home.run("debug tokenize -m TINY --file HERE/text.txt --bos").stdout, "[264,72,105]\n");
    assert_eq!(home.run_with("debug tokenize -m TINY --file -", "Hi", &[]).stdout, "[72,105]\n");
    home.write("latin.txt", b"\xe9");
    home.refuse("debug tokenize -m TINY --file HERE/latin.txt", 1, "not UTF-8 at byte 0", "iconv");
}

#[test]
fn bench_reports_every_test() {
    let home = Home::new();
    let outcome = home.run("bench -m TINY -p 16 -n 4 -r 3 --format json");
    assert_done(&outcome);
    let report = json(&outcome.stdout);
    let tests: Vec<_> = report["tests"].as_array().expect("a list").iter().map(|test| test["test"].clone()).collect();
    assert_eq!(tests, ["pp16", "tg4"]);
    for test in report["tests"].as_array().expect("a list") {
        assert_eq!(test["samples"].as_array().map(Vec::len), Some(3));
        let speed = |name: &str| test["tokens_per_second"][name].as_f64().expect("a number");
        assert!(speed("min") > 0.0 && speed("min") <= speed("median") && speed("median") <= speed("max"), "{test}");
    }
    assert!(report["load_ms"].as_f64().is_some_and(|time| time > 0.0));
    assert!(!cfg!(target_os = "linux") || report["peak_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    let table = home.run("bench -m TINY -p 8 -n 2 -r 1");
    assert_done(&table);
    assert!(table.stdout.starts_with("| model") && table.stdout.contains("pp8") && table.stdout.contains("tg2"));
}

#[test]
fn an_encoder_gives_the_tokens_of_transformers() {
    let home = Home::new();
    let at = |name: &str| data("encoders").join(name);
    for family in ["bert", "dinov2"] {
        let folder = home.path(family);
        std::fs::create_dir(&folder).expect("writable");
        std::fs::copy(at(&format!("{family}.json")), folder.join("config.json")).expect("copied");
        std::fs::copy(at(&format!("{family}.safetensors")), folder.join("model.safetensors")).expect("copied");
        let golden = at(&format!("{family}-golden.safetensors"));
        let input = if family == "bert" {
            let bytes = std::fs::read(&golden).expect("test data");
            let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
            let ids = file.tensor("ids").expect("ids").data();
            let ids: Vec<u32> = ids.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            format!("--ids {}", home.write("ids.json", serde_json::to_string(&ids).expect("JSON")))
        } else {
            format!("--pixels {}", shown(&golden))
        };
        let line = format!("debug encode --encoder HERE/{family} {input} --layers 0,2 --out HERE/tokens.safetensors");
        assert_done(&home.run(&line));
        let (found, wanted) = (read_tensors(&home.path("tokens.safetensors")), read_tensors(&golden));
        for name in ["last", "layer.0", "layer.2"] {
            let of = |tensors: &Tensors| {
                let (_, shape, values) = tensors.iter().find(|(found, ..)| found == name).expect(name);
                (shape.clone(), values.clone())
            };
            let ((shape, found), (wanted_shape, wanted)) = (of(&found), of(&wanted));
            assert_eq!(shape, wanted_shape);
            assert!(nmse(&found, &wanted) < 1e-11, "{family} {name}");
        }
    }
    let ids = home.write("two.json", "[7, 8]");
    let tokens = "--out HERE/x.safetensors";
    home.refuse(&format!("debug encode --encoder HERE/bert {tokens}"), 2, "--ids", "");
    home.refuse(
        &format!("debug encode --encoder HERE/dinov2 --ids {ids} {tokens}"),
        1,
        "text with an encoder of pictures",
        "",
    );
    home.refuse(
        &format!("debug encode --encoder HERE/bert --pixels {ids} {tokens}"),
        1,
        "no safetensors file",
        "write a",
    );
    home.refuse(&format!("debug encode --encoder HERE --ids {ids} {tokens}"), 1, "config.json", "check the spelling");
}
