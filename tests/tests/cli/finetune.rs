//! `finetune`: what it leaves, that it goes on exactly, and what it refuses.

use std::path::Path;
use std::time::{Duration, Instant};

use adapter_tests::tensor;
use serde_json::Value;

use crate::support::*;

/// Short rows; two of them cannot be used.
fn rows(home: &Home) -> String {
    let mut text: String =
        (0..24).map(|n| format!("{{\"prompt\":\"say {n}\",\"completion\":\"well {}\"}}\n", n * 7)).collect();
    text += "{\"prompt\":\"no answer\"}\n{\"prompt\":\"half a row\n";
    home.write("rows.jsonl", text)
}

const FLAGS: &str = "-m TINY --data HERE/rows.jsonl --batch-tokens 128 --lr 3e-2 --sample-tokens 0";

fn records(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// The loss of every step as it stands in the file.
fn losses(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("metrics");
    let steps = records(&text).into_iter().filter(|record| record["event"] == "step");
    steps.map(|record| record["loss"].to_string()).collect()
}

#[test]
fn a_run_learns_and_leaves_all_that_belongs_to_it() {
    let home = Home::new();
    rows(&home);
    let flags = "-m TINY --data HERE/rows.jsonl --batch-tokens 128 --lr 3e-2 --sample-tokens 4 --sample hello";
    let outcome = home.run(&format!("finetune {flags} --steps 24 --out HERE/run --json"));
    assert_done(&outcome);
    let said = records(&outcome.stdout);
    let of = |event: &str| said.iter().filter(|record| record["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("step").len(), 24);
    let validation: Vec<f64> = of("eval").iter().map(|record| record["val_loss"].as_f64().expect("a loss")).collect();
    assert!(validation.last() < validation.first().map(|first| first - 1.0).as_ref(), "{validation:?}");
    assert!(
        of("sample").iter().any(|record| record["step"] == 0) && of("sample").iter().any(|record| record["step"] == 24)
    );
    assert_eq!(of("end")[0]["reason"], "done");
    let words = [
        "26 prompt/completion rows",
        "2 rows skipped",
        "line 25: `completion` is missing",
        "5,128 parameters learn",
        "final loss",
    ];
    for word in words {
        assert!(outcome.stderr.contains(word), "{word}\n{}", outcome.stderr);
    }
    let run = home.path("run");
    for name in ["adapter.safetensors", "last.safetensors", "config.toml", "metrics.jsonl", "loss.svg", "gates.svg"] {
        assert!(run.join(name).is_file(), "{name}");
    }
    assert_eq!(records(&std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics")), said);
    let kept = of("checkpoint").pop().and_then(|record| record["path"].as_str()).expect("a checkpoint");
    assert!(run.join(kept).join("complete").is_file(), "{kept}");
    let inspected = home.run("inspect HERE/run/adapter.safetensors");
    assert!(inspected.stdout.contains("base_hash") && inspected.stdout.contains("per_head"), "{}", inspected.stdout);

    // The folder itself is an adapter, and a part of a run is no place for another one.
    assert_done(&home.run("generate -m TINY -a HERE/run -p hello -n 2"));
    home.refuse(&format!("finetune {flags} --out HERE/run"), 1, "there is a run in the folder", "--resume");
    // A gate a head is more than PEFT can hold.
    home.refuse(
        "export -m TINY -a HERE/run --to peft --out HERE/peft",
        1,
        "PEFT cannot hold this adapter",
        "train with --gate",
    );

    // Settings that were used, given as a file, are the same run.
    let again = home.run("finetune --config HERE/run/config.toml --out HERE/again");
    assert_done(&again);
    assert_eq!(losses(&run), losses(&home.path("again")));
    let bytes = |folder: &str| std::fs::read(home.path(folder).join("adapter.safetensors")).expect("an adapter");
    assert_eq!(bytes("run"), bytes("again"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_resume_goes_on_bit_for_bit() {
    let home = Home::new();
    rows(&home);
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 30 --out HERE/whole")));
    let out = home.path("part");
    let words = format!("finetune {FLAGS} --steps 30 --out {}", shown(&out));
    let words = words.replace("TINY", &tiny("tiny-f32.gguf")).replace("HERE", &shown(home.0.path()));
    let child = command(home.0.path()).args(words.split_whitespace()).spawn().expect("it starts");
    let start = Instant::now();
    while !out.join("metrics.jsonl").is_file() || losses(&out).len() < 4 {
        assert!(start.elapsed() < Duration::from_secs(100), "no fourth step");
        std::thread::sleep(Duration::from_millis(5));
    }
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signal.is_ok_and(|status| status.success()));
    let outcome = finish(child);
    assert_eq!(outcome.code, Some(130), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("go on with: adapter-cli finetune --resume"), "{}", outcome.stdout);
    let done = losses(&out).len();
    assert!((4..30).contains(&done), "{done} steps");

    // Other rows, another rate: another run.
    home.refuse("finetune --resume HERE/part --lr 1e-3", 1, "another recipe", "--out");
    home.refuse("finetune --resume HERE/part --seed 9", 1, "another", "--out");
    assert_done(&home.run("finetune --resume HERE/part"));
    assert_eq!(losses(&out), losses(&home.path("whole")));
    let bytes = |name: &str| std::fs::read(home.path(name).join("last.safetensors")).expect("an adapter");
    assert_eq!(bytes("part"), bytes("whole"));
    home.refuse("finetune --resume DATA/peft", 1, "no run to go on with", "--adapter");
}

#[test]
fn pefts_own_folder_trains_on_and_goes_back() {
    let home = Home::new();
    rows(&home);
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 4 --adapter DATA/peft --out HERE/run")));
    assert_done(&home.run("export -m TINY -a HERE/run --to peft --out HERE/back"));
    let name = "base_model.model.model.layers.1.self_attn.adaption_gate";
    let gate = |path: &Path| {
        let tensors = read_tensors(path);
        tensors.into_iter().find(|(found, ..)| found == name).map(|(_, _, values)| values)
    };
    let after = gate(&home.path("back/adapter_model.safetensors")).expect("a gate");
    let before = tensor("tiny-llama/peft/adapter_model.safetensors", name);
    assert!(after.iter().zip(&before).all(|(a, b)| a != b && (a - b).abs() < 0.2), "{before:?} {after:?}");
}

#[test]
fn without_any_gpu_driver_it_trains_the_same() {
    let home = Home::new();
    rows(&home);
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 5 --val-split 0 --out HERE/gpu")));
    let line = format!("finetune {FLAGS} --steps 5 --val-split 0 --out HERE/cpu --backend cpu");
    let nowhere = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    assert_done(&home.run_with(&line, "", &nowhere));
    let numbers = |name: &str| -> Vec<f64> {
        losses(&home.path(name)).iter().map(|loss| loss.parse().expect("a number")).collect()
    };
    let (gpu, cpu) = (numbers("gpu"), numbers("cpu"));
    assert_eq!(gpu.len(), 5);
    assert!(gpu.iter().zip(&cpu).all(|(a, b)| (a - b).abs() < 1e-3), "{gpu:?} {cpu:?}");
    // Nothing was kept for measuring: what is there is the last one.
    assert!(home.path("cpu/adapter.safetensors").is_file());
}

#[test]
fn numbers_that_are_not_finite_end_the_run() {
    let home = Home::new();
    rows(&home);
    // Keys so long that the scores overflow; the gates are open.
    let tensors: Tensors = vec![
        ("prompts".to_owned(), vec![3, 10, 256], vec![3e38; 3 * 10 * 256]),
        ("gates".to_owned(), vec![3, 4], vec![1.0; 3 * 4]),
    ];
    home.write("huge.safetensors", safetensors_of(&tensors));
    let line =
        format!("finetune {FLAGS} --steps 9 --val-split 0 --out HERE/run --adapter HERE/huge.safetensors --gate paper");
    let outcome = home.run(&line);
    assert_eq!(outcome.code, Some(1), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(
        outcome.stderr.contains("3 steps in a row gave no finite") && outcome.stderr.contains("hint: "),
        "{}",
        outcome.stderr
    );
    let text = std::fs::read_to_string(home.path("run/metrics.jsonl")).expect("metrics");
    let end = records(&text).pop().expect("an end");
    assert!(end["event"] == "end" && end["reason"].as_str().is_some_and(|reason| reason.contains("3 steps in a row")));
    assert!(!home.path("run/adapter.safetensors").exists(), "nothing was learnt");
}

#[test]
fn it_says_beforehand_what_it_will_do() {
    let home = Home::new();
    rows(&home);
    let outcome = home.run(&format!("finetune {FLAGS} --dry-run --out HERE/run"));
    assert_done(&outcome);
    for word in [
        "26 prompt/completion rows",
        "5,128 parameters learn (0.203 %)",
        "GPU memory: ",
        "weights",
        "steps of up to 128",
    ] {
        assert!(outcome.stdout.contains(word), "{word}\n{}", outcome.stdout);
    }
    assert!(!home.path("run").exists() && !outcome.stdout.contains("rounding"));
    let rounded = home.run(&format!("finetune {FLAGS} --f16 --dry-run --out HERE/run"));
    assert_done(&rounded);
    assert!(rounded.stdout.contains("rounding "), "{}", rounded.stdout);
    let refused = home.run(&format!("finetune {FLAGS} --f16 --backend cpu --out HERE/run"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--backend cpu computes in f32") && refused.stderr.contains("hint: "));
    let shown = home.run(&format!("finetune {FLAGS} --show-sample 2"));
    assert_done(&shown);
    assert!(shown.stdout.contains("row 2: ") && shown.stdout.matches('[').count() == 2, "{}", shown.stdout);
    let printed = home.run(&format!("finetune {FLAGS} --steps 7 --gate scalar --print-config"));
    assert_done(&printed);
    home.write("run.toml", &printed.stdout);
    // Flags win over the file.
    let other = home.run("finetune --config HERE/run.toml --adapter-len 3 --print-config");
    assert_eq!(other.stdout, printed.stdout.replace("adapter-len = 10", "adapter-len = 3"));
    home.write("wrong.toml", "rate = 3\n");
    home.refuse("finetune --config HERE/wrong.toml", 1, "rate", "--print-config");
}

/// The template that was trained travels with the adapter through every form, and is what it is asked with.
#[test]
fn an_adapter_is_asked_with_the_template_it_was_trained_with() {
    let home = Home::new();
    rows(&home);
    let trained = home.run(&format!("finetune {FLAGS} --template zephyr --gate peft --steps 2 --out HERE/run"));
    assert_done(&trained);
    assert!(trained.stdout.contains("chat template zephyr, kept with the adapter"), "{}", trained.stdout);
    for line in [
        "merge -m TINY -a HERE/run --out HERE/merged.gguf",
        "export -m TINY -a HERE/run --to peft --out HERE/peft",
        "export -m TINY -a HERE/run --to gguf --out HERE/alone.gguf",
        "export -m TINY -a HERE/peft --to safetensors --out HERE/again.safetensors",
    ] {
        assert_done(&home.run(line));
    }
    let asked = |flags: &str| {
        let outcome = home.run(&format!("generate -p hello --greedy -n 4 --json {flags}"));
        assert_done(&outcome);
        let answer = json(&outcome.stdout);
        (
            answer["prompt_tokens"].as_u64(),
            answer["text"].clone(),
            outcome.stderr.contains("the chat template zephyr, which is used"),
        )
    };
    let (tokens, text, _) = asked("-m TINY -a HERE/run --template zephyr");
    assert_ne!(asked("-m TINY -a none").0, tokens, "the model's own template is another one");
    for flags in [
        "-m TINY -a HERE/run",
        "-m TINY -a HERE/peft",
        "-m TINY -a HERE/alone.gguf",
        "-m TINY -a HERE/again.safetensors",
        "-m HERE/merged.gguf",
    ] {
        assert_eq!(asked(flags), (tokens, text.clone(), true), "{flags}");
    }
    // A person's word wins, and without the adapter there is no template of it.
    for flags in ["-m TINY -a HERE/run --template chatml", "-m HERE/merged.gguf -a none"] {
        let (other, _, noted) = asked(flags);
        assert!(other != tokens && !noted, "{flags}");
    }
    // Switched in a chat, and said.
    let chat =
        home.run_with("chat -m TINY -a HERE/run --greedy -n 2", "hello\n/adapter off\nhello\n/adapter on\n", &[]);
    assert_done(&chat);
    let said = |part: &str| format!("{}{}", chat.stdout, chat.stderr).matches(part).count();
    assert_eq!(
        (said("the chat template zephyr, which is used"), said("the model's own again")),
        (2, 1),
        "{}",
        chat.stderr
    );
    let inspected = home.run("inspect HERE/run");
    assert!(inspected.stdout.contains("Trained with the chat template zephyr"), "{}", inspected.stdout);
    // Trained on, it asks as before.
    let more = home.run(&format!("finetune {FLAGS} --adapter HERE/run --steps 1 --out HERE/more"));
    assert_done(&more);
    assert!(more.stdout.contains("chat template zephyr, kept with the adapter"), "{}", more.stdout);
}

/// What data sets say beside questions and answers is read or named, whatever the door.
#[test]
fn fields_that_are_not_read_are_named_before_training() {
    let home = Home::new();
    home.write(
        "rows.jsonl",
        r#"{"system":"Answer in French.","messages":[{"role":"user","content":"Weather?","name":"Ann"},{"role":"assistant","content":"Look.","tool_calls":[{"id":"1"}]}],"tools":[{"type":"function"}],"label":true}
{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Banana","weight":0},{"role":"user","content":"Again"},{"role":"assistant","content":"Blue</s>","weight":1}]}
{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Bad"}],"label":false}
"#,
    );
    let flags =
        "finetune -m TINY --data HERE/rows.jsonl --template chatml --val-split 0 --max-tokens 400 --batch-tokens 400";
    let outcome = home.run(&format!("{flags} --dry-run --out HERE/run"));
    assert_done(&outcome);
    for line in [
        "1 row left out, as they are marked as not to be learnt (weight 0, train false or label false)",
        "1 row in which control tokens are spelled as letters",
        "fields that are not read: messages[].name (1 row), messages[].tool_calls (1 row), tools (1 row)",
    ] {
        assert!(outcome.stdout.lines().any(|found| found.starts_with(line)), "{line}\n{}", outcome.stdout);
    }
    let outcome = home.run(&format!("{flags} --dry-run --json --out HERE/run"));
    assert_done(&outcome);
    let data =
        records(&outcome.stdout).into_iter().find(|record| record["event"] == "data").expect("a record of the rows");
    assert_eq!(
        (data["file"]["unread"]["tools"].as_u64(), data["file"]["left_out"].as_u64()),
        (Some(1), Some(1)),
        "{data}"
    );
    let shown = home.run(&format!("{flags} --show-sample 2"));
    assert_done(&shown);
    // The tiny vocabulary has no ChatML token: only what ends an answer in it is a control token.
    assert!(
        shown.stdout.contains("system\nAnswer in French.") && !shown.stdout.contains("[Banana"),
        "{}",
        shown.stdout
    );

    // Above half of the rows cannot be used.
    home.write("bad.jsonl", "{\"prompt\":\"x\",\"completion\":\"y\"}\n{\"prompt\":\"x\"}\n{\"prompt\":\"x\"}\n");
    let sentence = "2 of 3 rows cannot be used (2 field missing); the first: line 2: `completion` is missing";
    home.refuse("finetune -m TINY --data HERE/bad.jsonl --dry-run", 1, sentence, "prompt, completion");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let home = Home::new();
    rows(&home);
    home.write("bad.jsonl", "{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}\n");
    home.refuse("finetune -m TINY", 2, "no rows", "--data");
    home.refuse("finetune -m TINY --data HERE/none.jsonl", 1, "none.jsonl", "path");
    home.refuse("finetune -m TINY --data HERE/bad.jsonl", 1, "bad.jsonl", "");
    home.refuse(&format!("finetune {FLAGS} --strict --out HERE/x"), 1, "line 25", "");
    home.refuse("finetune -m TINY --data HERE/rows.jsonl --lr 7", 2, "--lr is 7", "--help");
    home.refuse("finetune -m TINY --data HERE/rows.jsonl --epochs 0", 2, "--epochs is 0", "");
    home.refuse("finetune -m TINY --data HERE/rows.jsonl --steps 5 --warmup 5", 2, "--warmup is 5", "--help");
    home.refuse("finetune -m TINY --data HERE/rows.jsonl --adapter-layers 5", 2, "--adapter-layers 5", "at most 4");
    home.refuse("finetune -m TINY --data HERE/rows.jsonl --set name", 2, "--set", "name=Nova");
}

#[test]
fn gradients_are_written_as_float64_has_them() {
    let home = Home::new();
    let ids = tiny("base.json");
    for kind in ["paper", "linear", "peft"] {
        let line = format!(
            "debug gradients -m TINY --ids {ids} --first-target 17 -a DATA/adapter-{kind}.safetensors --gate {kind} --out HERE/{kind}"
        );
        assert_done(&home.run(&line));
        for (name, _, found) in read_tensors(&home.path(kind)) {
            let wanted = tensor(&format!("tiny-llama/golden-{kind}.safetensors"), &name);
            let square = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            let apart: Vec<f32> = found.iter().zip(&wanted).map(|(a, b)| a - b).collect();
            assert!((square(&apart) / square(&wanted)).sqrt() < 1e-4, "{kind} {name}");
        }
    }
}
