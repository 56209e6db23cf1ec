//! `debug encode`: what an encoder of pictures or of sentences computes, for comparing with other programs.

use std::path::{Path, PathBuf};

use adapter_engine::Encoder;
use adapter_engine::check::self_test::Set;
use adapter_engine::encoder::{Encoded, EncoderConfig, Pixels};
use adapter_host::{checked_devices, open_file};
use clap::Args;
use pollster::block_on;
use safetensors::{Dtype, SafeTensors};

use super::debug::{read_ids, write_tensors};
use crate::failure::Failure;
use crate::flags::Global;
use crate::{interrupt, load, output};

/// `debug encode`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  adapter-cli debug encode --encoder all-MiniLM-L6-v2/ --ids ids.json --out tokens.safetensors
  adapter-cli debug encode --encoder dinov2-small/ --pixels picture.safetensors --layers 4,8,12 --out tokens.safetensors")]
pub struct Encode {
    /// Folder of a ViT, DINOv2, CLIP or SigLIP (its image half), BERT or RoBERTa with config.json and model.safetensors
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub encoder: PathBuf,
    /// JSON: an array of ids, or an object with one under \"ids\"; fed as they are
    #[arg(long, value_name = "FILE", required_unless_present = "pixels", help_heading = "Input and output")]
    pub ids: Option<PathBuf>,
    /// A safetensors file with the tensor \"pixels\", f32 [3, height, width]: red, green and blue as the encoder wants them
    #[arg(long, value_name = "FILE", conflicts_with = "ids", help_heading = "Input and output")]
    pub pixels: Option<PathBuf>,
    /// Blocks behind which the tokens are wanted, too; 0: what goes into the first
    #[arg(long, value_name = "N,N", value_delimiter = ',', help_heading = "Input and output")]
    pub layers: Vec<u32>,
    /// File to write: the tensor \"last\" and one \"layer.N\" for each of --layers, f32 [T, C]
    #[arg(long, short, value_name = "FILE", help_heading = "Input and output")]
    pub out: PathBuf,
}

/// # Errors
/// An encoder, ids or pixels that cannot be used, or a file that cannot be written.
pub fn run(global: &Global, flags: &Encode) -> Result<(), Failure> {
    let config = flags.encoder.join("config.json");
    let text = load::utf8(load::read_small(&config)?, &config)?;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error: adapter_engine::Error| Failure::from(error).at(&path)
    };
    let sizes = EncoderConfig::from_json(&text).map_err(at(&config))?;
    let _busy = interrupt::busy();
    let weights = flags.encoder.join("model.safetensors");
    let source = open_file(&weights)?;
    let gpu = load::gpu(global, false)?;
    let encoder = Encoder::load(&gpu, &source, sizes, &mut |_, _| interrupt::flow()).map_err(at(&weights))?;
    checked_devices::before(&gpu, &[Set::Forward, Set::Encoder], encoder.formats(), || ())?;
    let encoded = match (&flags.pixels, &flags.ids) {
        (Some(path), _) => block_on(encoder.pixels(&read_pixels(path)?, &flags.layers)).map_err(at(path))?,
        (None, Some(path)) => block_on(encoder.ids(&read_ids(path)?, &flags.layers)).map_err(at(path))?,
        (None, None) => {
            return Err(Failure::wrong_use("there is nothing to encode", "name a file with --ids or --pixels"));
        }
    };
    let Encoded { n_tokens, layers, last } = encoded;
    let shape = vec![n_tokens as usize, encoder.config().n_channels as usize];
    let names: Vec<String> = flags.layers.iter().map(|layer| format!("layer.{layer}")).collect();
    let mut tensors = vec![("last", shape.clone(), &last[..])];
    tensors.extend(names.iter().zip(&layers).map(|(name, values)| (name.as_str(), shape.clone(), &values[..])));
    write_tensors(&flags.out, &tensors)?;
    if global.verbose {
        output::note(&format!("[{n_tokens} tokens on {}: {}]", gpu.summary().name, flags.out.display()));
    }
    Ok(())
}

fn read_pixels(path: &Path) -> Result<Pixels, Failure> {
    let hint = "write a safetensors file with the tensor \"pixels\", f32 [3, height, width]";
    let wrong = |what: String| Failure::failed(format!("{what}: {}", path.display()), hint);
    let bytes = load::read_small(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(format!("no safetensors file ({error})")))?;
    let tensor = file.tensor("pixels").map_err(|_| wrong("there is no tensor \"pixels\"".to_owned()))?;
    let &[3, height, width] = tensor.shape() else {
        return Err(wrong(format!("\"pixels\" has the shape {:?}", tensor.shape())));
    };
    if tensor.dtype() != Dtype::F32 {
        return Err(wrong(format!("\"pixels\" is {:?}, f32 was wanted", tensor.dtype())));
    }
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(wrong(format!("\"pixels\" has the shape {:?}", tensor.shape())));
    };
    Ok(Pixels { width, height, values })
}
