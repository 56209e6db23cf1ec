//! `export`: an adapter in another form.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use adapter_atomic_file::Readers;
use adapter_engine::adapter::{AdapterError, AdapterFile, GateKind};
use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::flags::gate_kind;
use crate::load::{self, ModelFile};
use crate::printable::printable;

/// `export`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli export -m model.gguf -a adapter.safetensors --to peft --out my-adapter/
  adapter-cli export -m model.gguf -a my-adapter/ --to gguf --out adapter.gguf
  adapter-cli export -m merged.gguf --to safetensors --out adapter.safetensors      the adapter inside a model
  adapter-cli export -m model.gguf -a release.pth --gate paper --to safetensors --out adapter.safetensors

PEFT has one gate a layer: an adapter with a gate a head is refused.")]
pub struct Export {
    /// GGUF file of the model the adapter was trained on
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub model: PathBuf,
    /// PEFT folder, .safetensors, .gguf or .pth file [default: the one inside the model]
    #[arg(long, short, value_name = "PATH", help_heading = "Input and output")]
    pub adapter: Option<PathBuf>,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Input and output")]
    pub gate: Option<GateKind>,
    /// Prompt tokens a layer of a .pth file that leaves it open [default: found from its open gates]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Input and output")]
    pub adapter_len: Option<u32>,
    /// What to write
    #[arg(long, value_name = "FORM", help_heading = "Input and output")]
    pub to: Form,
    /// File to write, or a new folder for peft
    #[arg(long, short, value_name = "PATH", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// The forms an adapter can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A folder that Hugging Face PEFT loads
    Peft,
    /// One file with its meaning in the metadata: every kind of gate
    Safetensors,
    /// A small GGUF file: every kind of gate
    Gguf,
}

/// Runs the command.
///
/// # Errors
/// A model or adapter that cannot be used, a form that cannot hold it, or a file that cannot be written.
pub fn run(flags: &Export) -> Result<(), Failure> {
    let inputs = inputs(&flags.model, flags.adapter.as_deref());
    refuse_input(&flags.out, &inputs)?;
    let model = ModelFile::open(&flags.model)?;
    let kind = flags.gate;
    let (name, adapter) = match &flags.adapter {
        Some(path) => load::fitting_adapter(path, kind, flags.adapter_len, &model)?,
        None => load::built_in(&model, kind)?.ok_or_else(|| {
            let message = format!("no adapter is named and the model holds none: {}", flags.model.display());
            Failure::wrong_use(message, "name one with --adapter")
        })?,
    };
    let from = flags.adapter.as_deref().unwrap_or(&flags.model);
    let at = |error: AdapterError| Failure::from(error).at(from);
    let form = match flags.to {
        Form::Peft => {
            let (config, weights) = adapter.to_peft(&model.config).map_err(at)?;
            write_folder(&flags.out, &[("adapter_config.json", &config), ("adapter_model.safetensors", &weights)])?;
            "a PEFT folder"
        }
        Form::Safetensors => {
            write_file(&flags.out, &adapter.to_safetensors().map_err(at)?)?;
            "safetensors"
        }
        Form::Gguf => {
            let bytes = adapter.to_gguf(&model.config, &name).map_err(|error| Failure::from(error).at(from))?;
            write_file(&flags.out, &bytes)?;
            "GGUF"
        }
    };
    let kept = if flags.to == Form::Peft { lost(&adapter) } else { "" };
    let (name, out) = (printable(&name), flags.out.display().to_string());
    writeln!(
        io::stdout(),
        "Wrote the adapter {name} ({} gates) as {form}{kept}: {}",
        adapter.kind.name(),
        printable(&out)
    )?;
    Ok(())
}

/// What PEFT's form says otherwise.
fn lost(adapter: &AdapterFile) -> &'static str {
    use adapter_engine::adapter::{GateActivation, GateShape};
    match (adapter.kind.shape, adapter.kind.activation) {
        (GateShape::Scalar, GateActivation::None) => "",
        (GateShape::PerHead, GateActivation::None) => " with one gate for the heads of a layer, which are equal",
        (GateShape::Scalar, GateActivation::Tanh) => " with tanh applied to the gates",
        (GateShape::PerHead, GateActivation::Tanh) => {
            " with tanh applied to the gates, one for the heads of a layer, which are equal"
        }
    }
}

/// The files a command reads.
pub fn inputs(model: &Path, adapter: Option<&Path>) -> Vec<PathBuf> {
    let mut inputs = vec![model.to_owned()];
    if let Some(adapter) = adapter {
        // The weights of a PEFT folder may be named, too.
        let folder = if adapter.is_dir() { adapter } else { adapter_atomic_file::folder_of(adapter) };
        inputs.push(adapter.to_owned());
        inputs.extend(["adapter_config.json", "adapter_model.safetensors"].map(|name| folder.join(name)));
    }
    inputs
}

/// Refuses to write over what is read.
///
/// # Errors
/// The same file under whatever name.
pub fn refuse_input(out: &Path, inputs: &[PathBuf]) -> Result<(), Failure> {
    let Ok(real) = out.canonicalize() else { return Ok(()) };
    match inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == real)) {
        true => {
            let message = format!("--out is one of the files that are read: {}", out.display());
            Err(Failure::wrong_use(message, "name another file to write"))
        }
        false => Ok(()),
    }
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    adapter_atomic_file::write_whole(path, content, Readers::Default)
        .map_err(|error| Failure::file("cannot write the adapter", path, &error))
}

/// Writes a folder that is there whole or not at all.
fn write_folder(path: &Path, files: &[(&str, &[u8])]) -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::file("cannot write the adapter", path, &error);
    if path.is_dir() {
        // Two files cannot be replaced at once, and half of each would be an adapter nobody trained.
        if std::fs::read_dir(path).map_err(fail)?.next().is_some() {
            let message = format!("the folder is not empty: {}", path.display());
            return Err(Failure::failed(message, "name a new folder; PEFT's form is two files that belong together"));
        }
    } else if path.symlink_metadata().is_ok() {
        let message = format!("this is a file, and PEFT's form is a folder: {}", path.display());
        return Err(Failure::failed(message, "name a new folder"));
    }
    // `x/` has the same parent as `x`.
    let parent = adapter_atomic_file::folder_of(path);
    let folder = private_folder(parent).map_err(fail)?;
    for (name, content) in files {
        adapter_atomic_file::write_whole(&folder.path().join(name), content, Readers::Default).map_err(fail)?;
    }
    if path.is_dir() {
        std::fs::remove_dir(path).map_err(fail)?;
    }
    std::fs::rename(folder.path(), path).map_err(fail)?;
    // It lies under its final name now.
    let _ = folder.keep();
    adapter_atomic_file::sync_folder(parent).map_err(fail)?;
    Ok(())
}

/// A temporary folder with the rights a new folder has.
fn private_folder(parent: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777)); // the system takes its umask off
    }
    builder.prefix(".adapter-").tempdir_in(parent).map_err(adapter_atomic_file::without_temporary_name)
}
