//! A model and an adapter in one file: what it computes, and what happens while it is written.

use adapter_engine::Error;
use adapter_engine::adapter::{self, AdapterWriteError, BaseModel, GateKind};
use adapter_engine::formats::{Gguf, ReadAt};
use adapter_engine::model::Config;
use adapter_tests::{one_at_a_time, same_bits};
use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::{KINDS, adapter_of, from_gguf, keep_on, load, logits, merged, tiny};

#[test]
fn a_merged_file_computes_as_base_and_adapter() {
    let _turn = one_at_a_time();
    for format in ["f32", "q4_1", "q6_k"] {
        let (bytes, gguf, config) = tiny(format);
        let base_model = load(&bytes);
        let base = logits(&base_model, None);
        for kind in KINDS {
            let file = adapter_of(kind);
            let merged = merged(format, kind.name(), &file);
            let new = Gguf::read(&merged).unwrap();
            for old in gguf.tensors() {
                let data = |gguf: &Gguf, bytes: &[u8]| {
                    let tensor = gguf.tensor(&old.name).unwrap();
                    let mut data = vec![0; tensor.size_bytes as usize];
                    tensor.read_data(&bytes, 0, &mut data).unwrap();
                    (tensor.tensor_type, tensor.shape.clone(), data)
                };
                assert_eq!(data(&new, &merged), data(&gguf, &bytes), "{} is copied byte for byte", old.name);
            }
            for (key, value) in gguf.metadata.iter() {
                assert_eq!(new.metadata.get(key), Some(value), "{key} is kept");
            }
            assert_eq!(Config::from_gguf(&new, &merged).unwrap(), config);
            assert_eq!(BaseModel::of(&new, &merged).unwrap(), BaseModel::of(&gguf, &bytes).unwrap());
            let model = load(&merged);
            let (_, inside) = from_gguf(&merged).unwrap().unwrap();
            let wanted = logits(&base_model, Some((&file, 1.0)));
            assert!(!same_bits(&wanted, &base), "the adapter does something");
            assert!(same_bits(&logits(&model, Some((&inside, 1.0))), &wanted), "{format} {}", kind.name());
            assert!(same_bits(&logits(&model, Some((&inside, 0.0))), &base), "{format} {}: strength 0", kind.name());
            assert!(same_bits(&logits(&model, None), &base), "{format} {}: no adapter", kind.name());
        }
    }
}

#[test]
fn adapters_and_models_are_not_taken_for_each_other() {
    let (bytes, gguf, config) = tiny("q8_0");
    assert!(from_gguf(&bytes).unwrap().is_none(), "a model alone");
    let alone = adapter_of(GateKind::PAPER).to_gguf(&config, "x").unwrap();
    let error = Config::from_gguf(&Gguf::read(&alone).unwrap(), &alone).unwrap_err();
    assert!(matches!(&error, Error::NotAModel { method } if method == "llama_adapter"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("as an adapter")));
    let twice = merged("q8_0", "first", &adapter_of(GateKind::PAPER));
    let again = Gguf::read(&twice).unwrap();
    let file = adapter_of(GateKind::PEFT);
    let error = adapter::merge(&again, &twice, ("second", &file), Vec::new(), &mut keep_on).unwrap_err();
    assert_eq!(error.to_string(), "the model file already holds the adapter \"first\"");
    let stopped = adapter::merge(&gguf, &bytes, ("x", &file), Vec::new(), &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(AdapterWriteError::Cancelled)));
}

/// A disk that is full after some bytes.
struct Full {
    left: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.left);
        self.left -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that ends before its header says so.
struct Cut<'a>(&'a [u8], u64);

impl ReadAt for Cut<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match offset + buf.len() as u64 > self.1 {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => self.0.read_exact_at(offset, buf),
        }
    }
}

#[test]
fn a_full_disk_and_a_file_that_shrinks_are_errors() {
    let (bytes, gguf, _) = tiny("q8_0");
    let file = adapter_of(GateKind::PAPER);
    let whole = merged("q8_0", "x", &file).len();
    for n in 0..100 {
        let out = Full { left: whole * n / 100 };
        let error = adapter::merge(&gguf, &bytes, ("x", &file), out, &mut keep_on).err().unwrap();
        assert!(matches!(&error, AdapterWriteError::Write(_)) && error.hint().is_some(), "{error}");
    }
    let end = gguf.tensors().last().map(|tensor| tensor.offset).unwrap();
    let error = adapter::merge(&gguf, &Cut(&bytes, end), ("x", &file), Vec::new(), &mut keep_on).unwrap_err();
    assert!(matches!(error, AdapterWriteError::Model(_)), "{error}");
}
