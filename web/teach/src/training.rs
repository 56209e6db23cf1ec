//! Rows, the header of a model and settings: everything a run is made of but the GPU.

use std::ops::ControlFlow;

use adapter_browser::{BlobSource, Failure, from_js, to_js};
use adapter_engine::adapter::{AdapterFile, BaseModel, GateShape};
use adapter_engine::formats::{Gguf, TensorType};
use adapter_engine::model::Config;
use adapter_engine::text::{Tokenizer, VocabSource};
use adapter_finetune::data::{
    DataOptions, Dataset, DatasetReport, Encoded, Examples, FileReport, Renderer, SideReport,
};
use adapter_finetune::recipe::official_rate;
use adapter_finetune::settings::rows_over_context;
use adapter_finetune::{RunMemory, RunOptions, RunSettings, defaults, samples};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::failure::OrFailure as _;
use crate::types::{Plan, RowProblem, TrainSettings};

/// What a run is made of.
#[wasm_bindgen]
pub struct Training {
    pub(crate) dataset: Dataset,
    pub(crate) settings: RunSettings,
    pub(crate) start: Option<AdapterFile>,
    pub(crate) config: Config,
    gguf: Gguf,
    source: BlobSource,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) options: DataOptions,
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

    fn training(
        self,
        dataset: Dataset,
        options: DataOptions,
        wanted: &RunOptions,
        start: Option<&[u8]>,
    ) -> Result<Training, Failure> {
        let Self { gguf, source, config, tokenizer } = self;
        let start = start.map(|bytes| AdapterFile::from_safetensors(bytes, None)).transpose()?;
        if let Some(file) = &start {
            file.check_fits(&config)?;
        }
        wanted.check(&config).or_failure()?;
        let shape = wanted.shape(&config, start.as_ref()).or_failure()?;
        let settings = wanted.run_settings(&dataset, shape).or_failure()?;
        Ok(Training { dataset, settings, start, config, gguf, source, tokenizer, options })
    }
}

#[wasm_bindgen]
impl Training {
    /// Reads rows (.json or .jsonl, in any of the usual formats) for the model in `file`. `name` stands for them in messages.
    /// `start` is the adapter to begin with, ours; it decides layers, length and gates.
    ///
    /// # Errors
    /// No model, rows of which none can be used, settings out of range.
    pub fn read(
        file: Blob,
        rows: &[u8],
        name: &str,
        #[wasm_bindgen(unchecked_param_type = "TrainSettings")] settings: &JsValue,
        start: Option<Vec<u8>>,
    ) -> Result<Training, Failure> {
        let wanted = from_js::<TrainSettings>(settings)?.options()?;
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
        header.training(dataset, options, &wanted, start.as_deref())
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
        #[wasm_bindgen(unchecked_param_type = "TrainSettings")] settings: &JsValue,
        start: Option<Vec<u8>>,
    ) -> Result<Training, Failure> {
        let wanted = from_js::<TrainSettings>(settings)?.options()?;
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
        header.training(Dataset { training, validation, report }, options, &wanted, start.as_deref())
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
        let renderer = Renderer::new(&self.tokenizer, &self.options).or_failure()?;
        let (tokens, n_context) = (defaults::SAMPLE_TOKENS, self.config.n_context);
        let questions = samples::questions(&renderer, &self.tokenizer, &self.dataset, &[], tokens, n_context);
        let questions = questions.or_failure()?;
        let memory = RunMemory::predict(&self.gguf, &self.config, &self.settings, false, &questions, tokens);
        let memory = memory.or_failure()?;
        let problems = file.problems.iter().map(|problem| RowProblem {
            line: problem.place.line,
            row: problem.place.row,
            field: problem.field.clone(),
            reason: problem.reason.to_string(),
        });
        let mut notes = file.notes(*max_tokens);
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
            sample_tokens: tokens,
            memory_bytes: memory.total(),
            memory: memory.items(),
            peft: shape.kind.shape == GateShape::Scalar,
        })
    }
}

impl Training {
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
