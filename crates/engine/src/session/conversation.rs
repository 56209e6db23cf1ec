//! Conversations: keys and values with what they belong to, and the prefix cache, in which some are set aside so that going back
//! to one computes only what is new.

use std::sync::Arc;

use super::{Session, memory};
use crate::Error;
use crate::adapter::{Adapter, Applied};
use crate::gpu::Buffer;
use crate::model::Model;
use crate::ops::kv_cache::{CacheFormat, LayerCache};

/// A branch that gives up fewer positions than this is not worth a copy: computing them again costs one short chunk.
const MIN_BRANCH: usize = 32;

/// The adapter in use at its strength.
#[derive(Clone)]
pub(super) struct ActiveAdapter {
    pub(super) adapter: Adapter,
    pub(super) strength: f32,
    pub(super) applied: Arc<Applied>,
}

/// How the keys and values of a session's conversations are stored.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) context: u32,
    pub(super) format: CacheFormat,
}

/// Ids, their keys and values, and the adapter that these were computed with. A session goes to another by swapping it whole.
pub(super) struct Conversation {
    room: Room,
    /// Ids whose keys and values are in the cache.
    pub(super) ids: Vec<u32>,
    /// Positions the cache has room for.
    pub(super) capacity: u32,
    /// A layer each.
    pub(super) layers: Vec<LayerCache>,
    /// Angles of `capacity` positions.
    pub(super) rope_table: Buffer,
    pub(super) adapter: Option<ActiveAdapter>,
}

impl Conversation {
    /// An empty one.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn new(model: &Model, room: Room, adapter: Option<ActiveAdapter>) -> Result<Self, Error> {
        Self::with_room(model, room, adapter, 1)
    }

    /// An empty one with room for `len` positions.
    fn with_room(model: &Model, room: Room, adapter: Option<ActiveAdapter>, len: u32) -> Result<Self, Error> {
        let rope_table = model.gpu().buffer("rope table", 0)?;
        let mut new = Self { room, ids: Vec::new(), capacity: 0, layers: Vec::new(), rope_table, adapter };
        new.reserve(model, len)?;
        Ok(new)
    }

    /// Makes room for `len` positions; says whether the buffers are others now. Growing copies what is there: the layout keeps
    /// positions outermost.
    ///
    /// # Errors
    /// Too little memory: then everything is as it was.
    pub(super) fn reserve(&mut self, model: &Model, len: u32) -> Result<bool, Error> {
        if len <= self.capacity {
            return Ok(false);
        }
        let (gpu, config) = (model.gpu(), model.config());
        let Room { context, format } = self.room;
        let capacity = memory::grown(self.capacity, len, context);
        let size = format.plane_bytes(config.heads(), capacity);
        let mut layers = Vec::with_capacity(config.n_layers as usize);
        for _ in 0..config.n_layers {
            layers.push(LayerCache { k: gpu.buffer("KV cache", size)?, v: gpu.buffer("KV cache", size)?, format });
        }
        let rope_table = gpu.buffer_with("rope table", &config.rope.table(0..capacity))?;
        let old_bytes = self.layers.first().map_or(0, |old| old.k.size());
        copy(model, &self.layers, &layers, old_bytes);
        (self.layers, self.rope_table, self.capacity) = (layers, rope_table, capacity);
        Ok(true)
    }

    /// A copy of the first `len` ids, which goes on otherwise.
    ///
    /// # Errors
    /// Too little memory.
    fn branch(&self, model: &Model, len: usize) -> Result<Self, Error> {
        let mut new = Self::with_room(model, self.room, self.adapter.clone(), (len as u32).max(1))?;
        copy(model, &self.layers, &new.layers, self.room.format.plane_bytes(model.config().heads(), len as u32));
        new.ids.extend_from_slice(&self.ids[..len.min(self.ids.len())]);
        Ok(new)
    }

    /// Adapter and strength.
    pub(super) fn setting(&self) -> Option<(&Adapter, f32)> {
        self.adapter.as_ref().map(|active| (&active.adapter, active.strength))
    }

    /// Ids that it and a text begin with alike.
    pub(super) fn n_common(&self, ids: &[u32]) -> usize {
        self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count()
    }
}

/// Copies the first bytes of keys and values.
fn copy(model: &Model, from: &[LayerCache], to: &[LayerCache], bytes: u64) {
    if bytes == 0 {
        return;
    }
    let mut encoder = model.gpu().encoder();
    for (old, new) in from.iter().zip(to) {
        encoder.copy_buffer_to_buffer(old.k.raw(), 0, new.k.raw(), 0, bytes);
        encoder.copy_buffer_to_buffer(old.v.raw(), 0, new.v.raw(), 0, bytes);
    }
    model.gpu().submit(encoder);
}

/// Whether keys and values of one setting are those of the other, bit for bit.
pub(super) fn same_setting(a: Option<(&Adapter, f32)>, b: Option<(&Adapter, f32)>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some((a, a_strength)), Some((b, b_strength))) => a.same_as(b) && a_strength.to_bits() == b_strength.to_bits(),
        _ => false,
    }
}

/// Conversations set aside.
pub(super) struct PrefixCache {
    /// The one used last at the end.
    conversations: Vec<Conversation>,
    most: usize,
}

impl PrefixCache {
    pub(super) fn new(most: usize) -> Self {
        Self { conversations: Vec::new(), most }
    }

    /// Takes out the conversation of this setting that shares most with `ids`, if that is more than `at_least`.
    fn take_best(&mut self, ids: &[u32], setting: Option<(&Adapter, f32)>, at_least: usize) -> Option<Conversation> {
        let of_setting = |kept: &&Conversation| same_setting(kept.setting(), setting);
        let candidates = self.conversations.iter().enumerate().filter(|(_, kept)| of_setting(kept));
        let best = candidates.map(|(index, kept)| (kept.n_common(ids), index)).max();
        best.filter(|(n, _)| *n > at_least).map(|(_, index)| self.conversations.remove(index))
    }
}

impl Session {
    /// Goes on with an empty conversation of another setting; the one that was is set aside, or forgotten where none are kept.
    pub(super) fn begin(&mut self, adapter: Option<ActiveAdapter>) -> Result<(), Error> {
        if self.prefix_cache.most == 0 || self.conversation.ids.is_empty() {
            self.conversation.ids.clear();
            self.conversation.adapter = adapter;
        } else {
            let new = Conversation::new(&self.model, self.conversation.room, adapter)?;
            self.prefix_cache.conversations.push(std::mem::replace(&mut self.conversation, new));
        }
        self.plans.forget_blocks();
        Ok(())
    }

    /// Makes the kept conversation that shares most with `ids` the current one, if it shares more than the current one.
    pub(super) fn return_to(&mut self, ids: &[u32]) {
        let current = &self.conversation;
        let best = self.prefix_cache.take_best(ids, current.setting(), current.n_common(ids));
        let Some(other) = best else { return };
        let current = std::mem::replace(&mut self.conversation, other);
        if !current.ids.is_empty() {
            self.prefix_cache.conversations.push(current);
        }
        self.plans.forget_blocks();
    }

    /// Before the conversation goes on otherwise after `len` ids: keeps the whole of it and goes on with a copy. Where memory
    /// is short, or little would be lost, there is no copy.
    pub(super) fn branch_at(&mut self, len: usize) {
        if self.prefix_cache.most == 0 || self.conversation.ids.len() < len + MIN_BRANCH {
            return;
        }
        let Ok(branch) = self.conversation.branch(&self.model, len) else { return };
        self.prefix_cache.conversations.push(std::mem::replace(&mut self.conversation, branch));
        self.plans.forget_blocks();
    }

    /// Forgets those used longest ago when there are too many. Not before a conversation was returned to: it may be the oldest.
    pub(super) fn forget_oldest(&mut self) {
        let PrefixCache { conversations, most } = &mut self.prefix_cache;
        conversations.drain(..conversations.len().saturating_sub(*most));
    }
}
