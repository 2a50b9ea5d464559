//! `sys/capabilities*`: what a token may do on paths, answered by the function that enforces it (LST-06).

use tresor_barrier::Txn;
use tresor_core::Space;
use tresor_core::namespaces::Permissions;
use tresor_core::tokens::FoundToken;
use tresor_engine::{Cx, Mirrored, Widened};
use tresor_model::{Body, Fault, Map, Timestamp};
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::{CommaList, Input};
use tresor_wire::output::Output;

use super::Sys;

/// Paths to ask about.
#[derive(Input)]
pub(super) struct Paths {
    /// The paths.
    paths: Option<CommaList>,
    /// An older name, for one path.
    path: Option<CommaList>,
}

/// Paths, and the token to ask about.
#[derive(Input)]
pub(super) struct TokenPaths {
    /// The token.
    token: SecretString,
    /// The paths.
    paths: Option<CommaList>,
    /// An older name, for one path.
    path: Option<CommaList>,
}

/// Paths, and the accessor to ask about.
#[derive(Input)]
pub(super) struct AccessorPaths {
    /// The accessor.
    accessor: String,
    /// The paths.
    paths: Option<CommaList>,
    /// An older name, for one path.
    path: Option<CommaList>,
}

/// What may be done.
#[derive(Output)]
pub(super) struct Capabilities {
    /// On the only path that was asked about.
    #[output(optional)]
    capabilities: Option<Vec<String>>,
    /// On each path.
    #[output(rest)]
    by_path: Map,
}

fn chosen(paths: Option<CommaList>, path: Option<CommaList>) -> Result<Vec<String>, Fault> {
    let chosen = paths.or(path).map(|list| list.0).unwrap_or_default();
    if chosen.is_empty() { Err(Fault::invalid("paths must be supplied")) } else { Ok(chosen) }
}

fn answer(space: &Space, permissions: &Permissions, paths: &[String]) -> Mirrored<Capabilities> {
    let named = |path: &String| -> Vec<String> {
        let path = path.trim_start_matches('/');
        let (own, directory) = (space.mounts.policy_path(path, false), space.mounts.policy_path(path, true));
        let (own, directory) = (permissions.asked(&own), permissions.asked(&directory));
        let capabilities = permissions.set().capabilities((&*own).into(), (&*directory).into());
        capabilities.into_iter().map(|capability| capability.name().to_owned()).collect()
    };
    let only = if let [only] = paths { Some(named(only)) } else { None };
    let by_path = paths.iter().map(|path| (path.clone(), Body::from(named(path)))).collect();
    Mirrored(Capabilities { capabilities: only, by_path })
}

pub(super) async fn of_caller(sys: &Sys, cx: Cx<'_>, input: Paths) -> Result<Mirrored<Capabilities>, Fault> {
    let space = sys.space(&cx)?;
    Ok(answer(&space, &sys.permissions(&cx, &space), &chosen(input.paths, input.path)?))
}

/// What a token may do in a namespace.
fn of_found(sys: &Sys, space: &Space, found: &FoundToken, now: Timestamp) -> Permissions {
    sys.handles.spaces.permissions(space, &found.record.namespace, &found.record.policies, now)
}

/// The token of a namespace that a request names.
pub(super) fn named(
    sys: &Sys,
    txn: &mut Txn,
    space: &Space,
    token: &SecretString,
    now: Timestamp,
) -> Result<FoundToken, Fault> {
    let token = TokenSecret::parse(token.expose()).map_err(|_| Fault::invalid("invalid token"))?;
    let found = sys.handles.tokens.find(txn, std::slice::from_ref(&space.id), &token, now)?;
    found.ok_or_else(|| Fault::invalid("invalid token"))
}

pub(super) async fn of_token(sys: &Sys, mut cx: Cx<'_>, input: TokenPaths) -> Result<Mirrored<Capabilities>, Fault> {
    let paths = chosen(input.paths, input.path)?;
    let (now, space) = (cx.now, sys.space(&cx)?);
    let found = named(sys, cx.view.widen(Widened::assertion()), &space, &input.token, now)?;
    Ok(answer(&space, &of_found(sys, &space, &found, now), &paths))
}

pub(super) async fn of_accessor(
    sys: &Sys,
    mut cx: Cx<'_>,
    input: AccessorPaths,
) -> Result<Mirrored<Capabilities>, Fault> {
    let paths = chosen(input.paths, input.path)?;
    let (now, space) = (cx.now, sys.space(&cx)?);
    let txn = cx.view.widen(Widened::assertion());
    let found = sys.handles.tokens.find_accessor(txn, &space.id, &input.accessor, now)?;
    let found = found.ok_or_else(|| Fault::invalid("invalid accessor"))?;
    Ok(answer(&space, &of_found(sys, &space, &found, now), &paths))
}
