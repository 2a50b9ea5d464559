//! What makes one kind of value of another, and `size`.

use jiff::Timestamp;

use super::{Called, Function, function, made, method, time};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::{Value, whole};

pub(super) const TABLE: &[Function] = &[
    function("size", 1, 1, size),
    method("size", 1, 1, size),
    function("int", 1, 1, int),
    function("uint", 1, 1, uint),
    function("double", 1, 1, double),
    function("string", 1, 1, string),
    function("bytes", 1, 1, bytes),
    function("bool", 1, 1, boolean),
    function("dyn", 1, 1, same),
    function("type", 1, 1, kind),
    function("duration", 1, 1, duration),
    function("timestamp", 1, 1, timestamp),
    function("optional.of", 1, 1, optional_of),
    function("optional.ofNonZeroValue", 1, 1, optional_of_something),
    function("optional.none", 0, 0, optional_none),
    method("hasValue", 1, 1, has_value),
    method("value", 1, 1, value),
    method("or", 2, 2, or),
    method("orValue", 2, 2, or_value),
];

fn size(given: &[Value], budget: &mut Budget) -> Called {
    let size = match given {
        [Value::Text(text)] => {
            budget.look(text.len())?;
            text.chars().count()
        }
        [Value::Bytes(bytes)] => bytes.len(),
        [Value::List(items)] => items.len(),
        [Value::Map(entries)] => entries.len(),
        _ => return Ok(None),
    };
    i64::try_from(size).map(|size| Some(Value::Int(size))).map_err(|_| Problem::OutOfRange)
}

fn int(given: &[Value], _budget: &mut Budget) -> Called {
    let number = match given {
        [Value::Int(number)] => Some(*number),
        [Value::Uint(number)] => i64::try_from(*number).ok(),
        [Value::Double(number)] => whole(number.trunc()),
        [Value::Text(text)] => {
            return text.parse().map(|n| Some(Value::Int(n))).map_err(|_| Problem::NotA("whole number"));
        }
        [Value::Timestamp(moment)] => Some(moment.as_second()),
        [Value::Duration(length)] => i64::try_from(length.as_nanos()).ok(),
        _ => return Ok(None),
    };
    number.map(|number| Some(Value::Int(number))).ok_or(Problem::OutOfRange)
}

fn uint(given: &[Value], _budget: &mut Budget) -> Called {
    let number = match given {
        [Value::Uint(number)] => Some(*number),
        [Value::Int(number)] => u64::try_from(*number).ok(),
        [Value::Double(number)] => whole(number.trunc()).and_then(|number| u64::try_from(number).ok()),
        [Value::Text(text)] => {
            return text.parse().map(|n| Some(Value::Uint(n))).map_err(|_| Problem::NotA("whole number"));
        }
        _ => return Ok(None),
    };
    number.map(|number| Some(Value::Uint(number))).ok_or(Problem::OutOfRange)
}

fn double(given: &[Value], _budget: &mut Budget) -> Called {
    #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
    Ok(Some(Value::Double(match given {
        [Value::Double(number)] => *number,
        [Value::Int(number)] => *number as f64,
        [Value::Uint(number)] => *number as f64,
        [Value::Text(text)] => text.parse().map_err(|_| Problem::NotA("number"))?,
        _ => return Ok(None),
    })))
}

fn string(given: &[Value], budget: &mut Budget) -> Called {
    let text = match given {
        [text @ Value::Text(_)] => return Ok(Some(text.clone())),
        [Value::Bool(flag)] => flag.to_string(),
        [Value::Int(number)] => number.to_string(),
        [Value::Uint(number)] => number.to_string(),
        [Value::Double(number)] => number.to_string(),
        [Value::Bytes(bytes)] => {
            budget.look(bytes.len())?;
            std::str::from_utf8(bytes).map_err(|_| Problem::NotA("UTF-8"))?.to_owned()
        }
        [Value::Timestamp(moment)] => moment.to_string(),
        [Value::Duration(length)] => time::print_duration(*length),
        [Value::Type(kind)] => (*kind).to_owned(),
        _ => return Ok(None),
    };
    made(text, budget)
}

fn bytes(given: &[Value], budget: &mut Budget) -> Called {
    Ok(Some(match given {
        [same @ Value::Bytes(_)] => same.clone(),
        [Value::Text(text)] => {
            budget.make(text.len())?;
            Value::bytes(text.as_bytes().to_vec())
        }
        _ => return Ok(None),
    }))
}

fn boolean(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(Some(Value::Bool(match given {
        [Value::Bool(flag)] => *flag,
        [Value::Text(text)] => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(Problem::NotA("truth value")),
        },
        _ => return Ok(None),
    })))
}

fn same(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(given.first().cloned())
}

fn kind(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(given.first().map(|value| Value::Type(value.kind())))
}

fn duration(given: &[Value], budget: &mut Budget) -> Called {
    match given {
        [same @ Value::Duration(_)] => Ok(Some(same.clone())),
        [Value::Text(text)] => {
            budget.look(text.len())?;
            time::read_duration(text).map(|length| Some(Value::Duration(length))).ok_or(Problem::NotA("duration"))
        }
        _ => Ok(None),
    }
}

fn timestamp(given: &[Value], _budget: &mut Budget) -> Called {
    match given {
        [same @ Value::Timestamp(_)] => Ok(Some(same.clone())),
        [Value::Int(seconds)] => Timestamp::from_second(*seconds)
            .map(|moment| Some(Value::Timestamp(moment)))
            .map_err(|_| Problem::OutOfRange),
        [Value::Text(text)] if text.len() <= 64 => {
            text.parse().map(|moment| Some(Value::Timestamp(moment))).map_err(|_| Problem::NotA("moment"))
        }
        [Value::Text(_)] => Err(Problem::NotA("moment")),
        _ => Ok(None),
    }
}

fn optional_of(given: &[Value], _budget: &mut Budget) -> Called {
    given.first().cloned().map(Value::some).transpose()
}

fn optional_of_something(given: &[Value], _budget: &mut Budget) -> Called {
    match given {
        [value] if value.is_zero() => Ok(Some(Value::Optional(None))),
        [value] => Value::some(value.clone()).map(Some),
        _ => Ok(None),
    }
}

fn optional_none(_given: &[Value], _budget: &mut Budget) -> Called {
    Ok(Some(Value::Optional(None)))
}

fn has_value(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(match given {
        [Value::Optional(value)] => Some(Value::Bool(value.is_some())),
        _ => None,
    })
}

fn value(given: &[Value], _budget: &mut Budget) -> Called {
    match given {
        [Value::Optional(Some(value))] => Ok(Some((***value).clone())),
        [Value::Optional(None)] => Err(Problem::NoValue),
        _ => Ok(None),
    }
}

fn or(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(match given {
        [one @ Value::Optional(Some(_)), Value::Optional(_)] => Some(one.clone()),
        [Value::Optional(None), two @ Value::Optional(_)] => Some(two.clone()),
        _ => None,
    })
}

fn or_value(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(match given {
        [Value::Optional(Some(value)), _] => Some((***value).clone()),
        [Value::Optional(None), other] => Some(other.clone()),
        _ => None,
    })
}
