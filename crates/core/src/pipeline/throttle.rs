//! Step 2b: has this client asked too often?
//!
//! Asked by the edge once it knows path and address, and before it reads a body: whoever is refused costs no parsing
//! (DOS-03). Only of a login of a method that has quotas on roles it is asked once the body was read, which says the role. A request counts on the node that it arrives at, and once, wherever it runs then. Paths are compared as
//! policies do, so another spelling is no way around. Deliberately absent: what clients have used (`quotas/clients.rs`);
//! whoever is refused is nobody, so no token is looked at.

use std::sync::Arc;

use tresor_engine::{Access, LoginRole, Match, Mounted, View};
use tresor_model::{Known, Refusal, Request, Throttle, Verb};

use super::route::operation_candidates;
use crate::mounts::Mount;
use crate::namespaces::Resolved;
use crate::node::{Node, State};
use crate::quotas::rates::Asked;
use crate::unsealed::Unsealed;

/// What the quotas on rates say of a request, of which so much is known.
#[must_use]
pub fn throttle(node: &Node, request: &Request, known: Known) -> Throttle {
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
    let mut role = None;
    let found = mounts.find(path).filter(|_| !goes_to.is_missing).map(|(mount, rest)| {
        let engine = space.mounts.engine(mount);
        let found = engine.as_ref().and_then(|engine| Some((engine, engine.find(rest)?)));
        if let Some((engine, found)) = &found
            && handles.rates.are_on_roles_of(&mount.record.id)
            && is_login(&***engine, found, request.verb)
        {
            role = Some(match known {
                Known::Head => None,
                Known::Body => role_of(unsealed, mount, &***engine, found, request),
            });
        }
        (&mount.record.id, found.map_or_else(|| rest.to_owned(), |(_, found)| found.canonical))
    });
    if known == Known::Head && role.is_some() {
        return Throttle { awaits_body: true, ..Throttle::default() };
    }
    let role = role.flatten();
    let below = found.as_ref().map(|(id, rest)| (*id, rest.as_str()));
    let (address, now) = (request.connection.peer_address, unsealed.doors.clock.monotonic());
    // What is exempt is so in every namespace, however header and path name it.
    let asked = Asked { space, path, below, role: role.as_deref() };
    let Some(limited) = handles.rates.take(&asked, address, now) else {
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
        awaits_body: false,
        is_recorded: limited.is_recorded,
        limit: limited.is_shown.then_some(limited.requests),
        remaining: limited.taken.remaining,
        // Whoever waits so long has waited long enough.
        seconds_until_more: until_more.as_secs() + u64::from(until_more.subsec_nanos() > 0),
    }
}

/// Whether what is asked is a login.
fn is_login(engine: &dyn Mounted, found: &Match, verb: Verb) -> bool {
    let Some(route) = engine.route(found.route) else { return false };
    let asked = operation_candidates(verb).iter().find_map(|operation| route.operations.get(operation));
    asked.is_some_and(|facts| facts.access == Access::Login)
}

/// The role that a login is about. Where that cannot be told it is about none, and the login will say what is wrong.
fn role_of(
    unsealed: &Unsealed,
    mount: &Mount,
    engine: &dyn Mounted,
    found: &Match,
    request: &Request,
) -> Option<String> {
    let mut txn = unsealed.begin().ok()?;
    let mut view = View::new(&mut txn, mount.contents.clone());
    match engine.login_role(&mut view, &found.parameters, &request.body) {
        Ok(LoginRole::Named(role)) => Some(role),
        Ok(LoginRole::None | LoginRole::Unsupported) | Err(_) => None,
    }
}
