//! A run from its first step to its last, or to its stop: the loop of the terminal program, with events for the window.

use std::sync::Arc;
use std::time::Instant;

use crate::Problem;
use adapter_engine::adapter::{AdapterFile, BaseModel};
use adapter_engine::train;
use adapter_finetune::checkpoint::{Checkpoint, Ground as Made};
use adapter_finetune::data::Renderer;
use adapter_finetune::driver::{Listener, News, Outcome, Store as _, Which};
use adapter_finetune::frozen::GpuLlama;
use adapter_finetune::run_folder::{self, Reserved, RunFolder};
use adapter_finetune::samples::Samples;
use adapter_finetune::{Driver, Frozen, Run, TrainError, Trainer};
use pollster::block_on;

use super::{Ground, Prepared, TrainEnd, TrainEvent, TrainSettings, of_data, of_training, prepare};
use crate::worker::{Event, Events, Stop};

/// Trains until the last step or the stop.
pub(super) fn train(
    ground: &Ground,
    settings: TrainSettings,
    resume: bool,
    stops: &[Stop; 2],
    events: &Events,
) -> Result<TrainEnd, Problem> {
    let out = settings.out.clone();
    let base = BaseModel::of(&ground.file.gguf, &ground.file.source)?;
    let (wanted, found) = match resume {
        true => {
            let wanted = run_folder::options(&out).map_err(of_training)?;
            let found = run_folder::newest(&out).map_err(of_training)?;
            if let Some(found) = &found {
                run_folder::check_base(&out, found, &base).map_err(of_training)?;
            }
            (wanted, found)
        }
        false => (settings.options(), None),
    };
    let start = match &wanted.adapter {
        Some(path) if found.is_none() => Some(crate::fitting_adapter(path, wanted.gate, None, &ground.file)?.file),
        _ => None,
    };
    let Prepared { dataset, options, questions, run: settings, plan } =
        prepare(ground, &wanted, found.as_ref(), start.as_ref())?;
    let made = Made::new(&wanted, &dataset.validation);
    if let Some(found) = &found {
        let fingerprint = dataset.training.fingerprint();
        let run = run_folder::Made { settings: &settings, fingerprint, base: &base, ground: &made };
        run_folder::check_same(&out, found, &run).map_err(of_training)?;
    }
    crate::checked_devices::before_training(ground.model.gpu(), ground.model.formats(), || ())?;
    let reserved = match &found {
        Some(_) => None,
        None => Some(Reserved::new(&out).map_err(of_training)?),
    };
    let renderer = Renderer::new(&ground.tokenizer, &options).map_err(of_data)?;
    let base = base.asked_with(renderer.template().source());
    let tokenizer = &ground.tokenizer;
    let step =
        train::Trainer::new(&ground.model, settings.shape.n_layers, settings.shape.adapter_len, settings.batch_tokens)?;
    let frozen = Frozen::Gpu(Arc::new(GpuLlama::of(step.rounded(wanted.f16)).map_err(of_training)?));
    let samples =
        Samples::new(&ground.model, tokenizer, &renderer, questions, wanted.sample_tokens()).map_err(of_training)?;
    let save_every = wanted.save_every(&settings);
    let (training, validation) = (&dataset.training, &dataset.validation);
    let mut seconds = 0.0;
    let begun = match (found, reserved) {
        (Some(Checkpoint { snapshot, progress }), _) => {
            seconds = progress.seconds;
            Trainer::resume(frozen, settings.shape, settings.recipe.clone(), &snapshot)
                .and_then(|trainer| Run::resume(trainer, training, validation, settings, progress.place()))
                .and_then(|run| Ok((run, RunFolder::resume(&out, base, made, snapshot.step)?)))
        }
        (None, Some(reserved)) => {
            let config = wanted.resolved(&settings, &ground.file.path).to_toml();
            Run::new(frozen, training, validation, settings, start.as_ref())
                .and_then(|run| Ok((run, reserved.begin(base, made, &config?)?)))
        }
        (None, None) => Err(TrainError::NoCheckpoint { path: out.display().to_string() }),
    };
    let (run, store) = begun.map_err(of_training)?;
    let store = store.with_template(renderer.template().source());
    let before = store.records().to_vec();
    events.send(Event::Train(TrainEvent::Started { plan: Box::new(plan), folder: out, before }));
    let listener = Watch { events, stops, began: Instant::now(), folder: store.path().to_owned() };
    let mut driver = Driver { run, store, listener, samples, start, save_every, seconds };
    match block_on(driver.drive()).map_err(of_training)? {
        Outcome::Done | Outcome::Early => Ok(TrainEnd::Done),
        Outcome::Stopped => Ok(TrainEnd::Stopped),
    }
}

/// Tells the window.
struct Watch<'a> {
    events: &'a Events,
    stops: &'a [Stop; 2],
    began: Instant,
    folder: std::path::PathBuf,
}

impl Watch<'_> {
    fn gates(&self, run: &Run<'_>, adapter: &AdapterFile) {
        let first_layer = run.trainer().frozen().config().n_layers.saturating_sub(adapter.n_layers);
        let gates = adapter.effective_gates(run.trainer().shape().gate_width());
        self.events.send(Event::Train(TrainEvent::Gates { first_layer, gates }));
    }
}

impl Listener for Watch<'_> {
    type Error = TrainError;

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn wants_stop(&mut self) -> bool {
        self.stops.iter().any(Stop::is_set)
    }

    async fn hear(&mut self, run: &Run<'_>, news: News<'_>) -> Result<(), TrainError> {
        match news {
            News::Record(record) => self.events.send(Event::Train(TrainEvent::Happened(record.clone()))),
            News::Adapter(_, adapter) => self.gates(run, adapter),
            News::Kept(Which::Best, ..) => {
                self.events.send(Event::Train(TrainEvent::Usable(self.folder.clone())));
            }
            _ => {}
        }
        Ok(())
    }
}
