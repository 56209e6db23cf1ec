//! Time per kernel from timestamp queries, for `--verbose`.

use std::collections::BTreeMap;

use super::buffer::staging;

const CAPACITY: u32 = 4096;

/// How long a kernel ran in all.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Launches.
    pub count: u64,
    /// Milliseconds on the GPU.
    pub millis: f64,
}

/// The running account.
pub struct Profile {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    period_ns: f64,
    open: Vec<&'static str>,
    pending: Vec<(Vec<&'static str>, wgpu::Buffer)>,
    totals: BTreeMap<&'static str, (u64, f64)>,
}

impl Profile {
    pub(super) fn new(device: &wgpu::Device, period_ns: f32) -> Self {
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("kernel times"),
            ty: wgpu::QueryType::Timestamp,
            count: CAPACITY,
        });
        let resolved = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("kernel times"),
            size: u64::from(CAPACITY) * 8,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Self {
            queries,
            resolved,
            period_ns: f64::from(period_ns),
            open: Vec::new(),
            pending: Vec::new(),
            totals: BTreeMap::new(),
        }
    }

    /// Two query slots for a launch; makes room first when the set is full.
    pub(super) fn reserve(
        &mut self,
        kernel: &'static str,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Option<(wgpu::QuerySet, u32)> {
        if (self.open.len() as u32 + 1) * 2 > CAPACITY {
            self.resolve(device, encoder);
        }
        let at = self.open.len() as u32 * 2;
        self.open.push(kernel);
        Some((self.queries.clone(), at))
    }

    fn resolve(&mut self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder) {
        if self.open.is_empty() {
            return;
        }
        let count = self.open.len() as u32 * 2;
        let staging = staging(device, u64::from(count) * 8);
        encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &staging, 0, u64::from(count) * 8);
        self.pending.push((std::mem::take(&mut self.open), staging));
    }

    pub(super) fn take(&mut self, device: &wgpu::Device, queue: &wgpu::Queue) -> Vec<KernelTime> {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.resolve(device, &mut encoder);
        queue.submit([encoder.finish()]);
        for (kernels, staging) in std::mem::take(&mut self.pending) {
            staging.map_async(wgpu::MapMode::Read, .., |_| {});
            if device.poll(wgpu::PollType::wait_indefinitely()).is_err() {
                return Vec::new();
            }
            let Ok(view) = staging.get_mapped_range(..) else { continue };
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view[..]);
            for (kernel, pair) in kernels.iter().zip(ticks.chunks_exact(2)) {
                let total = self.totals.entry(*kernel).or_default();
                total.0 += 1;
                total.1 += pair[1].saturating_sub(pair[0]) as f64 * self.period_ns / 1e6;
            }
        }
        let mut times: Vec<_> = std::mem::take(&mut self.totals)
            .into_iter()
            .map(|(kernel, (count, millis))| KernelTime { kernel, count, millis })
            .collect();
        times.sort_by(|a, b| b.millis.total_cmp(&a.millis));
        times
    }
}
