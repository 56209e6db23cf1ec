//! `cargo xtask bench`: ours and the peers that are installed, turn by turn in one run, as figures in `bench/results/`.
//!
//! A shared machine drifts by a quarter within the hour, so all sides take turns, repetition by repetition, and the ratio of
//! the medians is the figure to quote.

mod decode;
mod growth;
mod result;
mod synthetic;
mod table;
mod train;
mod web;

use crate::error::{Error, Result};

pub use synthetic::run as synthetic_model;

/// A kind of measurement: its flag and what runs it.
type Mode = (&'static str, fn(&[String]) -> Result<()>);

const MODES: [Mode; 4] =
    [("--train", train::run), ("--web", web::run), ("--growth", growth::run), ("--table", table::run)];

/// `cargo xtask bench [--train|--web|--growth|--table] [FLAGS]`.
pub fn run(rest: &[String]) -> Result<()> {
    let (chosen, flags): (Vec<&String>, Vec<&String>) =
        rest.iter().partition(|arg| MODES.iter().any(|(flag, _)| arg == flag));
    let flags: Vec<String> = flags.into_iter().cloned().collect();
    match chosen.as_slice() {
        [] => decode::run(&flags),
        [one] => MODES.iter().find(|(flag, _)| one == flag).map_or(Ok(()), |(_, run)| run(&flags)),
        [first, second, ..] => {
            Err(Error::usage(format!("`cargo xtask bench` measures one thing a run: {first} or {second}")))
        }
    }
}

/// Reads the flags of one kind: `number` gets those with a number behind them, `switch` the others; false: not known.
fn read_flags<'a>(
    args: &'a [String],
    known: &str,
    mut switch: impl FnMut(&str) -> bool,
    mut value: impl FnMut(&str, &'a str) -> Option<Result<()>>,
) -> Result<()> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if switch(arg) {
            continue;
        }
        let text = args.clone().next().map_or("", String::as_str);
        match value(arg, text) {
            Some(taken) => {
                taken?;
                args.next();
            }
            None => return Err(Error::usage(format!("{arg:?} is not known here; there are: {known}"))),
        }
    }
    Ok(())
}

/// The whole number behind a flag.
fn number(flag: &str, text: &str) -> Result<u32> {
    let value = text.parse().ok().filter(|value| (1..=1_000_000).contains(value));
    value.ok_or_else(|| Error::usage(format!("{flag} takes a whole number of at least 1")))
}

/// The whole numbers behind a flag, with commas between them.
fn numbers(flag: &str, text: &str) -> Result<Vec<u32>> {
    text.split(',').map(|part| number(flag, part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kinds_at_once_and_flags_of_no_kind_are_wrong_use() {
        let args = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for wrong in ["--train --web", "--fast", "--repeat", "--repeat 0", "--growth --peers", "--web --depths 1"] {
            assert_eq!(run(&args(wrong)).expect_err(wrong).exit_code(), 2, "{wrong}");
        }
        assert_eq!(numbers("--depths", "128,1024").expect("two"), [128, 1024]);
        assert!(numbers("--depths", "128,,1").is_err());
    }
}
