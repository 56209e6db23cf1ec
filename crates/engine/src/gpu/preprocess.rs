//! The shader preprocessor: four words on top of WGSL, resolved before naga or a browser sees the text.
//!
//! ```text
//! #import q4_1                   the fragment shaders/shared/q4_1.wgsl, once per shader
//! #for r in 0..ROWS … #end       the lines between, once per value of r
//! #if NAME | !NAME | NAME == v   … #else … #end
//! ${2*r+1}                       an integer expression over loop variables and constants, or a constant's text
//! ```
//!
//! `#for` exists because software rasterisers (lavapipe, SwiftShader) do not unroll loops around arrays of
//! accumulators: the same matmul with `array<f32, 16>` and loops ran 5 times slower there than with 16 named variables.

use std::collections::{BTreeMap, BTreeSet};

/// The constants a variant of a shader is made with: name to text.
pub type Constants = BTreeMap<&'static str, String>;

/// A mistake in a shader template; only a developer of this crate can cause one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shader {shader:?}, line {line}: {message}")]
pub struct PreprocessError {
    /// The file the line is in.
    pub shader: String,
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Resolves all directives of `source` and returns plain WGSL.
///
/// `fragment` finds the text of an imported fragment by name.
///
/// # Errors
/// Unknown names, unbalanced `#end`, bad expressions; named with file and line.
pub fn preprocess(
    shader: &str,
    source: &str,
    constants: &Constants,
    fragment: &dyn Fn(&str) -> Option<&'static str>,
) -> Result<String, PreprocessError> {
    let mut run = Run { constants, fragment, variables: Vec::new(), imported: BTreeSet::new(), out: String::new() };
    let lines: Vec<&str> = source.lines().collect();
    run.block(shader, &lines, 0, lines.len())?;
    Ok(run.out)
}

struct Run<'a> {
    constants: &'a Constants,
    fragment: &'a dyn Fn(&str) -> Option<&'static str>,
    variables: Vec<(String, i64)>,
    imported: BTreeSet<String>,
    out: String,
}

impl Run<'_> {
    fn block(&mut self, shader: &str, lines: &[&str], from: usize, to: usize) -> Result<(), PreprocessError> {
        let mut at = from;
        while at < to {
            let line = lines[at];
            let fail = |message: String| PreprocessError { shader: shader.to_owned(), line: at + 1, message };
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                let text = self.substitute(line).map_err(fail)?;
                self.out.push_str(&text);
                self.out.push('\n');
                at += 1;
                continue;
            };
            let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            let rest = self.substitute(rest.trim()).map_err(fail)?;
            match word {
                "import" => {
                    if self.imported.insert(rest.clone()) {
                        let text =
                            (self.fragment)(&rest).ok_or_else(|| fail(format!("no fragment is named {rest:?}")))?;
                        let inner: Vec<&str> = text.lines().collect();
                        self.block(&rest, &inner, 0, inner.len())?;
                    }
                    at += 1;
                }
                "for" => {
                    let (_, end) = matching_end(lines, at, to).ok_or_else(|| fail("#for without #end".into()))?;
                    let (name, range) =
                        rest.split_once(" in ").ok_or_else(|| fail("write #for NAME in FROM..TO".into()))?;
                    let (low, high) = range.split_once("..").ok_or_else(|| fail("write FROM..TO".into()))?;
                    let (low, high) = (self.eval(low).map_err(fail)?, self.eval(high).map_err(fail)?);
                    for value in low..high {
                        self.variables.push((name.trim().to_owned(), value));
                        self.block(shader, lines, at + 1, end)?;
                        self.variables.pop();
                    }
                    at = end + 1;
                }
                "if" => {
                    let (middle, end) = matching_end(lines, at, to).ok_or_else(|| fail("#if without #end".into()))?;
                    if self.condition(&rest).map_err(fail)? {
                        self.block(shader, lines, at + 1, middle.unwrap_or(end))?;
                    } else if let Some(middle) = middle {
                        self.block(shader, lines, middle + 1, end)?;
                    }
                    at = end + 1;
                }
                other => return Err(fail(format!("unknown directive #{other}"))),
            }
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<String> {
        if let Some((_, value)) = self.variables.iter().rev().find(|(variable, _)| variable == name) {
            return Some(value.to_string());
        }
        self.constants.get(name).cloned()
    }

    fn condition(&self, text: &str) -> Result<bool, String> {
        if let Some((name, wanted)) = text.split_once("==") {
            let name = name.trim();
            let value = self.value(name).ok_or_else(|| format!("no constant is named {name:?}"))?;
            return Ok(value == wanted.trim());
        }
        match text.strip_prefix('!') {
            Some(rest) => Ok(self.eval(rest)? == 0),
            None => Ok(self.eval(text)? != 0),
        }
    }

    fn substitute(&self, line: &str) -> Result<String, String> {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let tail = &rest[start + 2..];
            let end = tail.find('}').ok_or("${ without }")?;
            let inside = tail[..end].trim();
            match self.value(inside) {
                Some(text) => out.push_str(&text),
                None => out.push_str(&self.eval(inside)?.to_string()),
            }
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Sums of products of integers and names: `2*r+1`.
    fn eval(&self, text: &str) -> Result<i64, String> {
        let mut sum = 0i64;
        for term in text.split('+') {
            let mut product = 1i64;
            for factor in term.split('*') {
                let factor = factor.trim();
                let number = match factor.parse::<i64>() {
                    Ok(number) => number,
                    Err(_) => self
                        .value(factor)
                        .and_then(|value| value.parse().ok())
                        .ok_or_else(|| format!("{factor:?} is neither a number nor a known name"))?,
                };
                product = product.checked_mul(number).ok_or("overflow")?;
            }
            sum = sum.checked_add(product).ok_or("overflow")?;
        }
        Ok(sum)
    }
}

/// The `#else` (if any) and the `#end` that belong to the directive at `start`.
fn matching_end(lines: &[&str], start: usize, to: usize) -> Option<(Option<usize>, usize)> {
    let (mut depth, mut middle) = (0usize, None);
    for (index, line) in lines.iter().enumerate().take(to).skip(start) {
        let line = line.trim_start();
        if line.starts_with("#for") || line.starts_with("#if") {
            depth += 1;
        } else if line.starts_with("#else") && depth == 1 {
            middle = Some(index);
        } else if line.starts_with("#end") {
            depth -= 1;
            if depth == 0 {
                return Some((middle, index));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: &str, constants: &[(&'static str, &str)]) -> Result<String, PreprocessError> {
        let constants = constants.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        preprocess("test", source, &constants, &|name| (name == "part").then_some("fn part() {}"))
    }

    #[test]
    fn loops_conditions_and_imports() {
        let source = "#import part\n#import part\n#for r in 0..ROWS\nlet a${r} = ${2*r+1}u;\n#end\n#if FAST\nfast\n#else\nslow\n#end";
        assert_eq!(
            run(source, &[("ROWS", "2"), ("FAST", "0")]).unwrap(),
            "fn part() {}\nlet a0 = 1u;\nlet a1 = 3u;\nslow\n"
        );
    }

    #[test]
    fn nested_loops_and_equality() {
        let source = "#for r in 0..2\n#for t in 0..2\n#if MODE == fast\nacc${r}_${t}\n#end\n#end\n#end";
        assert_eq!(run(source, &[("MODE", "fast")]).unwrap(), "acc0_0\nacc0_1\nacc1_0\nacc1_1\n");
        assert_eq!(run(source, &[("MODE", "slow")]).unwrap(), "");
    }

    #[test]
    fn mistakes_name_the_line() {
        assert_eq!(run("ok\n#for r in 0..N\n#end", &[]).unwrap_err().line, 2);
        assert_eq!(run("#for r in 0..2\nx", &[]).unwrap_err().message, "#for without #end");
        assert!(run("#import missing", &[]).unwrap_err().message.contains("missing"));
        assert!(run("#frob", &[]).unwrap_err().message.contains("frob"));
    }
}
