//! Values from bodies of requests and answers, and back.

use std::collections::BTreeMap;

use tresor_model::{Body, Map, Number};

use crate::budget::{Budget, VALUE_BYTES};
use crate::error::Problem;
use crate::value::{Key, Value};

impl Value {
    /// A body as a value, taken from the budget.
    ///
    /// # Errors
    /// When it is too much, or too deep.
    pub fn from_body(body: &Body, budget: &mut Budget) -> Result<Self, Problem> {
        Self::from_nested(body, budget, crate::DEPTH_MAX)
    }

    /// A map as a value, taken from the budget.
    ///
    /// # Errors
    /// When it is too much, or too deep.
    pub fn from_map(map: &Map, budget: &mut Budget) -> Result<Self, Problem> {
        Self::from_entries(map, budget, crate::DEPTH_MAX)
    }

    fn from_nested(body: &Body, budget: &mut Budget, depth: u8) -> Result<Self, Problem> {
        Ok(match body {
            Body::Null => Self::Null,
            Body::Bool(flag) => Self::Bool(*flag),
            Body::Number(number) => of_number(number)?,
            Body::String(text) => {
                budget.make(text.as_str().len())?;
                Self::text(text.as_str())
            }
            Body::List(items) => {
                let depth = depth.checked_sub(1).ok_or(Problem::TooDeep)?;
                budget.make_items(items.len())?;
                let items = items.iter().map(|item| Self::from_nested(item, budget, depth));
                Self::list(items.collect::<Result<_, _>>()?)?
            }
            Body::Map(map) => Self::from_entries(map, budget, depth)?,
        })
    }

    fn from_entries(map: &Map, budget: &mut Budget, depth: u8) -> Result<Self, Problem> {
        let depth = depth.checked_sub(1).ok_or(Problem::TooDeep)?;
        let mut entries = BTreeMap::new();
        for (name, body) in map.iter() {
            budget.make(name.len() + 2 * VALUE_BYTES)?;
            entries.insert(Key::text(name), Self::from_nested(body, budget, depth)?);
        }
        Self::map(entries)
    }

    /// It as it is shown: moments and lengths of time as text, bytes as text (base64 where they are none), an optional value as
    /// itself or nothing.
    ///
    /// # Errors
    /// When it is a number that JSON does not have, or too much.
    pub fn into_body(&self, budget: &mut Budget) -> Result<Body, Problem> {
        budget.make(VALUE_BYTES + self.length())?;
        Ok(match self {
            Self::Null | Self::Optional(None) => Body::Null,
            Self::Bool(flag) => Body::from(*flag),
            Self::Int(number) => Body::from(*number),
            Self::Uint(number) => Body::from(*number),
            Self::Double(number) => {
                let number = Number::parse(&number.to_string()).filter(|_| number.is_finite());
                Body::Number(number.ok_or(Problem::NotShown("a number that is none, or has no end"))?)
            }
            Self::Text(text) => Body::from(text.as_str()),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Body::from(text),
                Err(_) => {
                    budget.make(bytes.len() * 2)?;
                    Body::from(crate::functions::to_base64(bytes))
                }
            },
            Self::List(items) => {
                let items = items.iter().map(|item| item.into_body(budget));
                Body::List(items.collect::<Result<_, _>>()?)
            }
            Self::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries.iter() {
                    budget.make(VALUE_BYTES + key.value().length())?;
                    map.insert(key.shown(), value.into_body(budget)?);
                }
                Body::Map(map)
            }
            Self::Duration(length) => Body::from(crate::functions::print_duration(*length)),
            Self::Timestamp(moment) => Body::from(moment.to_string()),
            Self::Optional(Some(value)) => value.into_body(budget)?,
            Self::Type(kind) => Body::from(*kind),
        })
    }
}

impl Key {
    fn shown(&self) -> String {
        match self {
            Self::Bool(flag) => flag.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Uint(number) => number.to_string(),
            Self::Text(text) => text.as_str().to_owned(),
        }
    }
}

fn of_number(number: &Number) -> Result<Value, Problem> {
    let text = number.as_str();
    if let Ok(whole) = text.parse() {
        return Ok(Value::Int(whole));
    }
    if let Ok(whole) = text.parse() {
        return Ok(Value::Uint(whole));
    }
    let double = number.as_f64();
    if double.is_finite() { Ok(Value::Double(double)) } else { Err(Problem::OutOfRange) }
}
