//! The audit record of what the server did by itself: it has no request, so one is made up, under a path that is no endpoint.
//!
//! What a client asked for has its own records. Deliberately absent: a record for each thing where there may be a million; then
//! there is one for each step, with their number.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use tresor_audit::{Admission, AuthFacts, Head, NamespaceFacts, RequestEntry, RequestFacts};
use tresor_crypto::token_text;
use tresor_model::ids::RequestId;
use tresor_model::request::Connection;
use tresor_model::{Map, Operation, Path, Request, Verb, WhenBehind};

use crate::unsealed::Unsealed;

/// Records that something was done, under the path that says what.
pub(crate) async fn record(unsealed: &Unsealed, done: &'static str, operation: Operation, body: Map) {
    let Ok(path) = Path::parse(done) else { return };
    let request = Request {
        id: RequestId::new(token_text::random_uuid(&*unsealed.doors.entropy)),
        namespace: String::new(),
        path,
        verb: Verb::Write,
        body,
        from_query: Vec::new(),
        token: None,
        wrap_ttl: None,
        inline: tresor_model::request::Inline::Not,
        headers: BTreeMap::new(),
        connection: Connection::plain(Ipv4Addr::UNSPECIFIED.into(), 0),
        upload: tresor_model::Upload::default(),
        takes_messages: false,
        when_behind: WhenBehind::Wait,
        errand: None,
        refusal: None,
    };
    let mut facts = RequestFacts::from_request(&request, operation);
    facts.namespace = NamespaceFacts { id: "root".into(), ..NamespaceFacts::default() };
    let entry = RequestEntry {
        time: unsealed.clock.now(),
        head: &Head::new(&AuthFacts::default(), &facts),
        error: "".into(),
        admission: Admission::Ordinary,
    };
    if let Err(fault) = unsealed.handles.audits.record_request(&entry).await {
        tracing::warn!(%fault, done, "something was done and the audit log did not take it");
    }
}
