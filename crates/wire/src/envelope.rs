//! The envelope of an answer, in the reference's key order, byte for byte where clients compare bytes.
//!
//! It is what leaves in the body of an answer, and what lies behind a wrapping token. Deliberately absent: statuses, and the
//! answers that have no envelope.

use tresor_model::{Auth, Body, Map, RequestId, Response, Shape, WrapInfo};
use tresor_secret::SecretString;

use crate::json::{ObjectWriter, encode, encode_map};

/// The usual envelope: every key is there, absent parts are null.
#[must_use]
pub fn envelope(response: &Response, id: &RequestId, data: Option<&Map>, at_top: Option<&Map>) -> Vec<u8> {
    let mut body = Vec::with_capacity(512);
    let mut object = ObjectWriter::new(&mut body);
    // Of a wrapped answer nothing is shown but how to open it.
    object.text("request_id", if response.wrap_info.is_some() { "" } else { id.as_str() });
    let lease = response.lease.as_ref();
    object.text("lease_id", lease.and_then(|lease| lease.id.as_ref()).map_or("", |id| id.as_str()));
    object.body("renewable", &Body::from(lease.is_some_and(|lease| lease.renewable)));
    object.body("lease_duration", &Body::from(lease.map_or(0, |lease| lease.duration.as_secs())));
    match data {
        Some(data) => encode_map(data, object.key("data")),
        None => object.body("data", &Body::Null),
    }
    match &response.wrap_info {
        Some(info) => wrap_info(info, object.key("wrap_info")),
        None => object.body("wrap_info", &Body::Null),
    }
    match response.warnings.as_slice() {
        [] => object.body("warnings", &Body::Null),
        warnings => texts(warnings, object.key("warnings")),
    }
    match &response.auth {
        Some(block) => auth(block, object.key("auth")),
        None => object.body("auth", &Body::Null),
    }
    for (name, value) in at_top.into_iter().flat_map(Map::iter) {
        object.body(name, value);
    }
    object.end();
    body
}

/// The usual envelope of an answer, as it is kept to be opened later.
#[must_use]
pub fn of(response: &Response, id: &RequestId) -> SecretString {
    let data = match &response.shape {
        Shape::Enveloped(data) | Shape::Absent(Some(data)) | Shape::Accepted(Some(data)) => Some(data),
        _ => None,
    };
    // JSON is UTF-8.
    SecretString::new(String::from_utf8(envelope(response, id, data, None)).unwrap_or_default())
}

fn texts(texts: &[String], out: &mut Vec<u8>) {
    encode(&Body::List(texts.iter().map(|text| Body::from(text.as_str())).collect()), out);
}

fn wrap_info(info: &WrapInfo, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.text("token", info.token.expose());
    object.text("accessor", info.accessor.as_str());
    object.body("ttl", &Body::from(info.ttl.as_secs()));
    object.text("creation_time", &crate::time::rfc3339(info.created));
    object.text("creation_path", &info.creation_path);
    if let Some(accessor) = &info.wrapped_accessor {
        object.text("wrapped_accessor", accessor.as_str());
    }
    object.end();
}

fn auth(auth: &Auth, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.text("client_token", auth.client_token.as_ref().map_or("", |token| token.expose()));
    object.text("accessor", auth.accessor.as_str());
    texts(&auth.policies, object.key("policies"));
    texts(&auth.token_policies, object.key("token_policies"));
    if !auth.identity_policies.is_empty() {
        texts(&auth.identity_policies, object.key("identity_policies"));
    }
    match &auth.metadata {
        None => object.body("metadata", &Body::Null),
        Some(metadata) => {
            let mut inner = ObjectWriter::new(object.key("metadata"));
            for (name, value) in metadata {
                inner.text(name, value);
            }
            inner.end();
        }
    }
    object.body("lease_duration", &Body::from(auth.lease_duration.as_secs()));
    object.body("renewable", &Body::from(auth.renewable));
    object.text("entity_id", &auth.entity_id);
    object.text("token_type", auth.token_type.name());
    object.body("orphan", &Body::from(auth.orphan));
    object.body("mfa_requirement", &Body::Null);
    object.body("num_uses", &Body::from(auth.num_uses));
    object.end();
}
