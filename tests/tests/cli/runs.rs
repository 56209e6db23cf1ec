//! `finetune` where things go wrong or another way: what stops a run, what it goes on from, where it may be written.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

/// 24 short rows.
fn rows(home: &Home) {
    let line = |n: usize| format!("{{\"prompt\":\"say {n}\",\"completion\":\"well {}\"}}\n", n * 7);
    home.write("rows.jsonl", (0..24).map(line).collect::<String>());
    home.write("val.jsonl", (100..106).map(line).collect::<String>());
    home.write("other-val.jsonl", (200..206).map(line).collect::<String>());
}

const FLAGS: &str = "-m TINY --data HERE/rows.jsonl --batch-tokens 128 --lr 3e-2 --sample-tokens 0";

fn records(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    // A run that goes on may be writing its last line.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn of(folder: &Path, event: &str) -> Vec<Value> {
    records(folder).into_iter().filter(|record| record["event"] == event).collect()
}

fn steps(folder: &Path) -> usize {
    of(folder, "step").len()
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{error}: {}", path.display()))
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn spawn(home: &Home, line: &str) -> Child {
    let words = line.replace("TINY", &tiny("tiny-f32.gguf")).replace("HERE", &shown(home.0.path()));
    command(home.0.path()).args(words.split_whitespace()).spawn().expect("it starts")
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(100), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
fn another_model_is_another_run() {
    let home = Home::new();
    rows(&home);
    let model = home.path("model.gguf");
    std::fs::copy(tiny("tiny-q4_0.gguf"), &model).expect("copied");
    let flags = FLAGS.replace("TINY", "HERE/model.gguf");
    assert_done(&home.run(&format!("finetune {flags} --steps 4 --out HERE/run")));
    let last = bytes(&home.path("run/last.safetensors"));
    let log = bytes(&home.path("run/metrics.jsonl"));
    // The same file with other weights, of the same sizes: another quantization, and by name another file.
    std::fs::copy(tiny("tiny-q2_k.gguf"), &model).expect("copied");
    home.refuse("finetune --resume HERE/run", 1, "another model", "--out");
    home.refuse("finetune --resume HERE/run -m DATA/tiny-q8_0.gguf", 1, "another model", "--out");
    // One of its checkpoints is the run, too.
    home.refuse("finetune --resume HERE/run/checkpoint-00000004", 1, "another model", "--out");
    assert_eq!(bytes(&home.path("run/last.safetensors")), last, "not relabelled");
    assert_eq!(bytes(&home.path("run/metrics.jsonl")), log);
    std::fs::copy(tiny("tiny-q4_0.gguf"), &model).expect("copied");
    assert_done(&home.run("finetune --resume HERE/run"));
    assert_eq!(bytes(&home.path("run/last.safetensors")), last);
    // A checkpoint's adapter names its model as well.
    let kept = home.run("inspect HERE/run/checkpoint-00000004/adapter.safetensors");
    assert!(kept.stdout.contains("base_hash"), "{}", kept.stdout);
}

#[test]
fn other_settings_and_other_validation_rows_are_another_run() {
    let home = Home::new();
    rows(&home);
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 4 --val HERE/val.jsonl --out HERE/run")));
    let resume = "finetune --resume HERE/run";
    for (flags, what) in [
        ("--val HERE/other-val.jsonl", "another set of validation rows"),
        ("--f16", "another setting of f16: off there, on here"),
        ("--backend cpu", "another backend: wgpu there, cpu here"),
        ("--seed 9", "another seed"),
        ("--batch-tokens 64", "another"),
        ("--lr 1e-3", "another recipe: learning rate 0.03 there, learning rate 0.001 here"),
        ("--schedule constant", "another recipe: a cosine schedule there, a constant schedule here"),
        ("--max-grad-norm 0", "another recipe"),
        ("--adapter-len 5", "another adapter"),
        ("--gate scalar", "another adapter"),
        ("--data HERE/other-val.jsonl", "another data set"),
    ] {
        home.refuse(&format!("{resume} {flags}"), 1, what, "--out");
    }
    // What decides no number may differ.
    assert_done(&home.run(&format!("{resume} --save-every 2 --sample-tokens 2 --sample hello")));
}

#[test]
fn a_folder_in_use_is_refused() {
    let home = Home::new();
    rows(&home);
    let peft = home.path("peft");
    std::fs::create_dir(&peft).expect("made");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(format!("{}/peft/{name}", tiny("")), peft.join(name)).expect("copied");
    }
    std::fs::copy(tiny("adapter-paper.safetensors"), home.path("mine.safetensors")).expect("copied");
    home.write("models/model.gguf", bytes(Path::new(&tiny("tiny-f32.gguf"))));
    home.write("notes/adapter.safetensors", bytes(&home.path("mine.safetensors")));
    home.write("log/metrics.jsonl", "{}\n");
    home.write("config/config.toml", "[build]\njobs = 2\n");
    let before: Vec<_> = ["peft", "models", "notes", "log", "config"].map(|name| names(&home.path(name))).into();
    for (flags, out, found) in [
        ("--adapter HERE/peft", "peft", "adapter_config.json, adapter_model.safetensors"),
        ("", "peft", "adapter_config.json"),
        ("--adapter HERE/mine.safetensors --gate paper", "mine.safetensors", "it is a file"),
        ("", "rows.jsonl", "it is a file"),
        ("-m HERE/models/model.gguf", "models", "model.gguf"),
        ("", "notes", "adapter.safetensors"),
        ("--adapter HERE/notes/adapter.safetensors --gate paper", "notes", "adapter.safetensors"),
        ("", "log", "metrics.jsonl"),
        ("", "config", "config.toml"),
        ("", "", "and "),
    ] {
        let flags = if flags.starts_with("-m") { FLAGS.replace("-m TINY", flags) } else { format!("{FLAGS} {flags}") };
        home.refuse(&format!("finetune {flags} --steps 2 --out HERE/{out}"), 1, found, "--out");
    }
    let after: Vec<_> = ["peft", "models", "notes", "log", "config"].map(|name| names(&home.path(name))).into();
    assert_eq!(before, after);
    // Folders above that are not there are made, and what a system leaves in an empty one is no content.
    home.write("empty/.DS_Store", "");
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 2 --out HERE/empty")));
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 2 --out HERE/deep/er/run")));
    // Nothing is left of a start that fails.
    let nowhere = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    let outcome = home.run_with(&format!("finetune {FLAGS} --steps 2 --out HERE/a/b"), "", &nowhere);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(!home.path("a").exists());
}

#[cfg(unix)]
#[test]
fn a_run_that_ended_before_its_first_checkpoint_may_begin_anew() {
    let home = Home::new();
    rows(&home);
    let line = format!("finetune {FLAGS} --steps 300 --val HERE/val.jsonl --validate-every 300 --out HERE/run");
    let out = home.path("run");
    for again in [format!("{line} --steps 3"), "finetune --resume HERE/run --steps 3 --warmup 0".to_owned()] {
        let mut child = spawn(&home, &line);
        wait("three steps", || steps(&out) >= 3);
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(!out.join("adapter.safetensors").exists());
        let again = again.replace("--steps 300 ", "");
        let outcome = home.run(&again);
        assert_done(&outcome);
        assert_eq!(steps(&out), 3, "the old log is gone");
        assert!(again.contains("--out") || outcome.stdout.contains("begins anew"), "{}", outcome.stdout);
        std::fs::remove_dir_all(&out).expect("removed");
    }
}

#[test]
fn the_adapter_it_began_with_is_not_needed_to_go_on() {
    let home = Home::new();
    rows(&home);
    std::fs::copy(tiny("adapter-linear.safetensors"), home.path("first.safetensors")).expect("copied");
    let line = format!("finetune {FLAGS} --steps 4 --adapter HERE/first.safetensors --gate linear --out HERE/run");
    assert_done(&home.run(&line));
    let last = bytes(&home.path("run/last.safetensors"));
    std::fs::remove_file(home.path("first.safetensors")).expect("removed");
    assert_done(&home.run("finetune --resume HERE/run"));
    assert_eq!(bytes(&home.path("run/last.safetensors")), last);
}

/// Signals and what they mean to whoever started the program: 128 and their number.
#[cfg(unix)]
#[test]
fn whatever_ends_it_is_saved() {
    let home = Home::new();
    rows(&home);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        if name == "HUP" && hangups_are_ignored() {
            eprintln!("these tests were started with nohup: programs they start outlive a hangup, as they should");
            continue;
        }
        let out = home.path(name);
        let line = format!("finetune {FLAGS} --steps 2000 --val-split 0 --save-every 2000 --out HERE/{name}");
        let child = spawn(&home, &line);
        wait("three steps", || steps(&out) >= 3);
        signal(&child, name);
        let outcome = finish(child);
        assert_eq!(outcome.code, Some(code), "{name}: {}\n{}", outcome.stdout, outcome.stderr);
        assert_resumable(&home, &out);
    }
    // `| head`
    let line = format!("finetune {FLAGS} --steps 2000 --val-split 0 --save-every 2000 --json --out HERE/head");
    let mut child = spawn(&home, &line);
    let out = home.path("head");
    wait("three steps", || steps(&out) >= 3);
    drop(child.stdout.take());
    let outcome = finish(child);
    assert_eq!(outcome.code, Some(141), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("the output was closed") && outcome.stderr.contains("--resume"),
        "{}",
        outcome.stderr
    );
    assert_resumable(&home, &out);
}

/// Whether this process was started with SIGHUP ignored, which what it starts inherits.
#[cfg(unix)]
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// All steps of the log are in a checkpoint, the last adapter is there, and the run goes on.
#[cfg(unix)]
#[track_caller]
fn assert_resumable(home: &Home, out: &Path) {
    let done = steps(out);
    assert!((3..2000).contains(&done), "{done} steps");
    assert_eq!(of(out, "end").len(), 1);
    assert!(out.join(format!("checkpoint-{done:08}/complete")).is_file(), "{:?}", names(out));
    // Nothing was validated: the adapter to use is the last one.
    assert_eq!(bytes(&out.join("adapter.safetensors")), bytes(&out.join("last.safetensors")));
    let mut child = spawn(home, &format!("finetune --resume {}", shown(out)));
    wait("another step", || steps(out) > done + 2);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let numbers: Vec<u64> = of(out, "step").iter().map(|step| step["step"].as_u64().expect("a number")).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
}

#[cfg(unix)]
#[test]
fn it_stops_in_the_middle_of_whatever_it_does() {
    let home = Home::new();
    rows(&home);
    let line = |n: usize| format!("{{\"prompt\":\"say {n}\",\"completion\":\"well {}\"}}\n", n * 7);
    home.write("many.jsonl", (100..6000).map(line).collect::<String>());
    home.write("some.jsonl", (100..400).map(line).collect::<String>());
    // (what goes on, flags, the record after which it goes on)
    for (name, flags, event) in [
        // The model's own answer, before the first step.
        ("sample", "--val-split 0 SAMPLES", None),
        ("sample-after-validation", "--val HERE/val.jsonl --validate-every 2 SAMPLES", Some("sample")),
        ("validation", "--val HERE/many.jsonl --batch-tokens 32", None),
        ("validation-after-steps", "--val HERE/some.jsonl --validate-every 1 --batch-tokens 32", Some("eval")),
    ] {
        let out = home.path(name);
        let samples = format!("{} --sample-tokens 40", "--sample hello ".repeat(60));
        let base = match name.starts_with("validation") {
            true => FLAGS.replace("--batch-tokens 128", ""),
            false => FLAGS.replace("--sample-tokens 0", ""),
        };
        let flags = format!("{base} {}", flags.replace("SAMPLES", &samples));
        let child = spawn(&home, &format!("finetune {flags} --steps 2000 --save-every 2000 --out HERE/{name}"));
        wait(name, || match event {
            Some(event) => !of(&out, event).is_empty(),
            None => out.join("metrics.jsonl").is_file(),
        });
        std::thread::sleep(Duration::from_millis(200));
        signal(&child, "INT");
        let start = Instant::now();
        let outcome = finish(child);
        assert_eq!(outcome.code, Some(130), "{name}: {}\n{}", outcome.stdout, outcome.stderr);
        assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
        assert!(outcome.stdout.contains("go on with: adapter-cli finetune --resume"), "{name}: {}", outcome.stdout);
        let done = steps(&out);
        assert!(
            done < 100 && out.join(format!("checkpoint-{done:08}/complete")).is_file(),
            "{name}: {:?}",
            names(&out)
        );
    }
}

/// Whenever it comes: nothing is left, or a run that goes on, or one that may begin anew.
#[cfg(unix)]
#[test]
fn a_stop_while_it_loads_leaves_nothing_that_is_in_the_way() {
    let home = Home::new();
    rows(&home);
    for delay in [20, 60, 120, 250, 500, 1000] {
        let child = spawn(&home, &format!("finetune {FLAGS} --steps 2000 --val-split 0 --out HERE/run"));
        std::thread::sleep(Duration::from_millis(delay));
        signal(&child, "INT");
        let outcome = finish(child);
        // Before the program looks after signals the system ends it.
        assert!(matches!(outcome.code, Some(130) | None), "{delay} ms: {:?}\n{}", outcome.code, outcome.stderr);
        let out = home.path("run");
        let again = if steps(&out) > 0 || out.join("checkpoint-00000000").is_dir() {
            home.run("finetune --resume HERE/run --dry-run")
        } else {
            home.run(&format!("finetune {FLAGS} --steps 2 --val-split 0 --out HERE/run"))
        };
        assert_done(&again);
        std::fs::remove_dir_all(&out).unwrap_or_default();
    }
}

#[test]
fn the_final_loss_is_that_of_the_last_steps() {
    let home = Home::new();
    rows(&home);
    let outcome = home.run(&format!("finetune {FLAGS} --steps 10 --out HERE/run"));
    assert_done(&outcome);
    let losses: Vec<f64> =
        of(&home.path("run"), "step").iter().map(|step| step["loss"].as_f64().expect("finite")).collect();
    // Weights 0.9^0, 0.9^1, ... from the last step back: Kingma and Ba's bias correction of a mean with a memory of 0.9.
    let weights = |n: usize| (0..n).map(|age| 0.9f64.powi(age as i32));
    let wanted = losses.iter().rev().zip(weights(10)).map(|(loss, weight)| loss * weight).sum::<f64>()
        / weights(10).sum::<f64>();
    let end = of(&home.path("run"), "end");
    assert!((end[0]["loss"].as_f64().expect("a loss") - wanted).abs() < 1e-9, "{end:?} {wanted}");
    assert!(outcome.stdout.contains(&format!("final loss {wanted:.4}")), "{wanted}: {}", outcome.stdout);
    assert!(wanted < losses[0] - 0.2, "{losses:?}");
}

#[test]
fn settings_that_no_run_can_have_are_refused_before_anything_is_loaded() {
    let home = Home::new();
    rows(&home);
    for dry in ["", "--dry-run"] {
        for (flags, sentence) in [
            ("--adapter-len 1000", "--adapter-len is 1000, it must be 1 to 256"),
            ("--adapter-len 4000000000", "--adapter-len is 4000000000"),
            ("--batch-tokens 4000000000", "--batch-tokens is 4000000000, it must be 2 to 65536"),
            ("--batch-tokens 70000", "--batch-tokens is 70000"),
            ("--val-split 0 --patience 2", "--patience is 2, it must be left out: there are no validation rows"),
            ("--f16 --backend cpu", "--backend cpu computes in f32"),
            ("--sample-tokens 4 --sample LONG", "--sample is"),
            ("--max-grad-norm=-1", "--max-grad-norm is -1"),
            ("--weight-decay 2", "--weight-decay is 2"),
        ] {
            let flags = flags.replace("LONG", &"word,".repeat(400));
            let flags = if flags.contains("--batch-tokens") {
                FLAGS.replace("--batch-tokens 128", &flags)
            } else {
                format!("{FLAGS} {flags}")
            };
            let flags = if flags.matches("--sample-tokens").count() > 1 {
                flags.replace("--sample-tokens 0 ", "")
            } else {
                flags
            };
            home.refuse(&format!("finetune {flags} --steps 2 --out HERE/run {dry}"), 2, sentence, "");
            assert!(!home.path("run").exists(), "{flags}");
        }
        // A row is cut to what a batch takes, unless more is asked for than that.
        home.write("long.jsonl", format!("{{\"prompt\":\"x\",\"completion\":\"{}\"}}\n", "word ".repeat(100)));
        let flags = FLAGS
            .replace("rows.jsonl", "long.jsonl")
            .replace("--batch-tokens 128", "--batch-tokens 32 --max-tokens 64");
        home.refuse(
            &format!("finetune {flags} --val-split 0 --steps 2 --out HERE/run {dry}"),
            1,
            "a batch has room for 32",
            "batch",
        );
    }
}

#[test]
fn rows_that_no_chat_can_hold_are_noted_and_not_asked() {
    let home = Home::new();
    let long = "word ".repeat(80);
    let line = |n: usize| {
        format!("{{\"prompt\":\"say {n} {}\",\"completion\":\"well\"}}\n", if n.is_multiple_of(2) { &long } else { "" })
    };
    home.write("rows.jsonl", (0..12).map(line).collect::<String>());
    let flags = "-m TINY --data HERE/rows.jsonl --batch-tokens 2048 --steps 1 --val-split 0 --sample-tokens 2";
    let outcome = home.run(&format!("finetune {flags} --out HERE/run"));
    assert_done(&outcome);
    assert!(outcome.stdout.contains("6 rows with more tokens than the model's context of 128"), "{}", outcome.stdout);
    let asked = of(&home.path("run"), "sample");
    assert!(
        !asked.is_empty() && asked.iter().all(|sample| sample["prompt"].as_str().is_some_and(|text| text.len() < 100))
    );
    // All too long: nothing is asked, and the run is made.
    home.write("rows.jsonl", line(0) + &line(2));
    let outcome = home.run(&format!("finetune {flags} --out HERE/other"));
    assert_done(&outcome);
    assert!(of(&home.path("other"), "sample").is_empty());
}

#[test]
fn an_adapter_inside_the_model_is_not_passed_over_in_silence() {
    let home = Home::new();
    rows(&home);
    assert_done(&home.run("merge -m TINY -a DATA/adapter-paper.safetensors --gate paper --out HERE/merged.gguf"));
    let flags = FLAGS.replace("TINY", "HERE/merged.gguf");
    let outcome = home.run(&format!("finetune {flags} --steps 1 --out HERE/run"));
    assert_done(&outcome);
    let flag = format!("--adapter {}", shown(&home.path("merged.gguf")));
    assert!(outcome.stderr.starts_with("warning: ") && outcome.stderr.contains(&flag), "{}", outcome.stderr);
    // What it says can be done.
    let outcome = home.run(&format!("finetune {flags} {flag} --steps 1 --out HERE/on"));
    assert_done(&outcome);
    assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
    assert!(of(&home.path("on"), "step")[0]["loss"] != of(&home.path("run"), "step")[0]["loss"]);
}

#[test]
fn a_loss_that_is_not_finite_is_never_the_best_and_divergence_has_a_way_out() {
    let home = Home::new();
    rows(&home);
    // Keys so long that the scores overflow; the gates are open.
    let tensors: Tensors = vec![
        ("prompts".to_owned(), vec![3, 10, 256], vec![3e38; 3 * 10 * 256]),
        ("gates".to_owned(), vec![3, 4], vec![1.0; 3 * 4]),
    ];
    home.write("huge.safetensors", safetensors_of(&tensors));
    let start = "--adapter HERE/huge.safetensors --gate paper --val HERE/val.jsonl";
    let outcome = home.run(&format!("finetune {FLAGS} --steps 9 --out HERE/run {start}"));
    assert_eq!(outcome.code, Some(1), "{}\n{}", outcome.stdout, outcome.stderr);
    let eval = &of(&home.path("run"), "eval")[0];
    assert!(eval["val_loss"].is_null() && eval["best"] == false, "{eval}");
    let hint = outcome.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).expect("a hint");
    let (_, command) = hint.split_once("adapter-cli ").expect("a command");
    assert!(command.contains("--out ") && command.contains("--lr 0.015"), "{command}");
    // It can be followed: another run, which begins as this one did.
    let again = home.run(command);
    assert_eq!(again.code, Some(1), "{}\n{}", again.stdout, again.stderr);
    assert!(again.stderr.contains("3 steps in a row"), "{}", again.stderr);
    assert!(home.path("run-again/config.toml").is_file());
}

#[test]
fn a_resume_that_fails_leaves_the_log_alone() {
    let home = Home::new();
    rows(&home);
    assert_done(&home.run(&format!("finetune {FLAGS} --steps 4 --out HERE/run")));
    let log = home.path("run/metrics.jsonl");
    // As after a kill: a step that no checkpoint has, and half a line.
    let torn = String::from_utf8(bytes(&log)).expect("text")
        + "{\"event\":\"eval\",\"step\":9,\"val_loss\":1.0,\"val_ppl\":2.0,\"best\":false}\n{\"event\":\"st";
    std::fs::write(&log, &torn).expect("written");
    let nowhere = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    assert_eq!(home.run_with("finetune --resume HERE/run", "", &nowhere).code, Some(1));
    home.refuse("finetune --resume HERE/run --lr 1e-3", 1, "another recipe", "");
    assert_done(&home.run("finetune --resume HERE/run --dry-run"));
    assert_eq!(bytes(&log), torn.as_bytes());
    assert_done(&home.run("finetune --resume HERE/run"));
    assert!(of(&home.path("run"), "eval").iter().all(|eval| eval["step"] != 9));
}

#[test]
fn printed_commands_can_be_pasted_into_a_shell() {
    let home = Home::new();
    rows(&home);
    let model: PathBuf = home.path("my models/it's tiny.gguf");
    std::fs::create_dir_all(model.parent().expect("a folder")).expect("made");
    std::fs::copy(tiny("tiny-q4_0.gguf"), &model).expect("copied");
    let mut run = command(home.0.path());
    run.args(["finetune", "-m"]).arg(&model).arg("--data").arg(home.path("rows.jsonl"));
    run.args(["--steps", "2", "--batch-tokens", "128", "--sample-tokens", "0", "--out"]).arg(home.path("my $runs/a b"));
    let outcome = finish(run.spawn().expect("it starts"));
    assert_done(&outcome);
    let line = outcome.stdout.lines().find(|line| line.contains("adapter-cli chat")).expect("what to do next");
    // The shell's words of it.
    let script = format!("for word in {}; do printf '%s\\n' \"$word\"; done", line.trim());
    let words = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let words = String::from_utf8(words.stdout).expect("text");
    let wanted = format!("adapter-cli\nchat\n-m\n{}\n-a\n{}\n", shown(&model), shown(&home.path("my $runs/a b")));
    assert_eq!(words, wanted);
    home.refuse(&format!("finetune {FLAGS} --set na\u{7}me --out HERE/x"), 2, "--set is na\\u{7}me", "name=Nova");
}
