//! Examples to batches: side by side without padding, in an order that a seed fixes for each epoch.

use adapter_engine::train::Batch;
use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::examples::Examples;
use super::split::mix;

/// How far training has come. With the seed it fixes all batches to come, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPosition {
    /// Times all rows were used.
    pub epoch: u64,
    /// Rows used since then; less than the number of rows.
    pub index: u64,
}

/// In which order rows are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// As they stand in the file: for validation.
    AsRead,
    /// Shuffled anew for each epoch.
    Shuffled {
        /// Another seed gives other orders.
        seed: u64,
    },
}

/// Whether every example fits a batch of `batch_tokens` tokens.
///
/// # Errors
/// [`DataError::RowOverBatch`] with the longest that does not.
pub fn check_lengths(examples: &Examples, batch_tokens: u32) -> Result<(), DataError> {
    let over = examples.iter().map(|example| example.ids.len() as u64).enumerate();
    match over.filter(|(_, tokens)| *tokens > u64::from(batch_tokens)).max_by_key(|row| row.1) {
        Some((row, tokens)) => Err(DataError::RowOverBatch { row: row as u64 + 1, tokens, batch_tokens }),
        None => Ok(()),
    }
}

/// Makes batches of examples.
#[derive(Debug)]
pub struct Batches<'a> {
    examples: &'a Examples,
    batch_tokens: u32,
    order: Order,
    /// The rows in the order of `epoch`.
    rows: Vec<u32>,
    epoch: Option<u64>,
}

impl<'a> Batches<'a> {
    /// Batches of at most `batch_tokens` tokens each.
    ///
    /// # Errors
    /// If there are no examples, or one has more tokens than a batch.
    pub fn new(examples: &'a Examples, batch_tokens: u32, order: Order) -> Result<Self, DataError> {
        let Ok(n_rows) = u32::try_from(examples.len()) else {
            let found = examples.len().to_string();
            return Err(DataError::Setting { field: "the number of rows", found, wanted: "less than 2^32" });
        };
        if n_rows == 0 {
            return Err(DataError::NoTrainingRows { rows: 0 });
        }
        check_lengths(examples, batch_tokens)?;
        Ok(Self { examples, batch_tokens, order, rows: (0..n_rows).collect(), epoch: None })
    }

    /// The batch at `position`, which moves behind it; at the end of an epoch to the beginning of the next. A batch never
    /// holds rows of two epochs.
    ///
    /// # Errors
    /// A position outside these data.
    pub fn take(&mut self, position: &mut DataPosition) -> Result<Batch, DataError> {
        let mut batch = Batch::default();
        for row in self.take_rows(position)? {
            if let Some(example) = self.examples.get(row as usize) {
                batch.push(example.ids, example.trained);
            }
        }
        Ok(batch)
    }

    /// The examples in the batch at `position`, which moves behind it: see [`Self::take`].
    ///
    /// # Errors
    /// A position outside these data.
    pub fn take_rows(&mut self, position: &mut DataPosition) -> Result<Vec<u32>, DataError> {
        let n_rows = self.rows.len();
        let start = usize::try_from(position.index).ok().filter(|start| *start < n_rows);
        let Some(start) = start else {
            return Err(DataError::Position { index: position.index, rows: n_rows as u64 });
        };
        self.arrange(position.epoch);
        let rest = self.rows.get(start..).unwrap_or_default();
        let rows = rest.get(..self.fitting(rest)).unwrap_or_default().to_vec();
        let end = start + rows.len();
        *position = match end < n_rows {
            true => DataPosition { index: end as u64, ..*position },
            false => DataPosition { epoch: position.epoch.wrapping_add(1), index: 0 },
        };
        Ok(rows)
    }

    /// What they are made of.
    #[must_use]
    pub fn examples(&self) -> &'a Examples {
        self.examples
    }

    /// Rows of an epoch.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Batches of an epoch. They differ by a few from epoch to epoch, as rows of other lengths meet.
    pub fn n_batches(&mut self, epoch: u64) -> u64 {
        self.arrange(epoch);
        let (mut rest, mut n) = (self.rows.as_slice(), 0);
        while !rest.is_empty() {
            rest = rest.get(self.fitting(rest)..).unwrap_or_default();
            n += 1;
        }
        n
    }

    /// How many of the first of `rows` fit a batch: at least one, as [`Self::new`] saw to it.
    fn fitting(&self, rows: &[u32]) -> usize {
        let mut tokens = 0;
        let len = |row: &u32| self.examples.get(*row as usize).map_or(0, |example| example.ids.len() as u64);
        let fits = rows.iter().take_while(|row| {
            tokens += len(row);
            tokens <= u64::from(self.batch_tokens)
        });
        fits.count().max(1)
    }

    fn arrange(&mut self, epoch: u64) {
        let Order::Shuffled { seed } = self.order else { return };
        if self.epoch == Some(epoch) {
            return;
        }
        // Sorted by a number made from seed, epoch and row: nothing has to be drawn in order, so any epoch can be had at once.
        let key = mix(mix(seed) ^ epoch);
        self.rows.sort_by_cached_key(|row| (mix(key ^ u64::from(*row)), *row));
        self.epoch = Some(epoch);
    }
}
