//! `merge`: a model and an adapter as one file.

use std::io::{self, Write};
use std::path::PathBuf;

use adapter_atomic_file::Readers;
use adapter_engine::adapter::{self, AdapterWriteError, GateKind};
use adapter_engine::formats::GgufWriteError;
use adapter_host::figures;
use clap::Args;

use super::export::{inputs, refuse_input};
use crate::failure::Failure;
use crate::flags::gate_kind;
use crate::interrupt;
use crate::load::{self, ModelFile};
use crate::output;
use crate::printable::printable;

/// `merge`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli merge -m model.gguf -a adapter.safetensors --out merged.gguf
  adapter-cli chat -m merged.gguf                       with the adapter
  adapter-cli chat -m merged.gguf -a none               the model alone, as it was

The model's weights are copied as they are. Other programs refuse the file: they do not know the adapter's tensors.")]
pub struct Merge {
    /// GGUF file of the model the adapter was trained on
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub model: PathBuf,
    /// PEFT folder, .safetensors, .gguf or .pth file
    #[arg(long, short, value_name = "PATH", help_heading = "Input and output")]
    pub adapter: PathBuf,
    /// What the gates of a file without metadata mean
    #[arg(long, value_name = "KIND", value_parser = gate_kind(), help_heading = "Input and output")]
    pub gate: Option<GateKind>,
    /// GGUF file to write
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// Why the file could not be written: what the engine says, or the system.
enum Refusal {
    Engine(AdapterWriteError),
    System(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Runs the command.
///
/// # Errors
/// A model or adapter that cannot be used, or a file that cannot be written: then nothing is left of it.
pub fn run(flags: &Merge) -> Result<(), Failure> {
    refuse_input(&flags.out, &inputs(&flags.model, Some(&flags.adapter)))?;
    let _busy = interrupt::busy();
    let model = ModelFile::open(&flags.model)?;
    let (name, file) = load::fitting_adapter(&flags.adapter, flags.gate, None, &model)?;
    let bar = output::bar(model.gguf.file_bytes, "Copying {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}");
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        interrupt::flow()
    };
    let outcome = adapter_atomic_file::write_streamed(&flags.out, Readers::Default, |out| {
        adapter::merge(&model.gguf, &model.source, (&name, &file), out, &mut progress).map(|_| ()).map_err(|error| {
            match error {
                AdapterWriteError::Write(GgufWriteError::Write(error)) => Refusal::System(error),
                other => Refusal::Engine(other),
            }
        })
    });
    bar.finish_and_clear();
    outcome.map_err(|error| match error {
        Refusal::System(error) => Failure::file("cannot write the merged model", &flags.out, &error),
        Refusal::Engine(error) => Failure::from(error).at(&flags.model),
    })?;
    let size = std::fs::metadata(&flags.out)
        .map_or_else(|_| String::new(), |about| format!(", {}", figures::bytes(about.len())));
    let (model, name, out) = (model.name(), printable(&name), flags.out.display().to_string());
    writeln!(io::stdout(), "Wrote {} with the adapter {name}{size}: {}", printable(&model), printable(&out))?;
    Ok(())
}
