//! Which file of a crate imports which, and the circles there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files by name and those each of them imports.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// All files below `folder` with this ending.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", "pkg", "wasm", "dist"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of a Rust file without its comments, the text of its strings and the unit tests at its end; and those strings.
pub fn scan(text: &str) -> (String, Vec<String>) {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let (mut out, mut strings) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/', '\'', 'r']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        rest = if from.starts_with("//") {
            &from[from.find('\n').unwrap_or(from.len())..]
        } else if from.starts_with("/*") {
            from.find("*/").map_or("", |end| &from[end + 2..])
        } else if let Some(hashes) = raw_string(from).filter(|_| !after_word) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &from[hashes + 2..];
            let end = body.find(&close).unwrap_or(body.len());
            strings.push(body[..end].to_owned());
            body.get(end + close.len()..).unwrap_or_default()
        } else if let Some(body) = from.strip_prefix('"') {
            out.push_str("\"\"");
            let mut escaped = false;
            let end = body.char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
            let end = end.map_or(body.len(), |(end, _)| end);
            strings.push(body[..end].to_owned());
            body.get(end + 1..).unwrap_or_default()
        } else if let Some(body) = from.strip_prefix('\'') {
            // A character, or a lifetime.
            let mut chars = body.chars();
            match (chars.next(), chars.next()) {
                (Some('\\'), Some(_)) => {
                    body.get(2..).and_then(|rest| rest.split_once('\'')).map_or("", |(_, rest)| rest)
                }
                (Some(c), Some('\'')) => &body[c.len_utf8() + 1..],
                _ => body,
            }
        } else {
            out.push_str(&from[..1]);
            &from[1..]
        };
    }
    out.push_str(rest);
    (out, strings)
}

/// The number of `#` of the raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.trim_start_matches('#');
    hashes.starts_with('"').then(|| text.len() - 1 - hashes.len())
}

/// `a::{b, c::{d, self}}` as paths: `[a, b]`, `[a, c, d]`, `[a, c]`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        let names: Vec<String> = path.split("::").map(|name| name.trim().to_owned()).collect();
        return vec![names.into_iter().filter(|name| !name.is_empty()).collect()];
    };
    let head: Vec<String> =
        tree[..open].split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[from..]);
    parts
        .into_iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(expand)
        .map(|path| {
            let path = if path.len() == 1 && path[0] == "self" { Vec::new() } else { path };
            head.iter().cloned().chain(path).collect()
        })
        .collect()
}

struct Crate {
    /// File by its module path.
    files: BTreeMap<Vec<String>, String>,
    /// What a module hands on under a name: `pub use error::Error`.
    exports: BTreeMap<(Vec<String>, String), Vec<String>>,
}

impl Crate {
    /// The file in which what a path names stands, from the crate's root.
    fn resolve(&self, path: &[String], depth: u32) -> Option<String> {
        let at = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len]))?;
        if let Some(name) = path.get(at)
            && depth < 8
            && let Some(other) = self.exports.get(&(path[..at].to_vec(), name.clone()))
        {
            return self.resolve(other, depth + 1);
        }
        self.files.get(&path[..at]).cloned()
    }
}

/// An absolute path in the crate, of one written in the module `here`.
fn absolute(here: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => here.to_vec(),
        "super" => here.get(..here.len().checked_sub(1)?)?.to_vec(),
        _ => return None,
    };
    for name in &path[1..] {
        match name.as_str() {
            "super" => _ = base.pop(),
            "self" => {}
            name => base.push(name.to_owned()),
        }
    }
    Some(base)
}

/// `use` statements of a piece of code: whether each is public, and its tree.
fn uses(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement.rfind("use ") else { continue };
        let before = statement[..at].trim_end();
        let starts = before.is_empty() || before.ends_with(['}', '{', ']', ')']) || before.ends_with("pub");
        if starts {
            let public = before.ends_with("pub") || before.ends_with("pub(crate)") || before.ends_with("pub(super)");
            found.push((public, statement[at + 4..].trim().to_owned()));
        }
    }
    found
}

/// The imports between the files of the crate whose sources are in `src`. What a module and the modules inside it have of each
/// other is not counted: they are one room.
pub fn of_crate(src: &Path) -> Imports {
    let mut all = Crate { files: BTreeMap::new(), exports: BTreeMap::new() };
    let mut sources = Vec::new();
    for path in files(src, ".rs") {
        let name = path.strip_prefix(src).expect("below").to_string_lossy().replace('\\', "/");
        let mut module: Vec<String> =
            name.trim_end_matches(".rs").split('/').map(str::to_owned).filter(|part| part != "mod").collect();
        if module == ["lib"] || (module == ["main"] && !src.join("lib.rs").is_file()) {
            module.clear();
        }
        let (code, _) = scan(&fs::read_to_string(&path).expect("a source file"));
        all.files.insert(module.clone(), name.clone());
        sources.push((module, name, code));
    }
    for (module, _, code) in &sources {
        for (public, tree) in uses(code) {
            for path in expand(&tree) {
                let Some(name) = path.last().filter(|_| public) else { continue };
                // `pub use error::Error` in a module that has `mod error`.
                let own = [module.clone(), path[..1].to_vec()].concat();
                let target = match absolute(module, &path) {
                    Some(target) => target,
                    None if all.files.contains_key(&own) => [module.clone(), path.clone()].concat(),
                    None => continue,
                };
                all.exports.insert((module.clone(), name.clone()), target);
            }
        }
    }
    let mut imports = Imports::new();
    for (module, name, code) in &sources {
        let targets = imports.entry(name.clone()).or_default();
        let mut paths: Vec<Vec<String>> = uses(code).iter().flat_map(|(_, tree)| expand(tree)).collect();
        // Paths in the middle of code, too.
        for (at, _) in code.match_indices("crate::") {
            let word: String =
                code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            paths.push(word.split("::").map(str::to_owned).filter(|name| !name.is_empty()).collect());
        }
        for path in paths {
            let Some(path) = absolute(module, &path) else { continue };
            let Some(target) = all.resolve(&path, 0) else { continue };
            let of_target = all.files.iter().find(|(_, file)| **file == target).map(|(module, _)| module.clone());
            let inside = of_target.is_some_and(|other| other.starts_with(module) || module.starts_with(&other));
            if target != *name && !inside {
                targets.insert(target);
            }
        }
    }
    imports
}

/// The imports between the TypeScript files below the folders, which are named from `root`.
pub fn of_scripts(root: &Path, folders: &[&str]) -> Imports {
    let mut imports = Imports::new();
    for path in folders.iter().flat_map(|folder| files(&root.join(folder), ".ts")) {
        let name = path.strip_prefix(root).expect("below").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).expect("a source file");
        let targets = imports.entry(name).or_default();
        for quoted in text.split(['"', '\'']).filter(|part| part.starts_with("./") || part.starts_with("../")) {
            let target = path.parent().expect("a folder").join(quoted.replace(".js", ".ts"));
            if let Ok(target) = target.canonicalize()
                && let Ok(target) = target.strip_prefix(root)
            {
                targets.insert(target.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    imports
}

/// The sets of files of which each reaches each other: a circle each.
pub fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for target in imports.get(file).into_iter().flatten() {
                if seen.insert(target) {
                    next.push(target);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports.keys().map(|file| (file, reach(file))).collect();
    let mut found = BTreeSet::new();
    for (file, targets) in &reached {
        let mut circle: Vec<String> = targets
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(*file)))
            .map(|other| (*other).clone())
            .collect();
        circle.sort();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}
