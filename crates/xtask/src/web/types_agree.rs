//! The plain data that crosses from Rust to the page is written twice, in Rust and in TypeScript, side by side in two `types.rs`.
//! Here the two are compared, field by field.

use std::collections::BTreeMap;

/// A field: what TypeScript calls it, whether it may be missing, and its type in TypeScript's words.
type Fields = BTreeMap<String, (bool, String)>;

/// The data of one `types.rs`: by the name of the interface, or of the interface and the variant (`AnswerEvent prompt`).
#[derive(Debug, Default)]
struct Types {
    rust: BTreeMap<String, Fields>,
    typescript: BTreeMap<String, Fields>,
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| {
        let mut letters = part.chars();
        name + &letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    })
}

/// Without comments, and every space one space.
fn plain(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let mut rest = lines.collect::<Vec<_>>().join(" ");
    while let Some((before, after)) = rest.split_once("/**") {
        let end = after.split_once("*/").map_or("", |(_, end)| end);
        rest = format!("{before} {end}");
    }
    rest.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands between the bracket at the beginning of `text` and the one that closes it, and what comes after.
fn inside(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' | '(' | '<' => depth += 1,
            '}' | ']' | ')' | '>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (text.get(1..at).unwrap_or_default(), text.get(at + c.len_utf8()..).unwrap_or_default());
        }
    }
    (text, "")
}

/// `text` at the `separator`s that lie in no bracket.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' | '(' | '<' => depth += 1,
            '}' | ']' | ')' | '>' => depth -= 1,
            c if c == separator && depth == 0 => {
                parts.push(text.get(from..at).unwrap_or_default().trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default().trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// A type of Rust in TypeScript's words; whether it may be missing.
fn of_rust(name: &str) -> (bool, String) {
    if let Some(rest) = name.strip_prefix("Option<") {
        return (true, of_rust(rest.strip_suffix('>').unwrap_or(rest)).1);
    }
    let word = match name.trim_start_matches("&'static ").trim_start_matches("&'a ") {
        // A schedule and a finish are one of some words.
        "str" | "String" | "Schedule" | "Finish" => "string".to_owned(),
        "bool" => "boolean".to_owned(),
        "f32" | "f64" | "u32" | "u64" | "usize" => "number".to_owned(),
        other => match other.strip_prefix("Vec<").and_then(|rest| rest.strip_suffix('>')) {
            Some(element) => format!("{}[]", of_rust(element).1),
            None if other.starts_with('(') => {
                let parts: Vec<String> = split(inside(other).0, ',').into_iter().map(|part| of_rust(part).1).collect();
                format!("[{}]", parts.join(", "))
            }
            None => other.to_owned(),
        },
    };
    (false, word)
}

/// Texts that are written out are texts; a number that JSON cannot hold is `null`.
fn of_typescript(name: &str) -> String {
    let parts: Vec<&str> = split(name, '|').into_iter().filter(|part| *part != "null").collect();
    if parts.iter().all(|part| part.starts_with('"')) { "string".to_owned() } else { parts.join(" | ") }
}

fn fields_of_typescript(text: &str) -> Fields {
    let field = |field: &str| {
        let (name, kind) = field.split_once(':')?;
        let (name, optional) = name.trim().strip_suffix('?').map_or((name.trim(), false), |name| (name, true));
        Some((name.trim_start_matches("readonly ").to_owned(), (optional, of_typescript(kind.trim()))))
    };
    split(text, ';').into_iter().filter_map(field).collect()
}

/// `defaults`: whether every field may be missing, as in what Rust only reads.
fn fields_of_rust(text: &str, camel_case: bool, defaults: bool) -> Fields {
    let field = |field: &str| {
        let mut field = field;
        let mut skipped = false;
        while let Some(rest) = field.strip_prefix('#') {
            let (attribute, rest) = inside(rest);
            skipped |= attribute.contains("Option::is_none");
            field = rest.trim();
        }
        let (name, kind) = field.trim_start_matches("pub ").split_once(':')?;
        let (optional, kind) = of_rust(kind.trim());
        assert!(!optional || skipped || defaults, "{name} would be null where TypeScript expects it to be missing");
        let name = name.trim();
        Some((if camel_case { camel(name) } else { name.to_owned() }, (optional || defaults, kind)))
    };
    split(text, ',').into_iter().filter_map(field).collect()
}

impl Types {
    fn read(text: &str) -> Self {
        let (before, rest) = text.split_once("r#\"").expect("the types in TypeScript");
        let (typescript, after) = rest.split_once("\"#;").expect("their end");
        let mut types = Self::default();
        types.read_typescript(&plain(typescript));
        types.read_rust(&plain(&format!("{before}{after}")));
        types
    }

    fn read_typescript(&mut self, text: &str) {
        for part in text.split("export ").skip(1) {
            if let Some(rest) = part.strip_prefix("interface ") {
                let (name, body) = rest.split_once(' ').expect("a name");
                let body = body.get(body.find('{').expect("a body")..).expect("a body");
                self.typescript.insert(name.to_owned(), fields_of_typescript(inside(body).0));
            } else if let Some((name, union)) = part.strip_prefix("type ").and_then(|rest| rest.split_once('=')) {
                for variant in split(union.trim().trim_end_matches(';'), '|') {
                    if !variant.starts_with('{') {
                        continue; // a function, not data
                    }
                    let body = inside(variant).0;
                    let (_, kind) = body.split_once("kind: \"").expect("a variant has a kind");
                    let kind = kind.split('"').next().unwrap_or_default();
                    let mut fields = fields_of_typescript(body);
                    fields.remove("kind");
                    self.typescript.insert(format!("{} {kind}", name.trim()), fields);
                }
            }
        }
    }

    fn read_rust(&mut self, text: &str) {
        for word in ["pub struct ", "pub enum "] {
            for (at, _) in text.match_indices(word) {
                let attributes =
                    text.get(..at).and_then(|before| before.rfind("#[derive")).and_then(|from| text.get(from..at));
                let attributes = attributes.unwrap_or_default();
                let rest = text.get(at + word.len()..).unwrap_or_default();
                let open = rest.find('{').expect("a body");
                let name = rest.get(..open).unwrap_or_default().split(['<', ' ']).next().unwrap_or_default();
                let body = inside(rest.get(open..).unwrap_or_default()).0;
                let camel_case = attributes.contains("rename_all = \"camelCase\"")
                    || attributes.contains("rename_all_fields = \"camelCase\"");
                if word == "pub struct " {
                    let defaults = attributes.contains(", default") && attributes.contains("Deserialize");
                    self.rust.insert(name.to_owned(), fields_of_rust(body, camel_case, defaults));
                    continue;
                }
                for variant in split(body, ',') {
                    let (kind, fields) = variant.split_once('{').expect("every variant has fields");
                    let fields = fields.trim_end_matches('}');
                    let fields = fields_of_rust(fields, camel_case, false);
                    self.rust.insert(format!("{name} {}", kind.trim().to_lowercase()), fields);
                }
            }
        }
    }

    /// Where the two differ. What Rust hands over beside the data, bytes, is in TypeScript alone.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, rust) in &self.rust {
            let Some(typescript) = self.typescript.get(name) else {
                found.push(format!("{name} is not described in TypeScript"));
                continue;
            };
            let optional_bytes = |(_, (_, kind)): &(&String, &(bool, String))| kind == "Uint8Array";
            let described: BTreeMap<_, _> = typescript.iter().filter(|field| !optional_bytes(field)).collect();
            let written: BTreeMap<_, _> = rust.iter().collect();
            for field in written.keys().chain(described.keys()) {
                let (written, described) = (written.get(field), described.get(field));
                if written != described {
                    found.push(format!("{name}.{field}: {written:?} in Rust, {described:?} in TypeScript"));
                }
            }
        }
        found.dedup();
        found
    }
}

#[test]
fn what_crosses_to_the_page_is_described_as_it_is() {
    let chat = Types::read(include_str!("../../../../web/browser/src/types.rs"));
    let teach = Types::read(include_str!("../../../../web/teach/src/types.rs"));
    for (types, at_least) in [(&chat, 9), (&teach, 4)] {
        assert!(types.rust.len() >= at_least, "{:?}", types.rust.keys());
        assert_eq!(types.differences(), Vec::<String>::new());
    }
}

#[test]
fn a_field_that_is_renamed_or_changed_on_one_side_is_found() {
    let text = include_str!("../../../../web/browser/src/types.rs");
    for (is, was) in [
        ("memoryBytes: number;", "bytes: number;"),
        ("pub layers: u32,", "pub layers: String,"),
        ("warning?: string;", "warning: string;"),
        ("pub gates: Vec<Vec<f32>>,", "pub gates: Vec<f32>,"),
        ("pub reused_tokens: u32,", ""),
        ("Token { id: u32, text: &'a str },", "Token { id: u32 },"),
    ] {
        let changed = text.replace(is, was);
        assert!(changed != text, "there is no {is:?} any more: take another field");
        assert!(!Types::read(&changed).differences().is_empty(), "{is} -> {was}");
    }
}
