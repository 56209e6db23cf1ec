//! Dequantized blocks against gguf-py's, bit for bit (`tests/data/dequantize/make.py`).

mod support;

use adapter_reference::Error;
use adapter_reference::dequantize::{dequantize, ggml_type};
use support::{gguf, read};

const TYPES: [(&str, u32); 13] = [
    ("f32", ggml_type::F32),
    ("f16", ggml_type::F16),
    ("bf16", ggml_type::BF16),
    ("q4_0", ggml_type::Q4_0),
    ("q4_1", ggml_type::Q4_1),
    ("q5_0", ggml_type::Q5_0),
    ("q5_1", ggml_type::Q5_1),
    ("q8_0", ggml_type::Q8_0),
    ("q2_k", ggml_type::Q2_K),
    ("q3_k", ggml_type::Q3_K),
    ("q4_k", ggml_type::Q4_K),
    ("q5_k", ggml_type::Q5_K),
    ("q6_k", ggml_type::Q6_K),
];

#[test]
fn random_blocks_equal_gguf_py_bit_for_bit() {
    for (name, ggml_type) in TYPES {
        let found = dequantize(ggml_type, &read(&format!("dequantize/{name}.bin"))).expect("whole blocks");
        let wanted = read(&format!("dequantize/{name}.f32"));
        let wanted = wanted.as_chunks::<4>().0.iter().map(|bits| f32::from_le_bytes(*bits));
        assert_eq!(found.len(), wanted.len(), "{name}");
        for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            // A NaN's sign and payload are the hardware's choice.
            let equal = found.to_bits() == wanted.to_bits() || (found.is_nan() && wanted.is_nan());
            assert!(equal, "{name} weight {i}: {found:e} is not {wanted:e}");
        }
    }
}

#[test]
fn a_part_of_a_block_is_an_error() {
    for (name, ggml_type) in TYPES {
        let block = read(&format!("dequantize/{name}.bin"));
        let whole = dequantize(ggml_type, &block).expect("whole blocks").len();
        let found = dequantize(ggml_type, &block[..block.len() - 1]);
        assert!(matches!(found, Err(Error::PartialBlock { .. })), "{name}");
        assert!(whole > 0 && dequantize(ggml_type, &[]).expect("no block is whole blocks").is_empty(), "{name}");
    }
    assert_eq!(dequantize(4, &[]), Err(Error::UnsupportedType { ggml_type: 4 }));
}

/// Weights of the f32 and the quantized files lie as near to each other as the format allows.
#[test]
fn quantized_files_hold_the_weights_of_the_f32_file() {
    let exact = gguf("tiny-llama/tiny-f32.gguf");
    for (format, limit) in
        [("f16", 5e-4), ("q8_0", 8e-3), ("q6_k", 0.03), ("q5_k", 0.06), ("q4_k", 0.12), ("q3_k", 0.25), ("q2_k", 0.45)]
    {
        for (name, (ggml_type, bytes)) in &gguf(&format!("tiny-llama/tiny-{format}.gguf")).tensors {
            let (found, wanted) = (dequantize(*ggml_type, bytes), dequantize(0, &exact.tensors[name].1));
            let (found, wanted) = (found.expect("known"), wanted.expect("known"));
            let error: f32 = found.iter().zip(&wanted).map(|(f, w)| (f - w).powi(2)).sum();
            let share = (error / wanted.iter().map(|w| w * w).sum::<f32>()).sqrt();
            assert!(share < limit, "{format} {name}: {share}");
        }
    }
}
