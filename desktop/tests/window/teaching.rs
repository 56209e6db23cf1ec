//! Teaching from rows to a conversation with what was taught.

use std::path::Path;

use adapter_desktop::Phase;
use adapter_engine::adapter::AdapterFile;
use adapter_finetune::metrics::{Record, read};
use egui_kittest::kittest::Queryable as _;

use crate::support::{Window, chat_model};

fn rows(folder: &Path) -> std::path::PathBuf {
    let lines: String =
        (0..40).map(|n| format!("{{\"instruction\":\"Say {n}\",\"output\":\"number {} is it\"}}\n", n % 7)).collect();
    let path = folder.join("numbers.jsonl");
    std::fs::write(&path, lines).expect("written");
    path
}

fn steps(window: &Window) -> Vec<(u64, f64)> {
    steps_of(window.app().teach().records())
}

fn steps_of(records: &[Record]) -> Vec<(u64, f64)> {
    let step = |record: &Record| match record {
        Record::Step(step) => Some((step.step, step.loss.expect("finite"))),
        _ => None,
    };
    records.iter().filter_map(step).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn rows_become_an_adapter_that_talks() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::ready(Some(folder.path()));
    window.press("Teach");
    assert!(window.has("Teach an adapter") && window.has("Choose rows"));
    // A file without rows is explained.
    let empty = folder.path().join("empty.jsonl");
    std::fs::write(&empty, "").expect("written");
    *window.chosen.lock().expect("not poisoned") = Some(empty);
    window.press("Choose rows");
    window.wait("the reason", |app| app.newest_notice().is_some_and(|text| text.contains("rows cannot be learnt")));
    window.press_last("Close this notice");

    *window.chosen.lock().expect("not poisoned") = Some(rows(folder.path()));
    window.press("Choose rows");
    window.wait("the plan", |app| app.teach().plan().is_some());
    assert!(window.says("trainable parameters") && window.says("of GPU memory"), "what it takes is said before");
    window.press("What was found in the rows");
    assert!(window.says("40 alpaca rows"));
    let settings = window.app_mut().teach_mut().settings_mut();
    (settings.epochs, settings.batch_tokens, settings.learning_rate) = (3.0, 128, 0.02);
    settings.question = "Say 3".to_owned();
    window.wait("the plan for these settings", |app| app.teach().plan().is_some());
    let n_steps = window.app().teach().plan().map_or(0, |plan| plan.n_steps);
    assert!(n_steps > 20, "{n_steps}");

    window.press("Start teaching");
    window.wait("some steps", |app| app.teach().step().0 >= 5);
    assert!(window.says("Loss by step") && window.says("Gates of 2 layers and 4 heads"));
    assert!(window.says("before · Say 3"), "what it said before it learnt");
    // The chat is not blocked meanwhile.
    window.app_mut().settings_mut().answering.max_tokens = 4;
    window.press("Chat");
    window.ask("Still there?");
    assert_eq!(window.shown().len(), 2);

    // Stop finishes the step and saves; going on is the same run.
    window.press("Teach");
    window.press("Stop and save");
    window.wait("the end", |app| app.teach().phase() == Phase::Idle);
    assert!(window.says("stopped and saved"));
    let before = steps(&window);
    let run = window.app().teach().folder().expect("a folder").to_owned();
    let copy = folder.path().join("copy");
    copy_folder(&run, &copy);
    window.press("Go on with the training");
    window.wait("the end", move |app| app.teach().phase() == Phase::Idle && app.teach().step() == (n_steps, n_steps));
    assert!(window.says("The adapter is taught"));
    let all = steps(&window);
    assert_eq!(all[..before.len()], before[..], "what was before is still there");
    let numbers: Vec<u64> = all.iter().map(|(step, _)| *step).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>(), "no step twice, none left out");
    let mean = |part: &[(u64, f64)]| part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&all[..4]), mean(&all[all.len() - 4..]));
    assert!(last < first * 0.8, "it learnt: {first:.3} to {last:.3}");

    // The folder is that of the terminal program, which goes on with it to the same losses, bit for bit.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = adapter_tests::program(folder.path(), cache).args(["finetune", "--resume"]).arg(&copy).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(steps_of(&read(&copy.join("metrics.jsonl")).expect("a whole log").records), all);
    assert!(run.ends_with("adapters/numbers"));
    for file in ["config.toml", "metrics.jsonl", "loss.svg", "gates.svg", "adapter.safetensors"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let kept = read(&run.join("metrics.jsonl")).expect("a whole log").records;
    assert_eq!(kept.iter().filter(|record| matches!(record, Record::Step(_))).count(), all.len());
    let bytes = std::fs::read(run.join("adapter.safetensors")).expect("there");
    let adapter = AdapterFile::from_safetensors(&bytes, None).expect("an adapter");
    assert!(adapter.gates.iter().any(|gate| gate.abs() > 1e-3), "its gates are open");

    // And it can be talked to at once.
    window.press("Talk to it now");
    window.wait("the adapter", |app| app.newest_notice().is_some_and(|text| text.contains("numbers is on")));
    window.app_mut().settings_mut().answering.temperature = 0.0;
    window.app_mut().settings_mut().answering.max_tokens = 24;
    window.ask("Say 3");
    let taught = window.shown()[1].clone();
    window.press("Adapter on");
    window.press_last("Regenerate");
    window.wait("the model alone", |app| !app.is_answering());
    assert_ne!(window.shown()[1], taught, "it answers otherwise than the model alone");
    // A second run does not overwrite the first.
    window.press("Teach");
    *window.chosen.lock().expect("not poisoned") = Some(folder.path().join("numbers.jsonl"));
    window.press("Choose rows");
    window.wait("another name", |app| app.teach().settings().out.ends_with("numbers-2"));
    let name = window.harness.get_by_label("Name of the adapter").value();
    assert_eq!(name.as_deref(), Some("numbers-2"));
}

/// A run of the terminal program with what the window has no field for: the window goes on with it as the terminal would.
#[test]
fn a_run_of_the_terminal_goes_on_in_the_window() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, cache) = (rows(folder.path()), Path::new(env!("CARGO_TARGET_TMPDIR")));
    let held_out = folder.path().join("held-out.jsonl");
    std::fs::write(&held_out, "{\"instruction\":\"Say 99\",\"output\":\"nothing of the kind\"}\n").expect("written");
    let run = folder.path().join("adapters/sums");
    let mut child = adapter_tests::program(folder.path(), cache)
        .arg("finetune")
        .args([Path::new("-m"), chat_model(), Path::new("--data"), &data, Path::new("--val"), &held_out])
        .args("--patience 2 --validate-every 20 --schedule constant --lr 0.05 --steps 200 --save-every 6".split(' '))
        .args("--batch-tokens 128 --template chatml --sample-tokens 0 --out".split(' '))
        .arg(&run)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    // Ended by force behind its first checkpoint.
    let first = run.join("checkpoint-00000006/complete");
    let begun = std::time::Instant::now();
    while !first.is_file() && begun.elapsed() < std::time::Duration::from_secs(120) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("it runs");
    child.wait().expect("it is over");
    assert!(first.is_file(), "no checkpoint within two minutes");
    let copy = folder.path().join("copy");
    copy_folder(&run, &copy);

    let mut window = Window::ready(Some(folder.path()));
    window.press("Teach");
    window.press("Go on with sums");
    window.wait("the end", |app| app.teach().phase() == Phase::Idle && app.teach().step().0 > 6);
    assert!(window.app().teach().unfinished().is_empty(), "it is over");
    let output = adapter_tests::program(folder.path(), cache).args(["finetune", "--resume"]).arg(&copy).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = |run: &Path| read(&run.join("metrics.jsonl")).expect("a whole log").records;
    assert_eq!(steps_of(&log(&run)), steps_of(&log(&copy)), "the same steps, bit for bit");
    let end = |run: &Path| match log(run).pop() {
        Some(Record::End(end)) => (end.step, end.reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(end(&run), end(&copy));
    assert_eq!(end(&run).1, "early", "patience is the terminal's, and it was lost");
    for name in ["adapter.safetensors", "last.safetensors"] {
        let bytes = |run: &Path| std::fs::read(run.join(name)).expect("there");
        assert_eq!(bytes(&run), bytes(&copy), "{name}");
    }
}

#[test]
fn pasted_rows_and_the_example_can_be_learnt() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::ready(Some(folder.path()));
    window.press("Teach");
    window.press("Paste rows, or try an example");
    window.press("Put in an example");
    window.press("Use these rows");
    window.wait("the plan", |app| app.teach().plan().is_some());
    let kept = folder.path().join("rows/pasted.jsonl");
    assert_eq!(std::fs::read_to_string(&kept).expect("kept"), adapter_finetune::data::EXAMPLE);
    assert_eq!(window.app().teach().settings().data, kept);
    assert!(window.says("11 rows to learn"), "12 rows, one of them for validation");
    assert!(window.app().teach().settings().epochs > 10.0, "so few rows are used often");
    assert!(window.app().teach().settings().out.ends_with("adapters/pasted"));

    // The same again is the same file; others are another one, also as an array.
    window.press("Use these rows");
    window.wait("the plan", |app| app.teach().plan().is_some());
    assert_eq!(std::fs::read_dir(folder.path().join("rows")).expect("there").count(), 1);
    let array = r#"[{"prompt":"a","completion":"b"},{"prompt":"c","completion":"d"}]"#;
    window.fill("Rows to paste", array);
    window.press("Use these rows");
    window.wait("the plan", |app| app.teach().plan().is_some_and(|plan| plan.n_rows == 2));
    assert_eq!(std::fs::read_to_string(folder.path().join("rows/pasted.json")).expect("kept"), array);

    // What is no row is explained, and stays to be corrected.
    window.fill("Rows to paste", "nothing but words");
    window.press("Use these rows");
    window.wait("the reason", |app| app.newest_notice().is_some_and(|text| text.contains("rows cannot be learnt")));
    assert!(window.app().newest_notice().is_some_and(|text| text.contains("line 1")));
    let typed = window.harness.get_by_label("Rows to paste").value();
    assert_eq!(typed.as_deref(), Some("nothing but words"));
}
