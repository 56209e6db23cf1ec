//! A compiler for WebAssembly. With rustup's target installed nothing special is needed. Where only Debian's packages
//! are to be had, `rustc-web` (their compiler for Firefox and Chromium) and the source of its standard library are
//! unpacked into the cache folder; installing them would conflict with rustup's.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::{process, setup};

const TARGET: &str = "wasm32-unknown-unknown";
/// How to get the target where rustup can reach its server.
const BY_RUSTUP: &str = "`rustup target add wasm32-unknown-unknown`";
/// What Debian calls the compiler and the source of its standard library.
const SEEDS: [&str; 2] = ["rustc-web", "rust-web-src"];
/// What every machine that builds Rust has, in one form or another.
const SYSTEM: [&str; 4] = ["gcc", "binutils", "libc6", "libc6-dev"];

/// One of the two ways to compile for the browser.
#[derive(Debug)]
pub enum Toolchain {
    /// The compiler in use knows the target.
    Installed,
    /// Debian's compiler, unpacked.
    Unpacked {
        /// What takes the place of `/`.
        root: PathBuf,
        /// Where its shared libraries are.
        libraries: PathBuf,
    },
}

/// `cargo xtask check-wasm`.
pub fn check() -> Result<()> {
    // Nothing is run, so nothing of it is worth optimising: with the settings of `dev` this takes four times as long.
    let unoptimised = ["profile.dev.opt-level=0", "profile.dev.package.'*'.opt-level=0", "profile.dev.debug=false"];
    let mut command = Toolchain::find()?.cargo("check")?;
    command.args(["--package", "adapter-engine"]);
    command.args(unoptimised.iter().flat_map(|setting| ["--config", setting]));
    process::run(&mut command)
}

impl Toolchain {
    /// Finds the way that applies on this machine, and fetches what it needs the first time.
    pub fn find() -> Result<Self> {
        let rustc = || Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let libraries = process::output(rustc().args(["--print", "target-libdir", "--target", TARGET]))?;
        if Path::new(libraries.trim()).is_dir() {
            return Ok(Self::Installed);
        }
        let root = cache::folder()?.join("rust-web");
        if let Ok(unpacked) = Self::unpacked(&root) {
            return Ok(unpacked);
        }
        fetch(&root)?;
        Self::unpacked(&root)
    }

    /// `cargo SUBCOMMAND --target wasm32-unknown-unknown`, to be completed with what to build. Its target folder is
    /// one of its own, so that another compiler's work never invalidates the native build.
    pub fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = process::cargo();
        command.args([subcommand, "--target", TARGET, "--target-dir"]).arg(target_folder());
        if let Self::Unpacked { root, libraries } = self {
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC", root.join("usr/bin/rustc"))
                .env("LD_LIBRARY_PATH", libraries)
                // -Zbuild-std and the standard library itself use unstable features.
                .env("RUSTC_BOOTSTRAP", "1");
            if let Some(linker) = linker()? {
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        Ok(command)
    }

    /// The unpacked compiler under `root`, if it is there and runs.
    fn unpacked(root: &Path) -> Result<Self> {
        let lib = root.join("usr/lib");
        let entries = std::fs::read_dir(&lib).map_err(|error| Error::io("read the folder", &lib, &error))?;
        let has_compiler = |folder: &PathBuf| {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("librustc_driver"))
        };
        let libraries = entries.flatten().map(|entry| entry.path()).find(has_compiler);
        let libraries =
            libraries.ok_or_else(|| Error::failed(format!("there is no librustc_driver under {}", lib.display())))?;
        let mut rustc = Command::new(root.join("usr/bin/rustc"));
        process::output(rustc.arg("--version").env("LD_LIBRARY_PATH", &libraries))?;
        Ok(Self::Unpacked { root: root.to_path_buf(), libraries })
    }
}

/// `wasm` in the target folder of the workspace.
pub fn target_folder() -> PathBuf {
    process::target_folder().join("wasm")
}

/// The linker that rustup's compiler brings, else LLVM's own; none is needed to check types.
fn linker() -> Result<Option<PathBuf>> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let bundled = process::sysroot()?.join("lib/rustlib").join(host).join("bin/rust-lld");
    if bundled.is_file() {
        return Ok(Some(bundled));
    }
    Ok(process::succeeds("wasm-ld", &["--version"]).then(|| "wasm-ld".into()))
}

/// Fetches Debian's packages and unpacks them to `root`.
fn fetch(root: &Path) -> Result<()> {
    if !process::succeeds("apt-get", &["--version"]) || !process::succeeds("dpkg", &["--version"]) {
        return Err(Error::failed(format!("this compiler has no {TARGET} target: run {BY_RUSTUP}")));
    }
    println!("check-wasm: this compiler has no {TARGET} target ({BY_RUSTUP} would add it).");
    println!("check-wasm: unpacking Debian's rustc-web into {} instead (137 MB, once)", root.display());
    if candidate(SEEDS[0]).is_none() {
        // An image's package lists may never have been fetched.
        if let Some(prefix) = setup::as_root() {
            setup::apt_get(prefix, &["update"])?;
        }
        if candidate(SEEDS[0]).is_none() {
            return Err(Error::failed(format!(
                "apt-get knows no package rustc-web: run {BY_RUSTUP}, or `apt-get update` as root and then this again"
            )));
        }
    }

    let packages = packages_to_unpack()?;
    let scratch = Scratch::new("rust-web")?;
    process::run(
        Command::new("apt-get")
            // The folder is the user's own: apt's unprivileged user could not write there.
            .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
            .args(&packages)
            .current_dir(scratch.path()),
    )?;
    let unpacked = scratch.path().join("root");
    let entries = std::fs::read_dir(scratch.path()).map_err(|error| Error::io("read", scratch.path(), &error))?;
    let archives = entries.flatten().map(|entry| entry.path());
    for archive in archives.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        process::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&unpacked))?;
    }
    Toolchain::unpacked(&unpacked)?;
    prune(&unpacked.join("usr/src"));

    // What a failed earlier run may have left, or one whose compiler no longer starts.
    let _ = std::fs::remove_dir_all(root);
    std::fs::rename(&unpacked, root).map_err(|error| Error::io("move the compiler to", root, &error))
}

/// Of the compiler's source only the standard library is built; the rest is most of a gigabyte. Nothing depends on
/// this succeeding.
fn prune(sources: &Path) {
    let children = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for version in children(sources) {
        for folder in children(&version).filter(|path| path.is_dir() && !path.ends_with("library")) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// The version of a package that apt would install.
fn candidate(package: &str) -> Option<String> {
    let policy = process::output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C")).ok()?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

/// The compiler's packages and those they depend on that are not installed here: their names carry versions
/// (`libstd-rust-web-1.96`, `libllvm22`), so they are asked for, not written down.
fn packages_to_unpack() -> Result<Vec<String>> {
    let mut packages: Vec<String> = Vec::new();
    let mut queue: VecDeque<String> = SEEDS.map(str::to_owned).into();
    while let Some(package) = queue.pop_front() {
        let is_compiler = package.contains("rust-web") || SEEDS.contains(&package.as_str());
        if packages.contains(&package) || (!is_compiler && is_installed(&package)) {
            continue;
        }
        let depends = process::output(Command::new("apt-cache").args(["depends", &package]).env("LC_ALL", "C"))?;
        queue.extend(dependencies(&depends));
        packages.push(package);
    }
    Ok(packages)
}

/// Whether Debian's package manager has installed `package`.
fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Abbrev} ", package]).stderr(std::process::Stdio::null());
    query.output().is_ok_and(|output| String::from_utf8_lossy(&output.stdout).split(' ').any(|status| status == "ii"))
}

/// The real packages on the `Depends:` lines of `apt-cache depends`, the first of each choice, without the system's.
fn dependencies(listing: &str) -> Vec<String> {
    let mut after_choice = false;
    let mut packages = Vec::new();
    for line in listing.lines() {
        // `|Depends: a` and the line below it are a choice.
        let (is_choice, name) = match (line.trim().strip_prefix("|Depends: "), line.trim().strip_prefix("Depends: ")) {
            (Some(name), _) => (true, name),
            (None, Some(name)) => (false, name),
            (None, None) => continue,
        };
        if !after_choice && !name.starts_with('<') && !SYSTEM.contains(&name) {
            packages.push(name.to_owned());
        }
        after_choice = is_choice;
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_real_package_of_each_dependency_is_taken() {
        let listing = "rustc-web\n  Depends: libc6\n  Depends: libgcc-s1\n  Depends: libstd-rust-web-dev\n  \
            Depends: gcc\n  Depends: <libc-dev>\n    libc6-dev\n |Depends: libllvm22\n  Depends: libllvm21\n  \
            Depends: libz3-4\n  Conflicts: rustc\n  Recommends: cargo-web\n";
        assert_eq!(dependencies(listing), ["libgcc-s1", "libstd-rust-web-dev", "libllvm22", "libz3-4"]);
    }

    #[test]
    fn a_folder_without_a_compiler_is_not_a_toolchain() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-rust-web").expect("a folder");
        std::fs::create_dir_all(scratch.path().join("usr/lib/x86_64-linux-gnu")).expect("made");
        let error = Toolchain::unpacked(scratch.path()).expect_err("nothing there").to_string();
        assert!(error.contains("librustc_driver"), "{error}");
    }

    #[test]
    fn only_the_standard_library_is_kept_of_the_source() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-prune").expect("a folder");
        for folder in ["rustc-1.96.0/library/std", "rustc-1.96.0/compiler/rustc"] {
            std::fs::create_dir_all(scratch.path().join(folder)).expect("made");
        }
        prune(scratch.path());
        assert!(scratch.path().join("rustc-1.96.0/library/std").is_dir());
        assert!(!scratch.path().join("rustc-1.96.0/compiler").exists());
    }
}
