//! What several test files share: test data, the GPU, the models, comparing numbers.

pub mod families;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};

use adapter_engine::Model;
use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::formats::{Gguf, GgufWriter, ReadAtFile};
use adapter_engine::gpu::{Gpu, GpuOptions, Tuning};
use adapter_engine::ops::matmul::Slot;
use safetensors::SafeTensors;

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The bytes of a file of `tests/data`.
///
/// # Panics
/// When it is not there.
pub fn read(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap_or_else(|error| panic!("tests/data/{name}: {error}"))
}

/// A JSON file of `tests/data`.
///
/// # Panics
/// When it is not there or not JSON.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&read(name)).unwrap_or_else(|error| panic!("tests/data/{name}: {error}"))
}

/// A list of ids in a JSON value.
///
/// # Panics
/// When it is anything else.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("a list of ids")
}

/// The real model: `$ADAPTER_SMOLLM2`, or where `cargo xtask model` puts it.
///
/// # Panics
/// When it is not there: a missing model fails the run.
pub fn smollm2_path() -> PathBuf {
    const NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let path = std::env::var_os("ADAPTER_SMOLLM2").map(PathBuf::from).unwrap_or_else(|| cache_folder().join(NAME));
    assert!(path.is_file(), "{} is missing: `cargo xtask model` fetches it", path.display());
    path
}

/// The second real model, Qwen2.5-Coder-0.5B-Instruct Q4_K_M: `$ADAPTER_QWEN`, or where `cargo xtask model --qwen` puts it. `None`
/// where it was not fetched, which is said: it is five times the size of the first.
pub fn qwen_path() -> Option<PathBuf> {
    const NAME: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
    let path = std::env::var_os("ADAPTER_QWEN").map(PathBuf::from).unwrap_or_else(|| cache_folder().join(NAME));
    if path.is_file() {
        return Some(path);
    }
    eprintln!("{} is missing, so nothing is compared with it: `cargo xtask model --qwen` fetches it", path.display());
    None
}

/// Where `cargo xtask` keeps what it fetched.
fn cache_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    cache.or_else(home).unwrap_or_default().join("adapter-engine")
}

/// The GPU all tests of a process share.
///
/// # Panics
/// Without an adapter: a missing GPU fails the run, it never skips.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(&GpuOptions::default()))
}

/// The same adapter with nothing but core WebGPU.
///
/// # Panics
/// As [`gpu`].
pub fn baseline_gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(&GpuOptions { baseline: true, ..GpuOptions::default() }))
}

/// The same adapter with the kernels that a GPU gets.
///
/// # Panics
/// As [`gpu`].
pub fn like_a_gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(&GpuOptions { like_a_gpu: true, ..GpuOptions::default() }))
}

/// The ways that GPU may be told to round prompts, by the [choice](Slot::Tiles) and its number: what else there is depends on
/// the driver.
#[must_use]
pub fn tiles(gpu: &Gpu) -> Vec<([u32; 2], Tuning)> {
    let choices = Slot::Tiles.choices(gpu.tier());
    choices.iter().enumerate().map(|(n, choice)| (*choice, Slot::Tiles.set(Tuning::default(), n))).collect()
}

/// A GPU opened with `options`.
///
/// # Panics
/// As [`gpu`].
pub fn open(options: &GpuOptions) -> Gpu {
    pollster::block_on(Gpu::open(options)).unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

/// One test at a time on the two cores of a CI machine: software GPUs use all of them for each.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Loads a GGUF file.
///
/// # Panics
/// When it cannot be loaded.
pub fn load(gpu: &Gpu, path: &Path) -> Model {
    let file = ReadAtFile::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let gguf = Gguf::read(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Model::load(gpu, &gguf, &file, &mut |_, _| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of `tests/data/tiny-llama`, loaded.
pub fn load_tiny(gpu: &Gpu, format: &str) -> Model {
    load(gpu, &data(&format!("tiny-llama/tiny-{format}.gguf")))
}

/// An adapter of `tests/data/tiny-llama`.
///
/// # Panics
/// When it cannot be read.
pub fn tiny_adapter(kind: GateKind) -> AdapterFile {
    let bytes = read(&format!("tiny-llama/adapter-{}.safetensors", kind.name()));
    AdapterFile::from_safetensors(&bytes, Some(kind)).expect("a good adapter")
}

/// The values of a tensor in a safetensors file of `tests/data`.
///
/// # Panics
/// When it is not there or not f32.
pub fn tensor(file: &str, name: &str) -> Vec<f32> {
    let bytes = read(file);
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    match view.dtype() {
        safetensors::Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
        safetensors::Dtype::F64 => {
            bytemuck::pod_collect_to_vec::<_, f64>(view.data()).into_iter().map(|value| value as f32).collect()
        }
        other => panic!("{name} is {other:?}"),
    }
}

/// Normalized mean squared error of `found` against `wanted`: `sum((found - wanted)^2) / sum(wanted^2)`.
///
/// # Panics
/// When the lengths differ.
pub fn nmse(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len(), "lengths differ");
    let (mut error, mut power) = (0.0, 0.0);
    for (found, wanted) in found.iter().zip(wanted) {
        error += (f64::from(*found) - f64::from(*wanted)).powi(2);
        power += f64::from(*wanted).powi(2);
    }
    if power == 0.0 { error } else { error / power }
}

/// Whether two lists are equal bit for bit.
pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Uniform numbers in `low..high`, the same for the same seed.
pub fn uniform(seed: u64, n: usize, low: f32, high: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            low + (high - low) * ((state >> 40) as f32 / (1u64 << 24) as f32)
        })
        .collect()
}

/// `adapter-cli`, which has to be built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    let folder = test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    let path = folder.join(format!("adapter-cli{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: `cargo build -p adapter-cli` makes it", path.display());
    path
}

/// Writes `tests/data/tiny-llama` with another chat template and a longer context: its own template takes half of its 128 positions.
///
/// # Panics
/// When it cannot be written.
pub fn write_tiny_chat(path: &Path, template: &str) {
    let source = ReadAtFile::open(data("tiny-llama/tiny-q4_1.gguf")).expect("the tiny model");
    let gguf = Gguf::read(&source).expect("GGUF");
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata.iter() {
        match key {
            "llama.context_length" => writer.metadata(key, 8192u32),
            "tokenizer.chat_template" => &mut writer,
            _ => writer.metadata(key, value.clone()),
        };
    }
    writer.metadata("tokenizer.chat_template", template);
    for tensor in gguf.tensors() {
        writer.tensor(tensor.name.clone(), &tensor.shape, tensor.tensor_type);
    }
    let mut file = writer.start(std::fs::File::create(path).expect("a new file")).expect("a good header");
    for tensor in gguf.tensors() {
        let mut bytes = vec![0; tensor.size_bytes as usize];
        tensor.read_data(&source, 0, &mut bytes).expect("its data");
        file.tensor(&tensor.name, &bytes).expect("written");
    }
    file.finish().expect("whole");
}

/// `adapter-cli` in a clean `home`, with nothing of this machine's user in its surroundings. What can be made again, such as
/// the checks of the GPU's kernels, is kept in `cache`.
pub fn program(home: &Path, cache: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(home);
    command.env_remove("ADAPTER_MODEL").env_remove("XDG_DATA_HOME").env("XDG_CACHE_HOME", cache);
    // Mesa's device selection says something about the display server on standard error; it is not needed.
    command.env("HOME", home).env("NODEVICE_SELECT", "1");
    command
}
