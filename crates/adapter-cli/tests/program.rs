//! The program starts. This test stands here, and not in `tests/`, because cargo then builds the program itself before any
//! test runs: `tests/tests/cli` drives it as a user would.

use std::process::Command;

#[test]
fn the_program_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_adapter-cli")).arg("--version").output().expect("the program starts");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), concat!("adapter-cli ", env!("CARGO_PKG_VERSION")));
}
