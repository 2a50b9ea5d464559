//! Request bodies from the command line: `key=value`, `key=@file`, `key=-`, `@file.json` and `-`.
//!
//! Values are text, because that is what was typed; JSON documents keep their types and their numbers as written.

use std::io::Read;

use serde_json::{Map, Value};

/// The fields of a request body.
///
/// A repeated key makes a list; `\@` at the start of a value stands for a literal `@`.
///
/// # Errors
/// A sentence that says which argument is unusable.
pub(crate) fn parse_fields(arguments: &[String], input: &mut dyn Read) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    let mut input = Input { stream: input, used: false };
    for argument in arguments {
        if argument == "-" {
            merge_document(&mut fields, &input.take()?, "standard input")?;
        } else if let Some(file) = argument.strip_prefix('@') {
            merge_document(&mut fields, &read_file(file)?, file)?;
        } else {
            let (key, value) = split(argument)?;
            let value = resolve(value, &mut input)?;
            append(&mut fields, key, value);
        }
    }
    Ok(fields)
}

/// Pairs whose values are text alone, such as metadata or login parameters.
///
/// # Errors
/// As [`parse_fields`], and for a repeated key.
pub(crate) fn parse_texts(arguments: &[String], input: &mut dyn Read) -> Result<Map<String, Value>, String> {
    let fields = parse_fields(arguments, input)?;
    for (key, value) in &fields {
        if !value.is_string() {
            return Err(format!("value of `{key}` is not text"));
        }
    }
    Ok(fields)
}

/// Splits `key=value`.
pub(crate) fn split(argument: &str) -> Result<(&str, &str), String> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(format!("invalid key/value pair `{argument}`: the form is key=value")),
    }
}

struct Input<'a> {
    stream: &'a mut dyn Read,
    used: bool,
}

impl Input<'_> {
    fn take(&mut self) -> Result<String, String> {
        if self.used {
            return Err("standard input can be used only once".to_owned());
        }
        self.used = true;
        let mut text = String::new();
        self.stream.read_to_string(&mut text).map_err(|error| format!("reading standard input: {error}"))?;
        Ok(text)
    }
}

fn resolve(value: &str, input: &mut Input<'_>) -> Result<String, String> {
    if value == "-" {
        input.take()
    } else if let Some(file) = value.strip_prefix('@') {
        read_file(file)
    } else if value.starts_with("\\@") {
        Ok(value.chars().skip(1).collect())
    } else {
        Ok(value.to_owned())
    }
}

fn append(fields: &mut Map<String, Value>, key: &str, value: String) {
    match fields.get_mut(key) {
        Some(Value::Array(entries)) => entries.push(Value::String(value)),
        Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        None => {
            fields.insert(key.to_owned(), Value::String(value));
        }
    }
}

fn merge_document(fields: &mut Map<String, Value>, text: &str, origin: &str) -> Result<(), String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(document)) => {
            fields.extend(document);
            Ok(())
        }
        Ok(_) => Err(format!("{origin} is not a JSON object")),
        Err(error) => Err(format!("{origin} is not JSON: line {} column {}", error.line(), error.column())),
    }
}

/// Reads a text file; `~/` is left to the shell.
pub(crate) fn read_file(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("reading `{file}`: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    fn parse(arguments: &[&str], input: &str) -> Result<Value, String> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        parse_fields(&arguments, &mut input.as_bytes()).map(Value::Object)
    }

    #[test]
    fn pairs_become_text_and_repeated_keys_become_lists() {
        let fields = parse(&["a=1", "b=x=y", "c=", "a=2", "a=3"], "").unwrap();
        assert_eq!(fields, json!({"a": ["1", "2", "3"], "b": "x=y", "c": ""}));
    }

    #[test]
    fn files_and_standard_input_give_values_or_documents() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("value.json");
        std::fs::write(&file, "{\"n\": 1.50, \"b\": true}\n").unwrap();
        let file = file.to_str().unwrap();
        let fields = parse(&[&format!("text=@{file}"), "in=-", "escaped=\\@x", "dash=--"], "line\n").unwrap();
        assert_eq!(
            fields,
            json!({"text": "{\"n\": 1.50, \"b\": true}\n", "in": "line\n", "escaped": "@x", "dash": "--"})
        );
        assert_eq!(parse(&[&format!("@{file}"), "x=1"], "").unwrap().to_string(), r#"{"b":true,"n":1.50,"x":"1"}"#);
        assert_eq!(parse(&["-"], r#"{"a":[1]}"#).unwrap(), json!({"a": [1]}));
    }

    #[test]
    fn mistakes_are_named_without_the_value_of_documents() {
        assert!(parse(&["novalue"], "").unwrap_err().contains("`novalue`"));
        assert!(parse(&["=x"], "").is_err());
        assert!(parse(&["a=-", "b=-"], "x").unwrap_err().contains("only once"));
        assert_eq!(parse(&["-"], "[1]").unwrap_err(), "standard input is not a JSON object");
        assert!(!parse(&["-"], "{\"a\": secret").unwrap_err().contains("secret"));
        assert!(parse(&["@/does/not/exist"], "").is_err());
        assert!(parse_texts(&["a=1".to_owned(), "a=2".to_owned()], &mut "".as_bytes()).is_err());
    }
}
