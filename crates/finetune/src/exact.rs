//! A floating-point number as a string in JSON: Rust writes the shortest one that reads back to the same bits.

use std::fmt::Debug;
use std::str::FromStr;

use serde::de::{Deserialize as _, Deserializer, Error as _};
use serde::ser::Serializer;

pub(crate) fn serialize<T: Debug, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:?}"))
}

pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no number")))
}
