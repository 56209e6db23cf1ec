//! What all kinds of measurement share: samples, their median, and the file a result goes to.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::{machine, process};

/// One figure, a value a repetition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
            (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => f64::midpoint(*below, *above),
            (_, Some(middle)) => *middle,
            (_, None) => f64::NAN,
        }
    }

    pub fn to_json(&self) -> Value {
        json!({ "median": self.median(), "samples": self.0 })
    }
}

/// A positive figure in an answer, by its JSON pointer.
pub fn figure(answer: &Value, pointer: &str, whose: &str) -> Result<f64> {
    let value = answer.pointer(pointer).and_then(Value::as_f64).filter(|value| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| Error::failed(format!("the answer of {whose} has no {pointer}: {answer}")))
}

/// JSON that a program printed.
pub fn parse(output: &str, whose: &str) -> Result<Value> {
    serde_json::from_str(output)
        .map_err(|error| Error::failed(format!("{whose} did not print JSON ({error}): {}", output.trim())))
}

/// Writes a result where results are kept: `DATE-KIND-GPU.json`.
pub fn write(kind: &str, gpu: &str, mut result: Value) -> Result<()> {
    result["kind"] = kind.into();
    result["date"] = machine::today().into();
    let folder = process::repository_root().join("bench/results");
    std::fs::create_dir_all(&folder).map_err(|error| Error::io("make the folder", &folder, &error))?;
    let path = folder.join(format!("{}-{kind}-{}.json", machine::today(), machine::slug(gpu)));
    std::fs::write(&path, format!("{result:#}\n")).map_err(|error| Error::io("write", &path, &error))?;
    println!("wrote {}; `cargo xtask bench --table` puts it into the README", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let median = |samples: &[f64]| Samples(samples.to_vec()).median();
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_figure_that_is_missing_or_zero_is_refused() {
        let answer = json!({ "speed": { "median": 2.5 }, "none": 0 });
        assert_eq!(figure(&answer, "/speed/median", "it").expect("there"), 2.5);
        for pointer in ["/none", "/speed", "/other"] {
            assert!(figure(&answer, pointer, "it").is_err(), "{pointer}");
        }
        assert!(parse("no GPU", "it").is_err());
    }
}
