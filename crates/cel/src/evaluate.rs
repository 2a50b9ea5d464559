//! From a tree and values to a value.
//!
//! Every node takes a step. Invariant: recursion is as deep as the tree, which is bounded.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::ast::{Each, Kind, Macro, Node, Operator};
use crate::budget::{Budget, VALUE_BYTES};
use crate::error::{CelError, Problem};
use crate::functions;
use crate::value::{Key, Value};

/// Values by name; the last one of a name counts.
pub(crate) type Names<'n> = Vec<(&'n str, Value)>;

/// What a node comes to.
pub(crate) fn value<'n>(node: &'n Node, names: &mut Names<'n>, budget: &mut Budget) -> Result<Value, CelError> {
    budget.step().map_err(|problem| problem.at(node.at))?;
    let at = |problem: Problem| problem.at(node.at);
    match &node.kind {
        Kind::Literal(value) => Ok(value.clone()),
        Kind::Name(name) => {
            let found = names.iter().rev().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).ok_or_else(|| at(Problem::UnknownName(name.clone())))
        }
        Kind::Select { operand, field, is_optional } => {
            let operand = value(operand, names, budget)?;
            select(&operand, &Key::text(field), *is_optional)
                .map_err(at)?
                .ok_or_else(|| at(Problem::NoField(field.clone())))
        }
        Kind::Has { operand, field } => {
            let operand = value(operand, names, budget)?;
            match inner(&operand) {
                Some(Value::Map(entries)) => Ok(Value::Bool(entries.contains_key(&Key::text(field)))),
                None => Ok(Value::Bool(false)),
                Some(other) => Err(at(Problem::Kinds { what: "has", kinds: other.kind().to_owned() })),
            }
        }
        Kind::Index { operand, index, is_optional } => {
            let (operand, index) = (value(operand, names, budget)?, value(index, names, budget)?);
            indexed(&operand, &index, *is_optional).map_err(at)
        }
        Kind::Call { function, arguments } => {
            let arguments = arguments.iter().map(|argument| value(argument, names, budget));
            let given = arguments.collect::<Result<Vec<Value>, _>>()?;
            functions::call(function, &given, budget).map_err(at)
        }
        Kind::Not(operand) => match value(operand, names, budget)? {
            Value::Bool(flag) => Ok(Value::Bool(!flag)),
            other => Err(at(Problem::Kinds { what: "!", kinds: other.kind().to_owned() })),
        },
        Kind::Negative(operand) => match value(operand, names, budget)? {
            Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(|| at(Problem::OutOfRange)),
            Value::Double(number) => Ok(Value::Double(-number)),
            other => Err(at(Problem::Kinds { what: "-", kinds: other.kind().to_owned() })),
        },
        Kind::Binary { operator, sides } => {
            let (one, two) = (value(&sides.0, names, budget)?, value(&sides.1, names, budget)?);
            binary(*operator, &one, &two, budget).map_err(at)
        }
        Kind::And(sides) => decided(sides, false, names, budget),
        Kind::Or(sides) => decided(sides, true, names, budget),
        Kind::Condition(parts) => match value(&parts.0, names, budget)? {
            Value::Bool(true) => value(&parts.1, names, budget),
            Value::Bool(false) => value(&parts.2, names, budget),
            other => Err(at(Problem::Kinds { what: "? :", kinds: other.kind().to_owned() })),
        },
        Kind::List(elements) => {
            budget.make_items(elements.len()).map_err(at)?;
            let mut items = Vec::with_capacity(elements.len());
            for element in elements {
                let item = value(&element.value, names, budget)?;
                items.extend(if element.is_optional { present(item).map_err(at)? } else { Some(item) });
            }
            Value::list(items).map_err(at)
        }
        Kind::Map(entries) => {
            let mut map = BTreeMap::new();
            for entry in entries {
                let key = value(&entry.key, names, budget)?;
                let item = value(&entry.value, names, budget)?;
                let item = if entry.is_optional { present(item).map_err(at)? } else { Some(item) };
                budget.make(2 * VALUE_BYTES).map_err(at)?;
                let kinds = || Problem::Kinds { what: "a key", kinds: key.kind().to_owned() };
                let key = key.key().ok_or_else(|| at(kinds()))?;
                if let Some(item) = item
                    && map.insert(key, item).is_some()
                {
                    return Err(at(Problem::RepeatedKey));
                }
            }
            Value::map(map).map_err(at)
        }
        Kind::Macro(each) => for_each(node.at, each, names, budget),
    }
}

/// What an optional value holds, and any other value itself.
fn inner(value: &Value) -> Option<&Value> {
    match value {
        Value::Optional(inner) => inner.as_ref().map(|inner| &***inner),
        other => Some(other),
    }
}

/// The value of an optional element.
fn present(value: Value) -> Result<Option<Value>, Problem> {
    match value {
        Value::Optional(inner) => Ok(inner.map(|inner| (**inner).clone())),
        other => Err(Problem::Kinds { what: "an optional element", kinds: other.kind().to_owned() }),
    }
}

/// A field of a map. What is optional, or of an optional value, is an optional value.
fn select(operand: &Value, key: &Key, is_optional: bool) -> Result<Option<Value>, Problem> {
    let gives_optional = is_optional || matches!(operand, Value::Optional(_));
    let found = match inner(operand) {
        Some(Value::Map(entries)) => entries.get(key).cloned(),
        None => None,
        Some(other) => return Err(Problem::Kinds { what: ".", kinds: other.kind().to_owned() }),
    };
    match found {
        Some(value) if gives_optional => Value::some(value).map(Some),
        None if gives_optional => Ok(Some(Value::Optional(None))),
        found => Ok(found),
    }
}

fn indexed(operand: &Value, index: &Value, is_optional: bool) -> Result<Value, Problem> {
    let kinds = || Problem::Kinds { what: "[]", kinds: Value::kinds([operand, index]) };
    let gives_optional = is_optional || matches!(operand, Value::Optional(_));
    let (found, missing) = match inner(operand) {
        None => (None, Problem::NoKey),
        Some(Value::Map(entries)) => (entries.get(&index.key().ok_or_else(kinds)?).cloned(), Problem::NoKey),
        Some(Value::List(items)) => {
            let Some(Key::Int(place)) = index.key() else { return Err(kinds()) };
            (usize::try_from(place).ok().and_then(|place| items.get(place)).cloned(), Problem::NoIndex)
        }
        Some(_) => return Err(kinds()),
    };
    match found {
        Some(value) if gives_optional => Value::some(value),
        None if gives_optional => Ok(Value::Optional(None)),
        found => found.ok_or(missing),
    }
}

/// `&&` (what decides is false) and `||` (true): one side that decides does so even though another one has no value.
fn decided<'n>(
    sides: &'n [Node],
    decides: bool,
    names: &mut Names<'n>,
    budget: &mut Budget,
) -> Result<Value, CelError> {
    let mut failed = None;
    for side in sides {
        match value(side, names, budget) {
            Ok(Value::Bool(flag)) if flag == decides => return Ok(Value::Bool(decides)),
            Ok(Value::Bool(_)) => {}
            Ok(other) => {
                let what = if decides { "||" } else { "&&" };
                failed = failed.or(Some(Problem::Kinds { what, kinds: other.kind().to_owned() }.at(side.at)));
            }
            // Nothing goes on without a budget.
            Err(error) if matches!(error.problem, Problem::TooManySteps | Problem::TooMuch) => return Err(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(Value::Bool(!decides)), Err)
}

fn binary(operator: Operator, one: &Value, two: &Value, budget: &mut Budget) -> Result<Value, Problem> {
    let kinds = || Problem::Kinds { what: operator.word(), kinds: Value::kinds([one, two]) };
    let ordered = |wanted: fn(Ordering) -> bool, budget: &mut Budget| {
        let is_double = |value: &Value| matches!(value, Value::Double(number) if number.is_nan());
        match one.order(two, budget)? {
            Some(order) => Ok(Value::Bool(wanted(order))),
            None if is_double(one) || is_double(two) => Ok(Value::Bool(false)),
            None => Err(kinds()),
        }
    };
    match operator {
        Operator::Equal => one.equals(two, budget).map(Value::Bool),
        Operator::Different => one.equals(two, budget).map(|is_same| Value::Bool(!is_same)),
        Operator::Less => ordered(Ordering::is_lt, budget),
        Operator::LessOrEqual => ordered(Ordering::is_le, budget),
        Operator::Greater => ordered(Ordering::is_gt, budget),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge, budget),
        Operator::In => match two {
            Value::List(items) => {
                for item in items.iter() {
                    if one.equals(item, budget)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Value::Map(entries) => Ok(Value::Bool(one.key().is_some_and(|key| entries.contains_key(&key)))),
            _ => Err(kinds()),
        },
        _ => functions::arithmetic(operator, one, two, budget)?.ok_or_else(kinds),
    }
}

/// What a macro goes over: items of a list, keys of a map.
fn items(at: usize, each: &Macro, range: &Value, budget: &mut Budget) -> Result<Vec<Value>, CelError> {
    let optional = matches!(each.what, Each::OptMap | Each::OptFlatMap);
    let items = match range {
        Value::List(items) if !optional => items.to_vec(),
        Value::Map(entries) if !optional => entries.keys().map(Key::value).collect(),
        Value::Optional(value) if optional => value.iter().map(|value| (***value).clone()).collect(),
        other => return Err(Problem::Kinds { what: each.what.word(), kinds: other.kind().to_owned() }.at(at)),
    };
    budget.make_items(items.len()).map_err(|problem| problem.at(at))?;
    Ok(items)
}

fn for_each<'n>(at: usize, each: &'n Macro, names: &mut Names<'n>, budget: &mut Budget) -> Result<Value, CelError> {
    let range = value(&each.range, names, budget)?;
    let items = items(at, each, &range, budget)?;
    let mut step = |node: &'n Node, item: &Value, budget: &mut Budget| {
        names.push((&each.name, item.clone()));
        let came = value(node, names, budget);
        names.pop();
        came
    };
    let is_true = |came: Value| match came {
        Value::Bool(flag) => Ok(flag),
        other => Err(Problem::Kinds { what: each.what.word(), kinds: other.kind().to_owned() }.at(at)),
    };
    let place = |problem: Problem| problem.at(at);
    match each.what {
        Each::All | Each::Exists => {
            let decides = each.what == Each::Exists;
            let mut failed = None;
            for item in &items {
                match step(&each.step, item, budget).and_then(is_true) {
                    Ok(flag) if flag == decides => return Ok(Value::Bool(decides)),
                    Ok(_) => {}
                    Err(error) if matches!(error.problem, Problem::TooManySteps | Problem::TooMuch) => {
                        return Err(error);
                    }
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            failed.map_or(Ok(Value::Bool(!decides)), Err)
        }
        Each::ExistsOne => {
            let mut count = 0;
            for item in &items {
                count += usize::from(is_true(step(&each.step, item, budget)?)?);
            }
            Ok(Value::Bool(count == 1))
        }
        Each::Filter => {
            let mut kept = Vec::new();
            for item in items {
                if is_true(step(&each.step, &item, budget)?)? {
                    kept.push(item);
                }
            }
            Value::list(kept).map_err(place)
        }
        Each::Map => {
            let mut made = Vec::new();
            for item in &items {
                let counts = match &each.condition {
                    Some(condition) => is_true(step(condition, item, budget)?)?,
                    None => true,
                };
                if counts {
                    made.push(step(&each.step, item, budget)?);
                }
            }
            Value::list(made).map_err(place)
        }
        Each::SortBy => {
            let keys = items.iter().map(|item| step(&each.step, item, budget));
            let keys = keys.collect::<Result<Vec<_>, _>>()?;
            let paired = keys.into_iter().zip(items).collect();
            functions::sorted(paired, "sortBy", budget).map_err(place)
        }
        Each::OptMap => match items.first() {
            Some(item) => Value::some(step(&each.step, item, budget)?).map_err(place),
            None => Ok(Value::Optional(None)),
        },
        Each::OptFlatMap => match items.first() {
            Some(item) => match step(&each.step, item, budget)? {
                came @ Value::Optional(_) => Ok(came),
                other => Err(place(Problem::Kinds { what: "optFlatMap", kinds: other.kind().to_owned() })),
            },
            None => Ok(Value::Optional(None)),
        },
    }
}
