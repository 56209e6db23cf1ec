//! Chats and settings on disk: plain files the user owns, `chats/<id>.jsonl` and `desktop.json`, in a folder only they may look
//! into. A file is replaced as a whole, on a thread of its own, so that no frame waits for a disk.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use adapter_finetune::checkpoint::write_atomically;
use adapter_host::{Problem, folders};

use crate::chat::{self, Chat};
use crate::settings::SETTINGS;

/// What the writing thread is asked.
enum Job {
    Write {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Delete(PathBuf),
    /// Says so when everything before it is done.
    Barrier(Sender<()>),
}

/// The user's folder, and the thread that writes to it.
pub struct History {
    folder: PathBuf,
    jobs: Option<Sender<Job>>,
    problems: Receiver<Problem>,
    thread: Option<JoinHandle<()>>,
}

impl History {
    /// Opens a folder, which is made when it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        let chats = folder.join("chats");
        folders::make_private(&chats).map_err(|error| Problem::file("cannot make the folder", &chats, &error))?;
        let (jobs, queue) = channel();
        let (failed, problems) = channel();
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || work(&queue, &failed))
            .map_err(|error| Problem::file("cannot start writing to", folder, &error))?;
        Ok(Self { folder: folder.to_owned(), jobs: Some(jobs), problems, thread: Some(thread) })
    }

    /// Where everything lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where training runs are kept.
    #[must_use]
    pub fn adapters(&self) -> PathBuf {
        self.folder.join("adapters")
    }

    fn chats(&self) -> PathBuf {
        self.folder.join("chats")
    }

    /// Every chat, the one used last first, and what was wrong with files. A file that cannot be read is left alone; one with a
    /// broken line is kept beside what could be read of it.
    #[must_use]
    pub fn load(&self) -> (Vec<Chat>, Vec<Problem>) {
        let (mut chats, mut problems) = (Vec::new(), Vec::new());
        let folder = self.chats();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => return (chats, vec![Problem::file("cannot read the folder", &folder, &error)]),
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            match std::fs::read_to_string(&path) {
                Err(error) => problems.push(Problem::file("cannot read the chat", &path, &error)),
                Ok(text) => match chat::from_lines(&text) {
                    Err(reason) => problems
                        .push(Problem::new(format!("this file is no chat, {reason}"), "it is left as it is").at(&path)),
                    Ok((chat, broken)) => {
                        if let Some(first) = broken.first() {
                            let kept = path.with_extension("jsonl.damaged");
                            // Beside it, before the next answer replaces the file.
                            let copied = std::fs::copy(&path, &kept).is_ok();
                            let hint = if copied { "the damaged file is kept beside it" } else { "copy it elsewhere" };
                            problems.push(
                                Problem::new(format!("{} lines of a chat are lost: {first}", broken.len()), hint)
                                    .at(&path),
                            );
                        }
                        chats.push(chat);
                    }
                },
            }
        }
        chats.sort_by(|a, b| b.updated.total_cmp(&a.updated));
        (chats, problems)
    }

    fn path_of(&self, id: &str) -> PathBuf {
        // Ids come from files: nothing of them may leave the folder.
        let name: String = id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        self.chats().join(format!("{name}.jsonl"))
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives as long as this.
            let _ = jobs.send(job);
        }
    }

    /// Writes a chat.
    pub fn save(&self, chat: &Chat) {
        self.send(Job::Write { path: self.path_of(&chat.id), bytes: chat::to_lines(chat).into_bytes() });
    }

    /// Removes a chat.
    pub fn delete(&self, id: &str) {
        self.send(Job::Delete(self.path_of(id)));
    }

    /// Writes a file elsewhere, as an export does.
    pub fn write(&self, path: &Path, text: String) {
        self.send(Job::Write { path: path.to_owned(), bytes: text.into_bytes() });
    }

    /// The settings as they were left.
    ///
    /// # Errors
    /// A file that cannot be read or is none of ours; the settings are the usual ones then.
    pub fn load_settings<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        let path = self.settings_path();
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(Problem::file("cannot read the settings", &path, &error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let hint = "the usual settings are used; the file is replaced when you change one";
                Problem::new(format!("the settings cannot be read: {error}"), hint).at(&path)
            }),
        }
    }

    fn settings_path(&self) -> PathBuf {
        self.folder.join(SETTINGS)
    }

    /// Writes the settings.
    pub fn save_settings<T: serde::Serialize>(&self, settings: &T) {
        if let Ok(bytes) = serde_json::to_vec_pretty(settings) {
            self.send(Job::Write { path: self.settings_path(), bytes });
        }
    }

    /// Waits until everything so far is on disk.
    pub fn flush(&self) {
        let (done, wait) = channel();
        self.send(Job::Barrier(done));
        // Answered, or the thread is gone and there is nothing to wait for.
        let _ = wait.recv();
    }

    /// The next thing that could not be written.
    pub fn problem(&self) -> Option<Problem> {
        self.problems.try_recv().ok()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends when its queue is empty; a thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Receiver<Job>, failed: &Sender<Problem>) {
    for job in queue {
        let outcome = match job {
            Job::Write { path, bytes } => write_atomically(&path, &bytes).map_err(|error| {
                Problem::new(format!("cannot save: {error}"), "make room on the disk, or check who may write there")
            }),
            Job::Delete(path) => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Problem::file("cannot delete", &path, &error))
                }
                _ => Ok(()),
            },
            Job::Barrier(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        if let Err(problem) = outcome {
            let _ = failed.send(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    #[test]
    fn chats_come_back_newest_first_and_deleted_ones_do_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let history = History::open(folder.path()).expect("made");
        let mut chats = [Chat::default(), Chat::default(), Chat::default()];
        for (index, chat) in chats.iter_mut().enumerate() {
            chat.add(None, Role::User, format!("question {index}"));
            chat.updated = index as f64;
            history.save(chat);
        }
        history.delete(&chats[1].id);
        history.flush();
        let (back, problems) = history.load();
        assert_eq!(problems, []);
        assert_eq!(back, [chats[2].clone(), chats[0].clone()]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.path().join("chats")).expect("there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "only the owner may look into it");
        }
    }

    #[test]
    fn a_damaged_file_costs_its_broken_line_only_and_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let history = History::open(folder.path()).expect("made");
        let mut chat = Chat::default();
        let first = chat.add(None, Role::User, "one");
        chat.add(Some(first), Role::Assistant, "two");
        let text = chat::to_lines(&chat);
        let path = history.path_of(&chat.id);
        std::fs::write(&path, &text[..text.len() - 5]).expect("written");
        std::fs::write(folder.path().join("chats/other.jsonl"), "nonsense\n").expect("written");
        let (back, problems) = history.load();
        assert_eq!(back[0].messages.len(), 1);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(path.with_extension("jsonl.damaged").is_file());
        assert_eq!(std::fs::read_to_string(folder.path().join("chats/other.jsonl")).expect("there"), "nonsense\n");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let history = History::open(folder.path()).expect("made");
        history.write(&folder.path().join("not/there.json"), "x".to_owned());
        history.flush();
        let problem = history.problem().expect("said");
        assert!(problem.message.contains("not/there.json"), "{problem}");
        assert_eq!(history.path_of("../../etc/passwd"), folder.path().join("chats/etcpasswd.jsonl"));
    }
}
