//! The door to HTTP servers of others, which engines and auth methods ask: one request, one bounded answer.
//!
//! What is sent goes to that server and to no other: redirects are answers like all others. Deliberately absent: cookies,
//! streaming, and trying again, which is for whoever knows what was asked.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::BoxFuture;

/// How a server is asked.
pub enum Ask {
    /// GET.
    Get,
    /// POST, with this body.
    Post(Zeroizing<Vec<u8>>),
    /// PUT, with this body.
    Put(Zeroizing<Vec<u8>>),
    /// DELETE.
    Delete,
}

/// What is sent.
pub struct OutgoingRequest {
    /// How.
    pub ask: Ask,
    /// Where: an absolute address, `https://...`.
    pub url: String,
    /// Headers; their values may be secrets.
    pub headers: Vec<(Cow<'static, str>, Zeroizing<String>)>,
    /// How long the whole exchange may take.
    pub time_max: Duration,
    /// How many bytes the answer's body may have.
    pub body_bytes_max: usize,
}

/// What came back.
pub struct OutgoingAnswer {
    /// The status.
    pub status: u16,
    /// The body, whole.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why nothing came back. None of it says what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingError {
    /// The address or a header is none.
    Unsendable,
    /// The server could not be reached, or what was said was no HTTP; the text is for the log.
    Failed(String),
    /// It took too long.
    TooSlow,
    /// The answer was larger than the bound.
    TooLarge,
}

impl fmt::Display for OutgoingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsendable => f.write_str("the request cannot be sent as it is"),
            Self::Failed(text) => f.write_str(text),
            Self::TooSlow => f.write_str("the server took too long to answer"),
            Self::TooLarge => f.write_str("the server's answer is larger than any that was expected"),
        }
    }
}

impl std::error::Error for OutgoingError {}

/// Whom a way trusts, and who it says it is, where that is not what the machine has for everybody.
#[derive(Default)]
pub struct Trust {
    /// PEM: the authorities that servers are verified by, instead of the machine's own.
    pub authorities: Option<Zeroizing<String>>,
    /// PEM: a certificate and its private key, for servers that want to know who asks.
    pub identity: Option<Zeroizing<String>>,
}

/// What was to be trusted or shown is no certificate, or no key that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untrustable;

/// A way to HTTP servers of others.
pub trait Outgoing: Send + Sync {
    /// Another way, with this trust.
    ///
    /// # Errors
    /// [`Untrustable`].
    fn trusting(&self, trust: &Trust) -> Result<Arc<dyn Outgoing>, Untrustable> {
        let _ = trust;
        Err(Untrustable)
    }

    /// Asks, once.
    ///
    /// # Errors
    /// [`OutgoingError`]; the server may have done what was asked all the same.
    fn ask(&self, request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>>;
}

/// No way to anywhere, for what never asks.
pub struct NoWayOut;

impl Outgoing for NoWayOut {
    fn ask(&self, _request: OutgoingRequest) -> BoxFuture<'_, Result<OutgoingAnswer, OutgoingError>> {
        Box::pin(async { Err(OutgoingError::Failed("there is no way to other servers".to_owned())) })
    }
}
