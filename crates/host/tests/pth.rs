//! PyTorch checkpoints that torch.save wrote (`tests/data/pth`), and hostile ones.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use adapter_engine::adapter::{AdapterFile, GateKind};
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Adapter, Session};
use adapter_host::pth::{PthAdapter, PthError, PthGates, PthOptions, import_pth, is_pth};
use adapter_tests::{data, gpu, ids, json, load_tiny, nmse, read, same_bits, tensor, tiny_adapter};
use pollster::block_on;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const GUESS: PthOptions = PthOptions { gates: None, adapter_len: None };
const TANH: PthOptions = PthOptions { gates: Some(PthGates::Tanh), adapter_len: None };
const RAW: PthOptions = PthOptions { gates: Some(PthGates::Raw), adapter_len: None };

fn file(name: &str) -> PathBuf {
    data("pth").join(name)
}

#[track_caller]
fn import(name: &str, options: PthOptions) -> PthAdapter {
    import_pth(&file(name), options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn assert_numbers(found: &AdapterFile, wanted: &AdapterFile) {
    assert!(same_bits(&found.prompts, &wanted.prompts), "prompts");
    assert!(same_bits(&found.gates, &wanted.gates), "gates");
    let sizes = |file: &AdapterFile| (file.kind, file.n_layers, file.adapter_len, file.n_channels);
    assert_eq!(sizes(found), sizes(wanted));
    assert_eq!(found.base_layers, Some(4));
}

#[test]
fn checkpoints_of_torch_give_the_logits_of_float64() {
    let model = load_tiny(gpu(), "f32");
    let tokens = ids(&json("tiny-llama/base.json")["ids"]);
    let logits = |file: &AdapterFile| {
        let adapter = Adapter::load(&model, "pth", file).unwrap();
        let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
        session.set_adapter(Some((&adapter, 1.0))).unwrap();
        block_on(session.logits(&tokens, Rows::All)).unwrap()
    };
    for (name, options, golden, bound) in [
        ("official.pth", GUESS, "paper", 1e-6),
        ("official.pth", TANH, "paper", 1e-6),
        ("lit-llama.pth", GUESS, "linear", 1e-6),
        // Prompts and gates rounded to 11 bits, and to 8.
        ("checkpoint.pth", TANH, "paper", 1e-6),
        ("lit-llama-old.pth", RAW, "peft", 1e-4),
    ] {
        let found = logits(&import(name, options).file);
        let error = nmse(&found, &tensor(&format!("tiny-llama/golden-{golden}.safetensors"), "logits"));
        println!("pth::{name} {error:.1e} <= {bound:.0e}");
        assert!(error <= bound, "{name}: NMSE {error:.1e} <= {bound:.0e}");
    }
    // The other reading of the same gates is another function: tanh and raw differ in every open gate.
    let raw =
        nmse(&logits(&import("official.pth", RAW).file), &tensor("tiny-llama/golden-paper.safetensors", "logits"));
    println!("pth::official.pth read raw {raw:.1e} > 1e-4");
    assert!(raw > 1e-4, "{raw:.1e}");
}

#[test]
fn numbers_are_those_that_were_saved_bit_for_bit() {
    let paper = tiny_adapter(GateKind::PAPER);
    let official = import("official.pth", GUESS);
    assert!(official.gates_assumed);
    assert_numbers(&official.file, &paper);
    let said = import("official.pth", TANH);
    assert!(!said.gates_assumed);
    assert_eq!(said.file, official.file);
    assert_eq!(import("official.pth", RAW).file, AdapterFile { kind: GateKind::LINEAR, ..official.file.clone() });
    let ten = PthOptions { adapter_len: Some(10), ..GUESS };
    assert_eq!(import("official.pth", ten).file, official.file);

    let f16 = |values: &[f32]| values.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
    let bf16 = |values: &[f32]| values.iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect();
    let halved = AdapterFile { prompts: f16(&paper.prompts), gates: f16(&paper.gates), ..paper };
    assert_numbers(&import("checkpoint.pth", GUESS).file, &halved);

    let lit = import("lit-llama.pth", GUESS);
    assert!(!lit.gates_assumed, "lit-llama has one meaning");
    assert_numbers(&lit.file, &tiny_adapter(GateKind::LINEAR));
    let peft = tiny_adapter(GateKind::PEFT);
    let short = AdapterFile { prompts: bf16(&peft.prompts), gates: bf16(&peft.gates), ..peft };
    assert_numbers(&import("lit-llama-old.pth", RAW).file, &short);

    for name in ["official.pth", "checkpoint.pth", "lit-llama.pth"] {
        assert!(is_pth(&file(name)));
    }
    assert!(!is_pth(&data("tiny-llama/adapter-paper.safetensors")) && !is_pth(&data("pth")) && !is_pth(&file("none")));
}

#[test]
fn files_that_cannot_be_run_are_refused_in_words() {
    let refuse = |name: &str, part: &str| {
        let error = import_pth(&file(name), GUESS).map(|found| found.file.kind).expect_err(name);
        let (text, hint) = (error.to_string(), error.hint());
        assert!(text.contains(part), "{name}: {text:?} should speak of {part:?}");
        assert!(!hint.is_empty() && !text.contains('\n') && text.len() < 500, "{name}: {text}");
    };
    // Other methods and other programs.
    refuse(
        "refused/litgpt.pth",
        "litgpt's: since December 2024 litgpt cuts the prompts' keys and values from wrong rows",
    );
    refuse("refused/litgpt-flat.pth", "wrong rows of the fused projection");
    refuse("refused/v2-multimodal.pth", "a LLaMA-Adapter V2 multimodal one: it answers to pictures");
    refuse("refused/v2-chat.pth", "a LLaMA-Adapter V2 or a LoRA");
    refuse("refused/imagebind.pth", "ImageBind-LLM's");
    refuse("refused/accessory.pth", "LLaMA2-Accessory's");
    refuse("refused/lit-v2.pth", "a LLaMA-Adapter V2 of lit-llama or litgpt");
    refuse("refused/lora.pth", "a LoRA");
    refuse("refused/peft-pickle.pth", "Hugging Face PEFT's, as a pickle");
    // Numbers and names that do not belong together.
    refuse("refused/nan-prompt.pth", "\"prompts\" holds 1 values that are not finite");
    refuse("refused/inf-gate.pth", "\"gates\" holds 1 values that are not finite");
    refuse("refused/missing-gate.pth", "no tensor \"layers.2.attention.gate\"; it holds \"adapter_query.weight\"");
    refuse("refused/no-gates.pth", "no tensor \"layers.0.attention.gate\"");
    refuse("refused/no-prompts.pth", "no tensor \"adapter_query.weight\"");
    refuse("refused/gate-flat.pth", "\"layers.3.attention.gate\" is F32 [2], expected [1, heads, 1, 1]");
    refuse("refused/gate-heads.pth", "expected 2 gates, as the other layers have");
    refuse("refused/prompts-3d.pth", "is F32 [3, 10, 8], expected [layers x length, channels]");
    refuse("refused/prompts-int.pth", "I64 [30, 8], expected F32, F16 or BF16");
    refuse("refused/prompts-none.pth", "F32 [0, 8]");
    refuse("refused/extra.pth", "\"something.else\" that is no part");
    refuse("refused/far-layer.pth", "number of layers is 4294967295, the limit is 1024");
    refuse("refused/ambiguous.pth", "gates are open in the last 2 layers, which would have 20 rows each");
    refuse("refused/undividable.pth", "the usual 10 rows do not fit");
    refuse("refused/lit-gap.pth", "no tensor \"transformer.h.2.attn.adapter_wte.weight\"");
    refuse("refused/lit-shapes.pth", "expected the same shape in all layers");
    // Other things that torch saves.
    refuse("refused/list.pth", "no dictionary");
    refuse("refused/tensor.pth", "no dictionary");
    refuse("refused/before-1.6.pth", "as PyTorch before 1.6 wrote");
    refuse("none.pth", "cannot read the checkpoint");
    refuse("refused", "a folder or a device");
    // One number that claims to be 4 EiB, and 960 MiB.
    refuse("refused/expanded-far.pth", "4611686018427387904 bytes");
    refuse("refused/expanded.pth", "is 251658248, the limit is 67108864");

    let twenty = |adapter_len| PthOptions { adapter_len: Some(adapter_len), ..GUESS };
    let found = import("refused/ambiguous.pth", twenty(20)).file;
    assert_eq!((found.n_layers, found.adapter_len, found.gates.as_slice()), (2, 20, &[0.25; 4][..]));
    let found = import("refused/ambiguous.pth", twenty(10)).file;
    assert_eq!((found.n_layers, found.gates.as_slice()), (4, &[0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25][..]));
    let error = import_pth(&file("lit-llama.pth"), TANH).unwrap_err();
    assert!(matches!(error, PthError::GatesAreRaw { .. }), "{error}");
    let error = import_pth(&file("lit-llama.pth"), twenty(9)).unwrap_err();
    assert!(error.to_string().contains("each layer of the file has 10"), "{error}");
}

/// The pickle calls `os.system("touch this-pickle-was-run")`, which any unpickler of Python would do.
#[test]
fn a_pickle_never_runs_anything() {
    let bytes = read("pth/refused/runs-code.pth");
    let holds = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    assert!(holds(b"system") && holds(b"touch this-pickle-was-run"));
    let error = import_pth(&file("refused/runs-code.pth"), GUESS).unwrap_err();
    assert!(error.to_string().contains("no tensor \"adapter_query.weight\"; it holds no tensors"), "{error}");
    for folder in [PathBuf::from("."), data("pth"), data("pth/refused"), std::env::temp_dir()] {
        assert!(!folder.join("this-pickle-was-run").exists());
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn import(&self, bytes: &[u8]) -> Result<PthAdapter, PthError> {
        let path = self.0.path().join("x.pth");
        std::fs::write(&path, bytes).unwrap();
        import_pth(&path, GUESS)
    }
}

/// Every prefix and 2,000 damaged copies are an error or an adapter, never a panic.
#[test]
fn damaged_files_are_errors() {
    let folder = Folder::new();
    let whole = read("pth/checkpoint.pth");
    for length in (0..whole.len()).step_by(61).chain([whole.len() - 1]) {
        let error = folder.import(&whole[..length]).map(|found| found.file.kind).unwrap_err();
        assert!(matches!(error, PthError::Damaged { .. } | PthError::NotCheckpoint { .. }), "{length}: {error}");
    }
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut read_anyway, mut errors) = (0, 0);
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        match folder.import(&bytes) {
            Ok(_) => read_anyway += 1,
            Err(error) => {
                assert!(error.to_string().len() < 600, "{error}");
                errors += 1;
            }
        }
    }
    println!("pth::damaged {errors} refused, {read_anyway} read");
    // Most bits are numbers of the prompts, whose checksums find one that changed.
    assert!(errors > 1000 && errors + read_anyway == 2000);
}

fn archive(parts: &[(&str, &[u8])], compression: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(compression)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn pickled(pickle: &[u8]) -> Vec<u8> {
    archive(&[("archive/data.pkl", pickle), ("archive/version", b"3\n")], CompressionMethod::Stored)
}

#[cfg(target_os = "linux")]
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Small files that stand for much memory; the peak of the whole process, GPU tests beside it included, is the measure.
#[test]
fn small_files_cannot_take_much_memory() {
    let folder = Folder::new();
    let refuse = |what: &str, bytes: &[u8], part: &str| {
        let error = folder.import(bytes).map(|found| found.file.kind).expect_err(what).to_string();
        assert!(error.contains(part), "{what}: {error:?} should speak of {part:?}");
    };
    // A pickle of nothing but empty tuples: a hundred bytes of memory for each.
    let tuples = [b"\x80\x02".as_slice(), &vec![b')'; 2 << 20], b"."].concat();
    refuse("2 MiB of pickle", &pickled(&tuples), "the limit is 1048576");
    let packed = archive(&[("archive/data.pkl", &tuples)], CompressionMethod::Deflated);
    assert!(packed.len() < 4096);
    refuse("the same, compressed", &packed, "compressed, which torch.save never does");
    // Just inside the limit, where the reader does build what it says: a value a byte, and a copy every two bytes.
    refuse("1 MiB of tuples", &pickled(&tuples[(1 << 20) + 64..]), "no dictionary");
    let copies = [b"}(X\x01\x00\x00\x00n](cos\nsystem\nq\x00".as_slice(), &b"h\x00".repeat(520_000), b"eu."].concat();
    assert!((1 << 20) - 16_384 < copies.len() && copies.len() <= 1 << 20);
    refuse("1 MiB of copies", &pickled(&copies), "it holds no tensors");
    // {name of 64 KiB: [o, o, o, ... 100,000 times]} where o is an object; the reader would give each its whole path.
    let name = vec![b'n'; 1 << 16];
    let mut pickle = b"\x80\x02}(X\x00\x00\x01\x00".to_vec();
    pickle.extend(&name);
    pickle.extend(b"](cos\nsystem\nq\x00");
    pickle.extend(b"h\x00".repeat(100_000));
    pickle.extend(b"eu.");
    refuse("long names", &pickled(&pickle), "length of all names");
    // Depth, where walks are recursive.
    let deep = [b"\x80\x02}(X\x01\x00\x00\x00a".as_slice(), &b"]".repeat(5000), &b"a".repeat(4999), b"u."].concat();
    refuse("depth", &pickled(&deep), "nesting");
    // A laugh: each list holds the one before it ten times.
    let mut laugh = b"\x80\x02]q\x00".to_vec();
    for level in 1..30u8 {
        laugh.extend(b"]q");
        laugh.push(level);
        laugh.push(b'(');
        laugh.extend([b'h', level - 1].repeat(10));
        laugh.push(b'e');
    }
    laugh.push(b'.');
    refuse("a billion laughs", &pickled(&laugh), "");
    refuse("a string without its end", &pickled(b"\x80\x02X\xff\xff\xff\xffabc"), "damaged");
    let parts: Vec<String> = (0..20_000).map(|part| format!("archive/data/{part}")).collect();
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|name| (name.as_str(), &b""[..])).collect();
    refuse("20,000 parts", &archive(&parts, CompressionMethod::Stored), "number of parts is 20000, the limit is 16384");
    refuse("no pickle", &archive(&[("a", b"b")], CompressionMethod::Stored), "without a data.pkl");
    for pickle in
        [&b""[..], b".", b"\x80\x02.", b"\x80\x02}.", b"\x80\x09}.", b"(((", b"cos\nsystem\n(S'x'\ntR.", b"\xff"]
    {
        refuse("not a pickle of a checkpoint", &pickled(pickle), "");
    }
    #[cfg(target_os = "linux")]
    {
        let peak = peak_bytes();
        println!("pth::memory {} MiB <= 1024 MiB", peak >> 20);
        assert!(peak <= 1 << 30, "{peak} bytes");
    }
}

/// Nothing here writes.
#[test]
fn importing_only_reads() {
    let folder = Folder::new();
    let path: &Path = &folder.0.path().join("official.pth");
    std::fs::copy(file("official.pth"), path).unwrap();
    let before = std::fs::read(path).unwrap();
    import_pth(path, GUESS).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1);
}
