//! A run: events to the page, the page's wishes back, adapters as files.

use std::sync::Arc;

use adapter_browser::{Engine, Failure, Model, from_js, to_js};
use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_engine::check::self_test::{self, Set};
use adapter_finetune::data::Renderer;
use adapter_finetune::driver::{Listener, News, Outcome, Store, Which};
use adapter_finetune::frozen::GpuLlama;
use adapter_finetune::metrics::Record;
use adapter_finetune::samples::{self, Samples};
use adapter_finetune::{Driver, Frozen, Run, TrainError};
use js_sys::{Date, Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::failure::OrFailure as _;
use crate::training::Training;
use crate::types::{TrainEnd, TrainEvent, TrainSamples};

#[wasm_bindgen]
impl Training {
    /// Compares every kernel that only a training runs with stored answers on this GPU. Those of a chat passed in the chat's worker,
    /// before there could be a training.
    ///
    /// # Errors
    /// `wrong-numbers` with the kernel's name.
    #[wasm_bindgen(js_name = selfTest)]
    pub async fn self_test(&self, engine: &Engine) -> Result<(), Failure> {
        let (gpu, formats) = (engine.engine_gpu(), self.formats());
        self_test::trust(gpu, Set::Forward, &formats);
        Ok(self_test::ensure(gpu, Set::Training, &formats).await?)
    }

    /// Takes [`Self::self_test`] for passed: it was, on this GPU, with these kernels.
    #[wasm_bindgen(js_name = trustSelfTest)]
    pub fn trust_self_test(&self, engine: &Engine) {
        for set in Set::OF_TRAINING {
            self_test::trust(engine.engine_gpu(), set, &self.formats());
        }
    }

    /// Runs it on the GPU of `model`, asking `samples` before, after each validation and at the end. `listener` hears what happens,
    /// and the run waits for what it returns. `stopping` is asked between steps, validation batches and tokens of sample answers; a
    /// stopped run waits until the listener tells it to go on or to end.
    ///
    /// # Errors
    /// Too little memory, a lost GPU, or `diverged`, after the last good adapter was handed over as `kept`.
    #[wasm_bindgen(unchecked_return_type = "TrainEnd")]
    pub async fn teach(
        &self,
        model: &Model,
        #[wasm_bindgen(unchecked_param_type = "TrainSamples")] samples: JsValue,
        #[wasm_bindgen(unchecked_param_type = "TrainListener")] listener: Function,
        #[wasm_bindgen(unchecked_param_type = "() => boolean")] stopping: Function,
    ) -> Result<JsValue, Failure> {
        let wanted: TrainSamples = from_js(&samples)?;
        let settings = self.settings.clone();
        let shape = settings.shape;
        let base = self.base()?;
        let llama = GpuLlama::new(model.engine_model(), shape.n_layers, shape.adapter_len, settings.batch_tokens)
            .or_failure()?;
        let frozen = Frozen::Gpu(Arc::new(llama));
        let (training, validation) = (&self.dataset.training, &self.dataset.validation);
        let run = Run::new(frozen, training, validation, settings, self.start.as_ref()).or_failure()?;
        let renderer = Renderer::new(&self.tokenizer, &self.options).or_failure()?;
        let (dataset, n_context) = (&self.dataset, self.config.n_context);
        let questions =
            samples::questions(&renderer, &self.tokenizer, dataset, &wanted.questions, wanted.tokens, n_context)
                .or_failure()?;
        let n_questions = questions.len();
        let asked =
            Samples::new(model.engine_model(), &self.tokenizer, &renderer, questions, wanted.tokens).or_failure()?;
        let listener =
            Page { listener, stopping, base, model, validated: None, n_questions, n_answers: 0, diverged: false };
        let store = Kept { base: self.base()?, records: Vec::new(), best: None, last: Vec::new() };
        // A page has no checkpoints.
        let (start, save_every) = (self.start.clone(), u64::MAX);
        let mut driver = Driver { run, store, listener, samples: asked, start, save_every, seconds: 0.0 };
        let outcome = match driver.drive().await {
            Ok(outcome) => outcome,
            Err(Wrong::Page(failure)) => return Err(failure),
            Err(Wrong::Run(error)) => {
                // burn only knows that a read failed; the device knows why.
                model.engine_model().gpu().check()?;
                return Err(error).or_failure();
            }
        };
        let Driver { run, store, .. } = driver;
        let best = run.best_kept().filter(|_| store.best.is_some());
        let last = match store.last.is_empty() {
            // Before the first step there is the beginning.
            true => file(run.trainer().adapter().await.or_failure()?, &store.base).or_failure()?,
            false => store.last,
        };
        let end = to_js(&TrainEnd {
            reason: match outcome {
                Outcome::Done => "done",
                Outcome::Early => "early",
                Outcome::Stopped => "stopped",
            },
            step: run.trainer().step(),
            skipped: run.trainer().skipped(),
            best_step: best.map(|best| best.step),
            best_loss: best.map(|best| best.loss),
        })?;
        attach(&end, "last", &last);
        if let Some(adapter) = store.best.filter(|_| best.is_some()) {
            attach(&end, "best", &adapter);
        }
        Ok(end)
    }
}

/// What a run leaves, in memory: the page saves it where the reader wants it.
struct Kept {
    base: BaseModel,
    records: Vec<Record>,
    best: Option<Vec<u8>>,
    last: Vec<u8>,
}

impl Store for Kept {
    fn records(&self) -> &[Record] {
        &self.records
    }

    fn record(&mut self, record: Record) -> Result<(), TrainError> {
        self.records.push(record);
        Ok(())
    }

    fn adapter(&mut self, which: Which, adapter: &AdapterFile) -> Result<(), TrainError> {
        let bytes = file(adapter.clone(), &self.base)?;
        match which {
            Which::Best => self.best = Some(bytes),
            Which::Last => self.last = bytes,
        }
        Ok(())
    }

    async fn checkpoint(&mut self, _: &Run<'_>, _: f64) -> Result<Option<Record>, TrainError> {
        Ok(None)
    }
}

/// The page.
struct Page<'a> {
    listener: Function,
    /// Whether the reader wants to stop.
    stopping: Function,
    base: BaseModel,
    model: &'a Model,
    /// A validation whose adapter comes next: step, loss, whether it is the best.
    validated: Option<(u64, f64, bool)>,
    /// How many questions are asked each time.
    n_questions: usize,
    /// Answers since the last time.
    n_answers: usize,
    diverged: bool,
}

/// Whose error it is.
enum Wrong {
    Run(TrainError),
    Page(Failure),
}

impl From<TrainError> for Wrong {
    fn from(error: TrainError) -> Self {
        Self::Run(error)
    }
}

impl Page<'_> {
    /// Tells the page and waits for its answer.
    async fn tell(&self, event: &TrainEvent, adapter: Option<&AdapterFile>) -> Result<Option<String>, Wrong> {
        let told = async {
            let event = to_js(event)?;
            if let Some(adapter) = adapter {
                attach(&event, "adapter", &file(adapter.clone(), &self.base).or_failure()?);
            }
            let answer = self.listener.call1(&JsValue::NULL, &event)?;
            Ok::<_, Failure>(JsFuture::from(Promise::resolve(&answer)).await?.as_string())
        };
        told.await.map_err(Wrong::Page)
    }
}

impl Listener for Page<'_> {
    type Error = Wrong;

    fn seconds(&self) -> f64 {
        Date::now() / 1e3
    }

    fn wants_stop(&mut self) -> bool {
        // A page whose function fails has no more say.
        self.stopping.call0(&JsValue::NULL).map_or(true, |stopping| stopping.is_truthy())
    }

    async fn stops(&mut self, run: &Run<'_>) -> Result<bool, Wrong> {
        let adapter = run.trainer().adapter().await?;
        let answer = self.tell(&TrainEvent::Stopped { step: run.trainer().step() }, Some(&adapter)).await?;
        Ok(answer.as_deref() == Some("stop"))
    }

    async fn hear(&mut self, run: &Run<'_>, news: News<'_>) -> Result<(), Wrong> {
        let (event, adapter) = match news {
            News::Step(report, step) => {
                let gates = run.trainer().gates().await?;
                self.n_answers = 0;
                let event = TrainEvent::Step {
                    step: report.step,
                    epoch: step.epoch,
                    loss: report.loss,
                    grad_norm: report.grad_norm,
                    learning_rate: report.learning_rate,
                    tokens: report.n_tokens,
                    targets: report.n_targets,
                    skipped: report.skipped,
                    gates,
                };
                (event, None)
            }
            News::Sample { question, answer, cut } => {
                self.n_answers += 1;
                let (step, last) = (run.trainer().step(), self.n_answers >= self.n_questions);
                (TrainEvent::Sample { step, question: question.to_owned(), answer: answer.to_owned(), cut, last }, None)
            }
            News::Validating(done, total) => (TrainEvent::Validating { done, total }, None),
            News::Validation(eval) => {
                self.validated = Some((eval.step, eval.val_loss.unwrap_or(f64::NAN), eval.best));
                return Ok(());
            }
            News::Adapter(_, adapter) => match self.validated.take() {
                Some((step, loss, best)) => (TrainEvent::Validation { step, loss, best }, Some(adapter)),
                None => return Ok(()),
            },
            News::Diverged => {
                self.diverged = true;
                return Ok(());
            }
            // What was learnt before is not lost with the run, where the GPU still gives it.
            News::Kept(Which::Last, step, adapter)
                if self.diverged && self.model.engine_model().gpu().check().is_ok() =>
            {
                (TrainEvent::Kept { step }, Some(adapter))
            }
            _ => return Ok(()),
        };
        self.tell(&event, adapter).await?;
        Ok(())
    }
}

/// As a safetensors file that names its model.
fn file(mut adapter: AdapterFile, base: &BaseModel) -> Result<Vec<u8>, TrainError> {
    adapter.set_base(base);
    Ok(adapter.to_safetensors()?)
}

fn attach(event: &JsValue, key: &str, bytes: &[u8]) {
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(event, &key.into(), &Uint8Array::from(bytes).into());
}
