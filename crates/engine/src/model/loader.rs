//! Streams tensors from a file to the GPU, repacked on the way. At no time more than a few MiB of them are on the CPU.

use std::ops::ControlFlow;

use crate::Error;
use crate::formats::{Layout, ReadAt, TILE_ROWS, TensorInfo, TensorType, repack_tile};
use crate::gpu::{Buffer, Gpu};
use crate::ops::matrix::{Matrix, Part};

/// Bytes read from the file at once.
const WINDOW_BYTES: u64 = 1 << 20;
/// Bytes handed to the driver before it is asked to take them: bounds its staging memory.
const FLUSH_BYTES: usize = 2 << 20;

/// Told the bytes loaded so far and in all; may stop the load.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// How the tensors of a matrix follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One below the other.
    Stacked,
    /// Tiles of 8 rows alternate between two tensors of the same shape and format.
    Alternating,
    /// One below the other, and the rows of the first `n_rotated` tensors are heads whose rotation pairs are halves: they become
    /// neighbours.
    Rotated {
        /// The heads.
        heads: Halves,
        /// How many tensors have such heads.
        n_rotated: usize,
    },
}

/// Heads of `head_dim` rows, of which row `i` rotates with row `i + n_rot / 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halves {
    /// D
    pub head_dim: u32,
    /// How many rows of a head rotate, from the first on.
    pub n_rot: u32,
}

impl Halves {
    /// The row of the file that becomes row `row` when pairs are neighbours.
    pub fn source(self, row: u64) -> u64 {
        let (head_dim, n_rot) = (u64::from(self.head_dim), u64::from(self.n_rot));
        let (head, channel) = (row - row % head_dim, row % head_dim);
        match channel < n_rot {
            true => head + channel / 2 + channel % 2 * (n_rot / 2),
            false => row,
        }
    }
}

impl Order {
    /// The row of tensor `tensor` in the file that becomes its row `row` on the GPU.
    fn source(self, tensor: usize, row: u64) -> u64 {
        match self {
            Self::Rotated { heads, n_rotated } if tensor < n_rotated => heads.source(row),
            _ => row,
        }
    }
}

/// Loads tensors one after the other.
pub struct Loader<'a> {
    gpu: &'a Gpu,
    source: &'a dyn ReadAt,
    progress: Progress<'a>,
    done_bytes: u64,
    total_bytes: u64,
    unflushed: usize,
    /// Tensors with scales that are not finite, and how many.
    pub damaged: Vec<(String, u64)>,
}

/// One tile: which tensor, its first row, how many rows.
struct Tile {
    tensor: usize,
    row: u64,
    n_rows: usize,
}

impl<'a> Loader<'a> {
    /// A loader that reports progress out of `total_bytes`.
    pub fn new(gpu: &'a Gpu, source: &'a dyn ReadAt, total_bytes: u64, progress: Progress<'a>) -> Self {
        Self { gpu, source, progress, done_bytes: 0, total_bytes, unflushed: 0, damaged: Vec::new() }
    }

    /// A vector (norm weights) as f32.
    ///
    /// # Errors
    /// Reading, memory, or a format that is not a plain float.
    pub fn vector(&mut self, tensor: &TensorInfo) -> Result<Buffer, Error> {
        self.vectors(&[tensor], Order::Stacked)
    }

    /// Several vectors behind each other as f32 (biases), in the order of the rows of a matrix of that order.
    ///
    /// # Errors
    /// As [`Loader::vector`].
    pub fn vectors(&mut self, tensors: &[&TensorInfo], order: Order) -> Result<Buffer, Error> {
        let mut all = Vec::new();
        for (index, tensor) in tensors.iter().enumerate() {
            let values = read_floats(self.source, tensor)?;
            let source = |row: usize| order.source(index, row as u64) as usize;
            all.extend((0..values.len()).map(|row| values.get(source(row)).copied().unwrap_or_default()));
            self.advance(tensor.size_bytes)?;
        }
        let name = tensors.first().map_or("", |tensor| tensor.name.as_str());
        Ok(self.gpu.buffer_with(name, &all)?)
    }

    /// A matrix from the rows of one or more tensors of equal row length.
    ///
    /// # Errors
    /// Reading, memory, an unknown format, or rows that are not whole blocks of 32.
    pub fn matrix(&mut self, tensors: &[&TensorInfo], order: Order) -> Result<Matrix, Error> {
        let n_cols = tensors.first().map_or(0, |tensor| tensor.shape[0]);
        for tensor in tensors {
            if tensor.shape[0] != n_cols || !n_cols.is_multiple_of(32) || n_cols > u64::from(u32::MAX / 64) {
                return Err(Error::TensorShape {
                    name: tensor.name.clone(),
                    found: tensor.shape.clone(),
                    wanted: format!("rows of {n_cols} (a multiple of 32)"),
                });
            }
        }
        let tiles = order_tiles(tensors, order);
        let mut windows: Vec<Window<'_>> = tensors.iter().map(|tensor| Window::new(self.source, tensor)).collect();
        let mut parts: Vec<Part> = Vec::new();
        let mut next = 0;
        let mut first_row = 0;
        let (mut q, mut s) = (Vec::new(), Vec::new());
        while next < tiles.len() {
            let tensor_type = tensors[tiles[next].tensor].tensor_type;
            let layout = Layout::of(tensor_type).ok_or_else(|| Error::UnsupportedFormat {
                name: tensors[tiles[next].tensor].name.clone(),
                format: tensor_type.name(),
            })?;
            let (q_tile, s_tile) = (layout.tile_q_bytes(n_cols as usize), layout.tile_s_bytes(n_cols as usize));
            let end = part_end(&tiles[next..], tensors, tensor_type, self.most_tiles(q_tile)) + next;
            let n_tiles = end - next;
            let what = &tensors[tiles[next].tensor].name;
            let q_buffer = self.gpu.buffer(what, (n_tiles * q_tile) as u64)?;
            let s_buffer = self.gpu.buffer(what, (n_tiles * s_tile) as u64)?;
            let mut n_rows = 0;
            let mut written = 0;
            for (index, tile) in tiles[next..end].iter().enumerate() {
                let tensor = tensors[tile.tensor];
                let row_bytes = tensor.row_bytes() as usize;
                let sources: Vec<u64> =
                    (tile.row..).take(tile.n_rows).map(|row| order.source(tile.tensor, row)).collect();
                let first = sources.iter().copied().min().unwrap_or_default();
                let last = sources.iter().copied().max().unwrap_or_default();
                let bytes = windows[tile.tensor].rows(first, (last - first) as usize + 1)?;
                let row_of = |row: &u64| &bytes[(row - first) as usize * row_bytes..][..row_bytes];
                let rows: Vec<&[u8]> = sources.iter().map(row_of).collect();
                let bad = repack_tile(tensor_type, &rows, &mut q, &mut s);
                if bad > 0 {
                    match self.damaged.iter_mut().find(|(name, _)| *name == tensor.name) {
                        Some((_, count)) => *count += bad,
                        None => self.damaged.push((tensor.name.clone(), bad)),
                    }
                }
                n_rows += tile.n_rows;
                if q.len() * 4 >= WINDOW_BYTES as usize || index + 1 == n_tiles {
                    self.gpu.write(&q_buffer, (written * q_tile) as u64, &q);
                    self.gpu.write(&s_buffer, (written * s_tile) as u64, &s);
                    self.flush((q.len() + s.len()) * 4)?;
                    written = index + 1;
                    q.clear();
                    s.clear();
                }
                self.advance((row_bytes * tile.n_rows) as u64)?;
            }
            parts.push(Part {
                tensor_type,
                layout,
                first_row,
                n_rows: n_rows as u32,
                n_tiles: n_tiles as u32,
                q: q_buffer,
                s: s_buffer,
            });
            first_row += n_rows as u32;
            next = end;
        }
        Ok(Matrix { n_rows: first_row, n_cols: n_cols as u32, gate_up: order == Order::Alternating, parts })
    }

    /// Tiles that fit one binding; even, so that gate and up stay together.
    fn most_tiles(&self, q_tile: usize) -> usize {
        let limits = self.gpu.limits();
        let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let tiles = usize::try_from(bytes / q_tile.max(1) as u64).unwrap_or(usize::MAX);
        (tiles & !1).max(2)
    }

    fn advance(&mut self, bytes: u64) -> Result<(), Error> {
        self.done_bytes += bytes;
        match (self.progress)(self.done_bytes, self.total_bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    fn flush(&mut self, bytes: usize) -> Result<(), Error> {
        self.unflushed += bytes;
        if self.unflushed >= FLUSH_BYTES {
            self.unflushed = 0;
            self.gpu.submit(self.gpu.encoder());
            self.gpu.wait()?;
        }
        Ok(())
    }
}

fn order_tiles(tensors: &[&TensorInfo], order: Order) -> Vec<Tile> {
    let of = |index: usize| {
        let n_rows = tensors[index].rows();
        (0..n_rows).step_by(TILE_ROWS).map(move |row| Tile {
            tensor: index,
            row,
            n_rows: (n_rows - row).min(TILE_ROWS as u64) as usize,
        })
    };
    match order {
        Order::Stacked | Order::Rotated { .. } => (0..tensors.len()).flat_map(of).collect(),
        Order::Alternating => of(0).zip(of(1)).flat_map(|(gate, up)| [gate, up]).collect(),
    }
}

/// How many of `tiles` make the next part: one format, whole tiles but the last (of each kind), at most `most`.
fn part_end(tiles: &[Tile], tensors: &[&TensorInfo], tensor_type: TensorType, most: usize) -> usize {
    let mut end = 0;
    while end < tiles.len().min(most) && tensors[tiles[end].tensor].tensor_type == tensor_type {
        let partial = tiles[end].n_rows < TILE_ROWS;
        end += 1;
        // Rows after a partial tile would be numbered wrongly. Alternating matrices end in a pair of partial tiles.
        if partial && !(end < tiles.len() && tiles[end].n_rows < TILE_ROWS && tiles[end].row == tiles[end - 1].row) {
            break;
        }
    }
    end
}

/// A stretch of a tensor's rows held in memory.
struct Window<'a> {
    source: &'a dyn ReadAt,
    tensor: &'a TensorInfo,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(source: &'a dyn ReadAt, tensor: &'a TensorInfo) -> Self {
        Self { source, tensor, start: 0, bytes: Vec::new() }
    }

    fn rows(&mut self, row: u64, n_rows: usize) -> Result<&[u8], Error> {
        let row_bytes = self.tensor.row_bytes();
        let (from, len) = (row * row_bytes, n_rows as u64 * row_bytes);
        if from < self.start || from + len > self.start + self.bytes.len() as u64 {
            // Twice what is asked: rows that are half a head apart are asked for again, a few rows on.
            let size = (2 * len).max(WINDOW_BYTES).min(self.tensor.size_bytes - from);
            self.bytes.resize(size as usize, 0);
            self.tensor.read_data(self.source, from, &mut self.bytes)?;
            self.start = from;
        }
        let at = (from - self.start) as usize;
        Ok(&self.bytes[at..at + len as usize])
    }
}

/// Bytes of a matrix on the GPU, without loading it.
///
/// # Errors
/// A format without a kernel, or rows that are not whole blocks of 32.
pub fn matrix_bytes(tensor: &TensorInfo) -> Result<u64, Error> {
    let layout = Layout::of(tensor.tensor_type)
        .ok_or_else(|| Error::UnsupportedFormat { name: tensor.name.clone(), format: tensor.tensor_type.name() })?;
    let n_cols = tensor.shape.first().copied().unwrap_or(0);
    if n_cols == 0 || !n_cols.is_multiple_of(32) || n_cols > u64::from(u32::MAX / 64) {
        return Err(Error::TensorShape {
            name: tensor.name.clone(),
            found: tensor.shape.clone(),
            wanted: "rows of a multiple of 32".to_owned(),
        });
    }
    let tile = (layout.tile_q_bytes(n_cols as usize) + layout.tile_s_bytes(n_cols as usize)) as u64;
    Ok(tensor.rows().div_ceil(TILE_ROWS as u64).saturating_mul(tile))
}

/// All values of a float tensor.
///
/// # Errors
/// Reading, or a quantized tensor.
pub fn read_floats(source: &dyn ReadAt, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
    const MOST: u64 = 1 << 20; // vectors only
    if tensor.elements() > MOST {
        return Err(Error::TensorShape {
            name: tensor.name.clone(),
            found: tensor.shape.clone(),
            wanted: "a vector".to_owned(),
        });
    }
    floats(source, tensor)
}

/// [`read_floats`] of a tensor of any size.
///
/// # Errors
/// As [`read_floats`].
pub fn floats(source: &dyn ReadAt, tensor: &TensorInfo) -> Result<Vec<f32>, Error> {
    let mut bytes = vec![0; tensor.size_bytes as usize];
    tensor.read_data(source, 0, &mut bytes)?;
    match tensor.tensor_type {
        TensorType::F32 => Ok(bytemuck::pod_collect_to_vec(&bytes)),
        TensorType::F16 => Ok(bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
        TensorType::BF16 => {
            Ok(bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
        }
        other => Err(Error::UnsupportedFormat { name: tensor.name.clone(), format: other.name() }),
    }
}
