//! The methods of adapters, and an adapter of any of them on the GPU.
//!
//! A method owns a folder beside this file: the names and shapes of what trains, its files, and what it adds to a block. To add
//! one, add its folder and a row to each `enum` here: the compiler names the rest.

use std::sync::Arc;

use super::adaption_prompt::{AdapterFile, AdapterShape, GateKind, resident};
use super::{AdapterError, ParameterTable};
use crate::Error;
use crate::model::Model;
use crate::ops::gated_attention::PromptCache;

/// A method with its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Zero-init attention: prompts beside the attention of the last layers.
    AdaptionPrompt(AdapterShape),
}

impl Method {
    /// Names and shapes of what trains, as checkpoints and files hold it.
    pub fn trained(&self) -> ParameterTable {
        match self {
            Self::AdaptionPrompt(shape) => shape.trained(),
        }
    }

    /// An adapter with these numbers, one parameter of [`Self::trained`] after the other; of no known model.
    ///
    /// # Errors
    /// Another number of them.
    pub fn file(&self, numbers: &[f32]) -> Result<AdapterFile, AdapterError> {
        match self {
            Self::AdaptionPrompt(shape) => AdapterFile::from_numbers(shape, numbers),
        }
    }

    /// Names and shapes of what the blocks take, as a training step hands it over.
    pub fn applied(&self) -> ParameterTable {
        match self {
            Self::AdaptionPrompt(shape) => shape.applied(),
        }
    }
}

/// An adapter of one model, resident on its GPU. Cloning is cheap and shares it.
#[derive(Debug, Clone)]
pub struct Adapter(Arc<Resident>);

#[derive(Debug)]
struct Resident {
    name: String,
    chat_template: Option<String>,
    parts: Parts,
}

/// What a method keeps on the GPU.
#[derive(Debug)]
enum Parts {
    AdaptionPrompt(resident::Prompts),
}

/// An adapter at one strength, as a session adds it to the blocks.
#[derive(Debug)]
pub(crate) enum Applied {
    AdaptionPrompt(resident::GatedPrompts),
}

impl Adapter {
    /// Makes an adapter ready for the blocks of `model`: whatever can be computed once is.
    ///
    /// # Errors
    /// An adapter whose shapes are another model's, by name and shape; too little memory.
    pub fn load(model: &Model, name: &str, file: &AdapterFile) -> Result<Self, Error> {
        let parts = Parts::AdaptionPrompt(resident::Prompts::load(model, file)?);
        let (name, chat_template) = (name.to_owned(), file.chat_template.clone());
        Ok(Self(Arc::new(Resident { name, chat_template, parts })))
    }

    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The chat template it was trained with, as Jinja, where its file says so.
    pub fn chat_template(&self) -> Option<&str> {
        self.0.chat_template.as_deref()
    }

    fn prompts(&self) -> &resident::Prompts {
        let Parts::AdaptionPrompt(prompts) = &self.0.parts;
        prompts
    }

    /// Shape and activation of its gates.
    pub fn kind(&self) -> GateKind {
        self.prompts().kind
    }

    /// A: prompt tokens a layer.
    pub fn adapter_len(&self) -> u32 {
        self.prompts().adapter_len
    }

    /// The lowest adapted layer.
    pub fn first_layer(&self) -> u32 {
        self.prompts().first_layer
    }

    /// Strength of every head, `[L_a][H]`, activation applied.
    pub fn gates(&self) -> &[Vec<f32>] {
        &self.prompts().gates
    }

    /// The adapter at a strength: what belongs to one session, so that two can differ.
    ///
    /// # Errors
    /// Too little memory.
    pub(crate) fn at_strength(&self, model: &Model, strength: f32) -> Result<Applied, Error> {
        match &self.0.parts {
            Parts::AdaptionPrompt(prompts) => Ok(Applied::AdaptionPrompt(prompts.at_strength(model.gpu(), strength)?)),
        }
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Applied {
    /// What is attended to beside the text in a layer: keys, values and gates of a prompt, and its tokens.
    pub(crate) fn beside_attention(&self, layer: usize) -> Option<(&PromptCache, u32)> {
        match self {
            Self::AdaptionPrompt(prompts) => prompts.of_layer(layer),
        }
    }
}
