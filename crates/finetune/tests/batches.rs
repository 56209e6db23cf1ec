//! The split leaks nothing and moves nothing; batches hold each row once an epoch and go on from anywhere.

mod support;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use adapter_engine::text::Message;
use adapter_finetune::data::{
    Batches, DataError, DataOptions, DataPosition, Dataset, Encoded, Examples, Order, Row, Split,
};
use support::{options, read_with, tiny};

fn row(n: usize) -> String {
    format!("{{\"prompt\":\"q{n}\",\"completion\":\"answer {n}{}\"}}\n", "x".repeat(n % 37))
}

fn ids(examples: &Examples) -> HashSet<Vec<u32>> {
    examples.iter().map(|example| example.ids.to_vec()).collect()
}

#[test]
fn rows_keep_their_side_whatever_is_added() {
    let tokenizer = tiny();
    let options = DataOptions { split: Split { fraction: 0.1, seed: 7 }, ..options() };
    let file: String = (0..10_000).map(row).collect();
    let first = read_with(file.as_bytes(), &tokenizer, &options).expect("rows");
    let (training, validation) = (ids(&first.training), ids(&first.validation));
    assert!(training.is_disjoint(&validation));
    assert_eq!(training.len() + validation.len(), 10_000);
    // 1,000 with a standard deviation of 30.
    assert!((880..1120).contains(&validation.len()), "{}", validation.len());
    assert_eq!(first.report.split, Some(options.split));

    // Others before, between and behind; every third twice; another order; another form of JSON.
    let mut more: Vec<String> = (0..12_000).rev().map(row).collect();
    more.extend((0..10_000).step_by(3).map(|n| row(n).replace(":\"", ": \"")));
    let second = read_with(more.concat().as_bytes(), &tokenizer, &options).expect("rows");
    let (more_training, more_validation) = (ids(&second.training), ids(&second.validation));
    assert!(more_training.is_superset(&training) && more_validation.is_superset(&validation));
    assert!(more_training.is_disjoint(&more_validation));

    let other = DataOptions { split: Split { fraction: 0.1, seed: 8 }, ..options.clone() };
    let other = read_with(file.as_bytes(), &tokenizer, &other).expect("rows");
    assert_ne!(ids(&other.validation), validation);
    // A larger share keeps all of the smaller one.
    let larger = DataOptions { split: Split { fraction: 0.2, seed: 7 }, ..options };
    let larger = read_with(file.as_bytes(), &tokenizer, &larger).expect("rows");
    assert!(ids(&larger.validation).is_superset(&validation));
}

#[test]
fn the_split_is_pinned() {
    // A split stored with an adapter must be the same years later.
    let split = Split { fraction: 0.5, seed: 42 };
    let sides: Vec<u8> = (0..16).map(|hash| u8::from(split.is_validation(hash))).collect();
    assert_eq!(sides, [1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
    let example = Row::Chat(vec![Message::new("user", "a"), Message::new("assistant", "b")]);
    assert_eq!(example.hash(), 0x53ca_46f2_5afc_568a);
    for fraction in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let bad = DataOptions { split: Split { fraction, seed: 0 }, ..options() };
        assert!(matches!(read_with(row(0).as_bytes(), &tiny(), &bad), Err(DataError::Setting { .. })), "{fraction}");
    }
}

#[test]
fn a_validation_file_takes_its_rows_out_of_training() {
    let (train, val): (String, String) = ((0..50).map(row).collect(), (40..60).map(row).collect());
    let read = |train: &str, val: &str| {
        let (mut train, mut val) = (train.as_bytes(), val.as_bytes());
        let mut progress = |_| ControlFlow::Continue(());
        Dataset::read((&mut train, "t"), Some((&mut val, "v")), &tiny(), &options(), &mut progress)
    };
    let dataset = read(&train, &val).expect("rows");
    assert_eq!((dataset.training.len(), dataset.validation.len()), (40, 20));
    assert_eq!((dataset.report.file.also_in_validation, dataset.report.split), (10, None));
    assert!(ids(&dataset.training).is_disjoint(&ids(&dataset.validation)));
    assert!(matches!(read(&val, &val), Err(DataError::NoTrainingRows { rows: 20 })));
}

fn examples(lens: &[usize]) -> Examples {
    let mut examples = Examples::default();
    for (row, len) in lens.iter().enumerate() {
        let ids: Vec<u32> = (0..*len).map(|t| (row * 1000 + t) as u32).collect();
        examples.push(&Encoded { trained: (0..*len).map(|t| t > len / 2).collect(), ids, ..Encoded::default() });
    }
    examples
}

#[test]
fn an_epoch_has_each_row_once_and_goes_on_from_anywhere() {
    let lens: Vec<usize> = (0..997).map(|n| 2 + (n * 7919) % 99).collect();
    let examples = examples(&lens);
    for order in [Order::AsRead, Order::Shuffled { seed: 3 }] {
        let mut batches = Batches::new(&examples, 256, order).expect("rows");
        let mut position = DataPosition::default();
        let mut taken = Vec::new();
        let mut orders: HashMap<u64, Vec<u32>> = HashMap::new();
        while position.epoch < 3 {
            let (before, mut again) = (position, position);
            let rows = batches.take_rows(&mut again).expect("rows");
            let batch = batches.take(&mut position).expect("a batch");
            assert_eq!(again, position);
            let tokens: usize = rows.iter().map(|row| lens[*row as usize]).sum();
            assert_eq!(tokens, batch.n_tokens() as usize);
            assert!(tokens <= 256 && batch.n_targets() > 0);
            orders.entry(before.epoch).or_default().extend(rows);
            taken.push((before, batch));
        }
        for (epoch, rows) in &orders {
            let unique: HashSet<u32> = rows.iter().copied().collect();
            assert_eq!((rows.len(), unique.len()), (997, 997), "epoch {epoch}");
            let n = taken.iter().filter(|(position, _)| position.epoch == *epoch).count() as u64;
            assert_eq!(batches.n_batches(*epoch), n);
        }
        assert_eq!(orders[&0] == orders[&1], order == Order::AsRead);
        assert_eq!(orders[&0] == (0..997).collect::<Vec<_>>(), order == Order::AsRead);
        // From every position, in reverse, with new batches each time: the same batch and the same next position.
        for (index, (position, batch)) in taken.iter().enumerate().rev() {
            let mut position: DataPosition =
                serde_json::from_str(&serde_json::to_string(position).expect("JSON")).expect("a position");
            let mut fresh = Batches::new(&examples, 256, order).expect("rows");
            assert_eq!(fresh.take(&mut position).expect("a batch"), *batch);
            if let Some((next, _)) = taken.get(index + 1) {
                assert_eq!(position, *next);
            }
        }
        // At least 80 % full.
        let full: u32 = taken.iter().map(|(_, batch)| batch.n_tokens()).sum();
        assert!(f64::from(full) > 0.8 * 256.0 * taken.len() as f64);
    }
}

#[test]
fn what_fits_no_batch_or_is_no_position_is_refused() {
    let examples = examples(&[3, 9, 5]);
    let error = Batches::new(&examples, 8, Order::AsRead).expect_err("too long");
    assert_eq!(error.to_string(), "row 2 has 9 tokens, a batch has room for 8");
    let mut batches = Batches::new(&examples, 9, Order::Shuffled { seed: 1 }).expect("rows");
    let error = batches.take(&mut DataPosition { epoch: 0, index: 3 }).expect_err("outside");
    assert_eq!(error.to_string(), "the position is row 3 of an epoch, the data have 3 rows");
    assert!(batches.take(&mut DataPosition { epoch: u64::MAX, index: 2 }).is_ok());
    assert!(Batches::new(&Examples::default(), 8, Order::AsRead).is_err());
}

#[test]
fn the_fingerprint_changes_with_any_token_mask_or_border() {
    let base = examples(&[3, 9, 5]);
    let mut seen = HashSet::from([base.fingerprint()]);
    assert!(seen.insert(examples(&[3, 9]).fingerprint()));
    assert!(seen.insert(examples(&[9, 3, 5]).fingerprint()));
    let one = |ids: &[u32], trained: &[bool]| {
        let mut examples = Examples::default();
        examples.push(&Encoded { ids: ids.to_vec(), trained: trained.to_vec(), ..Encoded::default() });
        examples.fingerprint()
    };
    assert!(seen.insert(one(&[1, 2], &[false, true])));
    assert!(seen.insert(one(&[1, 2], &[true, true])));
    assert!(seen.insert(one(&[1, 3], &[false, true])));
    assert_eq!(examples(&[3, 9, 5]).fingerprint(), base.fingerprint());
}
