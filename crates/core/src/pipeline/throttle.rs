//! Step 2b: has this client asked too often?
//!
//! Asked by the edge once it knows path and address, and before it reads a body: whoever is refused costs no parsing
//! (DOS-03). A request counts on the node that it arrives at, and once, wherever it runs then. Paths are compared as
//! policies do, so another spelling is no way around. Deliberately absent: what clients have used (`quotas/clients.rs`);
//! whoever is refused is nobody, so no token is looked at.

use std::sync::Arc;

use tresor_model::{Refusal, Request, Throttle};

use crate::namespaces::Resolved;
use crate::node::{Node, State};

/// What the quotas on rates say of a request whose body was not read yet.
#[must_use]
pub fn throttle(node: &Node, request: &Request) -> Throttle {
    let state = node.state.load();
    let State::Unsealed(unsealed) = &**state else { return Throttle::default() };
    let handles = &unsealed.handles;
    if handles.rates.is_empty() {
        return Throttle::default();
    }
    // A request that leads nowhere counts as one of the root namespace.
    let (goes_to, rest) = handles
        .spaces
        .resolve(&request.namespace, &request.path)
        .unwrap_or_else(|_| (Resolved { space: Arc::clone(handles.spaces.root()), is_missing: true }, None));
    let (space, path) = (&goes_to.space, rest.as_ref().unwrap_or(&request.path).as_str());
    let mounts = space.mounts.table();
    let found = mounts.find(path).filter(|_| !goes_to.is_missing).map(|(mount, rest)| {
        let engine = space.mounts.engine(mount);
        let canonical = engine.and_then(|engine| engine.find(rest)).map(|found| found.canonical);
        (&mount.record.id, canonical.unwrap_or_else(|| rest.to_owned()))
    });
    let below = found.as_ref().map(|(id, rest)| (*id, rest.as_str()));
    let (address, now) = (request.connection.peer_address, unsealed.doors.clock.monotonic());
    // What is exempt is so in every namespace, however header and path name it.
    let Some(limited) = handles.rates.take(&space.line, path, below, address, now) else {
        return Throttle::default();
    };
    if let Some(quota) = &limited.refused_by {
        handles.metrics.rate_limit_violation.of(quota).add(1);
    }
    let path = request.path.as_str();
    let refuse = || Refusal::Throttled(format!("request path {path:?}: rate limit quota exceeded").into());
    let until_more = limited.taken.until_more;
    Throttle {
        refusal: (!limited.taken.is_allowed).then(refuse),
        is_recorded: limited.is_recorded,
        limit: limited.is_shown.then_some(limited.requests),
        remaining: limited.taken.remaining,
        // Whoever waits so long has waited long enough.
        seconds_until_more: until_more.as_secs() + u64::from(until_more.subsec_nanos() > 0),
    }
}
