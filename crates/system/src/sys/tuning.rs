//! How a mount is tuned, in the one form that enabling, tuning and showing have in common.
//!
//! Deliberately absent: which of the settings have an effect; the core asks for them where they do.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_core::lockout::Rules;
use tresor_core::mounts::record::{MountRecord, StoredClass, Tuning};
use tresor_engine::{Class, HeaderUse};
use tresor_model::{Body, Fault, Map, map};
use tresor_wire::input::{CommaList, Form, Input, Seconds};
use tresor_wire::output::Output;

/// What a mount can be tuned to; what is not sent stays.
#[derive(Input)]
pub(super) struct Changes {
    /// Default life of leases; `system` or 0 takes the server's.
    default_lease_ttl: Option<String>,
    /// Longest life of leases; `system` or 0 takes the server's.
    max_lease_ttl: Option<String>,
    /// Kept for clients.
    force_no_cache: Option<bool>,
    /// Request fields shown in the clear by audit devices.
    audit_non_hmac_request_keys: Option<CommaList>,
    /// Response fields shown in the clear by audit devices.
    audit_non_hmac_response_keys: Option<CommaList>,
    /// `unauth` shows the mount before login.
    listing_visibility: Option<String>,
    /// Request headers that the engine may see.
    passthrough_request_headers: Option<CommaList>,
    /// Response headers that the engine may set.
    allowed_response_headers: Option<CommaList>,
    /// Kind of tokens that an auth method leads to.
    token_type: Option<String>,
    /// Kept for clients: there are no managed keys.
    allowed_managed_keys: Option<CommaList>,
    /// Kept for clients: no engine here logs anybody in for another.
    delegated_auth_accessors: Option<CommaList>,
    /// Kept for clients: there are no identity tokens.
    identity_token_key: Option<String>,
    /// Slashes at the end of a path mean nothing, but for listings.
    trim_request_trailing_slashes: Option<bool>,
    /// The version of the engine: there is one.
    plugin_version: Option<String>,
    /// Kept for clients: nothing is pinned.
    override_pinned_version: Option<bool>,
}

/// How a mount was tuned; what was never set is left out.
#[derive(Output)]
pub(super) struct Shown {
    /// Request fields shown in the clear by audit devices.
    #[output(optional)]
    audit_non_hmac_request_keys: Option<Vec<String>>,
    /// Response fields shown in the clear by audit devices.
    #[output(optional)]
    audit_non_hmac_response_keys: Option<Vec<String>>,
    /// Request headers that the engine may see.
    #[output(optional)]
    passthrough_request_headers: Option<Vec<String>>,
    /// Response headers that the engine may set.
    #[output(optional)]
    allowed_response_headers: Option<Vec<String>>,
    /// `unauth` when the mount is shown before login.
    #[output(optional)]
    listing_visibility: Option<String>,
    /// Kind of tokens that an auth method leads to.
    #[output(optional)]
    token_type: Option<String>,
    /// Kept for clients.
    #[output(optional)]
    allowed_managed_keys: Option<Vec<String>>,
    /// Kept for clients.
    #[output(optional)]
    delegated_auth_accessors: Option<Vec<String>>,
    /// Kept for clients.
    #[output(optional)]
    identity_token_key: Option<String>,
    /// Slashes at the end of a path mean nothing, but for listings.
    #[output(optional)]
    trim_request_trailing_slashes: Option<bool>,
    /// Kept for clients.
    #[output(optional)]
    override_pinned_version: Option<bool>,
}

impl Shown {
    /// How this mount was tuned.
    pub(super) fn of(record: &MountRecord) -> Self {
        let tuning = &record.tuning;
        let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            audit_non_hmac_request_keys: list(&tuning.audit_non_hmac_request_keys),
            audit_non_hmac_response_keys: list(&tuning.audit_non_hmac_response_keys),
            passthrough_request_headers: list(&tuning.passthrough_request_headers),
            allowed_response_headers: list(&tuning.allowed_response_headers),
            listing_visibility: text(&tuning.listing_visibility),
            token_type: (record.class == StoredClass::Auth).then(|| token_type(tuning).to_owned()),
            allowed_managed_keys: list(&tuning.allowed_managed_keys),
            delegated_auth_accessors: list(&tuning.delegated_auth_accessors),
            identity_token_key: text(&tuning.identity_token_key),
            trim_request_trailing_slashes: tuning.trim_request_trailing_slashes.then_some(true),
            override_pinned_version: tuning.override_pinned_version.then_some(true),
        }
    }
}

impl Changes {
    /// Changes what was sent.
    ///
    /// # Errors
    /// A refusal when it makes no sense; the tuning is then half changed and not to be used.
    pub(super) fn apply(self, kind: &str, class: Class, tuning: &mut Tuning) -> Result<(), Fault> {
        for (name, sent, kept) in [
            ("default_lease_ttl", self.default_lease_ttl, &mut tuning.default_lease_ttl),
            ("max_lease_ttl", self.max_lease_ttl, &mut tuning.max_lease_ttl),
        ] {
            if let Some(text) = sent {
                *kept = ttl(name, text)?;
            }
        }
        for (sent, kept) in [
            (self.audit_non_hmac_request_keys, &mut tuning.audit_non_hmac_request_keys),
            (self.audit_non_hmac_response_keys, &mut tuning.audit_non_hmac_response_keys),
            (self.passthrough_request_headers, &mut tuning.passthrough_request_headers),
            (self.allowed_response_headers, &mut tuning.allowed_response_headers),
            (self.allowed_managed_keys, &mut tuning.allowed_managed_keys),
            (self.delegated_auth_accessors, &mut tuning.delegated_auth_accessors),
        ] {
            if let Some(list) = sent {
                *kept = list.0;
            }
        }
        for (sent, kept) in [
            (self.force_no_cache, &mut tuning.force_no_cache),
            (self.trim_request_trailing_slashes, &mut tuning.trim_request_trailing_slashes),
            (self.override_pinned_version, &mut tuning.override_pinned_version),
        ] {
            if let Some(flag) = sent {
                *kept = flag;
            }
        }
        if let Some(visibility) = self.listing_visibility {
            tuning.listing_visibility = checked_visibility(visibility)?;
        }
        if let Some(token_type) = self.token_type {
            if kind == "token" {
                return Err(Fault::invalid("'token_type' cannot be set for 'token' or 'ns_token' auth mounts"));
            }
            tuning.token_type = checked_token_type(token_type, class)?;
        }
        if let Some(key) = self.identity_token_key {
            tuning.identity_token_key = key;
        }
        if let Some(version) = self.plugin_version {
            tuning.plugin_version = checked_version(kind, &version)?;
        }
        Ok(())
    }

    /// The first setting that was sent and is not about audit devices.
    pub(super) fn beyond_audit(&self) -> Option<&'static str> {
        let sent = [
            ("default_lease_ttl", self.default_lease_ttl.is_some()),
            ("max_lease_ttl", self.max_lease_ttl.is_some()),
            ("force_no_cache", self.force_no_cache.is_some()),
            ("listing_visibility", self.listing_visibility.is_some()),
            ("passthrough_request_headers", self.passthrough_request_headers.is_some()),
            ("allowed_response_headers", self.allowed_response_headers.is_some()),
            ("token_type", self.token_type.is_some()),
            ("allowed_managed_keys", self.allowed_managed_keys.is_some()),
            ("delegated_auth_accessors", self.delegated_auth_accessors.is_some()),
            ("identity_token_key", self.identity_token_key.is_some()),
            ("trim_request_trailing_slashes", self.trim_request_trailing_slashes.is_some()),
            ("plugin_version", self.plugin_version.is_some()),
            ("override_pinned_version", self.override_pinned_version.is_some()),
        ];
        sent.into_iter().find_map(|(name, is_sent)| is_sent.then_some(name))
    }

    /// Whether headers are let through by what was sent.
    pub(super) fn lets_through(&self) -> LetsThrough {
        let names = |list: &Option<CommaList>| list.as_ref().is_some_and(|list| !list.0.is_empty());
        LetsThrough {
            of_requests: names(&self.passthrough_request_headers),
            of_answers: names(&self.allowed_response_headers),
        }
    }
}

/// Whether a change lets headers through.
#[derive(Clone, Copy)]
pub(super) struct LetsThrough {
    of_requests: bool,
    of_answers: bool,
}

impl LetsThrough {
    /// What is told of it where an engine has nothing to do with headers: it is kept, and does nothing.
    pub(super) fn without_effect(self, kind: &str, uses: HeaderUse) -> Vec<String> {
        [
            ("passthrough_request_headers", self.of_requests && !uses.reads, "reads"),
            ("allowed_response_headers", self.of_answers && !uses.sets, "sets"),
        ]
        .into_iter()
        .filter(|(_, is_idle, _)| *is_idle)
        .map(|(name, _, verb)| {
            format!("`{name}` is kept and has no effect: an engine of type `{kind}` {verb} no headers")
        })
        .collect()
    }
}

/// The version of every engine: that of the server.
pub(super) fn version() -> String {
    format!("v{}+builtin.tresor", env!("CARGO_PKG_VERSION"))
}

/// A version as clients may choose it: none, or the one that there is.
pub(super) fn checked_version(kind: &str, asked: &str) -> Result<String, Fault> {
    let (only, asked) = (version(), asked.trim());
    if asked.is_empty() {
        return Ok(String::new());
    }
    if asked.trim_start_matches('v') == only.trim_start_matches('v') {
        return Ok(only);
    }
    Err(Fault::invalid(format!("plugin not found in the catalog: {kind}, version={asked}")))
}

/// The kind of tokens of an auth method, as shown.
const fn token_type(tuning: &Tuning) -> &str {
    if tuning.token_type.is_empty() { "default-service" } else { tuning.token_type.as_str() }
}

/// When names are locked on a mount, as listings show it.
pub(super) fn lockout(rules: &Rules) -> Map {
    map! {
        "user_lockout_counter_reset_duration" => rules.counter_reset.as_secs(),
        "user_lockout_threshold" => rules.threshold,
        "user_lockout_duration" => rules.duration.as_secs(),
        "user_lockout_disable" => rules.is_disabled,
    }
}

/// The options with what was sent: an empty value takes an option away.
pub(super) fn options(known: &mut BTreeMap<String, String>, sent: BTreeMap<String, String>) {
    for (name, value) in sent {
        if value.is_empty() {
            known.remove(&name);
        } else {
            known.insert(name, value);
        }
    }
}

/// A lease TTL as tuning takes it: `system` and 0 go back to the server's.
fn ttl(name: &'static str, text: String) -> Result<Duration, Fault> {
    if text.is_empty() || text == "system" {
        return Ok(Duration::ZERO);
    }
    Seconds::read(&Body::from(text))
        .map(|seconds| seconds.0)
        .map_err(|_| Fault::invalid(format!("`{name}` is not a duration")))
}

fn checked_visibility(text: String) -> Result<String, Fault> {
    match text.as_str() {
        "" | "unauth" | "hidden" => Ok(text),
        _ => Err(Fault::invalid("`listing_visibility` is `unauth`, `hidden` or empty")),
    }
}

fn checked_token_type(text: String, class: Class) -> Result<String, Fault> {
    match (class, text.as_str()) {
        (_, "") | (Class::Auth, "default-service" | "service" | "default-batch" | "batch") => Ok(text),
        (Class::Auth, _) => Err(Fault::invalid("invalid value for `token_type`")),
        _ => Err(Fault::invalid("'token_type' can only be modified on auth mounts")),
    }
}
