//! Encoders against transformers in float64: what goes into the first block, the tokens behind every block, and at the end.
#![expect(clippy::print_stdout, reason = "a test prints its figure beside its bound")]

use std::ops::ControlFlow;

use adapter_engine::encoder::{Encoded, Encoder, EncoderConfig, Family, Pixels};
use adapter_engine::formats::ReadAtFile;
use adapter_engine::gpu::Gpu;
use adapter_tests::{baseline_gpu, data, gpu, like_a_gpu, nmse, one_at_a_time, read, tensor};
use pollster::block_on;
use safetensors::SafeTensors;

fn load(gpu: &Gpu, family: &str) -> Encoder {
    let config = String::from_utf8(read(&format!("encoders/{family}.json"))).expect("UTF-8");
    let config = EncoderConfig::from_json(&config).expect("a configuration that runs here");
    let source = ReadAtFile::open(data("encoders").join(format!("{family}.safetensors"))).expect("test data");
    Encoder::load(gpu, &source, config, &mut |_, _| ControlFlow::Continue(())).expect("it loads")
}

/// The length of the worst difference over that of what is wanted.
fn compare(golden: &str, prefix: &str, encoded: &Encoded) -> f64 {
    let of = |name: &str, found: &[f32]| nmse(found, &tensor(golden, &format!("{prefix}{name}"))).sqrt();
    let layers = encoded.layers.iter().enumerate();
    layers.map(|(n, layer)| of(&format!("layer.{n}"), layer)).fold(of("last", &encoded.last), f64::max)
}

/// The bound is 1e-4; f32 PyTorch is within 1e-6 of float64 on these models.
const BOUND: f64 = 1e-5;

#[test]
fn every_family_encodes_as_transformers_does() {
    let _turn = one_at_a_time();
    for (gpu, tier) in [(gpu(), "this GPU"), (like_a_gpu(), "like a GPU"), (baseline_gpu(), "core WebGPU")] {
        for family in ["vit", "dinov2", "clip", "siglip", "bert", "roberta"] {
            let encoder = load(gpu, family);
            let name = format!("encoders/{family}-golden.safetensors");
            let bytes = read(&name);
            let golden = SafeTensors::deserialize(&bytes).expect("test data");
            let layers: Vec<u32> = (0..=encoder.config().n_layers).collect();
            let mut worst = 0f64;
            if encoder.config().family.is_text() {
                let bytes = golden.tensor("ids").expect("ids").data();
                let ids: Vec<u32> =
                    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                worst = worst.max(compare(&name, "", &block_on(encoder.ids(&ids, &layers)).expect("it runs")));
            } else {
                for prefix in ["", "wide."] {
                    let view = golden.tensor(&format!("{prefix}pixels")).expect("pixels");
                    let (height, width) = (view.shape()[1] as u32, view.shape()[2] as u32);
                    let pixels = Pixels { width, height, values: tensor(&name, &format!("{prefix}pixels")) };
                    let encoded = block_on(encoder.pixels(&pixels, &layers)).expect("it runs");
                    worst = worst.max(compare(&name, prefix, &encoded));
                }
            }
            println!("{family} on {tier}: within {worst:.1e}");
            assert!(worst <= BOUND, "{family} on {tier}: {worst:e}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let _turn = one_at_a_time();
    let (bert, vit) = (load(gpu(), "bert"), load(gpu(), "vit"));
    let refused = |result: Result<Encoded, adapter_engine::Error>, words: &str| {
        let message = result.expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(block_on(bert.ids(&[], &[])), "no tokens");
    refused(block_on(bert.ids(&[200], &[])), "token id 200 is outside the vocabulary of 200");
    refused(block_on(bert.ids(&[7; 49], &[])), "49 tokens do not fit the context of 48");
    refused(block_on(bert.ids(&[7], &[4])), "layer is 4, it must be 0 to 3");
    let pixels = |width, height| Pixels { width, height, values: vec![0.0; 3 * (width * height) as usize] };
    refused(block_on(vit.pixels(&pixels(7, 40), &[])), "at least 8 x 8 pixels");
    refused(block_on(vit.pixels(&Pixels { values: vec![0.0; 5], ..pixels(8, 8) }, &[])), "three numbers a pixel");
    refused(block_on(vit.ids(&[1], &[])), "text with an encoder of pictures");
    refused(block_on(bert.pixels(&pixels(8, 8), &[])), "pictures with an encoder of text");

    let config = String::from_utf8(read("encoders/vit.json")).expect("UTF-8");
    for (from, to, words) in [
        (
            "\"model_type\": \"vit\"",
            "\"model_type\": \"resnet\"",
            "model_type is resnet, it must be one of vit, dinov2",
        ),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "a divisor of hidden_size (64)"),
        ("\"hidden_size\": 64", "\"hidden_size\": 65", "hidden_size is 65, it must be a multiple of 32"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\"", "the activation \"mish\""),
        ("{", "", "config.json"),
    ] {
        assert!(config.contains(from), "{from}");
        let error = EncoderConfig::from_json(&config.replacen(from, to, 1)).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    // Weights that are cut off, of another family, or nothing of the kind.
    let config = EncoderConfig::from_json(&config).expect("it runs here");
    assert_eq!(config.family, Family::Vit);
    let whole = read("encoders/vit.safetensors");
    let bert = read("encoders/bert.safetensors");
    for (bytes, words) in [
        (&whole[..whole.len() - 1], "it is cut off"),
        (&whole[..100], "cannot be read"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "no safetensors file"),
        (&bert[..], "missing, it must be there in a file of the family \"vit\""),
    ] {
        let loaded = Encoder::load(gpu(), &bytes, config.clone(), &mut |_, _| ControlFlow::Continue(()));
        let error = loaded.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    let stopped = Encoder::load(gpu(), &&whole[..], config, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(adapter_engine::Error::Cancelled)));
}
