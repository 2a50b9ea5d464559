//! What requests did, in the names that dashboards know: a timer by name, observed by the routes that do such a thing.
//!
//! Which route does what is this one table, by what the routes declare of themselves, so no handler measures anything.
//! Deliberately absent: what a name means elsewhere and not here.

use std::time::Duration;

use tresor_metrics::Timer;
use tresor_model::Operation;

/// Of which kind of mount, below which part of its paths, by which operations, and the names that are observed.
type Deed = (&'static str, &'static [&'static str], &'static [Operation], &'static [&'static str]);

const WRITING: &[Operation] = &[Operation::Create, Operation::Update, Operation::Patch];
const SHOWING: &[Operation] = &[Operation::Read, Operation::Update];

const DEEDS: &[Deed] = &[
    ("system", &["leases/renew", "renew"], WRITING, &["expire.renew"]),
    ("system", &["leases/revoke", "revoke"], WRITING, &["expire.revoke"]),
    ("system", &["leases/revoke-prefix", "revoke-prefix"], WRITING, &["expire.revoke_prefix"]),
    ("system", &["leases/revoke-force", "revoke-force"], WRITING, &["expire.revoke_force"]),
    ("system", &["leases/lookup"], SHOWING, &["expire.fetch_lease_times"]),
    ("system", &["policies/acl/", "policy/"], &[Operation::Read], &["policy.get_policy"]),
    ("system", &["policies/acl/", "policy/"], WRITING, &["policy.set_policy"]),
    ("system", &["policies/acl/", "policy/"], &[Operation::Delete], &["policy.delete_policy"]),
    ("system", &["policies/acl", "policy"], &[Operation::Read, Operation::List], &["policy.list_policies"]),
    ("system", &["seal"], WRITING, &["core.seal_with_request"]),
    ("system", &["step-down"], WRITING, &["core.step_down"]),
    ("token", &["create", "create-orphan", "create/"], WRITING, &["token.create"]),
    ("token", &["lookup", "lookup-self", "lookup-accessor"], SHOWING, &["token.lookup"]),
    ("token", &["renew", "renew-self", "renew-accessor"], WRITING, &["expire.renew_token"]),
    ("token", &["revoke-orphan"], WRITING, &["token.revoke"]),
    ("token", &["revoke", "revoke-self", "revoke-accessor"], WRITING, &["token.revoke", "token.revoke_tree"]),
];

/// The part of a route's pattern before its first parameter; of one that has parameters behind other segments than these, with
/// the slash at its end.
fn fixed(pattern: &str) -> &str {
    pattern.split_once('{').map_or(pattern, |(fixed, _)| fixed)
}

/// A timer for each name.
pub(super) struct Deeds(Vec<(&'static str, Timer)>);

impl Deeds {
    pub(super) fn new() -> Self {
        let mut names: Vec<&str> = DEEDS.iter().flat_map(|(.., names)| *names).copied().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(|name| (name, Timer::default())).collect())
    }

    /// A route of a mount of this kind took so long.
    pub(super) fn observe(&self, kind: &str, pattern: &str, operation: Operation, took: Duration) {
        let fixed = fixed(pattern);
        // A list names places below with their slash, or means what lies at the place and below it.
        let is_it = |part: &str| part == fixed || (!part.ends_with('/') && fixed.strip_suffix('/') == Some(part));
        let exact = |(_, parts, _, _): &&Deed| parts.contains(&fixed);
        let of = || DEEDS.iter().filter(|(of, ..)| *of == kind);
        let said = of().any(|deed| exact(&deed));
        let found = of().filter(|deed| if said { exact(deed) } else { deed.1.iter().any(|part| is_it(part)) });
        for (.., names) in found.filter(|(_, _, operations, _)| operations.contains(&operation)) {
            for (_, timer) in self.0.iter().filter(|(name, _)| names.contains(name)) {
                timer.observe(took);
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &Timer)> {
        self.0.iter().map(|(name, timer)| (*name, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_observed_by_the_names_of_what_it_does() {
        let observed = |kind: &str, pattern: &str, operation| {
            let deeds = Deeds::new();
            deeds.observe(kind, pattern, operation, Duration::from_secs(1));
            let read = |(name, timer): (&'static str, &Timer)| (timer.read(Duration::ZERO).count > 0).then_some(name);
            deeds.all().filter_map(read).collect::<Vec<_>>()
        };
        assert_eq!(observed("system", "policies/acl", Operation::List), ["policy.list_policies"]);
        assert_eq!(observed("system", "policies/acl/{name:folded}", Operation::Read), ["policy.get_policy"]);
        assert_eq!(observed("system", "policy/{name}", Operation::Create), ["policy.set_policy"]);
        assert_eq!(observed("system", "leases/renew/{url_lease_id...}", Operation::Update), ["expire.renew"]);
        assert_eq!(observed("system", "revoke-force/{prefix...}", Operation::Update), ["expire.revoke_force"]);
        assert_eq!(observed("token", "create/{role_name}", Operation::Update), ["token.create"]);
        assert_eq!(observed("token", "revoke-self", Operation::Update), ["token.revoke", "token.revoke_tree"]);
        assert_eq!(observed("kv", "create", Operation::Update), [""; 0]);
        assert_eq!(observed("system", "mounts/{path...}", Operation::Read), [""; 0]);
    }
}
