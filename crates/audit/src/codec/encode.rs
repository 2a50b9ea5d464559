//! Entries to bytes.
//!
//! Facts are taken apart in full patterns, so that a new field cannot be forgotten. Deliberately absent: failure.

use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::{Body, Map, Operation, TokenType};
use tresor_secret::Wiped;

use super::{DEPTH_MAX, TOO_DEEP, VERSION};
use crate::body::Fields;
use crate::entry::{
    AnswerBody, AuthFacts, Clear, Handle, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts, Sensitive,
};

/// How many bytes there is room for at once when a request has no body; most records need no more.
const USUAL_BYTES: usize = 1024;
/// The same when it has one.
const USUAL_BYTES_WITH_BODY: usize = 1536;
/// How many bytes the head's length takes, which is written when the head is.
const LENGTH_BYTES: usize = 5;

/// The bytes of a request's record.
pub(crate) fn encode_request(entry: &RequestEntry<'_>) -> Wiped<Vec<u8>> {
    let mut out = Writer::with_room(entry.head.0.len() + 64);
    out.raw(&entry.head.0);
    out.option(Some((entry.time, entry.error.as_str())), put_asked);
    out.option(None::<&ResponseEntry<'_>>, put_answered);
    out.bytes
}

/// The bytes of an answer's record, which may say what was asked as well: written behind the head where it stands.
pub(crate) fn encode_response(mut entry: ResponseEntry<'_>) -> Wiped<Vec<u8>> {
    let mut out = Writer { bytes: std::mem::take(&mut entry.head.0) };
    out.option(entry.request.as_ref().map(|request| (request.time, request.error.as_str())), put_asked);
    out.option(Some(&entry), put_answered);
    out.bytes
}

/// What both records of a request begin with: the version, and the head behind its length.
pub(crate) fn encode_head(auth: &AuthFacts<'_>, request: &RequestFacts<'_>) -> Wiped<Vec<u8>> {
    let has_body = request.body.as_map().len() > 0;
    let mut writer = Writer::with_room(if has_body { USUAL_BYTES_WITH_BODY } else { USUAL_BYTES });
    writer.byte(VERSION);
    let at = writer.bytes.len();
    writer.raw(&[0; LENGTH_BYTES]);
    put_auth(&mut writer, auth);
    put_request(&mut writer, request);
    let mut length = writer.bytes.len() - at - LENGTH_BYTES;
    let last = LENGTH_BYTES - 1;
    for (place, byte) in writer.bytes.iter_mut().skip(at).take(LENGTH_BYTES).enumerate() {
        *byte = length.to_le_bytes()[0] & 0x7f | if place < last { 0x80 } else { 0 };
        length >>= 7;
    }
    writer.bytes
}

struct Writer {
    bytes: Wiped<Vec<u8>>,
}

impl Writer {
    fn with_room(bytes: usize) -> Self {
        Self { bytes: Wiped::new(Vec::with_capacity(bytes)) }
    }

    #[inline]
    fn need(&mut self, more: usize) {
        if more > self.bytes.capacity() - self.bytes.len() {
            self.grow(more);
        }
    }

    /// Growing in place could leave a copy behind that nobody zeroizes.
    #[cold]
    fn grow(&mut self, more: usize) {
        let mut larger = Wiped::new(Vec::with_capacity((self.bytes.len() + more).next_power_of_two()));
        larger.extend_from_slice(&self.bytes);
        self.bytes = larger;
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.need(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.need(1);
        self.bytes.push(byte);
    }

    fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    fn whole(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.byte(number.to_le_bytes()[0]);
    }

    fn count(&mut self, count: usize) {
        self.whole(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn clear(&mut self, fact: &Clear<'_>) {
        self.text(fact.as_str());
    }

    fn words(&mut self, words: &[String]) {
        self.count(words.len());
        words.iter().for_each(|word| self.text(word));
    }

    fn time(&mut self, time: Timestamp) {
        self.raw(&time.nanos().to_le_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.whole(duration.as_secs());
        self.whole(duration.subsec_nanos().into());
    }

    fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn handle(&mut self, handle: Option<Handle<'_>>) {
        self.option(handle, |out, handle| out.text(handle.0));
    }

    fn secret(&mut self, secret: Option<Sensitive<'_>>) {
        self.option(secret, |out, secret| out.text(secret.0));
    }

    fn map(&mut self, map: &Map, depth: usize) {
        self.count(map.len());
        for (name, value) in map.iter() {
            self.text(name);
            self.value(value, depth);
        }
    }

    /// Fields of the pipeline, or those of another record as they are.
    fn fields(&mut self, fields: &Fields<'_>) {
        match fields {
            Fields::Borrowed(map) => self.map(map, DEPTH_MAX),
            Fields::Encoded(map) => {
                self.count(map.len());
                self.raw(map.bytes());
            }
        }
    }

    /// What is nested too deeply is recorded as a word, so that every body has a record (AUD-08).
    fn value(&mut self, value: &Body, depth: usize) {
        let Some(deeper) = depth.checked_sub(1) else {
            self.byte(4);
            self.text(TOO_DEEP);
            return;
        };
        match value {
            Body::Null => self.byte(0),
            Body::Bool(false) => self.byte(1),
            Body::Bool(true) => self.byte(2),
            Body::Number(number) => {
                self.byte(3);
                self.text(number.as_str());
            }
            Body::String(text) => {
                self.byte(4);
                self.text(text.as_str());
            }
            Body::List(items) => {
                self.byte(5);
                self.count(items.len());
                items.iter().for_each(|item| self.value(item, deeper));
            }
            Body::Map(map) => {
                self.byte(6);
                self.map(map, deeper);
            }
        }
    }
}

fn put_asked(out: &mut Writer, (time, error): (Timestamp, &str)) {
    out.time(time);
    out.text(error);
}

fn put_answered(out: &mut Writer, entry: &ResponseEntry<'_>) {
    out.time(entry.time);
    put_response(out, entry.response);
    out.clear(&entry.error);
}

fn put_auth(out: &mut Writer, auth: &AuthFacts<'_>) {
    let AuthFacts {
        client_token,
        accessor,
        display_name,
        policies,
        token_policies,
        identity_policies,
        no_default_policy,
        policy_results,
        metadata,
        num_uses,
        remaining_uses,
        entity_id,
        token_type,
        token_ttl,
        token_issue_time,
    } = auth;
    out.secret(*client_token);
    out.handle(*accessor);
    out.clear(display_name);
    out.words(policies);
    out.words(token_policies);
    out.words(identity_policies);
    out.flag(*no_default_policy);
    out.option(policy_results.as_ref(), |out, results| {
        out.flag(results.allowed);
        out.count(results.granting_policies.len());
        for policy in &results.granting_policies {
            out.clear(&policy.name);
            out.clear(&policy.namespace_id);
            out.clear(&policy.namespace_path);
            out.clear(&policy.kind);
        }
    });
    out.option(metadata.as_ref(), |out, metadata| {
        out.count(metadata.len());
        for (name, value) in metadata.iter() {
            out.text(name);
            out.text(value);
        }
    });
    out.whole(*num_uses);
    out.whole(*remaining_uses);
    out.clear(entity_id);
    out.byte(match token_type {
        None => 0,
        Some(TokenType::Service) => 1,
        Some(TokenType::Batch) => 2,
    });
    out.duration(*token_ttl);
    out.option(*token_issue_time, Writer::time);
}

fn put_request(out: &mut Writer, request: &RequestFacts<'_>) {
    let RequestFacts {
        id,
        operation,
        mount,
        client_token,
        client_token_accessor,
        namespace,
        path,
        body,
        clear_keys,
        remote_address,
        remote_port,
        wrap_ttl,
        headers,
        client_certificate_serial_number,
        forwarded_from,
    } = request;
    out.clear(id);
    out.byte(match operation {
        Operation::Read => 0,
        Operation::List => 1,
        Operation::Create => 2,
        Operation::Update => 3,
        Operation::Patch => 4,
        Operation::Delete => 5,
        Operation::Help => 6,
        Operation::Scan => 7,
        Operation::Subscribe => 8,
    });
    for fact in [&mount.point, &mount.kind, &mount.accessor, &mount.running_version, &mount.class] {
        out.clear(fact);
    }
    out.secret(*client_token);
    out.handle(*client_token_accessor);
    out.clear(&namespace.id);
    out.clear(&namespace.path);
    out.clear(path);
    out.fields(body);
    out.words(clear_keys);
    out.clear(remote_address);
    out.whole((*remote_port).into());
    out.option(*wrap_ttl, Writer::duration);
    out.count(headers.len());
    for header in headers {
        out.text(&header.name);
        out.words(&header.values);
        out.flag(header.hashed);
    }
    out.clear(client_certificate_serial_number);
    // The last of the head, and left out where there is none: so are records of releases that did not know it.
    if !forwarded_from.is_empty() {
        out.clear(forwarded_from);
    }
}

fn put_response(out: &mut Writer, response: &ResponseFacts<'_>) {
    let ResponseFacts { auth, lease_id, body, clear_keys, warnings, redirect, wrap_info } = response;
    out.option(auth.as_ref(), put_auth);
    out.clear(lease_id);
    match body {
        AnswerBody::Nothing => out.byte(0),
        AnswerBody::Fields(fields) => {
            out.byte(1);
            out.fields(fields);
        }
        AnswerBody::Raw { content_type, bytes } => {
            out.byte(2);
            out.text(content_type);
            out.bytes(bytes);
        }
    }
    out.words(clear_keys);
    out.words(warnings);
    out.clear(redirect);
    out.option(wrap_info.as_ref(), |out, wrap| {
        out.duration(wrap.ttl);
        out.text(wrap.token.0);
        out.text(wrap.accessor.0);
        out.time(wrap.creation_time);
        out.clear(&wrap.creation_path);
        out.handle(wrap.wrapped_accessor);
    });
}
