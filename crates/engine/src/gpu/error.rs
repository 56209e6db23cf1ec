//! What can go wrong on a GPU.

use super::preprocess::PreprocessError;

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
