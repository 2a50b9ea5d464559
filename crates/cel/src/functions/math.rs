//! Numbers.

use std::cmp::Ordering;

use super::{Called, Function, MANY, function};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    function("math.greatest", 1, MANY, |given, budget| most(given, Ordering::Greater, budget)),
    function("math.least", 1, MANY, |given, budget| most(given, Ordering::Less, budget)),
    function("math.ceil", 1, 1, |given, _| of_double(given, f64::ceil)),
    function("math.floor", 1, 1, |given, _| of_double(given, f64::floor)),
    function("math.round", 1, 1, |given, _| of_double(given, f64::round)),
    function("math.trunc", 1, 1, |given, _| of_double(given, f64::trunc)),
    function("math.sqrt", 1, 1, sqrt),
    function("math.abs", 1, 1, abs),
    function("math.sign", 1, 1, sign),
    function("math.isNaN", 1, 1, |given, _| asks_double(given, f64::is_nan)),
    function("math.isInf", 1, 1, |given, _| asks_double(given, f64::is_infinite)),
    function("math.isFinite", 1, 1, |given, _| asks_double(given, f64::is_finite)),
    function("math.bitOr", 2, 2, |given, _| bits(given, |one, two| one | two)),
    function("math.bitAnd", 2, 2, |given, _| bits(given, |one, two| one & two)),
    function("math.bitXor", 2, 2, |given, _| bits(given, |one, two| one ^ two)),
    function("math.bitNot", 1, 1, bit_not),
    function("math.bitShiftLeft", 2, 2, |given, _| shifted(given, u64::wrapping_shl)),
    function("math.bitShiftRight", 2, 2, |given, _| shifted(given, u64::wrapping_shr)),
];

/// The greatest or least of numbers, or of those in a list.
fn most(given: &[Value], wanted: Ordering, budget: &mut Budget) -> Called {
    let numbers = match given {
        [Value::List(items)] => items.as_slice(),
        numbers => numbers,
    };
    let Some(mut found) = numbers.first() else { return Err(Problem::NoIndex) };
    for number in numbers {
        if !matches!(number, Value::Int(_) | Value::Uint(_) | Value::Double(_)) {
            return Ok(None);
        }
        if number.order(found, budget)? == Some(wanted) {
            found = number;
        }
    }
    Ok(Some(found.clone()))
}

fn of_double(given: &[Value], made: fn(f64) -> f64) -> Called {
    Ok(match given {
        [Value::Double(number)] => Some(Value::Double(made(*number))),
        _ => None,
    })
}

fn asks_double(given: &[Value], asked: fn(f64) -> bool) -> Called {
    Ok(match given {
        [Value::Double(number)] => Some(Value::Bool(asked(*number))),
        _ => None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "the root of the nearest double")]
fn sqrt(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(Some(Value::Double(match given {
        [Value::Double(number)] => number.sqrt(),
        [Value::Int(number)] => (*number as f64).sqrt(),
        [Value::Uint(number)] => (*number as f64).sqrt(),
        _ => return Ok(None),
    })))
}

fn abs(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(Some(match given {
        [Value::Double(number)] => Value::Double(number.abs()),
        [Value::Int(number)] => Value::Int(number.checked_abs().ok_or(Problem::OutOfRange)?),
        [same @ Value::Uint(_)] => same.clone(),
        _ => return Ok(None),
    }))
}

fn sign(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(Some(match given {
        [Value::Double(number)] if number.is_nan() || *number == 0.0 => Value::Double(*number),
        [Value::Double(number)] => Value::Double(number.signum()),
        [Value::Int(number)] => Value::Int(number.signum()),
        [Value::Uint(number)] => Value::Uint((*number).min(1)),
        _ => return Ok(None),
    }))
}

fn bits(given: &[Value], made: fn(u64, u64) -> u64) -> Called {
    Ok(match given {
        [Value::Int(one), Value::Int(two)] => {
            Some(Value::Int(made(one.cast_unsigned(), two.cast_unsigned()).cast_signed()))
        }
        [Value::Uint(one), Value::Uint(two)] => Some(Value::Uint(made(*one, *two))),
        _ => None,
    })
}

fn bit_not(given: &[Value], _budget: &mut Budget) -> Called {
    Ok(match given {
        [Value::Int(number)] => Some(Value::Int(!number)),
        [Value::Uint(number)] => Some(Value::Uint(!number)),
        _ => None,
    })
}

/// Shifts by 64 and more leave nothing; bits that come in are zero.
fn shifted(given: &[Value], made: fn(u64, u32) -> u64) -> Called {
    let [number, Value::Int(by)] = given else { return Ok(None) };
    let by = u32::try_from(*by).map_err(|_| Problem::OutOfRange)?;
    let shift = |bits: u64| if by >= u64::BITS { 0 } else { made(bits, by) };
    Ok(match number {
        Value::Int(number) => Some(Value::Int(shift(number.cast_unsigned()).cast_signed())),
        Value::Uint(number) => Some(Value::Uint(shift(*number))),
        _ => None,
    })
}
