//! From a complete entry to what one device may show.
//!
//! A redactor belongs to one device: its salt, its options; nothing is shared between devices (AUD-04), and entries
//! are never changed. Strings become leaves by an exhaustive match over the kinds of values (AUD-02): whatever is not
//! declared public is hashed (AUD-01, AUD-11). The order of names and the rule that empty ones are left out are the
//! reference's. Deliberately absent: failure; every entry has a redacted form (AUD-08).

mod leaf;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use tresor_crypto::hash::{HmacKey, to_hex};
use tresor_model::Timestamp;
use tresor_secret::Wiped;
use tresor_wire::time::rfc3339;

use crate::body::{MapRef, ValueRef};
use crate::codec;
use crate::device::{DeviceSalt, FormatOptions};
use crate::entry::{
    AnswerBody, AuthFacts, Clear, Entry, GrantingPolicy, Handle, MountFacts, RequestFacts, ResponseFacts, Sensitive,
    WrapFacts,
};
use crate::record::{List, Object, number, whole};
use crate::shape::Shaping;

/// Makes the records of one device.
pub struct Redactor {
    key: HmacKey,
    options: FormatOptions,
    shaping: Shaping,
}

/// What was written of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// When the first of it was recorded.
    pub(crate) time: Timestamp,
    /// How many lines of requests, and of answers.
    pub(crate) requests: u64,
    pub(crate) answers: u64,
}

impl Written {
    /// Nothing was, of a record of this time.
    const fn nothing(time: Timestamp) -> Self {
        Self { time, requests: 0, answers: 0 }
    }

    fn count(&mut self, response: Option<&ResponseFacts<'_>>) {
        if response.is_some() { self.answers += 1 } else { self.requests += 1 }
    }
}

/// Digests that a record needs more than once: of the caller's token and of its handle. Shared by all of one caller.
#[derive(Clone, Default)]
struct Known<'e>(Arc<Vec<(&'e str, [u8; 32])>>);

/// What is shown already of the records that are delivered together, as it stands in the output.
#[derive(Default)]
pub(crate) struct Shown<'e> {
    /// The heads of those that do not say all of a request.
    heads: BTreeMap<&'e [u8], Head<'e>>,
    /// Who asked: mostly somebody who asks often.
    callers: BTreeMap<&'e [u8], (Range<usize>, Known<'e>)>,
}

/// What all lines of a request begin with, behind what is said of the caller.
struct Head<'e> {
    request: RequestFacts<'e>,
    known: Known<'e>,
    at: Range<usize>,
}

/// What is said of the caller.
#[expect(clippy::large_enum_variant, reason = "moved once per record; a box would be an allocation in each")]
enum Caller<'e> {
    /// It stands there already.
    Shown(Range<usize>),
    /// It comes from these bytes.
    New(&'e [u8], AuthFacts<'e>),
}

impl<'e> Shown<'e> {
    /// Takes a head apart, as far as the same was not shown before.
    fn decode(&self, bytes: &'e [u8]) -> Option<(Caller<'e>, Head<'e>)> {
        // No caller's bytes begin with another's: so if one of them is what these bytes begin with, it is the last one that
        // is not greater.
        let before = self.callers.range::<[u8], _>((Bound::Unbounded, Bound::Included(bytes))).next_back();
        let (caller, known, rest) = match before.and_then(|(caller, shown)| Some((bytes.strip_prefix(*caller)?, shown)))
        {
            Some((rest, (at, known))) => (Caller::Shown(at.clone()), known.clone(), rest),
            None => {
                let (auth, rest) = codec::decode_caller(bytes)?;
                let own = bytes.get(..bytes.len() - rest.len())?;
                (Caller::New(own, auth), Known::default(), rest)
            }
        };
        Some((caller, Head { request: codec::decode_asked(rest)?, known, at: 0..0 }))
    }
}

/// What was answered, if this is the record of an answer.
struct Answered<'r, 'e>(Option<&'r ResponseFacts<'e>>);

impl<'r, 'e> Answered<'r, 'e> {
    fn write(self, object: &mut Object<'_>, fill: impl FnOnce(&mut Object<'_>, &'r ResponseFacts<'e>)) {
        if let Some(response) = self.0 {
            Object::write(object.field("response"), |object| fill(object, response));
        }
    }
}

impl Redactor {
    /// The redactor of a device.
    #[must_use]
    pub fn new(salt: &DeviceSalt, options: FormatOptions) -> Self {
        Self::shaped(salt, options, Shaping::default())
    }

    /// The same, where lines become what this says.
    pub(crate) fn shaped(salt: &DeviceSalt, options: FormatOptions, shaping: Shaping) -> Self {
        Self { key: HmacKey::new(salt.expose()), options, shaping }
    }

    /// Whether its lines show secrets.
    pub(crate) const fn shows_secrets(&self) -> bool {
        self.options.log_raw
    }

    /// What a device shows in the place of a text: `hmac-sha256:` and 64 hexadecimal digits, as `sys/audit-hash`
    /// answers.
    #[must_use]
    pub fn hash(&self, text: &str) -> String {
        leaf::shown(&self.digest(text.as_bytes()))
    }

    /// A name for this device's place in the log, which tells nothing of the device.
    pub(crate) fn cursor_id(&self) -> String {
        let digest = self.digest(b"cursor of the device with this salt");
        to_hex(digest.get(..16).unwrap_or(&digest))
    }

    /// Appends what this device may show of an entry, as one line with the device's prefix and the newline.
    pub fn write_line(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let (known, answer) = (&mut Known::default(), entry.response.as_ref());
        let from = &entry.request.forwarded_from;
        self.line(entry.time, answer, (&entry.error, from), out, |object, response| {
            self.caller(object, &entry.auth, known);
            self.asked(object, &entry.request, known);
            response.write(object, |object, response| self.response(object, response, &entry.request, known));
        });
    }

    /// The same of a record's bytes, a line for each of its entries, if the device takes what is said of its request;
    /// `None`, and nothing is written, when they are no record. What stands in `out` already is copied: what all lines of a
    /// request begin with, and what is said of the same caller.
    pub(crate) fn write_record<'e>(
        &self,
        bytes: &'e [u8],
        takes: &dyn Fn(&RequestFacts<'_>) -> bool,
        shown: &mut Shown<'e>,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        if !self.shaping.is_plain() {
            return self.write_alone(bytes, takes, out);
        }
        let parts = codec::split(bytes)?;
        let mut written = Written::nothing(parts.time());
        let mut own;
        let (mut caller, head) = if shown.heads.contains_key(parts.head) {
            let head = shown.heads.get_mut(parts.head)?;
            if !takes(&head.request) {
                return Some(written);
            }
            (None, head)
        } else {
            let (caller, head) = shown.decode(parts.head)?;
            if !takes(&head.request) {
                return Some(written);
            }
            // Of a request that the record says all of, no other record has the same head.
            let head = if parts.says_all() {
                own = head;
                &mut own
            } else {
                shown.heads.entry(parts.head).or_insert(head)
            };
            (Some(caller), head)
        };
        let Head { request, known, at } = head;
        let callers = &mut shown.callers;
        for moment in parts.moments() {
            written.count(moment.response.as_ref());
            let ending = (&moment.error, &request.forwarded_from);
            self.line(moment.time, moment.response.as_ref(), ending, out, |object, response| {
                match caller.take() {
                    None => object.fields_again(at.clone()),
                    Some(caller) => {
                        *at = object.fields_at(|object| {
                            match caller {
                                Caller::Shown(at) => object.fields_again(at),
                                Caller::New(bytes, auth) => {
                                    let at = object.fields_at(|object| self.caller(object, &auth, known));
                                    callers.insert(bytes, (at, known.clone()));
                                }
                            }
                            self.asked(object, request, known);
                        });
                    }
                }
                response.write(object, |object, response| self.response(object, response, request, known));
            });
        }
        Some(written)
    }

    /// As [`Redactor::write_record`], with nothing copied of what stands there: it is not as it was written.
    fn write_alone(
        &self,
        bytes: &[u8],
        takes: &dyn Fn(&RequestFacts<'_>) -> bool,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let entries = codec::decode(bytes)?;
        let mut written = Written::nothing(entries.first()?.time);
        for entry in entries.iter().filter(|entry| takes(&entry.request)) {
            written.count(entry.response.as_ref());
            self.write_line(entry, out);
        }
        Some(written)
    }

    fn line<'r, 'e>(
        &self,
        time: Timestamp,
        response: Option<&'r ResponseFacts<'e>>,
        (error, forwarded_from): (&Clear<'_>, &Clear<'_>),
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Object<'_>, Answered<'r, 'e>),
    ) {
        if let Some(header) = &self.shaping.header {
            header.write(time, out);
        }
        out.extend_from_slice(self.options.prefix.as_bytes());
        let write = |out: &mut Vec<u8>| {
            Object::write(out, |object| {
                leaf::declared(&rfc3339(time), object.field("time"));
                leaf::declared(if response.is_some() { "response" } else { "request" }, object.field("type"));
                body(object, Answered(response));
                clear(object, "error", error);
                match response {
                    None => clear(object, "forwarded_from", forwarded_from),
                    Some(_) if forwarded_from.is_empty() => {}
                    Some(_) => boolean(true, object.field("forwarded")),
                }
            });
        };
        if self.shaping.is_plain() {
            write(out);
        } else {
            let mut json = Wiped::new(Vec::new());
            write(&mut json);
            self.shaping.shape(&json, out);
        }
        out.push(b'\n');
    }

    fn caller<'e>(&self, object: &mut Object<'_>, auth: &AuthFacts<'e>, known: &mut Known<'e>) {
        object.object("auth", |object| self.auth(object, auth, known));
    }

    fn asked<'e>(&self, object: &mut Object<'_>, request: &RequestFacts<'e>, known: &mut Known<'e>) {
        object.object("request", |object| self.request(object, request, known));
    }

    fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        self.key.sign(bytes)
    }

    fn secret(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.options.log_raw {
            leaf::raw(&shown_text(text), out);
        } else {
            leaf::hashed(&self.digest(text), out);
        }
    }

    /// A secret that the record may show again.
    fn repeated<'e>(&self, text: &'e str, known: &mut Known<'e>, out: &mut Vec<u8>) {
        if self.options.log_raw {
            return leaf::raw(text, out);
        }
        let is_same = |other: &str| tresor_secret::ct_eq(other.as_bytes(), text.as_bytes());
        if let Some((_, digest)) = known.0.iter().find(|(other, _)| is_same(other)) {
            return leaf::hashed(digest, out);
        }
        let digest = self.digest(text.as_bytes());
        leaf::hashed(&digest, out);
        Arc::make_mut(&mut known.0).push((text, digest));
    }

    fn token<'e>(
        &self,
        object: &mut Object<'_>,
        name: &'static str,
        secret: Option<Sensitive<'e>>,
        known: &mut Known<'e>,
    ) {
        if let Some(Sensitive(text)) = secret.filter(|secret| !secret.0.is_empty()) {
            self.repeated(text, known, object.field(name));
        }
    }

    fn handle<'e>(
        &self,
        object: &mut Object<'_>,
        name: &'static str,
        handle: Option<Handle<'e>>,
        known: &mut Known<'e>,
    ) {
        let Some(Handle(text)) = handle.filter(|handle| !handle.0.is_empty()) else { return };
        let out = object.field(name);
        if self.options.hmac_accessor { self.repeated(text, known, out) } else { leaf::declared(text, out) }
    }

    fn auth<'e>(&self, object: &mut Object<'_>, auth: &AuthFacts<'e>, known: &mut Known<'e>) {
        self.token(object, "client_token", auth.client_token, known);
        self.handle(object, "accessor", auth.accessor, known);
        clear(object, "display_name", &auth.display_name);
        words(object, "policies", &auth.policies);
        words(object, "token_policies", &auth.token_policies);
        words(object, "identity_policies", &auth.identity_policies);
        if auth.no_default_policy {
            boolean(true, object.field("no_default_policy"));
        }
        if let Some(results) = &auth.policy_results {
            object.object("policy_results", |object| {
                boolean(results.allowed, object.field("allowed"));
                if !results.granting_policies.is_empty() {
                    List::write(object.field("granting_policies"), |list| {
                        results.granting_policies.iter().for_each(|policy| granting(policy, list.item()));
                    });
                }
            });
        }
        if let Some(metadata) = &auth.metadata {
            object.object("metadata", |object| {
                metadata.iter().for_each(|(name, value)| leaf::declared(value, object.name(name)));
            });
        }
        object.whole("num_uses", auth.num_uses);
        object.whole("remaining_uses", auth.remaining_uses);
        clear(object, "entity_id", &auth.entity_id);
        let token_type = auth.token_type.map_or("default", tresor_model::TokenType::name);
        leaf::declared(token_type, object.field("token_type"));
        object.whole("token_ttl", auth.token_ttl.as_secs());
        if let Some(issued) = auth.token_issue_time {
            leaf::declared(&rfc3339(Timestamp::from_seconds(issued.seconds())), object.field("token_issue_time"));
        }
    }

    fn request<'e>(&self, object: &mut Object<'_>, request: &RequestFacts<'e>, known: &mut Known<'e>) {
        clear(object, "id", &request.id);
        leaf::declared(request.operation.name(), object.field("operation"));
        mount(object, &request.mount, "mount_running_version");
        self.token(object, "client_token", request.client_token, known);
        self.handle(object, "client_token_accessor", request.client_token_accessor, known);
        object.object("namespace", |object| {
            clear(object, "id", &request.namespace.id);
            clear(object, "path", &request.namespace.path);
        });
        clear(object, "path", &request.path);
        object.object("data", |object| self.fields(object, request.body.as_map(), &request.clear_keys, Elide::No));
        clear(object, "remote_address", &request.remote_address);
        object.whole("remote_port", request.remote_port.into());
        object.whole("wrap_ttl", request.wrap_ttl.map_or(0, |ttl| ttl.as_secs()));
        object.object("headers", |object| {
            for header in &request.headers {
                List::write(object.name(&header.name), |list| {
                    for value in header.values.iter() {
                        let out = list.item();
                        if header.hashed { self.secret(value.as_bytes(), out) } else { leaf::declared(value, out) }
                    }
                });
            }
        });
        clear(object, "client_certificate_serial_number", &request.client_certificate_serial_number);
    }

    fn response<'e>(
        &self,
        object: &mut Object<'_>,
        response: &ResponseFacts<'e>,
        request: &RequestFacts<'_>,
        known: &mut Known<'e>,
    ) {
        if let Some(auth) = &response.auth {
            object.object("auth", |object| self.auth(object, auth, known));
        }
        mount(object, &request.mount, "mount_running_plugin_version");
        object.object("secret", |object| clear(object, "lease_id", &response.lease_id));
        match &response.body {
            AnswerBody::Nothing => {}
            AnswerBody::Fields(fields) => {
                let list = self.options.elide_list_responses && request.operation.is_of_directory();
                let elide = if list { Elide::Lists } else { Elide::No };
                object.object("data", |object| self.fields(object, fields.as_map(), &response.clear_keys, elide));
            }
            AnswerBody::Raw { content_type, bytes } => object.object("data", |object| {
                self.secret(content_type.as_bytes(), object.field("http_content_type"));
                self.secret(bytes, object.field("http_raw_body"));
            }),
        }
        words(object, "warnings", &response.warnings);
        clear(object, "redirect", &response.redirect);
        if let Some(wrap) = &response.wrap_info {
            object.object("wrap_info", |object| self.wrap(object, wrap, known));
        }
    }

    fn wrap<'e>(&self, object: &mut Object<'_>, wrap: &WrapFacts<'e>, known: &mut Known<'e>) {
        object.whole("ttl", wrap.ttl.as_secs());
        self.token(object, "token", Some(wrap.token), known);
        self.handle(object, "accessor", Some(wrap.accessor), known);
        leaf::declared(&rfc3339(wrap.creation_time), object.field("creation_time"));
        clear(object, "creation_path", &wrap.creation_path);
        self.handle(object, "wrapped_accessor", wrap.wrapped_accessor, known);
    }

    fn fields(&self, object: &mut Object<'_>, fields: MapRef<'_>, clear_keys: &[String], elide: Elide) {
        fields.each(&mut |name, value| {
            let out = object.name(&shown_text(name));
            match (elide, name, &value) {
                (Elide::Lists, b"keys", ValueRef::List(items)) => whole(count(items.len()), out),
                (Elide::Lists, b"key_info", ValueRef::Map(items)) => whole(count(items.len()), out),
                _ => self.value(name, value, clear_keys, out),
            }
        });
    }

    /// `name` is the innermost name that the value stands under: items of a list stand under the list's.
    fn value(&self, name: &[u8], value: ValueRef<'_>, clear_keys: &[String], out: &mut Vec<u8>) {
        match value {
            ValueRef::Null => out.extend_from_slice(b"null"),
            ValueRef::Bool(value) => boolean(value, out),
            ValueRef::Number(text) => number(&shown_text(text), out),
            ValueRef::String(text) if clear_keys.iter().any(|clear| clear.as_bytes() == name) => {
                leaf::declared(&shown_text(text), out);
            }
            ValueRef::String(text) => self.secret(text, out),
            ValueRef::List(items) => List::write(out, |list| {
                items.each(&mut |item| self.value(name, item, clear_keys, list.item()));
            }),
            ValueRef::Map(fields) => {
                Object::write(out, |object| self.fields(object, fields, clear_keys, Elide::No));
            }
        }
    }
}

/// Whether lists are shown as the number of their entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elide {
    No,
    Lists,
}

/// A text of a body: what is none is shown as far as it is one.
fn shown_text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn granting(policy: &GrantingPolicy<'_>, out: &mut Vec<u8>) {
    Object::write(out, |object| {
        clear(object, "name", &policy.name);
        clear(object, "namespace_id", &policy.namespace_id);
        clear(object, "namespace_path", &policy.namespace_path);
        leaf::public(&policy.kind, object.field("type"));
    });
}

fn clear(object: &mut Object<'_>, name: &'static str, fact: &Clear<'_>) {
    if !fact.is_empty() {
        leaf::public(fact, object.field(name));
    }
}

fn words(object: &mut Object<'_>, name: &'static str, words: &[String]) {
    if !words.is_empty() {
        List::write(object.field(name), |list| words.iter().for_each(|word| leaf::declared(word, list.item())));
    }
}

fn mount(object: &mut Object<'_>, mount: &MountFacts<'_>, version_name: &'static str) {
    clear(object, "mount_point", &mount.point);
    clear(object, "mount_type", &mount.kind);
    clear(object, "mount_accessor", &mount.accessor);
    clear(object, version_name, &mount.running_version);
    clear(object, "mount_class", &mount.class);
}
