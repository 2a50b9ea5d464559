//! Step 10: a login claim becomes a token, and what was handed out a lease, within the request's transaction.
//!
//! Only here, and in the token engine, are tokens minted. The claim names policies and wishes; ranges, lives and the
//! policy `default` are decided here, once for every auth method (DR-17).

use std::time::Duration;

use ipnet::IpNet;
use tresor_barrier::Txn;
use tresor_engine::{Login, Reply};
use tresor_env::Entropy;
use tresor_model::request::Inline;
use tresor_model::{Auth, Fault, LeaseTerms, Request, Timestamp, TokenType};
use tresor_policy::WRAPPING_POLICY;

use super::authenticate::may_come_from;
use super::authorize::Authorized;
use crate::leases::secrets::Means;
use crate::tokens::terms::{Limits, decide};
use crate::tokens::{NewToken, Tokens, auth_block};
use crate::unsealed::Unsealed;

pub(super) fn token(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    reply: &mut Reply,
    now: Timestamp,
) -> Result<Option<Auth>, Fault> {
    let Some(login) = reply.login.take() else { return Ok(reply.auth.take()) };
    let mount = authorized.routed().mount.as_ref().ok_or_else(|| Fault::internal("a login without a mount"))?;
    let ranges: Vec<String> = if login.terms.binds_address {
        vec![IpNet::from(request.connection.peer_address).to_string()]
    } else {
        login.terms.bound_cidrs.iter().map(ToString::to_string).collect()
    };
    if !may_come_from(&ranges, request.connection.peer_address) {
        return Err(Fault::invalid(login.refusal));
    }
    let terms = &login.terms;
    let limits = Limits {
        mount_default: mount.facts.default_lease_ttl,
        mount_max: mount.facts.max_lease_ttl,
        max: terms.max_ttl,
        explicit_max: terms.explicit_max_ttl,
        period: terms.period,
    };
    let wish = (!terms.ttl.is_zero()).then_some(terms.ttl);
    let life = decide(wish, &limits, now, now);
    reply.warnings.extend(life.warnings);
    let new = NewToken {
        id: None,
        namespace: authorized.routed().space.id.clone(),
        parent: None,
        policies: policies(&login)?,
        metadata: login.metadata,
        display_name: format!(
            "{}-{}",
            mount.record.path_in_class().trim_end_matches('/').replace('/', "-"),
            login.display_name
        )
        .trim_end_matches('-')
        .to_owned(),
        path: request.path.as_str().to_owned(),
        mount: mount.record.id.clone(),
        ttl: Some(life.ttl),
        renewal_ttl: terms.ttl,
        max_ttl: terms.max_ttl,
        explicit_max_ttl: terms.explicit_max_ttl,
        period: terms.period,
        num_uses: terms.num_uses,
        renewable: true,
        bound_cidrs: ranges,
        kept: login.kept,
    };
    let (tokens, entropy) = (&unsealed.handles.tokens, &*unsealed.doors.entropy);
    let kind = match request.inline {
        // Stored nowhere, whatever the mount says; it is used once.
        Inline::Login => return inline(tokens, new, now, entropy),
        _ => token_type(terms.token_type, &mount.record.tuning.token_type),
    };
    let (token, found) = match kind {
        TokenType::Service => tokens.mint(txn, new, now, entropy)?,
        // Nobody could count them.
        TokenType::Batch if new.num_uses > 0 => {
            return Err(Fault::invalid("batch tokens cannot have \"num_uses\" set"));
        }
        TokenType::Batch => tokens.mint_batch(new, now, entropy)?,
    };
    Ok(Some(auth_block(Some(token), &found, now)))
}

/// The token of a login in the headers of a request: it lasts for that request, so what is said of uses, periods and renewals
/// says nothing of it.
fn inline(tokens: &Tokens, new: NewToken, now: Timestamp, entropy: &dyn Entropy) -> Result<Option<Auth>, Fault> {
    let new = NewToken { num_uses: 0, period: Duration::ZERO, renewable: false, ..new };
    let (token, found) = tokens.mint_batch(new, now, entropy)?;
    Ok(Some(auth_block(Some(token), &found, now)))
}

/// What was handed out becomes a lease of the caller's token.
pub(super) fn lease(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    reply: &mut Reply,
    now: Timestamp,
) -> Result<Option<LeaseTerms>, Fault> {
    let Some(claim) = reply.lease.take() else { return Ok(None) };
    if matches!(request.inline, Inline::Done) {
        return Err(Fault::invalid("requests with inline authentication cannot generate leases"));
    }
    let mount = authorized.routed().mount.as_ref().ok_or_else(|| Fault::internal("a lease without a mount"))?;
    let owner = authorized.principal().ok_or_else(|| Fault::internal("a lease without a token"))?.token();
    let means = Means::by(txn, now, &unsealed.doors);
    unsealed.handles.leases.issue(means, &mount.facts, request.path.as_str(), owner, claim).map(Some)
}

/// The kind of token that a login leads to: the mount decides, or has a default for who does not say.
fn token_type(wish: Option<TokenType>, of_mount: &str) -> TokenType {
    match of_mount {
        "service" => TokenType::Service,
        "batch" => TokenType::Batch,
        "default-batch" => wish.unwrap_or(TokenType::Batch),
        _ => wish.unwrap_or(TokenType::Service),
    }
}

/// The policies of a login: never `root`, whatever a user's record says (IDN-01).
fn policies(login: &Login) -> Result<Vec<String>, Fault> {
    let mut policies: Vec<String> =
        login.policies.iter().map(|policy| policy.trim().to_lowercase()).filter(|policy| !policy.is_empty()).collect();
    if policies.iter().any(|policy| policy == "root") {
        return Err(Fault::invalid("auth methods cannot create root tokens"));
    }
    if policies.iter().any(|policy| policy == WRAPPING_POLICY) {
        return Err(Fault::invalid(format!("cannot assign policy \"{WRAPPING_POLICY}\"")));
    }
    if !login.terms.no_default_policy {
        policies.push("default".to_owned());
    }
    policies.sort_unstable();
    policies.dedup();
    Ok(policies)
}
