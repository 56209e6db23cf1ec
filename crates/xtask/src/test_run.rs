//! `cargo xtask test`: every check there is, a time for each, and one closing line.

use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cargo_output::Counts;
use crate::error::{Error, Result};
use crate::test_programs::{self, Built, Compiler, Program, Ran};
use crate::{model, process, setup, web};

/// A part that `--only` runs: its name and the packages whose tests it is.
struct Part {
    name: &'static str,
    /// Package name and the folder it lives in; a part whose folders are not there yet does not exist.
    packages: &'static [(&'static str, &'static str)],
    /// Test targets to run, when not all of these packages.
    targets: &'static [&'static str],
    needs_model: bool,
    /// Whether a test opens a window.
    needs_screen: bool,
}

const PARTS: &[Part] = &[
    Part {
        name: "engine",
        // The program as well: some tests drive it.
        packages: &[
            ("adapter-engine", "crates/engine"),
            ("adapter-tests", "tests"),
            ("adapter-cli", "crates/adapter-cli"),
        ],
        targets: &[],
        needs_model: true,
        needs_screen: false,
    },
    Part {
        name: "cli",
        packages: &[("adapter-cli", "crates/adapter-cli"), ("adapter-tests", "tests")],
        targets: &["--bins", "--test=program", "--test=cli"],
        needs_model: true,
        needs_screen: false,
    },
    Part {
        name: "finetune",
        packages: &[("adapter-finetune", "crates/finetune"), ("adapter-plot", "crates/plot")],
        targets: &[],
        needs_model: true,
        needs_screen: false,
    },
    Part {
        name: "reference",
        packages: &[("adapter-reference", "crates/reference")],
        targets: &[],
        needs_model: false,
        needs_screen: false,
    },
    Part {
        name: "desktop",
        // The program as well: it goes on with a run of the window.
        packages: &[
            ("adapter-desktop", "desktop"),
            ("adapter-host", "crates/host"),
            ("adapter-cli", "crates/adapter-cli"),
        ],
        targets: &[],
        needs_model: true,
        needs_screen: true,
    },
    // Built for the browser and driven there, see `Report::web`.
    Part {
        name: "web",
        packages: &[("adapter-web", "web/wasm")],
        targets: &[],
        needs_model: true,
        needs_screen: false,
    },
    Part {
        name: "xtask",
        packages: &[("xtask", "crates/xtask")],
        targets: &[],
        needs_model: false,
        needs_screen: false,
    },
];

/// The parts whose packages the workspace has.
fn parts() -> impl Iterator<Item = &'static Part> {
    let manifest = std::fs::read_to_string(process::repository_root().join("Cargo.toml")).unwrap_or_default();
    PARTS.iter().filter(move |part| part.packages.iter().all(|(_, folder)| has_member(&manifest, folder)))
}

/// What `--only` may be followed by.
pub fn part_names() -> Vec<&'static str> {
    parts().map(|part| part.name).collect()
}

/// Whether the workspace's manifest lists `folder` as a member.
fn has_member(manifest: &str, folder: &str) -> bool {
    let members =
        manifest.split_once("\nmembers").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    members.split('"').skip(1).step_by(2).any(|member| member == folder)
}

/// `cargo xtask test [--only NAME]`.
pub fn run(rest: &[String]) -> Result<()> {
    match rest {
        [] => everything(),
        [flag, name] if flag == "--only" => only(name),
        [flag] if let Some(name) = flag.strip_prefix("--only=") => only(name),
        [arg, ..] => Err(Error::usage(format!("`cargo xtask test` takes only `--only NAME`, got {arg:?}"))),
    }
}

/// The tests of one part, without the checks of the whole.
fn only(name: &str) -> Result<()> {
    let unknown = || Error::usage(format!("there is no part {name:?} to test; there are: {}", part_names().join(", ")));
    let part = parts().find(|part| part.name == name).ok_or_else(unknown)?;
    let mut report = Report::new();
    if part.needs_model {
        prepare(&mut report, part.needs_screen)?;
    }
    if part.name == "web" {
        report.step(WEB_BUILD, || web::build(web::Speed::Testing));
        if report.counts.n_failed == 0 {
            report.pages();
        }
        return report.close();
    }
    let built = report.build(&Compiler::Plain, |command| {
        for (package, _) in part.packages {
            command.args(["--package", package]);
        }
        command.args(part.targets);
    });
    report.doc_tests(&built.programs, None);
    report.tests(&built.programs);
    report.close()
}

/// The whole run. Everything is tried, so that one run shows all there is to mend. Clippy reads what is compiled anyway; the page's
/// build goes on beside the tests, in what they leave of the machine.
fn everything() -> Result<()> {
    let mut report = Report::new();
    prepare(&mut report, parts().any(|part| part.needs_screen))?;
    report.optional("fmt", "rustfmt", process::cargo().args(["fmt", "--all", "--check"]))?;
    let linting = Compiler::linting()?;
    let compiler = linting.as_ref().unwrap_or(&Compiler::Plain);
    let Built { programs, warnings } = report.build(compiler, |command| {
        command.arg("--workspace");
    });
    match linting {
        Some(_) => report.step("clippy", || warned_of_nothing(&warnings)),
        None => report.not_installed("clippy", "clippy"),
    }
    let beside = Beside::start(vec![(WEB_BUILD, web::build_apart()?)]);
    report.doc_tests(&programs, Some(compiler));
    report.tests(&programs);
    // Tests of a page that was not built would test the one before.
    if report.ended(beside, WEB_BUILD) {
        report.pages();
    }
    report.close()
}

/// A warning is a mistake.
fn warned_of_nothing(warnings: &[String]) -> Result<()> {
    match warnings {
        [] => Ok(()),
        _ => Err(Error::failed(format!("{} warnings\n{}", warnings.len(), warnings.concat()))),
    }
}

/// The step that the tests of the page need.
const WEB_BUILD: &str = "web build";

/// Commands that run one after the other beside the tests, with less right to the machine, each with its output kept.
struct Beside(JoinHandle<Vec<(&'static str, Duration, bool, String)>>);

impl Beside {
    fn start(commands: Vec<(&'static str, Command)>) -> Self {
        Self(std::thread::spawn(move || {
            let run = |(name, command): (&'static str, Command)| {
                let started = Instant::now();
                let (ended_well, text) = process::captured(&mut process::nice(command))
                    .unwrap_or_else(|error| (false, format!("error: {error}\n")));
                (name, started.elapsed(), ended_well, text)
            };
            commands.into_iter().map(run).collect()
        }))
    }
}

/// What tests need before they can run. Without it no result means anything, so a failure here ends the run.
fn prepare(report: &mut Report, screen: bool) -> Result<()> {
    let started = Instant::now();
    setup::ensure()?;
    if screen {
        setup::ensure_screen()?;
    }
    model::ensure()?;
    report.steps.push(("setup and model", started.elapsed(), Outcome::Held));
    // Half a minute of a good line. Without it one test says that it compares nothing.
    let started = Instant::now();
    let outcome = match model::QWEN.ensure() {
        Ok(_) => Outcome::Held,
        Err(error) => {
            println!("{error}");
            Outcome::NotInstalled
        }
    };
    report.steps.push(("second model", started.elapsed(), outcome));
    Ok(())
}

/// How a step ended.
enum Outcome {
    Held,
    Failed,
    NotInstalled,
}

/// What ran, how long it took, and how it went.
struct Report {
    steps: Vec<(&'static str, Duration, Outcome)>,
    counts: Counts,
    /// Every program of tests.
    ran: Vec<Ran>,
    started: Instant,
}

impl Report {
    fn new() -> Self {
        Self { steps: Vec::new(), counts: Counts::default(), ran: Vec::new(), started: Instant::now() }
    }

    /// Runs a step; one that fails counts as a failed test.
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        let started = Instant::now();
        let result = run();
        if let Err(error) = &result {
            eprintln!("error: {name}: {error}");
            self.counts.n_failed += 1;
        }
        self.steps.push((name, started.elapsed(), if result.is_ok() { Outcome::Held } else { Outcome::Failed }));
    }

    /// Runs the tests of the page in Chromium: alone, for they measure how soon it answers.
    fn pages(&mut self) {
        self.programs("web tests", || Ok(vec![web::pages()?]));
        self.programs("web SmolLM2", || Ok(vec![web::golden()?]));
    }

    /// A step whose cargo component may not be installed.
    fn optional(&mut self, name: &'static str, component: &str, command: &mut Command) -> Result<()> {
        let mut probe = process::cargo();
        let installed = probe.args([name, "--version"]).output().is_ok_and(|output| output.status.success());
        if installed {
            self.step(name, || process::run(command));
        } else {
            self.not_installed(name, component);
        }
        Ok(())
    }

    fn not_installed(&mut self, name: &'static str, component: &str) {
        println!("== {name}: left out, `rustup component add {component}` installs it");
        self.steps.push((name, Duration::ZERO, Outcome::NotInstalled));
    }

    /// Builds the tests of the packages that `select` names.
    fn build(&mut self, compiler: &Compiler, select: impl FnOnce(&mut Command)) -> Built {
        let mut built = Built::default();
        self.step("test build", || {
            built = test_programs::some(test_programs::build(compiler, select)?)?;
            Ok(())
        });
        built
    }

    /// Runs the tests in the documentation of these programs' libraries; `whole`: of the whole workspace, and who compiled it.
    fn doc_tests(&mut self, programs: &[Program], whole: Option<&Compiler>) {
        if !programs.is_empty() {
            self.programs("doc tests", || Ok(test_programs::run_doctests(programs, whole)?.into_iter().collect()));
        }
    }

    /// Runs these programs and counts what they say. None: they were not built, which has been counted.
    fn tests(&mut self, programs: &[Program]) {
        if programs.is_empty() {
            return;
        }
        self.programs("tests", || {
            let ran = test_programs::run_all(programs)?;
            if ran.iter().all(|program| program.counts == Counts::default()) {
                return Err(Error::failed("not one test ran"));
            }
            Ok(ran)
        });
    }

    /// Runs a step of programs that count their own tests.
    fn programs(&mut self, name: &'static str, run: impl FnOnce() -> Result<Vec<Ran>>) {
        println!("== {name}");
        let started = Instant::now();
        let mut counts = Counts::default();
        match run() {
            Ok(ran) => {
                for program in &ran {
                    counts += program.counts;
                }
                self.ran.extend(ran);
            }
            Err(error) => {
                eprintln!("error: {name}: {error}");
                counts.n_failed = 1;
            }
        }
        self.counts += counts;
        let outcome = if counts.n_failed == 0 { Outcome::Held } else { Outcome::Failed };
        self.steps.push((name, started.elapsed(), outcome));
    }

    /// Waits for what ran beside the tests and shows it. Whether the one called `wanted` held.
    fn ended(&mut self, beside: Beside, wanted: &str) -> bool {
        let Ok(ended) = beside.0.join() else {
            self.counts.n_failed += 1;
            return false;
        };
        let mut held = false;
        for (name, took, ended_well, text) in ended {
            print!("== {name}\n{text}");
            if !ended_well {
                eprintln!("error: {name} failed");
                self.counts.n_failed += 1;
            }
            held |= ended_well && name == wanted;
            self.steps.push((name, took, if ended_well { Outcome::Held } else { Outcome::Failed }));
        }
        held
    }

    /// Prints the times and the closing line, and fails when anything did.
    fn close(self) -> Result<()> {
        print!("{}", test_programs::slowest(&self.ran));
        println!();
        for (name, elapsed, outcome) in &self.steps {
            let note = match outcome {
                Outcome::Held => "",
                Outcome::Failed => "  FAILED",
                Outcome::NotInstalled => "  not installed",
            };
            println!("{name:<16} {:>7.1} s{note}", elapsed.as_secs_f64());
        }
        let failed: Vec<_> =
            self.steps.iter().filter(|(_, _, outcome)| matches!(outcome, Outcome::Failed)).map(|step| step.0).collect();
        if !failed.is_empty() {
            eprintln!("error: failed: {}", failed.join(", "));
        }
        println!("{:<16} {:>7.1} s", "all", self.started.elapsed().as_secs_f64());
        println!("{}", self.counts);
        if failed.is_empty() { Ok(()) } else { std::process::exit(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_from_the_manifest() {
        let manifest = "[workspace]\nresolver = \"3\"\nmembers = [\n    \"crates/engine\", # the engine\n    \"tests\",\n]\ndefault-members = [\"crates/later\"]\n";
        assert!(has_member(manifest, "crates/engine"));
        assert!(has_member(manifest, "tests"));
        assert!(!has_member(manifest, "crates/later"));
        assert!(!has_member("", "tests"));
    }

    #[test]
    fn an_unknown_part_is_wrong_use_and_the_known_ones_are_listed() {
        let error = only("wrong").expect_err("unknown");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("engine"), "{error}");
        assert!(run(&["--fast".to_owned()]).is_err());
    }
}
