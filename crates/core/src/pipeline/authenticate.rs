//! Step 6: who asks?
//!
//! A token leads to a [`Principal`]: its record, read within the request's own transaction, and its compiled
//! policies. A use of a limited-use token is counted in a transaction of its own before anything else happens, so it
//! sticks when the request fails (DR-18). Every way of not being known has one answer: permission denied.

use std::net::IpAddr;

use ipnet::IpNet;
use tresor_barrier::Txn;
use tresor_engine::Access;
use tresor_model::{Fault, Request, Timestamp};

use super::route::Routed;
use super::uses::Use;
use crate::namespaces::Permissions;
use crate::tokens::FoundToken;
use crate::tokens::record::Uses;
use crate::unsealed::{CommitFault, Unsealed};
use crate::wrapping;

/// Who asks: a live token and what its policies come to. Made here only, which the private fields see to.
pub struct Principal {
    token: FoundToken,
    permissions: Permissions,
}

impl Principal {
    /// The token.
    pub(crate) const fn token(&self) -> &FoundToken {
        &self.token
    }

    /// What its policies come to where it asks.
    pub(crate) const fn permissions(&self) -> &Permissions {
        &self.permissions
    }
}

/// How often counting a use is tried against concurrent uses.
const CONSUME_ATTEMPTS_MAX: usize = 64;

/// Opens the request's transaction and finds out who asks. A use is counted once, whatever the number of attempts:
/// `using` says that it was.
pub(super) async fn authenticate(
    unsealed: &Unsealed,
    request: &Request,
    routed: &Routed,
    now: Timestamp,
    using: &mut Option<Use>,
) -> Result<(Txn, Option<Principal>), Fault> {
    let mut txn = unsealed.begin()?;
    let access = routed.access(request.verb);
    let mut found = find(unsealed, &mut txn, request, routed, now)?;
    if using.is_none()
        && let Some(token) = &found
        && token.record.uses == Uses::Counted
        && access != Access::Login
        // Whoever looks at what a wrapping token is about does not use it.
        && !(access == Access::Public && token.record.is_wrapping())
    {
        let begun = unsealed.uses.begin(&token.hash);
        let refusal = if access == Access::Wrapping { wrapping::not_valid } else { Fault::denied };
        consume(unsealed, &token.hash, refusal, now).await?;
        *using = Some(begun);
        txn = unsealed.begin()?;
        found = find(unsealed, &mut txn, request, routed, now)?;
    }
    let identity = found.map(|token| {
        let record = &token.record;
        let spaces = &unsealed.handles.spaces;
        let permissions = spaces.permissions(&routed.space, &record.namespace, &record.policies, now);
        Principal { token, permissions }
    });
    Ok((txn, identity))
}

/// The live token of the request, which belongs to its namespace or to one above. On public and login routes, no token or a bad one is nobody; elsewhere it is a
/// refusal.
fn find(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    routed: &Routed,
    now: Timestamp,
) -> Result<Option<FoundToken>, Fault> {
    let access = routed.access(request.verb);
    let required = !matches!(access, Access::Public | Access::Login);
    let found = match &request.token {
        // A wrapping token may come as JWT where it is looked at and opened, and nowhere else.
        Some(token) if matches!(access, Access::Public | Access::Wrapping) => {
            unsealed.handles.wrapping.look_up(txn, &routed.space.line, token, now)?
        }
        Some(token) => unsealed.handles.tokens.find(txn, &routed.space.line, token, now)?,
        None => None,
    };
    let usable = found.filter(|token| may_come_from(&token.record.bound_cidrs, request.connection.peer_address));
    if access == Access::Wrapping
        && request.token.is_some()
        && !wrapping::is_named(&request.body)
        && !usable.as_ref().is_some_and(|token| token.record.is_wrapping())
    {
        // The caller's own token is meant, and there is nothing behind it. No use of it is counted.
        return Err(wrapping::not_valid());
    }
    if required && usable.is_none() { Err(Fault::denied()) } else { Ok(usable) }
}

/// Whether an address lies in one of the ranges; an unreadable range admits nobody.
pub(crate) fn may_come_from(ranges: &[String], address: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.parse::<IpNet>().is_ok_and(|range| range.contains(&address)))
}

/// Counts one use, in a transaction of its own.
async fn consume(unsealed: &Unsealed, hash: &str, refusal: fn() -> Fault, now: Timestamp) -> Result<(), Fault> {
    let mut turn = None;
    for _ in 0..CONSUME_ATTEMPTS_MAX {
        let mut txn = unsealed.begin()?;
        let Some(found) = unsealed.handles.tokens.find_hash(&mut txn, hash, now)? else {
            return Err(refusal());
        };
        if found.record.uses == Uses::Unlimited {
            return Ok(());
        }
        unsealed.handles.tokens.count_use(&mut txn, &found)?;
        match unsealed.commit(txn).await {
            Ok(()) => return Ok(()),
            Err(CommitFault::OutOfBounds) => return Err(refusal()),
            Err(CommitFault::Conflict) if turn.is_none() => turn = unsealed.turns.take(hash).await,
            Err(CommitFault::Conflict) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Err(CommitFault::Conflict.into())
}

/// After the request: a token whose last use is over is revoked.
pub(super) async fn finish(unsealed: &Unsealed, using: Option<Use>, now: Timestamp) {
    let Some(hash) = using.and_then(Use::end) else { return };
    let revoke = async {
        let mut txn = unsealed.begin()?;
        let found = unsealed.handles.tokens.find_hash(&mut txn, &hash, now)?;
        if let Some(found) = found.filter(FoundToken::is_used_up) {
            unsealed.handles.tokens.revoke(&mut txn, &found, now)?;
            unsealed.commit(txn).await?;
        }
        Ok::<(), Fault>(())
    };
    // Not lost when it fails: a token without uses is refused, and expiry collects it.
    if let Err(fault) = revoke.await {
        tracing::warn!(%fault, "a used-up token could not be revoked at once");
    }
}
