//! `merge`: a model and an adapter as one file.

use std::io::{self, Write};

use adapter_engine::adapter::{self, AdapterWriteError};
use adapter_engine::formats::GgufWriteError;

use super::export::{inputs, refuse_input};
use crate::failure::Failure;
use crate::flags::Merge;
use crate::interrupt;
use crate::load::{self, ModelFile};
use crate::output::{self, Readers, printable};

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
    let outcome = output::write_streamed(&flags.out, Readers::Usual, |out| {
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
        .map_or_else(|_| String::new(), |about| format!(", {}", output::bytes(about.len())));
    let (model, name, out) = (model.name(), printable(&name), flags.out.display().to_string());
    writeln!(io::stdout(), "Wrote {} with the adapter {name}{size}: {}", printable(&model), printable(&out))?;
    Ok(())
}
