//! Measuring: what `bench` reports fits together, and synthetic models can be measured, trained and predicted.

use serde_json::Value;

use crate::support::*;

#[test]
fn a_synthetic_model_of_each_type_decodes_trains_and_is_predicted() {
    let home = Home::new();
    home.write("rows.jsonl", "{\"text\": \"hello there\"}\n{\"text\": \"hello again\"}\n".repeat(8));
    for kind in ["q4_0", "q4_k", "q8_0"] {
        let made = home.run(&format!("debug synthetic-model --shape tiny --type {kind} --out HERE/{kind}.gguf"));
        assert_done(&made);
        let answer = home.run(&format!("bench -m HERE/{kind}.gguf -p 8 -n 4 -r 1 --format json"));
        assert_done(&answer);
        let answer = json(&answer.stdout);
        assert_eq!(answer["tests"].as_array().map(Vec::len), Some(2), "{answer}");

        let trained = home.run(&format!("bench -m HERE/{kind}.gguf --train 2x16,1x32 -r 2 --format json"));
        assert_done(&trained);
        let trained = json(&trained.stdout);
        assert_eq!(trained["adapter_layers"], 1, "all but two, and at least one");
        for test in trained["tests"].as_array().expect("tests") {
            let numbers = |key: &str| -> Vec<f64> {
                test[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
            };
            // 32 tokens in the seconds it says, which are rounded to a thousandth.
            let speed = test["tokens_per_second"]["max"].as_f64().expect("a speed");
            let fastest = numbers("steps_s").into_iter().fold(f64::MAX, f64::min);
            assert!((speed * fastest - 32.0).abs() <= speed * 0.0006 + 0.1, "{test}");
            // Random weights, 512 ids: about ln 512, and finite.
            assert_eq!(numbers("losses").len(), 3);
            assert!(numbers("losses").iter().all(|loss| (4.0..16.0).contains(loss)), "{test}");
            // What --dry-run predicts is what the GPU holds: within the 10 %, and a MiB for parameters of launches.
            let (held, predicted) = (test["gpu_bytes"].as_f64(), test["predicted_bytes"].as_f64());
            let (held, predicted) = (held.expect("bytes"), predicted.expect("bytes"));
            assert!((held - predicted).abs() < predicted * 0.1 + 1048576.0, "{held} {predicted}");
        }
        let plan = home.run(&format!("finetune -m HERE/{kind}.gguf --data HERE/rows.jsonl --dry-run --out HERE/run"));
        assert_done(&plan);
        assert!(plan.stdout.contains("GPU memory: "), "{}", plan.stdout);
    }
    // The same seed, the same file.
    assert_done(&home.run("debug synthetic-model --shape tiny --type q4_0 --out HERE/again.gguf"));
    assert_done(&home.run("debug synthetic-model --shape tiny --type q4_0 --seed 1 --out HERE/other.gguf"));
    let bytes = |name: &str| std::fs::read(home.path(name)).expect("written");
    assert!(bytes("q4_0.gguf") == bytes("again.gguf") && bytes("q4_0.gguf") != bytes("other.gguf"));
}

#[test]
fn depth_fills_the_context_before_the_tests() {
    let home = Home::new();
    let outcome = home.run("bench -m TINY -p 8 -n 4 -r 1 --depth 0,16,100 --format json");
    assert_done(&outcome);
    let answer = json(&outcome.stdout);
    let tests = answer["tests"].as_array().expect("tests");
    let names: Vec<&str> = tests.iter().filter_map(|test| test["test"].as_str()).collect();
    assert_eq!(names, ["pp8", "tg4", "pp8 @ d16", "tg4 @ d16", "pp8 @ d100", "tg4 @ d100"]);
    // The cache has grown by at least the positions that were added.
    let held = |index: usize| tests[index]["gpu_bytes"].as_u64().expect("bytes");
    let position = answer["cache_bytes_per_position"].as_u64().expect("bytes");
    assert!(held(5) >= held(0) + (100 - 64) * position, "{answer}");
}

#[test]
fn measurements_that_cannot_be_made_are_wrong_use() {
    let home = Home::new();
    home.refuse("bench -m TINY --depth 100000", 2, "no room", "-p and -n");
    home.refuse("bench -m TINY --depth 100000 -p 8 -n 4", 2, "no room", "--depth 119 or less");
    home.refuse("bench -m TINY --train 4", 2, "4x128", "--help");
    home.refuse("bench -m TINY --train 1x1", 2, "at least 2 tokens", "--help");
    home.refuse("bench -m TINY --train 1x8 --adapter-layers 99", 2, "99", "at most");
    home.refuse("bench -m TINY --train 1x8 -p 3", 2, "cannot be used with", "--help");
    home.refuse("debug synthetic-model --shape 9b --type q4_0 --out HERE/x.gguf", 2, "9b", "--help");
}
