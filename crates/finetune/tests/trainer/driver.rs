//! The loop around a run: what is kept, when it stops, what it says. On the CPU, with a store and a listener in memory.

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_finetune::data::{Encoded, Examples};
use adapter_finetune::driver::{Listener, News, Outcome, Store, Which};
use adapter_finetune::metrics::Record;
use adapter_finetune::{Best, Driver, Place, Recipe, Run, RunSettings, TrainError, Trainer};
use adapter_tests::{one_at_a_time, same_bits};
use pollster::block_on;

use super::{on_cpu, shape};

/// What was kept, in order.
#[derive(Default)]
struct Kept {
    records: Vec<Record>,
    adapters: Vec<(Which, AdapterFile)>,
    checkpoints: Vec<u64>,
}

impl Kept {
    fn newest(&self, wanted: Which) -> Option<&AdapterFile> {
        self.adapters.iter().rev().find(|(which, _)| *which == wanted).map(|(_, file)| file)
    }
}

impl Store for Kept {
    fn records(&self) -> &[Record] {
        &self.records
    }

    fn record(&mut self, record: Record) -> Result<(), TrainError> {
        self.records.push(record);
        Ok(())
    }

    fn adapter(&mut self, which: Which, file: &AdapterFile) -> Result<(), TrainError> {
        self.adapters.push((which, file.clone()));
        Ok(())
    }

    async fn checkpoint(&mut self, run: &Run<'_>, _: f64) -> Result<Option<Record>, TrainError> {
        let step = run.trainer().step();
        if self.checkpoints.last() == Some(&step) {
            return Ok(None);
        }
        self.checkpoints.push(step);
        Ok(Some(Record::Checkpoint { step, path: step.to_string() }))
    }
}

/// Stops after the news at which `stop_at` says so.
struct Watch<F> {
    heard: Vec<String>,
    stop: bool,
    stop_at: F,
}

impl<F: FnMut(&str) -> bool> Listener for Watch<F> {
    type Error = TrainError;

    fn seconds(&self) -> f64 {
        self.heard.len() as f64
    }

    fn wants_stop(&mut self) -> bool {
        self.stop
    }

    async fn hear(&mut self, _: &Run<'_>, news: News<'_>) -> Result<(), TrainError> {
        let heard = match news {
            News::Step(report, _) => format!("step {}{}", report.step, report.skipped.map_or("", |_| " left out")),
            News::Validating(done, total) => format!("validating {done}/{total}"),
            News::Validation(eval) => format!("validation {}{}", eval.step, if eval.best { " best" } else { "" }),
            News::Diverged => "diverged".to_owned(),
            News::Kept(which, step, _) => format!("kept {which:?} {step}"),
            _ => return Ok(()),
        };
        self.stop |= (self.stop_at)(&heard);
        self.heard.push(heard);
        Ok(())
    }
}

fn rows(n: u32, seed: u32) -> Examples {
    let mut rows = Examples::default();
    for row in 0..n {
        let ids: Vec<u32> = (0..12).map(|t| (seed + row * 37 + t * 11 + (row * t) % 7) % 320).collect();
        let trained = (0..12).map(|t| t >= 4).collect();
        rows.push(&Encoded { ids, trained, ..Encoded::default() });
    }
    rows
}

fn settings(n_steps: u64, rate: f64, patience: Option<u32>) -> RunSettings {
    let shape = shape(&on_cpu(), GateKind::PAPER);
    let recipe = Recipe::new(rate, 0, n_steps);
    RunSettings { shape, recipe, batch_tokens: 48, seed: 1, validate_every: 2, patience }
}

type Driven<'d, F> = Driver<'d, Kept, Watch<F>>;

fn driver<'d, F: FnMut(&str) -> bool>(run: Run<'d>, stop_at: F) -> Driven<'d, F> {
    let listener = Watch { heard: Vec::new(), stop: false, stop_at };
    Driver { run, store: Kept::default(), listener, samples: None, start: None, save_every: 4, seconds: 0.0 }
}

fn is_same(a: &AdapterFile, b: &AdapterFile) -> bool {
    same_bits(&a.prompts, &b.prompts) && same_bits(&a.gates, &b.gates)
}

#[test]
fn a_run_that_diverges_leaves_its_last_good_adapter() {
    let _guard = one_at_a_time();
    let (training, validation) = (rows(8, 0), Examples::default());
    let mut run = Run::new(on_cpu(), &training, &validation, settings(20, 1e-2, None), None).expect("a run");
    run.trainer_mut().inject_infinity(6..100);
    let mut driver = driver(run, |_| false);
    let error = block_on(driver.drive()).expect_err("it ends");
    assert!(matches!(error, TrainError::Diverged { steps: 3, step: 8, .. }), "{error}");
    let good = block_on(driver.run.trainer().adapter()).expect("an adapter");
    let (Some(last), Some(best)) = (driver.store.newest(Which::Last), driver.store.newest(Which::Best)) else {
        panic!("nothing is kept: {:?}", driver.listener.heard)
    };
    assert!(is_same(&good, last) && is_same(&good, best) && good.check().is_ok());
    let Some(Record::End(end)) = driver.store.records.last() else { panic!("no end") };
    assert!(end.reason.contains("3 steps in a row") && end.skipped_steps == 3, "{end:?}");
    let tail = ["step 5", "step 6 left out", "step 7 left out", "diverged", "kept Last 8", "kept Best 8"];
    assert_eq!(driver.listener.heard[4..], tail);
    // A checkpoint of steps that changed nothing would only diverge again.
    assert_eq!(driver.store.checkpoints, [4]);
}

#[test]
fn a_run_that_learnt_nothing_leaves_nothing() {
    let _guard = one_at_a_time();
    let (training, validation) = (rows(8, 0), rows(4, 1000));
    let mut run = Run::new(on_cpu(), &training, &validation, settings(20, 1e-2, None), None).expect("a run");
    run.trainer_mut().inject_infinity(0..100);
    let mut driver = driver(run, |_| false);
    block_on(driver.drive()).expect_err("it ends");
    assert!(driver.store.adapters.is_empty() && driver.store.checkpoints.is_empty());
}

#[test]
fn the_best_by_validation_is_kept_and_never_what_it_began_with() {
    let _guard = one_at_a_time();
    // What is measured is what is trained on: it gets better and better.
    let training = rows(8, 0);
    let run = Run::new(on_cpu(), &training, &training, settings(6, 2e-2, None), None).expect("a run");
    let mut better = driver(run, |_| false);
    assert_eq!(block_on(better.drive()).expect("done"), Outcome::Done);
    let heard = &better.listener.heard;
    assert!(
        heard.contains(&"validation 0 best".to_owned()) && heard.contains(&"validating 4/8".to_owned()),
        "{heard:?}"
    );
    assert!(!heard.contains(&"kept Best 0".to_owned()) && heard.contains(&"kept Best 6".to_owned()), "{heard:?}");
    assert!(is_same(better.store.newest(Which::Best).expect("best"), better.store.newest(Which::Last).expect("last")));
    assert_eq!(better.store.checkpoints, [4, 6]);

    // What has nothing to do with it gets worse, and patience ends the run: its last adapter is the one to use.
    let validation = rows(4, 1000);
    let run = Run::new(on_cpu(), &training, &validation, settings(40, 1.0, Some(2)), None).expect("a run");
    let mut worse = driver(run, |_| false);
    assert_eq!(block_on(worse.drive()).expect("done"), Outcome::Early);
    assert_eq!((worse.run.trainer().step(), worse.run.best_kept()), (4, None), "{:?}", worse.listener.heard);
    assert!(is_same(worse.store.newest(Which::Best).expect("best"), worse.store.newest(Which::Last).expect("last")));
    let Some(Record::End(end)) = worse.store.records.last() else { panic!("no end") };
    assert_eq!(end.reason, "early");
}

#[test]
fn a_stop_in_a_validation_is_heard_between_two_batches_and_it_goes_on_to_the_same_numbers() {
    let _guard = one_at_a_time();
    let (training, validation) = (rows(8, 0), rows(12, 1000));
    let settings = settings(4, 2e-2, None);
    let run = Run::new(on_cpu(), &training, &validation, settings.clone(), None).expect("a run");
    let mut whole = driver(run, |_| false);
    block_on(whole.drive()).expect("done");
    let run = Run::new(on_cpu(), &training, &validation, settings.clone(), None).expect("a run");
    let mut past = 0;
    let mut first = driver(run, |heard| {
        past += usize::from(heard == "step 2");
        past > 0 && heard == "validating 4/12"
    });
    assert_eq!(block_on(first.drive()).expect("stopped"), Outcome::Stopped);
    assert_eq!((first.run.trainer().step(), first.run.place().validation_due), (2, true));
    assert_eq!(first.store.checkpoints, [2]);
    assert_eq!(first.listener.heard.iter().filter(|heard| heard.starts_with("validation")).count(), 1);

    let snapshot = block_on(first.run.trainer().snapshot()).expect("a snapshot");
    let trainer = Trainer::resume(on_cpu(), settings.shape, settings.recipe.clone(), &snapshot).expect("a trainer");
    let run = Run::resume(trainer, &training, &validation, settings, *first.run.place()).expect("a run");
    let mut second = driver(run, |_| false);
    assert_eq!(block_on(second.drive()).expect("done"), Outcome::Done);
    let losses = |kept: &[&Kept]| -> Vec<(u64, u64)> {
        let of = |record: &Record| match record {
            Record::Step(step) => Some((step.step, step.loss.expect("finite").to_bits())),
            Record::Eval(eval) => Some((eval.step, eval.val_loss.expect("finite").to_bits())),
            _ => None,
        };
        kept.iter().flat_map(|kept| kept.records.iter().filter_map(of)).collect()
    };
    assert_eq!(losses(&[&first.store, &second.store]), losses(&[&whole.store]));
}

#[test]
fn a_best_that_is_not_finite_is_forgotten() {
    let _guard = one_at_a_time();
    let training = rows(8, 0);
    let settings = settings(2, 2e-2, None);
    let trainer = Trainer::new(on_cpu(), settings.shape, settings.recipe.clone(), 1).expect("a trainer");
    // As an older program kept it: nothing is lower than NaN.
    let place = Place { best: Some(Best { step: 0, loss: f64::NAN }), ..Place::default() };
    let run = Run::resume(trainer, &training, &training, settings, place).expect("a run");
    let mut driver = driver(run, |_| false);
    block_on(driver.drive()).expect("done");
    assert_eq!(driver.run.best_kept().map(|best| best.step), Some(2));
}
