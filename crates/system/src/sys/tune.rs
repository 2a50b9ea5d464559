//! `sys/mounts/PATH/tune` and `sys/auth/PATH/tune`: shows effective settings, changes only what is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_core::lockout;
use tresor_core::mounts::record::MountRecord;
use tresor_engine::{Class, Cx, Data, Nothing, Warned, Widened};
use tresor_model::{Fault, Map};
use tresor_wire::input::{CommaList, Form, Input};
use tresor_wire::output::Output;

use super::mounts::{AtPath, checked_token_type, checked_visibility, find, shown_token_type, without_effect};
use super::{Sys, locked_users};

/// What to change; what is not sent stays.
#[derive(Input)]
pub(super) struct Tune {
    /// Where it is mounted.
    #[input(path)]
    path: String,
    /// Default life of leases; `system` or 0 takes the server's.
    default_lease_ttl: Option<String>,
    /// Longest life of leases; `system` or 0 takes the server's.
    max_lease_ttl: Option<String>,
    /// What it is for.
    description: Option<String>,
    /// Kept for clients.
    force_no_cache: Option<bool>,
    /// Request fields shown in the clear by audit devices.
    audit_non_hmac_request_keys: Option<CommaList>,
    /// Response fields shown in the clear by audit devices.
    audit_non_hmac_response_keys: Option<CommaList>,
    /// `unauth` shows the mount before login.
    listing_visibility: Option<String>,
    /// Request headers that the engine may see; kept and shown, and no engine here looks at any yet.
    passthrough_request_headers: Option<CommaList>,
    /// Response headers that the engine may set; kept and shown, and no engine here sets any yet.
    allowed_response_headers: Option<CommaList>,
    /// Options such as `version`.
    options: Option<BTreeMap<String, String>>,
    /// Kind of tokens that an auth method leads to.
    token_type: Option<String>,
    /// When names are locked after wrong passwords.
    user_lockout_config: Option<Map>,
}

/// How a mount is tuned; what was never set is left out.
#[derive(Output)]
pub(super) struct TuneShown {
    /// What it is for.
    description: String,
    /// Default life of leases, in effect.
    default_lease_ttl: Duration,
    /// Longest life of leases, in effect.
    max_lease_ttl: Duration,
    /// Kept for clients.
    force_no_cache: bool,
    /// Options such as `version`.
    #[output(optional)]
    options: Option<BTreeMap<String, String>>,
    /// Request fields shown in the clear by audit devices.
    #[output(optional)]
    audit_non_hmac_request_keys: Option<Vec<String>>,
    /// Response fields shown in the clear by audit devices.
    #[output(optional)]
    audit_non_hmac_response_keys: Option<Vec<String>>,
    /// Request headers that the engine may see; kept and shown, and no engine here looks at any yet.
    #[output(optional)]
    passthrough_request_headers: Option<Vec<String>>,
    /// Response headers that the engine may set; kept and shown, and no engine here sets any yet.
    #[output(optional)]
    allowed_response_headers: Option<Vec<String>>,
    /// `unauth` when the mount is shown before login.
    #[output(optional)]
    listing_visibility: Option<String>,
    /// Kind of tokens that an auth method leads to.
    #[output(optional)]
    token_type: Option<String>,
    /// After how many wrong passwords a name is locked, where that was tuned.
    #[output(optional)]
    user_lockout_threshold: Option<u64>,
    /// For how long.
    #[output(optional)]
    user_lockout_duration: Option<Duration>,
    /// How long wrong passwords count.
    #[output(optional)]
    user_lockout_counter_reset_duration: Option<Duration>,
    /// Nobody is locked.
    #[output(optional)]
    user_lockout_disable: Option<bool>,
}

pub(super) async fn read_mount(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Data<TuneShown>, Fault> {
    let (class, path) = of_either_class(&input.path);
    read(sys, cx, path, class)
}

pub(super) async fn read_auth(sys: &Sys, cx: Cx<'_>, input: AtPath) -> Result<Data<TuneShown>, Fault> {
    read(sys, cx, &input.path, Class::Auth)
}

pub(super) async fn write_mount(sys: &Sys, cx: Cx<'_>, input: Tune) -> Result<Warned<Nothing>, Fault> {
    let (class, path) = of_either_class(&input.path);
    let path = path.to_owned();
    write(sys, cx, Tune { path, ..input }, class)
}

pub(super) async fn write_auth(sys: &Sys, cx: Cx<'_>, input: Tune) -> Result<Warned<Nothing>, Fault> {
    write(sys, cx, input, Class::Auth)
}

/// `sys/mounts/auth/NAME/tune` tunes auth methods too: it is what the command line asks, and needs no `sudo`.
fn of_either_class(path: &str) -> (Class, &str) {
    let path = path.trim_start_matches('/');
    path.strip_prefix("auth/").map_or((Class::Secret, path), |name| (Class::Auth, name))
}

fn nothing_at(path: &str) -> Fault {
    Fault::invalid(format!("no mount at path {:?}", path.trim_matches('/')))
}

fn read(sys: &Sys, mut cx: Cx<'_>, path: &str, class: Class) -> Result<Data<TuneShown>, Fault> {
    let txn = cx.view.widen(Widened::assertion());
    let table = sys.handles.mounts.stored_table(txn)?;
    let mount = find(&table, class, path).ok_or_else(|| nothing_at(path))?;
    let lockout = lockout::tuned(txn, &mount.record.id)?;
    let tuning = &mount.record.tuning;
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Data(TuneShown {
        description: mount.record.description.clone(),
        default_lease_ttl: mount.facts.default_lease_ttl,
        max_lease_ttl: mount.facts.max_lease_ttl,
        force_no_cache: tuning.force_no_cache,
        options: (!mount.record.options.is_empty()).then(|| mount.record.options.clone()),
        audit_non_hmac_request_keys: list(&tuning.audit_non_hmac_request_keys),
        audit_non_hmac_response_keys: list(&tuning.audit_non_hmac_response_keys),
        passthrough_request_headers: list(&tuning.passthrough_request_headers),
        allowed_response_headers: list(&tuning.allowed_response_headers),
        listing_visibility: text(&tuning.listing_visibility),
        token_type: (class == Class::Auth).then(|| shown_token_type(tuning).to_owned()),
        user_lockout_threshold: lockout.map(|rules| rules.threshold),
        user_lockout_duration: lockout.map(|rules| rules.duration),
        user_lockout_counter_reset_duration: lockout.map(|rules| rules.counter_reset),
        user_lockout_disable: lockout.map(|rules| rules.is_disabled),
    }))
}

fn write(sys: &Sys, mut cx: Cx<'_>, input: Tune, class: Class) -> Result<Warned<Nothing>, Fault> {
    let mounts = &sys.handles.mounts;
    let txn = cx.view.widen(Widened::assertion());
    let table = mounts.stored_table(txn)?;
    let mount = find(&table, class, &input.path).ok_or_else(|| nothing_at(&input.path))?;
    let mut record = mounts.read(txn, &mount.record.id)?.ok_or_else(|| nothing_at(&input.path))?;
    let warnings = without_effect(input.passthrough_request_headers.as_ref(), input.allowed_response_headers.as_ref());
    if let Some(sent) = &input.user_lockout_config {
        let known = lockout::tuned(txn, &record.id)?;
        lockout::tune(txn, &record.id, locked_users::rules(&record.kind, known, sent)?)?;
    }
    change(&mut record, input, class)?;
    let facts = mounts.facts(&record);
    if facts.default_lease_ttl > facts.max_lease_ttl {
        return Err(Fault::invalid("backend tune default lease TTL greater than the effective max lease TTL"));
    }
    mounts.check(&record)?;
    mounts.write(txn, &record)?;
    Ok(Warned(Nothing, warnings))
}

fn change(record: &mut MountRecord, input: Tune, class: Class) -> Result<(), Fault> {
    let tuning = &mut record.tuning;
    if let Some(text) = input.default_lease_ttl {
        tuning.default_lease_ttl = ttl("default_lease_ttl", text)?;
    }
    if let Some(text) = input.max_lease_ttl {
        tuning.max_lease_ttl = ttl("max_lease_ttl", text)?;
    }
    if let Some(visibility) = input.listing_visibility {
        tuning.listing_visibility = checked_visibility(visibility)?;
    }
    if let Some(token_type) = input.token_type {
        tuning.token_type = checked_token_type(token_type, class)?;
    }
    if let Some(flag) = input.force_no_cache {
        tuning.force_no_cache = flag;
    }
    for (sent, kept) in [
        (input.audit_non_hmac_request_keys, &mut tuning.audit_non_hmac_request_keys),
        (input.audit_non_hmac_response_keys, &mut tuning.audit_non_hmac_response_keys),
        (input.passthrough_request_headers, &mut tuning.passthrough_request_headers),
        (input.allowed_response_headers, &mut tuning.allowed_response_headers),
    ] {
        if let Some(list) = sent {
            *kept = list.0;
        }
    }
    if let Some(description) = input.description {
        record.description = description;
    }
    if let Some(options) = input.options {
        let version =
            |options: &BTreeMap<String, String>| options.get("version").cloned().unwrap_or_else(|| "1".to_owned());
        if record.kind == "kv" && options.contains_key("version") && version(&options) != version(&record.options) {
            return Err(Fault::invalid("changing the version of a kv mount that exists is not available"));
        }
        record.options.extend(options);
    }
    Ok(())
}

/// A lease TTL as tuning takes it: `system` and 0 go back to the server's.
fn ttl(name: &'static str, text: String) -> Result<Duration, Fault> {
    if text.is_empty() || text == "system" {
        return Ok(Duration::ZERO);
    }
    tresor_wire::input::Seconds::read(&text.into())
        .map(|seconds| seconds.0)
        .map_err(|_| Fault::invalid(format!("`{name}` is not a duration")))
}
