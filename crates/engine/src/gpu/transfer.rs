//! Making buffers, writing to them, reading them back.

use std::sync::Arc;

use super::buffer::{Buffer, Done, Wait, staging};
use super::{Gpu, GpuError};

impl Gpu {
    /// A storage buffer of `size` bytes (rounded up to 16), bindable whole, readable and writable by copies, and its
    /// start as a uniform.
    ///
    /// # Errors
    /// Larger than one buffer or binding may be, or over the memory limit.
    pub fn buffer(&self, what: &str, size: u64) -> Result<Buffer, GpuError> {
        let size = size.max(16).next_multiple_of(16);
        let limits = self.limits();
        let limit_bytes = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        if size > limit_bytes {
            return Err(GpuError::BufferTooLarge { what: what.to_owned(), needed_bytes: size, limit_bytes });
        }
        if let Some(limit) = self.0.memory_limit_bytes
            && self.used_bytes() + size > limit
        {
            return Err(GpuError::OutOfMemory {
                what: what.to_owned(),
                needed_bytes: size,
                used_bytes: self.used_bytes(),
                limit: format!(", the limit is {limit}"),
            });
        }
        // Uniform as well: the step and the parameters of a plan are.
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let raw = self.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage,
            mapped_at_creation: false,
        });
        Ok(Buffer::counted(raw, &self.0.used_bytes))
    }

    /// A buffer of `size` bytes or more that everybody who asks for `what` shares: what is written there holds until the next
    /// launch that writes there, and no longer.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn scratch(&self, what: &'static str, size: u64) -> Result<Buffer, GpuError> {
        let Ok(mut held) = self.0.scratch.lock() else { return self.buffer(what, size) };
        if let Some(buffer) = held.get(what).filter(|buffer| buffer.size() >= size) {
            return Ok(buffer.clone());
        }
        let buffer = self.buffer(what, size)?;
        held.insert(what, buffer.clone());
        Ok(buffer)
    }

    /// A storage buffer filled with `data`.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn buffer_with<T: bytemuck::NoUninit>(&self, what: &str, data: &[T]) -> Result<Buffer, GpuError> {
        let buffer = self.buffer(what, size_of_val(data) as u64)?;
        self.write(&buffer, 0, data);
        Ok(buffer)
    }

    /// Writes `data` at `offset` bytes (both multiples of 4) before the next submit.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, data: &[T]) {
        if !data.is_empty() {
            self.queue().write_buffer(buffer.raw(), offset, bytemuck::cast_slice(data));
        }
    }

    /// A buffer the CPU can map, for read-backs.
    pub(crate) fn staging(&self, size: u64) -> wgpu::Buffer {
        staging(self.device(), size)
    }

    /// Waits for `staging[..size]` and returns its bytes; the buffer can be used again afterwards.
    ///
    /// Natively this blocks until the submission `after` is done; work submitted later keeps running.
    pub(crate) async fn map(
        &self,
        staging: &wgpu::Buffer,
        size: u64,
        after: wgpu::SubmissionIndex,
    ) -> Result<Vec<u8>, GpuError> {
        let done = Arc::new(Done::default());
        let notify = Arc::clone(&done);
        let range = 0..size.next_multiple_of(4);
        staging.map_async(wgpu::MapMode::Read, range.clone(), move |result| notify.finish(result.is_ok()));
        self.wait_for(after)?;
        if !Wait(done).await {
            self.check()?;
            return Err(GpuError::DeviceLost { reason: "a buffer could not be read back".to_owned() });
        }
        let bytes = match staging.get_mapped_range(range) {
            Ok(view) => view[..size as usize].to_vec(),
            Err(error) => return Err(GpuError::DeviceLost { reason: error.to_string() }),
        };
        staging.unmap();
        self.check()?;
        Ok(bytes)
    }

    /// Copies `size` bytes at `offset` back to the CPU.
    ///
    /// # Errors
    /// A lost device, or a range outside the buffer.
    pub async fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, offset: u64, count: usize) -> Result<Vec<T>, GpuError> {
        let size = (count * size_of::<T>()) as u64;
        let staging = self.staging(size);
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer.raw(), offset, &staging, 0, size.next_multiple_of(4));
        let submitted = self.submit(encoder);
        let bytes = self.map(&staging, size, submitted).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Waits until everything submitted so far is done, without blocking a browser's worker: messages reach it meanwhile.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub async fn finished(&self) -> Result<(), GpuError> {
        let done = Arc::new(Done::default());
        let notify = Arc::clone(&done);
        self.queue().on_submitted_work_done(move || notify.finish(true));
        self.wait()?;
        Wait(done).await;
        self.check()
    }
}
