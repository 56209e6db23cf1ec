//! What a run takes on the GPU, the same prediction in every program: its training and the conversation its samples are asked in.

use adapter_engine::formats::Gguf;
use adapter_engine::gpu::Tier;
use adapter_engine::model::{Config, weight_bytes};
use adapter_engine::session::{self, SessionOptions};
use adapter_engine::train;

use crate::data::Question;
use crate::samples::context_for;
use crate::{RunSettings, TrainError};

/// GPU memory of a run, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunMemory {
    /// The model and what the optimizer steps take.
    pub training: train::Memory,
    /// The conversation of the sample answers; 0: nothing is asked.
    pub samples: u64,
}

impl RunMemory {
    /// Predicts it from the model's header. `f16`: products round their inputs to f16. `questions` are answered with `sample_tokens`
    /// tokens at most.
    ///
    /// # Errors
    /// Weights in a format without a kernel.
    pub fn predict(
        gguf: &Gguf,
        config: &Config,
        settings: &RunSettings,
        f16: bool,
        questions: &[Question],
        sample_tokens: u32,
    ) -> Result<Self, TrainError> {
        let RunSettings { shape, batch_tokens, .. } = settings;
        let mut training = train::memory(config, weight_bytes(gguf)?, shape.n_layers, shape.adapter_len, *batch_tokens);
        if f16 {
            training = training.rounded(config, *batch_tokens);
        }
        let samples = match questions.iter().map(|question| question.ids.len()).max() {
            Some(longest) => {
                let context = context_for(longest as u32, sample_tokens, config.n_context);
                let options = SessionOptions { context: Some(context), ..SessionOptions::default() };
                let memory = session::memory(gguf, config, Tier::default(), &options, context)?;
                memory.total() - memory.weights
            }
            None => 0,
        };
        Ok(Self { training, samples })
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.training.total() + self.samples
    }

    /// What it is for, without what takes nothing.
    #[must_use]
    pub fn items(&self) -> Vec<(&'static str, u64)> {
        let training = &self.training;
        let items = [
            ("weights", training.weights),
            ("activations of a block", training.activations),
            ("saved activations", training.saved),
            ("logits", training.logits),
            ("prompt keys and values", training.adapter),
            ("rounding", training.rounding),
            ("adapter and optimizer", training.optimizer),
            ("sample answers", self.samples),
        ];
        items.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
    }
}
