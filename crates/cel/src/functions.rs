//! The functions that programs can call: each by its name, whether it follows a value, and how many arguments it takes.
//!
//! A function gives nothing when it does not take values of these kinds. Whatever grows with what it is given is taken from the
//! budget before it is made.

mod arithmetic;
mod conversions;
mod encoders;
mod format;
mod lists;
mod math;
mod patterns;
mod strings;
mod time;

use std::fmt;

use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

pub(crate) use arithmetic::arithmetic;
pub(crate) use encoders::to_base64;
pub(crate) use lists::sorted;
pub(crate) use time::print_duration;

/// What comes of a call; nothing when the function does not take these kinds.
type Called = Result<Option<Value>, Problem>;

/// Whether a function follows the value that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Function,
    Method,
}

/// A function.
pub(crate) struct Function {
    name: &'static str,
    style: Style,
    /// How many arguments it takes, that which it follows included.
    least: usize,
    most: usize,
    call: fn(&[Value], &mut Budget) -> Called,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    call: fn(&[Value], &mut Budget) -> Called,
) -> Function {
    Function { name, style: Style::Function, least, most, call }
}

const fn method(name: &'static str, least: usize, most: usize, call: fn(&[Value], &mut Budget) -> Called) -> Function {
    Function { name, style: Style::Method, least, most, call }
}

/// How many arguments a function takes at most that takes any number.
const MANY: usize = 64;

static TABLES: [&[Function]; 8] = [
    conversions::TABLE,
    encoders::TABLE,
    format::TABLE,
    lists::TABLE,
    math::TABLE,
    patterns::TABLE,
    strings::TABLE,
    time::TABLE,
];

fn all() -> impl Iterator<Item = &'static Function> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Whether there is such a function.
pub(crate) fn is_known(name: &str, style: Style) -> bool {
    all().any(|function| function.name == name && function.style == style)
}

/// The function that takes so many arguments.
pub(crate) fn named(name: &str, style: Style, arguments: usize) -> Option<&'static Function> {
    let takes = |function: &&Function| (function.least..=function.most).contains(&arguments);
    all().filter(|function| function.name == name && function.style == style).find(takes)
}

/// Calls it.
pub(crate) fn call(function: &Function, given: &[Value], budget: &mut Budget) -> Result<Value, Problem> {
    let came = (function.call)(given, budget)?;
    came.ok_or_else(|| Problem::Kinds { what: function.name, kinds: Value::kinds(given) })
}

/// Text that was made, taken from the budget.
fn made(text: String, budget: &mut Budget) -> Called {
    budget.make(text.len())?;
    Ok(Some(Value::text(text)))
}

/// A number that is a place or a count.
fn count(value: &Value) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}
