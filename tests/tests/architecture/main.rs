//! The rules of ARCHITECTURE.md, each an assertion: what may know what, and that every folder is named there.

mod imports;

use adapter_tests::data;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    data("").join("../..").canonicalize().expect("the repository")
}

fn folders(at: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(at)
        .expect("a folder")
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target" && name != "node_modules")
        .collect();
    names.sort();
    names
}

#[test]
fn every_folder_is_named_and_every_named_folder_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|word| word.ends_with('/')).collect();
    let mut problems = Vec::new();
    for name in folders(&root()) {
        if name != "crates" && !named.contains(&format!("{name}/").as_str()) {
            problems.push(format!("{name}/ is not named"));
        }
    }
    for name in folders(&root().join("crates")) {
        if !named.contains(&format!("crates/{name}/").as_str()) {
            problems.push(format!("crates/{name}/ is not named"));
        }
    }
    for name in ["engine", "finetune", "host"] {
        for folder in folders(&root().join("crates").join(name).join("src")) {
            if !text.contains(&format!("`src/{folder}/")) {
                problems.push(format!("crates/{name}/src/{folder}/ is not named"));
            }
        }
    }
    for name in named {
        let crates = ["crates/engine", "crates/finetune", "crates/host", "crates/xtask", "desktop", "web"];
        let places = crates.map(|name| root().join(name)).into_iter().chain([root()]);
        if !places.into_iter().any(|place| place.join(name).is_dir()) {
            problems.push(format!("{name} does not exist"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Files git tracks; none where the sources came without git.
fn tracked() -> Vec<PathBuf> {
    if !root().join(".git").exists() {
        return Vec::new();
    }
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("names are UTF-8");
    names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

/// What is large and no text is test data or a picture of the README: everything else belongs to where it is made.
#[test]
fn no_large_binary_is_tracked() {
    const MOST: u64 = 1 << 20;
    let large = tracked().into_iter().filter(|path| {
        let apart = path.starts_with("tests/data") || path.starts_with("docs");
        let whole = root().join(path);
        // A file that was just deleted is still in the index.
        let size = fs::metadata(&whole).map_or(0, |meta| meta.len());
        !apart && size > MOST && std::str::from_utf8(&fs::read(&whole).expect("readable")).is_err()
    });
    let large: Vec<_> = large.collect();
    assert!(large.is_empty(), "over {MOST} bytes and no text: {large:?}");
    let archives = ["whl", "zip", "gz", "tgz", "xz", "zst", "7z", "jar", "exe", "dll", "so", "a", "o", "wasm"];
    let strays = tracked().into_iter().filter(|path| {
        !path.starts_with("tests/data") && path.extension().is_some_and(|end| archives.iter().any(|name| *name == end))
    });
    let strays: Vec<_> = strays.collect();
    assert!(strays.is_empty(), "built or packed elsewhere: {strays:?}");
}

#[test]
fn the_licences_are_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(manifest.contains("license = \"MIT OR Apache-2.0\""), "the manifest names both");
    for (file, word) in [("LICENSE-MIT", "Permission is hereby granted"), ("LICENSE-APACHE", "Apache License")] {
        let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(word), "{file}");
    }
}

/// Every line of a folder's Rust files that has one of these texts, comments left out.
fn lines_with(folder: &str, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source file");
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if texts.iter().any(|text| code.contains(text)) {
                    found.push(format!("{}:{}: {line}", path.display(), number + 1));
                }
            }
        }
    }
    found
}

/// An op does not know who checks or tunes it.
#[test]
fn ops_never_name_check() {
    let named = lines_with("crates/engine/src/ops", &["check::", "self_test", "tuning::"]);
    assert!(named.is_empty(), "{}", named.join("\n"));
    let named = lines_with("crates/engine/src/gpu", &["check::", "ops::"]);
    assert!(named.is_empty(), "{}", named.join("\n"));
}

/// The page speaks to users of any machine.
#[test]
fn the_readme_opens_with_the_two_commands() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    let commands: Vec<&str> =
        text.lines().filter(|line| line.trim_start().starts_with("cargo xtask")).take(2).collect();
    assert!(
        commands.len() == 2 && commands[0].contains("xtask chat") && commands[1].contains("xtask test"),
        "{commands:?}"
    );
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(link.starts_with("http") || root().join(link).is_file(), "{link} does not exist");
    }
}

/// The crates, by their folders.
const CRATES: [&str; 12] = [
    "crates/adapter-cli",
    "crates/engine",
    "crates/host",
    "crates/finetune",
    "crates/plot",
    "crates/reference",
    "crates/xtask",
    "desktop",
    "web/bindgen",
    "web/browser",
    "web/teach",
    "web/wasm",
];

/// Sources of a crate, by their path from the root: code without comments and unit tests, and the strings in it.
fn sources(name: &str) -> Vec<(String, String, Vec<String>)> {
    let files = imports::files(&root().join(name).join("src"), ".rs");
    assert!(!files.is_empty(), "{name} has no sources");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("below").display().to_string();
        let (code, strings) = imports::scan(&fs::read_to_string(&path).expect("a source file"));
        (name, code, strings)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let mut found = Vec::new();
    for name in CRATES {
        for circle in imports::circles(&imports::of_crate(&root().join(name).join("src"))) {
            found.push(format!("{name}: {}", circle.join(", ")));
        }
    }
    for circle in imports::circles(&imports::of_scripts(&root(), &["web/src", "web/engine/src"])) {
        found.push(circle.join(", "));
    }
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

/// Terminal, window, page and training answer by `engine/src/answer.rs` alone.
#[test]
fn no_door_loops_over_tokens() {
    for name in CRATES.into_iter().filter(|name| *name != "crates/engine") {
        for (file, code, _) in sources(name) {
            for forbidden in ["session.generate(", "generation.next()", "TextStream::new"] {
                // Two places in the data of training show tokens that are there already.
                let shows = forbidden == "TextStream::new" && file.starts_with("crates/finetune/src/data/");
                assert!(shows || !code.contains(forbidden), "{file} has {forbidden}: adapter_engine::answer does that");
            }
        }
    }
}

#[test]
fn views_hold_no_state_and_change_none() {
    let views: Vec<_> = sources("desktop").into_iter().filter(|(file, ..)| file.ends_with("_ui.rs")).collect();
    assert!(views.len() > 5, "the window has views");
    for (file, code, _) in views {
        for line in code.lines() {
            let line = line.trim_start();
            let is_state = ["pub struct", "pub enum", "pub(crate) struct", "pub(crate) enum"];
            assert!(!is_state.iter().any(|start| line.starts_with(start)), "{file} defines state: {line}");
            assert!(!line.starts_with("impl App") && !line.starts_with("impl State"), "{file} changes state: {line}");
            assert!(!line.contains("&mut State") && !line.contains("&mut App"), "{file} may change state: {line}");
        }
    }
}

/// What to do is the doors' to say: only they know their flags, buttons and settings.
#[test]
fn errors_of_engine_and_training_name_no_flag_and_no_program() {
    for (file, _, strings) in ["crates/engine", "crates/finetune"].into_iter().flat_map(sources) {
        for text in strings {
            let is_flag = |word: &str| {
                let word = word.trim_start_matches(['`', '(', '\'']);
                word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
                    || (word.len() == 2 && word.starts_with('-') && word.ends_with(|c: char| c.is_ascii_lowercase()))
            };
            assert!(!text.split_whitespace().any(is_flag), "{file} names a flag: {text:?}");
            for program in ["adapter-cli", "adapter-desktop", "cargo xtask"] {
                assert!(!text.contains(program), "{file} names {program}: {text:?}");
            }
        }
    }
}

#[test]
fn models_know_no_adapters_and_operations_no_checks() {
    let engine = imports::of_crate(&root().join("crates/engine/src"));
    for (file, targets) in &engine {
        for (of, never) in [("model/", "adapter/"), ("ops/", "check/"), ("formats/", "gpu/"), ("text/", "gpu/")] {
            let known = targets.iter().find(|target| target.starts_with(never));
            assert!(!file.starts_with(of) || known.is_none(), "{file} imports {known:?}");
        }
    }
}

/// Every code of an error of the engine and of training, as `fn code` gives them.
fn codes() -> Vec<String> {
    let mut codes = Vec::new();
    for name in ["crates/engine", "crates/finetune", "crates/host"] {
        for path in imports::files(&root().join(name).join("src"), ".rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            for body in text.split("pub fn code(&self) -> &'static str {").skip(1) {
                let body = body.split("\n    }\n").next().expect("a body");
                codes.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    codes.sort();
    codes.dedup();
    codes
}

/// Each door has one table of what to do about an error, and it is whole.
#[test]
fn every_door_has_advice_for_every_error() {
    let codes = codes();
    assert!(codes.len() > 40, "{codes:?}");
    for table in ["crates/adapter-cli/src/advice.rs", "desktop/src/words.rs", "web/src/failures.ts"] {
        let text = fs::read_to_string(root().join(table)).expect("a table");
        let missing: Vec<&String> = codes
            .iter()
            .filter(|code| !text.contains(&format!("\"{code}\"")) && !text.contains(&format!("\n  {code}: ")))
            .collect();
        assert!(missing.is_empty(), "{table} has no advice for {missing:?}");
        for code in &codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{code} is not kebab-case");
        }
    }
}
