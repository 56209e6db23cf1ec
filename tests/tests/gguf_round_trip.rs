//! `read(write(x)) == x` for whatever can be described, and `write(read(file)) == file` for real files.

use std::path::{Path, PathBuf};

use adapter_engine::formats::{
    Array, Gguf, GgufError, GgufWriteError, GgufWriter, ReadAt, ReadAtFile, StringArray, TensorType, Value,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn numbers() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        vec(any::<u8>(), 0..40).prop_map(Value::String),
    ]
}

fn arrays() -> impl Strategy<Value = Value> {
    prop_oneof![
        vec(any::<u8>(), 0..50).prop_map(Array::U8),
        vec(any::<i8>(), 0..50).prop_map(Array::I8),
        vec(any::<u16>(), 0..50).prop_map(Array::U16),
        vec(any::<i16>(), 0..50).prop_map(Array::I16),
        vec(any::<u32>(), 0..50).prop_map(Array::U32),
        vec(any::<i32>(), 0..50).prop_map(Array::I32),
        vec(any::<u64>(), 0..50).prop_map(Array::U64),
        vec(any::<i64>(), 0..50).prop_map(Array::I64),
        vec(any::<f32>(), 0..50).prop_map(Array::F32),
        vec(any::<f64>(), 0..50).prop_map(Array::F64),
        vec(any::<bool>(), 0..50).prop_map(Array::Bool),
        vec(vec(any::<u8>(), 0..12), 0..50)
            .prop_map(|strings| Array::String(StringArray::from_strings(strings).expect("far below 4 GiB"))),
    ]
    .prop_map(Value::Array)
}

/// Every type of the table, with shapes of whole blocks.
fn tensors() -> impl Strategy<Value = Vec<(String, Vec<u64>, TensorType)>> {
    let types: Vec<TensorType> = (0..64).filter_map(TensorType::from_ggml).collect();
    let tensor =
        (proptest::sample::select(types), 1u64..4, vec(1u64..4, 0..=3)).prop_map(|(tensor_type, blocks, outer)| {
            let shape = std::iter::once(blocks * tensor_type.block_len()).chain(outer).collect();
            (shape, tensor_type)
        });
    btree_map("[a-z0-9._]{1,64}", tensor, 0..12)
        .prop_map(|map| {
            map.into_iter().map(|(name, (shape, tensor_type))| (name, shape, tensor_type)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    // Compared as bytes, because a NaN has to come back too and is not equal to itself.
    let mut writer = GgufWriter::new();
    writer.metadata("k", value.clone());
    writer.start(Vec::new()).expect("one value is fine").finish().expect("memory")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        metadata in btree_map("[a-z.é]{1,30}", prop_oneof![numbers(), arrays()], 0..12),
        tensors in tensors(),
        alignment in proptest::option::of(0u32..12),
        piece in 1usize..700,
    ) {
        let mut writer = GgufWriter::new();
        for (key, value) in metadata.iter().rev() {
            writer.metadata(key, value.clone());
        }
        if let Some(power) = alignment {
            writer.metadata("general.alignment", 1u32 << power);
        }
        for (name, shape, tensor_type) in &tensors {
            writer.tensor(name, shape, *tensor_type);
        }
        let mut data = writer.start(Vec::new()).expect("sound");
        let mut contents = Vec::new();
        while let Some(tensor) = data.next_tensor() {
            let seed = contents.len() as u64;
            let content: Vec<u8> = (0..tensor.size_bytes).map(|i| (i * 31 + seed * 7) as u8).collect();
            for part in content.chunks(piece) {
                data.chunk(part).expect("in order");
            }
            contents.push(content);
        }
        let file = data.finish().expect("complete");

        let gguf = Gguf::read(&file).expect("what was written is sound");
        prop_assert_eq!(gguf.alignment, alignment.map_or(32, |power| 1 << power));
        prop_assert_eq!(file.len() as u64 % gguf.alignment, 0);
        for (key, value) in &metadata {
            let read = gguf.metadata.get(key).expect("every key is there");
            prop_assert_eq!(bytes_of(read), bytes_of(value));
        }
        let order: Vec<_> = gguf.metadata.iter().map(|(key, _)| key).take(metadata.len()).collect();
        prop_assert_eq!(order, metadata.keys().rev().collect::<Vec<_>>());
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (described, (tensor, content)) in tensors.iter().zip(gguf.tensors().iter().zip(&contents)) {
            let found = (tensor.name.clone(), tensor.shape.clone(), tensor.tensor_type);
            prop_assert_eq!(&found, described);
            prop_assert_eq!(tensor.offset % gguf.alignment, 0);
            let mut read = vec![0; content.len()];
            tensor.read_data(&file, 0, &mut read).expect("inside the file");
            prop_assert_eq!(&read, content);
        }
    }
}

#[test]
fn a_file_that_could_not_be_read_is_not_written() {
    let refused = |writer: &GgufWriter| match writer.start(Vec::new()) {
        Err(GgufWriteError::Refused(error)) => error,
        other => panic!("wanted a refusal: {other:?}"),
    };
    let mut writer = GgufWriter::new();
    writer.metadata("k", 1u32).metadata("k", 2u32);
    assert!(matches!(refused(&writer), GgufError::DuplicateKey { .. }));
    let mut writer = GgufWriter::new();
    writer.metadata("general.alignment", 24u32);
    assert!(matches!(refused(&writer), GgufError::Alignment { found: 24 }));
    let mut writer = GgufWriter::new();
    writer.tensor("t", &[31], TensorType::Q4_0);
    assert!(matches!(refused(&writer), GgufError::PartialBlock { .. }));
    let mut writer = GgufWriter::new();
    writer.tensor("a", &[u64::MAX, u64::MAX], TensorType::F32).tensor("b", &[1], TensorType::F32);
    assert!(matches!(refused(&writer), GgufError::TensorTooLarge { .. }));
    let mut writer = GgufWriter::new();
    writer.tensor("t", &[1 << 61], TensorType::F32).tensor("u", &[1 << 61], TensorType::F32);
    assert!(matches!(refused(&writer), GgufError::TensorTooLarge { .. }));
    let mut writer = GgufWriter::new();
    writer.tensor("t", &[1], TensorType::Other(999));
    assert!(matches!(refused(&writer), GgufError::UnknownTensorType { found: 999, .. }));
}

#[test]
fn arrays_longer_than_a_chunk_come_back_whole() {
    // Keys of all lengths put the borders of chunks at every place of a number.
    for shift in 0..8 {
        let mut writer = GgufWriter::new();
        let key = |name: &str| format!("{name}{}", "-".repeat(shift));
        let longs: Vec<u64> = (0..20_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let words: Vec<i32> = (0..70_001).map(|i| i * -30_011).collect();
        let bools: Vec<bool> = (0..200_003).map(|i| i % 3 == 0).collect();
        let pieces = (0..9000usize).map(|i| vec![i as u8; i % 50]);
        let strings = StringArray::from_strings(pieces.chain([vec![7; 150_000]])).expect("short");
        writer.metadata(key("longs"), longs.clone()).metadata(key("words"), words.clone());
        writer.metadata(key("bools"), bools.clone()).metadata(key("strings"), strings.clone());
        let file = writer.start(Vec::new()).expect("sound").finish().expect("complete");
        let metadata = Gguf::read(&file).expect("sound").metadata;
        assert!(!metadata.is_empty() && metadata.len() == 4);
        assert_eq!(metadata.get(&key("longs")), Some(&Value::from(longs)), "shift {shift}");
        assert_eq!(metadata.get(&key("words")), Some(&Value::from(words)), "shift {shift}");
        assert_eq!(metadata.get(&key("bools")), Some(&Value::from(bools)), "shift {shift}");
        assert_eq!(metadata.get(&key("strings")), Some(&Value::from(strings)), "shift {shift}");
    }
}

#[test]
fn data_has_to_come_in_order_and_complete() {
    let mut writer = GgufWriter::new();
    writer.tensor("a", &[2], TensorType::F32).tensor("b", &[1], TensorType::F32);
    let mut data = writer.start(Vec::new()).expect("sound");
    assert!(matches!(data.tensor("b", &[0; 4]), Err(GgufWriteError::Order { .. })));
    assert!(matches!(data.tensor("a", &[0; 4]), Err(GgufWriteError::Size { found_bytes: 4, size_bytes: 8, .. })));
    data.chunk(&[1; 7]).expect("seven of eight bytes");
    assert!(matches!(data.chunk(&[1; 2]), Err(GgufWriteError::Size { found_bytes: 9, .. })));
    data.chunk(&[1]).expect("the eighth");
    data.tensor("b", &[2; 4]).expect("b is next");
    assert!(data.next_tensor().is_none());
    assert!(matches!(data.chunk(&[1]), Err(GgufWriteError::NoTensorLeft { found_bytes: 1 })));
    let file = data.finish().expect("complete");
    assert_eq!(Gguf::read(&file).expect("sound").tensor("b").expect("there").offset as usize, file.len() - 32);

    let data = writer.start(Vec::new()).expect("sound");
    assert!(matches!(data.finish(), Err(GgufWriteError::Size { found_bytes: 0, size_bytes: 8, .. })));
}

/// The models of the test data, wherever this checkout has them.
fn models() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["data", "data/tiny-llama", "../../shared/fixtures/tiny-llama"].map(|folder| tests.join(folder));
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten().map(|file| file.path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "gguf")).collect();
    files.extend(std::env::var_os("GGUF_MODEL").map(PathBuf::from));
    files
}

#[test]
fn a_copy_of_a_model_has_the_same_bytes() {
    for path in models() {
        let source = ReadAtFile::open(&path).expect("the file is there");
        let gguf = Gguf::read(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(gguf.metadata.str("general.architecture").expect("a model names it"), "llama");
        let mut writer = GgufWriter::new();
        writer.copy_metadata(&gguf.metadata);
        for tensor in gguf.tensors() {
            writer.tensor(&tensor.name, &tensor.shape, tensor.tensor_type);
        }
        let mut copy = writer.start(Vec::new()).expect("what was read can be written");
        for tensor in gguf.tensors() {
            let mut bytes = vec![0; tensor.size_bytes as usize];
            tensor.read_data(&source, 0, &mut bytes).expect("inside the file");
            copy.tensor(&tensor.name, &bytes).expect("in order");
        }
        let copy = copy.finish().expect("complete");
        let mut original = vec![0; source.len() as usize];
        source.read_exact_at(0, &mut original).expect("the whole file");
        assert!(copy == original, "{}: the copy differs", path.display());
        eprintln!(
            "{}: {} keys, {} tensors, {} bytes equal",
            path.display(),
            gguf.metadata.len(),
            gguf.tensors().len(),
            copy.len()
        );
    }
}
