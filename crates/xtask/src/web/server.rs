//! Static files on this machine's own address, with the headers that any server of the page should send
//! (`web/headers.json`), byte ranges, and models on offer: put in front of those that the page brings.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The security headers, by name.
const HEADERS: &str = include_str!("../../../../web/headers.json");
/// Where the page has its list of models on offer.
const OFFERS: &str = r#"<script type="application/json" id="offers">"#;
/// The longest request line or header that is read.
const MAX_LINE_BYTES: u64 = 8192;
/// A browser that stays silent longer than this has gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A model that the page offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Where it is.
    pub path: PathBuf,
    /// What people read.
    pub about: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Offer {
    /// The small model that `cargo xtask model` fetches.
    pub fn smollm2(path: PathBuf) -> Self {
        Self {
            path,
            about: "small and quick, English",
            licence: "Apache 2.0",
            sha256: crate::model::SMOLLM2.sha256.to_owned(),
        }
    }

    fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// What is served.
#[derive(Debug)]
pub struct Site {
    /// The page: `/`.
    pub root: PathBuf,
    /// Models: `/models/NAME`, listed in the page.
    pub models: Vec<Offer>,
    /// Other folders by the first part of their address.
    pub mounts: Vec<(&'static str, PathBuf)>,
}

/// A running server. It ends with the process.
pub struct Server {
    address: SocketAddr,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    /// Serves `site` on 127.0.0.1; port 0 takes a free one.
    pub fn start(port: u16, site: Site) -> Result<Self> {
        Self::serve(port, site, headers()?)
    }

    /// As [`Self::start`], with these headers instead of the page's: for pages that are not ours.
    pub fn start_with(port: u16, site: Site, headers: &[(&str, &str)]) -> Result<Self> {
        Self::serve(port, site, headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect())
    }

    fn serve(port: u16, site: Site, headers: String) -> Result<Self> {
        let in_use = |error: std::io::Error| {
            Error::failed(format!("cannot listen on 127.0.0.1:{port}: {error}; --port names another port"))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(in_use)?;
        let address = listener.local_addr().map_err(in_use)?;
        let site = Arc::new((site, headers));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&site);
                // A browser that goes away in the middle is no error of ours.
                std::thread::spawn(move || answer(&stream, &site.0, &site.1).unwrap_or_default());
            }
        });
        Ok(Self { address, thread })
    }

    /// Where the page is. `localhost` is a secure context, as 127.0.0.1 is, and easier to read.
    pub fn url(&self) -> String {
        format!("http://localhost:{}/", self.address.port())
    }

    /// Serves until the process ends.
    pub fn wait(self) {
        let _ = self.thread.join();
    }
}

fn headers() -> Result<String> {
    let wrong = || Error::failed("web/headers.json is no object of texts");
    let parsed: Value = serde_json::from_str(HEADERS).map_err(|_| wrong())?;
    let lines = parsed.as_object().ok_or_else(wrong)?.iter();
    lines.map(|(name, value)| value.as_str().map(|value| format!("{name}: {value}\r\n")).ok_or_else(wrong)).collect()
}

/// Reads one request and answers it.
fn answer(stream: &TcpStream, site: &Site, headers: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = || -> std::io::Result<String> {
        let mut line = String::new();
        reader.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let request = line()?;
    let mut range = None;
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut out = stream;
    let mut simple = |status: &str, kind: &str, body: &[u8]| -> std::io::Result<()> {
        let length = body.len();
        write!(
            out,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n"
        )?;
        if method == "HEAD" { Ok(()) } else { out.write_all(body) }
    };
    if method != "GET" && method != "HEAD" {
        return simple("405 Method Not Allowed", "text/plain", b"only GET and HEAD\n");
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if (path == "/" || path == "/index.html")
        && !site.models.is_empty()
        && let Some(page) =
            std::fs::read_to_string(site.root.join("index.html")).ok().and_then(|page| with_offers(&page, &site.models))
    {
        return simple("200 OK", "text/html; charset=utf-8", page.as_bytes());
    }
    let Some(mut file) = locate(site, path).and_then(|path| Some((File::open(&path).ok()?, path))) else {
        return simple("404 Not Found", "text/plain", b"there is no such file\n");
    };
    let length = file.0.metadata()?.len();
    let part = match range.as_deref().map(|range| parse_range(range, length)) {
        None => None,
        Some(Some(part)) => Some(part),
        Some(None) => return simple("416 Range Not Satisfiable", "text/plain", b"no such bytes\n"),
    };
    let (status, first, end) = match part {
        None => ("200 OK", 0, length),
        Some((first, end)) => ("206 Partial Content", first, end),
    };
    let mut out = stream;
    write!(out, "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\n", kind_of(&file.1), end - first)?;
    if part.is_some() {
        write!(out, "Content-Range: bytes {first}-{}/{length}\r\n", end - 1)?;
    }
    write!(out, "Accept-Ranges: bytes\r\nCache-Control: no-cache\r\n{headers}Connection: close\r\n\r\n")?;
    if method == "HEAD" {
        return Ok(());
    }
    file.0.seek(SeekFrom::Start(first))?;
    std::io::copy(&mut file.0.take(end - first), &mut out)?;
    Ok(())
}

/// The page with these models in front of those on offer that it brings; a copy of one of them takes its place. `None` where the
/// page has no list.
fn with_offers(page: &str, models: &[Offer]) -> Option<String> {
    let (before, rest) = page.split_once(OFFERS)?;
    let (list, after) = rest.split_once("</script>")?;
    let entry = |offer: &Offer| {
        let name = offer.name();
        let bytes = std::fs::metadata(&offer.path).map_or(0, |about| about.len());
        json!({ "name": name, "url": format!("./models/{name}"), "bytes": bytes, "sha256": offer.sha256,
            "about": offer.about, "licence": offer.licence })
    };
    let brought: Vec<Value> = serde_json::from_str(list).ok()?;
    let is_other = |offered: &Value| models.iter().all(|model| offered["sha256"] != model.sha256.as_str());
    let all: Vec<Value> = models.iter().map(entry).chain(brought.into_iter().filter(is_other)).collect();
    // No text of the list can end the element.
    let list = Value::from(all).to_string().replace('<', "\\u003c");
    Some(format!("{before}{OFFERS}{list}</script>{after}"))
}

/// The file that an address means, if it means one of ours.
fn locate(site: &Site, path: &str) -> Option<PathBuf> {
    let decoded = decode(path.strip_prefix('/')?)?;
    if let Some(name) = decoded.strip_prefix("models/") {
        return site.models.iter().find(|offer| offer.name() == name).map(|offer| offer.path.clone());
    }
    let (first, rest) = decoded.split_once('/').unwrap_or((&decoded, ""));
    let mounted = site.mounts.iter().find(|(name, _)| *name == first);
    let (folder, relative) = mounted.map_or((&site.root, decoded.as_str()), |(_, folder)| (folder, rest));
    let relative = if relative.is_empty() { "index.html" } else { relative };
    // No `..`, no root, no drive: what is outside the folder is nobody's business.
    if !Path::new(relative).components().all(|component| matches!(component, Component::Normal(_))) {
        return None;
    }
    Some(folder.join(relative)).filter(|path| path.is_file())
}

/// `%20` and the like.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            0 | b'\\' => return None,
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// `bytes=first-last`, `bytes=first-` or `bytes=-count`, as first and end.
fn parse_range(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first.trim(), last.trim()) {
        ("", count) => (length.saturating_sub(count.parse().ok()?), length),
        (first, "") => (first.parse().ok()?, length),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?.min(length)),
    };
    (first < end).then_some((first, end))
}

fn kind_of(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Scratch;

    #[test]
    fn ranges_are_read_as_http_means_them() {
        assert_eq!(parse_range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(parse_range("bytes=90-", 100), Some((90, 100)));
        assert_eq!(parse_range("bytes=-10", 100), Some((90, 100)));
        assert_eq!(parse_range("bytes=90-500", 100), Some((90, 100)));
        for none in ["bytes=100-", "bytes=5-4", "bytes=-0", "lines=0-9", "bytes=a-b", "bytes=0-18446744073709551615x"] {
            assert_eq!(parse_range(none, 100), None, "{none}");
        }
    }

    #[test]
    fn models_of_this_machine_come_before_those_that_the_page_brings() {
        let model = |name: &str, sha256: &str| Offer {
            path: name.into(),
            about: "a </script> of its own",
            licence: "none",
            sha256: sha256.to_owned(),
        };
        let page = format!(
            r#"<head>{OFFERS}[{{"name":"far","url":"https://far/a","sha256":"aa"}},{{"name":"other","sha256":"bb"}}]</script></head>"#
        );
        let made = with_offers(&page, &[model("near.gguf", "aa"), model("new.gguf", "cc")]).expect("there is a list");
        let list = made.strip_prefix(&format!("<head>{OFFERS}")).and_then(|rest| rest.strip_suffix("</script></head>"));
        let list: Vec<Value> = serde_json::from_str(list.expect("the rest stays")).expect("JSON");
        let names: Vec<&str> = list.iter().filter_map(|offer| offer["name"].as_str()).collect();
        assert_eq!(names, ["near.gguf", "new.gguf", "other"]);
        assert_eq!(list[0]["url"], "./models/near.gguf");
        assert_eq!(list[0]["about"], "a </script> of its own");
        assert_eq!(with_offers("<head></head>", &[]), None);
        // What the page itself is built with: the model of the first chat, from where the package has it.
        let brought: Vec<Value> = serde_json::from_str(include_str!("../../../../web/offers.json")).expect("JSON");
        let small = brought.iter().find(|offer| offer["name"] == crate::model::SMOLLM2.name).expect("it is on offer");
        assert_eq!(small["sha256"], crate::model::SMOLLM2.sha256);
        assert_eq!(small["bytes"], crate::model::SMOLLM2.size_bytes);
        for offer in &brought {
            assert!(offer["url"].as_str().is_some_and(|url| url.starts_with("https://huggingface.co/")), "{offer}");
            assert!(offer["licence"].is_string() && offer["about"].is_string(), "{offer}");
        }
    }

    #[test]
    fn nothing_outside_the_site_is_served() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-site").expect("a folder");
        let root = scratch.path().join("dist");
        std::fs::create_dir_all(root.join("assets")).expect("made");
        for file in ["index.html", "assets/a b.js", "../secret"] {
            std::fs::write(root.join(file), "x").expect("written");
        }
        let site = Site { root: root.clone(), models: Vec::new(), mounts: vec![("more", root.join("assets"))] };
        assert_eq!(locate(&site, "/"), Some(root.join("index.html")));
        assert_eq!(locate(&site, "/assets/a%20b.js"), Some(root.join("assets/a b.js")));
        assert_eq!(locate(&site, "/more/a%20b.js"), Some(root.join("assets/a b.js")));
        for outside in [
            "/../secret",
            "/%2e%2e/secret",
            "/assets/..%2f..%2fsecret",
            "//etc/passwd",
            "/more/../../secret",
            "/%00",
            "/models/index.html",
            "secret",
        ] {
            assert_eq!(locate(&site, outside), None, "{outside}");
        }
    }

    #[test]
    fn a_browser_gets_files_ranges_and_the_security_headers() {
        let scratch = Scratch::within(&std::env::temp_dir(), "xtask-test-serve").expect("a folder");
        std::fs::write(scratch.path().join("index.html"), "0123456789").expect("written");
        let site = Site { root: scratch.path().to_path_buf(), models: Vec::new(), mounts: Vec::new() };
        let server = Server::start(0, site).expect("started");
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(server.address).expect("connected");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read");
            answer
        };
        let whole = ask("GET / HTTP/1.1\r\n\r\n");
        assert!(whole.starts_with("HTTP/1.1 200 OK") && whole.ends_with("\r\n\r\n0123456789"), "{whole}");
        assert!(whole.contains("frame-ancestors 'none'; require-trusted-types-for 'script'"), "{whole}");
        let part = ask("GET /index.html HTTP/1.1\r\nRange: bytes=2-4\r\n\r\n");
        assert!(
            part.contains("206 Partial") && part.contains("bytes 2-4/10") && part.ends_with("\r\n\r\n234"),
            "{part}"
        );
        assert!(ask("GET / HTTP/1.1\r\nRange: bytes=10-\r\n\r\n").starts_with("HTTP/1.1 416"));
        assert!(ask("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(ask("GET /none HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        let head = ask("HEAD / HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 10") && head.ends_with("\r\n\r\n"), "{head}");
    }
}
