//! Conversations set aside: going back to one computes only what is new.

use super::Session;
use crate::Error;
use crate::adapter::Adapter;
use crate::gpu::Buffer;
use crate::ops::kv_cache::LayerCache;

/// A branch that gives up fewer positions than this is not worth a copy: computing them again costs one short chunk.
const MIN_BRANCH: usize = 32;

/// The keys and values of a conversation, and what they belong to.
pub(super) struct Kept {
    ids: Vec<u32>,
    capacity: u32,
    cache: Vec<LayerCache>,
    rope_table: Buffer,
    adapter: Option<(Adapter, f32)>,
}

/// Ids that two texts begin with alike.
pub(super) fn n_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whether keys and values of one setting are those of the other, bit for bit.
pub(super) fn same_setting(a: Option<(&Adapter, f32)>, b: Option<(&Adapter, f32)>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some((a, a_strength)), Some((b, b_strength))) => a.same_as(b) && a_strength.to_bits() == b_strength.to_bits(),
        _ => false,
    }
}

impl Session {
    /// Sets the conversation aside, or forgets it where none are kept, and begins an empty one.
    pub(super) fn set_aside(&mut self) -> Result<(), Error> {
        if self.max_kept == 0 || self.ids.is_empty() {
            self.ids.clear();
            return Ok(());
        }
        let kept = Kept {
            ids: std::mem::take(&mut self.ids),
            capacity: std::mem::take(&mut self.capacity),
            cache: std::mem::take(&mut self.cache),
            rope_table: self.rope_table.clone(),
            adapter: self.adapter().map(|(adapter, strength)| (adapter.clone(), strength)),
        };
        self.kept.push(kept);
        self.reserve(1)
    }

    /// Makes the kept conversation that shares most with `ids` the current one, if it shares more than the current one.
    pub(super) fn return_to(&mut self, ids: &[u32]) {
        let setting = self.adapter();
        let of_setting =
            |kept: &Kept| same_setting(kept.adapter.as_ref().map(|(adapter, strength)| (adapter, *strength)), setting);
        let candidates = self.kept.iter().enumerate().filter(|(_, kept)| of_setting(kept));
        let best = candidates.map(|(index, kept)| (n_common(&kept.ids, ids), index)).max();
        let Some((_, index)) = best.filter(|(n, _)| *n > n_common(&self.ids, ids)) else { return };
        let mut other = self.kept.remove(index);
        std::mem::swap(&mut self.ids, &mut other.ids);
        std::mem::swap(&mut self.capacity, &mut other.capacity);
        std::mem::swap(&mut self.cache, &mut other.cache);
        std::mem::swap(&mut self.rope_table, &mut other.rope_table);
        if !other.ids.is_empty() {
            self.kept.push(other);
        }
        self.forget_block_plans();
    }

    /// Before the conversation goes on otherwise after `len` ids: keeps the whole of it and goes on with a copy. Where memory
    /// is short, or little would be lost, there is no copy.
    pub(super) fn branch_at(&mut self, len: usize) {
        if self.max_kept == 0 || self.ids.len() < len + MIN_BRANCH {
            return;
        }
        let kept = Kept {
            ids: self.ids.clone(),
            capacity: std::mem::take(&mut self.capacity),
            cache: std::mem::take(&mut self.cache),
            rope_table: self.rope_table.clone(),
            adapter: self.adapter().map(|(adapter, strength)| (adapter.clone(), strength)),
        };
        if self.reserve((len as u32).max(1)).is_err() {
            (self.capacity, self.cache) = (kept.capacity, kept.cache);
            return;
        }
        let gpu = self.model.gpu();
        let bytes = self.cache_format.plane_bytes(self.model.config().heads(), len as u32);
        let mut encoder = gpu.encoder();
        for (old, new) in kept.cache.iter().zip(&self.cache).filter(|_| len > 0) {
            encoder.copy_buffer_to_buffer(old.k.raw(), 0, new.k.raw(), 0, bytes);
            encoder.copy_buffer_to_buffer(old.v.raw(), 0, new.v.raw(), 0, bytes);
        }
        gpu.submit(encoder);
        self.kept.push(kept);
    }

    /// Forgets those used longest ago when there are too many. Not before a conversation was returned to: it may be the oldest.
    pub(super) fn forget_oldest(&mut self) {
        self.kept.drain(..self.kept.len().saturating_sub(self.max_kept));
    }
}
