//! Opening a GPU: limits, features, and what went wrong since.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::buffer::Buffer;
use super::error::GpuError;
use super::list::{AdapterSummary, BACKENDS, adapters, instance, summarize};
use super::pipeline::Pipeline;
use super::profile::Profile;
use super::tier::{MatrixUnits, Tier, Tuning};

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
    marks: Mutex<HashSet<String>>,
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

/// Features the engine never uses. burn, which shares the device in training, asks the adapter what there is and takes it for
/// enabled (cubecl 0.11).
const SHARED_FEATURES: wgpu::Features = wgpu::Features::SHADER_INT64
    .union(wgpu::Features::SHADER_F64)
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SHADER_FLOAT32_ATOMIC)
    .union(wgpu::Features::SUBGROUP);

/// What wgpu asks for before it hands out a feature that it calls experimental: here, cooperative matrices and no other.
#[expect(unsafe_code, reason = "the only way to ask for it")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: wgpu's words: such a feature may have bugs that are undefined behaviour. The only kernel that uses this one is
    // `shaders/matmul_cooperative.wgsl`, which indexes nothing outside its slabs, is checked against the f32 kernel on this GPU
    // before it is chosen (`check/tuning.rs`), and is part of the self-test where it was chosen (`check/self_test.rs`).
    unsafe { wgpu::ExperimentalFeatures::enabled() }
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
            marks: Mutex::default(),
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

    /// Remembers `mark` for as long as this GPU is open: what was found out about it.
    pub fn set_mark(&self, mark: String) {
        if let Ok(mut marks) = self.0.marks.lock() {
            marks.insert(mark);
        }
    }

    /// Whether [`Self::set_mark`] was told so.
    pub fn has_mark(&self, mark: &str) -> bool {
        self.0.marks.lock().is_ok_and(|marks| marks.contains(mark))
    }

    /// The limits the device was opened with.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.0.limits
    }

    /// Bytes of the largest buffer that a kernel can use.
    pub fn most_bytes(&self) -> u64 {
        self.0.limits.max_buffer_size.min(self.0.limits.max_storage_buffer_binding_size)
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
            Some(profile) => {
                profile.lock().map(|mut profile| profile.take(&self.0.device, &self.0.queue)).unwrap_or_default()
            }
            None => Vec::new(),
        }
    }
}
