//! Entries as bytes: what is sealed into the local log, and back.
//!
//! Lengths are varints, times are nanoseconds, the layout's version comes first; nothing is left out, so that a
//! record means the same when a device asks for it days later. Encoding counts first and then fills one buffer of
//! the exact size, so that no half-grown copy of a secret stays behind in freed memory. Deliberately absent:
//! tolerance; bytes that do not decode to their last one are damage.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::{Body, Map, Number, Operation, TokenType};
use zeroize::Zeroizing;

use crate::entry::{
    AnswerBody, AuditedHeader, AuthFacts, Clear, Entry, Fields, GrantingPolicy, Handle, MountFacts, NamespaceFacts,
    PolicyResults, RequestEntry, RequestFacts, ResponseEntry, ResponseFacts, Sensitive, WrapFacts,
};

const VERSION: u8 = 1;

/// How deep bodies may nest; the decoder of requests stops far earlier.
const DEPTH_MAX: usize = 512;

/// What stands for a value below that.
const TOO_DEEP: &str = "nested too deeply to be recorded";

/// The bytes of a request's record.
pub(crate) fn encode_request(entry: &RequestEntry<'_>) -> Zeroizing<Vec<u8>> {
    encode(|out| put_entry(out, entry.time, entry.auth, entry.request, None, &entry.error))
}

/// The bytes of an answer's record.
pub(crate) fn encode_response(entry: &ResponseEntry<'_>) -> Zeroizing<Vec<u8>> {
    encode(|out| put_entry(out, entry.time, entry.auth, entry.request, Some(entry.response), &entry.error))
}

/// The entry of a record's bytes; `None` when they are not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut reader = Reader { rest: bytes };
    if reader.byte()? != VERSION {
        return None;
    }
    let entry = Entry {
        time: reader.time()?,
        auth: reader.auth()?,
        request: reader.request()?,
        response: reader.option(Reader::response)?,
        error: reader.clear()?,
    };
    reader.rest.is_empty().then_some(entry)
}

fn encode(put: impl Fn(&mut Writer)) -> Zeroizing<Vec<u8>> {
    let mut counter = Writer { bytes: None, length: 0 };
    put(&mut counter);
    let mut writer = Writer { bytes: Some(Zeroizing::new(Vec::with_capacity(counter.length))), length: 0 };
    put(&mut writer);
    writer.bytes.unwrap_or_default()
}

struct Writer {
    bytes: Option<Zeroizing<Vec<u8>>>,
    length: usize,
}

impl Writer {
    fn raw(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if let Some(out) = &mut self.bytes {
            out.extend_from_slice(bytes);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
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

fn put_entry(
    out: &mut Writer,
    time: Timestamp,
    auth: &AuthFacts<'_>,
    request: &RequestFacts<'_>,
    response: Option<&ResponseFacts<'_>>,
    error: &Clear<'_>,
) {
    out.byte(VERSION);
    out.time(time);
    put_auth(out, auth);
    put_request(out, request);
    out.option(response, put_response);
    out.clear(error);
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
    });
    for fact in [&mount.point, &mount.kind, &mount.accessor, &mount.running_version, &mount.class] {
        out.clear(fact);
    }
    out.secret(*client_token);
    out.handle(*client_token_accessor);
    out.clear(&namespace.id);
    out.clear(&namespace.path);
    out.clear(path);
    out.map(body, DEPTH_MAX);
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
}

fn put_response(out: &mut Writer, response: &ResponseFacts<'_>) {
    let ResponseFacts { auth, lease_id, body, clear_keys, warnings, redirect, wrap_info } = response;
    out.option(auth.as_ref(), put_auth);
    out.clear(lease_id);
    match body {
        AnswerBody::Nothing => out.byte(0),
        AnswerBody::Fields(fields) => {
            out.byte(1);
            out.map(fields, DEPTH_MAX);
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

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn raw(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.raw(1)?.first().copied()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn whole(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A count of things that take a byte each at least, so that damage cannot ask for absurd allocations.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.whole()?).ok().filter(|count| *count <= self.rest.len())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.raw(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn clear(&mut self) -> Option<Clear<'a>> {
        self.text().map(Clear::from)
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn words(&mut self) -> Option<Cow<'a, [String]>> {
        self.list(|reader| reader.text().map(str::to_owned)).map(Cow::Owned)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_nanos(i64::from_le_bytes(self.raw(8)?.try_into().ok()?)))
    }

    fn duration(&mut self) -> Option<Duration> {
        let seconds = self.whole()?;
        let nanos = u32::try_from(self.whole()?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Duration::new(seconds, nanos))
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { value(self).map(Some) } else { Some(None) }
    }

    fn handle(&mut self) -> Option<Option<Handle<'a>>> {
        self.option(|reader| reader.text().map(Handle))
    }

    fn secret(&mut self) -> Option<Option<Sensitive<'a>>> {
        self.option(|reader| reader.text().map(Sensitive))
    }

    fn map(&mut self, depth: usize) -> Option<Map> {
        let count = self.count()?;
        let mut map = Map::new();
        for _ in 0..count {
            let name = self.text()?;
            let value = self.value(depth)?;
            map.insert(name, value);
        }
        (map.len() == count).then_some(map)
    }

    fn value(&mut self, depth: usize) -> Option<Body> {
        let deeper = depth.checked_sub(1);
        let kind = self.byte()?;
        Some(match kind {
            0 => Body::Null,
            1 => Body::Bool(false),
            2 => Body::Bool(true),
            3 => Body::Number(Number::parse(self.text()?)?),
            4 => Body::from(self.text()?),
            5 => {
                let deeper = deeper?;
                Body::List(self.list(|reader| reader.value(deeper))?)
            }
            6 => Body::Map(self.map(deeper?)?),
            _ => return None,
        })
    }

    fn auth(&mut self) -> Option<AuthFacts<'a>> {
        Some(AuthFacts {
            client_token: self.secret()?,
            accessor: self.handle()?,
            display_name: self.clear()?,
            policies: self.words()?,
            token_policies: self.words()?,
            identity_policies: self.words()?,
            no_default_policy: self.flag()?,
            policy_results: self.option(|reader| {
                Some(PolicyResults {
                    allowed: reader.flag()?,
                    granting_policies: reader.list(|reader| {
                        Some(GrantingPolicy {
                            name: reader.clear()?,
                            namespace_id: reader.clear()?,
                            namespace_path: reader.clear()?,
                            kind: reader.clear()?,
                        })
                    })?,
                })
            })?,
            metadata: self.option(|reader| {
                let pairs = reader.list(|reader| Some((reader.text()?.to_owned(), reader.text()?.to_owned())))?;
                Some(Cow::Owned(pairs.into_iter().collect::<BTreeMap<_, _>>()))
            })?,
            num_uses: self.whole()?,
            remaining_uses: self.whole()?,
            entity_id: self.clear()?,
            token_type: match self.byte()? {
                0 => None,
                1 => Some(TokenType::Service),
                2 => Some(TokenType::Batch),
                _ => return None,
            },
            token_ttl: self.duration()?,
            token_issue_time: self.option(Self::time)?,
        })
    }

    fn request(&mut self) -> Option<RequestFacts<'a>> {
        Some(RequestFacts {
            id: self.clear()?,
            operation: match self.byte()? {
                0 => Operation::Read,
                1 => Operation::List,
                2 => Operation::Create,
                3 => Operation::Update,
                4 => Operation::Patch,
                5 => Operation::Delete,
                6 => Operation::Help,
                _ => return None,
            },
            mount: MountFacts {
                point: self.clear()?,
                kind: self.clear()?,
                accessor: self.clear()?,
                running_version: self.clear()?,
                class: self.clear()?,
            },
            client_token: self.secret()?,
            client_token_accessor: self.handle()?,
            namespace: NamespaceFacts { id: self.clear()?, path: self.clear()? },
            path: self.clear()?,
            body: Fields::Owned(self.map(DEPTH_MAX)?),
            clear_keys: self.words()?,
            remote_address: self.clear()?,
            remote_port: u16::try_from(self.whole()?).ok()?,
            wrap_ttl: self.option(Self::duration)?,
            headers: self.list(|reader| {
                Some(AuditedHeader {
                    name: Cow::Borrowed(reader.text()?),
                    values: reader.words()?,
                    hashed: reader.flag()?,
                })
            })?,
            client_certificate_serial_number: self.clear()?,
        })
    }

    fn response(&mut self) -> Option<ResponseFacts<'a>> {
        Some(ResponseFacts {
            auth: self.option(Self::auth)?,
            lease_id: self.clear()?,
            body: match self.byte()? {
                0 => AnswerBody::Nothing,
                1 => AnswerBody::Fields(Fields::Owned(self.map(DEPTH_MAX)?)),
                2 => AnswerBody::Raw { content_type: Cow::Borrowed(self.text()?), bytes: self.bytes()? },
                _ => return None,
            },
            clear_keys: self.words()?,
            warnings: self.words()?,
            redirect: self.clear()?,
            wrap_info: self.option(|reader| {
                Some(WrapFacts {
                    ttl: reader.duration()?,
                    token: Sensitive(reader.text()?),
                    accessor: Handle(reader.text()?),
                    creation_time: reader.time()?,
                    creation_path: reader.clear()?,
                    wrapped_accessor: reader.handle()?,
                })
            })?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use tresor_model::map;

    use super::*;

    fn sample() -> Zeroizing<Vec<u8>> {
        let body = map! { "a" => vec!["b"], "n" => 3, "t" => true, "z" => Body::Null, "m" => map! { "x" => "y" } };
        let results = PolicyResults { allowed: true, granting_policies: vec![GrantingPolicy::default()] };
        let policies = ["p".to_owned()];
        let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let auth = AuthFacts {
            client_token: Some(Sensitive("t")),
            policies: Cow::Borrowed(&policies),
            policy_results: Some(results),
            metadata: Some(Cow::Borrowed(&metadata)),
            token_type: Some(TokenType::Batch),
            token_issue_time: Some(Timestamp::EPOCH),
            ..AuthFacts::default()
        };
        let request = RequestFacts {
            id: "r".into(),
            operation: Operation::Patch,
            mount: MountFacts::default(),
            client_token: None,
            client_token_accessor: Some(Handle("h")),
            namespace: NamespaceFacts::default(),
            path: "p".into(),
            body: Fields::Borrowed(&body),
            clear_keys: Cow::Borrowed(&policies),
            remote_address: Clear::default(),
            remote_port: 65_535,
            wrap_ttl: Some(Duration::new(1, 2)),
            headers: vec![AuditedHeader { name: "x".into(), values: Cow::Borrowed(&policies), hashed: true }],
            client_certificate_serial_number: "17".into(),
        };
        let response = ResponseFacts {
            auth: Some(auth.clone()),
            body: AnswerBody::Raw { content_type: "text/plain".into(), bytes: &[255] },
            ..ResponseFacts::default()
        };
        encode_response(&ResponseEntry {
            time: Timestamp::from_nanos(-1),
            auth: &auth,
            request: &request,
            response: &response,
            error: "e".into(),
        })
    }

    #[test]
    fn an_entry_comes_back_as_it_was_and_its_buffer_never_grew() {
        let bytes = sample();
        assert_eq!(bytes.capacity(), bytes.len());
        let entry = decode(&bytes).unwrap();
        let again = encode_response(&ResponseEntry {
            time: entry.time,
            auth: &entry.auth,
            request: &entry.request,
            response: entry.response.as_ref().unwrap(),
            error: entry.error.clone(),
        });
        assert_eq!(*again, *bytes);
    }

    #[test]
    fn a_cut_entry_is_none() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            drop(decode(&bytes));
            bytes.insert(0, VERSION);
            drop(decode(&bytes));
            let mut flipped = sample();
            let at = at.index(flipped.len());
            flipped[at] = byte;
            drop(decode(&flipped));
        }
    }
}
