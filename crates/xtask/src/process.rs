//! Starting other programs: what they print, how they end, and whether they are there at all.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::error::{Error, Result};

/// The repository's root, two folders above this crate.
pub fn repository_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The workspace's target folder.
pub fn target_folder() -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    repository_root().join(own.map_or_else(|| "target".into(), PathBuf::from))
}

/// Where the compiler's own programs and libraries lie.
pub fn sysroot() -> Result<PathBuf> {
    Ok(output(Command::new("rustc").args(["--print", "sysroot"]))?.trim().into())
}

/// The cargo that runs this program, in the repository's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository_root());
    command
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether `program` starts and ends well with `args`, in silence.
pub fn succeeds<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The same command with less right to the machine than others have, where the system knows that.
pub fn nice(command: Command) -> Command {
    if !succeeds("nice", &["true"]) {
        return command;
    }
    let mut niced = Command::new("nice");
    niced.args(["-n", "10"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => niced.env(name, value),
            None => niced.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        niced.current_dir(folder);
    }
    niced
}

/// Runs a command on this terminal and fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() { Ok(()) } else { Err(Error::failed(format!("`{}` ended with {status}", shown(command)))) }
}

/// Runs a command for its standard output; its standard error goes to this terminal.
pub fn output(command: &mut Command) -> Result<String> {
    let (status, text) = output_of(command)?;
    if status.success() { Ok(text) } else { Err(Error::failed(format!("`{}` ended with {status}", shown(command)))) }
}

/// [`output`], also of a command that fails: how it ended, and what it said until then.
pub fn output_of(command: &mut Command) -> Result<(ExitStatus, String)> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| not_started(command, &error))?;
    Ok((output.status, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Runs a command whose standard output is both shown, line by line as it comes, and kept. True when it ended well.
pub fn tee(command: &mut Command) -> Result<(bool, String)> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| not_started(command, &error))?;
    let mut kept = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n_bytes| n_bytes > 0) {
            let text = String::from_utf8_lossy(&line);
            // A closed terminal must not end the run: its result is the exit code.
            let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
            kept.push_str(&text);
            line.clear();
        }
    }
    let status = child.wait().map_err(|error| not_started(command, &error))?;
    Ok((status.success(), kept))
}

/// Runs a command and keeps what it says on both streams, in order. True when it ended well.
pub fn captured(command: &mut Command) -> Result<(bool, String)> {
    let (mut reader, writer) = std::io::pipe().map_err(|error| not_started(command, &error))?;
    let other = writer.try_clone().map_err(|error| not_started(command, &error))?;
    let mut child = command.stdout(writer).stderr(other).spawn().map_err(|error| not_started(command, &error))?;
    // The command holds ends of the pipe, too: without this nobody would ever see its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut kept = Vec::new();
    let _ = reader.read_to_end(&mut kept);
    let status = child.wait().map_err(|error| not_started(command, &error))?;
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if status.code().is_none() {
        text += &format!("error: `{}` ended with {status}\n", shown(command));
    }
    Ok((status.success(), text))
}

/// A program that could not be started.
pub fn not_started(command: &Command, error: &std::io::Error) -> Error {
    Error::failed(format!("cannot start `{}`: {error}", shown(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_the_workspace_is() {
        assert!(repository_root().join("Cargo.toml").is_file());
        assert!(repository_root().join("shaders").is_dir());
    }

    #[test]
    #[cfg(unix)]
    fn both_streams_are_kept_in_order() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        assert_eq!(captured(&mut command).expect("it runs"), (false, "one\ntwo\nthree\n".to_owned()));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(Command::new("no-such-program").arg("--now")).expect_err("not there");
        assert!(error.to_string().contains("no-such-program --now"), "{error}");
        assert!(!succeeds("no-such-program", &["--version"]));
    }
}
