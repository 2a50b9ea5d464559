//! `sys/policies/acl` and its older spelling `sys/policy`: texts are stored and returned byte for byte, with a version that
//! whoever writes may name, and an end.

use tresor_core::Space;
use tresor_core::policies::{PolicyChange, PolicyRecord, StoredPolicy};
use tresor_engine::{Cx, Data, Keys, Mirrored, Nothing, Warned, Widened};
use tresor_model::{Body, Fault, Map, Refusal, Timestamp};
use tresor_policy::{NameError, PolicyName, WRAPPING_POLICY, WRAPPING_POLICY_TEXT};
use tresor_wire::input::{EmptyInput, Input, SignedSeconds};
use tresor_wire::output::Output;
use tresor_wire::time::{parse_rfc3339, rfc3339};

use super::Sys;

/// A policy by name.
#[derive(Input)]
pub(super) struct ByName {
    /// Its name; case does not matter.
    #[input(path)]
    name: String,
}

/// A policy to write, or what is to change of one.
#[derive(Input)]
pub(super) struct Write {
    /// Its name; case does not matter.
    #[input(path)]
    name: String,
    /// Its text, HCL or JSON, perhaps in base64.
    policy: Option<String>,
    /// An older name of `policy`.
    rules: Option<String>,
    /// When it stops to grant anything, in RFC 3339; an empty text for never.
    expiration: Option<String>,
    /// The same, counted from now; 0 for never.
    ttl: Option<SignedSeconds>,
    /// The version that is to be replaced; -1 for none.
    cas: Option<i64>,
    /// Whether writing it needs `cas` from now on.
    cas_required: Option<bool>,
    /// Whether values of its placeholders may have `*` and `+`, which match more than they say.
    allow_wildcards_in_identity_templates: Option<bool>,
    /// Whether values of its placeholders may have `/`, which leaves the segment that they stand in.
    allow_slashes_in_identity_templates: Option<bool>,
}

/// A policy. Of one on which nothing was asked but its text, only that is shown, since clients of the original's compare the
/// whole answer; a detailed listing shows everything of all.
#[derive(Output)]
pub(super) struct PolicyShown {
    /// Its name.
    name: String,
    /// Its text as it was sent.
    policy: String,
    /// How often it was written.
    #[output(optional)]
    version: Option<u64>,
    /// Whether writing it needs `cas`.
    #[output(optional)]
    cas_required: Option<bool>,
    /// Whether values of its placeholders may have `*` and `+`.
    #[output(optional)]
    allow_wildcards_in_identity_templates: Option<bool>,
    /// Whether values of its placeholders may have `/`.
    #[output(optional)]
    allow_slashes_in_identity_templates: Option<bool>,
    /// When it stops to grant anything.
    #[output(optional)]
    expiration: Option<String>,
    /// When it was written last.
    #[output(optional)]
    modified: Option<String>,
    /// Why nothing is known of it but its name.
    #[output(optional)]
    damage: Option<String>,
}

/// A policy in its older spelling.
#[derive(Output)]
pub(super) struct LegacyPolicy {
    /// Its name.
    name: String,
    /// Its text as it was sent.
    rules: String,
    /// How often it was written.
    #[output(optional)]
    version: Option<u64>,
    /// Whether writing it needs `cas`.
    #[output(optional)]
    cas_required: Option<bool>,
}

/// Names, and what is known of each.
#[derive(Output)]
pub(super) struct Detailed {
    /// The names in order.
    keys: Vec<String>,
    /// The policies by name.
    key_info: Map,
}

/// All names in their older spelling.
#[derive(Output)]
pub(super) struct LegacyNames {
    /// The names.
    keys: Vec<String>,
    /// The same names.
    policies: Vec<String>,
}

fn parse_name(name: &str) -> Result<PolicyName, Fault> {
    PolicyName::parse(name).map_err(|error| Fault::invalid(error.to_string()))
}

/// The names that begin so, with `root`, which has no text.
/// The names of a namespace's policies; `root` is one of the root namespace only.
fn names(space: &Space, prefix: &str, now: Timestamp) -> Vec<String> {
    let table = space.policies.table();
    let mut names: Vec<String> = table.policies(prefix, now).map(|(name, _)| name.to_owned()).collect();
    if space.is_root() && "root".starts_with(prefix) {
        names.push("root".to_owned());
        names.sort_unstable();
    }
    names
}

fn shown(name: &str, record: &PolicyRecord) -> PolicyShown {
    let has_more = record.cas_required || record.expires.is_some() || record.trusts_wildcards || record.trusts_slashes;
    if has_more { shown_in_full(name, record) } else { named(name, record) }
}

fn named(name: &str, record: &PolicyRecord) -> PolicyShown {
    PolicyShown {
        name: name.to_owned(),
        policy: record.text.clone(),
        version: None,
        cas_required: None,
        allow_wildcards_in_identity_templates: None,
        allow_slashes_in_identity_templates: None,
        expiration: None,
        modified: None,
        damage: None,
    }
}

fn shown_in_full(name: &str, record: &PolicyRecord) -> PolicyShown {
    PolicyShown {
        version: Some(record.version),
        cas_required: Some(record.cas_required),
        allow_wildcards_in_identity_templates: Some(record.trusts_wildcards),
        allow_slashes_in_identity_templates: Some(record.trusts_slashes),
        expiration: record.expires.map(rfc3339),
        modified: record.modified.map(rfc3339),
        ..named(name, record)
    }
}

/// A policy that has nothing but defaults.
const fn bare(text: String) -> PolicyRecord {
    PolicyRecord {
        text,
        version: 0,
        cas_required: false,
        modified: None,
        expires: None,
        trusts_slashes: false,
        trusts_wildcards: false,
    }
}

/// A policy as it is now; `root` exists and has no text.
fn known(space: &Space, name: &str, now: Timestamp) -> Result<Option<PolicyShown>, Fault> {
    let name = name.trim().to_lowercase();
    if name == "root" && space.is_root() {
        return Ok(Some(shown(&name, &bare(String::new()))));
    }
    if name == WRAPPING_POLICY {
        return Ok(Some(shown(&name, &bare(WRAPPING_POLICY_TEXT.to_owned()))));
    }
    let table = space.policies.table();
    let Some(stored) = table.policy(&name, now) else { return Ok(None) };
    match &stored.damage {
        None => Ok(Some(shown(&name, &stored.record))),
        Some(_) => {
            let text =
                format!("policy {name:?} cannot be read from storage and grants nothing: write it again, or delete it");
            Err(Refusal::Unavailable(text.into()).into())
        }
    }
}

pub(super) async fn list(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Keys, Fault> {
    let space = sys.space(&cx)?;
    Ok(Keys(names(&space, "", cx.now)))
}

pub(super) async fn list_below(sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Keys, Fault> {
    let space = sys.space(&cx)?;
    Ok(Keys(names(&space, input.name.trim_end_matches('/'), cx.now)))
}

pub(super) async fn detailed(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Option<Data<Detailed>>, Fault> {
    let space = sys.space(&cx)?;
    Ok(details(&space, "", cx.now))
}

pub(super) async fn detailed_below(sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Option<Data<Detailed>>, Fault> {
    let space = sys.space(&cx)?;
    Ok(details(&space, input.name.trim_end_matches('/'), cx.now))
}

fn details(space: &Space, prefix: &str, now: Timestamp) -> Option<Data<Detailed>> {
    let table = space.policies.table();
    let about = |(name, stored): (&str, &StoredPolicy)| {
        let shown = PolicyShown { damage: stored.damage.clone(), ..shown_in_full(name, &stored.record) };
        (name.to_owned(), Body::Map(shown.into_map()))
    };
    let mut key_info: Map = table.policies(prefix, now).map(about).collect();
    let keys = names(space, prefix, now);
    if keys.iter().any(|name| name == "root") {
        key_info.insert("root", Body::Map(shown_in_full("root", &bare(String::new())).into_map()));
    }
    (!keys.is_empty()).then_some(Data(Detailed { keys, key_info }))
}

pub(super) async fn list_legacy(sys: &Sys, cx: Cx<'_>, _input: EmptyInput) -> Result<Mirrored<LegacyNames>, Fault> {
    let space = sys.space(&cx)?;
    let names = names(&space, "", cx.now);
    Ok(Mirrored(LegacyNames { keys: names.clone(), policies: names }))
}

pub(super) async fn read(sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Option<Data<PolicyShown>>, Fault> {
    let space = sys.space(&cx)?;
    Ok(known(&space, &input.name, cx.now)?.map(Data))
}

pub(super) async fn read_legacy(sys: &Sys, cx: Cx<'_>, input: ByName) -> Result<Option<Mirrored<LegacyPolicy>>, Fault> {
    let legacy = |PolicyShown { name, policy, version, cas_required, .. }| {
        Mirrored(LegacyPolicy { name, rules: policy, version, cas_required })
    };
    let space = sys.space(&cx)?;
    Ok(known(&space, &input.name, cx.now)?.map(legacy))
}

pub(super) async fn write(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    let name = parse_name(&input.name)?;
    let is_older = input.policy.is_none() && input.rules.is_some();
    let warning = is_older.then(|| "'rules' is deprecated, please use 'policy' instead".to_owned());
    // What is not said is as for a new policy.
    let change = changed(bare(String::new()), input, cx.now)?;
    sys.space(&cx)?.policies.write(cx.view.widen(Widened::assertion()), &name, change, cx.now)?;
    Ok(Warned(Nothing, warning.into_iter().collect()))
}

pub(super) async fn patch(sys: &Sys, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let name = parse_name(&input.name)?;
    let (now, space) = (cx.now, sys.space(&cx)?);
    let txn = cx.view.widen(Widened::assertion());
    let stored = space.policies.stored(txn, &name)?;
    let stored = stored.ok_or_else(|| Fault::Refusal(Refusal::Absent("policy not found".into())))?;
    // It is about the version that was just read, whatever the policy asks for.
    let cas = i64::try_from(stored.version).ok();
    let mut change = changed(stored, input, now)?;
    change.cas = change.cas.or(cas);
    space.policies.write(txn, &name, change, now)?;
    Ok(Nothing)
}

/// A record with what was said.
fn changed(known: PolicyRecord, input: Write, now: Timestamp) -> Result<PolicyChange, Fault> {
    let mut record = known;
    if let Some(text) = input.policy.or(input.rules) {
        record.text = decode(text);
    }
    if record.text.is_empty() {
        return Err(Fault::invalid("'policy' parameter not supplied or empty"));
    }
    match (input.expiration, input.ttl) {
        (Some(_), Some(_)) => return Err(Fault::invalid("cannot supply both 'expiration' and 'ttl' for policies")),
        (Some(text), None) if text.trim().is_empty() => record.expires = None,
        (Some(text), None) => {
            let end = parse_rfc3339(text.trim());
            record.expires = Some(end.ok_or_else(|| Fault::invalid("'expiration' must be a time in RFC 3339"))?);
        }
        (None, Some(SignedSeconds(ttl))) if ttl.length.is_zero() => record.expires = None,
        (None, Some(SignedSeconds(ttl))) if ttl.negative => record.expires = Some(now),
        (None, Some(SignedSeconds(ttl))) => record.expires = Some(now.plus(ttl.length)),
        (None, None) => {}
    }
    record.cas_required = input.cas_required.unwrap_or(record.cas_required);
    record.trusts_wildcards = input.allow_wildcards_in_identity_templates.unwrap_or(record.trusts_wildcards);
    record.trusts_slashes = input.allow_slashes_in_identity_templates.unwrap_or(record.trusts_slashes);
    Ok(PolicyChange { record, cas: input.cas })
}

/// Clients may send the text in base64; no policy is valid base64, which has no braces, quotes or spaces.
pub(super) fn decode(text: String) -> String {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok();
    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text)
}

pub(super) async fn delete(sys: &Sys, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let name = PolicyName::parse(&input.name).map_err(|error| match error {
        NameError::Root => Fault::invalid("cannot delete \"root\" policy"),
        NameError::Wrapping => Fault::invalid(format!("cannot delete \"{WRAPPING_POLICY}\" policy")),
        other => Fault::invalid(other.to_string()),
    })?;
    sys.space(&cx)?.policies.delete(cx.view.widen(Widened::assertion()), &name)?;
    Ok(Nothing)
}
