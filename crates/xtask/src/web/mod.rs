//! `cargo xtask web`: the browser page, built and served; and the tests that drive it in Chromium.

pub mod browser;
mod build;
pub mod node;
pub mod server;
mod tests;
#[cfg(test)]
mod types_agree;

use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};
use crate::{model, process};

pub use build::{Speed, build};
pub use tests::{golden, pages};

/// The port of `cargo xtask web`, where nothing else is asked for.
const PORT: u16 = 8787;

/// The folder of the page's sources.
pub fn folder() -> PathBuf {
    process::repository_root().join("web")
}

/// This program, asked to build the page for its tests: a process of its own, whose output can be kept.
pub fn build_apart() -> Result<Command> {
    let this =
        std::env::current_exe().map_err(|error| Error::failed(format!("this program is not to be found: {error}")))?;
    let mut command = Command::new(this);
    command.args(["web", "--build-only", "--fast"]);
    Ok(command)
}

/// `cargo xtask web [--build-only] [--fast] [--port N]`.
pub fn run(rest: &[String]) -> Result<()> {
    let mut port = PORT;
    let mut build_only = false;
    let mut speed = Speed::Shipping;
    let mut args = rest.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--build-only" => build_only = true,
            "--fast" => speed = Speed::Testing,
            "--port" => {
                let number = args.next().and_then(|number| number.parse().ok());
                port = number.ok_or_else(|| Error::usage("--port wants a number from 1 to 65535"))?;
            }
            other => {
                return Err(Error::usage(format!(
                    "`cargo xtask web` takes only `--build-only`, `--fast` and `--port N`, got {other:?}"
                )));
            }
        }
    }
    build(speed)?;
    if build_only {
        println!("web: built {}", folder().join("dist").display());
        return Ok(());
    }
    let site = server::Site {
        root: folder().join("dist"),
        models: vec![server::Offer::smollm2(model::ensure()?)],
        mounts: Vec::new(),
    };
    let server = server::Server::start(port, site)?;
    println!("web: open {} in Chrome, Edge or another browser with WebGPU; Ctrl+C ends this", server.url());
    server.wait();
    Ok(())
}
