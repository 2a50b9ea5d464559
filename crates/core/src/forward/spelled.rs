//! How a request and its outcome are spelled between two nodes.
//!
//! Both are records: reading them is total. A failure's cause stays in the log of the node where it happened. Deliberately
//! absent: streams, which cannot be passed on, and anything that says who passed it on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::fault::{Failure, Side};
use tresor_model::request::Inline;
use tresor_model::response::TokenType;
use tresor_model::{
    Accessor, Auth, Connection, Fault, LeaseId, LeaseTerms, Map, Path, Refusal, Request, RequestId, Response, Shape,
    Upload, Verb, WhenBehind, WrapInfo,
};
use tresor_record::{Encoded, Part, Record, RecordError};
use tresor_secret::TokenSecret;

/// Why bytes are no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// They are not spelled as this release spells them.
    #[error(transparent)]
    Spelling(#[from] RecordError),
    /// A path or an address that no listener lets through.
    #[error("`{0}` is none that a listener lets through")]
    Part(&'static str),
}

#[derive(Part)]
enum VerbPart {
    #[part(tag = 1)]
    Read,
    #[part(tag = 2)]
    List,
    #[part(tag = 3)]
    Write,
    #[part(tag = 4)]
    Patch,
    #[part(tag = 5)]
    Delete,
    #[part(tag = 6)]
    Help,
    #[part(tag = 7)]
    Scan,
}

/// A request is passed on once it is known who asks.
#[derive(Part)]
enum InlinePart {
    #[part(tag = 1)]
    Not,
    #[part(tag = 2)]
    Login,
    #[part(tag = 3)]
    Done,
}

#[derive(Record)]
#[record(kind = "passed-on request", version = 2)]
struct RequestRecord {
    id: RequestId,
    namespace: String,
    path: String,
    verb: VerbPart,
    body: Map,
    from_query: Vec<String>,
    token: Option<TokenSecret>,
    wrap_ttl: Option<Duration>,
    inline: InlinePart,
    headers: BTreeMap<String, Vec<String>>,
    peer_address: String,
    peer_port: u16,
    client_certificates: Vec<Vec<u8>>,
}

/// A request as it is passed on. It must not have been refused by its listener, nor have a body that is a stream.
pub(crate) fn write_request(request: Request) -> Encoded {
    // How long it may take is for whoever runs it, and who passed it on for whoever hears it.
    let Connection { peer_address, peer_port, client_certificates, .. } = request.connection;
    let record = RequestRecord {
        id: request.id,
        namespace: request.namespace,
        path: request.path.as_str().to_owned(),
        verb: match request.verb {
            Verb::Read => VerbPart::Read,
            Verb::List => VerbPart::List,
            Verb::Scan => VerbPart::Scan,
            Verb::Write => VerbPart::Write,
            Verb::Patch => VerbPart::Patch,
            Verb::Delete => VerbPart::Delete,
            Verb::Help => VerbPart::Help,
        },
        body: request.body,
        from_query: request.from_query,
        token: request.token,
        wrap_ttl: request.wrap_ttl,
        inline: match request.inline {
            Inline::Not | Inline::Asked(_) => InlinePart::Not,
            Inline::Login => InlinePart::Login,
            Inline::Done => InlinePart::Done,
        },
        headers: request.headers,
        peer_address: peer_address.to_string(),
        peer_port,
        client_certificates: client_certificates.to_vec(),
    };
    record.encode()
}

/// A request that was passed on.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn read_request(bytes: &[u8]) -> Result<Request, Unreadable> {
    let record = RequestRecord::decode(bytes)?;
    let peer_address: IpAddr = record.peer_address.parse().map_err(|_| Unreadable::Part("peer_address"))?;
    Ok(Request {
        id: record.id,
        namespace: record.namespace,
        path: Path::from_decoded(&record.path).map_err(|_| Unreadable::Part("path"))?,
        verb: match record.verb {
            VerbPart::Read => Verb::Read,
            VerbPart::List => Verb::List,
            VerbPart::Scan => Verb::Scan,
            VerbPart::Write => Verb::Write,
            VerbPart::Patch => Verb::Patch,
            VerbPart::Delete => Verb::Delete,
            VerbPart::Help => Verb::Help,
        },
        body: record.body,
        from_query: record.from_query,
        token: record.token,
        wrap_ttl: record.wrap_ttl,
        inline: match record.inline {
            InlinePart::Not => Inline::Not,
            InlinePart::Login => Inline::Login,
            InlinePart::Done => Inline::Done,
        },
        headers: record.headers,
        connection: Connection {
            client_certificates: Arc::new(record.client_certificates),
            ..Connection::plain(peer_address, record.peer_port)
        },
        upload: Upload::default(),
        takes_messages: false,
        when_behind: WhenBehind::Wait,
        errand: None,
        refusal: None,
    })
}

/// What the node answers that a request was passed on to.
#[expect(
    clippy::large_enum_variant,
    reason = "one for each request that is passed on; it is hardly ever another variant"
)]
pub(crate) enum Answer {
    /// It does not lead: nothing was done.
    Elsewhere,
    /// It could not read the request: nothing was done.
    Unreadable,
    /// The answer is a stream, which is not passed on.
    Stream,
    /// The outcome, recorded there.
    Outcome(Result<Response, Fault>),
}

#[derive(Record)]
#[record(kind = "passed-on answer", version = 2)]
struct AnswerRecord {
    answer: AnswerPart,
}

#[derive(Part)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and only on its way")]
enum AnswerPart {
    #[part(tag = 1)]
    Elsewhere,
    #[part(tag = 2)]
    Unreadable,
    #[part(tag = 3)]
    Done(ResponsePart),
    #[part(tag = 4)]
    Refused(RefusalPart),
    #[part(tag = 5)]
    Failed { public: Option<String>, is_upstream: bool },
    #[part(tag = 6)]
    Stream,
}

#[derive(Part)]
struct ResponsePart {
    shape: ShapePart,
    warnings: Vec<String>,
    auth: Option<AuthPart>,
    lease: Option<LeasePart>,
    wrap_info: Option<WrapPart>,
    headers: Vec<HeaderPart>,
}

#[derive(Part)]
enum ShapePart {
    #[part(tag = 1)]
    Nothing,
    #[part(tag = 2)]
    Enveloped(Map),
    #[part(tag = 3)]
    Absent(Option<Map>),
    #[part(tag = 4)]
    Flat(Map),
    #[part(tag = 5)]
    Mirrored(Map),
    #[part(tag = 6)]
    Accepted(Option<Map>),
    #[part(tag = 7)]
    Health { code: u16, report: Map },
    #[part(tag = 8)]
    Raw { content_type: String, bytes: Encoded },
}

#[derive(Part)]
struct AuthPart {
    client_token: Option<TokenSecret>,
    accessor: Accessor,
    policies: Vec<String>,
    token_policies: Vec<String>,
    identity_policies: Vec<String>,
    metadata: Option<BTreeMap<String, String>>,
    lease_duration: Duration,
    renewable: bool,
    entity_id: String,
    is_batch: bool,
    orphan: bool,
    num_uses: u64,
}

#[derive(Part)]
struct HeaderPart {
    name: String,
    value: String,
}

#[derive(Part)]
struct LeasePart {
    id: Option<LeaseId>,
    duration: Duration,
    renewable: bool,
}

#[derive(Part)]
struct WrapPart {
    token: TokenSecret,
    accessor: Accessor,
    ttl: Duration,
    created: Timestamp,
    creation_path: String,
    wrapped_accessor: Option<Accessor>,
}

#[derive(Part)]
enum RefusalPart {
    #[part(tag = 1)]
    Invalid(String),
    #[part(tag = 2)]
    Denied,
    #[part(tag = 3)]
    NoRoute(String),
    #[part(tag = 4)]
    Absent(String),
    #[part(tag = 5)]
    Unsupported,
    #[part(tag = 6)]
    TooLarge,
    #[part(tag = 7)]
    UnsupportedMedia,
    #[part(tag = 8)]
    Throttled(String),
    #[part(tag = 9)]
    TooSlow,
    #[part(tag = 10)]
    Sealed,
    #[part(tag = 11)]
    Uninitialized,
    #[part(tag = 12)]
    Unavailable(String),
    #[part(tag = 13)]
    Foreign(String),
    #[part(tag = 14)]
    Unproven(String),
}

/// An answer as it is sent back.
pub(crate) fn write_answer(answer: Answer) -> Encoded {
    let answer = match answer {
        Answer::Elsewhere | Answer::Outcome(Err(Fault::Refusal(Refusal::Elsewhere | Refusal::Redirect(_)))) => {
            AnswerPart::Elsewhere
        }
        Answer::Unreadable => AnswerPart::Unreadable,
        Answer::Stream => AnswerPart::Stream,
        Answer::Outcome(Ok(response)) => done(response),
        Answer::Outcome(Err(Fault::Refusal(refusal))) => AnswerPart::Refused(refused(refusal)),
        Answer::Outcome(Err(Fault::Failure(failure))) => AnswerPart::Failed {
            public: failure.public.map(Cow::into_owned),
            is_upstream: failure.side == Side::Upstream,
        },
    };
    AnswerRecord { answer }.encode()
}

/// An answer that came back.
///
/// # Errors
/// When it is not spelled as this release spells it.
pub(crate) fn read_answer(bytes: &[u8]) -> Result<Answer, RecordError> {
    Ok(match AnswerRecord::decode(bytes)?.answer {
        AnswerPart::Elsewhere => Answer::Elsewhere,
        AnswerPart::Unreadable => Answer::Unreadable,
        AnswerPart::Stream => Answer::Stream,
        AnswerPart::Done(response) => Answer::Outcome(Ok(response_of(response))),
        AnswerPart::Refused(refusal) => Answer::Outcome(Err(refusal_of(refusal).into())),
        AnswerPart::Failed { public, is_upstream } => Answer::Outcome(Err(Fault::Failure(Failure {
            cause: "it failed on the node that leads, whose log says why".into(),
            side: if is_upstream { Side::Upstream } else { Side::Ours },
            public: public.map(Cow::Owned),
        }))),
    })
}

fn done(response: Response) -> AnswerPart {
    let shape = match response.shape {
        Shape::Nothing => ShapePart::Nothing,
        Shape::Enveloped(map) => ShapePart::Enveloped(map),
        Shape::Absent(map) => ShapePart::Absent(map),
        Shape::Flat(map) => ShapePart::Flat(map),
        Shape::Mirrored(map) => ShapePart::Mirrored(map),
        Shape::Accepted(map) => ShapePart::Accepted(map),
        Shape::Health { code, report } => ShapePart::Health { code, report },
        Shape::Raw { content_type, bytes } => {
            ShapePart::Raw { content_type: content_type.into_owned(), bytes: Encoded::new(bytes) }
        }
        // Where every node has what is stored, no route that answers so runs on the leader only.
        Shape::Stream { .. } | Shape::Messages(_) => return AnswerPart::Stream,
    };
    AnswerPart::Done(ResponsePart {
        shape,
        warnings: response.warnings,
        auth: response.auth.map(|auth| AuthPart {
            client_token: auth.client_token,
            accessor: auth.accessor,
            policies: auth.policies,
            token_policies: auth.token_policies,
            identity_policies: auth.identity_policies,
            metadata: auth.metadata,
            lease_duration: auth.lease_duration,
            renewable: auth.renewable,
            entity_id: auth.entity_id,
            is_batch: auth.token_type == TokenType::Batch,
            orphan: auth.orphan,
            num_uses: auth.num_uses,
        }),
        lease: response.lease.map(|LeaseTerms { id, duration, renewable }| LeasePart { id, duration, renewable }),
        wrap_info: response.wrap_info.map(|info| WrapPart {
            token: info.token,
            accessor: info.accessor,
            ttl: info.ttl,
            created: info.created,
            creation_path: info.creation_path,
            wrapped_accessor: info.wrapped_accessor,
        }),
        headers: response.headers.into_iter().map(|(name, value)| HeaderPart { name, value }).collect(),
    })
}

fn response_of(part: ResponsePart) -> Response {
    let auth = part.auth.map(|auth| Auth {
        client_token: auth.client_token,
        accessor: auth.accessor,
        policies: auth.policies,
        token_policies: auth.token_policies,
        identity_policies: auth.identity_policies,
        metadata: auth.metadata,
        lease_duration: auth.lease_duration,
        renewable: auth.renewable,
        entity_id: auth.entity_id,
        token_type: if auth.is_batch { TokenType::Batch } else { TokenType::Service },
        orphan: auth.orphan,
        num_uses: auth.num_uses,
    });
    let wrap_info = part.wrap_info.map(|info| WrapInfo {
        token: info.token,
        accessor: info.accessor,
        ttl: info.ttl,
        created: info.created,
        creation_path: info.creation_path,
        wrapped_accessor: info.wrapped_accessor,
    });
    Response {
        shape: match part.shape {
            ShapePart::Nothing => Shape::Nothing,
            ShapePart::Enveloped(map) => Shape::Enveloped(map),
            ShapePart::Absent(map) => Shape::Absent(map),
            ShapePart::Flat(map) => Shape::Flat(map),
            ShapePart::Mirrored(map) => Shape::Mirrored(map),
            ShapePart::Accepted(map) => Shape::Accepted(map),
            ShapePart::Health { code, report } => Shape::Health { code, report },
            ShapePart::Raw { content_type, bytes } => {
                Shape::Raw { content_type: Cow::Owned(content_type), bytes: bytes.to_vec() }
            }
        },
        // Who leads lacks nothing.
        behind: None,
        headers: part.headers.into_iter().map(|HeaderPart { name, value }| (name, value)).collect(),
        warnings: part.warnings,
        auth,
        lease: part.lease.map(|LeasePart { id, duration, renewable }| LeaseTerms { id, duration, renewable }),
        wrap_info,
    }
}

fn refused(refusal: Refusal) -> RefusalPart {
    match refusal {
        Refusal::Invalid(text) => RefusalPart::Invalid(text.into_owned()),
        Refusal::Unproven(text) => RefusalPart::Unproven(text.into_owned()),
        Refusal::Denied => RefusalPart::Denied,
        Refusal::NoRoute(path) => RefusalPart::NoRoute(path),
        Refusal::Absent(text) => RefusalPart::Absent(text.into_owned()),
        Refusal::Foreign(text) => RefusalPart::Foreign(text.into_owned()),
        Refusal::Unsupported => RefusalPart::Unsupported,
        Refusal::TooLarge => RefusalPart::TooLarge,
        Refusal::UnsupportedMedia => RefusalPart::UnsupportedMedia,
        Refusal::Throttled(text) => RefusalPart::Throttled(text.into_owned()),
        Refusal::TooSlow => RefusalPart::TooSlow,
        Refusal::Sealed => RefusalPart::Sealed,
        Refusal::Uninitialized => RefusalPart::Uninitialized,
        Refusal::Unavailable(text) => RefusalPart::Unavailable(text.into_owned()),
        // Said in another way before.
        Refusal::Elsewhere | Refusal::Redirect(_) => RefusalPart::Unavailable(refusal.to_string()),
    }
}

fn refusal_of(part: RefusalPart) -> Refusal {
    match part {
        RefusalPart::Invalid(text) => Refusal::Invalid(text.into()),
        RefusalPart::Unproven(text) => Refusal::Unproven(text.into()),
        RefusalPart::Denied => Refusal::Denied,
        RefusalPart::NoRoute(path) => Refusal::NoRoute(path),
        RefusalPart::Absent(text) => Refusal::Absent(text.into()),
        RefusalPart::Foreign(text) => Refusal::Foreign(text.into()),
        RefusalPart::Unsupported => Refusal::Unsupported,
        RefusalPart::TooLarge => Refusal::TooLarge,
        RefusalPart::UnsupportedMedia => Refusal::UnsupportedMedia,
        RefusalPart::Throttled(text) => Refusal::Throttled(text.into()),
        RefusalPart::TooSlow => Refusal::TooSlow,
        RefusalPart::Sealed => Refusal::Sealed,
        RefusalPart::Uninitialized => Refusal::Uninitialized,
        RefusalPart::Unavailable(text) => Refusal::Unavailable(text.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use tresor_model::map;

    use super::*;

    fn request() -> Request {
        Request {
            id: RequestId::new("an-id"),
            namespace: "team/".to_owned(),
            path: Path::parse("secret/data/a%20b").unwrap(),
            verb: Verb::Write,
            body: map! { "data" => map! { "a" => 1, "b" => vec!["x", "y"] } },
            from_query: vec!["version".to_owned()],
            token: Some(TokenSecret::parse("hvs.canary").unwrap()),
            wrap_ttl: Some(Duration::from_millis(1500)),
            inline: Inline::Login,
            headers: BTreeMap::from([("user-agent".to_owned(), vec!["one".to_owned(), "two".to_owned()])]),
            connection: Connection {
                client_certificates: Arc::new(vec![vec![0, 255, 7], Vec::new()]),
                ..Connection::plain("2001:db8::1".parse().unwrap(), 4711)
            },
            upload: Upload::default(),
            takes_messages: false,
            when_behind: WhenBehind::Wait,
            errand: None,
            refusal: None,
        }
    }

    #[test]
    fn a_request_arrives_as_it_was_decoded() {
        let (sent, read) = (request(), read_request(&write_request(request())).unwrap());
        assert_eq!(
            (&read.id, &read.namespace, &read.path, read.verb),
            (&sent.id, &sent.namespace, &sent.path, sent.verb)
        );
        assert!(read.body == sent.body && read.from_query == sent.from_query && read.wrap_ttl == sent.wrap_ttl);
        assert!(matches!(read.inline, Inline::Login));
        assert_eq!(read.token.unwrap().expose(), "hvs.canary");
        assert_eq!((read.headers, read.connection), (sent.headers, sent.connection));
    }

    #[test]
    fn every_part_of_an_answer_comes_back() {
        let response = Response {
            shape: Shape::Health { code: 429, report: map! { "standby" => true } },
            behind: None,
            warnings: vec!["careful".to_owned()],
            headers: vec![("x-one".to_owned(), "1".to_owned())],
            auth: Some(Auth {
                client_token: Some(TokenSecret::parse("hvs.new").unwrap()),
                accessor: Accessor::new("acc"),
                policies: vec!["default".to_owned()],
                token_policies: vec!["default".to_owned()],
                identity_policies: vec!["team".to_owned()],
                metadata: Some(BTreeMap::from([("user".to_owned(), "u".to_owned())])),
                lease_duration: Duration::from_secs(60),
                renewable: true,
                entity_id: "e".to_owned(),
                token_type: TokenType::Batch,
                orphan: true,
                num_uses: 3,
            }),
            lease: Some(LeaseTerms {
                id: Some(LeaseId::new("a/b")),
                duration: Duration::from_secs(5),
                renewable: true,
            }),
            wrap_info: Some(WrapInfo {
                token: TokenSecret::parse("hvs.wrapping").unwrap(),
                accessor: Accessor::new("w"),
                ttl: Duration::from_secs(9),
                created: Timestamp::from_seconds(7),
                creation_path: "sys/wrapping".to_owned(),
                wrapped_accessor: None,
            }),
        };
        let Answer::Outcome(Ok(read)) = read_answer(&write_answer(Answer::Outcome(Ok(response)))).unwrap() else {
            panic!("another answer")
        };
        assert!(matches!(&read.shape, Shape::Health { code: 429, report } if *report == map! { "standby" => true }));
        let (auth, info) = (read.auth.unwrap(), read.wrap_info.unwrap());
        assert_eq!((auth.client_token.unwrap().expose(), auth.num_uses, auth.orphan), ("hvs.new", 3, true));
        assert_eq!((auth.token_type, auth.identity_policies), (TokenType::Batch, vec!["team".to_owned()]));
        assert_eq!((info.token.expose(), info.created), ("hvs.wrapping", Timestamp::from_seconds(7)));
        assert_eq!(read.lease.unwrap().id, Some(LeaseId::new("a/b")));
        assert_eq!(read.warnings, ["careful"]);
        assert_eq!(read.headers, [("x-one".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn every_refusal_comes_back_and_who_does_not_lead_says_so() {
        let text = || Cow::from("why");
        let refusals = [
            Refusal::Invalid(text()),
            Refusal::Unproven(text()),
            Refusal::Denied,
            Refusal::NoRoute("x".to_owned()),
            Refusal::Absent(text()),
            Refusal::Foreign(text()),
            Refusal::Unsupported,
            Refusal::TooLarge,
            Refusal::UnsupportedMedia,
            Refusal::Throttled(text()),
            Refusal::TooSlow,
            Refusal::Sealed,
            Refusal::Uninitialized,
            Refusal::Unavailable(text()),
        ];
        for refusal in refusals {
            let read = read_answer(&write_answer(Answer::Outcome(Err(refusal.clone().into())))).unwrap();
            assert!(matches!(read, Answer::Outcome(Err(Fault::Refusal(read))) if read == refusal), "{refusal:?}");
        }
        for refusal in [Refusal::Elsewhere, Refusal::Redirect("https://other".to_owned())] {
            let read = read_answer(&write_answer(Answer::Outcome(Err(refusal.into())))).unwrap();
            assert!(matches!(read, Answer::Elsewhere));
        }
    }

    #[test]
    fn the_cause_of_a_failure_stays_where_it_happened() {
        let bytes = write_answer(Answer::Outcome(Err(Fault::internal("canary"))));
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        let Answer::Outcome(Err(fault)) = read_answer(&bytes).unwrap() else { panic!("another answer") };
        assert_eq!(fault.to_string(), "internal error");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let mut bytes = write_request(request()).to_vec();
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            drop(read_request(&bytes));
            drop(read_answer(&bytes));
        }
    }
}
