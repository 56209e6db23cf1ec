//! Learnt positions of a square grid for pictures of other sizes: bicubic interpolation, as PyTorch's `interpolate(mode="bicubic",
//! align_corners=False)` does it.

/// The cubic convolution's free parameter (Keys 1981), PyTorch's choice.
const A: f64 = -0.75;

/// `[height width, C]` of `positions [grid grid, C]`; the same numbers when the grid is that.
pub(super) fn interpolated(positions: &[f32], grid: u32, [width, height]: [u32; 2], n_channels: usize) -> Vec<f32> {
    if (width, height) == (grid, grid) {
        return positions.to_vec();
    }
    let (rows, columns) = (taps(grid, height), taps(grid, width));
    let mut out = Vec::with_capacity((width * height) as usize * n_channels);
    for row in &rows {
        for column in &columns {
            for channel in 0..n_channels {
                let mut sum = 0.0;
                for (y, row_weight) in row {
                    for (x, column_weight) in column {
                        let at = (y * grid as usize + x) * n_channels + channel;
                        sum += row_weight * column_weight * f64::from(positions.get(at).copied().unwrap_or_default());
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

/// For each of `to` places the four of `from` it is made of, and their weights. Behind the border stands the border.
fn taps(from: u32, to: u32) -> Vec<[(usize, f64); 4]> {
    let scale = f64::from(from) / f64::from(to);
    let of = |place: u32| {
        let at = (f64::from(place) + 0.5) * scale - 0.5;
        let (first, t) = (at.floor(), at - at.floor());
        let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        std::array::from_fn(|index| {
            let source = (first as i64 + index as i64 - 1).clamp(0, i64::from(from) - 1);
            (source as usize, weights[index])
        })
    };
    (0..to).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_the_same_size_is_itself_and_a_constant_stays_one() {
        let positions: Vec<f32> = (0..18).map(|n| n as f32).collect();
        assert_eq!(interpolated(&positions, 3, [3, 3], 2), positions);
        let flat = interpolated(&[2.5; 9], 3, [7, 2], 1);
        assert_eq!(flat.len(), 14);
        assert!(flat.iter().all(|value| (value - 2.5).abs() < 1e-6), "{flat:?}");
    }
}
