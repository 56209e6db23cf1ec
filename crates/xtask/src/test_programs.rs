//! The programs that cargo makes of the tests: built together, run side by side, each with its output in one piece.
//!
//! `cargo test` runs one program after the other, and most of them leave a core idle: tests of a GPU take turns within a
//! program. Two at a time fill two cores. What a program of its own needs (a screen, a clock) runs alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cargo_output::{Counts, timed_tests};
use crate::error::{Error, Result};
use crate::{model, process};

/// Programs at a time.
const SIDE_BY_SIDE: usize = 2;
/// Targets that run alone: they wait for windows and measure times, memory or the whole machine.
const ALONE: [&str; 5] = ["cli", "killed", "limits", "screen", "window"];
/// What is said of times that are not known yet.
const TIMES: &str = "test-times.json";

/// A program of tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its package.
    pub package: String,
    /// `golden_logits`, or the name of a library.
    pub target: String,
    /// The folder of its package: tests run there.
    folder: PathBuf,
    path: PathBuf,
    /// Whether it is a library whose documentation has tests, too.
    has_doctests: bool,
}

impl Program {
    /// What it is called in lists.
    fn name(&self) -> String {
        format!("{}::{}", self.package, self.target)
    }

    fn is_alone(&self) -> bool {
        ALONE.contains(&self.target.as_str())
    }

    /// From a line of `cargo --message-format json`; `None` for any other message.
    fn of(message: &Value) -> Option<Self> {
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            return None;
        }
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        // `path+file:///folder#name@0.1.0`, or `...#0.1.0` where the folder has the package's name.
        let id = message["package_id"].as_str()?;
        let after = id.rsplit_once('#').map_or(id, |(_, after)| after);
        let package = match after.split_once('@') {
            Some((name, _)) => name.to_owned(),
            None => folder.file_name()?.to_string_lossy().into_owned(),
        };
        Some(Self {
            package,
            target: message["target"]["name"].as_str()?.to_owned(),
            folder: folder.to_owned(),
            path: message["executable"].as_str()?.into(),
            has_doctests: message["target"]["doctest"] == true,
        })
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// What it is called.
    pub name: String,
    /// How long it ran.
    pub took: Duration,
    /// Its closing line; one that ends without any has failed.
    pub counts: Counts,
    /// The tests that say how long they took, seconds.
    pub tests: Vec<(String, f64)>,
}

/// What a build made.
#[derive(Debug, Default)]
pub struct Built {
    /// The programs of tests.
    pub programs: Vec<Program>,
    /// What the compiler, or clippy in its place, warned of in our crates, as it is shown.
    pub warnings: Vec<String>,
}

/// Builds the tests of what `select` names, and what they need, in one go.
///
/// # Errors
/// What does not compile.
pub fn build(compiler: &Compiler, select: impl FnOnce(&mut Command)) -> Result<Built> {
    let mut command = process::cargo();
    command.args(["test", "--no-run", "--message-format=json"]);
    compiler.take_part(&mut command);
    select(&mut command);
    let (status, messages) = process::output_of(&mut command)?;
    let messages: Vec<Value> = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |level: &str| {
        let of_level = messages.iter().filter(|message| message["message"]["level"] == level);
        of_level.filter_map(|message| message["message"]["rendered"].as_str().map(str::to_owned)).collect()
    };
    let errors: Vec<String> = said("error");
    if !status.success() {
        return Err(Error::failed(format!("the tests do not compile\n{}", errors.concat())));
    }
    Ok(Built { programs: messages.iter().filter_map(Program::of).collect(), warnings: said("warning") })
}

/// Who compiles the crates of this workspace.
#[derive(Debug)]
pub enum Compiler {
    /// rustc alone.
    Plain,
    /// clippy's driver: rustc that lints what it compiles. Clippy by itself would read every dependency once more, which takes
    /// longer than all of our code.
    Clippy(PathBuf),
}

impl Compiler {
    /// Clippy where it is installed.
    ///
    /// # Errors
    /// A rustc that does not say where it lies.
    pub fn linting() -> Result<Option<Self>> {
        let driver = process::sysroot()?.join("bin").join(format!("clippy-driver{}", std::env::consts::EXE_SUFFIX));
        Ok(driver.is_file().then_some(Self::Clippy(driver)))
    }

    fn take_part(&self, command: &mut Command) {
        if let Self::Clippy(driver) = self {
            command.env("RUSTC_WORKSPACE_WRAPPER", driver);
        }
    }
}

/// The tests in the documentation of these programs' libraries; `None` where there are none. `whole`: the programs are all that the
/// workspace has, and who compiled them. Then cargo is told so: with packages by name it would choose other features, and make every dependency again.
///
/// # Errors
/// As [`environment`], and a cargo that does not start.
pub fn run_doctests(programs: &[Program], whole: Option<&Compiler>) -> Result<Option<Ran>> {
    let libraries: Vec<&str> =
        programs.iter().filter(|program| program.has_doctests).map(|program| program.package.as_str()).collect();
    if libraries.is_empty() {
        return Ok(None);
    }
    let mut command = process::cargo();
    command.args(["test", "--no-fail-fast", "--doc"]);
    if let Some(compiler) = whole {
        command.arg("--workspace");
        compiler.take_part(&mut command);
    } else {
        command.args(libraries.iter().flat_map(|package| ["--package", package]));
    }
    environment(&mut command)?;
    let started = Instant::now();
    let (ended_well, output) = process::tee(&mut command)?;
    Ok(Some(Ran {
        name: "documentation".to_owned(),
        took: started.elapsed(),
        counts: counted(&output, ended_well),
        tests: Vec::new(),
    }))
}

/// Runs all programs: those that can stand company side by side, the longest first, then the others.
///
/// # Errors
/// As [`environment`].
pub fn run_all(programs: &[Program]) -> Result<Vec<Ran>> {
    environment(&mut Command::new("none"))?;
    let known = known_times();
    let time = |program: &Program| known[program.name()].as_f64().unwrap_or(f64::MAX);
    let (mut alone, mut together): (Vec<&Program>, Vec<&Program>) =
        programs.iter().partition(|program| program.is_alone());
    together.sort_by(|a, b| time(b).total_cmp(&time(a)));
    alone.sort_by(|a, b| time(b).total_cmp(&time(a)));
    let timed = programs.first().is_some_and(tells_times);
    let mut ran = side_by_side(&together, SIDE_BY_SIDE, timed);
    ran.extend(side_by_side(&alone, 1, timed));
    remember_times(known, &ran);
    Ok(ran)
}

/// Runs programs, `n` at a time, in this order.
fn side_by_side(programs: &[&Program], n: usize, timed: bool) -> Vec<Ran> {
    let next = AtomicUsize::new(0);
    let ran = Mutex::new(Vec::with_capacity(programs.len()));
    std::thread::scope(|scope| {
        for _ in 0..n {
            scope.spawn(|| {
                while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = run(program, timed);
                    ran.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(done);
                }
            });
        }
    });
    ran.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a program and shows what it said when it has ended.
fn run(program: &Program, timed: bool) -> Ran {
    let mut command = Command::new(&program.path);
    command.current_dir(&program.folder).stdin(Stdio::null()).env("CARGO_MANIFEST_DIR", &program.folder);
    if timed {
        command.args(REPORT_TIME).env(MAY_REPORT_TIME, "1");
    }
    let started = Instant::now();
    let output = environment(&mut command).and_then(|()| process::captured(&mut command));
    let (ended_well, text) = output.unwrap_or_else(|error| (false, format!("error: {error}\n")));
    let took = started.elapsed();
    let name = program.name();
    // A closed terminal must not end the run: its result is the exit code.
    let _ = write!(std::io::stdout().lock(), "     Ran {name} in {:.1} s\n{text}", took.as_secs_f64());
    Ran { name, took, counts: counted(&text, ended_well), tests: timed_tests(&text) }
}

/// What a program's closing lines count; one that breaks off, or says nothing, has failed.
fn counted(output: &str, ended_well: bool) -> Counts {
    let mut counts = Counts::of(output);
    if !ended_well && counts.n_failed == 0 {
        counts.n_failed = 1;
    }
    counts
}

/// What the tests find in their environment: the model, and a folder that Vulkan's drivers complain about once per device.
fn environment(command: &mut Command) -> Result<()> {
    command.env("ADAPTER_SMOLLM2", model::path()?).env("ADAPTER_QWEN", model::QWEN.path()?);
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    Ok(())
}

/// libtest says how long each test took, where it is allowed to.
const REPORT_TIME: [&str; 3] = ["-Z", "unstable-options", "--report-time"];
const MAY_REPORT_TIME: &str = "RUSTC_BOOTSTRAP";

/// Whether this compiler's test programs know [`REPORT_TIME`].
fn tells_times(program: &Program) -> bool {
    let mut command = Command::new(&program.path);
    command.args(REPORT_TIME).arg("--list").env(MAY_REPORT_TIME, "1").current_dir(&program.folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Seconds of each program the last time.
fn known_times() -> Value {
    let text = std::fs::read_to_string(process::target_folder().join(TIMES)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_else(|_| Value::Object(serde_json::Map::new()))
}

/// Nothing depends on this succeeding: without it the order is another one.
fn remember_times(mut known: Value, ran: &[Ran]) {
    for program in ran {
        known[&program.name] = program.took.as_secs_f64().into();
    }
    let _ = std::fs::write(process::target_folder().join(TIMES), known.to_string());
}

/// The slowest ten programs and the slowest ten tests.
#[must_use]
pub fn slowest(ran: &[Ran]) -> String {
    let ten = |title: &str, mut all: Vec<(&str, f64)>| {
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        let lines = all.iter().take(10).map(|(name, seconds)| format!("  {seconds:>7.1} s  {name}\n"));
        if all.is_empty() { String::new() } else { format!("\n{title}\n{}", lines.collect::<String>()) }
    };
    let programs = ran.iter().map(|program| (program.name.as_str(), program.took.as_secs_f64())).collect();
    let tests =
        ran.iter().flat_map(|program| &program.tests).map(|(name, seconds)| (name.as_str(), *seconds)).collect();
    ten("The slowest programs", programs) + &ten("The slowest tests", tests)
}

/// Fails when nothing was found to run.
///
/// # Errors
/// An empty list.
pub fn some(built: Built) -> Result<Built> {
    if built.programs.is_empty() { Err(Error::failed("cargo names no program of tests")) } else { Ok(built) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: &str, target: &str, executable: Option<&str>, test: bool) -> Value {
        json!({ "reason": "compiler-artifact", "package_id": id, "manifest_path": "/w/crates/engine/Cargo.toml",
            "target": { "kind": ["lib"], "name": target, "doctest": target == "adapter_engine" },
            "profile": { "test": test }, "executable": executable })
    }

    #[test]
    fn programs_are_read_out_of_cargos_messages() {
        let id = "path+file:///w/crates/engine#adapter-engine@0.1.0";
        let program =
            Program::of(&message(id, "adapter_engine", Some("/w/target/debug/deps/x"), true)).expect("a program");
        assert_eq!(program.name(), "adapter-engine::adapter_engine");
        assert_eq!(program.folder, Path::new("/w/crates/engine"));
        assert!(program.has_doctests && !program.is_alone());
        let short =
            Program::of(&message("path+file:///w/crates/engine#0.1.0", "window", Some("/x"), true)).expect("one");
        assert_eq!(short.package, "engine");
        assert!(short.is_alone());
        // A library that tests use, a program that is not a test, and other messages.
        assert_eq!(Program::of(&message(id, "adapter_engine", None, true)), None);
        assert_eq!(Program::of(&message(id, "adapter_engine", Some("/x"), false)), None);
        assert_eq!(Program::of(&json!({ "reason": "build-finished", "success": true })), None);
    }

    #[test]
    fn a_program_that_breaks_off_has_failed() {
        let text = "running 2 tests\ntest a ... ok\n";
        assert_eq!(counted(text, false).n_failed, 1);
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        assert_eq!(counted(failed, false).n_failed, 2);
        let held = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        assert_eq!((counted(held, true).n_passed, counted(held, true).n_failed), (3, 0));
        assert_eq!(counted(held, false).n_failed, 1, "it was killed after its last line");
    }

    #[test]
    fn the_slowest_are_listed_first_and_ten_of_them() {
        let ran: Vec<Ran> = (0..12)
            .map(|n| Ran {
                name: format!("p{n}"),
                took: Duration::from_secs(n),
                counts: Counts::default(),
                tests: vec![(format!("t{n}"), n as f64 / 2.0)],
            })
            .collect();
        let text = slowest(&ran);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2].trim(), "11.0 s  p11");
        assert!(text.contains("5.5 s  t11") && !text.contains("t1\n"), "{text}");
        assert_eq!(lines.len(), 24);
        assert_eq!(slowest(&[]), "");
    }
}
