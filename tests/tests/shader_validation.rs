//! Every variant of every shader, through naga's validator with core WebGPU's capabilities (plus subgroups where the variant
//! is for them, and what it says it enables), and a few rules of this project that a compiler does not know.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use adapter_engine::formats::{Layout, TensorType};
use adapter_engine::gpu::{
    BindingKind, Constants, FRAGMENTS, KERNELS, Kernel, constants, reflect_bindings, shader_source,
};
use adapter_engine::ops::matmul::{BackwardVariant, Epilogue, VARIANTS};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::BTreeSet;

/// (kernel, constants, whether it may use subgroups)
fn variants() -> Vec<(&'static str, Constants, bool)> {
    let mut all = Vec::new();
    for tensor_type in TensorType::supported() {
        let layout = Layout::of(tensor_type).unwrap();
        all.push(("embedding", constants([("FORMAT", layout.fragment.to_owned())]), false));
        for variant in VARIANTS.iter().flat_map(|kind| (kind.examples)()) {
            for epilogue in [Epilogue::Store, Epilogue::Add, Epilogue::Swiglu] {
                for norm in [false, true].into_iter().take(1 + usize::from(variant.norms())) {
                    // A bias is added where no format is known any more: two of them stand for all.
                    let biases = [false, true].into_iter();
                    let both = matches!(tensor_type, TensorType::F16 | TensorType::Q4_K);
                    for bias in biases.take(1 + usize::from(both)) {
                        let (kernel, constants) = variant.kernel(&layout, epilogue, norm, bias);
                        all.push((kernel, constants, variant.needs_subgroups()));
                    }
                }
            }
        }
        for variant in BackwardVariant::examples() {
            for (add, wide) in [(false, false), (true, true)] {
                let (kernel, constants) = variant.kernel(&layout, add, wide);
                all.push((kernel, constants, variant.needs_subgroups()));
            }
        }
    }
    let text = |value: u32| value.to_string();
    for slots in 1..=8 {
        let packed = ("PACKED", text(slots % 2));
        let kv = ("KV", ["f32", "f16", "q8"][slots as usize % 3].to_owned());
        let split = ("SPLIT", text(u32::from(slots % 4 == 0)));
        let scales = ("SCALES", text(u32::from(slots % 3 == 2)));
        let causal = ("CAUSAL", text(u32::from(slots % 3 != 1)));
        let shared = [("SLOTS", text(slots)), ("LAST_SLOT", text(slots - 1)), packed, kv, scales, split, causal];
        for vec4 in [1, 8, 16, 20, 32] {
            let mut set = constants(shared.clone());
            set.insert("HEAD_VEC4", text(vec4));
            if vec4 <= 32 && slots <= 4 {
                let mut keys = set.clone();
                keys.insert("LANES", text(4));
                all.push(("attention_keys", keys, false));
            }
            all.push(("attention", set, false));
        }
        for regs in 1..=4 {
            let mut set = constants(shared.clone());
            set.extend(constants([("REGS", text(regs)), ("HEAD_VEC4", text(8 * regs))]));
            if slots <= 4 {
                all.push(("attention_queries", set.clone(), true));
            }
            all.push(("attention_lanes", set, true));
        }
    }
    for wg in [8, 64, 256] {
        for gather in [0, 1] {
            for kernel in ["rms_norm", "rms_norm_backward"] {
                all.push((kernel, constants([("WG", text(wg)), ("GATHER", text(gather))]), false));
            }
        }
        for kernel in ["cross_entropy", "layer_norm"] {
            all.push((kernel, constants([("WG", text(wg))]), false));
        }
    }
    for form in ["erf", "tanh", "quick"] {
        all.push(("gelu", constants([("FORM", form.to_owned())]), false));
    }
    for z in ["apart", "alternating", "halves"] {
        all.push(("swiglu", constants([("Z", z.to_owned())]), false));
        all.push(("swiglu_backward", constants([("Z", z.to_owned())]), false));
    }
    for flag in [0, 1] {
        for wg in [8, 64] {
            all.push(("gated_attention", constants([("APART", text(flag)), ("WG", text(wg))]), false));
        }
        all.push(("rope", constants([("PACKED", text(flag))]), false));
        all.push(("head_norm", constants([("BACKWARD", text(flag))]), false));
        for (kv, scales) in [("f32", 0), ("f16", 0), ("q8", 1)] {
            for norm in [0, 7 + flag] {
                let set =
                    [("PACKED", text(flag)), ("KV", kv.to_owned()), ("SCALES", text(scales)), ("NORM", text(norm))];
                all.push(("kv_cache_write", constants(set), false));
            }
        }
    }
    for vec4 in [1, 16, 20, 32, 64] {
        for kernel in ["attention_backward_q", "attention_backward_kv", "gated_attention_backward"] {
            for lanes in 0..=u32::from(vec4 % 8 == 0 && vec4 <= 32) {
                let pairs = [("HEAD_VEC4", text(vec4)), ("REGS", text(vec4 / 8)), ("LANES", text(lanes))];
                all.push((kernel, constants(pairs), lanes == 1));
            }
        }
    }
    for regs in 1..=4 {
        for (slots, flag) in [(1, 0), (4, 1)] {
            let pairs = [("SLOTS", text(slots)), ("HEAD_VEC4", text(8 * regs)), ("REGS", text(regs))];
            let mut set = constants(pairs);
            set.extend(constants([("APART", text(flag)), ("SCALES", text(0))]));
            all.push(("gated_attention_queries", set, true));
        }
        for chunk in [1, 5, 8] {
            let pairs = [("CHUNK", text(chunk)), ("REGS", text(regs))];
            all.push(("gated_attention_reduce_lanes", constants(pairs), true));
        }
    }
    for plain in
        ["argmax", "attention_merge", "gated_attention_reduce", "half_rows", "repeat_penalty", "residual_add", "sample"]
    {
        all.push((plain, constants([]), false));
    }
    all
}

#[test]
fn every_variant_is_valid_wgsl() {
    let mut failures = Vec::new();
    let variants = variants();
    for kernel in KERNELS {
        assert!(variants.iter().any(|variant| variant.0 == kernel.name), "{} has no variant here", kernel.name);
    }
    for (kernel, constants, subgroups) in &variants {
        let source = shader_source(kernel, constants).unwrap();
        let module = match naga::front::wgsl::parse_str(&source) {
            Ok(module) => module,
            Err(error) => {
                failures.push(format!("{kernel} {constants:?}: {}", error.emit_to_string(&source)));
                continue;
            }
        };
        // unpack2x16float is core WebGPU; naga names it a capability because some GLES drivers lack it.
        let core = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let mut capabilities = if *subgroups { core | Capabilities::SUBGROUP } else { core };
        let matrices = source.contains("\nenable wgpu_cooperative_matrix;");
        capabilities.set(Capabilities::SHADER_FLOAT16, source.contains("\nenable f16;"));
        capabilities.set(Capabilities::COOPERATIVE_MATRIX, matrices);
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        if *subgroups {
            validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
            validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        }
        if let Err(error) = validator.validate(&module) {
            failures.push(format!("{kernel} {constants:?}: {}", error.emit_to_string(&source)));
        }
        // WebGPU promises 16 KiB of workgroup memory and 8 storage buffers; a GPU with units for matrices has to have 32 KiB.
        let workgroup: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
            .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()))
            .sum();
        let storage = reflect_bindings(&source).iter().filter(|kind| **kind != BindingKind::Uniform).count();
        if workgroup > (if matrices { 32_768 } else { 16_384 }) || storage > 8 {
            failures.push(format!("{kernel} {constants:?}: {workgroup} bytes of workgroup memory, {storage} buffers"));
        }
    }
    println!("{} variants", variants.len());
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), variants.len(), failures.join("\n"));
}

/// WGSL's sin and cos are exact only in [-pi, pi], infinities and NaN are not promised to exist: tables and finite masks.
#[test]
fn shaders_keep_off_what_wgsl_does_not_promise() {
    let mut findings = Vec::new();
    for kernel in KERNELS.iter().chain(FRAGMENTS) {
        for (number, line) in kernel.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in ["sin(", "cos(", "tanh(", "inf", "nan", "atomicAdd(&sum", "f16("] {
                // unpack2x16float is exact.
                if code.replace("unpack2x16float(", "").contains(word) {
                    findings.push(format!("{}.wgsl:{}: {word} in {code}", kernel.name, number + 1));
                }
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// A shader that is in no table would never be validated, nor counted in what a remembered self-test is about.
#[test]
fn every_shader_on_disk_is_in_a_table() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shaders");
    let on_disk = |below: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder.join(below)).unwrap().map(|entry| entry.unwrap().path());
        let shaders = entries.filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"));
        shaders.map(|path| format!("{below}{}", path.file_stem().unwrap().to_string_lossy())).collect()
    };
    let names = |table: &[Kernel]| -> BTreeSet<String> { table.iter().map(|part| part.name.to_owned()).collect() };
    assert_eq!(names(KERNELS), on_disk(""));
    assert_eq!(names(FRAGMENTS), on_disk("shared/"));
}

#[test]
fn every_shader_says_what_it_computes_and_who_its_twin_is() {
    for kernel in KERNELS {
        let first = kernel.text.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("// {}:", kernel.name)), "{}: {first}", kernel.name);
        for word in ["Shapes:", "Dispatch:", "Twin:", "Budget:"] {
            assert!(kernel.text.contains(word), "{} has no {word}", kernel.name);
        }
    }
}
