//! `cargo xtask synthetic-model`: a file in the shape of a larger model, for measuring and for predicting memory.

use crate::error::Result;
use crate::{chat, process};

/// `cargo xtask synthetic-model --shape 7b --type q4_0 --out FILE`: builds the program, which does the work.
pub fn run(rest: &[String]) -> Result<()> {
    process::run(chat::cli()?.args(["debug", "synthetic-model"]).args(rest))
}
