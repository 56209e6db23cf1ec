//! Makes a fresh machine ready: a Vulkan loader and a driver for it, Mesa's where there is none. Mesa brings lavapipe,
//! which draws and computes on the CPU, so that every machine has a GPU to test with. For the tests of the window also Xvfb, a
//! screen for machines that have none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::process;

/// What Debian and Ubuntu call the loader and Mesa's drivers.
const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

/// What Debian and Ubuntu call a screen without a screen, and the libraries that a window opens at run time.
const SCREEN_PACKAGES: [&str; 6] = ["xvfb", "libxkbcommon-x11-0", "libx11-xcb1", "libxcursor1", "libxi6", "libxrandr2"];
/// The files of these packages that a window looks for.
const SCREEN_LIBRARIES: [&str; 5] =
    ["libxkbcommon-x11.so.0", "libX11-xcb.so.1", "libXcursor.so.1", "libXi.so.6", "libXrandr.so.2"];

/// `cargo xtask setup`.
pub fn run() -> Result<()> {
    ensure()?;
    match find_driver(|name| std::env::var_os(name), Path::new("/")) {
        Some(manifest) => println!("setup: Vulkan driver {}", manifest.display()),
        None => println!("setup: nothing to do on this system"),
    }
    Ok(())
}

/// Sees to it that there is a driver, in silence when there is.
pub fn ensure() -> Result<()> {
    // wgpu uses Metal and DirectX 12 elsewhere, which come with the system.
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let missing = missing_parts();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: {} missing", missing.join(" and "));
    install(&PACKAGES)?;
    let missing = missing_parts();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!("{} still missing after installing {}", missing.join(" and "), PACKAGES.join(" "))))
}

/// Sees to it that a window can be opened and looked at without a screen, in silence when it can.
pub fn ensure_screen() -> Result<()> {
    // Elsewhere the test of the real window is left out, and windows need nothing installed.
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let missing = missing_for_a_screen();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: {} missing for the tests of the window", missing.join(", "));
    install(&SCREEN_PACKAGES)?;
    let missing = missing_for_a_screen();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!("{} still missing after installing {}", missing.join(", "), SCREEN_PACKAGES.join(" "))))
}

fn missing_for_a_screen() -> Vec<&'static str> {
    // Asking for help is the one thing Xvfb does without opening a screen; it ends with 0 or 1, as versions go.
    let there = Command::new("Xvfb").arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let server = (!there).then_some("Xvfb");
    let libraries = SCREEN_LIBRARIES.into_iter().filter(|name| !has_library(Path::new("/"), name));
    server.into_iter().chain(libraries).collect()
}

/// What of a Vulkan driver is not on this machine, in words.
fn missing_parts() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if find_driver(|name| std::env::var_os(name), Path::new("/")).is_none() {
        missing.push("a Vulkan driver");
    }
    if !has_library(Path::new("/"), LOADER) {
        missing.push("the Vulkan loader (libvulkan.so.1)");
    }
    missing
}

/// The manifest of an installed driver: where the Vulkan loader looks for one, under `root`.
fn find_driver(variable: impl Fn(&str) -> Option<OsString>, root: &Path) -> Option<PathBuf> {
    // These replace the folders below; the second is the older name of the first.
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        if let Some(list) = variable(name).filter(|list| !list.is_empty()) {
            return std::env::split_paths(&list).find_map(|path| manifest_at(&path));
        }
    }
    let added = variable("VK_ADD_DRIVER_FILES").unwrap_or_default();
    let home = variable("HOME").map(|home| PathBuf::from(home).join(".local/share/vulkan/icd.d"));
    let system =
        ["etc/vulkan/icd.d", "usr/local/etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "usr/share/vulkan/icd.d"];
    let folders = system.iter().map(|folder| root.join(folder));
    std::env::split_paths(&added).chain(home).chain(folders).find_map(|path| manifest_at(&path))
}

/// `path` itself when it is a manifest, or the first manifest in it when it is a folder.
fn manifest_at(path: &Path) -> Option<PathBuf> {
    let is_manifest = |path: &Path| path.extension().is_some_and(|extension| extension == "json") && path.is_file();
    if is_manifest(path) {
        return Some(path.to_path_buf());
    }
    std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).find(|path| is_manifest(path))
}

/// The Vulkan loader.
const LOADER: &str = "libvulkan.so.1";

/// Whether a library is in one of the folders that the dynamic linker searches on the usual systems.
fn has_library(root: &Path, name: &str) -> bool {
    let mut folders: Vec<_> =
        ["lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib"].map(|folder| root.join(folder)).into();
    folders.extend(std::env::split_paths(&std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()));
    // Debian's folders for one architecture each, such as x86_64-linux-gnu.
    folders.extend(std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten().map(|entry| entry.path()));
    folders.iter().any(|folder| folder.join(name).exists())
}

/// Installs Debian packages, or says which ones someone else has to install.
fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !process::succeeds("apt-get", &["--version"]) {
        return Err(Error::failed(format!(
            "this machine has no apt-get: install what stands above with its own package manager (Debian: `{by_hand}`)"
        )));
    }
    let Some(prefix) = as_root() else {
        return Err(Error::failed(format!("installing packages needs root: run `sudo {by_hand}`, then this again")));
    };
    println!("setup: installing {}", packages.join(" "));
    apt_get(prefix, &["update"])?;
    apt_get(prefix, &[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// `apt-get` as root, asking nothing.
pub fn apt_get(prefix: &[&str], args: &[&str]) -> Result<()> {
    // `env`, since sudo does not hand the variable on.
    let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"], args].concat();
    let (program, args) = words.split_first().ok_or_else(|| Error::failed("an empty command"))?;
    process::run(Command::new(program).args(args))
}

/// What to put before a command to run it as root: nothing for root, `sudo -n` where it asks no password.
pub fn as_root() -> Option<&'static [&'static str]> {
    let is_root = process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    match is_root {
        true => Some(&[]),
        false if process::succeeds("sudo", &["-n", "true"]) => Some(&["sudo", "-n"]),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Scratch;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "{}").expect("written");
    }

    #[test]
    fn drivers_are_found_where_the_loader_looks_for_them() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-drivers").expect("a folder");
        let root = scratch.path();
        let unset = |_: &str| None;
        assert_eq!(find_driver(unset, root), None);

        touch(&root.join("usr/share/vulkan/icd.d/README"));
        assert_eq!(find_driver(unset, root), None, "only manifests count");
        let lavapipe = root.join("usr/share/vulkan/icd.d/lvp_icd.x86_64.json");
        touch(&lavapipe);
        assert_eq!(find_driver(unset, root), Some(lavapipe));
        let vendor = root.join("etc/vulkan/icd.d/vendor.json");
        touch(&vendor);
        assert_eq!(find_driver(unset, root), Some(vendor));
    }

    #[test]
    fn the_variables_of_the_loader_replace_its_folders() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-variables").expect("a folder");
        let root = scratch.path();
        touch(&root.join("etc/vulkan/icd.d/vendor.json"));
        let own = root.join("own/driver.json");
        touch(&own);
        let set = |name: &'static str, value: PathBuf| move |asked: &str| (asked == name).then(|| value.clone().into());

        assert_eq!(find_driver(set("VK_DRIVER_FILES", own.clone()), root), Some(own.clone()));
        assert_eq!(find_driver(set("VK_ICD_FILENAMES", root.join("own")), root), Some(own.clone()), "a folder");
        assert_eq!(find_driver(set("VK_DRIVER_FILES", root.join("gone.json")), root), None, "nothing else is used");
        assert_eq!(find_driver(set("VK_ADD_DRIVER_FILES", own.clone()), root), Some(own));
    }

    #[test]
    fn the_loader_is_found_in_a_folder_of_one_architecture() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-loader").expect("a folder");
        assert!(!has_library(&scratch.path().join("nowhere"), LOADER));
        touch(&scratch.path().join("usr/lib/aarch64-linux-gnu/libvulkan.so.1"));
        assert!(has_library(scratch.path(), LOADER));
        assert!(!has_library(scratch.path(), SCREEN_LIBRARIES[0]));
    }
}
