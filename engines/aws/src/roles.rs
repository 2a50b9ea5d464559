//! `roles`: which kind of keys a role gives, and what these may.
//!
//! Policy documents are kept compact and otherwise as they were written: what is in them is AWS's business. Deliberately
//! absent: asking AWS whether what a role names is there.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View, Warned};
use tresor_model::Fault;
use tresor_record::{Part, Record};
use tresor_wire::input::{CommaList, Input, Limit, Seconds};
use tresor_wire::json::{self, JsonLimits};
use tresor_wire::output::Output;

use crate::Aws;

const ROLES: &str = "role/";
/// Longer names has no role.
const NAME_BYTES_MAX: usize = 512;

/// Which kind of keys.
#[derive(Part, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialType {
    /// Those of a user that exists as long as its lease.
    #[part(tag = 0)]
    IamUser,
    /// Those of a role of AWS, for a while.
    #[part(tag = 1)]
    AssumedRole,
    /// Some of what the configured keys may, for a while.
    #[part(tag = 2)]
    FederationToken,
    /// What the configured keys may, for a while.
    #[part(tag = 3)]
    SessionToken,
}

impl CredentialType {
    const ALL: [Self; 4] = [Self::IamUser, Self::AssumedRole, Self::FederationToken, Self::SessionToken];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::IamUser => "iam_user",
            Self::AssumedRole => "assumed_role",
            Self::FederationToken => "federation_token",
            Self::SessionToken => "session_token",
        }
    }
}

/// A role.
#[derive(Record)]
#[record(kind = "aws-role", version = 1)]
pub(crate) struct Role {
    /// One; or two, of a policy that was written in the old way and may mean either, by the path that is asked.
    pub(crate) credential_types: Vec<CredentialType>,
    pub(crate) role_arns: Vec<String>,
    pub(crate) policy_arns: Vec<String>,
    pub(crate) policy_document: String,
    pub(crate) iam_groups: Vec<String>,
    pub(crate) iam_tags: BTreeMap<String, String>,
    pub(crate) default_sts_ttl: Duration,
    pub(crate) max_sts_ttl: Duration,
    pub(crate) permissions_boundary_arn: String,
    pub(crate) user_path: String,
    pub(crate) session_tags: BTreeMap<String, String>,
    pub(crate) external_id: String,
    pub(crate) mfa_serial_number: String,
    /// Written in the old way: `creds` gives users and `sts` the rest, and neither the other.
    pub(crate) is_by_path: bool,
}

impl Role {
    fn blank() -> Self {
        Self {
            credential_types: Vec::new(),
            role_arns: Vec::new(),
            policy_arns: Vec::new(),
            policy_document: String::new(),
            iam_groups: Vec::new(),
            iam_tags: BTreeMap::new(),
            default_sts_ttl: Duration::ZERO,
            max_sts_ttl: Duration::ZERO,
            permissions_boundary_arn: String::new(),
            user_path: String::new(),
            session_tags: BTreeMap::new(),
            external_id: String::new(),
            mfa_serial_number: String::new(),
            is_by_path: false,
        }
    }

    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = view.read(&format!("{ROLES}{name}"))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    pub(crate) fn gives(&self, wanted: CredentialType) -> bool {
        self.credential_types.contains(&wanted)
    }

    /// What makes no sense together, all of it.
    fn contradictions(&self) -> Vec<String> {
        let user = self.gives(CredentialType::IamUser);
        let assumed = self.gives(CredentialType::AssumedRole);
        let ends_by_itself = self.credential_types.iter().any(|one| *one != CredentialType::IamUser);
        let of_type = |name: &str, wanted: &str| format!("cannot supply {name} when credential_type isn't {wanted}");
        let only = |name: &str| {
            let types = "assumed_role, federation_token and session_token";
            format!("{name} parameter only valid for {types} credential types")
        };
        let (default, max) = (self.default_sts_ttl, self.max_sts_ttl);
        let path = &self.user_path;
        let rules = [
            (self.credential_types.is_empty(), "did not supply credential_type".to_owned()),
            (!default.is_zero() && !ends_by_itself, only("default_sts_ttl")),
            (!max.is_zero() && !ends_by_itself, only("max_sts_ttl")),
            (
                !max.is_zero() && default > max,
                r#""default_sts_ttl" value must be less than or equal to "max_sts_ttl" value"#.to_owned(),
            ),
            (!path.is_empty() && !user, "user_path parameter only valid for iam_user credential type".to_owned()),
            (
                !path.is_empty() && !is_user_path(path),
                r"The specified value for user_path is invalid. It must match '^\/([\x21-\x7F]{0,510}\/)?$' regexp"
                    .to_owned(),
            ),
            (!self.permissions_boundary_arn.is_empty() && !user, of_type("permissions_boundary_arn", "iam_user")),
            (
                !self.permissions_boundary_arn.is_empty() && !is_policy_arn(&self.permissions_boundary_arn),
                "invalid permissions_boundary_arn parameter: it is not the ARN of a policy".to_owned(),
            ),
            (!self.iam_tags.is_empty() && !user, of_type("iam_tags", "iam_user")),
            (!self.role_arns.is_empty() && !assumed, of_type("role_arns", "assumed_role")),
            (!self.session_tags.is_empty() && !assumed, of_type("session_tags", "assumed_role")),
            (!self.external_id.is_empty() && !assumed, of_type("external_id", "assumed_role")),
            (
                !self.mfa_serial_number.is_empty() && !self.gives(CredentialType::SessionToken),
                of_type("mfa_serial_number", "session_token"),
            ),
        ];
        rules.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text).collect()
    }
}

/// `/`, or a way of names between slashes.
fn is_user_path(path: &str) -> bool {
    let inner = path.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let is_closed = path == "/" || (path.len() > 1 && path.ends_with('/'));
    is_closed && inner.is_some_and(|inner| inner.len() <= 510 && inner.bytes().all(|byte| matches!(byte, 0x21..=0x7f)))
}

/// The resource of an ARN: `role/x` of `arn:aws:iam::123:role/x`.
fn resource_of(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (is_arn, service) = (parts.next() == Some("arn"), parts.nth(1)?);
    let resource = parts.nth(2)?;
    is_arn.then_some((service, resource))
}

fn is_policy_arn(arn: &str) -> bool {
    resource_of(arn).is_some_and(|(service, resource)| service == "iam" && resource.starts_with("policy/"))
}

pub(crate) fn is_name(name: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    name.starts_with(is_word)
        && name.ends_with(is_word)
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|letter| is_word(letter) || "-.@".contains(letter))
}

/// JSON without the blanks between its values; `None` when it is none.
fn compact(text: &str) -> Option<String> {
    json::decode_value(text.as_bytes(), &JsonLimits::default()).ok()?;
    let (mut is_text, mut is_escaped) = (false, false);
    let kept = text.chars().filter(|letter| {
        if is_text {
            is_text = is_escaped || *letter != '"';
            is_escaped = !is_escaped && *letter == '\\';
            return true;
        }
        is_text = *letter == '"';
        !letter.is_ascii_whitespace()
    });
    Some(kept.collect())
}

/// A role as it was written before roles had types.
fn written_in_the_old_way(text: &str) -> Option<Role> {
    let mut role = Role { is_by_path: true, ..Role::blank() };
    if text.starts_with("arn:") {
        match resource_of(text)?.1.split('/').next()? {
            "role" => {
                role.credential_types = vec![CredentialType::AssumedRole];
                role.role_arns = vec![text.to_owned()];
            }
            "policy" => {
                role.credential_types = vec![CredentialType::IamUser];
                role.policy_arns = vec![text.to_owned()];
            }
            _ => return None,
        }
    } else {
        role.credential_types = vec![CredentialType::IamUser, CredentialType::FederationToken];
        role.policy_document = compact(text)?;
    }
    Some(role)
}

/// A role by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The role.
    #[input(path)]
    name: String,
}

/// A page of the roles.
#[derive(Input)]
pub(crate) struct Page {
    /// List names after this one.
    #[input(query)]
    pub(crate) after: Option<String>,
    /// How many names to list at most.
    #[input(query, default = "0")]
    pub(crate) limit: Limit,
}

/// A role to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The role.
    #[input(path)]
    name: String,
    /// `iam_user`, `assumed_role`, `federation_token` or `session_token`.
    credential_type: Option<String>,
    /// Roles of AWS that may be assumed.
    role_arns: Option<CommaList>,
    /// Managed policies: what users get, and what keys that end by themselves may at most.
    policy_arns: Option<CommaList>,
    /// A policy as JSON: what users get, and what keys that end by themselves may at most.
    policy_document: Option<String>,
    /// Groups that users join, and whose policies keys that end by themselves may have at most.
    iam_groups: Option<CommaList>,
    /// Tags of users.
    iam_tags: Option<BTreeMap<String, String>>,
    /// How long keys that end by themselves live when nothing is asked for.
    default_sts_ttl: Option<Seconds>,
    /// How long they live at most.
    max_sts_ttl: Option<Seconds>,
    /// The policy that bounds what users may.
    permissions_boundary_arn: Option<String>,
    /// The path of users.
    user_path: Option<String>,
    /// Tags of sessions.
    session_tags: Option<BTreeMap<String, String>>,
    /// What a role of another account wants to hear.
    external_id: Option<String>,
    /// The second factor of the configured user.
    mfa_serial_number: Option<String>,
    /// In the old way: the ARN of a role or of a policy.
    #[input(default = "")]
    arn: String,
    /// In the old way: a policy as JSON.
    #[input(default = "")]
    policy: String,
}

impl Write {
    /// What is sent in the old way, if anything is; then nothing may be sent in the new one.
    fn old_way(&self) -> Result<Option<&str>, Fault> {
        let text = match (self.policy.as_str(), self.arn.as_str()) {
            ("", "") => return Ok(None),
            (policy, "") => policy,
            ("", arn) => arn,
            _ => return Err(Fault::invalid("only one of policy or arn should be provided")),
        };
        let new = [
            (self.credential_type.is_some(), "an explicit credential_type"),
            (self.role_arns.is_some(), "role_arns"),
            (self.policy_arns.is_some(), "policy_arns"),
            (self.policy_document.is_some(), "policy_document"),
            (self.default_sts_ttl.is_some(), "default_sts_ttl"),
            (self.max_sts_ttl.is_some(), "max_sts_ttl"),
            (self.user_path.is_some(), "user_path"),
            (self.permissions_boundary_arn.is_some(), "permissions_boundary_arn"),
            (self.iam_groups.is_some(), "iam_groups"),
            (self.iam_tags.is_some(), "iam_tags"),
            (self.session_tags.is_some(), "session_tags"),
            (self.external_id.is_some(), "external_id"),
            (self.mfa_serial_number.is_some(), "mfa_serial_number"),
        ];
        match new.iter().find(|(is_sent, _)| *is_sent) {
            Some((_, name)) => {
                Err(Fault::invalid(format!("cannot supply deprecated role or policy parameters with {name}")))
            }
            None => Ok(Some(text)),
        }
    }

    fn onto(self, role: &mut Role) -> Result<(), Fault> {
        let change = |place: &mut Vec<String>, sent: Option<CommaList>| {
            if let Some(sent) = sent {
                *place = sent.0;
            }
        };
        role.is_by_path = false;
        if let Some(sent) = self.credential_type {
            let known = CredentialType::ALL.into_iter().find(|one| one.as_str() == sent);
            let unknown = || {
                let text = format!("unrecognized credential type: {sent}");
                Fault::invalid(format!("error(s) validating supplied role data: {text:?}"))
            };
            role.credential_types = vec![known.ok_or_else(unknown)?];
        }
        if let Some(sent) = self.policy_document {
            let unreadable = || Fault::invalid("cannot parse policy document: it is no JSON");
            role.policy_document = if sent.is_empty() { sent } else { compact(&sent).ok_or_else(unreadable)? };
        }
        change(&mut role.role_arns, self.role_arns);
        change(&mut role.policy_arns, self.policy_arns);
        change(&mut role.iam_groups, self.iam_groups);
        role.iam_tags = self.iam_tags.unwrap_or_else(|| std::mem::take(&mut role.iam_tags));
        role.session_tags = self.session_tags.unwrap_or_else(|| std::mem::take(&mut role.session_tags));
        role.default_sts_ttl = self.default_sts_ttl.map_or(role.default_sts_ttl, |sent| sent.0);
        role.max_sts_ttl = self.max_sts_ttl.map_or(role.max_sts_ttl, |sent| sent.0);
        for (place, sent) in [
            (&mut role.permissions_boundary_arn, self.permissions_boundary_arn),
            (&mut role.user_path, self.user_path),
            (&mut role.external_id, self.external_id),
            (&mut role.mfa_serial_number, self.mfa_serial_number),
        ] {
            if let Some(sent) = sent {
                *place = sent;
            }
        }
        Ok(())
    }
}

/// A role.
#[derive(Output)]
pub(crate) struct Shown {
    /// Which kind of keys; two with a comma for a policy that was written in the old way.
    credential_type: String,
    /// Roles of AWS that may be assumed.
    role_arns: Vec<String>,
    /// Managed policies.
    policy_arns: Vec<String>,
    /// The policy.
    policy_document: String,
    /// Groups.
    iam_groups: Vec<String>,
    /// Tags of users.
    iam_tags: BTreeMap<String, String>,
    /// How long keys that end by themselves live when nothing is asked for.
    default_sts_ttl: Duration,
    /// How long they live at most.
    max_sts_ttl: Duration,
    /// The policy that bounds what users may.
    permissions_boundary_arn: String,
    /// The path of users.
    user_path: String,
    /// Tags of sessions.
    session_tags: BTreeMap<String, String>,
    /// What a role of another account wants to hear.
    external_id: String,
    /// The second factor of the configured user.
    mfa_serial_number: String,
}

pub(crate) async fn list(_engine: &Aws, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names(ROLES, input.after.as_deref(), input.limit.0)?))
}

pub(crate) async fn read(_engine: &Aws, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let role = Role::load(&mut cx.view, &input.name)?;
    Ok(role.map(|role| {
        let types: Vec<&str> = role.credential_types.iter().map(|one| one.as_str()).collect();
        Data(Shown {
            credential_type: types.join(","),
            role_arns: role.role_arns,
            policy_arns: role.policy_arns,
            policy_document: role.policy_document,
            iam_groups: role.iam_groups,
            iam_tags: role.iam_tags,
            default_sts_ttl: role.default_sts_ttl,
            max_sts_ttl: role.max_sts_ttl,
            permissions_boundary_arn: role.permissions_boundary_arn,
            user_path: role.user_path,
            session_tags: role.session_tags,
            external_id: role.external_id,
            mfa_serial_number: role.mfa_serial_number,
        })
    }))
}

pub(crate) async fn write(_engine: &Aws, mut cx: Cx<'_>, input: Write) -> Result<Warned<Nothing>, Fault> {
    if !is_name(&input.name) {
        return Err(Fault::invalid("invalid role name"));
    }
    let name = input.name.clone();
    let is_new = Role::load(&mut cx.view, &name)?.is_none();
    let mut warnings = Vec::new();
    let role = if let Some(text) = input.old_way()? {
        let old = "Detected use of legacy role or policy parameter. Please upgrade to use the new parameters.";
        warnings.push(old.to_owned());
        let unreadable = || Fault::invalid("unable to parse supplied data: it is neither a policy nor the ARN of one");
        written_in_the_old_way(text).ok_or_else(unreadable)?
    } else {
        let mut role = Role::load(&mut cx.view, &name)?.unwrap_or_else(Role::blank);
        input.onto(&mut role)?;
        role
    };
    let contradictions = role.contradictions();
    if !contradictions.is_empty() {
        let text = contradictions.join("; ");
        return Err(Fault::invalid(format!("error(s) validating supplied role data: {text:?}")));
    }
    cx.view.write(&format!("{ROLES}{name}"), &role.encode())?;
    let kind = if is_new { "aws/role-create" } else { "aws/role-update" };
    cx.view.tell(|| Happened::named(kind, "roles", &name));
    Ok(Warned(Nothing, warnings))
}

pub(crate) async fn delete(_engine: &Aws, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let place = format!("{ROLES}{}", input.name);
    if is_name(&input.name) && cx.view.read(&place)?.is_some() {
        cx.view.delete(&place)?;
        cx.view.tell(|| Happened::named("aws/role-delete", "roles", &input.name));
    }
    Ok(Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_users_are_between_slashes() {
        for good in ["/", "/a/", "/a/b/", "//"] {
            assert!(is_user_path(good), "{good}");
        }
        for bad in ["", "a", "/a", "a/", "/a b/", "/ü/"] {
            assert!(!is_user_path(bad), "{bad}");
        }
    }

    #[test]
    fn a_document_loses_its_blanks_and_nothing_else() {
        let written = "{ \"b\" : [ 1 , \"x \\\" y\\\\\" ] ,\n \"a\":\tnull }";
        assert_eq!(compact(written).as_deref(), Some("{\"b\":[1,\"x \\\" y\\\\\"],\"a\":null}"));
        assert_eq!(compact("{"), None);
    }

    #[test]
    fn what_was_written_in_the_old_way_says_its_kind() {
        let types = |text| written_in_the_old_way(text).map(|role| role.credential_types.len());
        assert_eq!(types("arn:aws:iam::123456789012:role/x"), Some(1));
        assert_eq!(types("arn:aws:iam::aws:policy/ReadOnlyAccess"), Some(1));
        assert_eq!(types(r#"{ "Version": "2012-10-17", "Statement": [] }"#), Some(2));
        for wrong in ["arn:aws:iam::123456789012:user/x", "arn:aws", "no JSON"] {
            assert_eq!(types(wrong), None, "{wrong}");
        }
    }
}
