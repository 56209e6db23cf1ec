//! `cargo xtask test`: every check there is, a time for each, and one closing line.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cargo_output::Counts;
use crate::error::{Error, Result};
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
            ("adapter-files", "crates/files"),
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
    let mut report = Report::default();
    if part.needs_model {
        prepare(&mut report, part.needs_screen)?;
    }
    if part.name == "web" {
        report.web();
        return report.close();
    }
    report.tests(|command| {
        for (package, _) in part.packages {
            command.args(["--package", package]);
        }
        command.args(part.targets);
    })?;
    report.close()
}

/// The whole run. Everything is tried, so that one run shows all there is to mend.
fn everything() -> Result<()> {
    let mut report = Report::default();
    prepare(&mut report, parts().any(|part| part.needs_screen))?;
    report.optional("fmt", "rustfmt", process::cargo().args(["fmt", "--all", "--check"]))?;
    report.tests(|command| {
        command.arg("--workspace");
    })?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    report.optional("clippy", "clippy", process::cargo().args(clippy))?;
    report.web();
    report.close()
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
    Ok(())
}

/// How a step ended.
enum Outcome {
    Held,
    Failed,
    NotInstalled,
}

/// What ran, how long it took, and how it went.
#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Duration, Outcome)>,
    counts: Counts,
}

impl Report {
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

    /// Builds the page, then runs its tests in Chromium.
    fn web(&mut self) {
        let failed_before = self.counts.n_failed;
        self.step("web build", web::build);
        // Tests of a page that was not built would test the one before.
        if self.counts.n_failed > failed_before {
            return;
        }
        self.counted("web tests", web::pages);
        self.counted("web SmolLM2", web::golden);
    }

    /// Runs a step that counts its own tests.
    fn counted(&mut self, name: &'static str, run: impl FnOnce() -> Result<Counts>) {
        println!("== {name}");
        let started = Instant::now();
        let counts = run().unwrap_or_else(|error| {
            eprintln!("error: {name}: {error}");
            Counts { n_failed: 1, ..Counts::default() }
        });
        self.counts += counts;
        let outcome = if counts.n_failed == 0 { Outcome::Held } else { Outcome::Failed };
        self.steps.push((name, started.elapsed(), outcome));
    }

    /// A step whose cargo component may not be installed.
    fn optional(&mut self, name: &'static str, component: &str, command: &mut Command) -> Result<()> {
        let mut probe = process::cargo();
        let installed = probe.args([name, "--version"]).output().is_ok_and(|output| output.status.success());
        if installed {
            self.step(name, || process::run(command));
        } else {
            println!("== {name}: left out, `rustup component add {component}` installs it");
            self.steps.push((name, Duration::ZERO, Outcome::NotInstalled));
        }
        Ok(())
    }

    /// Runs `cargo test` on the packages that `select` names and counts what it says.
    fn tests(&mut self, select: impl FnOnce(&mut Command)) -> Result<()> {
        println!("== tests");
        let started = Instant::now();
        let mut command = process::cargo();
        command.args(["test", "--no-fail-fast"]).env("ADAPTER_SMOLLM2", model::path()?);
        // Vulkan's drivers complain about this once per device, hundreds of times a run.
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
        select(&mut command);
        let (ended_well, output) = process::tee(&mut command)?;
        let counts = Counts::of(&output);
        self.counts += counts;
        if counts.n_passed == 0 && ended_well {
            eprintln!("error: not one test ran");
        }
        let mut n_failed = counts.n_failed;
        // A build that fails, or a test program that is killed, leaves no closing line.
        if n_failed == 0 && (!ended_well || counts.n_passed == 0) {
            n_failed = 1;
            self.counts.n_failed += 1;
        }
        let outcome = if n_failed == 0 { Outcome::Held } else { Outcome::Failed };
        self.steps.push(("tests", started.elapsed(), outcome));
        Ok(())
    }

    /// Prints the times and the closing line, and fails when anything did.
    fn close(self) -> Result<()> {
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
