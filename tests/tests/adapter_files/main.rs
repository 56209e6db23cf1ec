//! Adapter files: the same numbers through every form and inside a model's file, and files that must be refused.

mod forms;
mod hostile;
mod merged;
mod peft_export;
#[allow(dead_code, reason = "the tests of the command line use all of it")]
#[path = "../cli/support.rs"]
mod support;
mod terminal;

use adapter_engine::adapter::{self, AdapterFile, GateKind};
use adapter_engine::formats::Gguf;
use adapter_engine::model::Config;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Adapter, Error, Model, Session};
use adapter_tests::{gpu, ids, json, read, same_bits, tiny_adapter};
use pollster::block_on;
use std::ops::ControlFlow;

const KINDS: [GateKind; 4] = [GateKind::PAPER, GateKind::LINEAR, GateKind::PEFT, GateKind::SCALAR_TANH];

/// An adapter for the tiny model. There is no golden one with a gate a layer through tanh: PEFT's numbers serve.
fn adapter_of(kind: GateKind) -> AdapterFile {
    match kind {
        GateKind::SCALAR_TANH => AdapterFile { kind, ..tiny_adapter(GateKind::PEFT) },
        _ => tiny_adapter(kind),
    }
}

fn keep_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The bytes of a tiny model and what they say.
fn tiny(format: &str) -> (Vec<u8>, Gguf, Config) {
    let bytes = read(&format!("tiny-llama/tiny-{format}.gguf"));
    let gguf = Gguf::read(&bytes).unwrap();
    let config = Config::from_gguf(&gguf, &bytes).unwrap();
    (bytes, gguf, config)
}

fn merged(format: &str, name: &str, file: &AdapterFile) -> Vec<u8> {
    let (bytes, gguf, _) = tiny(format);
    adapter::merge(&gguf, &bytes, (name, file), Vec::new(), &mut keep_on).unwrap()
}

fn from_gguf(bytes: &[u8]) -> Result<Option<(String, AdapterFile)>, Error> {
    AdapterFile::from_gguf(&Gguf::read(&bytes)?, &bytes)
}

fn load(bytes: &[u8]) -> Model {
    Model::load(gpu(), &Gguf::read(&bytes).unwrap(), &bytes, &mut keep_on).unwrap()
}

fn logits(model: &Model, adapter: Option<(&AdapterFile, f32)>) -> Vec<f32> {
    let resident = adapter.map(|(file, strength)| (Adapter::load(model, "tiny", file).unwrap(), strength));
    let mut session = Session::new(model, &SessionOptions::default()).unwrap();
    session.set_adapter(resident.as_ref().map(|(adapter, strength)| (adapter, *strength))).unwrap();
    block_on(session.logits(&ids(&json("tiny-llama/base.json")["ids"]), Rows::All)).unwrap()
}

#[track_caller]
fn assert_same(found: &AdapterFile, wanted: &AdapterFile) {
    assert!(same_bits(&found.prompts, &wanted.prompts) && same_bits(&found.gates, &wanted.gates));
    assert_eq!(found, wanted);
}
