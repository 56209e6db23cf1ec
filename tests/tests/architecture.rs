//! ARCHITECTURE.md names every folder there is, and no other.

use adapter_tests::data;
use std::fs;
use std::path::{Path, PathBuf};

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
    for name in ["engine", "finetune"] {
        for folder in folders(&root().join("crates").join(name).join("src")) {
            if !text.contains(&format!("`src/{folder}/")) {
                problems.push(format!("crates/{name}/src/{folder}/ is not named"));
            }
        }
    }
    for name in named {
        let crates = ["crates/engine", "crates/finetune", "crates/xtask", "desktop", "web"];
        let places = crates.map(|name| root().join(name)).into_iter().chain([root()]);
        if !places.into_iter().any(|place| place.join(name).is_dir()) {
            problems.push(format!("{name} does not exist"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
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
