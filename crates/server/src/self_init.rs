//! The first start of a server that initialises itself: the requests of its configuration are made once, by a root token that
//! nobody ever sees.
//!
//! The token ends by itself after a few minutes, and is revoked when the requests are done, and when one fails (TOK-13). A store
//! whose requests were not all made is not opened again: which of them had their effect nobody knows (`Node::initialize_itself`).
//! Deliberately absent: what the requests are (`config/initialize.rs`), and doing anything where there is a store already.

use std::net::Ipv4Addr;

use tresor_core::Node;
use tresor_model::request::Inline;
use tresor_model::{Body, Connection, Map, Number, Path, Request, Upload, Verb, WhenBehind};
use tresor_secret::{TokenSecret, Wiped};

use crate::config::{Given, InitialRequest};

/// Initialises the store where the configuration says so and there is none; `joins` says that the node joins others.
///
/// # Errors
/// When a request fails that may not, or the store cannot be initialised so.
pub async fn run(node: &Node, requests: &[InitialRequest], joins: bool) -> Result<(), String> {
    let standing = node.standing().map_err(|fault| fault.for_operators())?;
    if requests.is_empty() || standing.facts.initialized {
        return Ok(());
    }
    if joins {
        tracing::warn!(
            "`initialize` is for the node that founds a cluster: this one joins others, and initialises nothing"
        );
        return Ok(());
    }
    if standing.auto_seal.is_none() {
        return Err("`initialize` needs a seal that opens by itself (`seal \"static\"`)".to_owned());
    }
    tracing::info!(requests = requests.len(), "the server initialises itself");
    let root = node.initialize_itself().await.map_err(|fault| fault.for_operators())?;
    let made = make(node, requests, &root).await;
    // Whatever became of them, nobody has the token any more.
    let revoked = ask(node, Verb::Write, "auth/token/revoke-self", Map::new(), Some(&root)).await;
    let what = || "self-initialisation failed, and the store is of no use: remove it to begin anew";
    made.map_err(|error| format!("{}: {error}", what()))?;
    revoked.map_err(|error| format!("{}: the root token: {error}", what()))?;
    node.has_initialized_itself().await.map_err(|fault| fault.for_operators())?;
    tracing::info!("the server has initialised itself; its root token is revoked");
    Ok(())
}

async fn make(node: &Node, requests: &[InitialRequest], root: &TokenSecret) -> Result<(), String> {
    for request in requests {
        let outcome = one(node, request, root).await;
        match outcome {
            Ok(()) => tracing::info!(request = request.name, "made"),
            Err(error) if request.may_fail => tracing::warn!(request = request.name, error, "failed, as it may"),
            Err(error) => return Err(format!("request `{}`: {error}", request.name)),
        }
    }
    Ok(())
}

async fn one(node: &Node, request: &InitialRequest, root: &TokenSecret) -> Result<(), String> {
    let own = match &request.token {
        None => None,
        Some(token) => {
            let body = looked_up(token)?;
            let text = body.as_str().ok_or("`token` is no text")?;
            Some(TokenSecret::parse(text).map_err(|error| error.to_string())?)
        }
    };
    let entries = request.data.iter().map(|(name, value)| Ok((name.clone(), looked_up(value)?)));
    let body = entries.collect::<Result<Map, String>>()?;
    ask(node, request.verb, &request.path, body, Some(own.as_ref().unwrap_or(root))).await
}

/// A value as it is now.
fn looked_up(value: &Given) -> Result<Body, String> {
    Ok(match value {
        Given::Text(text) => Body::from(text.expose().as_str()),
        Given::Integer(number) => Body::from(*number),
        Given::Float(number) => Number::parse(&number.to_string()).map_or(Body::Null, Body::Number),
        Given::Flag(flag) => Body::from(*flag),
        Given::Nothing => Body::Null,
        Given::List(items) => Body::from(items.iter().map(looked_up).collect::<Result<Vec<_>, _>>()?),
        Given::Map(entries) => {
            let entries = entries.iter().map(|(name, value)| Ok((name.clone(), looked_up(value)?)));
            Body::from(entries.collect::<Result<Map, String>>()?)
        }
        Given::Variable(name) => {
            let text = std::env::var(name).map(Wiped::new).map_err(|_| format!("the variable `{name}` is not set"))?;
            Body::from(text.as_str())
        }
        Given::File(path) => {
            let read = std::fs::read_to_string(path).map(Wiped::new);
            let text = read.map_err(|error| format!("{}: {error}", path.display()))?;
            Body::from(text.trim_end_matches(['\r', '\n']))
        }
    })
}

/// Makes a request; one that is answered at all was done.
async fn ask(node: &Node, verb: Verb, path: &str, body: Map, token: Option<&TokenSecret>) -> Result<(), String> {
    let path = Path::from_decoded(path.trim_start_matches('/')).map_err(|error| error.to_string())?;
    let token = token.map(|token| TokenSecret::parse(token.expose())).transpose();
    let request = Request {
        id: node.next_request_id(),
        namespace: String::new(),
        path: if verb.is_of_directory() { path.into_directory() } else { path },
        verb,
        body,
        from_query: Vec::new(),
        token: token.map_err(|error| error.to_string())?,
        wrap_ttl: None,
        inline: Inline::Not,
        headers: std::collections::BTreeMap::new(),
        connection: Connection::plain(Ipv4Addr::LOCALHOST.into(), 0),
        upload: Upload::default(),
        takes_messages: false,
        when_behind: WhenBehind::Wait,
        refusal: None,
    };
    let answer = tresor_core::pipeline::serve(node, request).await.into_inner();
    answer.map(drop).map_err(|fault| fault.to_string())
}
