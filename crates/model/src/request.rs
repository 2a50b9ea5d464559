//! A request as it enters the pipeline: canonical, bounded, typed; nothing of HTTP is left in it.
//!
//! Invariant: `Debug` shows id, verb and path only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tresor_secret::TokenSecret;

use crate::body::Map;
use crate::fault::Refusal;
use crate::ids::RequestId;
use crate::operation::Verb;
use crate::path::Path;
use crate::stream::Upload;

/// What the listener knows of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's address, IPv4-mapped IPv6 already folded to IPv4.
    pub peer_address: IpAddr,
    /// The client's port.
    pub peer_port: u16,
    /// The client's certificate chain in DER, leaf first, as presented and not verified; empty without one.
    pub client_certificates: Arc<Vec<Vec<u8>>>,
    /// How long a request may take, where the listener says it.
    pub request_time_max: Option<Duration>,
    /// What the listener keeps from those who need no token.
    pub withheld: Withheld,
    /// Which node passed the request on, by its cluster address, where another took it from the client.
    pub passed_on_by: Option<Arc<str>>,
}

/// What a listener leaves out of the answers that everybody gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Addresses of nodes.
    pub addresses: bool,
    /// Name and id of the cluster.
    pub cluster: bool,
    /// Which release runs, and when it was built.
    pub version: bool,
}

impl Connection {
    /// That of a client that shows no certificate, over a listener that says nothing of itself.
    #[must_use]
    pub fn plain(peer_address: IpAddr, peer_port: u16) -> Self {
        Self {
            peer_address,
            peer_port,
            client_certificates: Arc::default(),
            request_time_max: None,
            withheld: Withheld::default(),
            passed_on_by: None,
        }
    }
}

/// What a request has to do with a login in its own headers (inline authentication).
#[derive(Default)]
pub enum Inline {
    /// Nothing.
    #[default]
    Not,
    /// Who asks is to be found out by this login first.
    Asked(Box<InlineLogin>),
    /// It is such a login: the token that it leads to is stored nowhere.
    Login,
    /// Who asks was found out so: nothing can hang on that token.
    Done,
}

/// A login in the headers of a request.
pub struct InlineLogin {
    /// The path that is logged in at.
    pub path: Path,
    /// How.
    pub verb: Verb,
    /// The namespace of the login, as [`Request::namespace`].
    pub namespace: String,
    /// What is sent to it.
    pub body: Map,
}

/// What a client wants of a node that does not have everything yet that was acknowledged elsewhere, by the header
/// `X-Vault-Inconsistent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenBehind {
    /// The node waits until it has it, and passes the request on when that takes too long.
    #[default]
    Wait,
    /// It passes the request on at once.
    PassOn,
    /// It answers from older data of secrets engines, if everything else is there.
    Stale,
}

impl WhenBehind {
    /// What the header's values say, each as it was sent; several can say what is done first and what then.
    ///
    /// # Errors
    /// Text, when they say nothing that is known, or two things.
    pub fn read<'v>(values: impl IntoIterator<Item = &'v str>) -> Result<Self, &'static str> {
        let (mut waits, mut passes_on, mut is_stale) = (false, false, false);
        for value in values {
            match value.trim() {
                "" => {}
                // Nobody is ever answered from less than everything who did not choose it: so there is nothing to fail at.
                "await-state" | "fail" => waits = true,
                "forward-active-node" => passes_on = true,
                "allow-stale" => is_stale = true,
                _ => {
                    return Err("X-Vault-Inconsistent must be `await-state`, `fail`, `forward-active-node` or \
                                `allow-stale`");
                }
            }
        }
        match (waits, passes_on, is_stale) {
            (_, false, false) | (true, true, false) => Ok(Self::Wait),
            (false, true, false) => Ok(Self::PassOn),
            (false, false, true) => Ok(Self::Stale),
            _ => Err("X-Vault-Inconsistent says `allow-stale` beside something else"),
        }
    }
}

/// What a request is part of that the server makes itself: a workflow, and perhaps one that it was run by.
#[derive(Clone, Debug)]
pub struct Errand {
    /// How many workflows are around it.
    pub depth: u8,
    /// Whether one of them is run for somebody without a token.
    pub is_public: bool,
    /// How many more requests all of them may make.
    left: Arc<AtomicUsize>,
}

impl Errand {
    /// The first: nothing is around it, and so many requests may be made.
    #[must_use]
    pub fn first(is_public: bool, requests: usize) -> Self {
        Self { depth: 1, is_public, left: Arc::new(AtomicUsize::new(requests)) }
    }

    /// One within this one, of whose requests it makes its own.
    #[must_use]
    pub fn within(&self, is_public: bool) -> Self {
        Self {
            depth: self.depth.saturating_add(1),
            is_public: self.is_public || is_public,
            left: Arc::clone(&self.left),
        }
    }

    /// Takes one of the requests that may be made, if there is one left.
    #[must_use]
    pub fn takes_one(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// In front of the text of every refusal of such a login; clients are also told by a header.
pub const INLINE_FAILED: &str = "failed to perform inline authentication: ";

/// One request.
pub struct Request {
    /// Made at the edge; answered, logged and audited.
    pub id: RequestId,
    /// The namespace path as asked for: empty for the root namespace, else ending in a slash. It gets its meaning
    /// when the pipeline resolves it.
    pub namespace: String,
    /// What is asked of.
    pub path: Path,
    /// What is asked.
    pub verb: Verb,
    /// Fields of the JSON body, plus those of the query.
    pub body: Map,
    /// The names in `body` that came from the query string.
    pub from_query: Vec<String>,
    /// The caller's credential.
    pub token: Option<TokenSecret>,
    /// The answer is to be wrapped for so long.
    pub wrap_ttl: Option<Duration>,
    /// What is wanted where not everything is known that was acknowledged.
    pub when_behind: WhenBehind,
    /// What the server makes it for; nothing when a client made it.
    pub errand: Option<Errand>,
    /// A login that comes with it, or that it is.
    pub inline: Inline,
    /// Headers that a mount or the audit configuration may ask for, names in lower case. Credentials were taken out.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Who is connected.
    pub connection: Connection,
    /// The body, where it is no JSON but comes as it is.
    pub upload: Upload,
    /// Whether its client takes messages over the connection, once it was answered.
    pub takes_messages: bool,
    /// Why the request is refused before anything is asked of it: it could not be read as sent. It enters the
    /// pipeline all the same, with what could be read of it, because refusals are recorded like everything else.
    pub refusal: Option<Refusal>,
}

impl Request {
    /// One that asks for nothing besides what it says: without a token, of the root namespace, and with nothing sent.
    #[must_use]
    pub fn new(id: RequestId, verb: Verb, path: Path, connection: Connection) -> Self {
        Self {
            id,
            namespace: String::new(),
            path,
            verb,
            body: Map::new(),
            from_query: Vec::new(),
            token: None,
            wrap_ttl: None,
            when_behind: WhenBehind::Wait,
            errand: None,
            inline: Inline::Not,
            headers: BTreeMap::new(),
            connection,
            upload: Upload::default(),
            takes_messages: false,
            refusal: None,
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("verb", &self.verb)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_means_what_it_means_to_clients_of_the_reference_and_one_thing_more() {
        for (values, meant) in [
            (&[][..], WhenBehind::Wait),
            (&[""], WhenBehind::Wait),
            (&["fail"], WhenBehind::Wait),
            (&["await-state", "fail"], WhenBehind::Wait),
            (&["await-state", "forward-active-node"], WhenBehind::Wait),
            (&[" forward-active-node "], WhenBehind::PassOn),
            (&["allow-stale", "allow-stale"], WhenBehind::Stale),
        ] {
            assert_eq!(WhenBehind::read(values.iter().copied()), Ok(meant), "{values:?}");
        }
        for values in [
            &["stale"][..],
            &["Allow-Stale"],
            &["await-state,fail"],
            &["allow-stale", "fail"],
            &["allow-stale", "forward-active-node"],
        ] {
            assert!(WhenBehind::read(values.iter().copied()).is_err(), "{values:?}");
        }
    }
}
