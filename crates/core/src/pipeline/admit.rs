//! Step 3: is the node in a state to take this request at all?
//!
//! Deliberately absent: on which node it runs ([`place`](super::place)).

use std::sync::Arc;

use tresor_engine::Access;
use tresor_model::request::Inline;
use tresor_model::{Path, Refusal, Request, Timestamp, Verb};

use super::route::route;
use crate::gate::Inside;
use crate::namespaces::{Resolved, Space, realms};
use crate::node::{AlwaysRoute, Node};
use crate::unsealed::{Handles, Unsealed};

/// A request that was let in: the unsealed node it runs on, and its one instant.
pub(super) struct Admitted {
    pub(super) unsealed: Arc<Unsealed>,
    pub(super) now: Timestamp,
    /// The namespace that it goes to.
    pub(super) goes_to: Resolved,
    /// Why nobody may ask this.
    pub(super) refusal: Option<Refusal>,
    /// Sealing waits for who holds it.
    /// Which namespaces there were then.
    edition: u64,
    _inside: Inside,
}

impl Admitted {
    /// Why a request is not done here, now that it is known that it runs here: its namespace is sealed or locked, or it comes as
    /// a login and is none. One that was admitted by a node which did not have everything yet, and goes elsewhere by what there is
    /// now, is to be admitted again.
    pub(super) fn unserved(&self, request: &Request) -> Option<Refusal> {
        let (Handles { spaces, cluster, .. }, space) = (&self.unsealed.handles, &self.goes_to.space);
        // Nearly always nothing changed since it was admitted.
        if cluster.is_enabled() && spaces.edition() != self.edition {
            let now = spaces.resolve(&request.namespace, &request.path);
            if !matches!(now, Ok((now, None)) if now.space.id == space.id) {
                return Some(Refusal::Elsewhere);
            }
            if let Some(refusal) = locked(&self.unsealed, space, &request.path) {
                return Some(refusal);
            }
        }
        if space.is_sealed {
            return Some(if spaces.is_sealed(&space.id) { realms::sealed() } else { Refusal::Elsewhere });
        }
        let is_login = || route(&self.unsealed, &self.goes_to, request).access(request.verb) == Access::Login;
        (matches!(request.inline, Inline::Login) && !is_login()).then(|| Refusal::Absent(NO_LOGIN.into()))
    }
}

/// What whoever brings a login with a request is told where there is none.
const NO_LOGIN: &str = "specified authentication path was not found";

/// What a namespace that is locked still takes.
const UNLOCK: &str = "sys/namespaces/api-lock/unlock";

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

/// Why a route that is about the whole server does not answer in a namespace. How the node is, everybody may ask.
pub(super) fn only_in_root(route: &AlwaysRoute, request: &Request) -> Option<Refusal> {
    let is_asked_anywhere = matches!(route.path, "sys/seal-status" | "sys/leader");
    let refusal = || Refusal::Invalid("operation unavailable in namespaces".into());
    (!request.namespace.is_empty() && !is_asked_anywhere).then(refusal)
}

/// Lets a request in. From here on its path is below the namespace that it goes to, however header and path said that.
pub(super) fn admit(node: &Node, request: &mut Request) -> Result<Admitted, Refusal> {
    let Some(unsealed) = node.unsealed() else {
        let initialized = node.standing().map_or(true, |standing| standing.facts.initialized);
        return Err(if initialized { Refusal::Sealed } else { Refusal::Uninitialized });
    };
    let inside = unsealed.gate.enter().ok_or(Refusal::Sealed)?;
    let now = unsealed.clock.now();
    let edition = unsealed.handles.spaces.edition();
    let (goes_to, rest) = match unsealed.handles.spaces.resolve(&request.namespace, &request.path) {
        Ok(resolved) => resolved,
        Err(refusal) => {
            // It goes nowhere, and is recorded as it was sent.
            request.refusal.get_or_insert(refusal);
            (Resolved { space: Arc::clone(unsealed.handles.spaces.root()), is_missing: true }, None)
        }
    };
    if let Some(rest) = rest {
        request.path = rest;
        request.namespace.clone_from(&goes_to.space.path);
    }
    let refusal = locked(&unsealed, &goes_to.space, &request.path);
    Ok(Admitted { unsealed, now, goes_to, refusal, edition, _inside: inside })
}

/// Why a namespace that was locked, or one below it, takes no request but that which unlocks it.
fn locked(unsealed: &Unsealed, space: &Space, path: &Path) -> Option<Refusal> {
    let by = unsealed.handles.spaces.locked_by(space).filter(|_| path.trimmed() != UNLOCK)?;
    let text = "API access to this namespace has been locked by an administrator";
    Some(Refusal::Unavailable(format!("{text} - {:?} must be unlocked to gain access.", by.path).into()))
}
