//! From Rust and TypeScript to static files: cargo, wasm-bindgen, wasm-opt, tsc, Vite.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::folder;
use super::node::Node;
use crate::error::{Error, Result};
use crate::process;
use crate::wasm::{self, Toolchain};

/// How much work goes into the modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// What people fetch: small first.
    Shipping,
    /// What the tests run: quick to build, both modules of the same compiled crates.
    Testing,
}

/// A module: a package of the workspace, and what comes of it.
struct Module {
    package: &'static str,
    /// Cargo's profile for [`Speed::Shipping`].
    profile: &'static str,
    /// Where JavaScript, types and the module go, from `web/`.
    out: &'static str,
    /// Whether wasm-opt makes it small for [`Speed::Shipping`].
    optimised: bool,
}

/// The chat's module, which everybody fetches: as small as it gets. The Teach view's, with burn in it, which is fetched when that
/// view is opened: optimising some hundred thousand lines across crates would take longer than everything else here.
const MODULES: [Module; 2] = [
    Module { package: "adapter-web", profile: "wasm", out: "engine/wasm", optimised: true },
    Module { package: "adapter-teach", profile: "wasm-teach", out: "teach/pkg", optimised: false },
];
/// Cargo's profile for [`Speed::Testing`].
const TEST_PROFILE: &str = "wasm-teach";
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
pub fn build(speed: Speed) -> Result<()> {
    let folder = folder();
    let node = Node::find()?;
    node.install(&folder)?;

    let toolchain = Toolchain::find()?;
    match speed {
        Speed::Shipping => {
            for module in &MODULES {
                let mut cargo = toolchain.cargo("build")?;
                process::run(cargo.args(["--package", module.package, "--profile", module.profile]))?;
                bind(&node, &folder, module, module.profile, module.optimised)?;
            }
        }
        Speed::Testing => {
            let mut cargo = toolchain.cargo("build")?;
            cargo.args(["--profile", TEST_PROFILE]);
            process::run(cargo.args(MODULES.iter().flat_map(|module| ["--package", module.package])))?;
            for module in &MODULES {
                bind(&node, &folder, module, TEST_PROFILE, false)?;
            }
        }
    }

    // The package first: its types are what the page is checked against.
    process::run(node.script(&folder, "typescript/bin/tsc").args(["--project", "engine"]))?;
    process::run(node.script(&folder, "typescript/bin/tsc").arg("--noEmit"))?;
    process::run(node.script(&folder, "vite/bin/vite.js").args(["build", "--logLevel", "warn"]))
}

/// JavaScript and types for a module, and the module made small; nothing when the module is the same as last time.
fn bind(node: &Node, folder: &Path, module: &Module, profile: &str, optimised: bool) -> Result<()> {
    let name = module.package.replace('-', "_");
    let out = folder.join(module.out);
    let compiled = wasm::target_folder().join("wasm32-unknown-unknown").join(profile).join(format!("{name}.wasm"));
    let compiled = compiled.as_path();
    let bytes = std::fs::read(compiled).map_err(|error| Error::io("read", compiled, &error))?;
    let read = |name: &str| {
        let path = process::repository_root().join(name);
        std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))
    };
    let (lock, tool) = (read("Cargo.lock")?, read("web/bindgen/src/main.rs")?);
    let hash: String = Sha256::new_with_prefix(bytes)
        .chain_update(lock)
        .chain_update(tool)
        .chain_update(if optimised { FEATURES.join(" ") } else { String::new() })
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
    bindgen.args(["run", "--quiet", "--package", "adapter-bindgen", "--"]).arg(compiled).arg(&out).arg(&name);
    process::run(&mut bindgen)?;
    if optimised {
        let (bound, small) = (out.join(format!("{name}_bg.wasm")), out.join("small.wasm"));
        process::run(
            node.script(folder, "binaryen/bin/wasm-opt").arg("-Os").args(FEATURES).arg("-o").arg(&small).arg(&bound),
        )?;
        std::fs::rename(&small, &bound).map_err(|error| Error::io("move the module to", &bound, &error))?;
    }
    std::fs::write(&marker, hash).map_err(|error| Error::io("write", &marker, &error))
}
