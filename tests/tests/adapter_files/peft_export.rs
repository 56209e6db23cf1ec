//! Hugging Face PEFT loads the folder that we write, and computes with it what we compute.
//!
//! `tests/data/tiny-llama/golden-peft-export.safetensors` comes from `peft_loads.py` beside it: PEFT's logits, and the
//! SHA-256 of the two files that PEFT had loaded. So the folder must stay that folder to the byte; one that should change
//! goes through PEFT again first.

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_tests::{baseline_gpu, gpu, ids, json, load_tiny, nmse, one_at_a_time, read, tensor, tiny_adapter};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use crate::support::{Home, assert_done};
use crate::{logits, tiny};

const GOLDEN: &str = "tiny-llama/golden-peft-export.safetensors";
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The SHA-256 of a file of the folder that PEFT loaded.
fn loaded_by_peft(file: &str) -> String {
    let golden = read(GOLDEN);
    let (_, header) = SafeTensors::read_metadata(&golden).unwrap();
    header.metadata().as_ref().and_then(|metadata| metadata.get(file)).expect("peft_loads.py writes it").clone()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_folder_we_write_is_the_one_peft_loaded() {
    let home = Home::new();
    let flags = "-m TINY -a DATA/adapter-peft.safetensors --gate peft --to peft";
    assert_done(&home.run(&format!("export {flags} --out HERE/folder")));
    let (_, _, config) = tiny("f32");
    let (json, weights) = tiny_adapter(GateKind::PEFT).to_peft(&config).unwrap();
    for (name, ours) in FILES.into_iter().zip([json, weights]) {
        let written = std::fs::read(home.path("folder").join(name)).unwrap();
        assert_eq!(written, ours, "{name}: the program writes what the library makes");
        assert_eq!(sha256(&ours), loaded_by_peft(name), "{name}: PEFT loaded these bytes");
    }
    assert_eq!(std::fs::read_dir(home.path("folder")).unwrap().count(), FILES.len(), "and nothing else is there");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]
fn peft_computes_with_our_folder_what_we_compute() {
    let _turn = one_at_a_time();
    let golden = read(GOLDEN);
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let fed: Vec<i64> = bytemuck::pod_collect_to_vec(golden.tensor("ids").unwrap().data());
    assert_eq!(fed, ids(&json("tiny-llama/base.json")["ids"]).into_iter().map(i64::from).collect::<Vec<_>>());
    let wanted = tensor(GOLDEN, "logits");

    let (_, _, config) = tiny("f32");
    let (json, weights) = tiny_adapter(GateKind::PEFT).to_peft(&config).unwrap();
    let exported = AdapterFile::from_peft(&json, &weights).unwrap();
    let worst = |found: &[f32]| found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    for (name, gpu) in [("features", gpu()), ("core", baseline_gpu())] {
        let model = load_tiny(gpu, "f32");
        let found = logits(&model, Some((&exported, 1.0)));
        let (worst, error) = (worst(&found), nmse(&found, &wanted));
        println!("adapter_host::peft_export[{name}] max |diff| {worst:.1e} <= 1e-4, NMSE {error:.1e} <= 1e-10");
        assert!(worst <= 1e-4, "{name}: a logit is off by {worst}");
        assert!(error <= 1e-10, "{name}: NMSE {error}");
    }
    let base = logits(&load_tiny(gpu(), "f32"), None);
    assert!(worst(&base) > 0.1, "the adapter moves PEFT's logits, so a folder that PEFT ignored would be seen");
}
