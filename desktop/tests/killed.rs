//! A program that is killed at any moment loses no finished message.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use adapter_desktop::chat::{Chat, Role};
use adapter_desktop::history::History;

const FOLDER: &str = "ADAPTER_DESKTOP_KILLED";
const KILLS: u64 = 20;

/// Not a test of its own: the program that is killed. It talks as fast as it can, and says of each message when it is kept.
#[test]
#[expect(clippy::print_stdout, reason = "that is how it says so")]
fn talks_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let history = History::open(Path::new(&folder)).expect("a folder");
    for _ in 0.. {
        let mut chat = Chat::default();
        for n in 0..40 {
            let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
            let id = chat.add(chat.leaf.clone(), role, format!("message {n} {}", "and more of it ".repeat(200)));
            history.save(&chat);
            history.flush();
            println!("kept {} {id}", chat.id);
        }
    }
}

#[test]
fn twenty_kills_lose_no_finished_message() {
    let (mut n_kept, mut n_left) = (0, 0);
    for kill in 0..KILLS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "talks_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        // The first message shows that it is at work; from there on the moment is as good as random.
        let mut lines = String::new();
        while !lines.contains("kept ") {
            assert!(said.read_line(&mut lines).expect("readable") > 0, "it ended before it said anything");
        }
        std::thread::sleep(Duration::from_micros(700 * (kill * kill * 7919 % 97)));
        child.kill().expect("killed");
        child.wait().expect("gone");
        said.read_to_string(&mut lines).expect("readable");
        let kept: Vec<(&str, &str)> = lines
            .lines()
            .filter_map(|line| line.split_once("kept ").and_then(|(_, rest)| rest.split_once(' ')))
            // The last line may have been cut off.
            .filter(|(chat, message)| chat.len() == 32 && message.len() == 32)
            .collect();
        let (chats, problems) = History::open(folder.path()).expect("a folder").load();
        assert!(problems.is_empty(), "kill {kill}: {problems:?}");
        for (chat, message) in &kept {
            let found = chats.iter().find(|known| known.id == *chat).and_then(|chat| chat.find(message));
            assert!(found.is_some_and(|message| message.content.len() > 2000), "kill {kill}: {message} is lost");
        }
        n_kept += kept.len();
        let partial = std::fs::read_dir(folder.path().join("chats")).expect("there").flatten();
        n_left += partial.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "partial")).count();
    }
    assert!(n_kept as u64 > KILLS, "only {n_kept} messages in all");
    assert!(n_left as u64 <= KILLS, "{n_left} temporary files");
}
