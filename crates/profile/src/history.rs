//! What was asked and answered so far, for values that come from it.
//!
//! Invariant: no more than [`HISTORY_BYTES_MAX`]. Deliberately absent: the token of a request, whoever's it is.

use tresor_model::{Body, Map};

use crate::HISTORY_BYTES_MAX;
use crate::error::ValueError;
use crate::given::{Selector, Step};

/// What was asked and answered so far.
#[derive(Default)]
pub struct History {
    /// Requests by block and name.
    pub requests: Map,
    /// Answers by block and name.
    pub responses: Map,
    bytes: usize,
}

/// What a value takes besides what it holds.
const VALUE_BYTES: usize = 32;

/// How much a value is.
pub(crate) fn weight(body: &Body) -> usize {
    VALUE_BYTES
        + match body {
            Body::Null | Body::Bool(_) => 0,
            Body::Number(number) => number.as_str().len(),
            Body::String(text) => text.as_str().len(),
            Body::List(items) => items.iter().map(weight).sum(),
            Body::Map(map) => map.iter().map(|(name, body)| name.len() + weight(body)).sum(),
        }
}

impl History {
    pub(crate) fn asked(&mut self, block: &str, request: &str, asked: Map) -> Result<(), ValueError> {
        let asked = self.weighed(asked)?;
        put(&mut self.requests, block, request, asked);
        Ok(())
    }

    pub(crate) fn answered(&mut self, block: &str, request: &str, answer: Map) -> Result<(), ValueError> {
        let answer = self.weighed(answer)?;
        put(&mut self.responses, block, request, answer);
        Ok(())
    }

    fn weighed(&mut self, map: Map) -> Result<Body, ValueError> {
        let body = Body::Map(map);
        self.bytes += weight(&body);
        if self.bytes > HISTORY_BYTES_MAX { Err(ValueError::TooMuch) } else { Ok(body) }
    }
}

fn put(all: &mut Map, block: &str, request: &str, what: Body) {
    if !all.contains(block) {
        all.insert(block, Map::new());
    }
    if let Some(Body::Map(requests)) = all.get_mut(block) {
        requests.insert(request, what);
    }
}

/// What a step selects.
pub(crate) fn selected<'h>(all: &'h Map, step: &Step) -> Result<&'h Body, ValueError> {
    let found = all.get(&step.block).and_then(Body::as_map).and_then(|block| block.get(&step.request));
    let mut found = found.ok_or_else(|| ValueError::NotMade(format!("{}/{}", step.block, step.request)))?;
    for selector in &step.selector {
        found = match (selector, found) {
            (Selector::Name(name), Body::Map(map)) => map.get(name).ok_or_else(|| ValueError::NoField(name.clone()))?,
            (Selector::Index(index), Body::List(items)) => {
                items.get(*index).ok_or_else(|| ValueError::NoField(index.to_string()))?
            }
            (Selector::Name(_), other) => return Err(ValueError::Kind { is: other.kind(), wanted: "map" }),
            (Selector::Index(_), other) => return Err(ValueError::Kind { is: other.kind(), wanted: "list" }),
        };
    }
    Ok(found)
}
