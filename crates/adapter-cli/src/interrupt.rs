//! Ctrl+C: while work is under way the first one asks it to stop and the second one quits; otherwise it quits.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Work is under way that looks at [`requested`].
static BUSY: AtomicBool = AtomicBool::new(false);
/// Ctrl+C came since the work began.
static REQUESTED: AtomicBool = AtomicBool::new(false);
static HANDLER: Once = Once::new();

/// Work that can be stopped, until this is dropped.
#[must_use = "work can be stopped only while this lives"]
pub struct Busy(());

/// Begins work that looks at [`requested`] between its steps.
pub fn busy() -> Busy {
    HANDLER.call_once(|| {
        let handler = || {
            if !BUSY.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
                let _ = std::io::stdout().flush();
                std::process::exit(130);
            }
        };
        // Without a handler Ctrl+C ends the program at once, which is a fair substitute.
        let _ = ctrlc::set_handler(handler);
    });
    REQUESTED.store(false, Ordering::SeqCst);
    BUSY.store(true, Ordering::SeqCst);
    Busy(())
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::SeqCst);
    }
}

/// Whether the work under way should stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// [`requested`], as the engine's progress callbacks want it.
pub fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
