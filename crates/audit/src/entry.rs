//! What is recorded of a request and of its answer: complete and not redacted, because the local log is sealed.
//!
//! The type of a field decides how a device may show it: [`Clear`] as it is, [`Handle`] hashed unless the device says
//! `hmac_accessor=false`, [`Sensitive`] and the strings inside bodies hashed unless it says `log_raw=true`. Field
//! names and order of the output are the reference's (`record.rs`). Deliberately absent: `Debug`, and any way to
//! print an entry without a redactor.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::{Accessor, Auth, LeaseId, Operation, Request, Response, Shape, TokenType, WrapInfo};
use tresor_secret::TokenSecret;
use tresor_secret::Wiped;

use crate::body::Fields;
use crate::codec::{self, EncodedMap};

/// A fact that every device shows in clear: a path, a policy name, a mount, an address, a public error text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clear<'a>(pub(crate) Cow<'a, str>);

impl Clear<'_> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none, which leaves the field out of the output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> From<&'a str> for Clear<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Clear<'a> {
    fn from(text: &'a String) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Clear<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

/// The handle of a token: hashed, unless the device shows accessors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle<'a>(pub(crate) &'a str);

impl<'a> From<&'a Accessor> for Handle<'a> {
    fn from(accessor: &'a Accessor) -> Self {
        Self(accessor.as_str())
    }
}

impl<'a> From<&'a str> for Handle<'a> {
    fn from(text: &'a str) -> Self {
        Self(text)
    }
}

/// A secret: hashed, unless the device logs raw. Borrowed only, so that no second copy is made here.
#[derive(Clone, Copy)]
pub struct Sensitive<'a>(pub(crate) &'a str);

impl<'a> From<&'a TokenSecret> for Sensitive<'a> {
    fn from(token: &'a TokenSecret) -> Self {
        Self(token.expose())
    }
}

impl<'a> From<&'a str> for Sensitive<'a> {
    fn from(text: &'a str) -> Self {
        Self(text)
    }
}

/// A policy that granted the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantingPolicy<'a> {
    /// Its name; empty for the root policy's grants in other namespaces.
    pub name: Clear<'a>,
    /// The id of its namespace.
    pub namespace_id: Clear<'a>,
    /// The path of its namespace, empty for the root namespace.
    pub namespace_path: Clear<'a>,
    /// `acl`, or empty for the root policy.
    pub kind: Clear<'a>,
}

/// What the policies said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyResults<'a> {
    /// Whether the request was allowed.
    pub allowed: bool,
    /// Which policies allowed it.
    pub granting_policies: Vec<GrantingPolicy<'a>>,
}

/// Who asks, or (in an answer) the token that was made.
#[derive(Clone, Default)]
pub struct AuthFacts<'a> {
    /// The token itself.
    pub client_token: Option<Sensitive<'a>>,
    /// Its handle.
    pub accessor: Option<Handle<'a>>,
    /// How the caller is called.
    pub display_name: Clear<'a>,
    /// All policies in effect.
    pub policies: Cow<'a, [String]>,
    /// Those of the token itself.
    pub token_policies: Cow<'a, [String]>,
    /// Those of the entity and its groups.
    pub identity_policies: Cow<'a, [String]>,
    /// The token goes without the default policy.
    pub no_default_policy: bool,
    /// What the policies said; `None` before they were asked.
    pub policy_results: Option<PolicyResults<'a>>,
    /// What the auth method says of the caller.
    pub metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// In an answer: how many uses the token has; 0 is no limit.
    pub num_uses: u64,
    /// In a request: how many uses are left; 0 is no limit.
    pub remaining_uses: u64,
    /// The entity, empty without one.
    pub entity_id: Clear<'a>,
    /// The kind of the token; `None` (no token) prints `default`, as the reference does.
    pub token_type: Option<TokenType>,
    /// The token's time to live.
    pub token_ttl: Duration,
    /// When the token was made.
    pub token_issue_time: Option<Timestamp>,
}

impl<'a> AuthFacts<'a> {
    /// The facts of a token that an answer carries; display name and issue time are the caller's to add.
    #[must_use]
    pub fn from_auth(auth: &'a Auth) -> Self {
        Self {
            client_token: auth.client_token.as_ref().map(Sensitive::from),
            accessor: Some(Handle::from(&auth.accessor)),
            policies: Cow::Borrowed(&auth.policies),
            token_policies: Cow::Borrowed(&auth.token_policies),
            identity_policies: Cow::Borrowed(&auth.identity_policies),
            metadata: auth.metadata.as_ref().map(Cow::Borrowed),
            num_uses: auth.num_uses,
            entity_id: Clear::from(&auth.entity_id),
            token_type: Some(auth.token_type),
            token_ttl: auth.lease_duration,
            ..Self::default()
        }
    }
}

/// Where the request went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountFacts<'a> {
    /// The mount's path, such as `secret/` or `auth/userpass/`.
    pub point: Clear<'a>,
    /// The type of the engine, such as `kv`.
    pub kind: Clear<'a>,
    /// The mount's handle.
    pub accessor: Clear<'a>,
    /// The version of the engine, such as `v0.1.0+builtin`.
    pub running_version: Clear<'a>,
    /// `secret` or `auth`.
    pub class: Clear<'a>,
}

impl<'a> MountFacts<'a> {
    /// The facts of a mount; `class` is `secret` or `auth`.
    #[must_use]
    pub fn new(point: &'a str, kind: &'a str, accessor: &'a str, class: &'static str) -> Self {
        Self {
            point: point.into(),
            kind: kind.into(),
            accessor: accessor.into(),
            running_version: Clear::default(),
            class: class.into(),
        }
    }
}

/// The namespace that the request resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts<'a> {
    /// Its id, `root` for the root namespace.
    pub id: Clear<'a>,
    /// Its path, empty for the root namespace.
    pub path: Clear<'a>,
}

impl Default for NamespaceFacts<'_> {
    fn default() -> Self {
        Self { id: "root".into(), path: Clear::default() }
    }
}

/// A header that the audit configuration asks for.
#[derive(Clone)]
pub struct AuditedHeader<'a> {
    /// Its name in lower case.
    pub name: Cow<'a, str>,
    /// Its values.
    pub values: Cow<'a, [String]>,
    /// Whether devices hash the values.
    pub hashed: bool,
}

/// The request.
pub struct RequestFacts<'a> {
    /// The id that the client sees too.
    pub id: Clear<'a>,
    /// What is asked; create and update are told apart once the pipeline knows.
    pub operation: Operation,
    /// Where it went; empty before or without a route.
    pub mount: MountFacts<'a>,
    /// The token as sent.
    pub client_token: Option<Sensitive<'a>>,
    /// The handle of that token, once it is known.
    pub client_token_accessor: Option<Handle<'a>>,
    /// The namespace.
    pub namespace: NamespaceFacts<'a>,
    /// The canonical path, with the mount.
    pub path: Clear<'a>,
    /// The fields of the body and of the query.
    pub body: Fields<'a>,
    /// The names in `body` that the mount's `audit_non_hmac_request_keys` declares public.
    pub clear_keys: Cow<'a, [String]>,
    /// The client's address.
    pub remote_address: Clear<'a>,
    /// The client's port.
    pub remote_port: u16,
    /// The answer is to be wrapped for so long.
    pub wrap_ttl: Option<Duration>,
    /// The headers that the audit configuration asks for, and only those ([`RequestFacts::with_headers`]).
    pub headers: Vec<AuditedHeader<'a>>,
    /// The serial number, in decimal, of the verified client certificate; empty without one.
    pub client_certificate_serial_number: Clear<'a>,
    /// The node that passed the request on; empty where the client asked this one.
    pub forwarded_from: Clear<'a>,
}

impl<'a> RequestFacts<'a> {
    /// What a request says of itself; mount, accessor, namespace and clear keys are the pipeline's to add when it
    /// knows them. No header is taken.
    #[must_use]
    pub fn from_request(request: &'a Request, operation: Operation) -> Self {
        Self {
            id: request.id.as_str().into(),
            operation,
            mount: MountFacts::default(),
            client_token: request.token.as_ref().map(Sensitive::from),
            client_token_accessor: None,
            namespace: NamespaceFacts::default(),
            path: request.path.as_str().into(),
            body: Fields::Borrowed(&request.body),
            clear_keys: Cow::Borrowed(&[]),
            remote_address: request.connection.peer_address.to_string().into(),
            remote_port: request.connection.peer_port,
            wrap_ttl: request.wrap_ttl,
            headers: Vec::new(),
            client_certificate_serial_number: Clear::default(),
            forwarded_from: request.connection.passed_on_by.as_deref().map(Clear::from).unwrap_or_default(),
        }
    }

    /// Adds where the request went, and which of its body's names that mount declares public.
    #[must_use]
    pub fn with_mount(mut self, mount: MountFacts<'a>, clear_keys: &'a [String]) -> Self {
        self.mount = mount;
        self.clear_keys = Cow::Borrowed(clear_keys);
        self
    }

    /// Adds the headers that the configuration asks for: name (in any case) to whether it is hashed (AUD-07). Those
    /// that carry credentials are never recorded; the edge takes them out already (AUD-06).
    #[must_use]
    pub fn with_headers(mut self, request: &'a Request, wanted: &BTreeMap<String, bool>) -> Self {
        for (name, hashed) in wanted {
            if CREDENTIAL_HEADERS.iter().any(|credential| credential.eq_ignore_ascii_case(name)) {
                continue;
            }
            let found = request.headers.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name));
            if let Some((sent, values)) = found {
                self.headers.push(AuditedHeader {
                    name: Cow::Borrowed(sent),
                    values: Cow::Borrowed(values),
                    hashed: *hashed,
                });
            }
        }
        self
    }
}

const CREDENTIAL_HEADERS: &[&str] =
    &["authorization", "cookie", "proxy-authorization", "set-cookie", "x-vault-token", "x-tresor-token"];

/// What an answer's body is, for the record.
#[derive(Default)]
pub enum AnswerBody<'a> {
    /// None.
    #[default]
    Nothing,
    /// Fields.
    Fields(Fields<'a>),
    /// Bytes of another media type: hashed as a whole (AUD-01).
    Raw {
        /// The media type.
        content_type: Cow<'a, str>,
        /// The body.
        bytes: &'a [u8],
    },
}

/// The wrapping of an answer.
pub struct WrapFacts<'a> {
    /// How long the wrapping token lives.
    pub ttl: Duration,
    /// The wrapping token.
    pub token: Sensitive<'a>,
    /// Its handle.
    pub accessor: Handle<'a>,
    /// When it was made.
    pub creation_time: Timestamp,
    /// The path whose answer was wrapped.
    pub creation_path: Clear<'a>,
    /// The handle of a wrapped token.
    pub wrapped_accessor: Option<Handle<'a>>,
}

impl<'a> From<&'a WrapInfo> for WrapFacts<'a> {
    fn from(wrap: &'a WrapInfo) -> Self {
        Self {
            ttl: wrap.ttl,
            token: Sensitive::from(&wrap.token),
            accessor: Handle::from(&wrap.accessor),
            creation_time: wrap.created,
            creation_path: Clear::from(&wrap.creation_path),
            wrapped_accessor: wrap.wrapped_accessor.as_ref().map(Handle::from),
        }
    }
}

/// The answer; the mount is taken from the request.
#[derive(Default)]
pub struct ResponseFacts<'a> {
    /// A token that was made or renewed.
    pub auth: Option<AuthFacts<'a>>,
    /// The lease, empty without one.
    pub lease_id: Clear<'a>,
    /// The body.
    pub body: AnswerBody<'a>,
    /// The names in `body` that the mount's `audit_non_hmac_response_keys` declares public.
    pub clear_keys: Cow<'a, [String]>,
    /// Hints for the caller.
    pub warnings: Cow<'a, [String]>,
    /// Where the client was sent, empty when nowhere.
    pub redirect: Clear<'a>,
    /// The answer was wrapped.
    pub wrap_info: Option<WrapFacts<'a>>,
}

impl<'a> ResponseFacts<'a> {
    /// What an answer says of itself. Of a wrapped answer these are the facts of the wrapping alone; to have the
    /// wrapped content in the record (hashed), take the facts of the answer before it was wrapped and set
    /// [`ResponseFacts::wrap_info`].
    #[must_use]
    pub fn from_response(response: &'a Response, clear_keys: &'a [String]) -> Self {
        let body = match &response.shape {
            // What comes in parts is nobody's to hash before it has left.
            Shape::Nothing
            | Shape::Absent(None)
            | Shape::Accepted(None)
            | Shape::Stream { .. }
            | Shape::Messages(_) => AnswerBody::Nothing,
            Shape::Enveloped(map)
            | Shape::Absent(Some(map))
            | Shape::Flat(map)
            | Shape::Mirrored(map)
            | Shape::Accepted(Some(map))
            | Shape::Health { report: map, .. } => AnswerBody::Fields(Fields::Borrowed(map)),
            Shape::Raw { content_type, bytes } => {
                AnswerBody::Raw { content_type: Cow::Borrowed(&**content_type), bytes }
            }
        };
        Self {
            auth: response.auth.as_ref().map(AuthFacts::from_auth),
            lease_id: response.lease.as_ref().and_then(|lease| lease.id.as_ref()).map(LeaseId::as_str).into_clear(),
            body,
            clear_keys: Cow::Borrowed(clear_keys),
            warnings: Cow::Borrowed(&response.warnings),
            redirect: Clear::default(),
            wrap_info: response.wrap_info.as_ref().map(WrapFacts::from),
        }
    }
}

trait IntoClear<'a> {
    fn into_clear(self) -> Clear<'a>;
}

impl<'a> IntoClear<'a> for Option<&'a str> {
    fn into_clear(self) -> Clear<'a> {
        self.map(Clear::from).unwrap_or_default()
    }
}

/// Whether a full backlog refuses this record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Refused as soon as the backlog is full.
    #[default]
    Ordinary,
    /// May use the reserve: answers of requests that were let in, and requests that manage audit devices, so that an
    /// operator can disable the device that does not drain.
    Reserve,
}

/// Who asks and for what, written down once for both records of a request: what either begins with.
pub struct Head(pub(crate) Wiped<Vec<u8>>);

impl Head {
    /// Writes down who asks (the default for an unknown caller) and what is asked.
    #[must_use]
    pub fn new(auth: &AuthFacts<'_>, request: &RequestFacts<'_>) -> Self {
        Self(codec::encode_head(auth, request))
    }
}

/// The record of a request, handed to [`crate::Broker::record_request`] before the request has any effect.
pub struct RequestEntry<'a> {
    /// When the request was recorded.
    pub time: Timestamp,
    /// Who asks, and for what.
    pub head: &'a Head,
    /// Why it was refused already; empty when it was not. A public text, never a value.
    pub error: Clear<'a>,
    /// Whether a full backlog refuses it.
    pub admission: Admission,
}

/// The record of an answer, written down for [`crate::Broker::encode_response`] before the answer leaves.
pub struct ResponseEntry<'a> {
    /// When the answer was recorded.
    pub time: Timestamp,
    /// Who asked, and for what: the same as in the request's record.
    pub head: Head,
    /// What the request's record says, if it was not written before.
    pub request: Option<HeldRequest>,
    /// What is answered; `ResponseFacts::default()` for a refusal.
    pub response: &'a ResponseFacts<'a>,
    /// Why it was refused or failed; empty when it was not. A public text, never a value.
    pub error: Clear<'a>,
}

/// What the record of a request says beside its head, when the request has no effect before its answer: one record then
/// says both.
#[must_use]
pub struct HeldRequest {
    pub(crate) time: Timestamp,
    pub(crate) error: String,
    pub(crate) admission: Admission,
}

impl RequestEntry<'_> {
    /// Keeps what it says for the record of the answer.
    pub fn hold(&self) -> HeldRequest {
        HeldRequest { time: self.time, error: self.error.as_str().to_owned(), admission: self.admission }
    }
}

/// The record of an answer, written down.
#[must_use]
pub struct WrittenResponse {
    pub(crate) record: Wiped<Vec<u8>>,
    pub(crate) admission: Admission,
}

impl ResponseEntry<'_> {
    /// Writes the record down.
    pub fn write(self) -> WrittenResponse {
        // The answer of a request that was recorded, and so let in, may use the reserve.
        let admission = self.request.as_ref().map_or(Admission::Reserve, |request| request.admission);
        WrittenResponse { record: codec::encode_response(self), admission }
    }
}

/// A record as it is read back from the local log.
pub struct Entry<'a> {
    /// When it was recorded.
    pub time: Timestamp,
    /// Who asked.
    pub auth: AuthFacts<'a>,
    /// What was asked.
    pub request: RequestFacts<'a>,
    /// What was answered; `None` in the record of a request.
    pub response: Option<ResponseFacts<'a>>,
    /// Why it was refused or failed; empty when it was not.
    pub error: Clear<'a>,
}

impl Entry<'_> {
    /// The record that a device is tried with before it is enabled.
    pub(crate) fn test(time: Timestamp) -> Self {
        let request = RequestFacts {
            id: "test".into(),
            operation: Operation::Update,
            mount: MountFacts::default(),
            client_token: None,
            client_token_accessor: None,
            namespace: NamespaceFacts::default(),
            path: "sys/audit/test".into(),
            body: Fields::Encoded(EncodedMap::EMPTY),
            clear_keys: Cow::Borrowed(&[]),
            remote_address: Clear::default(),
            remote_port: 0,
            wrap_ttl: None,
            headers: Vec::new(),
            client_certificate_serial_number: Clear::default(),
            forwarded_from: Clear::default(),
        };
        Self { time, auth: AuthFacts::default(), request, response: None, error: Clear::default() }
    }
}
