//! The other families against float64 (tests/data/tiny-qwen, made by PyTorch and compared with transformers).

use adapter_engine::adapter::{Adapter, AdapterFile};
use adapter_engine::formats::{Gguf, GgufWriter, TensorType};
use adapter_engine::gpu::{Gpu, GpuOptions};
use adapter_engine::model::{Config, weight_bytes};
use adapter_engine::ops::kv_cache::CacheFormat;
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Error, Model, Session};
use adapter_tests::families::{FAMILIES, KINDS, adapter, file, golden, ids, load};
use adapter_tests::{baseline_gpu, gpu, like_a_gpu, nmse, one_at_a_time, open, read, same_bits};
use pollster::block_on;
use std::ops::ControlFlow;

fn session(model: &Model) -> Session {
    Session::new(model, &SessionOptions { exact: true, ..SessionOptions::default() }).expect("a session")
}

fn load_bytes(gpu: &Gpu, bytes: &[u8]) -> Result<Model, Error> {
    Model::load(gpu, &Gguf::read(&bytes)?, &bytes, &mut |_, _| ControlFlow::Continue(()))
}

/// In one piece, in sevens and token by token, on every tier.
#[test]
fn other_families_equal_float64_in_every_piece_and_tier() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        let tokens = ids(family);
        for (tier, gpu) in [("default", gpu()), ("core WebGPU", baseline_gpu()), ("like a GPU", like_a_gpu())] {
            for (format, name) in [("f32", "logits"), ("q8_0", "q8_0"), ("q4_0", "q4_0")] {
                let model = load(gpu, family, format);
                for size in [tokens.len(), 7, 1] {
                    let mut session = session(&model);
                    let chunks =
                        tokens.chunks(size).flat_map(|chunk| block_on(session.logits(chunk, Rows::All)).unwrap());
                    let error = nmse(&chunks.collect::<Vec<_>>(), &golden(family, name));
                    println!("golden_logits::{family} {format} {tier}, pieces of {size}: {error:.1e} <= 1e-6");
                    assert!(error <= 1e-6, "{family} {format} {tier}, pieces of {size}: NMSE {error}");
                }
            }
        }
    }
}

/// Adapters of every kind, prompt keys through the family's own bias and norm.
#[test]
fn adapters_of_other_families_equal_float64() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        let tokens = ids(family);
        for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
            let model = load(gpu, family, "f32");
            for (name, kind) in KINDS {
                let adapter = Adapter::load(&model, name, &adapter(family, name, kind)).expect("fits");
                let mut session = session(&model);
                session.set_adapter(Some((&adapter, 1.0))).unwrap();
                let logits = block_on(session.logits(&tokens, Rows::All)).unwrap();
                let error = nmse(&logits, &golden(family, &format!("{name}.logits")));
                println!("golden_logits::{family} with {name}: {error:.1e} <= 1e-6");
                assert!(error <= 1e-6, "{family} with {name}: NMSE {error}");
            }
        }
    }
}

/// A closed gate, strength 0 and no adapter: the same bits.
#[test]
fn a_closed_gate_leaves_every_bit_of_other_families() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        let (model, tokens) = (load(gpu(), family, "q8_0"), ids(family));
        let (name, kind) = KINDS[0];
        let open = adapter(family, name, kind);
        let closed = AdapterFile { gates: vec![0.0; open.gates.len()], ..open.clone() };
        let logits = |file: Option<(&AdapterFile, f32)>| {
            let mut session = session(&model);
            let adapter = file.map(|(file, strength)| (Adapter::load(&model, name, file).unwrap(), strength));
            session.set_adapter(adapter.as_ref().map(|(adapter, strength)| (adapter, *strength))).unwrap();
            block_on(session.logits(&tokens, Rows::All)).unwrap()
        };
        let base = logits(None);
        assert!(same_bits(&logits(Some((&closed, 1.0))), &base), "{family}: a closed gate");
        assert!(same_bits(&logits(Some((&open, 0.0))), &base), "{family}: strength 0");
        assert!(!same_bits(&logits(Some((&open, 1.0))), &base), "{family}: an open gate");
    }
}

/// f16 and q8 caches round keys and values and nothing else; a cache cut back gives what it gave.
#[test]
fn smaller_caches_and_prefixes_of_other_families() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        let (tokens, wanted) = (ids(family), golden(family, "logits"));
        for gpu in [gpu(), baseline_gpu(), like_a_gpu()] {
            let model = load(gpu, family, "f32");
            for (cache_format, budget) in [(CacheFormat::F32, 1e-6), (CacheFormat::F16, 1e-5), (CacheFormat::Q8, 2e-3)]
            {
                let options = SessionOptions { cache_format, exact: true, ..SessionOptions::default() };
                let mut session = Session::new(&model, &options).unwrap();
                let first = block_on(session.logits(&tokens, Rows::All)).unwrap();
                let error = nmse(&first, &wanted);
                println!("golden_logits::{family} cache {}: {error:.1e} <= {budget:.0e}", cache_format.name());
                assert!(error <= budget, "{family} {}: {error}", cache_format.name());
                session.truncate(17);
                block_on(session.logits(&[5, 6, 7], Rows::Last)).unwrap();
                assert_eq!(session.reuse_prefix(&tokens), 17, "{family}");
                let again = block_on(session.logits(&tokens[17..], Rows::Last)).unwrap();
                let error = nmse(&again, &first[first.len() - again.len()..]);
                assert!(error <= 1e-9, "{family} {}: after a cut {error}", cache_format.name());
            }
        }
    }
}

/// An output matrix that is the embedding's copy: tied and untied are one model. Other tensors of the file stay.
#[test]
fn tied_and_untied_heads_of_other_families_agree() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        let bytes = read(&file(family, "f32"));
        let gguf = Gguf::read(&bytes).unwrap();
        let with_head = |keep: bool| {
            let mut writer = GgufWriter::new();
            writer.copy_metadata(&gguf.metadata);
            let others = || gguf.tensors().iter().filter(|tensor| tensor.name != "output.weight");
            others().for_each(|tensor| {
                writer.tensor(tensor.name.as_str(), &tensor.shape, tensor.tensor_type);
            });
            let embedding = gguf.tensor("token_embd.weight").unwrap();
            if keep {
                writer.tensor("output.weight", &embedding.shape, embedding.tensor_type);
            }
            let mut data = writer.start(Vec::new()).unwrap();
            for tensor in others().chain(keep.then_some(embedding)) {
                let mut chunk = vec![0; tensor.size_bytes as usize];
                tensor.read_data(&bytes, 0, &mut chunk).unwrap();
                data.chunk(&chunk).unwrap();
            }
            data.finish().unwrap()
        };
        let run = |bytes: &[u8]| {
            let model = load_bytes(gpu(), bytes).unwrap();
            (model.config().tied, block_on(session(&model).logits(&ids(family), Rows::Last)).unwrap())
        };
        let ((tied, a), (untied, b)) = (run(&with_head(false)), run(&with_head(true)));
        assert!(tied && !untied, "{family}");
        assert!(same_bits(&a, &b), "{family}: the head's bits");
    }
}

/// The header says what the GPU will hold, and the load takes that.
#[test]
fn the_weights_of_other_families_are_predicted() {
    let _turn = one_at_a_time();
    for family in FAMILIES {
        for format in ["f32", "q8_0", "q4_0"] {
            let bytes = read(&file(family, format));
            let gpu = open(&GpuOptions::default());
            let _model = load_bytes(&gpu, &bytes).unwrap();
            let (predicted, used) = (weight_bytes(&Gguf::read(&bytes).unwrap()).unwrap(), gpu.used_bytes());
            // Buffers are rounded up to 16 bytes each.
            assert!(used >= predicted && used - predicted < 2048, "{family} {format}: {predicted} of {used}");
        }
    }
}

/// What a family does not have, and a family that does not run, by name with the list of those that do.
#[test]
fn what_does_not_run_is_refused_by_name() {
    let _turn = one_at_a_time();
    for other in
        ["qwen2moe", "qwen3moe", "gemma", "gemma3", "phi3", "qwen2vl", "qwen3vl", "qwen", "falcon", "", "LLAMA"]
    {
        let mut writer = GgufWriter::new();
        writer.metadata("general.architecture", other);
        writer.tensor("token_embd.weight", &[32, 8], TensorType::F32);
        let mut data = writer.start(Vec::new()).unwrap();
        data.chunk(&[0; 1024]).unwrap();
        let bytes = data.finish().unwrap();
        let error = Config::from_gguf(&Gguf::read(&bytes).unwrap(), &bytes).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::WrongArchitecture { .. }) && text.contains(&format!("{other:?}")), "{text}");
        assert!(["\"llama\""].iter().chain(&FAMILIES.map(|f| f)).all(|known| text.contains(known)), "{text}");
    }
    // Another family's tensors: a bias in a LLaMA, a norm of heads in a Qwen2.
    for family in FAMILIES {
        let bytes = read(&file(family, "q4_0"));
        let gguf = Gguf::read(&bytes).unwrap();
        for extra in ["blk.0.attn_output.bias", "blk.1.attn_sub_norm.weight", "output.bias", "blk.9.attn_q.weight"] {
            let mut writer = GgufWriter::new();
            writer.copy_metadata(&gguf.metadata);
            for tensor in gguf.tensors() {
                writer.tensor(tensor.name.as_str(), &tensor.shape, tensor.tensor_type);
            }
            writer.tensor(extra, &[32], TensorType::F32);
            let mut data = writer.start(Vec::new()).unwrap();
            for tensor in gguf.tensors() {
                data.chunk(&vec![0; tensor.size_bytes as usize]).unwrap();
            }
            data.chunk(&[0; 128]).unwrap();
            let bytes = data.finish().unwrap();
            let error = load_bytes(gpu(), &bytes).unwrap_err().to_string();
            assert!(error.contains(extra), "{family}: {error}");
        }
    }
}
