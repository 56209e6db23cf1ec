//! Where the time of a test went, for `--verbose`.

use std::io::Write;

use adapter_engine::gpu::KernelTime;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Align, Table};

/// The kernels of one test.
#[derive(Serialize)]
pub(super) struct KernelTable {
    test: String,
    /// What dispatches are counted by: a token or a training step.
    per: &'static str,
    dispatches: f64,
    kernels: Vec<KernelRow>,
}

#[derive(Serialize)]
struct KernelRow {
    kernel: &'static str,
    dispatches: u64,
    millis: f64,
}

impl KernelTable {
    /// The table of a test of `n` tokens or steps; `None`, with a warning, where the GPU has no timestamp queries.
    pub(super) fn new(test: String, per: &'static str, n: u64, times: Vec<KernelTime>) -> Option<Self> {
        if times.is_empty() {
            output::warn("this GPU has no timestamp queries: no times of kernels");
            return None;
        }
        let dispatches: u64 = times.iter().map(|time| time.count).sum();
        let row = |time: KernelTime| KernelRow {
            kernel: time.kernel,
            dispatches: time.count,
            millis: output::rounded(time.millis),
        };
        Some(Self {
            test,
            per,
            dispatches: output::rounded(dispatches as f64 / n.max(1) as f64),
            kernels: times.into_iter().map(row).collect(),
        })
    }
}

/// Prints the tables.
///
/// # Errors
/// Output that cannot be written.
pub(super) fn write(out: &mut impl Write, tables: &[KernelTable]) -> Result<(), Failure> {
    for KernelTable { test, per, dispatches, kernels } in tables {
        let total: f64 = kernels.iter().map(|row| row.millis).sum();
        writeln!(
            out,
            "\n{test}: {dispatches:.1} dispatches a {per}, {total:.1} ms in kernels (measured apart; timestamps slow the run down)",
        )?;
        let right = Align::Right;
        let mut table = Table::new(&[
            ("kernel", Align::Left),
            ("dispatches", right),
            ("ms", right),
            ("us each", right),
            ("share", right),
        ]);
        for row in kernels {
            table.row([
                row.kernel.to_owned(),
                row.dispatches.to_string(),
                format!("{:.2}", row.millis),
                format!("{:.1}", row.millis * 1e3 / (row.dispatches.max(1) as f64)),
                format!("{:.1} %", row.millis * 100.0 / total.max(f64::MIN_POSITIVE)),
            ]);
        }
        table.write(out)?;
    }
    Ok(())
}
