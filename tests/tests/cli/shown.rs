//! What is shown: files, GPUs, help.

use std::time::Duration;

use adapter_engine::formats::{GgufDataWriter, GgufWriter};
use adapter_engine::ops::matmul::Slot;

use crate::support::*;

#[test]
fn inspect_shows_models_and_where_broken_ones_break() {
    let home = Home::new();
    let outcome = home.run("inspect DATA/tiny-q4_k.gguf");
    assert_done(&outcome);
    for wanted in
        ["llama.block_count", "320 in all", "blk.3.ffn_down.weight", "Q4_K", "bits a weight", "Runs here: 4 layers"]
    {
        assert!(outcome.stdout.contains(wanted), "{wanted} in\n{}", outcome.stdout);
    }
    let whole = std::fs::read(tiny("tiny-q4_k.gguf")).expect("test data");
    home.write("cut.gguf", &whole[..whole.len() / 2]);
    let outcome = home.run("inspect HERE/cut.gguf");
    assert_refused(&outcome, "inspect cut", 1, "reading stopped at byte", "incomplete");
    assert!(outcome.stdout.contains("llama.block_count") && outcome.stdout.contains("blk.3"), "{}", outcome.stdout);
    let outcome = home.run_with(
        "inspect DATA/tiny-q4_k.gguf",
        "",
        &[("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")],
    );
    assert_done(&outcome); // needs no GPU
    home.write("bert.gguf", other_architecture());
    let outcome = home.run("inspect HERE/bert.gguf");
    assert_done(&outcome);
    assert!(outcome.stdout.contains("Does not run here") && outcome.stdout.contains("bert"), "{}", outcome.stdout);
}

#[test]
fn inspect_shows_adapters() {
    let home = Home::new();
    let outcome = home.run("inspect DATA/peft");
    assert_done(&outcome);
    assert!(outcome.stdout.contains("peft gates, 3 layers, 10 prompt tokens of 256 channels"), "{}", outcome.stdout);
    assert_done(&home.run("inspect DATA/adapter-paper.safetensors --gate paper"));
    let outcome = home.run("inspect DATA/adapter-paper.safetensors");
    assert_refused(&outcome, "inspect", 1, "does not say", "--gate");
    assert!(outcome.stdout.contains("prompts"), "the tensors are shown all the same");
    home.write("junk.safetensors", "junk");
    home.refuse("inspect HERE/junk.safetensors", 1, "safetensors", "damaged");
    home.refuse("inspect HERE/none", 1, "none", "spelling");
}

#[test]
fn names_in_a_file_cannot_command_a_terminal() {
    let home = Home::new();
    let mut writer = GgufWriter::new();
    writer.metadata("general.architecture", "llama").metadata("general.name", "a\u{1b}[2J\u{202e}b");
    writer.metadata("tokenizer.chat_template", "{{ 1 }}\n\u{1b}]0;title\u{7}");
    let bytes = writer.start(Vec::new()).and_then(GgufDataWriter::finish).expect("memory takes everything");
    home.write("evil.gguf", bytes);
    let outcome = home.run("inspect HERE/evil.gguf");
    assert_done(&outcome);
    assert!(outcome.stdout.contains("a\\u{1b}[2J\\u{202e}b"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains(['\u{1b}', '\u{202e}', '\u{7}']));
}

/// Which tile shapes of the products are the fastest is measured by the first program that loads a model, and by `doctor`.
#[test]
fn what_was_measured_of_a_gpu_is_kept() {
    let home = Home::new();
    let cache = home.path("cache");
    let generate = || {
        let line = "generate -m TINY -p hello --raw --greedy -n 4";
        let outcome = home.run_with(line, "", &[("XDG_CACHE_HOME", &shown(&cache))]);
        assert_done(&outcome);
        let folder = std::fs::read_dir(cache.join("adapter-engine/tuning")).expect("the folder");
        let files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        (outcome.stdout, files[0].clone())
    };
    let (first, path) = generate();
    let read = || std::fs::read_to_string(&path).expect("a table");
    assert_eq!(json(&read()).as_array().map(Vec::len), Some(Slot::ALL.len()), "{}", read());
    // A table that was kept is used as it is: no choice changes an answer.
    std::fs::write(&path, serde_json::to_string(&[1; Slot::ALL.len()]).expect("numbers")).expect("writable");
    assert_eq!(generate().0, first);
    assert_eq!(read(), serde_json::to_string(&[1; Slot::ALL.len()]).expect("numbers"));
    // A damaged one is measured again.
    std::fs::write(&path, "[1,1,").expect("writable");
    assert_eq!(generate().0, first);
    assert_eq!(json(&read()).as_array().map(Vec::len), Some(Slot::ALL.len()), "{}", read());
}

#[test]
fn doctor_names_the_gpu_that_will_be_used() {
    // No model's run: it compiles each kernel in each of the twelve formats, which takes 70 seconds of one core where none has been
    // before, and as long again on a core that others use, too.
    let home = Home::new();
    let child = command(home.0.path()).arg("doctor").spawn().expect("it can be started");
    let outcome = finish_within(child, Duration::from_secs(300));
    assert_done(&outcome);
    assert!(
        outcome.stdout.contains("Will be used: ") && outcome.stdout.contains("memory           ok"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("kernels          ok"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("training kernels ok"), "{}", outcome.stdout);
}

/// Mesa says so on standard error, in every command, where a container or a server has no such folder.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_only_the_driver_wants_is_not_asked_for() {
    let home = Home::new();
    let line = format!("generate -m {} --template chatml -p hi --greedy -n 1", tiny("tiny-f32.gguf"));
    let mut command = command(home.0.path());
    command.args(line.split(' ')).env_remove("XDG_RUNTIME_DIR").env_remove("NODEVICE_SELECT");
    let outcome = finish(command.spawn().expect("it can be started"));
    assert_done(&outcome);
    assert!(!outcome.stderr.contains("XDG_RUNTIME_DIR"), "{}", outcome.stderr);
}

#[test]
fn help_has_examples_everywhere() {
    let home = Home::new();
    for command in ["", "chat", "generate", "bench", "inspect", "debug tokenize", "debug logits"] {
        let outcome = home.run(&format!("{command} --help"));
        assert_done(&outcome);
        assert!(outcome.stdout.contains("Example") && outcome.stdout.contains("Global options"), "{command}");
    }
    assert_done(&home.run("--version"));
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let home = Home::new();
    let mut child =
        command(home.0.path()).args(["inspect", &tiny("tiny-q4_k.gguf")]).spawn().expect("it can be started");
    drop(child.stdout.take());
    let outcome = finish(child);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn colour_is_off_when_refused_or_piped() {
    let home = Home::new();
    for line in ["--help", "generate --nonsense", "inspect DATA/peft", "chat -m TINY"] {
        let outcome = home.run_with(line, "/help\n", &[("NO_COLOR", "1"), ("TERM", "xterm-256color")]);
        assert!(!outcome.stdout.contains('\u{1b}') && !outcome.stderr.contains('\u{1b}'), "{line}");
    }
}
