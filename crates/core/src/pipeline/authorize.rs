//! Step 7: may they?
//!
//! The one place that asks the policies for permission. [`Authorized`] is the proof: it can be made here only, and
//! execution accepts nothing else. Order of refusals: not known, not permitted, and only then "no such route" or "no
//! such operation", so that refusals reveal nothing.

use tresor_barrier::Txn;
use tresor_engine::{Access, Effect, OperationFacts};
use tresor_model::{Fault, Operation, Refusal, Request, Timestamp};
use tresor_policy::{Decision, Granting, Listing};
use tresor_wire::input::FieldSpec;

use super::authenticate::Principal;
use super::execute::context;
use super::route::{Routed, Target, operation_candidates};
use crate::unsealed::Unsealed;

/// Witness: this principal may do this operation on this route.
pub struct Authorized<'a> {
    routed: &'a Routed,
    target: &'a Target,
    principal: Option<&'a Principal>,
    operation: Operation,
    facts: Option<OperationFacts>,
    has_sudo: bool,
    /// Whether the answer is to be wrapped.
    wraps: bool,
    /// What the policies said; `None` when they were not asked.
    decision: Option<Decision<'a>>,
}

impl<'a> Authorized<'a> {
    /// Where the path leads.
    pub(super) const fn routed(&self) -> &'a Routed {
        self.routed
    }

    /// What answers there.
    pub(super) const fn target(&self) -> &'a Target {
        self.target
    }

    /// Who asks; nobody on public routes.
    pub(super) const fn principal(&self) -> Option<&'a Principal> {
        self.principal
    }

    /// Who asks, where somebody has to be known.
    pub(super) fn client(&self) -> Option<&'a Principal> {
        let is_open = self.facts.is_some_and(|facts| matches!(facts.access, Access::Public | Access::Login));
        self.principal.filter(|_| !is_open)
    }

    /// What is done.
    pub(super) const fn operation(&self) -> Operation {
        self.operation
    }

    /// What the operation declares; `None` for a path that the engine only has a hint for.
    pub(super) const fn facts(&self) -> Option<OperationFacts> {
        self.facts
    }

    /// Whether its handler may write.
    pub(super) fn writes(&self) -> bool {
        self.facts.is_some_and(|facts| facts.effect == Effect::Writes)
    }

    /// Whether anything may be written; what does not has no effect before it is answered.
    pub(super) fn has_effect(&self) -> bool {
        self.writes() || self.wraps
    }

    /// Whether its handler may draw what must have the seal's bytes in it: all but looking at something, and taking it away.
    pub(super) fn needs_seal_entropy(&self) -> bool {
        let makes = match self.operation {
            Operation::Create | Operation::Update | Operation::Patch => true,
            Operation::Read => self.writes(),
            Operation::List | Operation::Scan | Operation::Delete | Operation::Help | Operation::Subscribe => false,
        };
        makes && self.routed.mount.as_ref().is_some_and(|mount| mount.facts.seal_entropy)
    }

    /// Whether protected paths may be used.
    pub(super) const fn has_sudo(&self) -> bool {
        self.has_sudo
    }

    /// What the deciding rule says of a listing.
    pub(super) fn listing(&self) -> Listing<'a> {
        match &self.decision {
            Some(Decision::Allowed { listing, .. }) => *listing,
            _ => Listing::default(),
        }
    }

    /// The names of the policies that grant it; none when they were not asked.
    pub(super) fn granting_policies(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let granting = match &self.decision {
            Some(Decision::Allowed { granting, .. }) => Some(*granting),
            _ => None,
        };
        granting.into_iter().flat_map(Granting::names)
    }
}

pub(super) fn authorize<'a>(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    routed: &'a Routed,
    identity: &'a Option<Principal>,
    now: Timestamp,
) -> Result<Authorized<'a>, Fault> {
    let principal = identity.as_ref();
    let access = routed.access(request.verb);
    let operation = operation(unsealed, txn, request, routed, principal, now)?;
    let mut decision = None;
    let has_sudo = match access {
        Access::Public | Access::Login => false,
        Access::AnyToken => {
            principal.ok_or_else(Fault::denied)?;
            false
        }
        Access::Token | Access::Wrapping | Access::Sudo | Access::Shareholders(_) => {
            let principal = principal.ok_or_else(Fault::denied)?;
            let permissions = principal.permissions();
            let decided = permissions.set().decide(&tresor_policy::Request {
                path: (&*permissions.asked(&routed.policy_path)).into(),
                operation,
                parameters: Some(tresor_policy::Parameters {
                    sent: &request.body,
                    from_query: &request.from_query,
                    fields: declared(routed, operation),
                }),
                wrap_ttl_seconds: request.wrap_ttl.map(|ttl| ttl.as_secs()),
                is_protected: access.asks_for_sudo(),
                event_type: None,
            });
            let sudo = decided.allowed_with_sudo().ok_or_else(Fault::denied)?;
            decision = Some(decided);
            sudo
        }
    };
    let target = routed.target.as_ref().map_err(|refusal| Fault::Refusal(refusal.clone()))?;
    let facts = target.operations.get(&operation).copied();
    if facts.is_none() && !target.operations.is_empty() && operation != Operation::Help {
        return Err(Refusal::Unsupported.into());
    }
    Ok(Authorized {
        routed,
        target,
        principal,
        operation,
        facts,
        has_sudo,
        wraps: request.wrap_ttl.is_some(),
        decision,
    })
}

/// The fields that the operation declares, so that parameters are judged by the names that its handler reads.
fn declared(routed: &Routed, operation: Operation) -> &'static [FieldSpec] {
    let target = routed.target.as_ref().ok();
    target.and_then(|target| target.operations.get(&operation)).map_or(&[], |facts| facts.fields)
}

/// Tells creating from updating by the route's existence check.
fn operation(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    routed: &Routed,
    principal: Option<&Principal>,
    now: Timestamp,
) -> Result<Operation, Fault> {
    let candidates = operation_candidates(request.verb);
    let default = candidates.first().copied().unwrap_or(Operation::Read);
    match (&routed.target, &routed.mount) {
        (Ok(target), Some(mount)) if default == Operation::Update && target.tells_create => {
            let cx = context(unsealed, txn, request, mount, principal, default, false, now);
            let check = || target.engine.exists(target.route, cx, &target.parameters);
            let exists = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check))
                .unwrap_or_else(|_| Err(Fault::internal("an existence check panicked")))?;
            Ok(if exists { Operation::Update } else { Operation::Create })
        }
        _ => Ok(default),
    }
}
