//! `format`: texts with values put in.

use super::{Called, Function, method, time, to_base64};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::{Key, Value};

pub(super) const TABLE: &[Function] = &[method("format", 2, 2, format)];

/// How many digits a number can be asked to have after its point.
const PRECISION_MAX: usize = 100;

/// `%s`, `%d`, `%f`, `%e`, `%x`, `%X`, `%o`, `%b` and `%%`, and the digits after the point in `%.2f`.
fn format(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Text(pattern), Value::List(values)] = given else { return Ok(None) };
    let mut values = values.iter();
    let mut letters = pattern.chars();
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            push(&mut out, letter.encode_utf8(&mut [0; 4]), budget)?;
            continue;
        }
        let mut verb = letters.next().ok_or(Problem::UnexpectedEnd)?;
        if verb == '%' {
            push(&mut out, "%", budget)?;
            continue;
        }
        let mut precision = None;
        if verb == '.' {
            let mut digits = String::new();
            verb = loop {
                let letter = letters.next().ok_or(Problem::UnexpectedEnd)?;
                if !letter.is_ascii_digit() {
                    break letter;
                }
                digits.push(letter);
            };
            let read = digits.parse().ok().filter(|precision| *precision <= PRECISION_MAX);
            precision = Some(read.ok_or(Problem::OutOfRange)?);
        }
        let value = values.next().ok_or(Problem::NoIndex)?;
        let kinds = || Problem::Kinds { what: "format", kinds: value.kind().to_owned() };
        match verb {
            's' => shown(value, &mut out, budget)?,
            verb => push(&mut out, &number(verb, value, precision).ok_or_else(kinds)?, budget)?,
        }
    }
    Ok(Some(Value::text(out)))
}

fn push(out: &mut String, text: &str, budget: &mut Budget) -> Result<(), Problem> {
    budget.make(text.len())?;
    out.push_str(text);
    Ok(())
}

fn number(verb: char, value: &Value, precision: Option<usize>) -> Option<String> {
    let digits = precision.unwrap_or(6);
    Some(match (verb, value) {
        ('d', Value::Int(number)) => number.to_string(),
        ('d', Value::Uint(number)) => number.to_string(),
        ('f', Value::Double(number)) => format!("{number:.digits$}"),
        #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is shown")]
        ('f', Value::Int(number)) => format!("{:.digits$}", *number as f64),
        ('e', Value::Double(number)) => {
            let text = format!("{number:.digits$e}");
            let (mantissa, exponent) = text.split_once('e')?;
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{mantissa}e{sign}{exponent:0>2}")
        }
        ('x', Value::Int(number)) => signed(*number, |bits| format!("{bits:x}")),
        ('x', Value::Uint(number)) => format!("{number:x}"),
        ('x', Value::Text(text)) => hex(text.as_bytes()),
        ('x', Value::Bytes(bytes)) => hex(bytes),
        ('X', value) => number_upper(value)?,
        ('o', Value::Int(number)) => signed(*number, |bits| format!("{bits:o}")),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        ('b', Value::Int(number)) => signed(*number, |bits| format!("{bits:b}")),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('b', Value::Bool(flag)) => u8::from(*flag).to_string(),
        _ => return None,
    })
}

fn number_upper(value: &Value) -> Option<String> {
    number('x', value, None).map(|text| text.to_uppercase())
}

fn signed(number: i64, print: fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", print(number.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value as `%s` shows it.
fn shown(value: &Value, out: &mut String, budget: &mut Budget) -> Result<(), Problem> {
    let text = match value {
        Value::Null | Value::Optional(None) => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Text(text) => return push(out, text, budget),
        Value::Bytes(bytes) => {
            budget.look(bytes.len())?;
            std::str::from_utf8(bytes).map_or_else(|_| to_base64(bytes), str::to_owned)
        }
        Value::Duration(length) => time::print_duration(*length),
        Value::Timestamp(moment) => moment.to_string(),
        Value::Type(kind) => (*kind).to_owned(),
        Value::Optional(Some(value)) => return shown(value, out, budget),
        Value::List(items) => {
            push(out, "[", budget)?;
            for (index, item) in items.iter().enumerate() {
                push(out, if index > 0 { ", " } else { "" }, budget)?;
                shown(item, out, budget)?;
            }
            return push(out, "]", budget);
        }
        Value::Map(entries) => {
            push(out, "{", budget)?;
            for (index, (key, item)) in entries.iter().enumerate() {
                push(out, if index > 0 { ", " } else { "" }, budget)?;
                shown(&Key::value(key), out, budget)?;
                push(out, ": ", budget)?;
                shown(item, out, budget)?;
            }
            return push(out, "}", budget);
        }
    };
    push(out, &text, budget)
}
