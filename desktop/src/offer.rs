//! The model that a first start offers, and how its fetch stands.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use adapter_host::fetch::{FetchStage, Published, SMOLLM2};
use adapter_host::{Problem, default_model, folders};

use adapter_host::worker::Stop;

/// What a first start offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The model.
    pub published: Published,
    /// Where it is kept; `None`: this system has no such place.
    pub folder: Option<PathBuf>,
}

impl Default for Offer {
    fn default() -> Self {
        Self { published: SMOLLM2, folder: folders::cache() }
    }
}

impl Offer {
    /// Bytes of an earlier fetch that broke off.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.folder.as_deref().map_or(0, |folder| self.published.begun(folder))
    }

    /// Where the model is, or would be.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let own = self.folder.as_ref().map(|folder| folder.join(self.published.file));
        if self.published == SMOLLM2 && !own.as_ref().is_some_and(|path| path.is_file()) {
            // It may have been fetched by other means.
            return default_model();
        }
        own
    }
}

/// A fetch, as far as it is.
pub(crate) struct Fetching {
    pub stage: FetchStage,
    /// Bytes done and in all.
    pub progress: (u64, u64),
    /// When it began, and with how many bytes of an earlier one.
    pub since: (Instant, u64),
    pub stop: Stop,
    pub news: Receiver<News>,
}

/// What a fetch has to tell.
pub(crate) enum News {
    Progress(FetchStage, u64, u64),
    Ended(Result<PathBuf, Problem>),
}
