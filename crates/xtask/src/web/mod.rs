//! `cargo xtask web`: the browser page, built and served; and the tests that drive it in Chromium.

pub mod browser;
mod build;
pub mod node;
pub mod server;
mod tests;

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::{model, process};

pub use tests::{golden, pages};

/// The port of `cargo xtask web`, where nothing else is asked for.
const PORT: u16 = 8787;

/// The folder of the page's sources.
pub fn folder() -> PathBuf {
    process::repository_root().join("web")
}

/// Builds the page into `web/dist`.
pub fn build() -> Result<()> {
    build::build()
}

/// `cargo xtask web [--build-only] [--port N]`.
pub fn run(rest: &[String]) -> Result<()> {
    let mut port = PORT;
    let mut build_only = false;
    let mut args = rest.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--build-only" => build_only = true,
            "--port" => {
                let number = args.next().and_then(|number| number.parse().ok());
                port = number.ok_or_else(|| Error::usage("--port wants a number from 1 to 65535"))?;
            }
            other => {
                return Err(Error::usage(format!(
                    "`cargo xtask web` takes only `--build-only` and `--port N`, got {other:?}"
                )));
            }
        }
    }
    build()?;
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
