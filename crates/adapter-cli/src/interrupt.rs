//! Ctrl+C: while work is under way the first one asks it to stop and the second one quits; otherwise it quits. A training takes
//! what else ends a program ([`also_at_the_end`]) for the same.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// How much work is under way that looks at [`requested`], one inside the other.
static BUSY: AtomicUsize = AtomicUsize::new(0);
/// Ctrl+C came since the outermost work began.
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// The exit code of whoever is interrupted.
static CODE: AtomicU8 = AtomicU8::new(INTERRUPTED);
static HANDLER: Once = Once::new();

/// 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Work that can be stopped, until this is dropped.
#[must_use = "work can be stopped only while this lives"]
pub struct Busy(());

/// Begins work that looks at [`requested`] between its steps. Inside of other work a request that came before still holds.
pub fn busy() -> Busy {
    HANDLER.call_once(|| {
        // Without a handler Ctrl+C ends the program at once, which is a fair substitute.
        let _ = ctrlc::set_handler(|| request(INTERRUPTED));
    });
    if BUSY.fetch_add(1, Ordering::SeqCst) == 0 {
        REQUESTED.store(false, Ordering::SeqCst);
    }
    Busy(())
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

fn request(code: u8) {
    CODE.store(code, Ordering::SeqCst);
    if BUSY.load(Ordering::SeqCst) == 0 || REQUESTED.swap(true, Ordering::SeqCst) {
        let _ = std::io::stdout().flush();
        std::process::exit(code.into());
    }
}

/// From now on a request to terminate and a terminal that closes count as Ctrl+C: for work that has something to save.
pub fn also_at_the_end() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGTERM};
        let mut signals = vec![SIGTERM];
        // Who starts a program with `nohup` wants it to outlive the terminal.
        if !is_ignored(SIGHUP) {
            signals.push(SIGHUP);
        }
        // Without them the program ends at once, as it did before.
        let Ok(mut signals) = signal_hook::iterator::Signals::new(signals) else { return };
        let wait = move || signals.forever().for_each(|signal| request(128 + signal as u8));
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    }
}

/// Whether this process was started with a signal ignored, where the system says so.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// Whether the work under way should stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// The exit code of a program that was interrupted: 128 and the signal's number.
pub fn code() -> u8 {
    CODE.load(Ordering::SeqCst)
}

/// [`requested`], as the engine's progress callbacks want it.
pub fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
