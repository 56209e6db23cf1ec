//! The GPUs of this machine.

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

#[cfg(not(target_arch = "wasm32"))]
pub(super) const BACKENDS: (wgpu::Backends, &str) = (wgpu::Backends::PRIMARY, "Vulkan, Metal or Direct3D 12");
#[cfg(target_arch = "wasm32")]
pub(super) const BACKENDS: (wgpu::Backends, &str) = (wgpu::Backends::BROWSER_WEBGPU, "WebGPU");

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS.0;
    wgpu::Instance::new(descriptor)
}

pub(super) fn summarize(adapter: &wgpu::Adapter) -> AdapterSummary {
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

pub(super) async fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
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
