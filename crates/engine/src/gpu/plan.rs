//! A plan: launches with all arguments bound, encoded again and again. One token's work is one plan, made once.

use std::sync::Arc;

use super::pipeline::Pipeline;
use super::{BindingKind, Buffer, Constants, Gpu, GpuError};

/// What changes from one submit to the next; `shaders/shared/step.wgsl` is its twin.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// Positions already in the KV cache.
    pub past: u32,
    /// Tokens of this step.
    pub n_tokens: u32,
    /// A uniform number in [0, 1) for the sampler.
    pub draw: f32,
    /// Index of this step's token in the ring of recent ids.
    pub history: u32,
}

/// One argument of a launch, in binding order.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    /// The launch's own parameters: the bytes of its `Params`.
    Params(&'a [u8]),
    /// A whole buffer.
    Whole(&'a Buffer),
    /// `size` bytes of a buffer from `offset` on.
    Range(&'a Buffer, u64, u64),
}

/// Workgroups for `n` of them, folded over x and y past 65,535 (the kernels fold them back).
pub fn fold_groups(n: u64) -> [u32; 3] {
    const LIMIT: u64 = 65_535;
    let y = n.div_ceil(LIMIT).max(1);
    [n.div_ceil(y).max(1) as u32, y as u32, 1]
}

struct Launch {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
}

/// Launches in order, ready to encode.
pub struct Plan {
    launches: Vec<Launch>,
    /// Where the pieces after the first begin.
    cuts: Vec<usize>,
    _params: Option<Buffer>,
}

struct Pending {
    pipeline: Arc<Pipeline>,
    bindings: Vec<(Option<Buffer>, u64, u64)>,
    groups: [u32; 3],
}

/// Collects launches; their parameters share one buffer.
pub struct PlanBuilder<'g> {
    gpu: &'g Gpu,
    pending: Vec<Pending>,
    cuts: Vec<usize>,
    params: Vec<u8>,
    f16_products: bool,
}

impl<'g> PlanBuilder<'g> {
    /// An empty plan on `gpu`.
    pub fn new(gpu: &'g Gpu) -> Self {
        Self { gpu, pending: Vec::new(), cuts: Vec::new(), params: Vec::new(), f16_products: false }
    }

    /// The GPU the plan is for.
    pub fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    /// The same plan, in which an op may (or may not, as at first) round its inputs to f16 where that was measured to be faster
    /// on this GPU: what the results are for does not need their last bits.
    #[must_use]
    pub fn f16_products(mut self, f16_products: bool) -> Self {
        self.f16_products = f16_products;
        self
    }

    /// See [`PlanBuilder::f16_products`].
    pub fn takes_f16_products(&self) -> bool {
        self.f16_products
    }

    /// Adds one launch of a kernel's variant.
    ///
    /// # Errors
    /// A shader that cannot be made, arguments that do not fit its bindings, or more workgroups than 65,535 squared.
    pub fn launch(
        &mut self,
        kernel: &'static str,
        constants: &Constants,
        args: &[Arg<'_>],
        groups: [u32; 3],
    ) -> Result<(), GpuError> {
        let pipeline = self.gpu.pipeline(kernel, constants)?;
        let fits = pipeline.bindings.len() == args.len()
            && pipeline.bindings.iter().zip(args).all(|(kind, arg)| match arg {
                Arg::Params(_) => *kind == BindingKind::Uniform,
                Arg::Whole(_) | Arg::Range(..) => true,
            });
        if !fits || groups.iter().any(|n| *n > 65_535) {
            return Err(GpuError::Validation {
                message: format!(
                    "{kernel}: {} arguments, {} bindings, groups {groups:?}",
                    args.len(),
                    pipeline.bindings.len()
                ),
            });
        }
        let alignment = self.gpu.limits().min_uniform_buffer_offset_alignment as usize;
        let bindings = args
            .iter()
            .map(|arg| match arg {
                Arg::Params(bytes) => {
                    let offset = self.params.len().next_multiple_of(alignment);
                    self.params.resize(offset, 0);
                    self.params.extend_from_slice(bytes);
                    (None, offset as u64, bytes.len() as u64)
                }
                Arg::Whole(buffer) => (Some((*buffer).clone()), 0, buffer.size()),
                Arg::Range(buffer, offset, size) => (Some((*buffer).clone()), *offset, *size),
            })
            .collect();
        self.pending.push(Pending { pipeline, bindings, groups });
        Ok(())
    }

    /// What follows belongs to the next piece: see [`Plan::encode_piece`].
    pub fn cut(&mut self) {
        self.cuts.push(self.pending.len());
    }

    /// Binds everything.
    ///
    /// # Errors
    /// No memory for the parameters.
    pub fn build(mut self) -> Result<Plan, GpuError> {
        let n = self.pending.len();
        self.cuts.retain(|cut| (1..n).contains(cut));
        let params = match self.params.is_empty() {
            true => None,
            false => Some(self.gpu.buffer_with("parameters of a plan", &pad(self.params))?),
        };
        let launches = self
            .pending
            .into_iter()
            .map(|pending| {
                let entries: Vec<_> = pending
                    .bindings
                    .iter()
                    .enumerate()
                    .filter_map(|(index, (buffer, offset, size))| {
                        let buffer = buffer.as_ref().or(params.as_ref())?;
                        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer: buffer.raw(),
                            offset: *offset,
                            size: std::num::NonZero::new(*size),
                        });
                        Some(wgpu::BindGroupEntry { binding: index as u32, resource })
                    })
                    .collect();
                let bind_group = self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(pending.pipeline.kernel),
                    layout: &pending.pipeline.layout,
                    entries: &entries,
                });
                Launch { pipeline: pending.pipeline, bind_group, groups: pending.groups }
            })
            .collect();
        Ok(Plan { launches, cuts: self.cuts, _params: params })
    }
}

fn pad(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

impl Plan {
    /// How many launches it has.
    pub fn len(&self) -> usize {
        self.launches.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.launches.is_empty()
    }

    /// The variants it launches, in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.launches.iter().map(|launch| launch.pipeline.label.as_str())
    }

    /// The kernels it launches, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.launches.iter().map(|launch| launch.pipeline.kernel)
    }

    /// Adds all launches to `encoder`: one pass, or one a launch when the GPU was opened with `profile`.
    pub fn encode(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        Self::encode_launches(&self.launches, gpu, encoder);
    }

    /// How many pieces [`PlanBuilder::cut`] made of it.
    pub fn n_pieces(&self) -> usize {
        self.cuts.len() + 1
    }

    /// [`Plan::encode`] of one piece: all pieces one after the other, each with a submit of its own, are the plan.
    pub fn encode_piece(&self, piece: usize, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        let from = piece.checked_sub(1).map_or(Some(0), |before| self.cuts.get(before).copied());
        let to = self.cuts.get(piece).copied().unwrap_or(self.launches.len());
        if let Some(launches) = from.and_then(|from| self.launches.get(from..to)) {
            Self::encode_launches(launches, gpu, encoder);
        }
    }

    fn encode_launches(launches: &[Launch], gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        if let Some(profile) = &gpu.0.profile
            && let Ok(mut profile) = profile.lock()
        {
            for launch in launches {
                let timestamp_writes = profile.reserve(launch.pipeline.kernel, &gpu.0.device, encoder);
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(launch.pipeline.kernel),
                    timestamp_writes: timestamp_writes.as_ref().map(|(set, at)| wgpu::ComputePassTimestampWrites {
                        query_set: set,
                        beginning_of_pass_write_index: Some(*at),
                        end_of_pass_write_index: Some(*at + 1),
                    }),
                });
                launch.encode(&mut pass);
            }
            return;
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for launch in launches {
            launch.encode(&mut pass);
        }
    }
}

impl Launch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.raw);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.groups[0], self.groups[1], self.groups[2]);
    }
}
