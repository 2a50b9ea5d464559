//! Programs in the Common Expression Language (CEL): an expression, and variables before it that it may name.
//!
//! A pure function: text → tree, tree and values → value. Written here, and not taken from the crate `cel`, because what runs
//! such programs must not be brought down by them: that crate's parsers overflow the stack with a few kilobytes (`1+1+..`,
//! `a?b:a?b:..`), it evaluates without any bound on steps or memory, takes time from `chrono`, and wipes nothing. Invariants:
//! total (any text is a program or an error with its place, and any program ends with a value or an error, on a stack of
//! bounded depth); every step and every byte that a program makes is taken from a [`Budget`] before; texts are wiped;
//! errors never show values. A whole number of JSON is an `int`, and an `int` goes together with a `double` in arithmetic, which
//! the language would refuse: elsewhere all numbers of JSON are doubles. Deliberately absent: types that are checked before a
//! program runs, messages, time zones by name, and anything that is not among its arguments (no clock, no entropy).

mod ast;
mod budget;
mod error;
mod evaluate;
mod functions;
mod json;
mod lexer;
mod parser;
mod value;

use std::collections::BTreeMap;

pub use budget::Budget;
pub use error::{CelError, Problem};
pub use value::{Key, Value};

use ast::Node;

/// The longest text of one expression, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// How many variables a program can have.
pub const VARIABLES_MAX: usize = 64;
/// How deep expressions, and the values that they make, can be nested.
pub const DEPTH_MAX: u8 = 64;

/// A program that can be run.
#[derive(Debug)]
pub struct Program {
    variables: Vec<(String, Node)>,
    expression: Node,
}

/// A program as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Names, and the expressions that they stand for, each of which may name those before it.
    pub variables: Vec<(String, String)>,
    /// What the program comes to.
    pub expression: String,
}

/// Values by the names that a program knows them by.
pub type Bindings = BTreeMap<&'static str, Value>;

impl Program {
    /// Reads a program that may name `given`.
    ///
    /// # Errors
    /// [`CelError`] with the part that is wrong and its place there.
    pub fn parse(source: &Source, given: &[&str]) -> Result<Self, CelError> {
        if source.variables.len() > VARIABLES_MAX {
            return Err(Problem::TooManyVariables.at(1));
        }
        let mut known: Vec<&str> = given.to_vec();
        let mut variables = Vec::new();
        for (name, text) in &source.variables {
            let of = |error: CelError| CelError { part: Some(format!("variable `{name}`")), ..error };
            if !lexer::is_name(name) || lexer::is_reserved(name) {
                return Err(of(Problem::Reserved(name.clone()).at(1)));
            }
            if known.contains(&name.as_str()) {
                return Err(of(Problem::Twice(name.clone()).at(1)));
            }
            variables.push((name.clone(), parser::parse(text, &known).map_err(of)?));
            known.push(name);
        }
        let expression = parser::parse(&source.expression, &known)?;
        Ok(Self { variables, expression })
    }

    /// What it comes to.
    ///
    /// # Errors
    /// [`CelError`], when it came upon what it cannot do, or the budget is used up.
    pub fn run(&self, given: &Bindings, budget: &mut Budget) -> Result<Value, CelError> {
        let mut names: Vec<(&str, Value)> = given.iter().map(|(name, value)| (*name, value.clone())).collect();
        for (name, node) in &self.variables {
            let of = |error: CelError| CelError { part: Some(format!("variable `{name}`")), ..error };
            let value = evaluate::value(node, &mut names, budget).map_err(of)?;
            names.push((name, value));
        }
        evaluate::value(&self.expression, &mut names, budget)
    }
}

#[cfg(test)]
mod tests;
