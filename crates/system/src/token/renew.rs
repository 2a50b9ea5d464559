//! Renewing tokens: a new end, capped by the same rules as the first one, counted from creation.

use tresor_core::tokens::roles::lesser;
use tresor_core::tokens::terms::{Limits, decide};
use tresor_core::tokens::{FoundToken, auth_block};
use tresor_engine::answer::Token;
use tresor_engine::{Cx, Headers, Holder, View, Warned, Widened};
use tresor_model::Fault;
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::{Input, Seconds};

use super::{TokenStore, handle, named, roles};

/// Which token, and for how long.
#[derive(Input)]
pub(super) struct Renew {
    /// The token.
    token: Option<SecretString>,
    /// The life that is wished for.
    increment: Option<Seconds>,
}

/// For how long.
#[derive(Input)]
pub(super) struct RenewSelf {
    /// The life that is wished for.
    increment: Option<Seconds>,
}

/// Which token, and for how long.
#[derive(Input)]
pub(super) struct RenewAccessor {
    /// The accessor.
    accessor: Option<String>,
    /// The life that is wished for.
    increment: Option<Seconds>,
}

pub(super) async fn by_token(store: &TokenStore, mut cx: Cx<'_>, input: Renew) -> Result<Warned<Token>, Fault> {
    let text = named(input.token.as_ref())?;
    let found = store.find(&mut cx, text)?.ok_or_else(|| Fault::invalid("token not found"))?;
    let token = TokenSecret::parse(text).map_err(|_| Fault::denied())?;
    renew(store, &mut cx, found, input.increment, Some(token)).await
}

pub(super) async fn caller(store: &TokenStore, mut cx: Cx<'_>, input: RenewSelf) -> Result<Warned<Token>, Fault> {
    let found = store.find_caller(&mut cx)?;
    let held = cx.caller.held.token(Widened::assertion()).ok_or_else(Fault::denied)?;
    let token = TokenSecret::parse(held.expose()).map_err(|_| Fault::denied())?;
    renew(store, &mut cx, found, input.increment, Some(token)).await
}

pub(super) async fn by_accessor(
    store: &TokenStore,
    mut cx: Cx<'_>,
    input: RenewAccessor,
) -> Result<Warned<Token>, Fault> {
    let found = store.find_accessor(&mut cx, handle(input.accessor.as_ref())?)?;
    renew(store, &mut cx, found, input.increment, None).await
}

async fn renew(
    store: &TokenStore,
    cx: &mut Cx<'_>,
    mut found: FoundToken,
    increment: Option<Seconds>,
    token: Option<TokenSecret>,
) -> Result<Warned<Token>, Fault> {
    let now = cx.now;
    if found.is_batch() {
        return Err(Fault::invalid("batch tokens cannot be renewed"));
    }
    if !found.record.renewable {
        return Err(Fault::invalid("lease is not renewable"));
    }
    // The mount that made the token decides: an auth method's own tuning holds for its tokens.
    let space = store.handles.spaces.of(&found.record.namespace)?;
    let mounts = &space.mounts;
    let table = mounts.table();
    let mount = table.with_id(&found.record.mount).ok_or_else(Fault::denied)?;
    let record = &found.record;
    // The role that made it goes on to decide, and when it is gone nobody does.
    let (mut explicit_max, mut period) = (record.explicit_max_ttl, record.period);
    if let Some(name) = record.role() {
        let role = roles::load(cx, name)?
            .ok_or_else(|| Fault::invalid(format!("original token role {name:?} could not be found, not renewing")))?;
        explicit_max = lesser(explicit_max, role.explicit_max_ttl);
        period = if role.period.is_zero() { period } else { role.period };
    }
    // So does the role or user of an auth method, as it is now.
    let (mut max, mut renewal_ttl) = (record.max_ttl, record.renewal_ttl);
    let holder = Holder { metadata: &record.metadata, policies: &record.policies, kept: record.kept.as_deref() };
    if let Some(engine) = mounts.engine(mount) {
        let within = Cx {
            view: View::new(cx.view.widen(Widened::assertion()), mount.contents.clone()),
            now,
            entropy: cx.entropy,
            workers: cx.workers,
            outgoing: cx.outgoing,
            net: cx.net,
            machine: cx.machine,
            keepers: cx.keepers,
            clock: cx.clock,
            caller: cx.caller,
            mount: &mount.facts,
            operation: cx.operation,
            upload: None,
            headers: Headers::NONE,
        };
        if let Some(terms) = engine.renewal(within, holder).await? {
            (max, renewal_ttl, period) = (terms.max_ttl, terms.ttl, terms.period);
        }
    }
    let limits = Limits {
        mount_default: mount.facts.default_lease_ttl,
        mount_max: mount.facts.max_lease_ttl,
        max,
        explicit_max,
        period,
    };
    let wish = increment.map(|wish| wish.0).filter(|wish| !wish.is_zero());
    let wish = wish.or(Some(renewal_ttl).filter(|ttl| !ttl.is_zero()));
    let life = decide(wish, &limits, record.created, now);
    if life.ttl.is_zero() {
        // A renewal must not be what ends the token (TOK-02).
        return Err(Fault::invalid("past the max TTL, cannot renew"));
    }
    store.handles.tokens.renew(cx.view.widen(Widened::assertion()), &mut found, &life, now)?;
    Ok(Warned(Token::new(auth_block(token, &found, now), Widened::assertion()), life.warnings))
}
