//! The one assembly of a node on doubles, and one exchange with it, over HTTP or as a listener: for the harness and for the
//! simulator.
//!
//! Deliberately absent: which store is used, and what happens to requests whose client goes away; both are the
//! caller's to choose.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tresor_core::cluster::{Alone, Cluster};
use tresor_core::{Node, Settings};
use tresor_env::{Clock, Doors};
use tresor_http::{Options, Serve};
use tresor_model::request::Connection;
use tresor_model::{Fault, Map, Messages, Path, Request, Shape, Verb};
use tresor_secret::TokenSecret;
use tresor_storage::Store;

use crate::{AUDIT_LOG, Answer};

/// A node with every engine there is, on these doors and this store.
///
/// # Errors
/// When the store cannot be read.
pub fn node(doors: &Doors, store: Arc<dyn Store>) -> Result<Arc<Node>, Fault> {
    node_with(doors, store, settings())
}

/// What a node on doubles is configured with.
#[must_use]
pub fn settings() -> Settings {
    let audit_directory = Some(AUDIT_LOG.into());
    Settings { audit_directory, protected_directories: vec!["/data".into()], ..Settings::default() }
}

/// A node with every engine there is, configured like this.
///
/// # Errors
/// As [`node`].
pub fn node_with(doors: &Doors, store: Arc<dyn Store>, settings: Settings) -> Result<Arc<Node>, Fault> {
    node_in(Arc::new(Alone::default()), doors, store, settings)
}

/// A node of a cluster, with every engine there is, configured like this.
///
/// # Errors
/// As [`node`].
pub fn node_in(
    cluster: Arc<dyn Cluster>,
    doors: &Doors,
    store: Arc<dyn Store>,
    settings: Settings,
) -> Result<Arc<Node>, Fault> {
    node_without("", cluster, doors, store, settings)
}

/// The same of a release that does not know this type of mount.
///
/// # Errors
/// As [`node`].
pub fn node_without(
    unknown: &str,
    cluster: Arc<dyn Cluster>,
    doors: &Doors,
    store: Arc<dyn Store>,
    settings: Settings,
) -> Result<Arc<Node>, Fault> {
    let mut registry = tresor_builtin::registry();
    registry.factories.push(crate::leasing::FACTORY);
    registry.factories.push(crate::lending::FACTORY);
    registry.factories.push(crate::kept::FACTORY);
    registry.factories.retain(|factory| factory.kind != unknown);
    Node::start(store, cluster, doors.clone(), settings, registry)
}

/// A request for `path` (below `/v1/`, sent exactly as written) with a token (empty: none) and a JSON body (null:
/// none).
#[must_use]
pub fn request(method: &str, path: &str, token: &str, body: &Value) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::builder().method(method).uri(format!("/v1/{path}"));
    if !token.is_empty() {
        request = request.header("X-Vault-Token", token);
    }
    if method == "PATCH" {
        request = request.header("Content-Type", "application/merge-patch+json");
    }
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    request.body(Full::new(Bytes::from(bytes))).expect("the test's request is HTTP")
}

/// Sends one request through the HTTP face.
pub async fn exchange(
    service: &dyn Serve,
    clock: &dyn Clock,
    connection: Connection,
    options: &Options,
    request: http::Request<Full<Bytes>>,
) -> Answer {
    let response = tresor_http::handle(service, clock, connection, options, request).await;
    let (head, body) = response.into_parts();
    Answer::new(head, body.collect().await.unwrap().to_bytes().to_vec())
}

/// Listens at a node to events of these types: who tells them, as they are told to a client whose connection takes them.
///
/// # Errors
/// What the client is answered instead.
pub async fn listen(
    node: &Node,
    namespace: &str,
    kinds: &str,
    query: Map,
    token: &str,
) -> Result<Box<dyn Messages>, Fault> {
    let path = Path::parse(&format!("sys/events/subscribe/{kinds}")).unwrap();
    let connection = Connection::plain(Ipv4Addr::LOCALHOST.into(), 40_000);
    let request = Request {
        namespace: namespace.to_owned(),
        from_query: query.iter().map(|(name, _)| name.to_owned()).collect(),
        body: query,
        token: TokenSecret::parse(token).ok(),
        takes_messages: true,
        ..Request::new(node.next_request_id(), Verb::Read, path, connection)
    };
    match tresor_core::pipeline::serve(node, request).await.into_inner()?.shape {
        Shape::Messages(messages) => Ok(messages.into_inner()),
        _ => panic!("an answer without messages"),
    }
}
