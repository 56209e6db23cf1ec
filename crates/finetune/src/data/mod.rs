//! From a file of examples to batches of tokens.
//!
//! ```text
//! bytes --source--> rows of JSON --formats--> Row --render--> ids, targets --split--> Examples --batches--> Batch
//! ```
//!
//! Data sets are untrusted: a bad row is named with its line, field and reason, skipped and counted; a damaged file is a
//! [`DataError`]; text in a row never becomes a control token ([`adapter_engine::text`]). Target tokens are the answer
//! and the token that ends it, unless [`DataOptions::train_on_prompt`] or a mark of the row (`weight: 0`, `train: false`) says otherwise.

/// Rows for a first try, which window and page offer: an assistant with a name, in twelve rows.
pub const EXAMPLE: &str = include_str!("example.jsonl");

mod align;
mod batches;
mod error;
mod examples;
mod fields;
mod formats;
mod load;
mod markup;
mod messages;
mod options;
mod problem;
mod question;
mod render;
mod report;
mod row;
mod source;
mod split;

pub use adapter_plot::axis::count as grouped;
pub use batches::{Batches, DataPosition, Order, check_lengths};
pub use error::DataError;
pub use examples::{Encoded, Example, Examples, Sample, SampleToken};
pub use formats::Format;
pub use load::{Dataset, Progress};
pub use options::{DataOptions, Template};
pub use problem::{Place, Reason, RowProblem};
pub use question::Question;
pub use render::Renderer;
pub use report::{DatasetReport, FileReport, SideReport};
pub use row::Row;
pub use split::Split;
pub(crate) use split::mix;
