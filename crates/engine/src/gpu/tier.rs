//! What decides which kernel variants a GPU gets.

use serde::{Deserialize, Serialize};

/// Which kernel variants this GPU gets, decided once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tier {
    /// Every subgroup has at least 8 lanes and `subgroupBroadcast` works: inputs are read once a lane and passed around.
    pub broadcast: bool,
    /// The adapter is a CPU: no workgroup memory tiling, one thread a row, no split of the channels over threads.
    pub cpu: bool,
    /// Kernels may compute and store in f16.
    pub f16: bool,
    /// Units that multiply small matrices of f16 and add up in f32.
    pub matrix_units: Option<MatrixUnits>,
}

impl Tier {
    /// Multiplications of one submit, about: some 50 ms on a small GPU, so that no driver takes it for hung and a window stays
    /// alive; less on a CPU, which is slower and has the window to draw as well.
    pub fn submit_macs(self) -> u64 {
        if self.cpu { 300_000_000 } else { 30_000_000_000 }
    }
}

/// Cooperative matrices: natively, on GPUs with tensor cores or their like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Rows and columns of a matrix: 8 or 16.
    pub size: u32,
    /// Threads of the smallest and the largest subgroup, which work on one matrix together.
    pub subgroups: (u32, u32),
}

impl MatrixUnits {
    /// Matrices of f16 with sums in f32, the largest of those that `adapter` and WGSL both know.
    pub(super) fn of(adapter: &wgpu::Adapter) -> Option<Self> {
        use wgpu::CooperativeScalarType::{F16, F32};
        let needed =
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        let info = adapter.get_info();
        let fits = adapter.features().contains(needed)
            && info.subgroup_min_size >= 8
            && info.subgroup_max_size <= 128
            && info.subgroup_max_size.is_power_of_two()
            // What the kernel needs at most; WebGPU promises half.
            && adapter.limits().max_compute_workgroup_storage_size >= 32 << 10;
        let kinds = adapter.cooperative_matrix_properties().into_iter();
        let size = kinds
            .filter(|kind| (kind.ab_type, kind.cr_type) == (F16, F32))
            .filter(|kind| kind.m_size == kind.n_size && kind.n_size == kind.k_size && [8, 16].contains(&kind.m_size))
            .map(|kind| kind.m_size)
            .max();
        let subgroups = (info.subgroup_min_size, info.subgroup_max_size);
        size.filter(|_| fits).map(|size| Self { size, subgroups })
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("baseline")?;
        if self.broadcast {
            f.write_str("+subgroups")?;
        }
        if self.f16 {
            f.write_str("+f16")?;
        }
        if let Some(MatrixUnits { size, .. }) = self.matrix_units {
            write!(f, "+matrices of {size} x {size}")?;
        }
        if self.cpu {
            f.write_str(" (CPU adapter)")?;
        }
        Ok(())
    }
}

/// Which of its choices each op takes on this GPU, by number: what they mean, the ops say
/// ([`Slot`](crate::ops::matmul::Slot)). All zeros are the defaults. As JSON a list in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 6]", into = "[u8; 6]")]
pub struct Tuning {
    /// Products of a prompt: f32 or f16.
    pub tiles: u8,
    /// Products with one token.
    pub matvec: u8,
    /// Products with one token and many rows.
    pub matvec_many_rows: u8,
    /// Products with some tokens on a CPU adapter.
    pub matmul: u8,
    /// Products with many tokens on a CPU adapter.
    pub matmul_many_tokens: u8,
    /// Products on a CPU adapter without subgroups.
    pub lanes: u8,
}

impl From<[u8; 6]> for Tuning {
    fn from([tiles, matvec, matvec_many_rows, matmul, matmul_many_tokens, lanes]: [u8; 6]) -> Self {
        Self { tiles, matvec, matvec_many_rows, matmul, matmul_many_tokens, lanes }
    }
}

impl From<Tuning> for [u8; 6] {
    fn from(tuning: Tuning) -> Self {
        let Tuning { tiles, matvec, matvec_many_rows, matmul, matmul_many_tokens, lanes } = tuning;
        [tiles, matvec, matvec_many_rows, matmul, matmul_many_tokens, lanes]
    }
}
