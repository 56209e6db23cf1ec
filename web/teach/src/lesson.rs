//! Rows, the header of a model and settings: everything a run is made of but the GPU.

use std::ops::ControlFlow;

use adapter_browser::{BlobSource, Failure, from_js, to_js};
use adapter_engine::adapter::{AdapterFile, BaseModel, GateShape};
use adapter_engine::answer::stops;
use adapter_engine::formats::{Gguf, TensorType};
use adapter_engine::gpu::Tier;
use adapter_engine::model::{Config, weight_bytes};
use adapter_engine::session::{self, SessionOptions};
use adapter_engine::text::{Message, RenderOptions, Tokenizer, VocabSource, encode_chat};
use adapter_engine::train::memory;
use adapter_finetune::data::{
    DataOptions, Dataset, DatasetReport, Encoded, Examples, FileReport, Question, Renderer, SideReport,
};
use adapter_finetune::recipe::official_rate;
use adapter_finetune::samples::{context_for, most_question_tokens};
use adapter_finetune::settings::rows_over_context;
use adapter_finetune::{RunOptions, RunSettings, defaults};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::failure::OrFailure as _;
use crate::types::{self, Plan, RowProblem, TeachSettings};

/// What a run is made of.
#[wasm_bindgen]
pub struct Lesson {
    pub(crate) dataset: Dataset,
    pub(crate) settings: RunSettings,
    pub(crate) start: Option<AdapterFile>,
    pub(crate) config: Config,
    gguf: Gguf,
    source: BlobSource,
    tokenizer: Tokenizer,
    options: DataOptions,
}

/// The header of a model.
struct Header {
    gguf: Gguf,
    source: BlobSource,
    config: Config,
    tokenizer: Tokenizer,
}

impl Header {
    fn read(file: Blob) -> Result<Self, Failure> {
        let source = BlobSource::new(file)?;
        let gguf = Gguf::read(&source)?;
        let config = Config::from_gguf(&gguf, &source)?;
        let tokenizer = Tokenizer::from_vocab(VocabSource::from_gguf(&gguf)?)?;
        Ok(Self { gguf, source, config, tokenizer })
    }

    fn lesson(
        self,
        dataset: Dataset,
        options: DataOptions,
        wanted: &RunOptions,
        start: Option<&[u8]>,
    ) -> Result<Lesson, Failure> {
        let Self { gguf, source, config, tokenizer } = self;
        let start = start.map(|bytes| AdapterFile::from_safetensors(bytes, None)).transpose()?;
        if let Some(file) = &start {
            file.check_fits(&config)?;
        }
        wanted.check(&config).or_failure()?;
        let shape = wanted.shape(&config, start.as_ref()).or_failure()?;
        let settings = wanted.run_settings(&dataset, shape).or_failure()?;
        Ok(Lesson { dataset, settings, start, config, gguf, source, tokenizer, options })
    }
}

#[wasm_bindgen]
impl Lesson {
    /// Reads rows (.json or .jsonl, in any of the usual formats) for the model in `file`. `name` stands for them in messages.
    /// `start` is the adapter to begin with, ours; it decides layers, length and gates.
    ///
    /// # Errors
    /// No model, rows of which none can be used, settings out of range.
    pub fn read(
        file: Blob,
        rows: &[u8],
        name: &str,
        #[wasm_bindgen(unchecked_param_type = "TeachSettings")] settings: &JsValue,
        start: Option<Vec<u8>>,
    ) -> Result<Lesson, Failure> {
        let wanted = from_js::<TeachSettings>(settings)?.options()?;
        let header = Header::read(file)?;
        let kept = match &start {
            Some(bytes) => AdapterFile::from_safetensors(bytes, None)?.chat_template,
            None => None,
        };
        let options = wanted.data_options().or_failure()?.or_template(kept.as_deref());
        let mut bytes = rows;
        let dataset =
            Dataset::read((&mut bytes, name), None, &header.tokenizer, &options, &mut |_| ControlFlow::Continue(()))
                .or_failure()?;
        header.lesson(dataset, options, &wanted, start.as_deref())
    }

    /// One row that is ids already, learnt from the id at `firstTarget` on: for programs that have their own tokens, and for
    /// comparing the numbers of a browser with others.
    ///
    /// # Errors
    /// No model, an adapter of another model, settings out of range.
    #[wasm_bindgen(js_name = ofTokens)]
    pub fn of_tokens(
        file: Blob,
        ids: Vec<u32>,
        #[wasm_bindgen(js_name = firstTarget)] first_target: usize,
        #[wasm_bindgen(unchecked_param_type = "TeachSettings")] settings: &JsValue,
        start: Option<Vec<u8>>,
    ) -> Result<Lesson, Failure> {
        let wanted = from_js::<TeachSettings>(settings)?.options()?;
        let header = Header::read(file)?;
        let options = wanted.data_options().or_failure()?;
        let trained = (0..ids.len()).map(|index| index > 0 && index >= first_target).collect();
        let mut training = Examples::default();
        training.push(&Encoded { ids, trained, ..Encoded::default() });
        let validation = Examples::default();
        let report = DatasetReport {
            file: FileReport { rows: 1, ..FileReport::default() },
            validation_file: None,
            split: None,
            max_tokens: options.max_tokens,
            training: SideReport::of(&training),
            validation: SideReport::of(&validation),
        };
        header.lesson(Dataset { training, validation, report }, options, &wanted, start.as_deref())
    }

    /// What the run will take.
    ///
    /// # Errors
    /// Weights in a format without a kernel.
    #[wasm_bindgen(unchecked_return_type = "Plan")]
    pub fn plan(&self) -> Result<JsValue, Failure> {
        let RunSettings { shape, recipe, batch_tokens, validate_every, .. } = &self.settings;
        let DatasetReport { file, training, validation, max_tokens, .. } = &self.dataset.report;
        let rows_a_step =
            training.rows as f64 * f64::from(*batch_tokens) / (training.tokens as f64).max(f64::from(*batch_tokens));
        let weights = weight_bytes(&self.gguf)?;
        let needed = memory(&self.config, weights, shape.n_layers, shape.adapter_len, *batch_tokens);
        let context = self.sample_context(*max_tokens);
        let options = SessionOptions { context: Some(context), ..SessionOptions::default() };
        let answers = session::memory(&self.gguf, &self.config, Tier::default(), &options, context)?;
        let answers = answers.total() - answers.weights;
        let problems = file.problems.iter().map(|problem| RowProblem {
            line: problem.place.line,
            row: problem.place.row,
            field: problem.field.clone(),
            reason: problem.reason.to_string(),
        });
        let mut notes = file.notes(*max_tokens);
        let n_context = self.config.n_context;
        let (training_rows, validation_rows) = (&self.dataset.training, &self.dataset.validation);
        let over = rows_over_context(training_rows, n_context) + rows_over_context(validation_rows, n_context);
        if over > 0 {
            notes.push(format!("{over} rows with more tokens than the model's context of {n_context}"));
        }
        if self.start.is_none() && !matches!(AdapterFile::from_gguf(&self.gguf, &self.source), Ok(None)) {
            notes.push("the model's file holds an adapter, which this training does not begin with".to_owned());
        }
        to_js(&Plan {
            format: file.format.map(|format| format.to_string()),
            rows: file.rows,
            skipped: file.n_skipped(),
            reasons: file.skipped.iter().map(|(reason, n)| (*reason, *n)).collect(),
            problems: problems.collect(),
            notes,
            training: *training,
            validation: *validation,
            layers: shape.n_layers,
            first_layer: self.config.n_layers - shape.n_layers,
            length: shape.adapter_len,
            gate: shape.kind.name(),
            parameters: shape.n_parameters(),
            model_parameters: self.gguf.n_parameters(),
            steps: recipe.n_steps,
            batch_tokens: *batch_tokens,
            rows_a_step,
            learning_rate: recipe.learning_rate,
            warmup: recipe.warmup_steps,
            official_rate: official_rate(rows_a_step),
            validate_every: *validate_every,
            memory_bytes: needed.total() + answers,
            memory: vec![
                ("weights", needed.weights),
                ("activations of a block", needed.activations),
                ("saved activations", needed.saved),
                ("logits", needed.logits),
                ("prompt keys and values", needed.adapter),
                ("adapter and optimizer", needed.optimizer),
                ("sample answers", answers),
            ],
            peft: shape.kind.shape == GateShape::Scalar,
        })
    }

    /// Questions for sample answers: of rows that are not learnt, or of the first ones where all are.
    ///
    /// # Errors
    /// None that is known.
    #[wasm_bindgen(unchecked_return_type = "Question[]")]
    pub fn questions(&self) -> Result<JsValue, Failure> {
        let Dataset { training, validation, .. } = &self.dataset;
        let rows = if validation.is_empty() { training } else { validation };
        let most = most_question_tokens(self.config.n_context, defaults::SAMPLE_TOKENS);
        let found = Question::first(rows, &self.tokenizer, defaults::SAMPLES, most as usize).or_failure()?;
        let found: Vec<types::Question> =
            found.into_iter().map(|Question { text, ids }| types::Question { text, ids }).collect();
        to_js(&found)
    }

    /// A question of one's own, as a prompt in the rows' template.
    ///
    /// # Errors
    /// A template that refuses it.
    pub fn question(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let renderer = Renderer::new(&self.tokenizer, &self.options).or_failure()?;
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        Ok(encode_chat(&self.tokenizer, renderer.template(), &[Message::new("user", text)], &options)?)
    }

    /// Texts that end a sample answer: what the rows' template writes after one.
    ///
    /// # Errors
    /// A template that does not parse.
    pub fn stops(&self) -> Result<Vec<String>, Failure> {
        let renderer = Renderer::new(&self.tokenizer, &self.options).or_failure()?;
        Ok(stops(Some(renderer.template()), &self.tokenizer, &[]))
    }

    /// Positions that the longest of these prompts and an answer of `tokens` tokens need.
    #[wasm_bindgen(js_name = sampleContext)]
    #[must_use]
    pub fn sample_context_of(&self, longest: u32, tokens: u32) -> u32 {
        context_for(longest, tokens, self.config.n_context)
    }
}

impl Lesson {
    /// As [`Self::sample_context_of`], before the questions are known: no prompt is longer than a row.
    fn sample_context(&self, max_tokens: u32) -> u32 {
        let longest = self.dataset.report.training.max_len.max(self.dataset.report.validation.max_len);
        let longest = u32::try_from(longest).unwrap_or(max_tokens);
        self.sample_context_of(longest, defaults::SAMPLE_TOKENS)
    }

    /// Formats of the model's tensors.
    pub(crate) fn formats(&self) -> Vec<TensorType> {
        self.gguf.formats()
    }

    /// The model as adapters remember it.
    pub(crate) fn base(&self) -> Result<BaseModel, Failure> {
        let base = BaseModel::of(&self.gguf, &self.source)?;
        Ok(base.asked_with(self.options.template.build(&self.tokenizer)?.source()))
    }
}
