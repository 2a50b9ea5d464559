//! The forms that fields can have, each with the leniency of the reference.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tresor_model::{Body, Map};
use tresor_secret::SecretString;

use super::{Form, Kind};
use crate::duration::{self, Signed};

const TEXT: &str = "must be a string";
const NUMBER: &str = "must be a whole number";
const POSITIVE: &str = "must be a number above zero";
const BOOLEAN: &str = "must be a boolean";
const DURATION: &str = "must be a duration such as `90`, `\"90s\"` or `\"1h\"`";
const LIST: &str = "must be a list of strings, or one string";
const MAP: &str = "must be a map";
const PAIRS: &str = "must be a map of strings, or a list of `key=value`";

/// Text; numbers and booleans are taken by their spelling.
fn text(body: &Body) -> Result<String, &'static str> {
    match body {
        Body::String(text) => Ok(text.as_str().to_owned()),
        Body::Number(number) => Ok(number.as_str().to_owned()),
        Body::Bool(true) => Ok("1".to_owned()),
        Body::Bool(false) => Ok("0".to_owned()),
        Body::Null | Body::List(_) | Body::Map(_) => Err(TEXT),
    }
}

impl Form for String {
    const KIND: Kind = Kind::String;

    fn read(body: &Body) -> Result<Self, &'static str> {
        text(body)
    }
}

impl Form for SecretString {
    const KIND: Kind = Kind::String;
    const SECRET: bool = true;

    fn read(body: &Body) -> Result<Self, &'static str> {
        text(body).map(Self::new)
    }
}

impl Form for bool {
    const KIND: Kind = Kind::Boolean;

    fn read(body: &Body) -> Result<Self, &'static str> {
        match body {
            Body::Bool(value) => Ok(*value),
            // A number is taken by its spelling, as the reference does: 1 and 0 are truth values, 2 is none.
            Body::Number(number) => truth(number.as_str()),
            Body::String(text) => truth(text.as_str().trim()),
            Body::Null | Body::List(_) | Body::Map(_) => Err(BOOLEAN),
        }
    }
}

fn truth(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        _ => Err(BOOLEAN),
    }
}

/// A whole number as Go reads it when the base is left open: `12`, `-12`, `0x1f`, `0o17`, `017`, `0b11`.
fn whole(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => text.split_at(1),
        b'+' => ("", text.get(1..)?),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()).flatten()
}

impl Form for i64 {
    const KIND: Kind = Kind::Integer;

    fn read(body: &Body) -> Result<Self, &'static str> {
        match body {
            Body::Number(number) => number.as_i64().ok_or(NUMBER),
            Body::String(text) if text.as_str().trim().is_empty() => Ok(0),
            Body::String(text) => whole(text.as_str().trim()).ok_or(NUMBER),
            Body::Bool(value) => Ok(Self::from(*value)),
            Body::Null | Body::List(_) | Body::Map(_) => Err(NUMBER),
        }
    }
}

macro_rules! unsigned {
    ($($kind:ty),*) => {$(
        impl Form for $kind {
            const KIND: Kind = Kind::Integer;

            fn read(body: &Body) -> Result<Self, &'static str> {
                Self::try_from(i64::read(body)?).map_err(|_| "is out of range")
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64);

/// How many names a listing gives at most; a number that is not above zero is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit(pub Option<usize>);

impl Form for Limit {
    const KIND: Kind = Kind::Integer;

    fn read(body: &Body) -> Result<Self, &'static str> {
        // `max` is how a client says that it knows of limits and wants as much as it may have.
        if matches!(body, Body::String(text) if text.as_str() == "max") {
            return Ok(Self(None));
        }
        Ok(Self(usize::try_from(i64::read(body)?).ok().filter(|limit| *limit > 0)))
    }
}

/// A number above zero that need not be whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millionths(pub u64);

impl Form for Millionths {
    const KIND: Kind = Kind::Number;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let text = text(body).map_err(|_| POSITIVE)?;
        let number: f64 = text.trim().parse().map_err(|_| POSITIVE)?;
        // What is too much for the type is no number that anybody means.
        let millionths = format!("{:.0}", number * 1e6).parse().ok().filter(|millionths| *millionths > 0);
        millionths.map(Self).ok_or(POSITIVE)
    }
}

/// A duration that is not below zero; bare numbers are seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seconds(pub Duration);

/// A duration with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedSeconds(pub Signed);

fn signed(body: &Body) -> Result<Signed, &'static str> {
    match body {
        // `1e3` and `60.0` are whole numbers too; through one parser, so that the bound is the same.
        Body::Number(number) => duration::parse_signed(&number.as_i64().ok_or(DURATION)?.to_string()),
        Body::String(text) if text.as_str().trim().is_empty() => {
            Some(Signed { negative: false, length: Duration::ZERO })
        }
        Body::String(text) => duration::parse_signed(text.as_str().trim()),
        _ => None,
    }
    .ok_or(DURATION)
}

impl Form for Seconds {
    const KIND: Kind = Kind::Duration;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let signed = signed(body)?;
        if signed.negative && !signed.length.is_zero() { Err("cannot be negative") } else { Ok(Self(signed.length)) }
    }
}

impl Form for SignedSeconds {
    const KIND: Kind = Kind::Duration;

    fn read(body: &Body) -> Result<Self, &'static str> {
        signed(body).map(Self)
    }
}

/// A list, or one string with commas; entries are trimmed, empty ones dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommaList(pub Vec<String>);

impl Form for CommaList {
    const KIND: Kind = Kind::List;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let entries = match body {
            Body::List(items) => items.iter().map(entry).collect::<Result<Vec<_>, _>>().map_err(|_| LIST)?,
            Body::Map(_) => return Err(LIST),
            other => text(other).map_err(|_| LIST)?.split(',').map(str::to_owned).collect(),
        };
        Ok(Self(entries.iter().map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect()))
    }
}

/// An entry of a list or map: as a text, and nothing is the empty one.
fn entry(body: &Body) -> Result<String, &'static str> {
    if *body == Body::Null { Ok(String::new()) } else { text(body) }
}

/// A list, or one string that is not split; entries are trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringList(pub Vec<String>);

impl Form for StringList {
    const KIND: Kind = Kind::List;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let entries = match body {
            Body::List(items) => items.iter().map(entry).collect::<Result<Vec<_>, _>>().map_err(|_| LIST)?,
            Body::Map(_) => return Err(LIST),
            other => Some(text(other).map_err(|_| LIST)?).into_iter().filter(|text| !text.is_empty()).collect(),
        };
        Ok(Self(entries.iter().map(|entry| entry.trim().to_owned()).collect()))
    }
}

impl Form for Vec<String> {
    const KIND: Kind = Kind::List;

    fn read(body: &Body) -> Result<Self, &'static str> {
        StringList::read(body).map(|list| list.0)
    }
}

/// Whole numbers: a list, one number, or one string with commas.
impl Form for Vec<u64> {
    const KIND: Kind = Kind::List;

    fn read(body: &Body) -> Result<Self, &'static str> {
        match body {
            Body::List(items) => items.iter().map(u64::read).collect(),
            Body::String(text) => text
                .as_str()
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty())
                .map(|entry| entry.parse().map_err(|_| NUMBER))
                .collect(),
            other => Ok(vec![u64::read(other)?]),
        }
    }
}

impl Form for BTreeMap<String, String> {
    const KIND: Kind = Kind::Map;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let pair = |entry: &str| {
            let (name, value) = entry.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(PAIRS)?;
            Ok((name.to_owned(), value.to_owned()))
        };
        match body {
            Body::Map(map) => {
                map.iter().map(|(name, value)| Ok((name.to_owned(), entry(value).map_err(|_| PAIRS)?))).collect()
            }
            Body::List(items) => items.iter().map(|item| pair(item.as_str().ok_or(PAIRS)?)).collect(),
            Body::String(text) if text.as_str().trim().is_empty() => Ok(Self::new()),
            // One pair: a comma is a part of its value.
            Body::String(text) => Ok(Self::from([pair(text.as_str())?])),
            Body::Null | Body::Bool(_) | Body::Number(_) => Err(PAIRS),
        }
    }
}

/// Address ranges; a bare address is the range of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cidrs(pub Vec<IpNet>);

impl Form for Cidrs {
    const KIND: Kind = Kind::List;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let parse = |entry: &String| {
            entry.parse::<IpNet>().ok().or_else(|| entry.parse::<std::net::IpAddr>().ok().map(IpNet::from))
        };
        CommaList::read(body)?
            .0
            .iter()
            .map(|entry| parse(entry).ok_or("must be a list of address ranges"))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A name whose case does not matter: folded once, here, so that what is authorized is what is stored (DR-02).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LowerName(pub String);

impl Form for LowerName {
    const KIND: Kind = Kind::String;

    fn read(body: &Body) -> Result<Self, &'static str> {
        text(body).map(|text| Self(text.to_lowercase()))
    }
}

/// Bytes, as the text that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Form for Bytes {
    const KIND: Kind = Kind::String;

    fn read(body: &Body) -> Result<Self, &'static str> {
        text(body).map(|text| Self(text.into_bytes()))
    }
}

impl Form for Map {
    const KIND: Kind = Kind::Map;

    fn read(body: &Body) -> Result<Self, &'static str> {
        body.as_map().map(Self::duplicate).ok_or(MAP)
    }
}

impl Form for Vec<Map> {
    const KIND: Kind = Kind::List;

    fn read(body: &Body) -> Result<Self, &'static str> {
        let items = body.as_list().ok_or("must be a list of maps")?;
        items.iter().map(|item| Map::read(item).map_err(|_| "must be a list of maps")).collect()
    }
}

impl Form for Body {
    const KIND: Kind = Kind::Any;

    fn read(body: &Body) -> Result<Self, &'static str> {
        Ok(body.duplicate())
    }
}

/// A field that tells "not sent" from "sent empty".
/// What a patch does to a field (RFC 7396): `null` says something there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It was not sent.
    #[default]
    Keep,
    /// `null` was sent.
    Clear,
    /// Something was sent.
    To(T),
}

impl<T: Form> Form for Change<T> {
    const KIND: Kind = T::KIND;
    const SECRET: bool = T::SECRET;
    const REQUIRED: bool = false;
    const TAKES_NULL: bool = true;

    fn read(body: &Body) -> Result<Self, &'static str> {
        if *body == Body::Null { Ok(Self::Clear) } else { T::read(body).map(Self::To) }
    }

    fn absent() -> Option<Self> {
        Some(Self::Keep)
    }
}

impl<T: Form> Form for Option<T> {
    const KIND: Kind = T::KIND;
    const SECRET: bool = T::SECRET;
    const REQUIRED: bool = false;

    fn read(body: &Body) -> Result<Self, &'static str> {
        T::read(body).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}
