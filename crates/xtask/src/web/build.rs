//! From Rust and TypeScript to static files: cargo, wasm-bindgen, wasm-opt, tsc, Vite.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::folder;
use super::node::Node;
use crate::error::{Error, Result};
use crate::process;
use crate::wasm::{self, Toolchain};

/// What the module is called, in Rust and in the browser.
const NAME: &str = "adapter_web";
/// Instructions that every browser with WebGPU has, and that rustc uses.
const FEATURES: [&str; 7] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-mutable-globals",
    "--enable-multivalue",
    "--enable-reference-types",
];

/// Builds the engine's package (`web/engine`) and the page (`web/dist`).
pub fn build() -> Result<()> {
    let folder = folder();
    let node = Node::find()?;
    node.install(&folder)?;

    let mut cargo = Toolchain::find()?.cargo("build")?;
    process::run(cargo.args(["--package", "adapter-web", "--profile", "wasm"]))?;
    let compiled = wasm::target_folder().join("wasm32-unknown-unknown/wasm").join(format!("{NAME}.wasm"));
    bind(&node, &folder, &compiled)?;

    // The package first: its types are what the page is checked against.
    process::run(node.script(&folder, "typescript/bin/tsc").args(["--project", "engine"]))?;
    process::run(node.script(&folder, "typescript/bin/tsc").arg("--noEmit"))?;
    process::run(node.script(&folder, "vite/bin/vite.js").args(["build", "--logLevel", "warn"]))
}

/// JavaScript and types for the module, and the module made small; nothing when the module is the same as last time.
fn bind(node: &Node, folder: &Path, compiled: &Path) -> Result<()> {
    let out = folder.join("engine/wasm");
    let module = std::fs::read(compiled).map_err(|error| Error::io("read", compiled, &error))?;
    let lock = process::repository_root().join("Cargo.lock");
    let lock = std::fs::read(&lock).map_err(|error| Error::io("read", &lock, &error))?;
    let hash: String = Sha256::new_with_prefix(module)
        .chain_update(lock)
        .chain_update(FEATURES.join(" "))
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let marker = out.join(".bound");
    if std::fs::read_to_string(&marker).is_ok_and(|bound| bound == hash) {
        return Ok(());
    }
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).map_err(|error| Error::io("make the folder", &out, &error))?;
    let mut bindgen = process::cargo();
    bindgen.args(["run", "--quiet", "--package", "adapter-bindgen", "--"]).arg(compiled).arg(&out).arg(NAME);
    process::run(&mut bindgen)?;
    let (bound, small) = (out.join(format!("{NAME}_bg.wasm")), out.join("small.wasm"));
    process::run(
        node.script(folder, "binaryen/bin/wasm-opt").arg("-Os").args(FEATURES).arg("-o").arg(&small).arg(&bound),
    )?;
    std::fs::rename(&small, &bound).map_err(|error| Error::io("move the module to", &bound, &error))?;
    std::fs::write(&marker, hash).map_err(|error| Error::io("write", &marker, &error))
}
