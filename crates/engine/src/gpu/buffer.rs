//! Storage on the GPU, counted while it lives; and waiting for callbacks of wgpu's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A GPU buffer that is counted in [`used_bytes`](super::Gpu::used_bytes) while it lives. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Buffer(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    raw: wgpu::Buffer,
    size: u64,
    used_bytes: Arc<AtomicU64>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.used_bytes.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Buffer {
    /// Counts `raw` in `used_bytes`.
    pub(super) fn counted(raw: wgpu::Buffer, used_bytes: &Arc<AtomicU64>) -> Self {
        let size = raw.size();
        used_bytes.fetch_add(size, Ordering::Relaxed);
        Self(Arc::new(Counted { raw, size, used_bytes: Arc::clone(used_bytes) }))
    }

    /// The wgpu buffer.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.0.raw
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }
}

/// A buffer the CPU can map, for read-backs.
pub(super) fn staging(device: &wgpu::Device, size: u64) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("read back"),
        size: size.max(4).next_multiple_of(4),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// The other end of a callback of wgpu's.
#[derive(Default)]
pub(super) struct Done {
    state: std::sync::Mutex<(Option<bool>, Option<std::task::Waker>)>,
}

impl Done {
    pub(super) fn finish(&self, ok: bool) {
        if let Ok(mut state) = self.state.lock() {
            state.0 = Some(ok);
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        }
    }
}

/// What [`Done::finish`] was told.
pub(super) struct Wait(pub(super) Arc<Done>);

impl Future for Wait {
    type Output = bool;

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<bool> {
        let Ok(mut state) = self.0.state.lock() else { return std::task::Poll::Ready(false) };
        match state.0 {
            Some(ok) => std::task::Poll::Ready(ok),
            None => {
                state.1 = Some(context.waker().clone());
                std::task::Poll::Pending
            }
        }
    }
}
