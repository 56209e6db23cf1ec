//! `adapter-cli merge` and `export`, and merged files in the other commands.

use adapter_engine::adapter::{BaseModel, GateKind};
use adapter_tests::read;

use crate::support::{self, Home, assert_done, logits_of, shown};
use crate::{adapter_of, tiny};

#[test]
fn merged_files_answer_with_their_adapter_in_a_terminal() {
    let home = Home::new();
    let ids = shown(&adapter_tests::data("tiny-llama/base.json"));
    let bits = |name: &str, flags: &str| {
        let out = home.path(name);
        assert_done(&home.run(&format!("debug logits --ids {ids} --out {} {flags}", shown(&out))));
        logits_of(&out).1.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    let paper = "-a DATA/adapter-paper.safetensors --gate paper";
    let outcome = home.run(&format!("merge -m TINY {paper} --out HERE/merged.gguf"));
    assert_done(&outcome);
    assert!(outcome.stdout.starts_with("Wrote tiny-llama with the adapter adapter-paper, "), "{}", outcome.stdout);
    let (base, adapted) = (bits("base", "-m TINY"), bits("adapted", &format!("-m TINY {paper}")));
    assert_ne!(base, adapted);
    assert_eq!(bits("merged", "-m HERE/merged.gguf"), adapted);
    assert_eq!(bits("none", "-m HERE/merged.gguf -a none"), base);
    assert_eq!(bits("zero", "-m HERE/merged.gguf --strength 0"), base);
    assert_eq!(bits("inside", "-m TINY -a HERE/merged.gguf"), adapted, "the adapter of a merged file");
    let generate = |flags: &str| {
        let outcome = home.run(&format!("generate -m HERE/merged.gguf -p hello --raw --greedy -n 4 --json {flags}"));
        assert_done(&outcome);
        support::json(&outcome.stdout)
    };
    assert_eq!(generate("")["adapter"], "adapter-paper");
    assert!(generate("-a none")["adapter"].is_null());
    let chat = home.run_with("chat -m HERE/merged.gguf --greedy -n 4", "/adapter\n/adapter off\n/adapter on\n", &[]);
    assert_done(&chat);
    assert!(chat.stdout.contains("adapter-paper"), "{}", chat.stdout);
    assert_done(&home.run("bench -m HERE/merged.gguf -p 8 -n 2 -r 1"));

    // Out again, in every form.
    for (form, name) in [("safetensors", "out.safetensors"), ("gguf", "out.gguf")] {
        assert_done(&home.run(&format!("export -m HERE/merged.gguf --to {form} --out HERE/{name}")));
        assert_eq!(bits(form, &format!("-m TINY -a HERE/{name}")), adapted, "{form}");
    }
    assert_done(&home.run("export -m TINY -a DATA/peft --to peft --out HERE/peft/"));
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        assert!(home.path("peft").join(file).is_file());
    }
    assert_eq!(bits("peft-1", "-m TINY -a HERE/peft"), bits("peft-2", "-m TINY -a DATA/peft"));

    let inspected = home.run("inspect HERE/merged.gguf");
    assert_done(&inspected);
    for part in [
        "adapter.llama_adapter.gate_shape",
        "blk.1.adapter_prompt.weight",
        "Runs here: 4 layers",
        "Adapter adapter-paper: paper gates, 3 layers, 10 prompt tokens of 256 channels",
    ] {
        assert!(inspected.stdout.contains(part), "{part} in\n{}", inspected.stdout);
    }
    let alone = home.run("inspect HERE/out.gguf");
    assert_done(&alone);
    assert!(alone.stdout.contains("Adapter adapter-paper: paper gates") && !alone.stdout.contains("not run here"));
    for command in ["export", "merge"] {
        let help = home.run(&format!("{command} --help"));
        assert_done(&help);
        assert!(help.stdout.contains("Example") && help.stdout.contains("Global options"), "{command}");
    }
    let left: Vec<_> = std::fs::read_dir(home.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "nothing temporary is left: {left:?}");
}

#[test]
fn merge_and_export_refuse_what_would_hurt() {
    let home = Home::new();
    let model = home.write("base.gguf", read("tiny-llama/tiny-q8_0.gguf"));
    home.write("a.safetensors", adapter_of(GateKind::PAPER).to_safetensors().unwrap());
    let folder = |name: &str, config: &[u8]| {
        home.write(&format!("{name}/adapter_config.json"), config);
        home.write(&format!("{name}/adapter_model.safetensors"), read("tiny-llama/peft/adapter_model.safetensors"));
    };
    folder("peft", &read("tiny-llama/peft/adapter_config.json"));
    let before = std::fs::read(&model).unwrap();
    let merge = "merge -m HERE/base.gguf -a HERE/a.safetensors";
    home.refuse(&format!("{merge} --out HERE/base.gguf"), 2, "--out is one of the files that are read", "another file");
    home.refuse(&format!("{merge} --out HERE/a.safetensors"), 2, "--out is one of the files", "another file");
    let to = |flags: &str| format!("export -m HERE/base.gguf {flags}");
    let inside = to("-a HERE/peft --to safetensors --out HERE/peft/adapter_model.safetensors");
    home.refuse(&inside, 2, "--out is one of the files that are read", "another file");
    home.refuse(&to("-a HERE/peft --to peft --out HERE/peft"), 2, "--out is one of the files", "another file");
    folder("other", b"{}");
    home.refuse(&to("-a HERE/peft --to peft --out HERE/other"), 1, "the folder is not empty", "new folder");
    home.refuse(&to("-a HERE/peft --to peft --out HERE/base.gguf"), 2, "--out is one of the files", "another file");
    home.refuse(&to("-a HERE/a.safetensors --to peft --out HERE/new"), 1, "PEFT has one gate a layer", "gguf");
    assert!(!home.path("new").exists());
    home.refuse(&to("-a HERE/peft --to peft --out HERE/none/new"), 1, "cannot write the adapter", "folder exists");
    home.refuse(&to("--to peft --out HERE/new"), 2, "the model holds none", "--adapter");
    home.refuse(&to("-a HERE/peft --to onnx --out HERE/new"), 2, "onnx", "export --help");
    home.refuse(&format!("{merge} --gate peft --out HERE/new.gguf"), 1, "gates are paper, not peft", "--gate");
    home.refuse(&format!("{merge} --out HERE/none/new.gguf"), 1, "cannot write the merged model", "folder exists");
    home.refuse("merge -m HERE/base.gguf -a HERE/none --out HERE/new.gguf", 1, "none", "spelling");
    home.refuse("merge -m HERE/base.gguf -a HERE/base.gguf --out HERE/new.gguf", 1, "holds no adapter", "--model");
    let mut other = adapter_of(GateKind::PAPER);
    other.base_layers = Some(32);
    other.base_model = Some("Llama-2-7B".to_owned());
    home.write("other.safetensors", other.to_safetensors().unwrap());
    let wrong = "merge -m HERE/base.gguf -a HERE/other.safetensors --out HERE/new.gguf";
    home.refuse(wrong, 1, "\"Llama-2-7B\" does not fit the model \"tiny-llama\"", "trained on");
    assert!(!home.path("new.gguf").exists());

    assert_done(&home.run(&format!("{merge} --out HERE/merged.gguf")));
    let again = "merge -m HERE/merged.gguf -a HERE/peft --out HERE/new.gguf";
    home.refuse(again, 1, "already holds the adapter \"a\"", "without an adapter");
    assert_done(&home.run(&to("-a HERE/peft --to gguf --out HERE/alone.gguf")));
    home.refuse("generate -p x -m HERE/alone.gguf", 1, "is an adapter", "--adapter");
    home.refuse("generate -p x -m HERE/merged.gguf --gate peft", 1, "gates are paper, not peft", "--gate");

    // Another model of the same sizes: a warning, and the file is written.
    let mut foreign = adapter_of(GateKind::PAPER);
    let (bytes, gguf, _) = tiny("q4_1");
    foreign.set_base(&BaseModel::of(&gguf, &bytes).unwrap());
    home.write("foreign.safetensors", foreign.to_safetensors().unwrap());
    let outcome = home.run("merge -m HERE/base.gguf -a HERE/foreign.safetensors --out HERE/foreign.gguf");
    assert_done(&outcome);
    assert!(outcome.stderr.starts_with("warning: the adapter was trained on other weights"), "{}", outcome.stderr);
    assert_eq!(std::fs::read(&model).unwrap(), before, "the model was only read");
}

/// A limit on the size of files stands for a full disk: nothing half is left, and what was there stays.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_the_old_file() {
    let home = Home::new();
    home.write("out.gguf", "old");
    let line = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{}' merge -m '{}' -a '{}' --gate paper --out out.gguf",
        shown(&adapter_tests::binary()),
        support::tiny("tiny-f32.gguf"),
        support::tiny("adapter-paper.safetensors"),
    );
    let outcome = std::process::Command::new("sh").args(["-c", &line]).current_dir(home.0.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: cannot write the merged model: ") && stderr.contains("\nhint: "), "{stderr}");
    assert_eq!(std::fs::read(home.path("out.gguf")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(home.0.path()).unwrap().count(), 1, "no temporary file is left");
}
