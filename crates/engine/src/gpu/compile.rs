//! From a kernel's variant to its pipeline, made once a device.

use std::sync::Arc;

use super::kernel::shader_source;
use super::pipeline::{BindingKind, Pipeline, reflect_bindings};
use super::preprocess::Constants;
use super::{Gpu, GpuError};

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
