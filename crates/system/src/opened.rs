//! The endpoints that a listener may open to everybody, as its operator says: in every state of the node, without a token
//! and without an audit record, so that collecting numbers each few seconds makes no noise.
//!
//! The same paths answer with a token elsewhere (`sys/metrics.rs`). Deliberately absent: which listeners open them.

use tresor_core::{AlwaysRoute, Node};
use tresor_engine::Place;
use tresor_model::{Body, Fault, Map, Response, Shape, Verb};

use crate::sys::metrics;

/// The list.
pub const ROUTES: &[AlwaysRoute] = &[
    AlwaysRoute {
        path: "sys/metrics",
        verb: Verb::Read,
        summary: "The numbers of this node.",
        place: Place::Asked,
        fields: &[],
        answer_fields: &[],
        answer: |node, body| Box::pin(async move { numbers(node, &body) }),
    },
    AlwaysRoute {
        path: "sys/in-flight-req",
        verb: Verb::Read,
        summary: "The requests that run on this node now.",
        place: Place::Asked,
        fields: &[],
        answer_fields: &[],
        answer: |node, _| Box::pin(async move { Ok(raw("application/json", metrics::shown(node.running()))) }),
    },
];

fn numbers(node: &Node, body: &Map) -> Result<Response, Fault> {
    let format = body.get("format").and_then(Body::as_str).unwrap_or("");
    let (content_type, bytes) = metrics::spelled(&node.readings()?, node.naming(), format, node.now())?;
    Ok(raw(content_type, bytes))
}

fn raw(content_type: &'static str, bytes: Vec<u8>) -> Response {
    Response { shape: Shape::Raw { content_type: content_type.into(), bytes }, ..Response::default() }
}
