//! Revoking tokens. Revoking what is not there succeeds: it is gone, which is what was asked for; by handle with a warning,
//! since a handle is easily mistyped.

use tresor_core::tokens::FoundToken;
use tresor_engine::{Cx, Nothing, Warned, Widened};
use tresor_model::Fault;
use tresor_wire::input::EmptyInput;

use super::{ByAccessor, ByToken, TokenStore, handle, named};

/// A batch token is stored nowhere, so there is nothing to take away.
fn must_be_stored(found: &FoundToken) -> Result<(), Fault> {
    if found.is_batch() { Err(Fault::invalid("batch tokens cannot be revoked")) } else { Ok(()) }
}

fn revoke(store: &TokenStore, cx: &mut Cx<'_>, found: &FoundToken) -> Result<Nothing, Fault> {
    must_be_stored(found)?;
    let now = cx.now;
    store.handles.tokens.revoke(cx.view.widen(Widened::assertion()), found, now)?;
    Ok(Nothing)
}

pub(super) async fn by_token(store: &TokenStore, mut cx: Cx<'_>, input: ByToken) -> Result<Nothing, Fault> {
    let text = named(input.token.as_ref())?;
    let found = match store.find_stored(&mut cx, text)? {
        Some(found) => Some(found),
        None => store.find(&mut cx, text)?,
    };
    match found {
        Some(found) => revoke(store, &mut cx, &found),
        None => Ok(Nothing),
    }
}

pub(super) async fn caller(store: &TokenStore, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Nothing, Fault> {
    let found = store.find_caller(&mut cx)?;
    revoke(store, &mut cx, &found)
}

pub(super) async fn by_accessor(
    store: &TokenStore,
    mut cx: Cx<'_>,
    input: ByAccessor,
) -> Result<Warned<Nothing>, Fault> {
    match store.to_revoke_by_accessor(&mut cx, handle(input.accessor.as_ref())?)? {
        Some(found) => Ok(Warned(revoke(store, &mut cx, &found)?, Vec::new())),
        None => Ok(Warned(Nothing, vec!["No token found with this accessor".to_owned()])),
    }
}

pub(super) async fn orphaning(store: &TokenStore, mut cx: Cx<'_>, input: ByToken) -> Result<Nothing, Fault> {
    let found = store.find(&mut cx, named(input.token.as_ref())?)?;
    let found = found.ok_or_else(|| Fault::invalid("token to revoke not found"))?;
    must_be_stored(&found)?;
    let now = cx.now;
    store.handles.tokens.revoke_orphaning(cx.view.widen(Widened::assertion()), &found, now)?;
    Ok(Nothing)
}
