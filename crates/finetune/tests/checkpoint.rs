//! Checkpoints: bit for bit, through full disks, damage and kills.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::formats::Gguf;
use adapter_engine::train::Batch;
use adapter_finetune::checkpoint::{Best, Checkpoint, Ground, Progress, latest, prune, write_atomically};
use adapter_finetune::data::DataPosition;
use adapter_finetune::frozen::{CpuLlama, GpuLlama};
use adapter_finetune::{AdapterShape, Backend, Frozen, Moments, Recipe, Snapshot, TrainError, Trainer};
use adapter_tests::{gpu, load_tiny, one_at_a_time, same_bits, uniform};
use pollster::block_on;

const FILES: [&str; 4] = ["adapter.safetensors", "optimizer.safetensors", "progress.json", "complete"];
/// L_a, A, C, H: small where every byte is tried, the tiny model's where time has to pass.
const SMALL: [usize; 4] = [2, 3, 8, 4];
const TINY: [usize; 4] = [3, 10, 256, 4];

/// Numbers that a careless writer would change.
const AWKWARD: [f32; 8] = [-0.0, 1e-45, -1e-45, 1.175_494_2e-38, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 0.100_000_024];

fn awkward(seed: u64, n: usize) -> Vec<f32> {
    let mut values = uniform(seed, n, -3.0, 3.0);
    for (value, awkward) in values.iter_mut().zip(AWKWARD) {
        *value = awkward;
    }
    values
}

fn checkpoint(step: u64) -> Checkpoint {
    checkpoint_of(SMALL, step)
}

fn checkpoint_of([layers, length, channels, heads]: [usize; 4], step: u64) -> Checkpoint {
    let [p, g] = [layers * length * channels, layers * heads];
    let snapshot = Snapshot {
        adapter: AdapterFile {
            kind: GateKind::PAPER,
            n_layers: layers as u32,
            adapter_len: length as u32,
            n_channels: channels as u32,
            prompts: awkward(step, p),
            gates: awkward(step + 1, g),
            base_model: Some("tiny \"model\"\n".to_owned()),
            base_layers: Some(6),
            base_hash: Some("0123456789abcdef".to_owned()),
            chat_template: None,
        },
        moments: Some(Moments { time: step, first: awkward(step + 2, p + g), second: awkward(step + 3, p + g) }),
        step,
        skipped: 2,
        skipped_in_a_row: 1,
    };
    let progress = Progress {
        seed: u64::MAX,
        position: DataPosition { epoch: u64::MAX - 1, index: 1 << 60 },
        data_fingerprint: 0xdead_beef_dead_beef,
        batch_tokens: 2048,
        recipe: Recipe { epsilon: 1e-45, ..Recipe::new(0.1 + 0.2, 5, 40) },
        best: Some(Best { step, loss: 1.0 / 3.0 }),
        without_gain: 3,
        seconds: 5e-324,
        tokens: u64::MAX,
        trained_tokens: 1 << 53 | 1,
        validation_due: true,
        ground: Ground { backend: Some(Backend::Cpu), f16: Some(true), validation: Some(u64::MAX) },
    };
    Checkpoint { snapshot, progress }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn step_of(folder: &Path) -> u64 {
    Checkpoint::load(folder).unwrap_or_else(|error| panic!("{error}")).snapshot.step
}

/// The steps of all folders that load, however they are named.
fn loadable(out: &Path) -> Vec<u64> {
    let entries = fs::read_dir(out).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut steps: Vec<u64> = entries.filter_map(|path| Some(Checkpoint::load(&path).ok()?.snapshot.step)).collect();
    steps.sort_unstable();
    steps
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }
}

fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a, b);
    // `==` takes -0 for 0.
    let numbers = |c: &Checkpoint| {
        let m = c.snapshot.moments.clone().expect("moments");
        [c.snapshot.adapter.numbers(), m.first, m.second]
    };
    for (a, b) in numbers(a).into_iter().zip(numbers(b)) {
        assert!(same_bits(&a, &b));
    }
    let bits = |c: &Checkpoint| {
        let Progress { recipe: r, best, seconds, .. } = &c.progress;
        let small = [r.beta_1, r.beta_2, r.epsilon, r.weight_decay, r.max_grad_norm.unwrap_or_default()];
        let large = [r.learning_rate, *seconds, best.map_or(0.0, |best| best.loss)];
        (small.map(f32::to_bits), large.map(f64::to_bits))
    };
    assert_eq!(bits(a), bits(b));
}

#[test]
fn everything_comes_back_bit_for_bit() {
    let out = folder();
    let written = checkpoint(20);
    let path = written.save(&out.path().join("deep/run")).expect("saved");
    assert_eq!(path, out.path().join("deep/run/checkpoint-00000020"));
    assert_eq!(names(&path), ["adapter.safetensors", "complete", "optimizer.safetensors", "progress.json"]);
    assert_same(&Checkpoint::load(&path).expect("loaded"), &written);
    assert!(checkpoint(123_456_789_012).save(out.path()).expect("saved").ends_with("checkpoint-123456789012"));

    let fresh = Checkpoint { snapshot: Snapshot { moments: None, step: 0, ..written.snapshot }, ..written };
    assert_eq!(Checkpoint::load(&fresh.save(out.path()).expect("saved")).expect("loaded"), fresh);
}

#[test]
fn a_hundred_thousand_numbers_come_back_through_json() {
    let mut chance = Chance(11);
    let mut progress = checkpoint(1).progress;
    for _ in 0..100_000 {
        let (large, small) = (f64::from_bits(chance.next(u64::MAX)), f32::from_bits(chance.next(1 << 32) as u32));
        progress.seconds = large;
        progress.recipe.max_grad_norm = Some(small);
        let text = serde_json::to_string(&progress).expect("JSON");
        let back: Progress = serde_json::from_str(&text).expect("JSON");
        let found = back.recipe.max_grad_norm.expect("a number");
        assert!(back.seconds.to_bits() == large.to_bits() || large.is_nan() && back.seconds.is_nan(), "{large:?}");
        assert!(found.to_bits() == small.to_bits() || small.is_nan() && found.is_nan(), "{small:?}");
    }
    let unclipped = Progress {
        recipe: Recipe { max_grad_norm: None, ..Recipe::new(1e-2, 0, 1) },
        best: None,
        ..checkpoint(1).progress
    };
    let text = serde_json::to_string(&unclipped).expect("JSON");
    assert_eq!(serde_json::from_str::<Progress>(&text).expect("JSON"), unclipped);
}

#[test]
fn the_same_run_writes_the_same_bytes_which_other_programs_read() {
    let out = folder();
    let [a, b] = ["a", "b"].map(|run| checkpoint(7).save(&out.path().join(run)).expect("saved"));
    for name in FILES {
        assert!(fs::read(a.join(name)).expect("read") == fs::read(b.join(name)).expect("read"), "{name}");
    }
    let adapter = AdapterFile::from_safetensors(&fs::read(a.join("adapter.safetensors")).expect("read"), None);
    assert_eq!(adapter.expect("an adapter"), checkpoint(7).snapshot.adapter);
    let optimizer = fs::read(a.join("optimizer.safetensors")).expect("read");
    let tensors = safetensors::SafeTensors::deserialize(&optimizer).expect("a safetensors file");
    let shape = |name: &str| tensors.tensor(name).expect("there").shape().to_vec();
    assert_eq!((shape("prompts.moment_1"), shape("gates.moment_2")), (vec![2, 3, 8], vec![2, 4]));
}

#[test]
fn numbers_that_are_not_finite_are_never_written() {
    let out = folder();
    checkpoint(5).save(out.path()).expect("saved");
    for spoil in [
        (|c| c.snapshot.adapter.gates[0] = f32::NAN) as fn(&mut Checkpoint),
        |c| c.snapshot.moments.as_mut().expect("moments").second[3] = f32::INFINITY,
        |c| c.snapshot.moments.as_mut().expect("moments").first.truncate(3),
    ] {
        let mut bad = checkpoint(10);
        spoil(&mut bad);
        let error = bad.save(out.path()).expect_err("refused");
        assert!(matches!(error, TrainError::Adapter(_) | TrainError::Setting { .. }), "{error}");
        assert_eq!(names(out.path()), ["checkpoint-00000005"]);
    }
}

/// Takes `limit` bytes, then the disk is full.
fn full_after(limit: usize) -> impl FnMut(&mut File, &[u8]) -> io::Result<()> {
    let mut left = limit;
    move |file, bytes| {
        let fits = bytes.len().min(left);
        file.write_all(&bytes[..fits])?;
        left -= fits;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn a_disk_full_at_any_of_a_hundred_bytes_leaves_what_was_there() {
    let out = folder();
    let first = checkpoint(10);
    let first_path = first.save(out.path()).expect("saved");
    let other = |step: u64| {
        let mut other = checkpoint(step);
        other.progress.seconds = 9.0;
        other
    };
    let mut total = 0;
    let mut count = |file: &mut File, bytes: &[u8]| {
        total += bytes.len();
        file.write_all(bytes)
    };
    other(20).save_through(folder().path(), &mut count).expect("saved");
    let mut chance = Chance(3);
    for round in 0..100 {
        // The first and the last byte, and 98 between them.
        let limit = match round {
            0 => 0,
            1 => total - 1,
            _ => chance.next(total as u64) as usize,
        };
        // The next step; the same step, whose folder is being replaced; a step whose folder a crash has left.
        for (step, leftover) in [(20, false), (10, false), (20, true)] {
            if leftover {
                fs::create_dir(out.path().join("checkpoint-00000020")).expect("made");
            }
            let error = other(step).save_through(out.path(), &mut full_after(limit)).expect_err("a full disk");
            assert!(matches!(error, TrainError::File { .. }), "byte {limit}: {error}");
            assert_eq!(latest(out.path()).expect("readable"), Some(first_path.clone()), "byte {limit}, step {step}");
            assert_same(&Checkpoint::load(&first_path).expect("loadable"), &first);
            assert_eq!(names(out.path()), ["checkpoint-00000010"], "byte {limit}, step {step}: something is left");
        }
    }
    for step in [10, 20] {
        let path = other(step).save(out.path()).expect("there is space again");
        assert_same(&Checkpoint::load(&path).expect("loadable"), &other(step));
    }
    assert_eq!(names(out.path()), ["checkpoint-00000010", "checkpoint-00000020"]);
}

#[test]
fn a_file_is_the_old_one_until_it_is_the_new_one() {
    let out = folder();
    let path = out.path().join("config.toml");
    for text in ["one", "two"] {
        write_atomically(&path, text.as_bytes()).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), text);
    }
    // Someone who reads all the time sees one or the other.
    let contents = [vec![b'a'; 1 << 20], vec![b'b'; 1 << 20]];
    write_atomically(&path, &contents[0]).expect("written");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40 {
                write_atomically(&path, &contents[round % 2]).expect("written");
            }
        });
        while !writer.is_finished() {
            let found = fs::read(&path).expect("always there");
            assert!(contents.contains(&found), "{} bytes", found.len());
        }
    });
    assert_eq!(names(out.path()), ["config.toml"]);
    let error = write_atomically(&out.path().join("no/such/file"), b"three").expect_err("no folder");
    assert!(error.to_string().contains("no/such/file") && !error.to_string().contains(".partial"), "{error}");
}

/// The message of loading a checkpoint that cannot be loaded. It names `file`.
fn refusal(folder: &Path, file: &str, what: &str) -> String {
    match Checkpoint::load(folder) {
        Ok(_) => panic!("{file}, {what}: not noticed"),
        Err(error @ TrainError::Incomplete { file: found, .. }) => {
            assert_eq!(found, file, "{what}: {error}");
            error.to_string()
        }
        Err(error @ TrainError::CheckpointVersion { .. }) if file == "complete" => error.to_string(),
        Err(error) => panic!("{file}, {what}: {error}"),
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed_and_named() {
    let out = folder();
    let path = checkpoint(20).save(out.path()).expect("saved");
    for name in FILES {
        let file = path.join(name);
        let whole = fs::read(&file).expect("read");
        let handle = File::options().read(true).write(true).open(&file).expect("opened");
        let put = |at: usize, byte: u8| {
            (&handle).seek(SeekFrom::Start(at as u64)).expect("in the file");
            (&handle).write_all(&[byte]).expect("written");
        };
        for (at, byte) in whole.iter().enumerate() {
            for flip in [0x01, 0x20, 0x80] {
                put(at, byte ^ flip);
                refusal(&path, name, &format!("byte {at} ^ {flip}"));
            }
            put(at, *byte);
        }
        put(whole.len(), b'\n');
        refusal(&path, name, "longer");
        for len in (0..whole.len()).rev() {
            handle.set_len(len as u64).expect("cut");
            refusal(&path, name, &format!("cut at {len}"));
        }
        fs::remove_file(&file).expect("removed");
        assert!(refusal(&path, name, "removed").contains("is missing"));
        fs::write(&file, &whole).expect("written");
        assert_eq!(step_of(&path), 20);
    }
    let file = path.join("optimizer.safetensors");
    fs::write(&file, b"short").expect("written");
    let message = refusal(&path, "optimizer.safetensors", "short");
    assert!(
        message.contains("optimizer.safetensors has 5 of ") && message.contains("checkpoint-00000020"),
        "{message}"
    );
}

#[test]
fn another_version_is_a_sentence() {
    let out = folder();
    checkpoint(10).save(out.path()).expect("saved");
    let path = checkpoint(20).save(out.path()).expect("saved");
    let marker = path.join("complete");
    let text = fs::read_to_string(&marker).expect("read");
    // A later program may list other files in another way.
    fs::write(&marker, "{\"version\": 2, \"parts\": []}").expect("written");
    let error = Checkpoint::load(&path).expect_err("refused");
    assert!(error.to_string().ends_with("has format version 2, this program reads version 1"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("version")));
    // Going on from step 10 in silence would be wrong.
    assert!(matches!(latest(out.path()), Err(TrainError::CheckpointVersion { found: 2, .. })));
    prune(out.path(), 1).expect("pruned");
    assert_eq!(names(out.path()), ["checkpoint-00000010", "checkpoint-00000020"]);
    fs::write(&marker, text).expect("written");
    assert_eq!(step_of(&path), 20);
}

#[test]
fn the_newest_whole_one_is_found_and_others_are_passed_over() {
    let out = folder();
    assert_eq!(latest(&out.path().join("no such folder")).expect("no error"), None);
    assert_eq!(latest(out.path()).expect("no error"), None);
    let paths = [9, 100, 20].map(|step| checkpoint(step).save(out.path()).expect("saved"));
    for name in ["checkpoint-00000300", "checkpoint-", "checkpoint-+400", "checkpoint-best", "other"] {
        fs::create_dir(out.path().join(name)).expect("made");
    }
    fs::write(out.path().join("checkpoint-00000500"), "a file").expect("written");
    let found = || latest(out.path()).expect("readable");
    assert_eq!(found().as_ref(), Some(&paths[1]));
    assert_eq!(latest(&paths[2]).expect("a checkpoint"), Some(paths[2].clone()));

    fs::write(paths[1].join("progress.json"), "{}").expect("written");
    assert_eq!(found().as_ref(), Some(&paths[2]));
    let error = latest(&paths[1]).expect_err("asked for by name");
    assert!(matches!(error, TrainError::Incomplete { file: "progress.json", .. }), "{error}");
    fs::remove_file(paths[2].join("complete")).expect("removed");
    assert_eq!(found().as_ref(), Some(&paths[0]));
    fs::remove_file(paths[0].join("complete")).expect("removed");
    assert_eq!(found(), None);
}

#[test]
fn pruning_keeps_the_newest_the_best_and_what_is_not_ours() {
    let out = folder();
    let save = |step: u64, best: Option<u64>| {
        let mut saved = checkpoint(step);
        saved.progress.best = best.map(|step| Best { step, loss: 1.5 });
        saved.save(out.path()).expect("saved")
    };
    for step in [10, 20, 30, 40] {
        save(step, Some(10));
    }
    let newest = save(50, Some(20));
    let unmarked = save(60, Some(30));
    fs::remove_file(unmarked.join("complete")).expect("removed");
    fs::write(out.path().join(".config.toml.a1b2c3.partial"), "half").expect("written");
    fs::write(out.path().join("log.csv"), "step,loss").expect("written");
    prune(out.path(), 2).expect("pruned");
    let kept = ["checkpoint-00000020", "checkpoint-00000040", "checkpoint-00000050", "log.csv"];
    assert_eq!(names(out.path()), kept);
    assert_eq!(loadable(out.path()), [20, 40, 50]);

    // Nothing is asked for, the newest stays; a note that someone left stays, too.
    fs::write(out.path().join("checkpoint-00000040/notes.txt"), "good one").expect("written");
    prune(out.path(), 0).expect("pruned");
    assert_eq!(loadable(out.path()), [20, 50]);
    assert_eq!(names(&out.path().join("checkpoint-00000040")), ["notes.txt"]);

    // The newest is damaged: it is not counted, so the last good one stays.
    fs::write(newest.join("adapter.safetensors"), "").expect("written");
    prune(out.path(), 1).expect("pruned");
    assert_eq!(loadable(out.path()), [20]);
    prune(&out.path().join("no such folder"), 1).expect("nothing to do");
}

#[test]
fn forty_steps_equal_twenty_a_checkpoint_and_twenty() {
    let _guard = one_at_a_time();
    let mut batch = Batch::default();
    for row in 0..2u32 {
        let ids: Vec<u32> = (0..12).map(|t| (row * 37 + t * 11 + (row * t) % 7) % 320).collect();
        batch.push(&ids, &std::array::from_fn::<bool, 12, _>(|t| t >= 4));
    }
    let file = adapter_tests::read("tiny-llama/tiny-f32.gguf");
    let gguf = Gguf::read(&file).expect("a valid file");
    let cpu = CpuLlama::load(&gguf, &file, &mut |_, _| ControlFlow::Continue(())).expect("weights");
    let on_gpu = GpuLlama::new(&load_tiny(gpu(), "f32"), 3, 10, 256).expect("a trainer");
    for (backend, frozen) in [("gpu", Frozen::Gpu(Arc::new(on_gpu))), ("cpu", Frozen::Cpu(Arc::new(cpu)))] {
        let out = folder();
        let shape = AdapterShape::new(frozen.config(), 3, 10, GateKind::PAPER);
        let recipe = Recipe::new(1e-2, 5, 40);
        let run = |trainer: &mut Trainer, n: usize| -> Vec<u32> {
            (0..n).map(|_| block_on(trainer.train(&batch)).expect("a step").loss.to_bits()).collect()
        };
        let mut whole = Trainer::new(frozen.clone(), shape, recipe.clone(), 3).expect("a trainer");
        let wanted = run(&mut whole, 40);
        let mut first = Trainer::new(frozen.clone(), shape, recipe.clone(), 3).expect("a trainer");
        let mut found = run(&mut first, 20);
        let progress = Progress { recipe, ..checkpoint(0).progress };
        let snapshot = block_on(first.snapshot()).expect("a snapshot");
        Checkpoint { snapshot, progress }.save(out.path()).expect("saved");
        drop(first);
        let path = latest(out.path()).expect("readable").expect("a checkpoint");
        let Checkpoint { snapshot, progress } = Checkpoint::load(&path).expect("loaded");
        let mut second = Trainer::resume(frozen, shape, progress.recipe, &snapshot).expect("a trainer");
        found.extend(run(&mut second, 20));
        assert_eq!(wanted, found, "{backend}");
        let [a, b] = [&whole, &second].map(|trainer| block_on(trainer.snapshot()).expect("a snapshot"));
        assert_eq!(a, b, "{backend}");
        assert!(same_bits(&a.adapter.prompts, &b.adapter.prompts) && same_bits(&a.adapter.gates, &b.adapter.gates));
    }
}

/// What the code before the flat vector wrote (`tests/data/old-files`, commit 2f0d353) loads, and training goes on from it to the
/// losses that code went on to. A gradient longer than 0.05 is shortened there, so the sums behind `grad_norm` matter, too.
#[test]
fn old_files_load_and_old_runs_go_on_as_they_did() {
    let _guard = one_at_a_time();
    let file = adapter_tests::read("tiny-llama/tiny-f32.gguf");
    let gguf = Gguf::read(&file).expect("a valid file");
    let cpu = CpuLlama::load(&gguf, &file, &mut |_, _| ControlFlow::Continue(())).expect("weights");
    let on_gpu = GpuLlama::new(&load_tiny(gpu(), "f32"), 3, 2, 256).expect("a trainer");
    let backends = [("cpu", Frozen::Cpu(Arc::new(cpu))), ("gpu", Frozen::Gpu(Arc::new(on_gpu)))];
    let expected = adapter_tests::json("old-files/expected.json");
    let batch = |seed: u32| {
        let mut batch = Batch::default();
        for row in seed..seed + 4 {
            let ids: Vec<u32> = (0..12).map(|t| (row * 37 + t * 11 + (row * t) % 7) % 320).collect();
            batch.push(&ids, &std::array::from_fn::<bool, 12, _>(|t| t >= 4));
        }
        batch
    };
    for (name, kind) in [("paper", GateKind::PAPER), ("scalar-tanh", GateKind::SCALAR_TANH)] {
        let read = |file: &str| adapter_tests::read(&format!("old-files/{name}/{file}"));
        let folder = adapter_tests::data(&format!("old-files/{name}/checkpoint-00000004"));
        let Checkpoint { snapshot, progress } = Checkpoint::load(&folder).expect("an old checkpoint");
        assert_eq!((snapshot.step, snapshot.adapter.kind), (4, kind));
        let moments = snapshot.moments.as_ref().expect("moments");
        for (tensor, wanted) in [("prompts.moment_1", &moments.first), ("prompts.moment_2", &moments.second)] {
            let stored =
                adapter_tests::tensor(&format!("old-files/{name}/checkpoint-00000004/optimizer.safetensors"), tensor);
            assert!(same_bits(&stored, &wanted[..stored.len()]), "{name} {tensor}");
        }
        // The same adapter in every form.
        let forms = [AdapterFile::from_safetensors(&read("adapter.safetensors"), None).expect("ours"), {
            let bytes = read("adapter.gguf");
            AdapterFile::required_from_gguf(&Gguf::read(&bytes).expect("GGUF"), &bytes).expect("an adapter").1
        }];
        for form in forms {
            assert!(same_bits(&form.numbers(), &snapshot.adapter.numbers()), "{name}");
            assert_eq!(form.kind, kind);
        }
        if kind == GateKind::SCALAR_TANH {
            let peft =
                AdapterFile::from_peft(&read("peft/adapter_config.json"), &read("peft/adapter_model.safetensors"));
            let peft = peft.expect("a PEFT folder");
            assert!(same_bits(&peft.prompts, &snapshot.adapter.prompts));
            assert_eq!(peft.effective_gates(4), snapshot.adapter.effective_gates(4));
        }
        for (backend, frozen) in &backends {
            let shape = AdapterShape::new(frozen.config(), 3, 2, kind);
            let mut trainer =
                Trainer::resume(frozen.clone(), shape, progress.recipe.clone(), &snapshot).expect("it goes on");
            let expected = &expected[format!("{name}-{backend}")];
            for (step, wanted) in (4..).zip(expected["loss_and_grad_norm"].as_array().expect("a list")) {
                let report = block_on(trainer.train(&batch(step))).expect("a step");
                let wanted = [0, 1].map(|at| wanted[at].as_f64().expect("a number") as f32);
                let found = [report.loss, report.grad_norm];
                let error = found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs() / wanted);
                let error = error.fold(0.0, f32::max);
                // 0 on the machine that wrote them; another GPU or CPU rounds otherwise.
                eprintln!("{name} {backend} step {step}: {error:.1e}");
                assert!(error < 1e-5, "{name} {backend} step {step}: {found:?} for {wanted:?}");
            }
        }
    }
}

const RUN_FOLDER: &str = "ADAPTER_CHECKPOINT_TEST_FOLDER";

/// The process that [`fifty_kills_leave_fifty_loadable_checkpoints`] kills: goes on from the latest checkpoint, writes each
/// step and then once more in place of itself, and says which it has. In a normal run there is no folder and nothing to do.
#[test]
fn child_that_saves_until_it_is_killed() {
    let Some(out) = std::env::var_os(RUN_FOLDER).map(PathBuf::from) else { return };
    // Past the test harness, which keeps what `println!` says.
    let say = |text: String| writeln!(io::stderr(), "{text}").expect("someone listens");
    let mut step = latest(&out).expect("readable").map_or(1, |path| step_of(&path));
    say("ready".to_owned());
    loop {
        for _ in 0..2 {
            checkpoint_of(TINY, step).save(&out).expect("saved");
            say(format!("saved {step}"));
        }
        if step.is_multiple_of(4) {
            prune(&out, 2).expect("pruned");
        }
        step += 1;
    }
}

#[test]
fn fifty_kills_leave_fifty_loadable_checkpoints() {
    let _guard = one_at_a_time();
    let out = folder();
    checkpoint_of(TINY, 1).save(out.path()).expect("saved");
    let mut chance = Chance(2026);
    let (mut last, mut in_the_middle) = (1, 0);
    for kill in 0..50 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_that_saves_until_it_is_killed", "--nocapture"])
            .env(RUN_FOLDER, out.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map(|line| line.expect("text"));
        assert_eq!(lines.next().as_deref(), Some("ready"), "kill {kill}");
        // Saving takes milliseconds, or tenths of a second on a busy disk: any moment of the first four, and between them.
        let said = (0..chance.next(4)).map(|_| lines.next().expect("it goes on")).last();
        std::thread::sleep(Duration::from_micros(chance.next(40_000)));
        child.kill().expect("killed");
        let status = child.wait().expect("ended");
        assert!(!status.success(), "it never ends by itself");
        let said = said.into_iter().chain(lines).map(|line| match line.strip_prefix("saved ") {
            Some(step) => step.parse::<u64>().expect("a number"),
            None => panic!("kill {kill}: the child says {line}"),
        });
        let said = said.last().unwrap_or(last);

        let path = latest(out.path()).expect("readable").unwrap_or_else(|| panic!("kill {kill}: no checkpoint"));
        let found = Checkpoint::load(&path).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let step = found.snapshot.step;
        assert_same(&found, &checkpoint_of(TINY, step));
        assert!(step >= said && step >= last, "kill {kill}: step {step} after {said} was saved and {last} was found");
        last = step;
        let is_whole = |name: &String| Checkpoint::load(&out.path().join(name)).is_ok() && !name.ends_with(".old");
        let whole = names(out.path()).iter().all(is_whole);
        in_the_middle += usize::from(!whole);
    }
    prune(out.path(), 1).expect("pruned");
    assert_eq!(names(out.path()).len(), 1, "{:?}", names(out.path()));
    // Otherwise nothing was shown.
    assert!(in_the_middle >= 3, "only {in_the_middle} of 50 kills met a checkpoint that was being written");
}
