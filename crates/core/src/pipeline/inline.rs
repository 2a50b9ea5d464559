//! Before step 3b: a login in the headers of a request (inline authentication) is done as a request of its own, and the token that
//! it leads to asks for what was asked.
//!
//! The login goes through the whole pipeline, quotas and lock-out among them, and leaves its records. Its token is a batch
//! token, so nothing is stored for it and nothing is left of it; whoever has it can hang nothing on it, no lease either.
//! Deliberately absent: routes that do not log in, which nobody reaches this way (`admit`, where it runs).

use tresor_env::BoxFuture;
use tresor_model::request::{INLINE_FAILED, Inline};
use tresor_model::{Fault, Known, Refusal, Request};

use super::{serve, throttle};
use crate::node::Node;

/// Logs in, if that is asked for.
pub(super) fn log_in<'a>(node: &'a Node, request: &'a mut Request) -> BoxFuture<'a, Result<(), Fault>> {
    Box::pin(async move {
        let Inline::Asked(login) = std::mem::replace(&mut request.inline, Inline::Not) else { return Ok(()) };
        let login = Request {
            namespace: login.namespace,
            body: login.body,
            inline: Inline::Login,
            ..Request::new(node.next_request_id(), login.verb, login.path, request.connection.clone())
        };
        // As if it had come by itself.
        if let Some(refusal) = throttle(node, &login, Known::Body).refusal {
            return Err(told(refusal.into()));
        }
        let answer = serve(node, login).await.into_inner().map_err(told)?;
        let token = answer.auth.and_then(|auth| auth.client_token);
        let token = token.ok_or_else(|| told(Refusal::Absent("the login led to no token".into()).into()))?;
        (request.token, request.inline) = (Some(token), Inline::Done);
        Ok(())
    })
}

/// The text says that it was the login that failed.
fn told(fault: Fault) -> Fault {
    fault.of_part(INLINE_FAILED.trim_end_matches(": "))
}
