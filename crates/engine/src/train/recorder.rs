//! Collects a step's work into submits of bounded length.

use crate::gpu::{Buffer, Gpu, GpuError, PlanBuilder};

/// Commands in order, handed to the GPU whenever enough of them have come together.
pub(super) struct Recorder<'g> {
    gpu: &'g Gpu,
    encoder: wgpu::CommandEncoder,
    recorded_macs: u64,
    rounded: bool,
}

impl<'g> Recorder<'g> {
    /// `rounded`: see [`PlanBuilder::f16_products`].
    pub(super) fn new(gpu: &'g Gpu, rounded: bool) -> Self {
        Self { gpu, encoder: gpu.encoder(), recorded_macs: 0, rounded }
    }

    /// Records the launches that `fill` adds, of about `macs` multiplications.
    pub(super) fn launch(
        &mut self,
        macs: u64,
        fill: impl FnOnce(&mut PlanBuilder<'_>) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        let mut plan = PlanBuilder::new(self.gpu).f16_products(self.rounded);
        fill(&mut plan)?;
        plan.build()?.encode(self.gpu, &mut self.encoder);
        self.recorded_macs += macs;
        Ok(())
    }

    /// Records a copy from the start of one buffer to the start of another.
    pub(super) fn copy(&mut self, from: &Buffer, to: &Buffer, size: u64) {
        self.encoder.copy_buffer_to_buffer(from.raw(), 0, to.raw(), 0, size);
    }

    /// For other commands.
    pub(super) fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        &mut self.encoder
    }

    /// Whether products may be in f16.
    pub(super) fn f16_products(&self) -> bool {
        self.rounded
    }

    /// A place where the work may be cut: submits when enough has come together.
    pub(super) fn cut(&mut self) {
        if self.recorded_macs >= self.gpu.tier().submit_macs() {
            self.submit();
        }
    }

    /// Submits what is left.
    pub(super) fn submit(&mut self) {
        self.gpu.submit(std::mem::replace(&mut self.encoder, self.gpu.encoder()));
        self.recorded_macs = 0;
    }
}
