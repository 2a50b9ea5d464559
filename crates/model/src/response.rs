//! The outcome of a request that was done: what the envelope on the wire is made from.
//!
//! Deliberately absent: HTTP statuses, except the one that a health probe asks for by itself, and JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_secret::TokenSecret;

use crate::body::Map;
use crate::event::MessageStream;
use crate::ids::{Accessor, LeaseId};
use crate::stream::ByteStream;

/// The outcome of one request.
#[derive(Default)]
pub struct Response {
    /// What the answer's body is.
    pub shape: Shape,
    /// Hints for the caller.
    pub warnings: Vec<String>,
    /// A token that was made or renewed.
    pub auth: Option<Auth>,
    /// The lease of what `shape` carries.
    pub lease: Option<LeaseTerms>,
    /// The answer was wrapped; `shape`, `auth` and `lease` are then empty.
    pub wrap_info: Option<WrapInfo>,
    /// Where a client chose to be answered from older data: how many entries of the log were acknowledged by then and are not
    /// in this answer.
    pub behind: Option<u64>,
    /// Headers that the engine sets and its mount lets out, names in lower case. What the server says itself counts first.
    pub headers: Vec<(String, String)>,
}

/// How the body of an answer looks.
#[derive(Default)]
pub enum Shape {
    /// No body, unless there are warnings.
    #[default]
    Nothing,
    /// The usual envelope with `data`.
    Enveloped(Map),
    /// The thing asked for is not there; some answers carry data all the same (a deleted KV version).
    Absent(Option<Map>),
    /// The map is the whole body, as `sys/seal-status` and its kin answer.
    Flat(Map),
    /// The map is in the envelope's `data` and at top level too, as `sys/mounts` and its kin answer.
    Mirrored(Map),
    /// Work that goes on after the answer; enveloped.
    Accepted(Option<Map>),
    /// A health report; the caller may choose the code of each condition.
    Health {
        /// The HTTP status that the probe asked for this condition.
        code: u16,
        /// The report, flat.
        report: Map,
    },
    /// Bytes of another media type.
    Raw {
        /// The media type.
        content_type: Cow<'static, str>,
        /// The body.
        bytes: Vec<u8>,
    },
    /// Bytes of another media type that come one part after the other, and are never all in memory.
    Stream {
        /// The media type.
        content_type: &'static str,
        /// The body.
        stream: ByteStream,
    },
    /// No body: messages go over the connection from now on, for as long as both ends want.
    Messages(MessageStream),
}

/// The three kinds of tokens that an answer can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// Stored, renewable, revocable.
    Service,
    /// Self-contained and short-lived.
    Batch,
}

impl TokenType {
    /// The word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Batch => "batch",
        }
    }
}

/// The `auth` block of an answer.
pub struct Auth {
    /// The token itself; `None` (printed empty) when it was renewed through its accessor.
    pub client_token: Option<TokenSecret>,
    /// Its handle.
    pub accessor: Accessor,
    /// All policies in effect, sorted.
    pub policies: Vec<String>,
    /// Those attached to the token itself, sorted.
    pub token_policies: Vec<String>,
    /// Those that come from the entity and its groups, sorted.
    pub identity_policies: Vec<String>,
    /// What the auth method says of the caller; `None` prints `null`.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Remaining life.
    pub lease_duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// The entity, empty without one.
    pub entity_id: String,
    /// Its kind.
    pub token_type: TokenType,
    /// Whether it has no parent.
    pub orphan: bool,
    /// Uses left; 0 means no limit.
    pub num_uses: u64,
}

/// The lease part of the envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The lease, or `None` when only a duration is advised (KV version 1).
    pub id: Option<LeaseId>,
    /// How long the content may be used.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// The `wrap_info` block of an answer.
pub struct WrapInfo {
    /// The single-use token that opens the answer.
    pub token: TokenSecret,
    /// Its handle.
    pub accessor: Accessor,
    /// How long it lives.
    pub ttl: Duration,
    /// When it was made.
    pub created: Timestamp,
    /// The path whose answer was wrapped.
    pub creation_path: String,
    /// The handle of a wrapped token.
    pub wrapped_accessor: Option<Accessor>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match &self.shape {
            Shape::Nothing => "nothing",
            Shape::Enveloped(_) => "enveloped",
            Shape::Absent(_) => "absent",
            Shape::Flat(_) => "flat",
            Shape::Mirrored(_) => "mirrored",
            Shape::Accepted(_) => "accepted",
            Shape::Health { .. } => "health",
            Shape::Raw { .. } => "raw",
            Shape::Stream { .. } => "stream",
            Shape::Messages(_) => "messages",
        };
        f.debug_struct("Response").field("shape", &shape).finish_non_exhaustive()
    }
}
