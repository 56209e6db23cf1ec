//! The figures of the README: a table and pictures made of the newest result of each kind in `bench/results/`.

use std::path::{Path, PathBuf};

use adapter_plot::{Chart, Series};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::process;

const BEGIN: &str = "<!-- figures: begin (made by `cargo xtask bench --table` from bench/results) -->\n";
const END: &str = "<!-- figures: end -->\n";
const MIB: f64 = 1024.0 * 1024.0;

/// `cargo xtask bench --table`: rewrites the README's block and the pictures.
pub fn run(args: &[String]) -> Result<()> {
    super::read_flags(args, "no flag beside --table", |_| false, |_, _| None)?;
    for (path, content) in files(&process::repository_root())? {
        std::fs::write(&path, content).map_err(|error| Error::io("write", &path, &error))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Every file that is made of results, as it should be.
fn files(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let results = read(&root.join("bench/results"))?;
    let readme = root.join("README.md");
    let text = std::fs::read_to_string(&readme).map_err(|error| Error::io("read", &readme, &error))?;
    let pictures = newest(&results, "growth").map(pictures).unwrap_or_default();
    let text = with_block(&text, &block(&results, &pictures))?;
    let pictures = pictures.into_iter().map(|(name, chart)| (root.join("docs").join(name), chart.svg()));
    Ok(std::iter::once((readme, text)).chain(pictures).collect())
}

/// All results, oldest first; of one date, by name.
fn read(folder: &Path) -> Result<Vec<Value>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read the folder", folder, &error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let one = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, &error))?;
        serde_json::from_str(&text).map_err(|error| Error::failed(format!("{} is not JSON: {error}", path.display())))
    };
    paths.into_iter().map(one).collect()
}

/// The newest result of a kind; the first results had no kind and were of decode. One beside a peer wins over one alone.
fn newest<'r>(results: &'r [Value], kind: &str) -> Option<&'r Value> {
    let of_kind = || results.iter().filter(|result| result["kind"].as_str().unwrap_or("decode") == kind);
    let has_peer = |result: &&Value| {
        result.get("ratio").is_some() || result.get("peers").is_some() || result.pointer("/batches/0/ratio").is_some()
    };
    of_kind().rfind(has_peer).or_else(|| of_kind().next_back())
}

/// The text with the block between its two marks replaced.
fn with_block(text: &str, block: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        Error::failed(format!("README.md has no lines {:?} and {:?} to write between", BEGIN.trim(), END.trim()))
    })?;
    Ok(format!("{before}{BEGIN}{block}{END}{after}"))
}

/// A row: what, ours, who, theirs, and by how much ours is better or worse.
struct Row {
    what: String,
    ours: f64,
    peer: String,
    theirs: f64,
}

impl Row {
    fn new(what: impl Into<String>, ours: f64, peer: &str, theirs: f64) -> Self {
        Self { what: what.into(), ours, peer: peer.to_owned(), theirs }
    }
}

fn block(results: &[Value], pictures: &[(&str, Chart)]) -> String {
    let (decode, web, train) = (newest(results, "decode"), newest(results, "web"), newest(results, "train"));
    let mut out = String::new();
    let mut rows = Vec::new();
    rows.extend(decode.map(decode_rows).unwrap_or_default());
    rows.extend(web.map(web_rows).unwrap_or_default());
    rows.extend(train.map(train_rows).unwrap_or_default());
    let rows: Vec<&Row> = rows.iter().filter(|row| row.ours.is_finite()).collect();
    if !rows.is_empty() {
        out += "\n| what | this engine | peer | | ratio |\n|---|---:|---|---:|---:|\n";
        for Row { what, ours, peer, theirs } in rows {
            let (theirs, ratio) = match theirs.is_finite() {
                true => (short(*theirs), short(ours / theirs)),
                false => (String::new(), String::new()),
            };
            out += &format!("| {what} | {} | {peer} | {theirs} | {ratio} |\n", short(*ours));
        }
        out += "\n";
    }
    let mut sources: Vec<String> = [("Decode", decode), ("Browser", web), ("Training", train)]
        .into_iter()
        .filter_map(|(kind, result)| Some(source(kind, result?)))
        .collect();
    for (name, why) in web.and_then(|web| web["absent"].as_object()).into_iter().flatten() {
        sources.push(format!("{name} did not run: {}.", why.as_str().unwrap_or_default()));
    }
    // A line each, without the space of a list.
    out += &sources.join("\\\n");
    out += "\n";
    if !pictures.is_empty() {
        out += "\n";
        for (name, chart) in pictures {
            let alt = format!("{}: {} by {}", chart.title, chart.y, chart.x);
            out += &format!("<img src=\"docs/{name}\" width=\"49%\" alt=\"{alt}\">\n");
        }
        out += "\n";
    }
    if let Some(growth) = newest(results, "growth") {
        out += &growth_words(growth);
    }
    out
}

fn at(result: &Value, pointer: &str) -> f64 {
    result.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn decode_rows(result: &Value) -> Vec<Row> {
    let peer = "llama.cpp, Vulkan backend";
    let (ours, theirs) = (&result["ours"], &result["llama_cpp_vulkan"]);
    let median = |side: &Value, what: &str| at(side, &format!("/{what}_tokens_per_s/median"));
    let n_prefill = at(result, "/tokens/prefill");
    vec![
        Row::new("answer (decode), tokens/s", median(ours, "decode"), peer, median(theirs, "decode")),
        Row::new(
            format!("prompt of {n_prefill} (prefill), tokens/s"),
            median(ours, "prefill"),
            peer,
            median(theirs, "prefill"),
        ),
        Row::new(
            "peak memory, MiB",
            at(ours, "/last_answer/peak_rss_bytes") / MIB,
            "the same, with Node.js",
            at(theirs, "/last_answer/peak_rss_mb"),
        ),
    ]
}

fn web_rows(result: &Value) -> Vec<Row> {
    let ours = &result["ours"];
    let n_prefill = at(result, "/tokens/prefill");
    let empty = serde_json::Map::new();
    let mut peers: Vec<(&str, String, &Value)> = Vec::new();
    for (name, peer) in result["peers"].as_object().unwrap_or(&empty) {
        let version = peer["last_answer"]["version"].as_str().unwrap_or(name);
        let backend = peer["last_answer"]["backend"].as_str().unwrap_or_default();
        peers.push((name, format!("{version} ({backend})"), peer));
    }
    // WebGPU peers first: those are the ones of the same kind.
    peers.sort_by_key(|(_, about, _)| !about.contains("WebGPU"));
    if peers.is_empty() {
        peers.push(("", String::new(), &Value::Null));
    }
    let mut rows = Vec::new();
    for (what, pointer) in [
        ("in Chromium: answer, tokens/s".to_owned(), "/decode_tokens_per_s/median"),
        (format!("in Chromium: first token after {n_prefill}, s"), "/first_token_s/median"),
        ("in Chromium: memory of the browser, MiB".to_owned(), "/peak_browser_rss_mib"),
    ] {
        rows.extend(peers.iter().map(|(_, about, peer)| Row::new(&*what, at(ours, pointer), about, at(peer, pointer))));
    }
    rows
}

fn train_rows(result: &Value) -> Vec<Row> {
    let batches = result["batches"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = Vec::new();
    for entry in batches {
        let batch = format!("{} x {}", entry["batch"]["rows"], entry["batch"]["tokens"]);
        let peer = if entry.get("peft").is_some() { "PEFT, torch on the CPU, f32" } else { "" };
        for (what, pointer) in [("tokens/s", "/tokens_per_s/median"), ("memory, MiB", "/peak_rss_mib/median")] {
            let (ours, theirs) = (at(&entry["ours"], pointer), at(&entry["peft"], pointer));
            rows.push(Row::new(format!("training, {batch} tokens a step: {what}"), ours, peer, theirs));
        }
    }
    rows
}

/// On what, when and how often.
fn source(kind: &str, result: &Value) -> String {
    let text = |pointer: &str| result.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let gpu = ["/gpu", "/ours/last_answer/gpu", "/batches/0/ours/last_answer/gpu"].map(text);
    let gpu = gpu.into_iter().find(|gpu| !gpu.is_empty()).unwrap_or_default();
    let samples = ["/ours/decode_tokens_per_s/samples", "/batches/0/ours/tokens_per_s/samples"];
    let n = samples.iter().find_map(|pointer| Some(result.pointer(pointer)?.as_array()?.len())).unwrap_or_default();
    format!(
        "{kind}: {}, {} cores of {}, {gpu}; medians of {n}, turn by turn in one run of {}.",
        text("/model"),
        at(result, "/machine/cores"),
        text("/machine/cpu"),
        text("/date"),
    )
}

fn pictures(result: &Value) -> Vec<(&'static str, Chart)> {
    let points = |rows: &str, x: &str, y: &str| -> Vec<(f64, f64)> {
        let rows = result[rows].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().map(|row| (at(row, &format!("/{x}")), at(row, &format!("/{y}")))).collect()
    };
    let line = |name: &str, points| Series { name: name.to_owned(), points };
    vec![
        (
            "growth-context.svg",
            Chart {
                title: "Speed as the context grows".to_owned(),
                x: "tokens in the context".to_owned(),
                y: "tokens/s".to_owned(),
                series: vec![
                    line("prefill", points("context", "depth", "prefill_tokens_per_s")),
                    line("decode", points("context", "depth", "decode_tokens_per_s")),
                ],
            },
        ),
        (
            "growth-training.svg",
            Chart {
                title: "A training step as the batch grows".to_owned(),
                x: "tokens of a batch (one row)".to_owned(),
                y: "seconds a step".to_owned(),
                series: vec![line("seconds a step", points("training", "tokens", "step_s"))],
            },
        ),
    ]
}

/// What the pictures say, in figures.
fn growth_words(result: &Value) -> String {
    let ends = |rows: &str| Some((result[rows].as_array()?.first()?, result[rows].as_array()?.last()?));
    let mut out = String::new();
    if let Some((first, last)) = ends("context") {
        let speed = |row: &Value| short(at(row, "/decode_tokens_per_s"));
        out += &format!(
            "Decode after {} and after {} tokens: {} and {} tokens/s. ",
            count(first, "depth"),
            count(last, "depth"),
            speed(first),
            speed(last)
        );
    }
    if let Some((first, last)) = ends("training") {
        out += &format!(
            "A step of {} and of {} tokens takes {} and {} s. ",
            count(first, "tokens"),
            count(last, "tokens"),
            short(at(first, "/step_s")),
            short(at(last, "/step_s")),
        );
    }
    let rows = ["context", "training"].into_iter().filter_map(|rows| result[rows].as_array()).flatten();
    let predicted = rows.filter(|row| row.get("predicted_bytes").is_some());
    let ratios: Vec<f64> = predicted.map(|row| at(row, "/gpu_bytes") / at(row, "/predicted_bytes")).collect();
    if let (Some(low), Some(high)) = (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max))
    {
        out += &match low > 0.9995 && high < 1.0005 {
            true => "GPU memory is what was predicted.".to_owned(),
            false => format!("GPU memory is {low:.3} to {high:.3} of what was predicted."),
        };
    }
    if out.is_empty() { out } else { out + "\n" }
}

fn count(row: &Value, what: &str) -> String {
    short(at(row, &format!("/{what}")))
}

/// Three digits, which is more than a shared machine gives.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    // 1372 is easier to read as 1,372.
    match text.len() {
        4.. if digits == 0 => format!("{},{}", &text[..text.len() - 3], &text[text.len() - 3..]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_readme_and_its_pictures_are_what_the_results_give() {
        for (path, wanted) in files(&process::repository_root()).expect("results and a README") {
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == wanted, "{} is not up to date: run `cargo xtask bench --table`", path.display());
        }
    }

    #[test]
    fn only_what_lies_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(with_block(&text, "new\n").expect("marked"), format!("before\n{BEGIN}new\n{END}after\n"));
        let error = with_block("no marks", "new").expect_err("refused").to_string();
        assert!(error.contains("figures: begin"), "{error}");
    }

    #[test]
    fn the_newest_result_beside_a_peer_is_shown() {
        let results = [
            json!({ "date": "1", "ratio": {} }),
            json!({ "date": "2", "kind": "decode", "ratio": {} }),
            json!({ "date": "3", "kind": "decode" }),
            json!({ "date": "4", "kind": "train" }),
        ];
        assert_eq!(newest(&results, "decode").expect("one")["date"], "2");
        assert_eq!(newest(&results, "train").expect("alone")["date"], "4");
        assert!(newest(&results, "web").is_none());
    }

    #[test]
    fn a_row_has_both_figures_and_their_ratio() {
        let side = |speed: f64| json!({ "decode_tokens_per_s": { "median": speed }, "prefill_tokens_per_s": { "median": 4.0 * speed } });
        let result = json!({ "ours": side(20.0), "llama_cpp_vulkan": side(2.0), "ratio": {},
            "tokens": { "prefill": 256 }, "machine": { "cores": 2 } });
        let block = block(&[result], &[]);
        assert!(
            block.contains("| answer (decode), tokens/s | 20.0 | llama.cpp, Vulkan backend | 2.00 | 10.0 |"),
            "{block}"
        );
        assert!(block.contains("| prompt of 256 (prefill), tokens/s | 80.0 |"), "{block}");
        assert!(!block.contains("NaN") && !block.contains("training"), "{block}");
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in
            [(1372.4, "1,372"), (100.0, "100"), (41.04, "41.0"), (1.587, "1.59"), (0.19, "0.19"), (0.0432, "0.043")]
        {
            assert_eq!(short(value), text);
        }
    }
}
