//! Step 9, last: an answer that was asked for wrapped goes behind a token, within the request's transaction.
//!
//! What the request did, the wrapped answer and its token commit together. Invariant: whoever asked for wrapping gets a wrapped
//! answer, a refusal, or an answer that says nothing (204, 404); what cannot be wrapped is refused, and then nothing was done.
//! Whether the wish is within what the policies allow was decided with everything else that they decide.

use std::time::Duration;

use tresor_barrier::Txn;
use tresor_engine::Place;
use tresor_model::ids::Accessor;
use tresor_model::{Fault, Request, Response, Shape, Timestamp};

use super::authorize::Authorized;
use crate::leases::secrets::Means;
use crate::unsealed::Unsealed;
use crate::wrapping::{Wish, Wrapping};

/// In which form a client wants the wrapping token: `jwt`, or as any token.
const FORMAT: &str = "x-vault-wrap-format";

/// What is refused when an answer has no envelope that could be kept.
const CANNOT: &str = "this answer cannot be wrapped";

/// What is said where a JWT does not say where it is opened.
const NO_ADDRESS: &str = "this server has no `api_addr`, so the token does not say where it is opened: the address has to be \
                          given to whoever opens it";

/// How an answer is to be wrapped.
#[derive(Clone)]
pub(super) struct Wanted {
    /// How long it can be opened.
    pub(super) ttl: Duration,
    /// The handle of what the answer shows.
    pub(super) handle: Option<Accessor>,
    /// Whether its token is to be a JWT.
    pub(super) is_jwt: bool,
}

/// How the answer is to be wrapped, if it is.
pub(super) fn asked(request: &Request, authorized: &Authorized<'_>) -> Result<Option<Wanted>, Fault> {
    let Some(ttl) = request.wrap_ttl else { return Ok(None) };
    Wrapping::check(&authorized.routed().space, ttl)?;
    // What is about one node runs there, and a token is made by the leader.
    let is_about_a_node = authorized.facts().is_some_and(|facts| facts.place == Place::Asked);
    if is_about_a_node || request.upload.is_there() {
        return Err(Fault::invalid(CANNOT));
    }
    let is_jwt = request.headers.get(FORMAT).into_iter().flatten().any(|form| form == "jwt");
    Ok(Some(Wanted { ttl, handle: None, is_jwt }))
}

pub(super) async fn wrap(
    unsealed: &Unsealed,
    txn: &mut Txn,
    request: &Request,
    authorized: &Authorized<'_>,
    mut response: Response,
    wanted: Wanted,
    now: Timestamp,
) -> Result<Response, Fault> {
    let says_more = !response.warnings.is_empty() || response.auth.is_some() || response.lease.is_some();
    match &response.shape {
        // It is wrapped already: how it is opened is the answer.
        _ if response.wrap_info.is_some() => return spelled(unsealed, response, wanted.is_jwt),
        Shape::Nothing | Shape::Absent(None) if !says_more => return Ok(response),
        Shape::Nothing | Shape::Enveloped(_) | Shape::Absent(_) | Shape::Mirrored(_) | Shape::Accepted(_) => {}
        Shape::Flat(_) | Shape::Health { .. } | Shape::Raw { .. } | Shape::Stream { .. } | Shape::Messages(_) => {
            return Err(Fault::invalid(CANNOT));
        }
    }
    let means = Means::by(txn, now, &unsealed.doors);
    let wish = Wish {
        space: std::sync::Arc::clone(&authorized.routed().space),
        path: request.path.as_str().to_owned(),
        ttl: wanted.ttl,
        display_name: authorized.principal().map(|asker| asker.token().record.display_name.clone()).unwrap_or_default(),
        wrapped_accessor: wanted.handle.filter(|handle| !handle.as_str().is_empty()),
    };
    // What is a map at top level, too, is that in the envelope's data.
    if let Shape::Mirrored(data) = response.shape {
        response.shape = Shape::Enveloped(data);
    }
    let answer = tresor_wire::envelope::of(&response, &request.id);
    let info = unsealed.handles.wrapping.wrap(means, answer, wish).await?;
    spelled(unsealed, Response { wrap_info: Some(info), ..Response::default() }, wanted.is_jwt)
}

/// The answer with its wrapping token in the form that was asked for.
fn spelled(unsealed: &Unsealed, mut response: Response, is_jwt: bool) -> Result<Response, Fault> {
    if !is_jwt {
        return Ok(response);
    }
    let address = unsealed.handles.cluster.me().api_address;
    if address.is_empty() {
        response.warnings.push(NO_ADDRESS.to_owned());
    }
    response.wrap_info = response.wrap_info.map(|info| unsealed.handles.wrapping.as_jwt(info, &address)).transpose()?;
    Ok(response)
}
