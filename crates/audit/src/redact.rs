//! From a complete entry to what one device may show.
//!
//! A redactor belongs to one device: its salt, its options; nothing is shared between devices (AUD-04), and entries
//! are never changed. Strings become leaves by an exhaustive match over the kinds of values (AUD-02): whatever is not
//! declared public is hashed (AUD-01, AUD-11). The order of names and the rule that empty ones are left out are the
//! reference's. Deliberately absent: failure; every entry has a redacted form (AUD-08).

mod leaf;

use std::borrow::Cow;
use std::sync::Arc;

use tresor_crypto::hash::{HmacKey, to_hex};
use tresor_model::{Body, Map, Operation, Timestamp};
use tresor_wire::time::rfc3339;

use crate::device::{DeviceSalt, FormatOptions};
use crate::entry::{
    AnswerBody, AuthFacts, Clear, Entry, Handle, MountFacts, RequestFacts, ResponseFacts, Sensitive, WrapFacts,
};
use crate::record::{AuditRecord, Object, Value};

pub use leaf::Leaf;

/// Makes the records of one device.
pub struct Redactor {
    key: HmacKey,
    options: FormatOptions,
    prefix: Arc<str>,
}

impl Redactor {
    /// The redactor of a device.
    #[must_use]
    pub fn new(salt: &DeviceSalt, options: FormatOptions) -> Self {
        let prefix = Arc::from(options.prefix.as_str());
        Self { key: HmacKey::new(salt.expose()), options, prefix }
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

    /// What this device may show of an entry.
    #[must_use]
    pub fn redact(&self, entry: &Entry<'_>) -> AuditRecord {
        let request = &entry.request;
        let mut content = Object::default();
        content.push("time", time(rfc3339(entry.time)));
        content.push("type", word(if entry.response.is_some() { "response" } else { "request" }));
        content.push_object("auth", self.auth(&entry.auth));
        content.push_object("request", self.request(request));
        if let Some(response) = &entry.response {
            content.push("response", Value::Object(self.response(response, request)));
        }
        push_clear(&mut content, "error", &entry.error);
        AuditRecord { prefix: Arc::clone(&self.prefix), content }
    }

    fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        self.key.sign(bytes)
    }

    fn secret(&self, text: &str) -> Value {
        Value::Leaf(if self.options.log_raw {
            Leaf::raw(text.to_owned())
        } else {
            Leaf::hashed(self.digest(text.as_bytes()))
        })
    }

    fn push_secret(&self, object: &mut Object, name: &'static str, secret: Option<Sensitive<'_>>) {
        if let Some(Sensitive(text)) = secret.filter(|secret| !secret.0.is_empty()) {
            object.push(name, self.secret(text));
        }
    }

    fn push_handle(&self, object: &mut Object, name: &'static str, handle: Option<Handle<'_>>) {
        if let Some(Handle(text)) = handle.filter(|handle| !handle.0.is_empty()) {
            let shown = if self.options.hmac_accessor { self.secret(text) } else { declared(text) };
            object.push(name, shown);
        }
    }

    fn auth(&self, auth: &AuthFacts<'_>) -> Object {
        let mut object = Object::default();
        self.push_secret(&mut object, "client_token", auth.client_token);
        self.push_handle(&mut object, "accessor", auth.accessor);
        push_clear(&mut object, "display_name", &auth.display_name);
        push_words(&mut object, "policies", &auth.policies);
        push_words(&mut object, "token_policies", &auth.token_policies);
        push_words(&mut object, "identity_policies", &auth.identity_policies);
        if auth.no_default_policy {
            object.push("no_default_policy", Value::Bool(true));
        }
        if let Some(results) = &auth.policy_results {
            let mut shown = Object::default();
            shown.push("allowed", Value::Bool(results.allowed));
            let granting: Vec<Value> = results
                .granting_policies
                .iter()
                .map(|policy| {
                    let mut shown = Object::default();
                    push_clear(&mut shown, "name", &policy.name);
                    push_clear(&mut shown, "namespace_id", &policy.namespace_id);
                    push_clear(&mut shown, "namespace_path", &policy.namespace_path);
                    shown.push("type", Value::Leaf(Leaf::public(&policy.kind)));
                    Value::Object(shown)
                })
                .collect();
            if !granting.is_empty() {
                shown.push("granting_policies", Value::List(granting));
            }
            object.push("policy_results", Value::Object(shown));
        }
        if let Some(metadata) = &auth.metadata {
            let mut shown = Object::default();
            for (name, value) in metadata.iter() {
                shown.push(name.clone(), declared(value));
            }
            object.push_object("metadata", shown);
        }
        object.push_whole("num_uses", auth.num_uses);
        object.push_whole("remaining_uses", auth.remaining_uses);
        push_clear(&mut object, "entity_id", &auth.entity_id);
        object.push("token_type", word(auth.token_type.map_or("default", tresor_model::TokenType::name)));
        object.push_whole("token_ttl", auth.token_ttl.as_secs());
        if let Some(issued) = auth.token_issue_time {
            object.push("token_issue_time", time(rfc3339(Timestamp::from_seconds(issued.seconds()))));
        }
        object
    }

    fn request(&self, request: &RequestFacts<'_>) -> Object {
        let mut object = Object::default();
        push_clear(&mut object, "id", &request.id);
        object.push("operation", word(request.operation.name()));
        push_mount(&mut object, &request.mount, "mount_running_version");
        self.push_secret(&mut object, "client_token", request.client_token);
        self.push_handle(&mut object, "client_token_accessor", request.client_token_accessor);
        let mut namespace = Object::default();
        push_clear(&mut namespace, "id", &request.namespace.id);
        push_clear(&mut namespace, "path", &request.namespace.path);
        object.push_object("namespace", namespace);
        push_clear(&mut object, "path", &request.path);
        object.push_object("data", self.fields(&request.body, &request.clear_keys, Elide::No));
        push_clear(&mut object, "remote_address", &request.remote_address);
        object.push_whole("remote_port", request.remote_port.into());
        object.push_whole("wrap_ttl", request.wrap_ttl.map_or(0, |ttl| ttl.as_secs()));
        let mut headers = Object::default();
        for header in &request.headers {
            let values = header
                .values
                .iter()
                .map(|value| if header.hashed { self.secret(value) } else { declared(value) })
                .collect();
            headers.push(header.name.clone().into_owned(), Value::List(values));
        }
        object.push_object("headers", headers);
        push_clear(&mut object, "client_certificate_serial_number", &request.client_certificate_serial_number);
        object
    }

    fn response(&self, response: &ResponseFacts<'_>, request: &RequestFacts<'_>) -> Object {
        let mut object = Object::default();
        if let Some(auth) = &response.auth {
            object.push_object("auth", self.auth(auth));
        }
        push_mount(&mut object, &request.mount, "mount_running_plugin_version");
        let mut secret = Object::default();
        push_clear(&mut secret, "lease_id", &response.lease_id);
        object.push_object("secret", secret);
        match &response.body {
            AnswerBody::Nothing => {}
            AnswerBody::Fields(fields) => {
                let list = self.options.elide_list_responses && request.operation == Operation::List;
                let elide = if list { Elide::Lists } else { Elide::No };
                object.push_object("data", self.fields(fields, &response.clear_keys, elide));
            }
            AnswerBody::Raw { content_type, bytes } => {
                let mut fields = Object::default();
                fields.push("http_content_type", self.secret(content_type));
                fields.push(
                    "http_raw_body",
                    Value::Leaf(if self.options.log_raw {
                        Leaf::raw(String::from_utf8_lossy(bytes).into_owned())
                    } else {
                        Leaf::hashed(self.digest(bytes))
                    }),
                );
                object.push_object("data", fields);
            }
        }
        push_words(&mut object, "warnings", &response.warnings);
        push_clear(&mut object, "redirect", &response.redirect);
        if let Some(wrap) = &response.wrap_info {
            object.push_object("wrap_info", self.wrap(wrap));
        }
        object
    }

    fn wrap(&self, wrap: &WrapFacts<'_>) -> Object {
        let mut object = Object::default();
        object.push_whole("ttl", wrap.ttl.as_secs());
        self.push_secret(&mut object, "token", Some(wrap.token));
        self.push_handle(&mut object, "accessor", Some(wrap.accessor));
        object.push("creation_time", time(rfc3339(wrap.creation_time)));
        push_clear(&mut object, "creation_path", &wrap.creation_path);
        self.push_handle(&mut object, "wrapped_accessor", wrap.wrapped_accessor);
        object
    }

    fn fields(&self, fields: &Map, clear_keys: &[String], elide: Elide) -> Object {
        let mut object = Object::default();
        for (name, value) in fields.iter() {
            let shown = match (elide, name, value) {
                (Elide::Lists, "keys", Body::List(items)) => whole(items.len()),
                (Elide::Lists, "key_info", Body::Map(items)) => whole(items.len()),
                _ => self.value(name, value, clear_keys),
            };
            object.push(name.to_owned(), shown);
        }
        object
    }

    /// `name` is the innermost name that the value stands under: items of a list stand under the list's.
    fn value(&self, name: &str, value: &Body, clear_keys: &[String]) -> Value {
        match value {
            Body::Null => Value::Null,
            Body::Bool(value) => Value::Bool(*value),
            Body::Number(number) => Value::Number(number.as_str().into()),
            Body::String(text) if clear_keys.iter().any(|clear| clear == name) => declared(text.as_str()),
            Body::String(text) => self.secret(text.as_str()),
            Body::List(items) => Value::List(items.iter().map(|item| self.value(name, item, clear_keys)).collect()),
            Body::Map(fields) => Value::Object(self.fields(fields, clear_keys, Elide::No)),
        }
    }
}

/// Whether lists are shown as the number of their entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elide {
    No,
    Lists,
}

fn declared(text: &str) -> Value {
    Value::Leaf(Leaf::declared(text))
}

fn word(text: &'static str) -> Value {
    declared(text)
}

fn time(text: String) -> Value {
    Value::Leaf(Leaf::public(&Clear(Cow::Owned(text))))
}

fn whole(count: usize) -> Value {
    Value::Whole(u64::try_from(count).unwrap_or(u64::MAX))
}

fn push_clear(object: &mut Object, name: &'static str, fact: &Clear<'_>) {
    if !fact.is_empty() {
        object.push(name, Value::Leaf(Leaf::public(fact)));
    }
}

fn push_words(object: &mut Object, name: &'static str, words: &[String]) {
    if !words.is_empty() {
        object.push(name, Value::List(words.iter().map(|word| declared(word)).collect()));
    }
}

fn push_mount(object: &mut Object, mount: &MountFacts<'_>, version_name: &'static str) {
    push_clear(object, "mount_point", &mount.point);
    push_clear(object, "mount_type", &mount.kind);
    push_clear(object, "mount_accessor", &mount.accessor);
    push_clear(object, version_name, &mount.running_version);
    push_clear(object, "mount_class", &mount.class);
}
