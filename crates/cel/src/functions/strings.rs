//! Texts. Places in them are counted in characters.

use super::{Called, Function, count, function, made, method};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    method("contains", 2, 2, |given, budget| asks(given, budget, |text, part| text.contains(part))),
    method("startsWith", 2, 2, |given, budget| asks(given, budget, |text, part| text.starts_with(part))),
    method("endsWith", 2, 2, |given, budget| asks(given, budget, |text, part| text.ends_with(part))),
    method("charAt", 2, 2, char_at),
    method("indexOf", 2, 3, index_of),
    method("lastIndexOf", 2, 3, last_index_of),
    method("join", 1, 2, join),
    method("lowerAscii", 1, 1, |given, budget| turned(given, budget, |text| text.to_ascii_lowercase())),
    method("upperAscii", 1, 1, |given, budget| turned(given, budget, |text| text.to_ascii_uppercase())),
    method("trim", 1, 1, |given, budget| turned(given, budget, |text| text.trim().to_owned())),
    method("reverse", 1, 1, reverse),
    method("replace", 3, 4, replace),
    method("split", 2, 3, split),
    method("substring", 2, 3, substring),
    function("strings.quote", 1, 1, quote),
];

fn asks(given: &[Value], budget: &mut Budget, asked: fn(&str, &str) -> bool) -> Called {
    let [Value::Text(text), Value::Text(part)] = given else { return Ok(None) };
    budget.look(text.len())?;
    Ok(Some(Value::Bool(asked(text, part))))
}

fn turned(given: &[Value], budget: &mut Budget, turn: fn(&str) -> String) -> Called {
    let [Value::Text(text)] = given else { return Ok(None) };
    budget.make(text.len())?;
    Ok(Some(Value::text(turn(text))))
}

/// Where a character begins that is counted; the end of the text comes after the last one.
fn offset(text: &str, place: usize) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(place)
}

/// Which character begins there.
fn place(text: &str, offset: usize) -> Result<Value, Problem> {
    let counted = text.get(..offset).unwrap_or_default().chars().count();
    i64::try_from(counted).map(Value::Int).map_err(|_| Problem::OutOfRange)
}

fn char_at(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text), at] = given else { return Ok(None) };
    budget.look(text.len())?;
    let begin = count(at).and_then(|at| offset(text, at)).ok_or(Problem::NoIndex)?;
    let letter = text.get(begin..).and_then(|rest| rest.chars().next());
    made(letter.map(String::from).unwrap_or_default(), budget)
}

fn index_of(given: &[Value], budget: &mut Budget) -> Called {
    let (text, part, from) = match given {
        [Value::Text(text), Value::Text(part)] => (text, part, 0),
        [Value::Text(text), Value::Text(part), from] => (text, part, count(from).ok_or(Problem::NoIndex)?),
        _ => return Ok(None),
    };
    budget.look(text.len() * 2)?;
    let from = offset(text, from).ok_or(Problem::NoIndex)?;
    match text.get(from..).and_then(|rest| rest.find(part.as_str())) {
        Some(found) => place(text, from + found).map(Some),
        None => Ok(Some(Value::Int(-1))),
    }
}

fn last_index_of(given: &[Value], budget: &mut Budget) -> Called {
    let (text, part, until) = match given {
        [Value::Text(text), Value::Text(part)] => (text, part, None),
        [Value::Text(text), Value::Text(part), until] => (text, part, Some(count(until).ok_or(Problem::NoIndex)?)),
        _ => return Ok(None),
    };
    budget.look(text.len() * 2)?;
    let until = match until {
        Some(until) => offset(text, until).ok_or(Problem::NoIndex)?.saturating_add(part.len()).min(text.len()),
        None => text.len(),
    };
    let until = (0..=until).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    match text.get(..until).and_then(|before| before.rfind(part.as_str())) {
        Some(found) => place(text, found).map(Some),
        None => Ok(Some(Value::Int(-1))),
    }
}

fn join(given: &[Value], budget: &mut Budget) -> Called {
    let (items, between) = match given {
        [Value::List(items)] => (items, ""),
        [Value::List(items), Value::Text(between)] => (items, between.as_str()),
        _ => return Ok(None),
    };
    let mut out = String::new();
    for (index, item) in items.iter().enumerate() {
        let Value::Text(text) = item else { return Ok(None) };
        let between = if index > 0 { between } else { "" };
        budget.make(text.len() + between.len())?;
        out.push_str(between);
        out.push_str(text);
    }
    Ok(Some(Value::text(out)))
}

fn reverse(given: &[Value], budget: &mut Budget) -> Called {
    match given {
        [Value::Text(text)] => {
            budget.make(text.len())?;
            Ok(Some(Value::text(text.chars().rev().collect::<String>())))
        }
        [Value::List(items)] => {
            budget.make_items(items.len())?;
            Value::list(items.iter().rev().cloned().collect()).map(Some)
        }
        _ => Ok(None),
    }
}

/// How often something is done; below zero, as often as it can be.
fn times(value: &Value) -> Option<usize> {
    match value {
        Value::Int(number) => Some(usize::try_from(*number).unwrap_or(usize::MAX)),
        _ => None,
    }
}

fn replace(given: &[Value], budget: &mut Budget) -> Called {
    let (text, find, put, most) = match given {
        [Value::Text(text), Value::Text(find), Value::Text(put)] => (text, find, put, usize::MAX),
        [Value::Text(text), Value::Text(find), Value::Text(put), most] => {
            let Some(most) = times(most) else { return Ok(None) };
            (text, find, put, most)
        }
        _ => return Ok(None),
    };
    budget.look(text.len())?;
    let found = text.matches(find.as_str()).take(most).count();
    budget.make(text.len().saturating_add(found.saturating_mul(put.len())))?;
    Ok(Some(Value::text(text.replacen(find.as_str(), put, most))))
}

fn split(given: &[Value], budget: &mut Budget) -> Called {
    let (text, at, most) = match given {
        [Value::Text(text), Value::Text(at)] => (text, at, usize::MAX),
        [Value::Text(text), Value::Text(at), most] => {
            let Some(most) = times(most) else { return Ok(None) };
            (text, at, most)
        }
        _ => return Ok(None),
    };
    let mut parts = Vec::new();
    if most > 0 {
        let mut push = |part: &str| -> Result<(), Problem> {
            budget.make_items(1)?;
            budget.make(part.len())?;
            parts.push(Value::text(part));
            Ok(())
        };
        if at.is_empty() {
            let mut letters = text.char_indices();
            for _ in 1..most {
                let Some((_, letter)) = letters.next() else { break };
                push(letter.encode_utf8(&mut [0; 4]))?;
            }
            let rest = letters.as_str();
            if !rest.is_empty() {
                push(rest)?;
            }
        } else {
            text.splitn(most, at.as_str()).try_for_each(push)?;
        }
    }
    Value::list(parts).map(Some)
}

fn substring(given: &[Value], budget: &mut Budget) -> Called {
    let (text, from, to) = match given {
        [Value::Text(text), from] => (text, from, None),
        [Value::Text(text), from, to] => (text, from, Some(to)),
        _ => return Ok(None),
    };
    budget.look(text.len() * 2)?;
    let at = |value: &Value| count(value).and_then(|place| offset(text, place)).ok_or(Problem::NoIndex);
    let (from, to) = (at(from)?, to.map_or(Ok(text.len()), at)?);
    made(text.get(from..to).ok_or(Problem::NoIndex)?.to_owned(), budget)
}

fn quote(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(text)] = given else { return Ok(None) };
    budget.make(text.len() * 2 + 2)?;
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' | '"' => out.extend(['\\', letter]),
            _ => out.push(letter),
        }
    }
    out.push('"');
    Ok(Some(Value::text(out)))
}
