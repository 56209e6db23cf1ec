//! Bounds that minijinja's fuel does not give.
//!
//! Fuel is charged for what a template makes, but lists that are repeated (`[0] * 100000000`) or added to themselves in
//! a loop are not made: they are iterated when they are written out, compared or unpacked, and minijinja 3.1 pays for
//! that only when it is done. One such line takes minutes or all memory. So each template is edited before it is parsed:
//! every operand that is a name, a call or a list gets a filter behind it, `x ~ y` becomes `x|within_bounds ~
//! y|within_bounds`, which passes a value on if it is small. Repeating anything but a quoted text is refused.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::error::TextError;

/// The name of the filter.
pub(super) const FILTER: &str = "within_bounds";
const INSERTED: &str = "|within_bounds";
/// The most items of a value with all it holds; 256 bytes of text count as one.
const MAX_ITEMS: usize = 8_000;
/// The most words and signs of one tag: a sum of thousands is a tree of that depth, which overflows the stack.
const MAX_TOKENS: usize = 512;
/// The most `elif` in a template, which minijinja parses one inside the other without counting.
const MAX_ELIFS: usize = 128;

/// Passes `value` on if it has at most [`MAX_ITEMS`].
pub(super) fn within_bounds(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let mut items = 0;
    let mut open = Vec::new();
    if is_container(&value) {
        open.push(value.clone());
    }
    while let Some(container) = open.pop() {
        // The length is known without going through the items; what has none can be gone through only once.
        let Some(len) = container.len() else { continue };
        items += len;
        if items > MAX_ITEMS {
            return Err(Error::new(ErrorKind::OutOfFuel, format!("a list has more than {MAX_ITEMS} items")));
        }
        let is_map = container.kind() == ValueKind::Map;
        for item in container.try_iter()?.take(len) {
            if let Some(text) = item.as_str() {
                items += text.len() / 256;
            }
            let item = if is_map { container.get_item(&item)? } else { item };
            match item.as_str() {
                Some(text) => items += text.len() / 256,
                None if is_container(&item) => open.push(item),
                None => {}
            }
            if items + open.len() > MAX_ITEMS {
                return Err(Error::new(ErrorKind::OutOfFuel, format!("a list has more than {MAX_ITEMS} items")));
            }
        }
    }
    state.consume_fuel(items as u64 / 16)?;
    Ok(value)
}

fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

/// The template with [`FILTER`] behind its operands. No line breaks are added, so lines in messages stay right.
///
/// # Errors
/// If it repeats lists, or works on values in the head of a macro or a block, where no filter can be added.
pub(super) fn add_bounds(source: &str) -> Result<String, TextError> {
    let mut out = String::with_capacity(source.len() * 2);
    let mut rest = source;
    let mut elifs = 0;
    while let Some(at) = next_tag(rest) {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let len = match tag.as_bytes()[1] {
            b'#' => tag.find("#}").map_or(tag.len(), |at| at + 2),
            b'%' if basic_tag(tag, "raw").is_some() => end_of_raw(tag),
            // Marks of transformers for training on answers, without effect on the text: a comment with the same signs.
            b'%' if let Some(len) = basic_tag(tag, "generation").or_else(|| basic_tag(tag, "endgeneration")) => {
                out.push_str(&tag[..len].replace("{%", "{#").replace("%}", "#}"));
                rest = &tag[len..];
                continue;
            }
            _ => {
                let (len, head) = add_bounds_to_tag(tag, &mut out)?;
                elifs += usize::from(head == "elif");
                if elifs > MAX_ELIFS {
                    return Err(TextError::TemplateUnbounded { what: "has more than 128 times elif" });
                }
                rest = &tag[len..];
                continue;
            }
        };
        out.push_str(&tag[..len]);
        rest = &tag[len..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The position of the next `{{`, `{%` or `{#`.
fn next_tag(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#'))
}

/// The length of `{% name %}` at the start of `tag`, with any spaces and signs.
fn basic_tag(tag: &str, name: &str) -> Option<usize> {
    let signs = ['-', '+'];
    let head = tag.strip_prefix("{%")?;
    let head = head.strip_prefix(signs).unwrap_or(head).trim_start().strip_prefix(name)?.trim_start();
    let head = head.strip_prefix(signs).unwrap_or(head).strip_prefix("%}")?;
    Some(tag.len() - head.len())
}

fn end_of_raw(tag: &str) -> usize {
    let ends = tag.match_indices("{%").filter_map(|(at, _)| basic_tag(&tag[at..], "endraw").map(|len| at + len));
    ends.min().unwrap_or(tag.len())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Name,
    /// A word of the language.
    Keyword,
    Text,
    Number,
    Open,
    Close,
    Operator,
    End,
}

/// Appends the `{{ ... }}` or `{% ... %}` at the start of `tag` to `out`, bounded; returns its length and its name.
fn add_bounds_to_tag<'a>(tag: &'a str, out: &mut String) -> Result<(usize, &'a str), TextError> {
    let is_expression = tag.starts_with("{{");
    let end = if is_expression { "}}" } else { "%}" };
    // Where operands begin: at once, or after the `=` of a set, or after the `in` of a for.
    let mut active = is_expression;
    let mut awaited = "";
    let mut head = "";
    let mut before = (Token::Operator, "");
    let (mut depth, mut at, mut copied) = (0_i64, 2, 0);
    let mut tokens = 0;
    while at < tag.len() {
        tokens += 1;
        if tokens > MAX_TOKENS {
            return Err(TextError::TemplateUnbounded { what: "has an expression of more than 512 words" });
        }
        let space = tag[at..].len() - tag[at..].trim_start().len();
        let start = at + space;
        if start == tag.len() {
            break;
        }
        let (mut token, len) = next_token(&tag[start..], depth, end);
        let word = &tag[start..start + len];
        if head.is_empty() && !is_expression && matches!(token, Token::Name | Token::Keyword) {
            head = word;
            // It is no operand.
            token = Token::Keyword;
            match word {
                "set" | "with" => awaited = "=",
                "for" => awaited = "in",
                "if" | "elif" | "do" => active = true,
                _ => {}
            }
        } else if active {
            if ends_operand(before) && follows_operand(token, word) {
                out.push_str(&tag[copied..at]);
                out.push_str(INSERTED);
                copied = at;
            }
            if word.starts_with('*') && token == Token::Operator && before.0 != Token::Text {
                return Err(TextError::TemplateUnbounded { what: "repeats or multiplies values with *" });
            }
        } else if awaited == word && depth == 0 {
            active = true;
            if head == "set" {
                // The value as a whole, so that no variable is large.
                out.push_str(&tag[copied..start + len]);
                out.push('(');
                copied = start + len;
            }
        } else if token == Token::Operator
            && matches!(word, "~" | "|" | "+" | "*" | "**")
            && before.0 != Token::Operator
        {
            return Err(TextError::TemplateUnbounded { what: "computes values in the head of a macro or a block" });
        }
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            Token::End => {
                if active && head == "set" {
                    out.push_str(&tag[copied..at]);
                    out.push(')');
                    out.push_str(INSERTED);
                    copied = at;
                }
                out.push_str(&tag[copied..start + len]);
                return Ok((start + len, head));
            }
            _ => {}
        }
        before = (token, word);
        at = start + len;
    }
    // Never closed: minijinja will say so.
    out.push_str(&tag[copied..]);
    Ok((tag.len(), head))
}

/// Whether an operand whose size is not known may end with this token.
fn ends_operand((token, _): (Token, &str)) -> bool {
    matches!(token, Token::Name | Token::Close)
}

/// Whether an operand has ended when this token comes.
fn follows_operand(token: Token, word: &str) -> bool {
    match token {
        Token::End | Token::Close => true,
        Token::Keyword => matches!(word, "and" | "or" | "not" | "in" | "if" | "else" | "is" | "recursive"),
        Token::Operator => !matches!(word, "." | "="),
        Token::Name | Token::Text | Token::Number | Token::Open => false,
    }
}

/// The token at the start of `code`, which is not empty and does not begin with white space, and its length.
fn next_token(code: &str, depth: i64, end: &str) -> (Token, usize) {
    let unsigned = code.strip_prefix(['-', '+']).unwrap_or(code);
    if depth == 0 && unsigned.starts_with(end) {
        return (Token::End, code.len() - unsigned.len() + end.len());
    }
    let length = |matches: fn(char) -> bool| code.find(|c| !matches(c)).unwrap_or(code.len());
    let Some(first) = code.chars().next() else { return (Token::End, 0) };
    match first {
        '(' | '[' | '{' => (Token::Open, 1),
        ')' | ']' | '}' => (Token::Close, 1),
        '"' | '\'' => (Token::Text, quoted(code, first)),
        '0'..='9' => (Token::Number, length(|c| c.is_alphanumeric() || c == '_')),
        _ if first.is_alphabetic() || first == '_' => {
            let len = length(|c| c.is_alphanumeric() || c == '_');
            match &code[..len] {
                "and" | "or" | "not" | "in" | "if" | "else" | "is" | "recursive" | "true" | "True" | "false"
                | "False" | "none" | "None" => (Token::Keyword, len),
                _ => (Token::Name, len),
            }
        }
        _ => {
            let two = code.get(..2).is_some_and(|two| matches!(two, "==" | "!=" | "<=" | ">=" | "//" | "**"));
            (Token::Operator, if two { 2 } else { first.len_utf8() })
        }
    }
}

/// The length of the quoted text at the start of `code`.
fn quoted(code: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::add_bounds;

    #[test]
    fn operands_are_bounded_and_nothing_else_is_touched() {
        for (source, wanted) in [
            ("a {{ x }} b", "a {{ x@ }} b"),
            ("{{- x.y['z'] ~ 'q' ~ f(a, b=c) -}}", "{{- x.y['z']@ ~ 'q' ~ f(a@, b=c@)@ -}}"),
            ("{% set x = y + 1 %}", "{% set x =( y@ + 1)@ %}"),
            ("{% set ns.x = [] -%}", "{% set ns.x =( []@)@ -%}"),
            ("{% set x %}y{% endset %}", "{% set x %}y{% endset %}"),
            ("{%- for k, v in d.items() if v is not none %}", "{%- for k, v in d.items()@ if v@ is not none %}"),
            ("{% if m is defined and not m.x %}", "{% if m@ is defined@ and not m.x@ %}"),
            ("{{ m | trim | upper }}", "{{ m@ | trim@ | upper@ }}"),
            ("{{ m[1:] }}{{ m[i:-1] }}{{ m[::-1] }}", "{{ m[1:]@ }}{{ m[i@:-1]@ }}{{ m[::-1]@ }}"),
            ("{{ {'a': {'b': x}} }}", "{{ {'a': {'b': x@}@}@ }}"),
            ("{{ 'x }} y' }}{# {{ x }} #}", "{{ 'x }} y' }}{# {{ x }} #}"),
            ("{% raw %}{{ x }}{%- endraw %}{{ y }}", "{% raw %}{{ x }}{%- endraw %}{{ y@ }}"),
            ("{{ 'a' if x else b }}{{ '  ' * n }}", "{{ 'a' if x@ else b@ }}{{ '  ' * n@ }}"),
            ("{% macro f(a, b=1) %}{% endmacro %}", "{% macro f(a, b=1) %}{% endmacro %}"),
            ("{%- elif not x -%}", "{%- elif not x@ -%}"),
            ("{%- generation -%}x{% endgeneration %}", "{#- generation -#}x{# endgeneration #}"),
            ("{{ never closed", "{{ never closed"),
        ] {
            assert_eq!(add_bounds(source).expect(source).replace("|within_bounds", "@"), wanted);
        }
        for source in ["{{ [0] * 9 }}", "{{ x ** 2 }}", "{% set x = x * x %}", "{% macro f(a=x ~ x) %}{% endmacro %}"] {
            assert!(add_bounds(source).is_err(), "{source}");
        }
    }
}
