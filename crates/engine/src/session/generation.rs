//! One answer, token by token.

use std::collections::VecDeque;

use super::lookup::Lookup;
use super::plans::PlanKey;
use super::{AHEAD, Session};
use crate::Error;
use crate::gpu::Step;
use crate::sampler::Sampling;

/// An answer in the making. Dropping it keeps what was returned in the cache and forgets what was computed ahead.
pub struct Generation<'s> {
    session: &'s mut Session,
    sampling: Sampling,
    /// The plan that samples on the GPU.
    sample: PlanKey,
    on_cpu: bool,
    /// Read-backs not yet waited for, oldest first.
    in_flight: VecDeque<(wgpu::Buffer, wgpu::SubmissionIndex)>,
    /// Positions submitted, the prompt included.
    submitted: u32,
    /// The id the caller got last: it enters the cache with the step after it.
    unread: Option<u32>,
    /// Ids that are known and were not asked for yet, oldest first: prompt lookup finds several at once.
    ready: VecDeque<u32>,
    lookup: Option<Lookup>,
}

impl<'s> Generation<'s> {
    pub(super) fn new(
        session: &'s mut Session,
        sampling: Sampling,
        on_cpu: bool,
        submitted: u32,
        lookup: Option<Lookup>,
    ) -> Self {
        let (in_flight, ready) = (VecDeque::new(), VecDeque::new());
        let sample = PlanKey::Sample(sampling.clone());
        Self { session, sampling, sample, on_cpu, in_flight, submitted, unread: None, ready, lookup }
    }

    /// The next id, or `None` when the context is full.
    ///
    /// # Errors
    /// A lost GPU or too little memory for the growing cache.
    pub async fn next(&mut self) -> Result<Option<u32>, Error> {
        if let Some(id) = self.unread.take() {
            self.session.conversation.ids.push(id);
        }
        if self.on_cpu {
            return self.next_on_cpu().await;
        }
        if self.ready.is_empty() {
            self.guess().await?;
        }
        if self.ready.is_empty() {
            while self.in_flight.len() < AHEAD && self.submitted < self.session.context {
                self.step()?;
            }
            self.receive().await?;
        }
        self.unread = self.ready.pop_front();
        Ok(self.unread)
    }

    /// Waits for the oldest id that is under way, if any is.
    async fn receive(&mut self) -> Result<Option<u32>, Error> {
        let Some((staging, submission)) = self.in_flight.pop_front() else { return Ok(None) };
        let bytes = self.session.gpu().map(&staging, 4, submission).await?;
        self.session.read_back.push_back(staging);
        let id = bytemuck::pod_read_unaligned(&bytes);
        self.ready.push_back(id);
        Ok(Some(id))
    }

    /// Where the text was like this before, checks in one step whether it goes on in the same way.
    async fn guess(&mut self) -> Result<(), Error> {
        let room = self.session.context.saturating_sub(self.submitted + 1);
        let Some(lookup) = &mut self.lookup else { return Ok(()) };
        // The ids under way are guessed, too: they are known before the step that checks the rest.
        let under_way = self.in_flight.len();
        let Some(guessed) = lookup.guess(&self.session.conversation.ids, under_way, room) else { return Ok(()) };
        let mut last = None;
        for expected in &guessed[..under_way] {
            last = self.receive().await?;
            if last != Some(*expected) {
                self.checked(0, 1);
                return Ok(());
            }
        }
        let Some(last) = last.or(self.session.conversation.ids.last().copied()) else { return Ok(()) };
        let guessed = &guessed[under_way..];
        let found = self.verify(last, guessed).await?;
        let right = guessed.iter().zip(&found).take_while(|(guessed, found)| guessed == found).count();
        let found = &found[..=right];
        self.submitted += found.len() as u32;
        self.ready.extend(found);
        self.checked(right as u32, guessed.len() as u32);
        // The last of them is not in the cache: the next step begins with it.
        self.session.gpu().write(&self.session.buffers.next_id, 0, &found[right..]);
        Ok(())
    }

    fn checked(&mut self, right: u32, guessed: u32) {
        if let Some(lookup) = &mut self.lookup {
            lookup.checked(right, guessed);
        }
    }

    /// The id after `last`, and the one after each of `guessed` if all before it are right.
    async fn verify(&mut self, last: u32, guessed: &[u32]) -> Result<Vec<u32>, Error> {
        let (past, n) = (self.submitted, guessed.len() as u32 + 1);
        let session = &mut *self.session;
        session.reserve(past + n)?;
        session.reserve_logits(n)?;
        let gpu = session.model.gpu().clone();
        let ids: Vec<u32> = [last].iter().chain(guessed).copied().collect();
        gpu.write(&session.buffers.input_ids, 0, &ids);
        session.write_step(Step { past, n_tokens: n, draw: 0.0, history: past + 1 });
        let mut encoder = gpu.encoder();
        let blocks = PlanKey::Blocks { n_tokens: n, from_next_id: false };
        for key in [blocks, PlanKey::Head { first: 0, n }, PlanKey::Verify { n_rows: n }] {
            session.plan(&key)?.encode(&gpu, &mut encoder);
        }
        gpu.submit(encoder);
        Ok(gpu.read(&session.buffers.checked_ids, 0, n as usize).await?)
    }

    /// Tokens that prompt lookup guessed in this answer, and how many of them were right.
    pub fn guesses(&self) -> (u32, u32) {
        self.lookup.as_ref().map_or((0, 0), Lookup::totals)
    }

    /// Everything cached so far: the prompt and the ids returned by [`Generation::next`], except the last.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Submits the blocks of the id that was sampled last, then samples the next one.
    fn step(&mut self) -> Result<(), Error> {
        let past = self.submitted;
        self.session.reserve(past + 1)?;
        self.session.plan(&PlanKey::DECODE)?;
        self.submitted += 1;
        self.submit(Some(&PlanKey::DECODE), 0, past)
    }

    /// Samples from row `row` of the activations that were submitted last.
    pub(super) fn sample_row(&mut self, row: u32) -> Result<(), Error> {
        self.submit(None, row, self.submitted - 1)
    }

    fn submit(&mut self, blocks: Option<&PlanKey>, row: u32, past: u32) -> Result<(), Error> {
        let session = &mut *self.session;
        session.reserve_logits(1)?;
        let draw = self.sampling.draw(past);
        session.write_step(Step { past, n_tokens: 1, draw, history: past + 1 });
        let gpu = session.model.gpu().clone();
        let mut encoder = gpu.encoder();
        if let Some(key) = blocks {
            session.plan(key)?.encode(&gpu, &mut encoder);
        }
        session.plan(&PlanKey::Head { first: row, n: 1 })?.encode(&gpu, &mut encoder);
        if self.on_cpu {
            gpu.submit(encoder);
            return Ok(());
        }
        session.plan(&self.sample)?.encode(&gpu, &mut encoder);
        let staging = session.read_back.pop_front().unwrap_or_else(|| gpu.staging(4));
        encoder.copy_buffer_to_buffer(session.buffers.next_id.raw(), 0, &staging, 0, 4);
        let submission = gpu.submit(encoder);
        self.in_flight.push_back((staging, submission));
        Ok(())
    }

    /// Settings that keep more candidates than the GPU sorts: the logits come back and are sampled here.
    async fn next_on_cpu(&mut self) -> Result<Option<u32>, Error> {
        if self.session.conversation.ids.len() as u32 > self.submitted {
            if self.submitted >= self.session.context {
                return Ok(None);
            }
            // The caller has taken an id: it is the next step's input.
            let id = self.session.conversation.ids[self.session.conversation.ids.len() - 1];
            self.session.gpu().write(&self.session.buffers.next_id, 0, &[id]);
            self.step()?;
        }
        let n_vocab = self.session.model.config().n_vocab as usize;
        let mut logits = self.session.gpu().read::<f32>(&self.session.buffers.logits, 0, n_vocab).await?;
        self.sampling.penalize(&mut logits, &self.session.conversation.ids);
        let id = self.sampling.choose(&logits, self.sampling.draw(self.submitted - 1));
        self.unread = Some(id);
        Ok(Some(id))
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // An id whose step was never submitted is not in the cache.
        self.session.conversation.ids.truncate(self.submitted as usize);
        self.session.read_back.extend(self.in_flight.drain(..).map(|(staging, _)| staging));
    }
}
