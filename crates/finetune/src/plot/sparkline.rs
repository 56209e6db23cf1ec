//! A line of a terminal.

/// Blocks from low to high.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last values as one line of at most `width` characters: each stands for the mean of as many values, from the lowest
/// (`▁`) to the highest (`█`). Values that are not finite are left out; where nothing is left, a space stands.
///
/// ```
/// use adapter_finetune::plot::sparkline;
/// assert_eq!(sparkline(&[3.0, 2.0, 1.0, 0.0], 4), "█▆▃▁");
/// ```
#[must_use]
pub fn sparkline(values: &[f32], width: usize) -> String {
    let columns = width.min(values.len());
    let means: Vec<Option<f64>> = (0..columns)
        .map(|column| {
            // Every value belongs to one column, and no column is empty.
            let at = |column: usize| (column as u128 * values.len() as u128 / columns as u128) as usize;
            let part = values.get(at(column)..at(column + 1)).unwrap_or_default();
            let finite: Vec<f64> =
                part.iter().filter(|value| value.is_finite()).map(|value| f64::from(*value)).collect();
            (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
        })
        .collect();
    let low = means.iter().flatten().copied().fold(f64::MAX, f64::min);
    let high = means.iter().flatten().copied().fold(f64::MIN, f64::max);
    let block = |mean: f64| {
        // A flat line lies in the middle.
        let share = if high > low { (mean - low) / (high - low) } else { 0.5 };
        BLOCKS.get((share * 7.0).round() as usize).copied().unwrap_or('█')
    };
    means.into_iter().map(|mean| mean.map_or(' ', block)).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn a_line_rises_with_its_values_and_has_its_width() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[], 8), "");
        assert_eq!(sparkline(&[1.0], 0), "");
        assert_eq!(sparkline(&[2.0, 2.0], 8), "▅▅");
        assert_eq!(sparkline(&[1.0, f32::NAN, f32::INFINITY, 3.0], 4), "▁  █");
        assert_eq!(sparkline(&[f32::NAN; 3], 2), "  ");
        let many: Vec<f32> = (0..100_000).map(|n| n as f32).collect();
        assert_eq!(sparkline(&many, 60).chars().count(), 60);
        assert_eq!(sparkline(&[f32::MAX, f32::MIN], 2), "█▁");
    }
}
