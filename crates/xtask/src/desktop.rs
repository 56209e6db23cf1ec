//! `cargo xtask desktop`: from a fresh clone to a window.

use crate::error::Result;
use crate::{chat, model, process, setup};

/// `cargo xtask desktop [-- ARGS]`.
pub fn run(rest: &[String]) -> Result<()> {
    let args = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
    setup::ensure()?;
    // A first start offers this model; the window itself opens no network connection.
    model::ensure()?;
    process::run(process::cargo().args(["build", "--release", "--package", "adapter-desktop"]))?;
    let mut command = chat::built("adapter-desktop")?;
    command.args(args);
    chat::replace_this_process(command)
}
