//! Where this program keeps things of the user: the folders each system has for it.

use std::path::PathBuf;

/// Name of this program's folder in them.
const OURS: &str = "adapter-engine";

/// An environment variable that holds an absolute path; anything else counts as not set, as the XDG specification says.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn in_home(rest: &str) -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(rest))
}

/// Things that can be fetched again: models.
pub fn cache() -> Option<PathBuf> {
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        in_home("Library/Caches")
    } else {
        variable("XDG_CACHE_HOME").or_else(|| in_home(".cache"))
    };
    base.map(|base| base.join(OURS))
}

/// Folders in which a model may have been fetched: the system's own, and the one `cargo xtask` uses everywhere.
pub fn caches() -> impl Iterator<Item = PathBuf> {
    let xdg = variable("XDG_CACHE_HOME").or_else(|| in_home(".cache")).map(|base| base.join(OURS));
    cache().into_iter().chain(xdg)
}

/// Things the user would miss: the history of the chat prompt.
pub fn data() -> Option<PathBuf> {
    let base = if cfg!(windows) {
        variable("APPDATA")
    } else if cfg!(target_os = "macos") {
        in_home("Library/Application Support")
    } else {
        variable("XDG_DATA_HOME").or_else(|| in_home(".local/share"))
    };
    base.map(|base| base.join(OURS))
}

/// Makes a folder that only its owner may look into.
pub fn make_private(path: &std::path::Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}
