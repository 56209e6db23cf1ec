//! PyTorch checkpoints (`.pth`) wherever an adapter is named.

use adapter_tests::{data, nmse};

use crate::support::*;

#[test]
fn a_checkpoint_runs_wherever_an_adapter_does() {
    let home = Home::new();
    let ids = shown(&data("tiny-llama/base.json"));
    let pth = |name: &str| shown(&data("pth").join(name));
    let logits = |name: &str, flags: &str| {
        let out = home.path(name);
        let outcome = home.run(&format!("debug logits -m TINY --ids {ids} --out {} {flags}", shown(&out)));
        assert_done(&outcome);
        (logits_of(&out).1, outcome.stderr)
    };
    let golden = |kind: &str| logits_of(&data(&format!("tiny-llama/golden-{kind}.safetensors"))).1;
    let official = pth("official.pth");
    let (found, stderr) = logits("official", &format!("-a {official} --gate paper"));
    assert!(nmse(&found, &golden("paper")) <= 1e-9 && stderr.is_empty(), "{stderr}");
    // What nobody wrote down is said once, and the guess is the training code's.
    let (guessed, stderr) = logits("guessed", &format!("-a {official}"));
    assert_eq!(guessed, found);
    assert!(stderr.starts_with("warning: the file does not say what its gates mean") && stderr.lines().count() == 1);
    assert!(stderr.contains("--gate paper") && stderr.contains("--gate linear"), "{stderr}");
    assert_ne!(logits("raw", &format!("-a {official} --gate linear")).0, found);
    let (lit, stderr) = logits("lit", &format!("-a {}", pth("lit-llama.pth")));
    assert!(nmse(&lit, &golden("linear")) <= 1e-9 && stderr.is_empty(), "{stderr}");

    // Once converted, the file says itself what it is; its name does not matter.
    let copy = home.write("no-extension", std::fs::read(&official).unwrap());
    let export = home.run(&format!("export -m TINY -a {copy} --gate paper --to safetensors --out HERE/a.safetensors"));
    assert_done(&export);
    assert!(
        export.stdout.starts_with("Wrote the adapter no-extension (paper gates) as safetensors"),
        "{}",
        export.stdout
    );
    assert_eq!(logits("converted", "-a HERE/a.safetensors").0, found);
    assert_done(&home.run(&format!("merge -m TINY -a {official} --gate paper --out HERE/merged.gguf")));
    assert_eq!(logits("lit-old", &format!("-a {}", pth("lit-llama-old.pth"))).0.len(), found.len());
    let inspected = home.run(&format!("inspect {official} --gate paper"));
    assert_done(&inspected);
    assert!(inspected.stdout.contains("PyTorch checkpoint, 31.9 KiB"), "{}", inspected.stdout);
    let summary = "Adapter official: paper gates, 3 layers, 10 prompt tokens of 256 channels";
    assert!(inspected.stdout.contains(summary), "{}", inspected.stdout);
}

#[test]
fn checkpoints_that_cannot_run_are_refused() {
    let home = Home::new();
    let at = |name: &str| shown(&data("pth").join(name));
    let refuse = |name: &str, flags: &str, sentence: &str, hint: &str| {
        home.refuse(&format!("generate -m TINY -p x -n 1 -a {} {flags}", at(name)), 1, sentence, hint);
    };
    refuse("refused/litgpt.pth", "", "litgpt's: since December 2024", "lit-llama");
    refuse("refused/v2-multimodal.pth", "", "V2 multimodal", "alpaca_finetuning_v1");
    refuse("refused/nan-prompt.pth", "", "not finite", "checkpoint");
    refuse("refused/runs-code.pth", "", "it holds no tensors", "adapter_query.weight");
    refuse("refused/ambiguous.pth", "", "in several ways", "--adapter-len");
    refuse("refused/before-1.6.pth", "", "before 1.6", "save it again");
    refuse("official.pth", "--gate peft", "gates are linear, not peft", "--gate");
    refuse("lit-llama.pth", "--gate paper", "lit-llama", "--gate linear");
    let whole = std::fs::read(data("pth/official.pth")).unwrap();
    let cut = home.write("cut.pth", &whole[..whole.len() / 2]);
    home.refuse(&format!("generate -m TINY -p x -a {cut}"), 1, "damaged or cut off", "fetch or save the file again");
    home.refuse(&format!("inspect {cut}"), 1, "damaged or cut off", "fetch or save the file again");
    // With the length it is another file, whose sizes belong to no model here.
    let ambiguous = at("refused/ambiguous.pth");
    let export = format!("export -m TINY -a {ambiguous} --to safetensors --out HERE/out.safetensors --adapter-len");
    home.refuse(&format!("{export} 20"), 1, "channels is 8 there and 256 here", "trained on");
    home.refuse(&format!("{export} 7"), 1, "no multiple of 7", "length it was trained with");
    home.refuse(&format!("{export} 0"), 2, "--adapter-len", "export --help");
    assert!(!home.path("out.safetensors").exists() && !home.path("this-pickle-was-run").exists());
}
