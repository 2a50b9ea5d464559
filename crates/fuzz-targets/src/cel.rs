//! Programs in CEL: whatever somebody hands in is a program or refused, and a program comes to the same value each time, or to an
//! error, within its budget.

use tresor_cel::{Bindings, Budget, Program, Source, Value};
use tresor_model::Map;
use tresor_wire::json;

pub(crate) const WORDS: &[&str] = &[
    "input",
    "input.name",
    "'text'",
    "1",
    "2u",
    "1.5",
    "true",
    "null",
    "b'\\xff'",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ".?",
    "[?",
    "?",
    ":",
    "+",
    "-",
    "*",
    "/",
    "%",
    "!",
    "==",
    "!=",
    "<",
    "<=",
    "in",
    "&&",
    "||",
    ".map(x, ",
    ".filter(x, ",
    ".all(x, ",
    ".sortBy(x, ",
    "x",
    "has(input.name)",
    ".size()",
    ".format([",
    ".matches('",
    ".replace('', 'ab')",
    ".split('')",
    ".join()",
    "lists.range(",
    ".flatten(",
    "math.greatest(",
    "encode_json(",
    "decode_json(",
    "duration('1h')",
    "timestamp(0)",
    "optional.of(",
    ".orValue(",
    "regex.replace(",
    "string(",
    "\n",
];

/// A program: the last line is its expression, those before are its variables.
pub fn cel(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines: Vec<&str> = text.lines().collect();
    let expression = lines.pop().unwrap_or_default().to_owned();
    let variables = lines.iter().enumerate().map(|(index, line)| (format!("v{index}"), (*line).to_owned())).collect();
    let Ok(program) = Program::parse(&Source { variables, expression }, &["input"]) else { return };
    let came = || {
        let mut budget = Budget::new(50_000, 512 * 1024);
        let input = Map::new().with("name", "Ada").with("list", vec![3, 1, 2]);
        let given = Bindings::from([("input", Value::from_map(&input, &mut budget).expect("it is small"))]);
        let value = program.run(&given, &mut budget).map_err(|error| error.to_string())?;
        let body = value.into_body(&mut budget).map_err(|problem| problem.to_string())?;
        let mut out = Vec::new();
        json::encode(&body, &mut out);
        assert!(out.len() <= 8 * 512 * 1024, "a budget bounds what is made");
        Ok::<_, String>(out)
    };
    assert_eq!(came(), came(), "a program came to two values");
}
