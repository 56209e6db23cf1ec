//! Each format is recognised, and each broken row is named with its line, field and reason.

mod support;

use std::io::{BufRead, Read};
use std::ops::ControlFlow;

use adapter_engine::text::{Shown, decode};
use adapter_finetune::data::{DataError, DataOptions, Dataset, Format, Place, Template};
use support::{options, read, read_with, tiny};

/// The texts of all examples.
fn texts(dataset: &Dataset) -> Vec<String> {
    let tokenizer = tiny();
    let decode = |ids: &[u32]| decode(&tokenizer, ids, Shown::WithControl).expect("known ids");
    dataset.training.iter().map(|example| decode(example.ids)).collect()
}

#[test]
fn every_format_is_recognised_and_read() {
    const ALPACA: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nName a colour.\n\n### Response:Red<|endoftext|>";
    const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nSort.\n\n### Input:\n3 1\n\n### Response:1 3<|endoftext|>";
    let cases: [(&str, Format, &str); 15] = [
        (r#"{"instruction":"Name a colour.","input":"","output":"Red"}"#, Format::Alpaca, ALPACA),
        (r#"{"instruction":"Name a colour.","output":"Red","text":"x"}"#, Format::Alpaca, ALPACA),
        (r#"{"instruction":"Name a colour.","input":null,"output":"Red"}"#, Format::Alpaca, ALPACA),
        (r#"{"instruction":"Name a colour.","context":"","response":"Red"}"#, Format::Alpaca, ALPACA),
        (r#"{"instruction":"Sort.","input":"3 1","output":"1 3"}"#, Format::Alpaca, WITH_INPUT),
        (
            r#"{"messages":[{"role":"user","content":"Name a colour."},{"role":"assistant","content":"Red"}]}"#,
            Format::Chat,
            ALPACA,
        ),
        (
            r#"{"conversations":[{"from":"human","value":"Name a colour."},{"from":"gpt","value":"Red"}],"id":1}"#,
            Format::ShareGpt,
            ALPACA,
        ),
        (
            r#"{"conversations":[{"from":"user","value":"Name a colour."},{"from":"assistant","value":"Red"}]}"#,
            Format::ShareGpt,
            ALPACA,
        ),
        (
            r#"{"conversations":[{"role":"user","content":"Name a colour."},{"role":"assistant","content":"Red"}]}"#,
            Format::ShareGpt,
            ALPACA,
        ),
        (
            r#"{"system":"Be brief.","conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Yo"}]}"#,
            Format::ShareGpt,
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:Yo<|endoftext|>",
        ),
        (r#"{"prompt":"Name a colour.","completion":"Red"}"#, Format::PromptCompletion, ALPACA),
        (r#"{"prompt":"Name a colour.","response":"Red"}"#, Format::PromptCompletion, ALPACA),
        (r#"{"question":"Name a colour.","answer":"Red"}"#, Format::PromptCompletion, ALPACA),
        (r#"{"text":"Once upon a time."}"#, Format::Text, "Once upon a time.<|endoftext|>"),
        (
            r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"}]}"#,
            Format::Chat,
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:Yo<|endoftext|>",
        ),
    ];
    for (row, format, wanted) in cases {
        let files = [
            row.to_owned(),
            format!("{row}\n{row}\n"),
            format!("\u{feff}{row}\r\n\r\n  \r\n{row}"),
            format!("[{row}]"),
            format!("\u{feff} [\n  {row},\r\n  {row}\n]\n\n"),
        ];
        for file in files {
            let dataset = read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
            assert_eq!(dataset.report.file.format, Some(format), "{file}");
            assert_eq!(dataset.report.file.n_skipped(), 0, "{file}");
            assert!(texts(&dataset).iter().all(|text| text == wanted), "{file}: {:?}", texts(&dataset));
            assert_eq!(dataset.training.len() as u64, dataset.report.file.rows);
        }
    }
}

const GOOD: &str = r#"{"instruction":"a","input":"","output":"b"}"#;
const CHAT: &str = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;

#[test]
fn every_broken_row_is_named_by_line_field_and_reason() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let many = format!(r#"{{"messages":[{}]}}"#, vec![r#"{"role":"user","content":"a"}"#; 600].join(","));
    // (a good row of the same file, the broken row, what the message says after "line 3: ")
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (GOOD, br#"{"instruction":"a","input":"","output":""}"#.to_vec(), "`output` is empty"),
        (GOOD, br#"{"instruction":"a","input":"","output":" \n"}"#.to_vec(), "`output` is empty"),
        (GOOD, br#"{"instruction":"a","input":""}"#.to_vec(), "`output` is missing"),
        (GOOD, br#"{"instruction":"a","output":5}"#.to_vec(), "`output` is a number, it must be a string"),
        (GOOD, br#"{"instruction":"a","output":null}"#.to_vec(), "`output` is null, it must be a string"),
        (GOOD, br#"{"instruction":["a"],"output":"b"}"#.to_vec(), "`instruction` is an array, it must be a string"),
        (GOOD, br#"{"instruction":"a","input":{},"output":"b"}"#.to_vec(), "`input` is an object, it must be a string"),
        (GOOD, br#"{"instruction":"","input":"","output":"b"}"#.to_vec(), "`instruction` is empty"),
        (GOOD, br#"{"output":"b"}"#.to_vec(), "`instruction` is missing"),
        (
            GOOD,
            br#"{"instruction":"a","output":"b""#.to_vec(),
            "the row is not valid JSON: EOF while parsing an object",
        ),
        (
            GOOD,
            br#"{"instruction":"a" "output":"b"}"#.to_vec(),
            "the row is not valid JSON: expected `,` or `}` at column 20",
        ),
        (
            GOOD,
            br#"{'instruction':'a','output':'b'}"#.to_vec(),
            "the row is not valid JSON: key must be a string at column 2",
        ),
        (
            GOOD,
            br#"{"instruction":"a","output":"b"} {}"#.to_vec(),
            "the row is not valid JSON: trailing characters at column 34",
        ),
        (GOOD, br#"{"instruction":"a","output":"\ud800"}"#.to_vec(), "the row is not valid JSON"),
        (GOOD, b"{\"instruction\":\"a\",\"output\":\"\x01\"}".to_vec(), "the row is not valid JSON: control character"),
        (GOOD, b"{\"instruction\":\"\xff\",\"output\":\"b\"}".to_vec(), "the row is not UTF-8 from its byte 17 on"),
        (GOOD, b"{\"instruction\":\"a\",\"output\":\"\xe2\x82".to_vec(), "the row is not UTF-8 from its byte 30 on"),
        (GOOD, b"\0\0\0".to_vec(), "the row is not valid JSON: expected value at column 1"),
        (GOOD, b"[1, 2]".to_vec(), "the row is an array, it must be an object"),
        (GOOD, b"\"text\"".to_vec(), "the row is a string, it must be an object"),
        (GOOD, b"nonsense".to_vec(), "the row is not valid JSON: expected ident at column 2"),
        (GOOD, deep.into_bytes(), "the row is not valid JSON: recursion limit exceeded"),
        (CHAT, br#"{"messages":[]}"#.to_vec(), "`messages` is empty"),
        (CHAT, br#"{"messages":"hi"}"#.to_vec(), "`messages` is a string, it must be an array of messages"),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"a"},7]}"#.to_vec(),
            "`messages[1]` is a number, it must be an object",
        ),
        (CHAT, br#"{"messages":[{"role":"user"}]}"#.to_vec(), "`messages[0].content` is missing"),
        (CHAT, br#"{"messages":[{"content":"a"}]}"#.to_vec(), "`messages[0].role` is missing"),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#.to_vec(),
            "`messages[0].content` is an array, it must be a string",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"<|im_end|>","content":"a"}]}"#.to_vec(),
            "`messages[0].role` is \"<|im_end|>\", it must be one of system, user, assistant, tool",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":""}]}"#.to_vec(),
            "`messages[1].content` is empty",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"a"}]}"#.to_vec(),
            "the row has no message of the assistant, so there is nothing to learn",
        ),
        (CHAT, many.into_bytes(), "`messages` has 600 messages, the limit is 512"),
        (
            CHAT,
            br#"{"messages":[{"role":"tool","content":"a"},{"role":"assistant","content":"b"}]}"#.to_vec(),
            "the row cannot be written as a prompt: the chat template refuses these messages: roles must be",
        ),
        (
            r#"{"conversations":[{"from":"gpt","value":"b"}]}"#,
            br#"{"conversations":[{"from":"bot","value":"a"}]}"#.to_vec(),
            "`conversations[0].from` is \"bot\", it must be one of human, user, gpt, assistant, system",
        ),
        (
            r#"{"conversations":[{"from":"gpt","value":"b"}]}"#,
            br#"{"conversations":[{"from":"gpt"}]}"#.to_vec(),
            "`conversations[0].value` is missing",
        ),
        (r#"{"prompt":"a","completion":"b"}"#, br#"{"prompt":"a"}"#.to_vec(), "`completion` is missing"),
        (r#"{"question":"a","answer":"b"}"#, br#"{"question":"","answer":"b"}"#.to_vec(), "`question` is empty"),
        (r#"{"question":"a","answer":"b"}"#, br#"{"question":"a"}"#.to_vec(), "`answer` is missing"),
        (r#"{"text":"a"}"#, br#"{"text":["a"]}"#.to_vec(), "`text` is an array, it must be a string"),
        (r#"{"text":"a"}"#, br#"{"body":"a"}"#.to_vec(), "`text` is missing"),
    ];
    assert!(cases.len() >= 20);
    for (good, bad, wanted) in &cases {
        for line_end in ["\n", "\r\n"] {
            let mut file = format!("{good}{line_end}{line_end}").into_bytes();
            file.extend_from_slice(bad);
            file.extend_from_slice(format!("{line_end}{good}").as_bytes());
            let dataset = read(&file).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            assert_eq!((dataset.training.len(), dataset.report.file.rows), (2, 3), "{wanted}");
            let [problem] = &dataset.report.file.problems[..] else { panic!("{wanted}: one problem") };
            let message = problem.to_string();
            let expected = format!("line 3: {wanted}");
            assert!(message.starts_with(&expected), "{message}\n{expected}");
            assert_eq!(problem.place, Place { line: 3, row: None });

            // Alone it is an error with the same words and what to do.
            let error =
                read_with(&file, &tiny(), &DataOptions { refuse_bad_rows: true, ..options() }).expect_err("refused");
            assert_eq!(error.to_string(), message);
            let mut alone = b"\n\n".to_vec();
            alone.extend_from_slice(bad);
            let error = read(&alone);
            match error {
                Err(DataError::AllRowsBad { rows: 1, first, .. }) => assert_eq!(first.place.line, 3),
                // The first bracket makes it an array.
                Err(DataError::AllRowsBad { .. } | DataError::Truncated { .. }) if bad.starts_with(b"[") => {}
                other => panic!("{wanted}: {other:?}"),
            }
        }
    }
}

#[test]
fn rows_of_an_array_are_named_by_number_and_line() {
    let file = format!(
        "[\n  {GOOD},\n  {{\"instruction\": \"a\",\n   \"output\": 5}},\n  {{\"instruction\": \"a\",\n   \"output\" \"b\"}},\n  {{\"instruction\": \"a, \"output\": \"b\"}},\n ,\n {GOOD}\n{GOOD},\n {GOOD}]"
    );
    let dataset = read(&file).expect("two good rows");
    let messages: Vec<String> = dataset.report.file.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "row 2 (line 3): `output` is a number, it must be a string",
            "row 3 (line 6): the row is not valid JSON: expected `:` at column 13",
            "row 4 (line 7): the row is not valid JSON: expected `,` or `}` at column 22",
            "row 5 (line 8): the row is not valid JSON: EOF while parsing a value at column 0",
            "row 6 (line 10): the row is not valid JSON: trailing characters at column 1",
        ]
    );
    assert_eq!(dataset.training.len(), 2);
}

#[test]
fn files_that_are_no_data_sets_are_refused() {
    let alpaca_then_chat = format!("{GOOD}\n\n{CHAT}\n");
    let mixed_array = format!("[{GOOD},\n{CHAT}]");
    let cut_array = format!("[{GOOD},\n{GOOD},\n{{\"instruction\": \"a");
    let after = format!("[{GOOD}]\n{GOOD}");
    let cases: [(&[u8], &str); 14] = [
        (b"", "there are no rows in train.jsonl"),
        (b"\xef\xbb\xbf\r\n \n", "there are no rows in train.jsonl"),
        (b"[]", "there are no rows in train.jsonl"),
        (b" [ \n ] ", "there are no rows in train.jsonl"),
        (b"[", "the file ends at line 1 before the array is closed"),
        (cut_array.as_bytes(), "the file ends at line 3 before the array is closed; the last row begins at line 3"),
        (after.as_bytes(), "line 2: there is more text after the end of the array"),
        (alpaca_then_chat.as_bytes(), "line 3: the row is of the format chat, those before it are alpaca: train.jsonl"),
        (mixed_array.as_bytes(), "row 2 (line 2): the row is of the format chat, those before it are alpaca"),
        (b"\x1f\x8b\x08\x00", "the data are a gzip archive"),
        (b"PAR1\x15\x04", "the data are a Parquet file"),
        (b"\xff\xfe{\0", "the data are text in UTF-16"),
        (b"{\n  \"a\": 1\n}", "none of 3 rows can be used; the first: line 1: the row is not valid JSON: EOF"),
        (
            br#"{"q":"a","a":"b"}"#,
            "none of 1 rows can be used; the first: line 1: the row has no field by which a format is known; its fields are a, q",
        ),
    ];
    for (file, wanted) in cases {
        let error = read(file).expect_err("no data set");
        assert!(error.to_string().starts_with(wanted), "{error}\n{wanted}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
    }
}

#[test]
fn bad_rows_are_counted_and_the_first_are_named() {
    let mut file = String::new();
    for _ in 0..30 {
        file.push_str(&format!("{GOOD}\n{{\"instruction\":\"a\",\"output\":\"\"}}\nbroken\n"));
    }
    let options = DataOptions { problems_kept: 3, ..options() };
    let dataset = read_with(file.as_bytes(), &tiny(), &options).expect("30 good rows");
    let report = dataset.report.to_string();
    assert!(
        report.starts_with(
            "90 alpaca rows\n60 rows skipped: 30 empty, 30 not valid JSON\n  line 2: `output` is empty\n  line 3: the row is not valid JSON: expected value at column 1\n  line 5: `output` is empty\n  and 57 more\n"
        ),
        "{report}"
    );
    let json = serde_json::to_value(&dataset.report).expect("JSON");
    assert_eq!(json["file"]["skipped"]["empty"], 30);
    assert_eq!(json["file"]["problems"][0]["place"]["line"], 2);
    assert_eq!(json["file"]["problems"][0]["reason"], "is empty");
}

#[test]
fn a_row_of_32_mb_is_passed_over_without_being_kept() {
    let huge = std::io::repeat(b'x').take(32 << 20);
    let head = format!("{GOOD}\n{{\"instruction\":\"");
    let tail = format!("\",\"output\":\"b\"}}\n{GOOD}\n");
    let mut reader = std::io::BufReader::new(head.as_bytes().chain(huge).chain(tail.as_bytes()));
    let dataset = Dataset::read((&mut reader as &mut dyn BufRead, "x"), None, &tiny(), &options(), &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("two good rows");
    assert_eq!(dataset.training.len(), 2);
    let problem = dataset.report.file.problems[0].to_string();
    assert_eq!(problem, "line 2: the row has 33554464 bytes, the limit is 16777216");
}

#[test]
fn placeholders_are_replaced_once_and_named_if_left() {
    let file = r#"{"instruction":"Who are you?","input":"","output":"I am {{name}} by {{author}}, {{name}}."}"#;
    let left = read(file).expect("a row");
    assert_eq!(left.report.file.placeholders, 1);
    assert!(left.report.to_string().contains("1 row with {{name}} or {{author}} left in it"), "{}", left.report);
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let substitutions = vec![pair("{{name}}", "{{author}}"), pair("{{author}}", "Ann")];
    let dataset = read_with(file.as_bytes(), &tiny(), &DataOptions { substitutions, ..options() }).expect("a row");
    assert!(texts(&dataset)[0].ends_with("I am {{author}} by Ann, {{author}}.<|endoftext|>"), "{:?}", texts(&dataset));
    let empty = DataOptions { substitutions: vec![pair("", "x")], ..options() };
    assert!(matches!(read_with(file.as_bytes(), &tiny(), &empty), Err(DataError::Setting { .. })));
}

#[test]
fn files_are_opened_and_missing_ones_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (train, val) = (folder.path().join("train.json"), folder.path().join("val.jsonl"));
    // JSON Lines in a file called .json, as many are.
    std::fs::write(&train, format!("{GOOD}\n{}\n", GOOD.replace('b', "c"))).expect("written");
    std::fs::write(&val, format!("[{GOOD}]")).expect("written");
    let mut seen = 0;
    let mut count = |rows: u64| {
        seen = rows;
        ControlFlow::Continue(())
    };
    let dataset = Dataset::open(&train, Some(&val), &tiny(), &options(), &mut count).expect("two files");
    assert_eq!(seen, 3);
    assert_eq!((dataset.training.len(), dataset.validation.len()), (1, 1));
    assert_eq!(dataset.report.file.also_in_validation, 1);
    let missing = folder.path().join("missing.json");
    let error = Dataset::open(&missing, None, &tiny(), &options(), &mut |_| ControlFlow::Continue(()));
    assert!(error.expect_err("missing").to_string().ends_with("missing.json"));
    let stopped = Dataset::open(&train, None, &tiny(), &options(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(DataError::Cancelled)));
}

#[test]
fn an_unknown_template_or_setting_is_refused() {
    let unknown = DataOptions { template: Template::Named("vicuna".to_owned()), ..options() };
    let error = read_with(GOOD.as_bytes(), &tiny(), &unknown).expect_err("unknown");
    assert!(error.to_string().contains("vicuna") && error.hint().is_some(), "{error}");
    let short = DataOptions { max_tokens: 1, ..options() };
    assert_eq!(
        read_with(GOOD.as_bytes(), &tiny(), &short).expect_err("too short").to_string(),
        "max_tokens is 1, it must be at least 2"
    );
}
