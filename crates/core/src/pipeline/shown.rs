//! Of a listing, what the rule that allowed it lets be shown: so many names at most, and only those that the caller could
//! read, or list when they are directories.
//!
//! Done with the answer, so that it holds for every listing, whatever its handler knows of it. Deliberately absent: what
//! the rule says, which is `tresor-policy`'s.

use tresor_engine::Reply;
use tresor_model::{Body, Map, Operation, Shape};
use tresor_policy::KeysFilter;

use super::authorize::Authorized;
use crate::namespaces::{Permissions, Space};

/// A whole number, in either spelling.
pub(super) fn number(body: &Body) -> Option<usize> {
    match body {
        Body::Number(number) => number.as_i64().and_then(|number| usize::try_from(number).ok()),
        Body::String(text) => text.as_str().trim().parse().ok(),
        _ => None,
    }
}

/// Takes from an answer what may not be shown.
pub(super) fn restrict(authorized: &Authorized<'_>, reply: &mut Reply) {
    let listing = authorized.listing();
    let Some(principal) = authorized.principal().filter(|_| listing.limit.is_some() || listing.keys_filter.is_some())
    else {
        return;
    };
    let (Shape::Enveloped(data) | Shape::Mirrored(data)) = &mut reply.shape else { return };
    let (space, permissions) = (&authorized.routed().space, principal.permissions());
    let asked = permissions.asked(&authorized.routed().policy_path);
    let may_see = |filter: &KeysFilter, key: &str| may_see(space, permissions, filter, &asked.text, key);
    let is_shown = |key: &str| listing.keys_filter.is_none_or(|filter| may_see(filter, key));
    let mut shown = 0;
    let mut keep = |key: &str| {
        let is_shown = shown < listing.limit.unwrap_or(usize::MAX) && is_shown(key);
        shown += usize::from(is_shown);
        is_shown
    };
    let Some(Body::List(keys)) = data.remove("keys") else { return };
    let keys: Vec<Body> =
        keys.into_iter().filter(|key| matches!(key, Body::String(text) if keep(text.as_str()))).collect();
    let info = match data.remove("key_info") {
        Some(Body::Map(mut info)) => {
            let named = keys.iter().filter_map(|key| match key {
                Body::String(text) => info.remove(text.as_str()).map(|about| (text.as_str().to_owned(), about)),
                _ => None,
            });
            Some(named.collect::<Map>())
        }
        _ => None,
    };
    if keys.is_empty() {
        // No names are 404, whether there are none or none that may be seen.
        reply.shape = Shape::Absent(None);
        return;
    }
    // Whatever else the answer had could name what is hidden.
    let mut kept = Map::new().with("keys", Body::List(keys));
    if let Some(info) = info {
        kept.insert("key_info".to_owned(), Body::Map(info));
    }
    *data = kept;
}

/// Whether a name may be seen: it decides as a request for it would be decided, without parameters.
fn may_see(space: &Space, permissions: &Permissions, filter: &KeysFilter, listing: &str, key: &str) -> bool {
    let Some(path) = filter.path(listing, key) else { return false };
    // The filter speaks of paths as the caller's namespace sees them; what is outside of this one is not shown in it.
    let Some(path) = permissions.within(&path) else { return false };
    let operation = if key.ends_with('/') { Operation::List } else { Operation::Read };
    let asked = space.mounts.leads_to(path, operation);
    let decision = permissions.set().decide(&tresor_policy::Request {
        path: (&*permissions.asked(&asked.policy_path)).into(),
        operation,
        parameters: None,
        wrap_ttl_seconds: None,
        is_protected: asked.access.asks_for_sudo(),
        event_type: None,
    });
    decision.allowed_with_sudo().is_some()
}
