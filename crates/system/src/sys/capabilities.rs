//! `sys/capabilities*`: what a token may do on paths, answered by the function that enforces it (LST-06).

use tresor_engine::{Cx, Reply, Widened};
use tresor_model::ids::NamespaceId;
use tresor_model::{Body, Fault, Map};
use tresor_secret::{SecretString, TokenSecret};
use tresor_wire::input::{CommaList, Input};

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

fn chosen(paths: Option<CommaList>, path: Option<CommaList>) -> Result<Vec<String>, Fault> {
    let chosen = paths.or(path).map(|list| list.0).unwrap_or_default();
    if chosen.is_empty() { Err(Fault::invalid("paths must be supplied")) } else { Ok(chosen) }
}

fn answer(sys: &Sys, policies: &[String], paths: &[String]) -> Reply {
    let set = sys.handles.policies.table().compile(policies);
    let mut data = Map::new();
    for path in paths {
        let capabilities: Vec<Body> = set
            .capabilities(path.trim_start_matches('/'))
            .into_iter()
            .map(|capability| Body::from(capability.name()))
            .collect();
        if paths.len() == 1 {
            data.insert("capabilities", Body::List(capabilities.iter().map(Body::duplicate).collect()));
        }
        data.insert(path.as_str(), Body::List(capabilities));
    }
    Reply { shape: tresor_model::Shape::Mirrored(data), ..Reply::default() }
}

pub(super) async fn of_caller(sys: &Sys, cx: Cx<'_>, input: Paths) -> Result<Reply, Fault> {
    Ok(answer(sys, cx.caller.policies, &chosen(input.paths, input.path)?))
}

pub(super) async fn of_token(sys: &Sys, mut cx: Cx<'_>, input: TokenPaths) -> Result<Reply, Fault> {
    let paths = chosen(input.paths, input.path)?;
    let token = TokenSecret::parse(input.token.expose()).map_err(|_| Fault::invalid("invalid token"))?;
    let now = cx.now;
    let found = sys.handles.tokens.find(cx.view.widen(Widened::assertion()), &NamespaceId::root(), &token, now)?;
    let found = found.ok_or_else(|| Fault::invalid("invalid token"))?;
    Ok(answer(sys, &found.record.policies, &paths))
}

pub(super) async fn of_accessor(sys: &Sys, mut cx: Cx<'_>, input: AccessorPaths) -> Result<Reply, Fault> {
    let paths = chosen(input.paths, input.path)?;
    let now = cx.now;
    let txn = cx.view.widen(Widened::assertion());
    let found = sys.handles.tokens.find_accessor(txn, &NamespaceId::root(), &input.accessor, now)?;
    let found = found.ok_or_else(|| Fault::invalid("invalid accessor"))?;
    Ok(answer(sys, &found.record.policies, &paths))
}
