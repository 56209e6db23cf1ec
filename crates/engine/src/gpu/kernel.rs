//! Kernels by name: shader text, variants, pipelines (made once a device).

use std::sync::Arc;

use super::preprocess::{Constants, PreprocessError, preprocess};
use super::{Gpu, GpuError};

/// One file of `shaders/`.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// File name without `.wgsl`.
    pub name: &'static str,
    /// Its text, with preprocessor directives.
    pub text: &'static str,
}

macro_rules! kernels {
    ($($name:literal),* $(,)?) => {
        &[$(Kernel { name: $name, text: include_str!(concat!("../../../../shaders/", $name, ".wgsl")) }),*]
    };
}

/// Every kernel there is.
pub const KERNELS: &[Kernel] = kernels![
    "argmax",
    "attention",
    "attention_backward_kv",
    "attention_backward_q",
    "attention_keys",
    "attention_lanes",
    "attention_merge",
    "attention_queries",
    "cross_entropy",
    "embedding",
    "gated_attention",
    "gated_attention_backward",
    "gated_attention_queries",
    "gated_attention_reduce",
    "gated_attention_reduce_lanes",
    "half_rows",
    "head_norm",
    "kv_cache_write",
    "matmul",
    "matmul_backward",
    "matmul_backward_cooperative",
    "matmul_backward_tiled",
    "matmul_backward_tokens",
    "matmul_cooperative",
    "matmul_lanes",
    "matmul_tiled",
    "matvec",
    "repeat_penalty",
    "residual_add",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "sample",
    "swiglu",
    "swiglu_backward",
];

/// Text that kernels import.
pub const FRAGMENTS: &[Kernel] = kernels![
    "shared/band",
    "shared/bf16",
    "shared/bits",
    "shared/cooperative_stage",
    "shared/cooperative_step",
    "shared/cooperative_sums",
    "shared/dot_values",
    "shared/epilogue",
    "shared/f16",
    "shared/f32",
    "shared/kv",
    "shared/parts",
    "shared/parts_dequantize",
    "shared/parts_whole",
    "shared/product",
    "shared/q2_k",
    "shared/q3_k",
    "shared/q4_0",
    "shared/q4_1",
    "shared/q4_k",
    "shared/q5_0",
    "shared/q5_1",
    "shared/q5_k",
    "shared/q6_k",
    "shared/q8_0",
    "shared/query_round",
    "shared/rotate",
    "shared/silu",
    "shared/step",
];

fn fragment(name: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|part| part.name.strip_prefix("shared/") == Some(name)).map(|part| part.text)
}

/// The WGSL of a kernel's variant, ready for naga or a browser.
///
/// # Errors
/// An unknown kernel or a mistake in its directives.
pub fn shader_source(kernel: &str, constants: &Constants) -> Result<String, PreprocessError> {
    let found = KERNELS.iter().find(|candidate| candidate.name == kernel).ok_or_else(|| PreprocessError {
        shader: kernel.to_owned(),
        line: 0,
        message: "no such kernel".to_owned(),
    })?;
    preprocess(kernel, found.text, constants, &fragment)
}

/// What a binding of a kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// The bindings a preprocessed shader declares, in order; every kernel numbers them 0, 1, 2, …
pub fn reflect_bindings(source: &str) -> Vec<BindingKind> {
    source
        .lines()
        .filter(|line| line.trim_start().starts_with("@group(0) @binding("))
        .map(|line| {
            if line.contains("var<uniform>") {
                BindingKind::Uniform
            } else if line.contains("read_write") {
                BindingKind::Write
            } else {
                BindingKind::Read
            }
        })
        .collect()
}

/// A compiled variant.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: Vec<BindingKind>,
    pub(super) kernel: &'static str,
    pub(super) label: String,
}

impl Gpu {
    /// The pipeline of a kernel's variant, compiled at the first call.
    ///
    /// # Errors
    /// Mistakes in the template. What the driver dislikes arrives at the next [`Gpu::check`].
    pub fn pipeline(&self, kernel: &'static str, constants: &Constants) -> Result<Arc<Pipeline>, GpuError> {
        let label = constants.iter().fold(kernel.to_owned(), |label, (name, value)| format!("{label} {name}={value}"));
        let Ok(mut cache) = self.0.pipelines.lock() else {
            return Err(GpuError::Validation { message: "the pipeline cache is poisoned".to_owned() });
        };
        if let Some(pipeline) = cache.get(&label) {
            return Ok(Arc::clone(pipeline));
        }
        let mut source = shader_source(kernel, constants)?;
        if let Some((_, text, replacement)) = self.0.poison.filter(|poison| poison.0 == kernel) {
            source = source.replace(text, replacement);
        }
        let bindings = reflect_bindings(&source);
        let device = self.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let entries: Vec<_> = bindings
            .iter()
            .enumerate()
            .map(|(index, kind)| wgpu::BindGroupLayoutEntry {
                binding: index as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match kind {
                        BindingKind::Uniform => wgpu::BufferBindingType::Uniform,
                        BindingKind::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        BindingKind::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            // Every kernel writes workgroup memory before it reads it, so clearing it first would be wasted work.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let pipeline = Arc::new(Pipeline { raw, layout, bindings, kernel, label: label.clone() });
        cache.insert(label, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// Labels of the pipelines compiled so far.
    pub fn pipeline_labels(&self) -> Vec<String> {
        let mut labels: Vec<String> =
            self.0.pipelines.lock().map(|cache| cache.keys().cloned().collect()).unwrap_or_default();
        labels.sort();
        labels
    }
}
