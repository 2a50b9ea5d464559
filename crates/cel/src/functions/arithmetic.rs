//! What operators make of two values.

use jiff::SignedDuration;

use super::Called;
use crate::ast::Operator;
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

/// The same of whole numbers of either kind.
macro_rules! whole {
    ($operator:expr, $one:expr, $two:expr, $kind:path) => {{
        let came = match $operator {
            Operator::Add => $one.checked_add(*$two),
            Operator::Subtract => $one.checked_sub(*$two),
            Operator::Multiply => $one.checked_mul(*$two),
            Operator::Divide | Operator::Remainder if *$two == 0 => return Err(Problem::DivisionByZero),
            Operator::Divide => $one.checked_div(*$two),
            Operator::Remainder => $one.checked_rem(*$two),
            _ => return Ok(None),
        };
        $kind(came.ok_or(Problem::OutOfRange)?)
    }};
}

/// `+`, `-`, `*`, `/` and `%`.
pub(crate) fn arithmetic(operator: Operator, one: &Value, two: &Value, budget: &mut Budget) -> Called {
    let out_of_range = || Problem::OutOfRange;
    Ok(Some(match (one, two) {
        (Value::Int(one), Value::Int(two)) => whole!(operator, one, two, Value::Int),
        (Value::Uint(one), Value::Uint(two)) => whole!(operator, one, two, Value::Uint),
        (Value::Double(_) | Value::Int(_), Value::Double(_) | Value::Int(_)) => {
            let (Some(one), Some(two)) = (double(one), double(two)) else { return Ok(None) };
            Value::Double(match operator {
                Operator::Add => one + two,
                Operator::Subtract => one - two,
                Operator::Multiply => one * two,
                Operator::Divide => one / two,
                _ => return Ok(None),
            })
        }
        (Value::Text(one), Value::Text(two)) if operator == Operator::Add => {
            let length = one.len() + two.len();
            budget.make(length)?;
            let mut text = String::with_capacity(length);
            text.push_str(one);
            text.push_str(two);
            Value::text(text)
        }
        (Value::Bytes(one), Value::Bytes(two)) if operator == Operator::Add => {
            let length = one.len() + two.len();
            budget.make(length)?;
            let mut bytes = Vec::with_capacity(length);
            bytes.extend_from_slice(one);
            bytes.extend_from_slice(two);
            Value::bytes(bytes)
        }
        (Value::List(one), Value::List(two)) if operator == Operator::Add => {
            budget.make_items(one.len() + two.len())?;
            Value::list(one.iter().chain(two.iter()).cloned().collect())?
        }
        (Value::Duration(one), Value::Duration(two)) => Value::Duration(
            match operator {
                Operator::Add => one.checked_add(*two),
                Operator::Subtract => one.checked_sub(*two),
                _ => return Ok(None),
            }
            .ok_or_else(out_of_range)?,
        ),
        (Value::Timestamp(moment), Value::Duration(length)) => {
            let length = match operator {
                Operator::Add => *length,
                Operator::Subtract => length.checked_neg().ok_or_else(out_of_range)?,
                _ => return Ok(None),
            };
            Value::Timestamp(moment.checked_add(length).map_err(|_| Problem::OutOfRange)?)
        }
        (Value::Duration(length), Value::Timestamp(moment)) if operator == Operator::Add => {
            Value::Timestamp(moment.checked_add(*length).map_err(|_| Problem::OutOfRange)?)
        }
        (Value::Timestamp(one), Value::Timestamp(two)) if operator == Operator::Subtract => {
            let nanos = one.as_nanosecond().checked_sub(two.as_nanosecond()).ok_or_else(out_of_range)?;
            let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| Problem::OutOfRange)?;
            let rest = i32::try_from(nanos.rem_euclid(1_000_000_000)).map_err(|_| Problem::OutOfRange)?;
            Value::Duration(SignedDuration::new(seconds, rest))
        }
        _ => return Ok(None),
    }))
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "it becomes the nearest double, as by `double`")]
        Value::Int(number) => Some(*number as f64),
        _ => None,
    }
}
