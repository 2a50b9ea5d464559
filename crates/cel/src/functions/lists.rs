//! Lists, and lists as sets.

use super::{Called, Function, count, function, method};
use crate::budget::Budget;
use crate::error::Problem;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    method("slice", 3, 3, slice),
    method("flatten", 1, 2, flatten),
    method("distinct", 1, 1, distinct),
    method("sort", 1, 1, sort),
    method("first", 1, 1, first),
    method("last", 1, 1, last),
    function("lists.range", 1, 1, range),
    function("sets.contains", 2, 2, contains),
    function("sets.equivalent", 2, 2, equivalent),
    function("sets.intersects", 2, 2, intersects),
];

fn slice(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::List(items), from, to] = given else { return Ok(None) };
    let (Some(from), Some(to)) = (count(from), count(to)) else { return Err(Problem::NoIndex) };
    let items = items.get(from..to).ok_or(Problem::NoIndex)?;
    budget.make_items(items.len())?;
    Value::list(items.to_vec()).map(Some)
}

fn flatten(given: &[Value], budget: &mut Budget) -> Called {
    let (items, depth) = match given {
        [Value::List(items)] => (items, 1),
        [Value::List(items), depth] => (items, count(depth).ok_or(Problem::OutOfRange)?),
        _ => return Ok(None),
    };
    let mut flat = Vec::new();
    flatten_into(items, depth.min(usize::from(crate::DEPTH_MAX)), &mut flat, budget)?;
    Value::list(flat).map(Some)
}

fn flatten_into(items: &[Value], depth: usize, flat: &mut Vec<Value>, budget: &mut Budget) -> Result<(), Problem> {
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => {
                budget.step()?;
                flatten_into(inner, depth - 1, flat, budget)?;
            }
            other => {
                budget.make_items(0)?;
                flat.push(other.clone());
            }
        }
    }
    Ok(())
}

fn distinct(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::List(items)] = given else { return Ok(None) };
    budget.make_items(items.len())?;
    let mut kept: Vec<Value> = Vec::new();
    for item in items.iter() {
        if !is_in(item, &kept, budget)? {
            kept.push(item.clone());
        }
    }
    Value::list(kept).map(Some)
}

fn sort(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::List(items)] = given else { return Ok(None) };
    budget.make_items(items.len())?;
    let paired = items.iter().map(|item| (item.clone(), item.clone())).collect();
    sorted(paired, "sort", budget).map(Some)
}

/// Items in the order of their keys, all of which have an order among each other.
pub(crate) fn sorted(
    mut paired: Vec<(Value, Value)>,
    what: &'static str,
    budget: &mut Budget,
) -> Result<Value, Problem> {
    budget.make_items(paired.len())?;
    if let Some((first, _)) = paired.first() {
        // Whether there is an order is asked of each beside the first one: then all of them are of one sort.
        for (key, _) in &paired {
            if first.order(key, budget)?.is_none() {
                return Err(Problem::Kinds { what, kinds: Value::kinds([first, key]) });
            }
        }
    }
    let mut failed = None;
    paired.sort_by(|(one, _), (two, _)| match one.order(two, budget) {
        Ok(order) => order.unwrap_or(std::cmp::Ordering::Equal),
        Err(problem) => {
            failed.get_or_insert(problem);
            std::cmp::Ordering::Equal
        }
    });
    match failed {
        Some(problem) => Err(problem),
        None => Value::list(paired.into_iter().map(|(_, item)| item).collect()),
    }
}

fn first(given: &[Value], _budget: &mut Budget) -> Called {
    let [Value::List(items)] = given else { return Ok(None) };
    items.first().map_or(Ok(Value::Optional(None)), |item| Value::some(item.clone())).map(Some)
}

fn last(given: &[Value], _budget: &mut Budget) -> Called {
    let [Value::List(items)] = given else { return Ok(None) };
    items.last().map_or(Ok(Value::Optional(None)), |item| Value::some(item.clone())).map(Some)
}

fn range(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::Int(end)] = given else { return Ok(None) };
    let count = usize::try_from(*end).map_err(|_| Problem::OutOfRange)?;
    budget.make_items(count)?;
    Value::list((0..*end).map(Value::Int).collect()).map(Some)
}

fn is_in(wanted: &Value, items: &[Value], budget: &mut Budget) -> Result<bool, Problem> {
    for item in items {
        if wanted.equals(item, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether all of `few` are among `many`.
fn has_all(many: &[Value], few: &[Value], budget: &mut Budget) -> Result<bool, Problem> {
    for item in few {
        if !is_in(item, many, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::List(many), Value::List(few)] = given else { return Ok(None) };
    has_all(many, few, budget).map(|flag| Some(Value::Bool(flag)))
}

fn equivalent(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::List(one), Value::List(two)] = given else { return Ok(None) };
    let is_same = has_all(one, two, budget)? && has_all(two, one, budget)?;
    Ok(Some(Value::Bool(is_same)))
}

fn intersects(given: &[Value], budget: &mut Budget) -> Called {
    let [Value::List(one), Value::List(two)] = given else { return Ok(None) };
    for item in one.iter() {
        if is_in(item, two, budget)? {
            return Ok(Some(Value::Bool(true)));
        }
    }
    Ok(Some(Value::Bool(false)))
}
