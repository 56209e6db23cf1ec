//! Lines over an axis: one figure as something grows.

use crate::axis::{Axis, count, number};
use crate::svg::{Anchor, GRID, INK, PAPER, QUIET, Svg, dots, polyline};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 496.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 264.0;
/// Lines told apart by those who see no red or green as well.
const COLOURS: [&str; 4] = ["#0b5cad", "#c4430a", "#6a3d9a", "#24292f"];

/// One line: its name in the legend, and its points.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// x and y, x rising. Values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A picture of lines. The vertical axis begins at 0, so that lengths may be compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// What grows to the right, a whole number.
    pub x: String,
    /// What is measured, with its unit.
    pub y: String,
    /// The lines, at most four.
    pub series: Vec<Series>,
}

impl Chart {
    /// The picture as SVG.
    ///
    /// ```
    /// use adapter_plot::{Chart, Series};
    /// let line = Series { name: "decode".to_owned(), points: vec![(128.0, 19.0), (8064.0, 9.5)] };
    /// let chart = Chart { title: "Speed".into(), x: "context".into(), y: "tokens/s".into(), series: vec![line] };
    /// assert!(chart.svg().contains("<title>Speed</title>"));
    /// ```
    #[must_use]
    pub fn svg(&self) -> String {
        let finite = |series: &Series| -> Vec<(f64, f64)> {
            series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
        };
        let lines: Vec<(&str, Vec<(f64, f64)>)> =
            self.series.iter().map(|series| (series.name.as_str(), finite(series))).collect();
        let mut svg = Svg::new(WIDTH, HEIGHT, &self.title, &self.description(&lines));
        svg.text(
            20.0,
            30.0,
            Anchor::Start,
            &format!("fill=\"{INK}\" font-size=\"15\" font-weight=\"600\""),
            &self.title,
        );
        let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
        let Some(far) = all().map(|(x, _)| x).reduce(f64::max) else {
            let style = format!("fill=\"{QUIET}\" font-size=\"14\"");
            svg.text(WIDTH / 2.0, HEIGHT / 2.0, Anchor::Middle, &style, "nothing has been measured yet");
            return svg.finish();
        };
        let x = Axis::new(0.0, far, LEFT, RIGHT);
        let y = Axis::new(0.0, all().map(|(_, y)| y).fold(0.0, f64::max) * 1.08, BOTTOM, TOP);
        self.write_axes(&mut svg, &x, &y, all().map(|(x, _)| x));
        let mut legend = 20.0;
        for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let placed: Vec<(f64, f64)> = points.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
            svg.stroke(&polyline(&placed), colour, 2.0, "");
            svg.stroke(&dots(&placed), PAPER, 9.0, "");
            svg.stroke(&dots(&placed), colour, 6.0, "");
            svg.stroke(&polyline(&[(legend, 50.0), (legend + 16.0, 50.0)]), colour, 3.0, "");
            svg.text(legend + 23.0, 54.0, Anchor::Start, &format!("fill=\"{INK}\""), name);
            // No font is at hand to measure with; 6.3 pixels a letter is wide for every usual one.
            legend += 23.0 + 6.3 * name.chars().count() as f64 + 18.0;
        }
        svg.finish()
    }

    /// Every value in words, for those who do not see the lines.
    fn description(&self, lines: &[(&str, Vec<(f64, f64)>)]) -> String {
        let point = |(x, y): &(f64, f64)| format!("{} at {}", number(*y), count(*x as u64));
        let line = |(name, points): &(&str, Vec<(f64, f64)>)| {
            format!("{name}: {}", points.iter().map(point).collect::<Vec<_>>().join(", "))
        };
        format!("{} by {}. {}", self.y, self.x, lines.iter().map(line).collect::<Vec<_>>().join("; "))
    }

    /// A tick at every measured place that is not too near to the one before; the others would overlap.
    fn write_axes(&self, svg: &mut Svg, x: &Axis, y: &Axis, places: impl Iterator<Item = f64>) {
        let quiet = format!("fill=\"{QUIET}\"");
        for value in y.ticks(5, 0.0) {
            let at = y.place(value);
            svg.line((LEFT, at), (RIGHT, at), GRID);
            svg.text(LEFT - 8.0, at + 4.0, Anchor::End, &quiet, &number(value));
        }
        let mut places: Vec<f64> = places.collect();
        places.sort_by(f64::total_cmp);
        let mut free_from = f64::MIN;
        for value in places {
            let at = x.place(value);
            if at >= free_from {
                svg.line((at, BOTTOM), (at, BOTTOM + 5.0), QUIET);
                svg.text(at, BOTTOM + 20.0, Anchor::Middle, &quiet, &count(value as u64));
                free_from = at + 36.0;
            }
        }
        svg.line((LEFT, BOTTOM), (RIGHT, BOTTOM), QUIET);
        svg.text((LEFT + RIGHT) / 2.0, BOTTOM + 42.0, Anchor::Middle, &quiet, &self.x);
        let middle = (TOP + BOTTOM) / 2.0;
        svg.text(18.0, middle, Anchor::Middle, &format!("{quiet} transform=\"rotate(-90 18 {middle})\""), &self.y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        let series = vec![Series { name: "a < b".to_owned(), points: points.to_vec() }];
        Chart { title: "Speed".to_owned(), x: "tokens".to_owned(), y: "tokens/s".to_owned(), series }
    }

    #[test]
    fn a_line_falls_where_its_values_do_and_says_them() {
        let svg = chart(&[(0.0, 10.0), (100.0, 5.0)]).svg();
        // From the left edge to the right one; 8 % of room above the highest value.
        assert!(svg.contains("M64 89.9L496 177"), "{svg}");
        assert!(svg.contains("<desc>tokens/s by tokens. a &lt; b: 10 at 0, 5 at 100</desc>"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_said_and_nothing_infinite_is_drawn() {
        assert!(chart(&[]).svg().contains("nothing has been measured yet"));
        let svg = chart(&[(1.0, f64::NAN), (2.0, 4.0), (3.0, f64::INFINITY)]).svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
