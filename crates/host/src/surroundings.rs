//! What the machine around a program says: the clock on the wall, and a variable that a GPU driver asks for.

use adapter_engine::text::LocalTime;

/// The date and time here, for chat templates that ask for them; `None` where the clock is beyond all calendars.
#[must_use]
pub fn local_time() -> Option<LocalTime> {
    let now = chrono::Local::now();
    LocalTime::from_unix(now.timestamp(), now.offset().local_minus_utc())
}

/// Gives `XDG_RUNTIME_DIR` a value where it has none, as in containers and on servers: a layer that Mesa puts before every Vulkan
/// driver asks Wayland's library for a screen, which else writes "error: XDG_RUNTIME_DIR is invalid or not set" into whatever the
/// program says.
///
/// Call it first of all in `main`, while the process has one thread: it changes the environment.
pub fn quiet_driver() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        let folder = std::env::temp_dir();
        if let Some(folder) = folder.to_str().filter(|folder| !folder.contains(['\'', '\n'])) {
            // What cannot be set stays as it is: a line too much.
            let _ = dotenvy::from_read(format!("XDG_RUNTIME_DIR='{folder}'").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_says_a_day_of_this_century() {
        let year = super::local_time().and_then(|now| now.format("%Y")).and_then(|year| year.parse::<u32>().ok());
        assert!(year.is_some_and(|year| (2025..2100).contains(&year)), "{year:?}");
    }
}
