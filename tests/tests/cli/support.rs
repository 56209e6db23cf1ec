//! Running the program and reading what it says.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adapter_engine::formats::{Gguf, GgufWriter, ReadAtFile};
use adapter_tests::data;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// No run on the tiny model takes a tenth of this, also on a busy machine without a GPU.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program in a clean home, with nothing of this machine's user in its surroundings.
pub fn command(home: &Path) -> Command {
    let mut command = adapter_tests::program(home, Path::new(env!("CARGO_TARGET_TMPDIR")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn finish(child: Child) -> Outcome {
    finish_within(child, PATIENCE)
}

pub fn finish_within(mut child: Child, patience: Duration) -> Outcome {
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.map(|mut stream| stream.read_to_end(&mut bytes).expect("a pipe can be read"));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = drain(child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let stderr = drain(child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("it was started") {
            Some(status) => break status,
            None if start.elapsed() > patience => {
                child.kill().expect("it is still there");
                panic!("it did not end within {patience:?}");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let join = |thread: std::thread::JoinHandle<String>| thread.join().expect("reading does not panic");
    Outcome { code: status.code(), stdout: join(stdout), stderr: join(stderr) }
}

pub struct Home(pub tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("writable");
        std::fs::write(&path, content).expect("writable");
        shown(&path)
    }

    /// Runs a line of words; `TINY` stands for the model, `HERE` for this folder.
    pub fn run(&self, line: &str) -> Outcome {
        self.run_with(line, "", &[])
    }

    pub fn run_with(&self, line: &str, stdin: &str, variables: &[(&str, &str)]) -> Outcome {
        let words = line.split_whitespace().map(|word| {
            word.replace("TINY", &tiny("tiny-f32.gguf"))
                .replace("DATA", &tiny(""))
                .replace("HERE", &shown(self.0.path()))
        });
        let mut command = command(self.0.path());
        command.args(words).envs(variables.iter().copied());
        let mut child = command.spawn().expect("the program can be started");
        let mut input = child.stdin.take().expect("it was asked for");
        // A program that refuses its flags does not read what it is given.
        let _ = input.write_all(stdin.as_bytes());
        drop(input);
        finish(child)
    }

    /// Runs a line that must be refused: the exit code, the sentence and the next step.
    #[track_caller]
    pub fn refuse(&self, line: &str, code: i32, sentence: &str, hint: &str) {
        let outcome = self.run(line);
        assert_refused(&outcome, line, code, sentence, hint);
    }
}

#[track_caller]
pub fn assert_refused(outcome: &Outcome, line: &str, code: i32, sentence: &str, hint: &str) {
    let Outcome { stderr, stdout, .. } = outcome;
    assert_eq!(outcome.code, Some(code), "{line}\n{stderr}");
    let mut lines = stderr.lines().skip_while(|line| line.starts_with("warning: "));
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert!(first.starts_with("error: ") && first.contains(sentence), "{line}\n{stderr}");
    assert!(second.starts_with("hint: ") && second.contains(hint), "{line}\n{stderr}");
    assert_eq!(lines.next(), None, "{line}: more than a sentence and a next step\n{stderr}");
    assert!(!stderr.contains('\u{1b}') && !stdout.contains('\u{1b}'), "{line}: colour in a pipe");
}

#[track_caller]
pub fn assert_done(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
}

pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub fn tiny(name: &str) -> String {
    shown(&data("tiny-llama").join(name))
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Tensors by name with their shapes, all f32.
pub type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let floats = |view: &TensorView<'_>| {
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let f32s = file.tensors().into_iter().filter(|(_, view)| view.dtype() == Dtype::F32);
    f32s.map(|(name, view)| (name, view.shape().to_vec(), floats(&view))).collect()
}

pub fn safetensors_of(tensors: &Tensors) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the shape fits"))
    });
    safetensors::serialize(views, None).expect("plain tensors")
}

pub fn logits_of(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let found = read_tensors(path).into_iter().find(|(name, ..)| name == "logits");
    found.map(|(_, shape, values)| (shape, values)).expect("it holds logits")
}

/// A copy of the tiny model's metadata under another architecture, without tensors.
pub fn other_architecture() -> Vec<u8> {
    let source = ReadAtFile::open(tiny("tiny-f32.gguf")).expect("test data");
    let gguf = Gguf::read(&source).expect("test data");
    let mut writer = GgufWriter::new();
    writer.metadata("general.architecture", "bert");
    for (key, value) in gguf.metadata.iter().filter(|(key, _)| *key != "general.architecture") {
        writer.metadata(key, value.clone());
    }
    writer.start(Vec::new()).and_then(adapter_engine::formats::GgufDataWriter::finish).expect("memory takes everything")
}
