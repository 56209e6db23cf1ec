//! The gates of an adapter by layer and head.

use std::collections::BTreeMap;
use std::fmt::Write;

use adapter_plot::axis::number;
use adapter_plot::svg::{Anchor, INK, QUIET, Svg, place};

const LEFT: f64 = 64.0;
const TOP: f64 = 74.0;
/// Colours from closed to widest open, on either side of 0.
const LEVELS: i32 = 48;
const NEGATIVE: [f64; 3] = [33.0, 90.0, 165.0];
const CLOSED: [f64; 3] = [245.0, 245.0, 243.0];
const POSITIVE: [f64; 3] = [178.0, 30.0, 38.0];
/// A gate that is not a number.
const BROKEN: &str = "#3d3d3d";

/// How far the gates of an adapter are open, `[L_a][H]`, activation applied; rows of one gate are one column. Rows are
/// numbered from `first_layer` of the model. Red lets prompts in, blue takes them away, and the scale is the same on both
/// sides of 0. Gates that are not finite are dark.
#[must_use]
pub fn gates_svg(title: &str, gates: &[Vec<f32>], first_layer: u32) -> String {
    let heads = gates.iter().map(Vec::len).max().unwrap_or(0);
    let cells = || {
        let of_row = |(layer, row)| {
            let row: &Vec<f32> = row;
            row.iter().enumerate().map(move |(head, gate)| (layer, head, f64::from(*gate)))
        };
        gates.iter().enumerate().flat_map(of_row)
    };
    let finite = || cells().filter(|(_, _, gate)| gate.is_finite());
    let most = finite().map(|(_, _, gate)| gate.abs()).fold(0.0, f64::max);
    let cell_width = if heads == 1 { 72.0 } else { (704.0 / heads.max(1) as f64).clamp(3.0, 44.0).floor() };
    let cell_height = (560.0 / gates.len().max(1) as f64).clamp(3.0, 26.0).floor();
    let (right, bottom) = (LEFT + cell_width * heads as f64, TOP + cell_height * gates.len() as f64);
    let (width, height) = ((right + 112.0).max(460.0), (bottom + 56.0).max(TOP + 190.0));
    let name = |layer: usize, head: usize| {
        let layer = u64::from(first_layer) + layer as u64;
        if heads == 1 { format!("layer {layer}") } else { format!("layer {layer}, head {head}") }
    };
    let lowest = finite().min_by(|a, b| a.2.total_cmp(&b.2));
    let highest = finite().max_by(|a, b| a.2.total_cmp(&b.2));
    let broken = cells().count() - finite().count();
    let mut summary = match (lowest, highest) {
        (Some(low), Some(high)) => format!(
            "lowest {} ({}), highest {} ({})",
            signed(low.2),
            name(low.0, low.1),
            signed(high.2),
            name(high.0, high.1)
        ),
        _ => "no gates".to_owned(),
    };
    if broken > 0 {
        let _ = write!(summary, ", {broken} not finite");
    }

    let mut svg = Svg::new(width, height, title, &summary);
    svg.text(18.0, 30.0, Anchor::Start, &format!("fill=\"{INK}\" font-size=\"16\" font-weight=\"600\""), title);
    svg.text(18.0, 51.0, Anchor::Start, &format!("fill=\"{QUIET}\""), &summary);
    if heads == 0 {
        return svg.finish();
    }
    // One path a colour, and a cell is a thick line in it: as rectangles they would be four times as long.
    let mut by_colour: BTreeMap<String, String> = BTreeMap::new();
    for (layer, head, gate) in cells() {
        let (x, y) = (LEFT + cell_width * head as f64, TOP + cell_height * (layer as f64 + 0.5) - 0.5);
        let d = by_colour.entry(colour(gate, most)).or_default();
        let _ = write!(d, "M{} {}h{}", place(x), place(y), place(cell_width - 1.0));
    }
    svg.raw(&format!("<g fill=\"none\" stroke-width=\"{}\">", place(cell_height - 1.0)));
    for (colour, d) in &by_colour {
        svg.raw(&format!("<path stroke=\"{colour}\" d=\"{d}\"/>"));
    }
    svg.raw("</g>");
    if cell_width >= 40.0 && cell_height >= 14.0 {
        let digits = if most < 0.1 { 3 } else { 2 };
        for (layer, head, gate) in cells() {
            let x = LEFT + cell_width * (head as f64 + 0.5) - 0.5;
            let y = TOP + cell_height * (layer as f64 + 0.5) + 3.5;
            let ink = if !gate.is_finite() || gate.abs() > most * 0.55 { "#ffffff" } else { INK };
            let text = match gate {
                gate if !gate.is_finite() => "NaN".to_owned(),
                // Nothing rounds to a zero with a sign.
                gate if gate.abs() < 0.5 * 10f64.powi(-digits) => "0".to_owned(),
                gate => format!("{gate:+.*}", digits as usize).replace('-', "\u{2212}"),
            };
            svg.text(x, y, Anchor::Middle, &format!("fill=\"{ink}\" font-size=\"11\""), &text);
        }
    }
    let quiet = format!("fill=\"{QUIET}\" font-size=\"11\"");
    let every = (13.0 / cell_height).ceil().max(1.0) as usize;
    for layer in (0..gates.len()).step_by(every) {
        let y = TOP + cell_height * (layer as f64 + 0.5) + 3.5;
        svg.text(LEFT - 7.0, y, Anchor::End, &quiet, &(u64::from(first_layer) + layer as u64).to_string());
    }
    let middle = (TOP + bottom) / 2.0;
    svg.text(22.0, middle, Anchor::Middle, &format!("fill=\"{QUIET}\" transform=\"rotate(-90 22 {middle})\""), "layer");
    if heads > 1 {
        let every = (26.0 / cell_width).ceil().max(1.0) as usize;
        for head in (0..heads).step_by(every) {
            let x = LEFT + cell_width * (head as f64 + 0.5) - 0.5;
            svg.text(x, bottom + 16.0, Anchor::Middle, &quiet, &head.to_string());
        }
    }
    let under = if heads == 1 { "all heads" } else { "head" };
    let y = if heads == 1 { 18.0 } else { 36.0 };
    svg.text((LEFT + right) / 2.0, bottom + y, Anchor::Middle, &format!("fill=\"{QUIET}\""), under);
    write_scale(&mut svg, right + 28.0, most);
    svg.finish()
}

/// The colours beside their values.
fn write_scale(svg: &mut Svg, x: f64, most: f64) {
    let height = 140.0;
    let step = height / f64::from(2 * LEVELS + 1);
    for level in -LEVELS..=LEVELS {
        let y = TOP + step * f64::from(LEVELS - level);
        // A sliver more than a step, so that no seams show.
        svg.raw(&format!(
            "<path fill=\"{}\" d=\"M{} {y:.2}h14v{:.2}h-14z\"/>",
            colour_of(f64::from(level) / f64::from(LEVELS)),
            place(x),
            step + 0.3
        ));
    }
    let style = format!("fill=\"{QUIET}\" font-size=\"11\"");
    for (share, value) in [(0.0, most), (0.5, 0.0), (1.0, -most)] {
        svg.text(x + 20.0, TOP + height * share + 4.0, Anchor::Start, &style, &signed(value));
    }
}

fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", number(value)) } else { number(value) }
}

/// The colour of a gate where `most` is the farthest from 0.
fn colour(gate: f64, most: f64) -> String {
    if !gate.is_finite() {
        return BROKEN.to_owned();
    }
    let share = if most > 0.0 { gate / most } else { 0.0 };
    colour_of((share * f64::from(LEVELS)).round() / f64::from(LEVELS))
}

/// The colour of a share from -1 to 1.
fn colour_of(share: f64) -> String {
    let end = if share < 0.0 { NEGATIVE } else { POSITIVE };
    let mut out = "#".to_owned();
    for (closed, open) in CLOSED.iter().zip(end) {
        let _ = write!(out, "{:02x}", (closed + (open - closed) * share.abs().min(1.0)).round() as u8);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(text: &str) -> [i32; 3] {
        [1, 3, 5].map(|at| i32::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits"))
    }

    #[test]
    fn colours_run_one_way_from_closed_to_open() {
        assert_eq!(colour(0.0, 0.7), "#f5f5f3");
        assert_eq!(colour(0.0, 0.0), "#f5f5f3");
        assert_eq!(colour(f64::NAN, 1.0), BROKEN);
        for sign in [-1.0, 1.0] {
            let colours: Vec<[i32; 3]> = (0..=40).map(|n| rgb(&colour(sign * f64::from(n) / 40.0, 1.0))).collect();
            for pair in colours.windows(2) {
                assert!((0..3).all(|channel| pair[1][channel] <= pair[0][channel]), "darker with every step: {pair:?}");
                assert_ne!(pair[0], pair[1]);
            }
        }
        let (negative, positive) = (rgb(&colour(-1.0, 1.0)), rgb(&colour(1.0, 1.0)));
        assert!(negative[2] > negative[0] && positive[0] > positive[2], "blue takes away, red lets in");
    }
}
