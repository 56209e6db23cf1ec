//! Ranges, round tick values and how numbers are written.

/// A range of values and where it lies in the picture.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// The lowest value.
    pub low: f64,
    /// The highest one.
    pub high: f64,
    /// Where `low` is drawn.
    pub start: f64,
    /// Where `high` is drawn.
    pub end: f64,
}

impl Axis {
    /// An axis over `low..=high`; a single value gets room on both sides.
    pub fn new(low: f64, high: f64, start: f64, end: f64) -> Self {
        let (low, high) = match high > low {
            true => (low, high),
            false => {
                let room = (low.abs() * 0.1).max(0.5);
                (low - room, low + room)
            }
        };
        Self { low, high, start, end }
    }

    /// Where a value is drawn; values outside lie on the edge.
    pub fn place(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// About `count` round values inside the range, at least `smallest` apart.
    pub fn ticks(&self, count: usize, smallest: f64) -> Vec<f64> {
        let rough = ((self.high - self.low) / count.max(1) as f64).max(smallest);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil();
        let values = (0..=2 * count + 2).map(|index| (first + index as f64) * step);
        // A step too small to change a number would never leave the first tick.
        values.take_while(|value| *value <= self.high + step * 1e-9).filter(|value| value.is_finite()).collect()
    }
}

/// A value with as many digits as a reader wants: 4 significant ones, no zeros behind.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}").replace('-', "\u{2212}");
    }
    let digits = if size == 0.0 { 0 } else { (3 - size.log10().floor() as i32).max(0) as usize };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    text.replace('-', "\u{2212}")
}

/// A count with its thousands apart: `12,500`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = |low, high, count, smallest| Axis::new(low, high, 0.0, 100.0).ticks(count, smallest);
        assert_eq!(ticks(0.0, 10.0, 5, 0.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(1.03, 2.9, 4, 0.0), [1.5, 2.0, 2.5]);
        assert_eq!(ticks(0.0, 3.0, 8, 1.0), [0.0, 1.0, 2.0, 3.0], "steps are whole");
        assert_eq!(ticks(-0.3, 0.3, 4, 0.0).len(), 3);
        for (low, high) in [(1e30, 1e30 + 1.0), (0.0, f64::from(f32::MAX)), (0.0, 1e-40), (5.0, 5.0)] {
            assert!(ticks(low, high, 6, 0.0).len() <= 14);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.0, "0"), (2.5, "2.5"), (1.23456, "1.235"), (-0.5, "\u{2212}0.5"), (1234.0, "1234"), (0.009, "0.009")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(2e-5), "2.0e\u{2212}5");
        assert_eq!(
            (count(0), count(999), count(1000), count(1_234_567)),
            ("0".to_owned(), "999".to_owned(), "1,000".to_owned(), "1,234,567".to_owned())
        );
    }
}
