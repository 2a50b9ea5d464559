//! The first start of a server that initialises itself: the requests of its configuration are made once, by a root token that
//! nobody ever sees.
//!
//! The token ends by itself after a few minutes, and is revoked when the requests are done, and when one fails (TOK-13). A store
//! whose requests were not all made is not opened again: which of them had their effect nobody knows (`Node::initialize_itself`).
//! Deliberately absent: what the requests are (`tresor-profile`), and doing anything where there is a store already.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use tresor_core::Node;
use tresor_env::BoxFuture;
use tresor_model::{Connection, Errand, Fault, Map, Path, Request, RequestId, Response, Verb};
use tresor_profile::{Door, History, Machine, Made, Profile, REQUESTS_MAX, Run, Who};
use tresor_secret::{TokenSecret, Wiped};

/// Initialises the store where the configuration says so and there is none; `joins` says that the node joins others.
///
/// # Errors
/// When a request fails that may not, or the store cannot be initialised so.
pub async fn run(node: &Node, requests: &Profile, joins: bool) -> Result<(), String> {
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
    tracing::info!(requests = requests.requests().len(), "the server initialises itself");
    let root = node.initialize_itself().await.map_err(|fault| fault.for_operators())?;
    // A workflow that was just written may be run, too.
    let door = FirstDoor { node, root: &root, errand: Errand::first(false, REQUESTS_MAX) };
    let run = Run { door: &door, machine: Some(&ThisMachine), entropy: node.entropy(), now: node.now() };
    let made = requests.run(&run, None, &mut History::default()).await;
    // Whatever became of them, nobody has the token any more.
    let revoke = Made {
        name: ("server".into(), "revoke".into()),
        verb: Verb::Write,
        path: "auth/token/revoke-self".into(),
        who: Who::Runner,
        data: Map::new(),
        headers: BTreeMap::new(),
        wrap_ttl: None,
    };
    let revoked = door.make(revoke).await;
    let what = || "self-initialisation failed, and the store is of no use: remove it to begin anew";
    made.map_err(|error| format!("{}: {error}", what()))?;
    revoked.map_err(|error| format!("{}: the root token: {error}", what()))?;
    node.has_initialized_itself().await.map_err(|fault| fault.for_operators())?;
    tracing::info!("the server has initialised itself; its root token is revoked");
    Ok(())
}

/// How long a file may be that a request takes something from.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the machine gives.
struct ThisMachine;

impl Machine for ThisMachine {
    fn variable(&self, name: &str) -> Option<Wiped<String>> {
        std::env::var(name).ok().map(Wiped::new)
    }

    fn file(&self, path: &std::path::Path) -> Result<Wiped<String>, String> {
        let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        // Opening a pipe would wait for whoever writes into it, and a device may have no end.
        let facts = std::fs::metadata(path).map_err(|error| wrong(&error))?;
        if !facts.is_file() {
            return Err(wrong(&"it is no file"));
        }
        if facts.len() > FILE_BYTES_MAX {
            return Err(wrong(&"it is too long"));
        }
        let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
        // As large as it can become, so that it is not moved about.
        let mut text = Wiped::new(String::with_capacity(usize::try_from(facts.len()).unwrap_or(0) + 1));
        std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut text)
            .map_err(|error| wrong(&error))?;
        Ok(text)
    }
}

/// Requests by the root token, but for those that name another one.
struct FirstDoor<'n> {
    node: &'n Node,
    root: &'n TokenSecret,
    errand: Errand,
}

impl Door for FirstDoor<'_> {
    fn ask(&self, made: Made) -> BoxFuture<'_, Result<Map, Fault>> {
        Box::pin(async move {
            let (flow, request) = made.name.clone();
            let response = self.make(made).await.inspect_err(|fault| {
                tracing::warn!(stanza = flow, request, error = fault.for_operators(), "failed");
            })?;
            tracing::info!(stanza = flow, request, "made");
            let id = self.node.next_request_id();
            tresor_profile::answered(response, &id)
        })
    }
}

impl FirstDoor<'_> {
    /// Makes a request; one that is answered at all was done.
    async fn make(&self, made: Made) -> Result<Response, Fault> {
        let invalid = |error: &dyn std::fmt::Display| Fault::invalid(error.to_string());
        let Made { name: (flow, name), verb, path, who, data, mut headers, wrap_ttl } = made;
        let token = match who {
            Who::Runner => Some(TokenSecret::parse(self.root.expose())),
            Who::Nobody => None,
            Who::Token(token) => Some(TokenSecret::parse(token.expose())),
        };
        let namespace = headers.remove("x-vault-namespace").and_then(|mut named| named.pop()).unwrap_or_default();
        let namespace = namespace.trim_matches('/');
        let path = Path::from_decoded(&path).map_err(|error| invalid(&error))?;
        let id = RequestId::new(format!("{}.{flow}.{name}", self.node.next_request_id()));
        let path = if verb.is_of_directory() { path.into_directory() } else { path };
        let request = Request {
            namespace: if namespace.is_empty() { String::new() } else { format!("{namespace}/") },
            body: data,
            token: token.transpose().map_err(|error| invalid(&error))?,
            wrap_ttl,
            headers,
            errand: Some(self.errand.clone()),
            ..Request::new(id, verb, path, Connection::plain(Ipv4Addr::LOCALHOST.into(), 0))
        };
        tresor_core::pipeline::serve(self.node, request).await.into_inner()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_a_request_takes_something_from_is_one_and_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("short"), "text\n").unwrap();
        assert_eq!(ThisMachine.file(&file("short")).unwrap().as_str(), "text\n");
        std::fs::File::create(file("long")).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(ThisMachine.file(&file("long")).err().unwrap().ends_with("it is too long"));
        for other in [std::path::Path::new("/dev/zero"), folder.path()] {
            assert!(ThisMachine.file(other).err().unwrap().ends_with("it is no file"));
        }
        assert!(ThisMachine.file(&file("none")).is_err());
    }
}
