//! `chat` through a pipe.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use crate::support::*;

/// Lines for a chat with short answers; the tiny model has no control tokens and a context of 128.
fn chat(home: &Home, flags: &str, lines: &[&str]) -> Outcome {
    let line = format!("chat -m TINY --template chatml --greedy -n 4 {flags}");
    home.run_with(&line, &lines.join("\n"), &[])
}

#[test]
fn a_chat_goes_line_by_line_through_a_pipe() {
    let home = Home::new();
    let outcome = chat(
        &home,
        "",
        &[
            "Hi",
            "/show messages",
            "/save chat.json",
            "/clear",
            "/show messages",
            "/load chat.json",
            "/regen",
            "/bye",
            "never",
        ],
    );
    assert_done(&outcome);
    assert!(outcome.stdout.contains("user: Hi\nassistant: "), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("  no messages yet\n"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains(">>>") && !outcome.stdout.contains("never"));
    let saved = json(&std::fs::read_to_string(home.path("chat.json")).expect("it was saved"));
    assert_eq!(saved["messages"][0]["content"], "Hi");
    assert_eq!(saved["messages"][1]["role"], "assistant");
    assert!(!home.path(".local").exists(), "a pipe leaves no history");
}

#[test]
fn a_chat_goes_on_after_a_mistake_and_says_so_at_the_end() {
    let home = Home::new();
    let outcome = chat(
        &home,
        "",
        &["/foo", "/set temperature hot", "/adapter on", "/regen", "/load none.json", "/set top-k 5", "/show settings"],
    );
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let errors: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let hints = outcome.stderr.lines().filter(|line| line.starts_with("hint: ")).count();
    assert_eq!((errors.len(), hints), (5, 5), "{}", outcome.stderr);
    let setting = |name: &str| outcome.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
    assert!(setting("top-k").is_some_and(|line| line.contains(" 5 ")), "{}", outcome.stdout);
}

/// The engine has no clock: this program says which day it is.
#[test]
fn a_template_that_asks_for_the_date_gets_it() {
    let home = Home::new();
    let answer = |name: &str, date: &str| {
        let template = format!("{date} {{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}:");
        adapter_tests::write_tiny_chat(&home.path(name), &template);
        let outcome = home.run_with(&format!("chat -m HERE/{name} --greedy -n 12"), "Hi\n/save chat.json\n/bye\n", &[]);
        assert_done(&outcome);
        let chat = json(&std::fs::read_to_string(home.path("chat.json")).expect("it was saved"));
        chat["messages"][1]["content"].clone()
    };
    let this_year = Command::new("date").arg("+%Y").output().expect("date");
    let this_year = String::from_utf8_lossy(&this_year.stdout).trim().to_owned();
    let asked = answer("asks.gguf", "{{ strftime_now('%Y') }}");
    assert_eq!(asked, answer("says.gguf", &this_year));
    assert_ne!(asked, answer("other.gguf", "1999"));
}

#[test]
fn adapters_are_switched_in_a_chat_without_a_trace() {
    let home = Home::new();
    let paper = format!("/adapter {} paper", tiny("adapter-paper.safetensors"));
    let lines =
        ["Hi", "/clear", &paper, "Hi", "/clear", "/adapter off", "Hi", "/adapter 0", "/clear", "Hi", "/adapter list"];
    let outcome = chat(&home, "", &lines);
    assert_done(&outcome);
    let answers: Vec<String> = {
        // Every answer is a line; the lines about adapters begin with two spaces.
        let text = outcome.stdout.replace("  adapter ", "\u{0}");
        text.split('\n').filter(|line| !line.starts_with('\u{0}') && !line.is_empty()).map(str::to_owned).collect()
    };
    assert!(answers.len() >= 4, "{answers:?}");
    assert_eq!(answers.first(), answers.last(), "strength 0 is the base model");
    assert!(
        outcome.stdout.contains("adapter-paper: off") && outcome.stdout.contains("strength 0"),
        "{}",
        outcome.stdout
    );
    let outcome = chat(&home, "", &[&format!("/adapter {}", tiny("peft")), "/show adapter"]);
    assert!(outcome.stdout.contains("peft gates, 10 prompt tokens in layers 1 to 3"), "{}", outcome.stdout);
}

#[test]
fn a_message_may_have_several_lines() {
    let home = Home::new();
    let outcome = chat(&home, "", &["\"\"\"one", "two\"\"\"", "/show messages"]);
    assert_done(&outcome);
    assert!(outcome.stdout.contains("user: one\ntwo\n"), "{}", outcome.stdout);
}

#[test]
fn a_chat_warns_before_its_context_is_full_and_stops_when_it_is() {
    let home = Home::new();
    let long = "a".repeat(85);
    let outcome = chat(&home, "", &[&long, &long, "/show messages"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("of 128 tokens: an answer can have"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("error: the conversation has "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: /clear begins a new one"), "{}", outcome.stderr);
    let kept = outcome.stdout.lines().filter(|line| line.starts_with("user: ")).count();
    assert_eq!(kept, 1, "the message that did not fit is not kept");
}

#[test]
fn a_file_that_is_no_chat_is_not_replaced() {
    let home = Home::new();
    home.write("notes.txt", "notes");
    let outcome = chat(&home, "", &["/save notes.txt"]);
    assert_refused(&outcome, "/save", 1, "no saved chat", "another name");
    assert_eq!(std::fs::read_to_string(home.path("notes.txt")).expect("still there"), "notes");
}

#[cfg(unix)]
#[test]
fn ctrl_c_while_waiting_for_a_line_leaves_with_130() {
    let home = Home::new();
    let mut child =
        command(home.0.path()).args(["chat", "-m", &tiny("tiny-f32.gguf")]).spawn().expect("it can be started");
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(b"/show settings\n").expect("it reads");
    let mut output = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it answers");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    assert_eq!(finish(child).code, Some(130));
    drop((input, output));
}
