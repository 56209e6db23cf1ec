//! A run: events to the page, the page's wishes back, adapters as files.

use std::sync::Arc;

use adapter_browser::{Engine, Failure, Model, to_js};
use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_engine::check::self_test::{self, Set};
use adapter_finetune::frozen::GpuLlama;
use adapter_finetune::{Event, Frozen, Run};
use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::failure::OrFailure as _;
use crate::lesson::Lesson;
use crate::types::{TeachEnd, TeachEvent};

#[wasm_bindgen]
impl Lesson {
    /// Compares every kernel that only a training runs with stored answers on this GPU. Those of a chat passed in the chat's worker,
    /// before there could be a lesson.
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
        for set in Set::ALL {
            self_test::trust(engine.engine_gpu(), set, &self.formats());
        }
    }

    /// Runs it on the GPU of `model`. `listener` hears of every step and validation, and the run waits for what it returns: a
    /// page can ask the model something in between, or stop. A stopped run waits until it is told to go on or to end.
    ///
    /// # Errors
    /// Too little memory, a lost GPU, or `diverged`, after the last good adapter was handed over as `kept`.
    #[wasm_bindgen(unchecked_return_type = "TeachEnd")]
    pub async fn teach(
        &self,
        model: &Model,
        #[wasm_bindgen(unchecked_param_type = "TeachListener")] listener: Function,
    ) -> Result<JsValue, Failure> {
        let settings = self.settings.clone();
        let shape = settings.shape;
        let base = self.base()?;
        let llama = GpuLlama::new(model.engine_model(), shape.n_layers, shape.adapter_len, settings.batch_tokens)
            .or_failure()?;
        let frozen = Frozen::Gpu(Arc::new(llama));
        let (training, validation) = (&self.dataset.training, &self.dataset.validation);
        let mut run = Run::new(frozen, training, validation, settings, self.start.as_ref()).or_failure()?;
        let mut best: Option<(u64, Vec<u8>)> = None;
        let reason = loop {
            let event = match run.next().await {
                Ok(event) => event,
                Err(error) => {
                    // burn only knows that a read failed; the device knows why.
                    model.engine_model().gpu().check()?;
                    // What was learnt before is not lost with the run, where the GPU still gives it.
                    if let Ok(adapter) = run.trainer().adapter().await {
                        let event = to_js(&TeachEvent::Kept { step: run.trainer().step() })?;
                        attach(&event, "adapter", &file(adapter, &base)?);
                        tell(&listener, &event).await?;
                    }
                    return Err(error).or_failure();
                }
            };
            let stop = match event {
                Event::Step { report, epoch } => {
                    let gates = run.trainer().gates().await.or_failure()?;
                    let event = TeachEvent::Step {
                        step: report.step,
                        epoch,
                        loss: report.loss,
                        grad_norm: report.grad_norm,
                        learning_rate: report.learning_rate,
                        tokens: report.n_tokens,
                        learnt: report.n_targets,
                        skipped: report.skipped,
                        gates,
                    };
                    tell(&listener, &to_js(&event)?).await?
                }
                Event::Validation { step, loss, best: is_best } => {
                    let adapter = file(run.trainer().adapter().await.or_failure()?, &base)?;
                    let event = to_js(&TeachEvent::Validation { step, loss, best: is_best })?;
                    attach(&event, "adapter", &adapter);
                    // Before the first step there is nothing to keep, whatever it was measured at.
                    if is_best && step > 0 {
                        best = Some((step, adapter));
                    }
                    tell(&listener, &event).await?
                }
                Event::Done { early: true } => break "early",
                Event::Done { early: false } => break "done",
            };
            if stop {
                let event = to_js(&TeachEvent::Stopped { step: run.trainer().step() })?;
                attach(&event, "adapter", &file(run.trainer().adapter().await.or_failure()?, &base)?);
                if tell(&listener, &event).await? {
                    break "stopped";
                }
            }
        };
        let last = file(run.trainer().adapter().await.or_failure()?, &base)?;
        let best_loss = run.place().best.filter(|found| best.as_ref().is_some_and(|(step, _)| *step == found.step));
        let end = to_js(&TeachEnd {
            reason,
            step: run.trainer().step(),
            skipped: run.trainer().skipped(),
            best_step: best.as_ref().map(|(step, _)| *step),
            best_loss: best_loss.map(|found| found.loss),
        })?;
        attach(&end, "last", &last);
        if let Some((_, best)) = &best {
            attach(&end, "best", best);
        }
        Ok(end)
    }
}

/// As a safetensors file that names its model.
fn file(mut adapter: AdapterFile, base: &BaseModel) -> Result<Vec<u8>, Failure> {
    adapter.set_base(base);
    Ok(adapter.to_safetensors()?)
}

fn attach(event: &JsValue, key: &str, bytes: &[u8]) {
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(event, &key.into(), &Uint8Array::from(bytes).into());
}

/// Tells the listener and waits for its answer: whether it wants to stop.
async fn tell(listener: &Function, event: &JsValue) -> Result<bool, Failure> {
    let answer = listener.call1(&JsValue::NULL, event)?;
    Ok(JsFuture::from(Promise::resolve(&answer)).await?.as_string().as_deref() == Some("stop"))
}
