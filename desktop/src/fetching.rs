//! A model on its way over the network: begun when somebody has said yes to its size, address and licence, and only then.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use adapter_host::Problem;
use adapter_host::fetch::{FetchStage, Published};

use crate::offer::{Fetching, News, Offer};
use crate::state::State;
use adapter_host::worker::Stop;

/// The window hears of bytes no more often than this.
const TELL: Duration = Duration::from_millis(50);

impl State {
    /// Fetches the model on offer.
    pub(crate) fn fetch(&mut self) {
        let Offer { published, folder: Some(folder) } = self.offer.clone() else { return };
        if self.fetching.is_some() {
            return;
        }
        let (sender, news) = channel();
        let (stop, ctx) = (Stop::default(), self.ctx.clone());
        let begun = published.begun(&folder);
        let total = published.bytes;
        let wanted = stop.clone();
        let work = move || {
            let ended = fetch(&published, &folder, &sender, &wanted, &|| ctx.request_repaint());
            let _ = sender.send(News::Ended(ended));
            ctx.request_repaint();
        };
        match std::thread::Builder::new().name("fetch".to_owned()).spawn(work) {
            Ok(_) => {
                let (stage, since) = (FetchStage::Download, (Instant::now(), begun));
                self.fetching = Some(Fetching { stage, progress: (begun, total), since, stop, news });
            }
            Err(error) => self.notices.warn("The fetch cannot start", &format!("{error}. Close other programs first.")),
        }
    }

    /// Stops the fetch; it shows at once, what came is kept.
    pub(crate) fn cancel_fetch(&mut self) {
        if let Some(fetching) = self.fetching.take() {
            fetching.stop.stop();
        }
    }

    /// What the fetch has to tell.
    pub(crate) fn hear_fetch(&mut self) {
        loop {
            let Some(fetching) = &mut self.fetching else { return };
            match fetching.news.try_recv() {
                Ok(News::Progress(stage, done, total)) => (fetching.stage, fetching.progress) = (stage, (done, total)),
                Ok(News::Ended(Ok(path))) => {
                    self.fetching = None;
                    self.notices.good("The model is fetched and checked");
                    self.load(&path);
                }
                Ok(News::Ended(Err(problem))) => {
                    self.fetching = None;
                    self.notices.fail(&problem);
                }
                Err(_) => return,
            }
        }
    }
}

fn fetch(
    published: &Published,
    folder: &Path,
    sender: &Sender<News>,
    stop: &Stop,
    wake: &dyn Fn(),
) -> Result<PathBuf, Problem> {
    let mut told = Instant::now();
    published.fetch(folder, &mut |stage, done, total| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            let _ = sender.send(News::Progress(stage, done, total));
            wake();
        }
        if stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
