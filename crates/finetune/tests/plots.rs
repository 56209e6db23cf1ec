//! Pictures are valid XML, small, and say what was in the numbers.

use adapter_finetune::plot::{LossPoint, gates_svg, loss_svg};
use roxmltree::{Document, Node};

/// A run as they look: 1.2 falls to 0.7 with noise, validation every 50 steps, warm-up and cosine.
fn run(steps: u64) -> Vec<LossPoint> {
    let mut state = 1u64;
    (1..=steps)
        .map(|step| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            let share = step as f32 / steps as f32;
            let loss = 1.05 + 1.6 * (-6.0 * share).exp();
            LossPoint {
                step,
                train: Some(loss + 0.5 * noise),
                validation: step.is_multiple_of((steps / 20).max(1)).then_some(loss + 0.06 + 0.25 * share * share),
                learning_rate: Some(0.009 * if share < 0.1 { share * 10.0 } else { (1.0 - share) / 0.9 }),
            }
        })
        .collect()
}

/// `cargo test -p adapter-finetune --test plots` leaves the pictures in a folder when `PLOTS` names one.
fn parsed(name: &str, svg: &str, check: impl Fn(&Document<'_>)) {
    if let Some(folder) = std::env::var_os("PLOTS") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.svg")), svg).unwrap();
    }
    let document = Document::parse(svg).unwrap_or_else(|error| panic!("{name}: {error}\n{svg}"));
    assert!(svg.len() < 100_000, "{name}: {} bytes", svg.len());
    assert_eq!(document.root_element().tag_name().name(), "svg");
    assert!(!svg.contains("NaN\"") && !svg.contains("inf") && !svg.contains("<script"), "{name}");
    check(&document);
}

fn texts(document: &Document<'_>) -> Vec<String> {
    document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .map(|node| node.text().unwrap_or_default().to_owned())
        .collect()
}

fn of_colour<'a>(document: &'a Document<'_>, colour: &str) -> Vec<Node<'a, 'a>> {
    document
        .descendants()
        .filter(|node| node.has_tag_name("path") && node.attribute("stroke") == Some(colour))
        .collect::<Vec<_>>()
}

/// Points of a path of `M x y` and `L x y`.
fn points(d: &str) -> Vec<(f64, f64)> {
    d.split(['M', 'L'])
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (x, y) = part.trim_end_matches("h0").split_once(' ').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect()
}

#[test]
fn losses_of_any_length_become_a_small_picture() {
    for steps in [3, 40, 1000, 100_000] {
        let points = run(steps);
        parsed(&format!("loss-{steps}"), &loss_svg("SmolLM2-135M, alpaca", &points), |document| {
            let texts = texts(document);
            assert!(texts.iter().any(|text| text.starts_with("train (last ") && text.contains("lowest")), "{texts:?}");
            assert!(texts.iter().any(|text| text.starts_with("validation (last 1.")), "{texts:?}");
            assert!(texts.contains(&"learning rate (dashed)".to_owned()), "{texts:?}");
            let read_out = document.descendants().find(|node| node.has_tag_name("desc")).and_then(|node| node.text());
            assert!(read_out.is_some_and(|text| text.contains("learning rate: peak 0.00")), "{read_out:?}");
            assert!(texts.contains(&"step".to_owned()) && texts.contains(&"loss (nats per token)".to_owned()));
        });
    }
    parsed("loss-none", &loss_svg("empty", &[]), |document| {
        assert!(texts(document).contains(&"no loss has been recorded yet".to_owned()));
    });
    let one = [LossPoint { step: 7, train: Some(2.5), ..LossPoint::default() }];
    parsed("loss-one", &loss_svg("one", &one), |document| {
        assert!(texts(document).contains(&"train (last 2.5, lowest 2.5)".to_owned()), "{:?}", texts(document));
    });
}

#[test]
fn a_higher_loss_is_drawn_higher_and_a_later_step_further_right() {
    let losses = [3.0, 2.5, 2.6, 1.0, 0.5];
    let given: Vec<LossPoint> = (1..)
        .zip(losses)
        .map(|(step, loss)| LossPoint { step, validation: Some(loss), ..LossPoint::default() })
        .collect();
    parsed("loss-validation", &loss_svg("validation only", &given), |document| {
        let drawn = of_colour(document, "#c4430a");
        let line =
            drawn.iter().filter_map(|node| node.attribute("d")).find(|d| d.contains('L') && points(d).len() == 5);
        let line = points(line.expect("a line through five dots"));
        for (a, b) in
            line.iter().zip(&line[1..]).zip(losses.windows(2)).map(|((a, b), pair)| ((a, pair[0]), (b, pair[1])))
        {
            assert!(b.0.0 > a.0.0);
            assert_eq!(b.1 > a.1, b.0.1 < a.0.1, "up is less in a picture");
        }
        assert!(texts(document).contains(&"validation (last 0.5, lowest 0.5 at step 5)".to_owned()));
    });
}

#[test]
fn what_is_not_finite_is_left_out_and_one_bad_batch_flattens_nothing() {
    let mut given = run(2000);
    given[100].train = Some(f32::NAN);
    given[200].train = Some(f32::INFINITY);
    given[300].validation = Some(f32::NAN);
    given[400].train = Some(1e30);
    given.reverse();
    parsed("loss-bad", &loss_svg("a & b < \"c\" \u{7} 'd'", &given), |document| {
        let title = document
            .descendants()
            .find(|node| node.has_tag_name("title"))
            .and_then(|node| node.text().map(str::to_owned));
        assert_eq!(title.as_deref(), Some("a & b < \"c\" \u{fffd} 'd'"));
        let faint = of_colour(document, "#a9cdf0");
        let line = points(faint[0].attribute("d").unwrap());
        let inside = |(x, y): &(f64, f64)| (64.0..=816.0).contains(x) && (84.0..=388.0).contains(y);
        assert!(line.len() > 700 && line.iter().all(inside));
        assert!(
            texts(document).contains(&"1.5".to_owned()),
            "the scale is that of the other batches: {:?}",
            texts(document)
        );
    });
    let mut short = run(40);
    short[20].train = Some(1e30);
    parsed("loss-spike", &loss_svg("one of 40", &short), |document| {
        assert!(texts(document).contains(&"1.5".to_owned()), "{:?}", texts(document));
    });
    let nothing =
        [LossPoint { step: 1, train: Some(f32::NAN), validation: Some(f32::INFINITY), ..LossPoint::default() }];
    parsed("loss-nan", &loss_svg("nan", &nothing), |_| ());
    let huge = [1u64, u64::MAX].map(|step| LossPoint {
        step,
        train: Some(f32::MAX),
        learning_rate: Some(0.0),
        ..LossPoint::default()
    });
    parsed("loss-huge", &loss_svg("huge", &huge), |_| ());
}

#[test]
fn gates_are_cells_with_their_extremes_named() {
    let gate = |layer: usize, head: usize| ((layer * 7 + head * 3) as f32 * 0.37).sin() * 0.02 * layer as f32;
    let gates = |layers: usize, heads: usize| -> Vec<Vec<f32>> {
        (0..layers).map(|layer| (0..heads).map(|head| gate(layer, head)).collect()).collect()
    };
    let cells = |document: &Document<'_>| -> usize {
        let group = document.descendants().find(|node| node.has_tag_name("g")).unwrap();
        group.children().filter_map(|node| node.attribute("d").map(|d| d.matches('M').count())).sum()
    };
    for (layers, heads) in [(30, 32), (28, 9), (14, 16), (80, 64), (3, 4)] {
        parsed(
            &format!("gates-{layers}x{heads}"),
            &gates_svg("alpaca adapter", &gates(layers, heads), 2),
            |document| {
                assert_eq!(cells(document), layers * heads);
                assert!(
                    texts(document)
                        .iter()
                        .any(|text| text.starts_with("lowest \u{2212}") && text.contains("highest +"))
                );
            },
        );
    }
    let mut scalar = gates(28, 1);
    scalar[27] = vec![0.75];
    scalar[3] = vec![-0.6];
    parsed("gates-scalar", &gates_svg("scalar", &scalar, 2), |document| {
        let texts = texts(document);
        assert!(texts.contains(&"lowest \u{2212}0.6 (layer 5), highest +0.75 (layer 29)".to_owned()), "{texts:?}");
        assert!(
            ["+0.75", "\u{2212}0.75", "+0.75", "0", "all heads", "29"]
                .iter()
                .all(|text| texts.contains(&(*text).to_owned()))
        );
    });
    let broken = vec![vec![f32::NAN, 0.5], vec![f32::INFINITY, 0.0]];
    parsed("gates-broken", &gates_svg("broken", &broken, 0), |document| {
        assert!(texts(document).iter().any(|text| text.contains("2 not finite")));
    });
    parsed("gates-closed", &gates_svg("closed", &[vec![0.0; 8], vec![0.0; 8]], 30), |_| ());
    parsed("gates-none", &gates_svg("none", &[], 0), |document| {
        assert!(texts(document).contains(&"no gates".to_owned()));
    });
}
