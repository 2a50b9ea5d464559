//! Values turned into what is wanted, as leniently as fields of requests are read.

use tresor_model::{Body, Map, Number};

use crate::error::ValueError;
use crate::given::Wanted;

/// A value as what is wanted.
pub(crate) fn turned(value: Body, wanted: Wanted) -> Result<Body, ValueError> {
    match wanted {
        Wanted::Anything => Ok(value),
        Wanted::Text => text(&value).map(Body::from),
        Wanted::Integer => integer(&value).map(Body::from),
        Wanted::Float => float(&value),
        Wanted::Flag => flag(&value).map(Body::from),
        Wanted::Texts => texts(&value).map(Body::from),
        Wanted::Map => map(value).map(Body::Map),
    }
}

fn wrong<T>(value: &Body, wanted: &'static str) -> Result<T, ValueError> {
    Err(ValueError::Kind { is: value.kind(), wanted })
}

/// Text; numbers by their spelling, truth values as 1 and 0, nothing as no text.
pub(crate) fn text(value: &Body) -> Result<String, ValueError> {
    Ok(match value {
        Body::Null => String::new(),
        Body::String(text) => text.as_str().to_owned(),
        Body::Number(number) => number.as_str().to_owned(),
        Body::Bool(flag) => u8::from(*flag).to_string(),
        Body::List(_) | Body::Map(_) => return wrong(value, "text"),
    })
}

fn integer(value: &Body) -> Result<i64, ValueError> {
    let read = match value {
        Body::Null => Some(0),
        Body::Number(number) => number.as_i64(),
        Body::String(text) if text.as_str().is_empty() => Some(0),
        Body::String(text) => text.as_str().parse().ok(),
        Body::Bool(flag) => Some(i64::from(*flag)),
        Body::List(_) | Body::Map(_) => None,
    };
    read.map_or_else(|| wrong(value, "whole number"), Ok)
}

/// A number that a double can be near to: JSON has others, and who reads them makes infinity of them or refuses.
pub(crate) fn finite(text: &str) -> Option<Number> {
    Number::parse(text).filter(|number| number.as_f64().is_finite())
}

fn float(value: &Body) -> Result<Body, ValueError> {
    let read = match value {
        Body::Number(number) => finite(number.as_str()),
        Body::String(text) => finite(text.as_str()),
        Body::Bool(flag) => Number::parse(if *flag { "1" } else { "0" }),
        Body::Null => Number::parse("0"),
        Body::List(_) | Body::Map(_) => None,
    };
    read.map_or_else(|| wrong(value, "number"), |number| Ok(Body::Number(number)))
}

/// True or false; numbers but zero are true.
pub(crate) fn flag(value: &Body) -> Result<bool, ValueError> {
    let read = match value {
        Body::Bool(flag) => Some(*flag),
        Body::Null => Some(false),
        Body::Number(number) => Some(number.as_f64() != 0.0),
        Body::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Some(false),
            _ => None,
        },
        Body::List(_) | Body::Map(_) => None,
    };
    read.map_or_else(|| wrong(value, "truth value"), Ok)
}

/// Texts; one is a list of one.
pub(crate) fn texts(value: &Body) -> Result<Vec<String>, ValueError> {
    match value {
        Body::List(items) => items.iter().map(text).collect(),
        Body::Null => Ok(Vec::new()),
        Body::String(text) if text.as_str().is_empty() => Ok(Vec::new()),
        one => text(one).map(|text| vec![text]),
    }
}

/// A map; nothing, and a list of nothing, is an empty one.
pub(crate) fn map(value: Body) -> Result<Map, ValueError> {
    match value {
        Body::Map(map) => Ok(map),
        Body::Null => Ok(Map::new()),
        Body::List(items) if items.is_empty() => Ok(Map::new()),
        other => wrong(&other, "map"),
    }
}
