//! The first model, fetched from a stand-in for its publisher: nothing before somebody says yes, then all of it.

use std::borrow::Cow;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use adapter_desktop::{ModelState, Offer, Start};
use adapter_host::fetch::Published;
use sha2::{Digest as _, Sha256};

use crate::support::{Window, chat_model};

fn hash(bytes: &[u8]) -> Cow<'static, str> {
    Cow::Owned(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The tiny chat model.
fn file() -> Vec<u8> {
    std::fs::read(chat_model()).expect("the model")
}

/// What is on offer at an address.
fn offer(file: &[u8], address: String, folder: &Path) -> Offer {
    let published = Published {
        name: "Tiny-Chat",
        about: "For tests.",
        licence: "MIT",
        file: "tiny-chat.gguf",
        bytes: file.len() as u64,
        sha256: hash(file),
        address: Cow::Owned(address),
    };
    Offer { published, folder: Some(folder.to_owned()) }
}

/// An offer that nobody serves.
pub fn nowhere(folder: &Path) -> Offer {
    offer(b"a file", "http://127.0.0.1:9/tiny-chat.gguf".to_owned(), folder)
}

/// A server that cuts the first connection in the middle; how many connections there were, and how many bytes it sends first.
fn server(file: Vec<u8>, cut: Arc<Mutex<Option<usize>>>) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/tiny-chat.gguf", listener.local_addr().expect("known"));
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            counted.fetch_add(1, Ordering::SeqCst);
            let lines = BufReader::new(stream.try_clone().expect("two ends")).lines().map_while(Result::ok);
            let range = lines
                .take_while(|line| !line.is_empty())
                .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(|from| from.replace('-', "")));
            let first: usize = range.and_then(|from| from.parse().ok()).unwrap_or(0);
            let head = if first > 0 {
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{}/{}", file.len() - 1, file.len())
            } else {
                "200 OK".to_owned()
            };
            let cut = cut.lock().expect("not poisoned").take();
            let end = cut.map_or(file.len(), |cut| (first + cut).min(file.len()));
            let length = file.len() - first;
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&file[first..end]));
        }
    });
    (address, count)
}

#[test]
fn the_small_model_is_fetched_when_somebody_says_yes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = file();
    let cut = Arc::new(Mutex::new(Some(file.len() / 2)));
    let (address, connections) = server(file.clone(), cut);
    let start = Start { offer: Some(offer(&file, address, folder.path())), ..Start::default() };
    let mut window = Window::with(start);
    window.settle();
    assert!(
        window.has("Tiny-Chat") && window.says("licence MIT") && window.says("127.0.0.1"),
        "what it is, and from where"
    );
    window.press("Fetch this model");
    assert!(window.has("Fetch Tiny-Chat?") && window.says("SHA-256") && window.says("/tiny-chat.gguf"), "asked before");
    window.press("Cancel");
    assert_eq!(connections.load(Ordering::SeqCst), 0, "nothing was connected to");
    window.press("Fetch this model");
    window.press("Fetch");
    window.wait("the model", |app| matches!(app.model_state(), ModelState::Ready(_)));
    assert_eq!(connections.load(Ordering::SeqCst), 2, "the cut connection went on");
    assert_eq!(std::fs::read(folder.path().join("tiny-chat.gguf")).expect("kept"), file);
    window.app_mut().settings_mut().answering.max_tokens = 4;
    window.ask("Hi");
    assert_eq!(window.shown().len(), 2, "it answers");
}

#[test]
fn a_fetch_that_fails_says_why_and_can_go_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut window = Window::with(Start { offer: Some(nowhere(folder.path())), ..Start::default() });
    window.settle();
    window.press("Fetch this model");
    window.press("Fetch");
    window.wait("the reason", |app| app.newest_notice().is_some());
    let said = window.app().newest_notice().expect("said");
    assert!(said.contains("The model could not be fetched") && said.contains("127.0.0.1 cannot be reached"), "{said}");
    assert!(said.contains("Connect to the network"), "{said}");
    window.press_last("Close this notice");
    assert!(window.has("Fetch this model"), "it can be tried again");
    // What came of an earlier fetch is not fetched again.
    let file = file();
    let begun = offer(&file, "http://127.0.0.1:9/tiny-chat.gguf".to_owned(), folder.path());
    std::fs::write(folder.path().join("tiny-chat.gguf.download"), &file[..1000]).expect("written");
    drop(window);
    let mut window = Window::with(Start { offer: Some(begun), ..Start::default() });
    window.settle();
    assert!(window.has("Go on fetching this model") && window.says("1000 B of it are here"));
}
