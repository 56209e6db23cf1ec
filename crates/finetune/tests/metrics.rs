//! The log of a training: its keys, crashes in the middle of a line, and going on from a step.

use std::io::Write;
use std::path::PathBuf;

use adapter_finetune::metrics::{End, Eval, Metrics, MetricsError, MetricsLog, Record, Step, read};

fn step(step: u64) -> Record {
    Record::Step(Step {
        step,
        epoch: 0.25,
        loss: Some(2.5),
        lr: 1e-4,
        grad_norm: Some(0.5),
        tokens: 512,
        trained_tokens: 130,
        tokens_per_sec: 96.5,
        seconds: 5.25,
        skipped: None,
    })
}

fn eval(step: u64) -> Record {
    Record::Eval(Eval::of_loss(step, 2.25, true))
}

fn checkpoint(step: u64) -> Record {
    Record::Checkpoint { step, path: format!("step-{step}") }
}

fn end(step: u64) -> Record {
    let (loss, val_loss, val_ppl) = (Some(2.5), Some(2.25), Some(f64::NAN));
    Record::End(End { step, reason: "done".to_owned(), seconds: 6.5, loss, val_loss, val_ppl, skipped_steps: 1 })
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("metrics.jsonl")
    }

    fn log(&self, records: &[Record]) -> MetricsLog {
        let mut log = MetricsLog::open(&self.path()).unwrap();
        records.iter().for_each(|record| log.append(record).unwrap());
        log
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }
}

/// Others read this file: a key that changes breaks them.
#[test]
fn the_keys_are_these() {
    let folder = Folder::new();
    let (prompt, answer) = ("Where?".to_owned(), "Paris.\n\"Oui\"".to_owned());
    let sample = Record::Sample { step: 2, prompt, answer };
    let bad = Record::Step(Step { step: 3, loss: Some(f64::NAN), grad_norm: Some(f64::INFINITY), ..Step::default() });
    let empty = Record::Eval(Eval::of_loss(3, f64::INFINITY, false));
    drop(folder.log(&[step(1), eval(1), checkpoint(1), sample, bad, empty, end(3)]));
    let wanted = r#"{"event":"step","step":1,"epoch":0.25,"loss":2.5,"lr":0.0001,"grad_norm":0.5,"tokens":512,"trained_tokens":130,"tokens_per_sec":96.5,"seconds":5.25}
{"event":"eval","step":1,"val_loss":2.25,"val_ppl":9.487735836358526,"best":true}
{"event":"checkpoint","step":1,"path":"step-1"}
{"event":"sample","step":2,"prompt":"Where?","answer":"Paris.\n\"Oui\""}
{"event":"step","step":3,"epoch":0.0,"loss":null,"lr":0.0,"grad_norm":null,"tokens":0,"trained_tokens":0,"tokens_per_sec":0.0,"seconds":0.0,"skipped":"loss is not finite"}
{"event":"eval","step":3,"val_loss":null,"val_ppl":null,"best":false,"skipped":"loss is not finite"}
{"event":"end","step":3,"reason":"done","seconds":6.5,"loss":2.5,"val_loss":2.25,"val_ppl":null,"skipped_steps":1}
"#;
    assert_eq!(folder.text(), wanted);
    let found = read(&folder.path()).unwrap();
    assert_eq!((found.records.len(), found.torn), (7, 0));
    assert_eq!(found.records[..3], [step(1), eval(1), checkpoint(1)]);
}

#[test]
fn a_line_is_in_the_file_before_the_next_is_made() {
    let folder = Folder::new();
    let mut log = folder.log(&[]);
    for number in 1..=3 {
        log.append(&step(number)).unwrap();
        assert_eq!(read(&folder.path()).unwrap().records.len() as u64, number, "while the log is still open");
    }
}

/// A kill in the middle of a write can leave any beginning of the last line.
#[test]
fn every_torn_last_line_is_dropped_counted_and_mended() {
    let folder = Folder::new();
    drop(folder.log(&[step(1), eval(1)]));
    let whole = folder.text();
    let start = whole[..whole.len() - 1].rfind('\n').unwrap() + 1;
    for length in start..whole.len() {
        std::fs::write(folder.path(), &whole[..length]).unwrap();
        let torn = u64::from(length > start);
        assert_eq!(read(&folder.path()).unwrap(), Metrics { records: vec![step(1)], torn }, "{length}");
        // The next line is whole, whatever came before.
        drop(folder.log(&[step(2)]));
        assert_eq!(read(&folder.path()).unwrap(), Metrics { records: vec![step(1), step(2)], torn: 0 }, "{length}");
    }
    std::fs::write(folder.path(), "{\"event\":\"st").unwrap();
    drop(folder.log(&[step(1)]));
    assert_eq!(read(&folder.path()).unwrap().records, [step(1)]);
    // A torn line longer than one block of the search for its beginning.
    std::fs::write(folder.path(), format!("{whole}{{\"event\":\"{}", "x".repeat(10_000))).unwrap();
    drop(folder.log(&[step(2)]));
    assert_eq!(read(&folder.path()).unwrap().records, [step(1), eval(1), step(2)]);
}

#[test]
fn going_on_from_a_checkpoint_doubles_no_step() {
    let folder = Folder::new();
    let first = [step(1), step(2), eval(2), checkpoint(2), step(3), step(4), eval(4), end(4)];
    let mut log = folder.log(&first);
    assert_eq!(log.truncate_after(2).unwrap(), 4);
    assert_eq!(read(&folder.path()).unwrap().records, first[..4]);
    log.append(&step(3)).unwrap();
    log.append(&end(3)).unwrap();
    drop(log);
    let steps: Vec<u64> = read(&folder.path()).unwrap().records.iter().map(Record::step).collect();
    assert_eq!(steps, [1, 2, 2, 2, 3, 3]);
    // Going on from the end removes only what says that it was the end; a torn line goes, too.
    let mut file = std::fs::OpenOptions::new().append(true).open(folder.path()).unwrap();
    file.write_all(b"{\"event\":\"ste").unwrap();
    let mut log = folder.log(&[]);
    assert_eq!(log.truncate_after(3).unwrap(), 1);
    assert_eq!(log.truncate_after(3).unwrap(), 0);
    log.append(&step(4)).unwrap();
    assert_eq!(read(&folder.path()).unwrap().records.len(), 6);
    assert_eq!(log.truncate_after(0).unwrap(), 6);
    assert_eq!(folder.text(), "");
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn a_damaged_middle_is_an_error_with_its_line() {
    let folder = Folder::new();
    drop(folder.log(&[step(1), step(2)]));
    let text = folder.text();
    for bad in ["{\"event\":\"step\"}\n", "nonsense\n", "{\"event\":\"other\",\"step\":1}\n", "[]\n"] {
        std::fs::write(folder.path(), text.replacen('\n', &format!("\n{bad}"), 1)).unwrap();
        let error = read(&folder.path()).unwrap_err();
        assert!(matches!(error, MetricsError::Line { line: 2, .. }), "{error}");
        assert!(error.to_string().starts_with("line 2 of the log is no record") && !error.hint().is_empty());
    }
    std::fs::write(folder.path(), "x".repeat(3 << 20)).unwrap();
    assert!(read(&folder.path()).unwrap_err().to_string().contains("more than 1048576 bytes"));
    // Blank lines and keys of a later version do no harm.
    std::fs::write(folder.path(), "\n{\"event\":\"checkpoint\",\"step\":1,\"path\":\"step-1\",\"more\":[1]}\r\n")
        .unwrap();
    assert_eq!(read(&folder.path()).unwrap().records, [checkpoint(1)]);
    std::fs::remove_file(folder.path()).unwrap();
    assert!(matches!(read(&folder.path()).unwrap_err(), MetricsError::Io { .. }));
    assert!(MetricsLog::open(folder.0.path()).is_err(), "a folder");
}
