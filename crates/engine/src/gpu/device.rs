//! Opening a GPU: adapters, limits, features, the tier that decides which kernel variants run, and what went wrong since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::Buffer;
use super::kernel::Pipeline;
use super::preprocess::PreprocessError;
use super::profile::Profile;

/// How to open the GPU.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Take the adapter whose name contains this (case does not matter), or the one with this index.
    pub name: Option<String>,
    /// Core WebGPU only: default limits, no optional feature. What every browser and GPU has.
    pub baseline: bool,
    /// Refuse to allocate more than this many bytes on the GPU; `None`: whatever the driver gives.
    pub memory_limit_bytes: Option<u64>,
    /// Bind at most this many bytes at once, less than the GPU allows: what a smaller GPU would do.
    pub max_binding_bytes: Option<u64>,
    /// Time every kernel with timestamp queries (slower: one pass a kernel).
    pub profile: bool,
    /// A CPU adapter gets the kernels of a GPU, so that tests run here what runs there.
    #[doc(hidden)]
    pub like_a_gpu: bool,
    /// Replaces text in one kernel, so that tests can show that they notice a wrong one.
    #[doc(hidden)]
    pub poison: Option<Poison>,
}

/// `(kernel, text, replacement)`
#[doc(hidden)]
pub type Poison = (&'static str, &'static str, &'static str);

/// Which kernel variants this GPU gets, decided once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tier {
    /// Every subgroup has at least 8 lanes and `subgroupBroadcast` works: inputs are read once a lane and passed around.
    pub broadcast: bool,
    /// The adapter is a CPU: no workgroup memory tiling, one thread a row, no split of the channels over threads.
    pub cpu: bool,
    /// Kernels may compute and store in f16.
    pub f16: bool,
    /// Units that multiply small matrices of f16 and add up in f32.
    pub matrix_units: Option<MatrixUnits>,
}

impl Tier {
    /// Multiplications of one submit, about: some 50 ms on a small GPU, so that no driver takes it for hung and a window stays
    /// alive; less on a CPU, which is slower and has the window to draw as well.
    pub fn submit_macs(self) -> u64 {
        if self.cpu { 300_000_000 } else { 30_000_000_000 }
    }
}

/// Cooperative matrices: natively, on GPUs with tensor cores or their like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Rows and columns of a matrix: 8 or 16.
    pub size: u32,
    /// Threads of the smallest and the largest subgroup, which work on one matrix together.
    pub subgroups: (u32, u32),
}

impl MatrixUnits {
    /// Matrices of f16 with sums in f32, the largest of those that `adapter` and WGSL both know.
    fn of(adapter: &wgpu::Adapter) -> Option<Self> {
        use wgpu::CooperativeScalarType::{F16, F32};
        let needed =
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        let info = adapter.get_info();
        let fits = adapter.features().contains(needed)
            && info.subgroup_min_size >= 8
            && info.subgroup_max_size <= 128
            && info.subgroup_max_size.is_power_of_two()
            // What the kernel needs at most; WebGPU promises half.
            && adapter.limits().max_compute_workgroup_storage_size >= 32 << 10;
        let kinds = adapter.cooperative_matrix_properties().into_iter();
        let size = kinds
            .filter(|kind| (kind.ab_type, kind.cr_type) == (F16, F32))
            .filter(|kind| kind.m_size == kind.n_size && kind.n_size == kind.k_size && [8, 16].contains(&kind.m_size))
            .map(|kind| kind.m_size)
            .max();
        let subgroups = (info.subgroup_min_size, info.subgroup_max_size);
        size.filter(|_| fits).map(|size| Self { size, subgroups })
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("baseline")?;
        if self.broadcast {
            f.write_str("+subgroups")?;
        }
        if self.f16 {
            f.write_str("+f16")?;
        }
        if let Some(MatrixUnits { size, .. }) = self.matrix_units {
            write!(f, "+matrices of {size} x {size}")?;
        }
        if self.cpu {
            f.write_str(" (CPU adapter)")?;
        }
        Ok(())
    }
}

/// Which of its variants each op takes on this GPU, by number: what they mean is the ops' affair ([`crate::tuning`]). All zeros
/// is the usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning(pub [u8; 6]);

/// One GPU of this machine, as `doctor` lists it.
#[derive(Debug, Clone)]
pub struct AdapterSummary {
    /// The driver's name for it.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `Cpu`, …
    pub device_type: String,
    /// Driver name and version.
    pub driver: String,
    /// Largest storage binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub workgroup_bytes: u32,
    /// Threads in a workgroup.
    pub workgroup_threads: u32,
    /// Smallest and largest subgroup.
    pub subgroup_sizes: (u32, u32),
    /// Optional features that some kernel variant could use, by WebGPU name.
    pub features: Vec<&'static str>,
}

/// What can go wrong on a GPU.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter at all.
    #[error("no GPU was found: this machine offers no {backends} driver")]
    NoAdapter {
        /// The interfaces that were asked.
        backends: &'static str,
    },
    /// The name that was asked for fits none.
    #[error("no GPU is named {wanted:?}; there is {found}")]
    NoSuchAdapter {
        /// What was asked for.
        wanted: String,
        /// The names there are.
        found: String,
    },
    /// The adapter is too small for the engine.
    #[error("the GPU {name:?} allows {limit} of {what}, the engine needs {needed}")]
    LimitTooSmall {
        /// The adapter.
        name: String,
        /// The WebGPU limit.
        what: &'static str,
        /// Its value here.
        limit: u64,
        /// The least that works.
        needed: u64,
    },
    /// The driver refused to open the device.
    #[error("the GPU {name:?} could not be opened: {reason}")]
    Open {
        /// The adapter.
        name: String,
        /// The driver's words.
        reason: String,
    },
    /// One buffer is larger than the GPU allows.
    #[error("{what} needs {needed_bytes} bytes in one buffer, this GPU allows {limit_bytes}")]
    BufferTooLarge {
        /// What the buffer is for.
        what: String,
        /// Its size.
        needed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The memory does not suffice.
    #[error("out of GPU memory at {what}: {needed_bytes} bytes more on top of {used_bytes}{limit}")]
    OutOfMemory {
        /// What was being made.
        what: String,
        /// Bytes asked for.
        needed_bytes: u64,
        /// Bytes already held.
        used_bytes: u64,
        /// `, the limit is N` or nothing.
        limit: String,
    },
    /// The device is gone: driver reset, sleep, or `destroy`.
    #[error("the GPU was lost: {reason}")]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// wgpu refused a command: a bug of this engine.
    #[error("the GPU refused a command: {message}")]
    Validation {
        /// wgpu's message.
        message: String,
    },
    /// A shader template is wrong: a bug of this engine.
    #[error(transparent)]
    Shader(#[from] PreprocessError),
    /// A kernel gives wrong numbers on this GPU.
    #[error("the kernel {kernel} computes wrong numbers on {gpu:?}: {detail}")]
    SelfTest {
        /// The kernel.
        kernel: String,
        /// The adapter.
        gpu: String,
        /// The figure.
        detail: String,
    },
}

impl GpuError {
    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoAdapter { .. } => {
                "install a Vulkan driver (Debian and Ubuntu: `apt install mesa-vulkan-drivers`, which also runs without a \
                 graphics card)"
            }
            Self::NoSuchAdapter { .. } => "give one of these names, or a part of one",
            Self::LimitTooSmall { .. } | Self::Open { .. } => "update the graphics driver or choose another GPU",
            Self::BufferTooLarge { .. } => "use a smaller quantization or a shorter context",
            Self::OutOfMemory { .. } => "use a smaller quantization or a shorter context, or close other programs",
            Self::DeviceLost { .. } => "load the model again; the chat is kept",
            Self::SelfTest { .. } => "update the graphics driver or choose another GPU",
            Self::Validation { .. } | Self::Shader(_) => {
                "this is a bug of the engine: please report it with the names of the GPU and its driver"
            }
        })
    }

    /// A short name that programs can match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAdapter { .. } => "no-gpu",
            Self::NoSuchAdapter { .. } => "no-such-gpu",
            Self::LimitTooSmall { .. } => "limit-too-small",
            Self::Open { .. } => "gpu-open",
            Self::BufferTooLarge { .. } | Self::OutOfMemory { .. } => "out-of-memory",
            Self::DeviceLost { .. } => "device-lost",
            Self::SelfTest { .. } => "wrong-numbers",
            Self::Validation { .. } | Self::Shader(_) => "engine-bug",
        }
    }
}

pub(super) struct Inner {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) summary: AdapterSummary,
    pub(super) tier: Tier,
    pub(super) limits: wgpu::Limits,
    tuning: Mutex<Tuning>,
    pub(super) pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    pub(super) scratch: Mutex<HashMap<&'static str, Buffer>>,
    pub(super) used_bytes: Arc<AtomicU64>,
    pub(super) memory_limit_bytes: Option<u64>,
    pub(super) profile: Option<Mutex<Profile>>,
    pub(super) poison: Option<Poison>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    lost: Option<String>,
    out_of_memory: Option<String>,
    validation: Option<String>,
}

/// An open GPU. Cloning is cheap and shares the device.
#[derive(Clone)]
pub struct Gpu(pub(super) Arc<Inner>);

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.0.summary.name).finish()
    }
}

#[cfg(not(target_arch = "wasm32"))]
const BACKENDS: (wgpu::Backends, &str) = (wgpu::Backends::PRIMARY, "Vulkan, Metal or Direct3D 12");
#[cfg(target_arch = "wasm32")]
const BACKENDS: (wgpu::Backends, &str) = (wgpu::Backends::BROWSER_WEBGPU, "WebGPU");

/// Features the engine never uses. burn, which shares the device in training, asks the adapter what there is and takes it for
/// enabled (cubecl 0.11).
const SHARED_FEATURES: wgpu::Features = wgpu::Features::SHADER_INT64
    .union(wgpu::Features::SHADER_F64)
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SHADER_FLOAT32_ATOMIC)
    .union(wgpu::Features::SUBGROUP);

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS.0;
    wgpu::Instance::new(descriptor)
}

/// What wgpu asks for before it hands out a feature that it calls experimental: here, cooperative matrices and no other.
#[expect(unsafe_code, reason = "the only way to ask for it")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: wgpu's words: such a feature may have bugs that are undefined behaviour. The only kernel that uses this one is
    // `shaders/matmul_cooperative.wgsl`, which indexes nothing outside its slabs, is checked against the f32 kernel on this GPU
    // before it is chosen (`tuning.rs`), and is part of the self-test where it was chosen (`self_test.rs`).
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

fn summarize(adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let named = [
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::SHADER_F16, "shader-f16"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
        (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative-matrix"),
    ];
    AdapterSummary {
        name: info.name,
        backend: format!("{:?}", info.backend),
        device_type: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_threads: limits.max_compute_invocations_per_workgroup,
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        features: named.iter().filter(|(flag, _)| features.contains(*flag)).map(|(_, name)| *name).collect(),
    }
}

async fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let mut found = instance.enumerate_adapters(BACKENDS.0).await;
        let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        found.sort_by_key(rank);
        found
    }
    #[cfg(target_arch = "wasm32")]
    {
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        instance.request_adapter(&options).await.ok().into_iter().collect()
    }
}

impl Gpu {
    /// All GPUs of this machine, the one that would be taken first.
    pub async fn list() -> Vec<AdapterSummary> {
        adapters(&instance()).await.iter().map(summarize).collect()
    }

    /// Opens a GPU.
    ///
    /// # Errors
    /// No adapter, none of that name, limits below core WebGPU, or a driver that refuses.
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let instance = instance();
        let mut found = adapters(&instance).await;
        if found.is_empty() {
            return Err(GpuError::NoAdapter { backends: BACKENDS.1 });
        }
        let at = match &options.name {
            None => 0,
            Some(wanted) => {
                let lower = wanted.to_lowercase();
                let by_name = found.iter().position(|adapter| adapter.get_info().name.to_lowercase().contains(&lower));
                let by_index = wanted.parse::<usize>().ok().filter(|index| *index < found.len());
                by_name.or(by_index).ok_or_else(|| GpuError::NoSuchAdapter {
                    wanted: wanted.clone(),
                    found: found.iter().map(|adapter| adapter.get_info().name).collect::<Vec<_>>().join(", "),
                })?
            }
        };
        let adapter = found.swap_remove(at);
        let (summary, info) = (summarize(&adapter), adapter.get_info());
        let core = wgpu::Limits::default();
        for (what, limit, needed) in [
            ("maxStorageBufferBindingSize", summary.max_binding_bytes, core.max_storage_buffer_binding_size),
            (
                "maxComputeWorkgroupStorageSize",
                u64::from(summary.workgroup_bytes),
                u64::from(core.max_compute_workgroup_storage_size),
            ),
            (
                "maxComputeInvocationsPerWorkgroup",
                u64::from(summary.workgroup_threads),
                u64::from(core.max_compute_invocations_per_workgroup),
            ),
        ] {
            if limit < needed {
                return Err(GpuError::LimitTooSmall { name: summary.name, what, limit, needed });
            }
        }
        let mut limits = if options.baseline { core } else { adapter.limits() };
        if let Some(bytes) = options.max_binding_bytes {
            limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(bytes);
        }
        let mut features = wgpu::Features::empty();
        if !options.baseline {
            features |= adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
        }
        let mut matrix_units = MatrixUnits::of(&adapter).filter(|_| !options.baseline);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if matrix_units.is_some() {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            experimental_features = experimental();
        }
        if options.profile {
            features |= adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
        }
        let mut descriptor = wgpu::DeviceDescriptor {
            label: Some("adapter-engine"),
            required_features: features | (adapter.features() & SHARED_FEATURES),
            required_limits: limits.clone(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let mut opened = adapter.request_device(&descriptor).await;
        if opened.is_err() && matrix_units.take().is_some() {
            // A driver that names what it cannot give.
            descriptor.required_features.remove(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
            opened = adapter.request_device(&descriptor).await;
        }
        let (device, queue) =
            opened.map_err(|error| GpuError::Open { name: summary.name.clone(), reason: error.to_string() })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (on_lost, on_error) = (Arc::clone(&faults), Arc::clone(&faults));
        device.set_device_lost_callback(move |reason, message| {
            if let Ok(mut faults) = on_lost.lock() {
                faults.lost.get_or_insert_with(|| format!("{reason:?}: {message}").trim_end_matches(": ").to_owned());
            }
        });
        device.on_uncaptured_error(Arc::new(move |error| {
            if let Ok(mut faults) = on_error.lock() {
                match error {
                    wgpu::Error::OutOfMemory { source } => {
                        faults.out_of_memory.get_or_insert_with(|| source.to_string());
                    }
                    other => {
                        faults.validation.get_or_insert_with(|| other.to_string());
                    }
                }
            }
        }));
        let cpu = info.device_type == wgpu::DeviceType::Cpu || summary.name.contains("SwiftShader");
        let tier = Tier {
            broadcast: features.contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size >= 8,
            cpu: cpu && !options.like_a_gpu,
            f16: features.contains(wgpu::Features::SHADER_F16),
            matrix_units,
        };
        let profile = features
            .contains(wgpu::Features::TIMESTAMP_QUERY)
            .then(|| Mutex::new(Profile::new(&device, queue.get_timestamp_period())));
        Ok(Self(Arc::new(Inner {
            instance,
            adapter,
            device,
            queue,
            summary,
            tier,
            limits,
            tuning: Mutex::default(),
            pipelines: Mutex::default(),
            scratch: Mutex::default(),
            used_bytes: Arc::default(),
            memory_limit_bytes: options.memory_limit_bytes,
            profile,
            poison: options.poison,
            faults,
        })))
    }

    /// What this GPU is and can.
    pub fn summary(&self) -> &AdapterSummary {
        &self.0.summary
    }

    /// Which kernel variants run here.
    pub fn tier(&self) -> Tier {
        self.0.tier
    }

    /// Which variants were chosen here.
    pub fn tuning(&self) -> Tuning {
        self.0.tuning.lock().map_or_else(|_| Tuning::default(), |tuning| *tuning)
    }

    /// Chooses other variants from now on; what is planned already stays as it is.
    pub fn set_tuning(&self, tuning: Tuning) {
        if let Ok(mut held) = self.0.tuning.lock() {
            *held = tuning;
        }
    }

    /// The limits the device was opened with.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.0.limits
    }

    /// The wgpu instance the device comes from, for code that shares it.
    pub fn instance(&self) -> &wgpu::Instance {
        &self.0.instance
    }

    /// The wgpu adapter the device comes from, for code that shares it.
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.0.adapter
    }

    /// The wgpu device, for code that shares it (training, a window).
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The wgpu queue that goes with [`Gpu::device`].
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// Bytes in buffers that live now.
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether anything went wrong since the device was opened; a lost device first.
    ///
    /// # Errors
    /// [`GpuError::DeviceLost`], [`GpuError::OutOfMemory`] or [`GpuError::Validation`].
    pub fn check(&self) -> Result<(), GpuError> {
        let Ok(mut faults) = self.0.faults.lock() else { return Ok(()) };
        if let Some(reason) = faults.lost.clone() {
            return Err(GpuError::DeviceLost { reason });
        }
        if let Some(message) = faults.out_of_memory.take() {
            return Err(GpuError::OutOfMemory {
                what: message,
                needed_bytes: 0,
                used_bytes: self.used_bytes(),
                limit: String::new(),
            });
        }
        match faults.validation.take() {
            Some(message) => Err(GpuError::Validation { message }),
            None => Ok(()),
        }
    }

    /// Gives the device up, as a driver reset would: everything afterwards is [`GpuError::DeviceLost`].
    pub fn destroy(&self) {
        self.0.device.destroy();
    }

    /// An empty list of commands.
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Sends commands to the GPU.
    pub fn submit(&self, commands: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.0.queue.submit([commands.finish()])
    }

    /// Waits until everything submitted so far is done (natively; a browser page cannot and need not wait).
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Waits until everything submitted so far is done, without blocking a browser's worker: messages reach it meanwhile.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub async fn finished(&self) -> Result<(), GpuError> {
        let done = Arc::new(super::buffer::Done::default());
        let notify = Arc::clone(&done);
        self.queue().on_submitted_work_done(move || notify.finish(true));
        self.wait()?;
        super::buffer::Wait(done).await;
        self.check()
    }

    pub(super) fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })
    }

    fn poll(&self, poll: wgpu::PollType) -> Result<(), GpuError> {
        if let Err(error) = self.0.device.poll(poll) {
            self.check()?;
            return Err(GpuError::DeviceLost { reason: error.to_string() });
        }
        self.check()
    }

    /// Kernel times since the last call, slowest first; empty unless opened with `profile`.
    pub fn take_profile(&self) -> Vec<super::profile::KernelTime> {
        match &self.0.profile {
            Some(profile) => profile.lock().map(|mut profile| profile.take(self)).unwrap_or_default(),
            None => Vec::new(),
        }
    }
}
