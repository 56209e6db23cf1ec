//! What the gates of an adapter mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::adapter::error::{AdapterError, shortened};

/// One gate for all heads of a layer, or one a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateShape {
    /// `[L_a, 1]`
    Scalar,
    /// `[L_a, H]`
    PerHead,
}

impl GateShape {
    /// Its name in files: `scalar` or `per_head`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::PerHead => "per_head",
        }
    }

    /// The shape of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Scalar, Self::PerHead].into_iter().find(|shape| shape.name() == name)
    }
}

/// What a stored gate goes through before it scales the prompt's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateActivation {
    /// Nothing.
    None,
    /// `tanh`
    Tanh,
}

impl GateActivation {
    /// Its name in files: `none` or `tanh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tanh => "tanh",
        }
    }

    /// The activation of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Tanh].into_iter().find(|activation| activation.name() == name)
    }
}

/// The forms of the method that exist. Its name stands for it in flags, settings and files of runs: `paper`, `linear`, `peft`,
/// `scalar-tanh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub struct GateKind {
    /// One gate a layer or a head.
    pub shape: GateShape,
    /// Raw or through `tanh`.
    pub activation: GateActivation,
}

/// A name that no kind of gates has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no kind of gates; there are {}", GateKind::ALL.map(GateKind::name).join(", "))]
pub struct UnknownGateKind {
    /// The name, shortened.
    pub name: String,
}

impl GateKind {
    /// The paper and its training code: a head each, through `tanh`.
    pub const PAPER: Self = Self { shape: GateShape::PerHead, activation: GateActivation::Tanh };
    /// The paper's first version: a head each, raw.
    pub const LINEAR: Self = Self { shape: GateShape::PerHead, activation: GateActivation::None };
    /// PEFT: one a layer, raw.
    pub const PEFT: Self = Self { shape: GateShape::Scalar, activation: GateActivation::None };
    /// One a layer, through `tanh`.
    pub const SCALAR_TANH: Self = Self { shape: GateShape::Scalar, activation: GateActivation::Tanh };
    /// All there are, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::PAPER, Self::LINEAR, Self::PEFT, Self::SCALAR_TANH];

    /// Its name, its name before the kinds had one name everywhere, and what it is.
    fn row(self) -> [&'static str; 3] {
        match (self.shape, self.activation) {
            (GateShape::PerHead, GateActivation::Tanh) => {
                ["paper", "per-head-tanh", "one gate a head, through tanh (the paper)"]
            }
            (GateShape::PerHead, GateActivation::None) => ["linear", "per-head", "one gate a head, raw (litgpt)"],
            (GateShape::Scalar, GateActivation::None) => {
                ["peft", "scalar", "one gate a layer, raw (Hugging Face PEFT can load it)"]
            }
            (GateShape::Scalar, GateActivation::Tanh) => {
                ["scalar-tanh", "scalar_tanh", "one gate a layer, through tanh"]
            }
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row()[0]
    }

    /// The name that older settings and flags have for it; it is still read.
    pub fn old_name(self) -> &'static str {
        self.row()[1]
    }

    /// What it is, in a few words.
    pub fn words(self) -> &'static str {
        self.row()[2]
    }

    /// The kind of that name, old names included.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| [kind.name(), kind.old_name()].contains(&name))
    }
}

/// The paper's, as its training code has it.
impl Default for GateKind {
    fn default() -> Self {
        Self::PAPER
    }
}

impl fmt::Display for GateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GateKind {
    type Err = UnknownGateKind;

    fn from_str(name: &str) -> Result<Self, UnknownGateKind> {
        Self::from_name(name).ok_or_else(|| UnknownGateKind { name: shortened(name) })
    }
}

impl TryFrom<String> for GateKind {
    type Error = UnknownGateKind;

    fn try_from(name: String) -> Result<Self, UnknownGateKind> {
        name.parse()
    }
}

impl From<GateKind> for &'static str {
    fn from(kind: GateKind) -> Self {
        kind.name()
    }
}

/// What a file's metadata say about its gates: both words, or neither.
///
/// # Errors
/// [`AdapterError::Metadata`] for a word nobody knows, or one without the other.
pub(super) fn kind_of(shape: Option<&str>, activation: Option<&str>) -> Result<Option<GateKind>, AdapterError> {
    let wrong = |key: &str, found: Option<&str>, wanted: &str| AdapterError::Metadata {
        key: key.to_owned(),
        found: found.map_or_else(|| "missing".to_owned(), |found| format!("{:?}", shortened(found))),
        wanted: wanted.to_owned(),
    };
    if shape.is_none() && activation.is_none() {
        return Ok(None);
    }
    let known_shape = shape.and_then(GateShape::from_name);
    let known_activation = activation.and_then(GateActivation::from_name);
    Ok(Some(GateKind {
        shape: known_shape.ok_or_else(|| wrong("gate_shape", shape, "\"scalar\" or \"per_head\""))?,
        activation: known_activation.ok_or_else(|| wrong("gate_activation", activation, "\"none\" or \"tanh\""))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::GateKind;

    #[test]
    fn every_kind_has_one_name_and_its_old_one_is_read() {
        for kind in GateKind::ALL {
            let json = serde_json::to_string(&kind).expect("a string");
            assert_eq!(json, format!("\"{}\"", kind.name()));
            assert_eq!(serde_json::from_str::<GateKind>(&json).expect("its own name"), kind);
            let old = format!("\"{}\"", kind.old_name());
            assert_eq!(serde_json::from_str::<GateKind>(&old).expect("an old name"), kind);
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let wrong = serde_json::from_str::<GateKind>("\"round\"").expect_err("no kind").to_string();
        assert!(wrong.contains("\"round\" is no kind of gates; there are paper, linear, peft, scalar-tanh"), "{wrong}");
    }
}
