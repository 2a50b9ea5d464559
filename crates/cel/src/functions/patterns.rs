//! Regular expressions, which take time in proportion to text and expression.

use regex::{Regex, RegexBuilder};

use super::{Called, Function, function, made, method};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    method("matches", 2, 2, matches),
    function("matches", 2, 2, matches),
    function("regex.replace", 3, 4, replace),
    function("regex.extract", 2, 2, extract),
    function("regex.extractAll", 2, 2, extract_all),
];

/// How long an expression can be, and how large what it is compiled to.
const PATTERN_BYTES_MAX: usize = 1024;
const COMPILED_BYTES_MAX: usize = 64 * 1024;
/// What compiling one takes, and reading so many bytes with it.
const COMPILE_STEPS: u64 = 2_000;
const READ_STEPS_PER_BYTE: usize = 4;

fn compiled(pattern: &str, text: &str, budget: &mut Budget) -> Result<Regex, Problem> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Problem::Pattern);
    }
    budget.steps(COMPILE_STEPS)?;
    budget.look(text.len().saturating_mul(READ_STEPS_PER_BYTE).saturating_mul(1 + pattern.len() / 16))?;
    let compiled = RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
    compiled.map_err(|_| Problem::Pattern)
}

fn matches(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text), Value::Text(pattern)] = given else { return Ok(None) };
    Ok(Some(Value::Bool(compiled(pattern, text, budget)?.is_match(text))))
}

/// Puts `\1` and the like in for what matches, as often as is said.
fn replace(given: &[Value], budget: &mut Budget) -> Called {
    let (text, pattern, put, most) = match given {
        [Value::Text(text), Value::Text(pattern), Value::Text(put)] => (text, pattern, put, -1),
        [Value::Text(text), Value::Text(pattern), Value::Text(put), Value::Int(most)] => (text, pattern, put, *most),
        _ => return Ok(None),
    };
    let pattern = compiled(pattern, text, budget)?;
    let mut out = String::new();
    let mut end = 0;
    let mut rest = usize::try_from(most).unwrap_or(usize::MAX);
    for found in pattern.captures_iter(text) {
        if rest == 0 {
            break;
        }
        rest -= 1;
        budget.step()?;
        let Some(whole) = found.get(0) else { continue };
        push(&mut out, text.get(end..whole.start()).unwrap_or_default(), budget)?;
        let mut letters = put.chars();
        while let Some(letter) = letters.next() {
            if letter != '\\' {
                push(&mut out, letter.encode_utf8(&mut [0; 4]), budget)?;
                continue;
            }
            match letters.next() {
                Some('\\') => push(&mut out, "\\", budget)?,
                Some(digit) if digit.is_ascii_digit() => {
                    let group = digit.to_digit(10).and_then(|group| usize::try_from(group).ok()).unwrap_or_default();
                    if group >= pattern.captures_len() {
                        return Err(Problem::NoIndex);
                    }
                    push(&mut out, found.get(group).map_or("", |group| group.as_str()), budget)?;
                }
                _ => return Err(Problem::Unreadable("an escape")),
            }
        }
        end = whole.end();
    }
    push(&mut out, text.get(end..).unwrap_or_default(), budget)?;
    Ok(Some(Value::text(out)))
}

fn push(out: &mut String, text: &str, budget: &mut Budget) -> Result<(), Problem> {
    budget.make(text.len())?;
    out.push_str(text);
    Ok(())
}

/// The one group, where there is one; all of it where there is none.
fn group(pattern: &Regex) -> Result<usize, Problem> {
    match pattern.captures_len() {
        1 => Ok(0),
        2 => Ok(1),
        _ => Err(Problem::Macro("regex.extract", "an expression with one group at most")),
    }
}

fn extract(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text), Value::Text(pattern)] = given else { return Ok(None) };
    let pattern = compiled(pattern, text, budget)?;
    let group = group(&pattern)?;
    let Some(found) = pattern.captures(text).and_then(|found| found.get(group)) else {
        return Ok(Some(Value::Optional(None)));
    };
    let Some(text) = made(found.as_str().to_owned(), budget)? else { return Ok(None) };
    Value::some(text).map(Some)
}

fn extract_all(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text), Value::Text(pattern)] = given else { return Ok(None) };
    let pattern = compiled(pattern, text, budget)?;
    let group = group(&pattern)?;
    let mut all = Vec::new();
    for found in pattern.captures_iter(text) {
        budget.make_items(1)?;
        let Some(found) = found.get(group) else { continue };
        all.extend(made(found.as_str().to_owned(), budget)?);
    }
    Value::list(all).map(Some)
}
