//! Step 3: is the node in a state to take this request at all?
//!
//! Deliberately absent: on which node it runs ([`place`](super::place)).

use std::sync::Arc;

use tresor_model::{Path, Refusal, Request, Timestamp, Verb};

use crate::gate::Inside;
use crate::node::{AlwaysRoute, Node};
use crate::unsealed::Unsealed;

/// A request that was let in: the unsealed node it runs on, and its one instant.
pub(super) struct Admitted {
    pub(super) unsealed: Arc<Unsealed>,
    pub(super) now: Timestamp,
    /// Why nobody may ask this.
    pub(super) refusal: Option<Refusal>,
    /// Sealing waits for who holds it.
    _inside: Inside,
}

/// How a request waits for its turn where only so many run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is answered in every state of the node, and is over soon.
    Always,
    /// It seals the node: what an operator does when others hang.
    Sealing,
    /// As everybody.
    Ordinary,
}

/// How this request waits.
#[must_use]
pub fn turn(node: &Node, request: &Request) -> Turn {
    if always(node, request).is_some() {
        return Turn::Always;
    }
    let is_sealing = request.verb == Verb::Write && request.path.trimmed() == "sys/seal";
    if is_sealing { Turn::Sealing } else { Turn::Ordinary }
}

/// Whether the body of what is asked is no JSON, but comes as it is.
#[must_use]
pub fn takes_upload(node: &Node, verb: Verb, path: &Path) -> bool {
    verb == Verb::Write && node.registry.uploads.contains(&path.trimmed())
}

/// The route that answers in every state of the node, if this is one.
pub(super) fn always<'n>(node: &'n Node, request: &Request) -> Option<&'n AlwaysRoute> {
    let path = request.path.trimmed();
    node.registry.always.iter().find(|route| route.path == path && route.verb == request.verb)
}

pub(super) fn admit(node: &Node, request: &Request) -> Result<Admitted, Refusal> {
    let Some(unsealed) = node.unsealed() else {
        let initialized = node.standing().map_or(true, |standing| standing.facts.initialized);
        return Err(if initialized { Refusal::Sealed } else { Refusal::Uninitialized });
    };
    // Namespaces are in every key and type; so far only the root namespace exists.
    let refusal =
        (!request.namespace.is_empty()).then(|| Refusal::NoRoute(format!("{}{}", request.namespace, request.path)));
    let inside = unsealed.gate.enter().ok_or(Refusal::Sealed)?;
    let now = unsealed.clock.now();
    Ok(Admitted { unsealed, now, refusal, _inside: inside })
}
