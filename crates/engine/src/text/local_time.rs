//! The date and time that a chat template may ask for. The engine has no clock: its host says what time it is.

use std::fmt::Write as _;
use std::str::FromStr;

use minijinja::value::{Object, Value};
use minijinja::{Error, ErrorKind, State};

use super::error::TextError;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment on the clock of the person at the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    year: i32,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl LocalTime {
    /// What a template gets that asks for the date although none was given: the day that LLaMA 3.1's template writes by itself.
    pub(super) const UNKNOWN: Self = Self { year: 2024, month: 7, day: 26, hour: 0, minute: 0, second: 0 };

    /// Year (0 to 9999), month and day from 1, hour, minute, second; `None` if there is no such day or time.
    #[must_use]
    pub fn new(year: i32, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> Option<Self> {
        let is_day = (0..=9999).contains(&year) && (1..=12).contains(&month) && day >= 1;
        let time = Self { year, month, day, hour, minute, second };
        (is_day && day <= time.days_of_month() && hour < 24 && minute < 60 && second < 60).then_some(time)
    }

    /// From the seconds since 1970 in UTC, and how many seconds the clock on the wall is ahead of UTC.
    #[must_use]
    pub fn from_unix(seconds: i64, ahead_of_utc: i32) -> Option<Self> {
        let seconds = seconds.checked_add(i64::from(ahead_of_utc))?;
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
        let z = days.checked_add(719_468)?;
        let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let m = (5 * day_of_year + 2) / 153;
        let (day, month) = (day_of_year - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let small = |x: i64| u8::try_from(x).ok();
        Self::new(
            i32::try_from(year).ok()?,
            small(month)?,
            small(day)?,
            small(second / 3600)?,
            small(second / 60 % 60)?,
            small(second % 60)?,
        )
    }

    fn is_leap_year(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_of_month(self) -> u8 {
        match self.month {
            2 if self.is_leap_year() => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// From 1.
    fn day_of_year(self) -> u32 {
        let before = (1..self.month).map(|month| u32::from(Self { month, ..self }.days_of_month()));
        before.sum::<u32>() + u32::from(self.day)
    }

    /// 0 is Sunday: Sakamoto's method.
    fn weekday(self) -> usize {
        const SHIFT: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = self.year - i32::from(self.month < 3);
        let shift = SHIFT.get(usize::from(self.month) - 1).copied().unwrap_or_default();
        (year + year / 4 - year / 100 + year / 400 + shift + i32::from(self.day)).rem_euclid(7) as usize
    }

    /// The time as Python's `strftime` writes it in the C locale, with the fields that templates use: `%d %b %Y`. `None` for a
    /// field that is not known here.
    #[must_use]
    pub fn format(self, format: &str) -> Option<String> {
        let Self { year, month, day, hour, minute, second } = self;
        let month_name = MONTHS.get(usize::from(month) - 1).copied().unwrap_or_default();
        let weekday = DAYS.get(self.weekday()).copied().unwrap_or_default();
        let twelve = match hour % 12 {
            0 => 12,
            hour => hour,
        };
        let mut out = String::with_capacity(format.len() * 2);
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut field = chars.next()?;
            let plain = field == '-';
            if plain {
                field = chars.next()?;
            }
            let mut number = |value: u32, width: usize| {
                let _ = if plain { write!(out, "{value}") } else { write!(out, "{value:0width$}") }; // a String takes all
            };
            match field {
                'd' => number(day.into(), 2),
                'm' => number(month.into(), 2),
                'Y' => number(year.unsigned_abs(), 4),
                'y' => number(year.unsigned_abs() % 100, 2),
                'H' => number(hour.into(), 2),
                'I' => number(twelve.into(), 2),
                'M' => number(minute.into(), 2),
                'S' => number(second.into(), 2),
                'j' => number(self.day_of_year(), 3),
                'f' => number(0, 6),
                'w' => number(self.weekday() as u32, 1),
                'u' => number(if self.weekday() == 0 { 7 } else { self.weekday() as u32 }, 1),
                'e' => {
                    let _ = write!(out, "{day:2}");
                }
                'B' => out.push_str(month_name),
                'b' | 'h' => out.push_str(month_name.get(..3).unwrap_or_default()),
                'A' => out.push_str(weekday),
                'a' => out.push_str(weekday.get(..3).unwrap_or_default()),
                'p' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                'F' => out.push_str(&self.format("%Y-%m-%d")?),
                'D' | 'x' => out.push_str(&self.format("%m/%d/%y")?),
                'T' | 'X' => out.push_str(&self.format("%H:%M:%S")?),
                'R' => out.push_str(&self.format("%H:%M")?),
                'c' => out.push_str(&self.format("%a %b %e %H:%M:%S %Y")?),
                // The host names no time zone: as Python's for a time without one.
                'Z' | 'z' => {}
                '%' => out.push('%'),
                'n' => out.push('\n'),
                't' => out.push('\t'),
                _ => return None,
            }
        }
        Some(out)
    }
}

impl FromStr for LocalTime {
    type Err = TextError;

    /// `2026-11-23`, `2026-11-23T08:30:00` or `23 Nov 2026`.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let words = || {
            let mut words = text.splitn(3, ' ');
            let (day, name, year) = (words.next()?, words.next()?, words.next()?);
            let month = MONTHS.iter().zip(1..).find(|(month, _)| month.get(..3) == Some(name))?.1;
            Self::new(year.parse().ok()?, month, day.parse().ok()?, 0, 0, 0)
        };
        let parse = || {
            let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
            let mut date = date.splitn(3, '-');
            let mut time = time.splitn(3, ':');
            let year: i32 = date.next()?.parse().ok()?;
            let next = |part: Option<&str>| part?.parse::<u8>().ok();
            let (month, day) = (next(date.next())?, next(date.next())?);
            Self::new(year, month, day, next(time.next())?, next(time.next())?, next(time.next())?)
        };
        words().or_else(parse).ok_or_else(|| TextError::Date { found: super::error::shown(text) })
    }
}

/// `strftime_now` of templates. Where no time was given it can be called all the same, but counts as not defined, so that a
/// template that asks first writes its own date, and one that does not is not broken.
#[derive(Debug)]
pub(super) struct StrftimeNow(pub(super) Option<LocalTime>);

impl Object for StrftimeNow {
    fn call(self: &std::sync::Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (format,): (&str,) = minijinja::value::from_args(args)?;
        let time = self.0.unwrap_or(LocalTime::UNKNOWN);
        time.format(format).map(Value::from).ok_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now has a field that is not known: {format}"))
        })
    }

    fn is_true(self: &std::sync::Arc<Self>) -> bool {
        self.0.is_some()
    }
}

/// The test `defined`, for which [`StrftimeNow`] without a time is none.
pub(super) fn is_defined(value: &Value) -> bool {
    !value.is_undefined() && value.downcast_object_ref::<StrftimeNow>().is_none_or(|now| now.0.is_some())
}

#[cfg(test)]
mod tests {
    use super::LocalTime;

    /// Against Python: `datetime.fromisoformat(...).strftime(...)`.
    #[test]
    fn a_time_is_written_as_python_writes_it() {
        for (time, format, wanted) in [
            ("2024-07-26", "%d %b %Y", "26 Jul 2024"),
            ("2026-11-29T08:05:09", "%Y-%m-%d %H:%M:%S", "2026-11-29 08:05:09"),
            ("2026-11-29", "%A, %B %d, %Y", "Sunday, November 29, 2026"),
            ("2024-02-29T00:00:00", "%a %j %-d/%-m/%y %I:%M %p", "Thu 060 29/2/24 12:00 AM"),
            ("2000-03-01T13:07:00", "%e %h %w %u %I%p %%", " 1 Mar 3 3 01PM %"),
            ("1999-12-31T23:59:59", "%c|%D|%F|%T|%R", "Fri Dec 31 23:59:59 1999|12/31/99|1999-12-31|23:59:59|23:59"),
            ("2026-01-04", "%d %B %Y", "04 January 2026"),
            ("4 Jan 2026", "%F", "2026-01-04"),
        ] {
            let time: LocalTime = time.parse().expect(time);
            assert_eq!(time.format(format).as_deref(), Some(wanted), "{format}");
        }
        for wrong in ["", "2026", "2026-13-01", "2026-02-29", "2026-11-29T24:00:00", "31 Nov 2026", "2026-11-29Tx:0:0"]
        {
            assert!(wrong.parse::<LocalTime>().is_err(), "{wrong}");
        }
        let time = LocalTime::from_unix(1_764_404_109, 3600).expect("a time");
        assert_eq!(time.format("%F %T").as_deref(), Some("2025-11-29 09:15:09"));
        assert_eq!(
            LocalTime::from_unix(951_782_399, 0).and_then(|t| t.format("%F %T")).as_deref(),
            Some("2000-02-28 23:59:59")
        );
        assert_eq!(LocalTime::from_unix(-1, 0).and_then(|t| t.format("%F")).as_deref(), Some("1969-12-31"));
        assert_eq!(time.format("%Q"), None);
    }
}
