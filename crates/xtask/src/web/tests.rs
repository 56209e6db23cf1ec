//! The page in Chromium on its software GPU, driven by `web/tests/*.test.mjs`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::node::Node;
use super::server::{Offer, Server, Site};
use super::{browser, folder};
use crate::cargo_output::{Counts, timed_tests};
use crate::error::{Error, Result};
use crate::test_programs::Ran;
use crate::{model, process};

/// The model that most tests run.
const TINY: &str = "tests/data/tiny-llama/tiny-q4_1.gguf";

/// The tests of the page, with the tiny model.
pub fn pages() -> Result<Ran> {
    run("page")
}

/// SmolLM2 in the browser against the ids that other programs computed.
pub fn golden() -> Result<Ran> {
    run("golden")
}

/// Whether `$PAGE_TESTS`, a part of a file's name, leaves this file in: for work on one of them.
fn is_wanted(path: &Path) -> bool {
    let wanted = std::env::var("PAGE_TESTS").unwrap_or_default();
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(&wanted))
}

/// Serves the built page and runs the test files of one kind: `web/tests/KIND/*.test.mjs`.
fn run(kind: &str) -> Result<Ran> {
    let (node, folder, root) = (Node::find()?, folder(), process::repository_root());
    let chromium = browser::find()?;
    let tiny = root.join(TINY);
    let bytes = std::fs::read(&tiny).map_err(|error| Error::io("read", &tiny, &error))?;
    let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let tiny = Offer { path: tiny, about: "random weights", licence: "none", sha256 };
    let models = vec![Offer::smollm2(model::ensure()?), tiny];
    let mounts = vec![
        ("engine", folder.join("engine")),
        ("teach", folder.join("teach")),
        ("workers", folder.join("tests/workers")),
        ("data", root.join("tests/data")),
    ];
    let server = Server::start(0, Site { root: folder.join("dist"), models, mounts })?;

    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("tests").join(kind))
        .map_err(|error| Error::io("read the folder", &folder.join("tests").join(kind), &error))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs") && is_wanted(path))
        .collect();
    files.sort();
    let name = format!("web::{kind}");
    if files.is_empty() {
        return Ok(Ran { name, took: Duration::ZERO, counts: Counts::default(), tests: Vec::new() });
    }
    let started = Instant::now();
    let mut command = node.command();
    // One file at a time: they share two cores and a GPU that is made of them.
    command
        .args(["--test", "--test-concurrency=1", "--test-reporter"])
        .arg(folder.join("tests/reporter.mjs"))
        .args(files)
        .current_dir(&folder)
        .env("PAGE_URL", server.url())
        .env("CHROMIUM", chromium);
    if let Some(script) = node.npm_script() {
        command.env("NPM_SCRIPT", script);
    }
    let (ended_well, output) = process::tee(&mut command)?;
    let counts = Counts::of(&output);
    if counts.n_failed == 0 && (!ended_well || counts.n_passed == 0) {
        return Err(Error::failed("the tests of the page ended without a result"));
    }
    Ok(Ran { name, took: started.elapsed(), counts, tests: timed_tests(&output) })
}
