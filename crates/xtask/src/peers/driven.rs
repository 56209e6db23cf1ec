//! A process that measures one repetition for every line it gets, so that two of them can take turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::process;

/// A running script of `bench/peers/`: it has said that it is ready, and is at rest.
pub struct Driven {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Driven {
    /// Starts it and waits for its first line, which says that it is ready.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| process::not_started(command, &error))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(stdout)) => {
                let (name, answers) = (name.to_owned(), BufReader::new(stdout));
                let mut driven = Self { name, child, requests: Some(requests), answers };
                driven.read()?;
                Ok(driven)
            }
            _ => Err(Error::failed(format!("the pipes of {name} could not be opened"))),
        }
    }

    /// Runs one repetition and returns what the script says of it.
    pub fn measure(&mut self) -> Result<Value> {
        let gone = |reason: String| Error::failed(format!("{} takes no more requests: {reason}", self.name));
        let requests = self.requests.as_mut().ok_or_else(|| gone("it was ended".to_owned()))?;
        requests.write_all(b"\n").and_then(|()| requests.flush()).map_err(|error| gone(error.to_string()))?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(n_bytes) if n_bytes > 0 => serde_json::from_str(&line).map_err(|error| {
                Error::failed(format!("{} did not answer in JSON ({error}): {}", self.name, line.trim()))
            }),
            _ => Err(Error::failed(format!("{} ended without an answer; what it said is above", self.name))),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // The end of its input ends it, with all it has started (a browser); what does not listen is killed.
        drop(self.requests.take());
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Driven> {
        Driven::start("the script", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_script_answers_line_by_line_and_ends_with_its_input() {
        let mut driven =
            shell("echo '{\"ready\":true}'; while read _; do echo '{\"speed\":2.5}'; done").expect("ready");
        for _ in 0..2 {
            assert_eq!(driven.measure().expect("an answer")["speed"], 2.5);
        }
    }

    #[test]
    fn a_script_that_dies_or_talks_nonsense_is_named() {
        let error = shell("exit 1").map(|_| ()).expect_err("it is never ready").to_string();
        assert!(error.contains("the script ended without an answer"), "{error}");
        let mut driven = shell("echo 1; read _; echo hello").expect("ready");
        let error = driven.measure().expect_err("no JSON").to_string();
        assert!(error.contains("hello"), "{error}");
    }
}
