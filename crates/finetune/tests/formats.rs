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
        (GOOD, br#"{"instruction":"a","output":["b"]}"#.to_vec(), "`output` is an array, it must be a string"),
        (GOOD, br#"{"instruction":"a","output":null}"#.to_vec(), "`output` is missing"),
        (
            GOOD,
            br#"{"instruction":"a","output":123456789012345678901234567890}"#.to_vec(),
            "`output` is a number of more digits than can be kept: write it in quotes",
        ),
        (
            GOOD,
            br#"{"instruction":"a","output":"b","history":[["x"]]}"#.to_vec(),
            "`history[0]` is an array, it must be a pair of question and answer",
        ),
        (GOOD, br#"{"instruction":"a","output":"b","history":[["x",""]]}"#.to_vec(), "`history[0]` is empty"),
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
        (GOOD, b"nonsense".to_vec(), "the row is not valid JSON: expected true, false or null at column 2"),
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
            "`messages[0].content[0].text` is missing",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":"x"}]}]}"#
                .to_vec(),
            "`messages[0].content[1]` is a part of the type \"image_url\"; only text can be read",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":{"text":"a"}}]}"#.to_vec(),
            "`messages[0].content` is an object, it must be a string",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0.5}]}"#.to_vec(),
            "`messages[1].weight` is 0.5, it must be 0 or 1, or true or false",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train":"maybe"}]}"#.to_vec(),
            "`messages[1].train` is \"maybe\", it must be 0 or 1, or true or false",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":1}]}]}"#
                .to_vec(),
            "`messages[1].content` is empty: the answer only calls a function, and calls are not read",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"<|im_end|>","content":"a"}]}"#.to_vec(),
            "`messages[0].role` is \"<|im_end|>\", it must be one of system, developer, user, human",
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
            br#"{"conversations":[{"from":"narrator","value":"a"}]}"#.to_vec(),
            "`conversations[0].from` is \"narrator\", it must be one of system, developer, user, human",
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
        "[\n  {GOOD},\n  {{\"instruction\": \"a\",\n   \"output\": []}},\n  {{\"instruction\": \"a\",\n   \"output\" \"b\"}},\n  {{\"instruction\": \"a, \"output\": \"b\"}},\n ,\n {GOOD}\n{GOOD},\n {GOOD}, {GOOD}, {GOOD}, {GOOD}]"
    );
    let dataset = read(&file).expect("two good rows");
    let messages: Vec<String> = dataset.report.file.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "row 2 (line 3): `output` is an array, it must be a string",
            "row 3 (line 6): the row is not valid JSON: expected `:` at column 13",
            "row 4 (line 7): the row is not valid JSON: expected `,` or `}` at column 22",
            "row 5 (line 8): the row is not valid JSON: EOF while parsing a value at column 0",
            "row 6 (line 10): the row is not valid JSON: trailing characters at column 1",
        ]
    );
    assert_eq!(dataset.training.len(), 5);
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
        file.push_str(&format!("{GOOD}\n{{\"instruction\":\"a\",\"output\":\"\"}}\nbroken\n{GOOD}\n"));
    }
    let options = DataOptions { problems_kept: 3, ..options() };
    let dataset = read_with(file.as_bytes(), &tiny(), &options).expect("60 good rows");
    let report = dataset.report.to_string();
    assert!(
        report.starts_with(
            "120 alpaca rows\n60 rows skipped: 30 empty, 30 not valid JSON\n  line 2: `output` is empty\n  line 3: the row is not valid JSON: expected value at column 1\n  line 6: `output` is empty\n  and 57 more\n"
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

/// The first row of `file`, in the template of alpaca.
fn first(file: &str) -> (Dataset, String) {
    let dataset = read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let text = texts(&dataset).swap_remove(0);
    (dataset, text)
}

/// What stands behind the heading of alpaca's template.
fn body(text: &str) -> &str {
    text.split_once("### Instruction:").map_or(text, |(_, body)| body)
}

#[test]
fn what_is_well_defined_is_read() {
    // (the row, what stands behind "### Instruction:")
    let cases = [
        (r#"{"instruction":"a","input":"","context":"c","output":"b"}"#, "\na\n\n### Input:\nc\n\n### Response:b"),
        (r#"{"instruction":"a","input":"i","context":"c","output":"b"}"#, "\na\n\n### Input:\nc\ni\n\n### Response:b"),
        (r#"{"instruction":"a","input":"c","context":"c","output":"b"}"#, "\na\n\n### Input:\nc\n\n### Response:b"),
        (r#"{"question":"a","context":"c","answer":"b"}"#, "\na\n\n### Input:\nc\n\n### Response:b"),
        (r#"{"question":"a","passage":"c","answer":true}"#, "\na\n\n### Input:\nc\n\n### Response:true"),
        (
            r#"{"question":"a","context":"c","answers":{"text":["b"],"answer_start":[0]},"title":"","id":null}"#,
            "\na\n\n### Input:\nc\n\n### Response:b",
        ),
        (r#"{"question":"a","answer":["b"]}"#, "\na\n\n### Response:b"),
        (r#"{"question":"a","answers":[{"text":"b"},{"text":"b"}]}"#, "\na\n\n### Response:b"),
        (r#"{"prompt":"a","input":"c","completion":"b"}"#, "\na\n\n### Input:\nc\n\n### Response:b"),
        (r#"{"query":"a","response":"b"}"#, "\na\n\n### Response:b"),
        (r#"{"input":"a","output":"b"}"#, "\na\n\n### Response:b"),
        (r#"{"instruction":"a","output":3}"#, "\na\n\n### Response:3"),
        (r#"{"instruction":"a","output":-2.5}"#, "\na\n\n### Response:-2.5"),
        (r#"{"instruction":7,"output":false}"#, "\n7\n\n### Response:false"),
        (
            r#"{"instruction":"a","output":"b","history":[["q","r"],["s","t"]]}"#,
            "\nq\n\n### Response:r<|endoftext|>\n\n### Instruction:\ns\n\n### Response:t<|endoftext|>\n\n### Instruction:\na\n\n### Response:b",
        ),
        (
            r#"{"query":"a","response":"b","history":[{"role":"user","content":"q"},{"role":"assistant","content":"r"}]}"#,
            "\nq\n\n### Response:r<|endoftext|>\n\n### Instruction:\na\n\n### Response:b",
        ),
        (r#"{"prompt":"a","chosen":"b"}"#, "\na\n\n### Response:b"),
        (r#"{"instruction":"a","input":"c","chosen":"b"}"#, "\na\n\n### Input:\nc\n\n### Response:b"),
        (r#"{"chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#, "\na\n\n### Response:b"),
        (
            r#"{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]}"#,
            "\na\n\n### Response:b",
        ),
        (
            r#"{"conversations":[{"from":"human","value":"a"}],"chosen":{"from":"gpt","value":"b"}}"#,
            "\na\n\n### Response:b",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"!"}]},{"role":"assistant","content":[{"type":"output_text","text":"b"}]}]}"#,
            "\na!\n\n### Response:b",
        ),
        (r#"{"messages":[{"role":"Human","content":"a"},{"role":"model","content":"b"}]}"#, "\na\n\n### Response:b"),
        (r#"{"messages":[{"role":"human","content":"a"},{"role":"gpt","content":"b"}]}"#, "\na\n\n### Response:b"),
        (r#"{"conversations":[{"from":"user","value":"a"},{"from":"bot","value":"b"}]}"#, "\na\n\n### Response:b"),
        (
            r#"{"conversation":[{"role":"prompter","content":"a"},{"role":"ai","content":"b"}]}"#,
            "\na\n\n### Response:b",
        ),
        // Columns that are null are not there, whichever format they would make it.
        (
            r#"{"messages":null,"conversations":null,"chosen":null,"instruction":null,"prompt":"a","completion":"b","text":null}"#,
            "\na\n\n### Response:b",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a","tool_calls":null,"weight":null},{"role":"assistant","content":"b","name":null}]}"#,
            "\na\n\n### Response:b",
        ),
    ];
    for (row, wanted) in cases {
        let (dataset, text) = first(row);
        assert_eq!(body(&text), format!("{wanted}<|endoftext|>"), "{row}");
        assert_eq!(dataset.report.file.unread_fields(), "", "{row}");
    }
    // A system text beside what is said, under both names, in every format.
    for (row, unread) in [
        (r#"{"system":"S.","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#, ""),
        (r#"{"system_prompt":"S.","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#, ""),
        (r#"{"system":"S.","conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}"#, ""),
        (r#"{"system_prompt":"S.","instruction":"a","output":"b"}"#, ""),
        (r#"{"system":"S.","prompt":"a","completion":"b"}"#, ""),
        (r#"{"system":"S.","prompt":"a","chosen":"b"}"#, ""),
        (
            r#"{"messages":[{"role":"developer","content":"S."},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            "",
        ),
        (
            r#"{"system":"Other.","messages":[{"role":"system","content":"S."},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            "system (1 row)",
        ),
    ] {
        let (dataset, text) = first(row);
        assert_eq!(text, "S.\n\n### Instruction:\na\n\n### Response:b<|endoftext|>", "{row}");
        assert_eq!(dataset.report.file.unread_fields(), unread, "{row}");
    }
}

#[test]
fn every_other_field_is_named_with_its_rows() {
    let file = [
        r#"{"instruction":"a","output":"b","category":"qa","id":7,"tools":[{"name":"f"}],"note":""}"#,
        r#"{"instruction":"a","output":"c","category":"qa","rejected":"d","meta":{"x":1},"tags":[],"label":3,"loss":0.25}"#,
    ]
    .join("\n");
    let report = read(&file).expect("two rows").report;
    let wanted = "fields that are not read: category (2 rows), id (1 row), label (1 row), loss (1 row), meta (1 row), rejected (1 row), tools (1 row)";
    assert!(report.to_string().lines().any(|line| line == wanted), "{report}");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["file"]["unread"]["category"], 2);

    // The chosen answer of a preference, the first of several answers, what hangs on messages, calls of tools.
    for (row, wanted) in [
        (r#"{"prompt":"a","chosen":"b","rejected":"c"}"#, "rejected (1 row)"),
        (
            r#"{"question":"a","answers":{"text":["b","c"],"answer_start":[0,1]}}"#,
            "answers.text (all but the first) (1 row)",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a","name":"Ann"},{"role":"assistant","content":"b","reasoning_content":"hm","thinking":"hm"}],"mask":"User"}"#,
            "mask (1 row), messages[].name (1 row), messages[].reasoning_content (1 row), messages[].thinking (1 row)",
        ),
        (
            r#"{"messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":"Let me look.","tool_calls":[{"type":"function","function":{"name":"weather"}}]}],"tools":[{"type":"function"}]}"#,
            "messages[].tool_calls (1 row), tools (1 row)",
        ),
        // Only answers are learnt.
        (
            r#"{"messages":[{"role":"user","content":"a","train":true},{"role":"assistant","content":"b"}]}"#,
            "messages[].train (1 row)",
        ),
    ] {
        assert_eq!(first(row).0.report.file.unread_fields(), wanted, "{row}");
    }

    // However many there are.
    let fields: Vec<String> = (0..400).map(|n| format!(r#""field{n}":1"#)).collect();
    let rows: Vec<String> = fields.chunks(40).map(|some| format!(r#"{{"text":"a",{}}}"#, some.join(","))).collect();
    let report = read(rows.join("\n")).expect("ten rows").report;
    assert_eq!((report.file.unread.len(), report.file.more_unread), (100, 8));
    assert!(report.to_string().contains(", others (8 rows)"), "{report}");
}

#[test]
fn what_is_marked_is_not_learnt() {
    // Rows: one of two is left.
    for mark in [
        r#""label":false"#,
        r#""kto_tag":false"#,
        r#""train":false"#,
        r#""training":false"#,
        r#""loss":false"#,
        r#""learn":"False""#,
        r#""weight":0"#,
        r#""weight":0.0"#,
        r#""train":0"#,
    ] {
        for row in [
            r#"{"prompt":"a","completion":"bad",MARK}"#,
            r#"{"instruction":"a","output":"bad",MARK}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"bad"}],MARK}"#,
            r#"{"text":"bad",MARK}"#,
        ] {
            let bad = row.replace("MARK", mark);
            let good = row.replace("bad", "good").replace(
                "MARK",
                &mark
                    .replace(":false", ":true")
                    .replace(":\"False\"", ":true")
                    .replace(":0.0", ":1")
                    .replace(":0", ":1"),
            );
            let (dataset, text) = first(&format!("{good}\n{bad}"));
            assert!(text.contains("good") && dataset.training.len() == 1, "{bad}");
            assert_eq!(
                (dataset.report.file.left_out, dataset.report.file.unread_fields()),
                (1, String::new()),
                "{bad}"
            );
            assert!(dataset.report.to_string().contains("\n1 row left out, as they are marked"), "{}", dataset.report);
            let error = read(&bad).expect_err("nothing is left");
            assert!(matches!(error, DataError::AllRowsMarked { rows: 1, .. }) && error.hint().is_some(), "{error}");
        }
    }
    // A class, a figure, a share: they say nothing about it and are named.
    for mark in [r#""label":0"#, r#""loss":0"#, r#""weight":0.5"#, r#""train":"train""#] {
        let (dataset, _) = first(&format!(r#"{{"prompt":"a","completion":"b",{mark}}}"#));
        assert_eq!((dataset.training.len(), dataset.report.file.unread.len()), (1, 1), "{mark}");
    }
}

#[test]
fn above_half_of_the_rows_skipped_is_an_error() {
    let file = |bad: usize, good: usize| {
        format!("{}{}", format!("{GOOD}\n").repeat(good), "{\"instruction\":\"a\"}\n".repeat(bad))
    };
    assert_eq!(read(file(5, 5)).expect("half of them").training.len(), 5);
    for (bad, good) in [(2, 1), (6, 5), (99, 1)] {
        let error = read(file(bad, good)).expect_err("most are bad");
        let rows = bad + good;
        let wanted = format!(
            "{bad} of {rows} rows cannot be used ({bad} field missing); the first: line {}: `output` is missing: train.jsonl",
            good + 1
        );
        assert_eq!(error.to_string(), wanted);
        assert!(error.hint().is_some_and(|hint| hint.contains("instruction")), "{error}");
    }
    // What to do depends on why.
    let long = format!("{{\"prompt\":\"{}\",\"completion\":\"b\"}}\n", "x".repeat(2000)).repeat(3);
    let hint = read(&long).expect_err("too long").hint().expect("a hint");
    assert!(hint.contains("more tokens"), "{hint}");
}

#[test]
fn a_row_of_more_than_a_mebibyte_is_named_with_its_size() {
    let file = format!("{GOOD}\n{{\"instruction\":\"{}\",\"output\":\"b\"}}\n", "x".repeat(3 << 20));
    let report = read(&file).expect("one row").report;
    assert_eq!(
        report.file.problems[0].to_string(),
        "line 2: the row cannot be written as a prompt: the messages have 3145729 bytes together, the limit is 1048576"
    );
}

#[test]
fn control_tokens_spelled_as_letters_are_counted() {
    let file = r#"{"instruction":"Say hi","output":"Hi</s>"}
{"instruction":"Say hi","output":"Hi<|endoftext|>"}
{"instruction":"Say <b>hi</b>","output":"a < b"}"#;
    let dataset = read(file).expect("three rows");
    assert_eq!(dataset.report.file.markup, 2);
    assert!(
        dataset.report.to_string().contains("2 rows in which control tokens are spelled as letters"),
        "{}",
        dataset.report
    );
    // The end token of the template is told from the letters of the row.
    let samples = dataset.training.show_sample(&tiny(), 2).expect("known ids");
    let control: Vec<&str> =
        samples[1].tokens.iter().filter(|token| token.control).map(|token| token.text.as_str()).collect();
    assert_eq!(control, ["<|endoftext|>"]);
    let text: String = samples[1].tokens.iter().map(|token| token.text.as_str()).collect();
    assert!(text.ends_with("Hi<|endoftext|><|endoftext|>"), "{text}");
}
