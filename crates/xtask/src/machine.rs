//! What a figure was measured on: without it a benchmark's result says nothing.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::process;

/// Processor, memory, system, compiler and commit, as far as this system tells.
pub fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let first_line =
        |command: &mut Command| process::output(command).ok().and_then(|text| text.lines().next().map(str::to_owned));
    // A copy without its history is no error: the commit is then simply not known.
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        let output = command.current_dir(process::repository_root()).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map(std::num::NonZero::get).ok();
    json!({
        "cpu": field(&read("/proc/cpuinfo"), "model name", ':'),
        "cores": cores,
        "memory_mib": field(&read("/proc/meminfo"), "MemTotal", ':').and_then(|text| mebibytes(&text)),
        "system": field(&read("/etc/os-release"), "PRETTY_NAME", '=').map(|name| name.trim_matches('"').to_owned()),
        "load_1min": read("/proc/loadavg").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
        "rustc": first_line(Command::new("rustc").arg("--version")),
        "commit": git(&["rev-parse", "--short=12", "HEAD"]),
        "uncommitted_changes": git(&["status", "--porcelain"]).map(|changes| !changes.is_empty()),
    })
}

/// The value of the first line of `text` that names `key`.
fn field(text: &str, key: &str, separator: char) -> Option<String> {
    let value = |line: &str| {
        line.split_once(separator).filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    text.lines().find_map(value)
}

/// `24561234 kB` in MiB.
fn mebibytes(kilobytes: &str) -> Option<u64> {
    kilobytes.split(' ').next()?.parse::<u64>().ok().map(|n_kib| n_kib / 1024)
}

/// Today's date in UTC, as in `2026-11-23`.
pub fn today() -> String {
    let (year, month, day) = civil(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a time since 1970, in UTC: Howard Hinnant's `civil_from_days`, for days from 1970 on.
fn civil(since_1970: Duration) -> (u64, u64, u64) {
    // Years that begin in March, so that a leap day is a year's last; eras of 400 years are all alike.
    let days = since_1970.as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A name that every file system takes: `llvmpipe (LLVM 15.0.6)` becomes `llvmpipe-llvm-15-0-6`.
pub fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "unknown".to_owned() } else { slug.chars().take(60).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let date = |days: u64| civil(Duration::from_secs(days * 86_400 + 86_399));
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_453), (2025, 12, 31));
        assert_eq!(date(20_780), (2026, 11, 23));
    }

    #[test]
    fn fields_of_system_files_are_found() {
        assert_eq!(
            field("processor\t: 0\nmodel name\t: AMD EPYC 9R45\n", "model name", ':').as_deref(),
            Some("AMD EPYC 9R45")
        );
        assert_eq!(
            field("MemTotal:       24561234 kB\n", "MemTotal", ':').and_then(|text| mebibytes(&text)),
            Some(23_985)
        );
        assert_eq!(field("", "MemTotal", ':'), None);
    }

    #[test]
    fn names_become_file_names() {
        assert_eq!(slug("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe-llvm-15-0-6-256-bits");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("…"), "unknown");
    }
}
