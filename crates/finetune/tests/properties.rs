//! Whatever stands in a file: an answer or an error, never a panic.

mod support;

use adapter_engine::text::{ChatTemplate, Message, RenderOptions, Tokenizer, encode_chat};
use adapter_finetune::data::{Batches, DataOptions, DataPosition, Encoded, Examples, Order, Renderer, Row, Template};
use proptest::prelude::*;
use std::sync::LazyLock;
use support::{options, read_with, sentencepiece, tiny};

static TOKENIZERS: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| [tiny(), sentencepiece()]);

/// Pieces of which broken data sets are made.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        "\r\n",
        "\u{feff}",
        "null",
        "1e999",
        "\"instruction\"",
        "\"output\":\"b\"",
        "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]",
        "\"conversations\":[{}]",
        "{\"instruction\":\"a\",\"output\":\"b\"}\n",
        "{\"text\":\"a\"}\n",
        "{\"prompt\":\"a\",\"completion\":\"\"}",
        "<|im_end|>",
        "\\ud83d",
        "\\u0000",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![4 => fixed, 1 => prop::collection::vec(any::<u8>(), 0..9)]
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let content = prop_oneof!["[a-zA-Z:#? \n▁é😀]{1,24}", "\\PC{1,12}"];
    let turn = (content.clone(), content.prop_filter("an answer", |text| !text.trim().is_empty()));
    prop::collection::vec(turn, 1..4).prop_map(|turns| {
        let both = |(q, a): (String, String)| [Message::new("user", q), Message::new("assistant", a)];
        turns.into_iter().flat_map(both).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec(piece(), 0..40), limit in 2_u32..600) {
        let options = DataOptions { max_tokens: limit, ..options() };
        if let Ok(dataset) = read_with(&pieces.concat(), &TOKENIZERS[0], &options) {
            prop_assert!(!dataset.training.is_empty());
            for example in dataset.training.iter() {
                prop_assert_eq!(example.ids.len(), example.trained.len());
                prop_assert!(example.ids.len() <= limit as usize);
                prop_assert!(!example.trained[0] && example.trained.contains(&true));
            }
            let _ = dataset.report.to_string();
            let mut batches = Batches::new(&dataset.training, limit, Order::Shuffled { seed: 0 }).unwrap();
            prop_assert!(batches.take(&mut DataPosition::default()).unwrap().n_targets() > 0);
        }
    }

    #[test]
    fn ids_are_the_engines_for_any_chat(messages in messages(), which in 0_usize..2, template in 0_usize..5) {
        let tokenizer = &TOKENIZERS[which];
        let name = ["alpaca", "chatml", "llama3", "llama2", "zephyr"][template];
        let options = DataOptions { template: Template::Named(name.to_owned()), max_tokens: 1 << 20, ..options() };
        let renderer = Renderer::new(tokenizer, &options).unwrap();
        let encoded = renderer.encode(&Row::Chat(messages.clone())).unwrap();
        let options = RenderOptions::default();
        let template = ChatTemplate::built_in(name, tokenizer).unwrap();
        prop_assert_eq!(&encoded.ids, &encode_chat(tokenizer, &template, &messages, &options).unwrap());
        // One stretch for each answer.
        let begins = encoded.trained.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        prop_assert_eq!(begins, messages.len() / 2);
    }

    #[test]
    fn batches_hold_each_row_once(lens in prop::collection::vec(1_usize..40, 1..60), seed: u64, epoch: u64) {
        let mut examples = Examples::default();
        for len in &lens {
            examples.push(&Encoded { ids: vec![1; *len], trained: vec![true; *len], ..Encoded::default() });
        }
        let mut batches = Batches::new(&examples, 40, Order::Shuffled { seed }).unwrap();
        let mut position = DataPosition { epoch, index: 0 };
        let mut rows = Vec::new();
        while position.epoch == epoch {
            rows.extend(batches.take_rows(&mut position).unwrap());
        }
        rows.sort_unstable();
        prop_assert_eq!(rows, (0..lens.len() as u32).collect::<Vec<_>>());
    }
}
