//! What the gates of an adapter mean.

use super::error::{AdapterError, shortened};

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

/// The forms of the method that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateKind {
    /// One gate a layer or a head.
    pub shape: GateShape,
    /// Raw or through `tanh`.
    pub activation: GateActivation,
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

    /// `paper`, `linear` or `peft`; a scalar gate through `tanh` is `scalar-tanh`.
    pub fn name(self) -> &'static str {
        match (self.shape, self.activation) {
            (GateShape::PerHead, GateActivation::Tanh) => "paper",
            (GateShape::PerHead, GateActivation::None) => "linear",
            (GateShape::Scalar, GateActivation::None) => "peft",
            (GateShape::Scalar, GateActivation::Tanh) => "scalar-tanh",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PAPER, Self::LINEAR, Self::PEFT, Self::SCALAR_TANH].into_iter().find(|kind| kind.name() == name)
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
