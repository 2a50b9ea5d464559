//! The audit record of what ended by itself: one for each step of the background task, with the number of tokens.
//!
//! A revocation that a client asked for has its own records; what it takes with it, and what reached its end, is told
//! here. Deliberately absent: a record for each token; a family may have a million.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tresor_audit::{Admission, AuthFacts, Head, NamespaceFacts, RequestEntry, RequestFacts};
use tresor_crypto::token_text;
use tresor_model::ids::RequestId;
use tresor_model::request::Connection;
use tresor_model::{Operation, Path, Request, Verb, map};

use crate::unsealed::Unsealed;

/// Records that so many tokens were revoked, for this reason (the last part of a path that is no endpoint).
pub(super) async fn record(unsealed: &Unsealed, reason: &'static str, tokens: u64) {
    let Ok(path) = Path::parse(reason) else { return };
    let request = Request {
        id: RequestId::new(token_text::random_uuid(&*unsealed.doors.entropy)),
        namespace: String::new(),
        path,
        verb: Verb::Write,
        body: map! { "tokens" => tokens },
        from_query: Vec::new(),
        token: None,
        wrap_ttl: None,
        headers: BTreeMap::new(),
        connection: Connection {
            peer_address: Ipv4Addr::UNSPECIFIED.into(),
            peer_port: 0,
            client_certificates: Arc::default(),
        },
        upload: tresor_model::Upload::default(),
        refusal: None,
    };
    let mut facts = RequestFacts::from_request(&request, Operation::Delete);
    facts.namespace = NamespaceFacts { id: "root".into(), ..NamespaceFacts::default() };
    let entry = RequestEntry {
        time: unsealed.clock.now(),
        head: &Head::new(&AuthFacts::default(), &facts),
        error: "".into(),
        admission: Admission::Ordinary,
    };
    if let Err(fault) = unsealed.handles.audits.record_request(&entry).await {
        tracing::warn!(%fault, tokens, reason, "tokens were revoked and the audit log did not take it");
    }
}
