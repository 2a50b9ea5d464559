//! `roles/NAME`: what accounts are made like.

use std::collections::BTreeMap;
use std::time::Duration;

use tresor_credential::Template;
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View};
use tresor_model::{Fault, Map};
use tresor_record::Record;
use tresor_secret::SecretString;
use tresor_wire::input::{Input, Limit, PathParameters, Seconds, StringList};
use tresor_wire::output::Output;

use crate::certificate::{CertificateError, FIELDS, KEY_FIELD, Maker};
use crate::config::ByName;
use crate::connection::Connection;
use crate::plugins::Plugin;
use crate::statements::are_blank;
use crate::{Database, checked_name, settings};

/// What roles call a password, a key of which the server is told the public half, and a certificate.
pub(crate) const PASSWORD: &str = "password";
const RSA_PRIVATE_KEY: &str = "rsa_private_key";
pub(crate) const CLIENT_CERTIFICATE: &str = "client_certificate";

/// A role as it is stored.
#[derive(Record, Default)]
#[record(kind = "database-role", version = 2, previous = RoleV1)]
pub(crate) struct Role {
    pub(crate) db_name: String,
    pub(crate) creation: Vec<String>,
    pub(crate) revocation: Vec<String>,
    pub(crate) rollback: Vec<String>,
    pub(crate) renewal: Vec<String>,
    pub(crate) default_ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) credential: Credential,
    /// What certificates are signed with. Never shown.
    authority_key: Option<SecretString>,
}

/// A role when accounts were let in by passwords alone.
#[derive(Record)]
#[record(kind = "database-role", version = 1)]
struct RoleV1 {
    db_name: String,
    creation: Vec<String>,
    revocation: Vec<String>,
    rollback: Vec<String>,
    renewal: Vec<String>,
    default_ttl: Duration,
    max_ttl: Duration,
    credential: Credential,
}

impl From<RoleV1> for Role {
    fn from(older: RoleV1) -> Self {
        Self {
            db_name: older.db_name,
            creation: older.creation,
            revocation: older.revocation,
            rollback: older.rollback,
            renewal: older.renewal,
            default_ttl: older.default_ttl,
            max_ttl: older.max_ttl,
            credential: older.credential,
            authority_key: None,
        }
    }
}

/// What accounts are let in by.
#[derive(tresor_record::Part, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credential {
    /// `password`, `rsa_private_key` or `client_certificate`; empty is the first.
    kind: String,
    /// What that is made like.
    config: BTreeMap<String, String>,
}

/// What is sent of it.
#[derive(Input)]
pub(crate) struct CredentialFields {
    /// What accounts are let in by: `password`, `rsa_private_key` or `client_certificate`, where the server has it.
    credential_type: Option<String>,
    /// What that is made like, such as `password_policy`.
    credential_config: Option<BTreeMap<String, String>>,
}

/// What is shown of it.
#[derive(Output)]
pub(crate) struct CredentialShown {
    /// What accounts are let in by.
    credential_type: String,
    /// What that is made like.
    #[output(optional)]
    credential_config: Option<Map>,
}

impl Credential {
    fn kind(&self) -> &str {
        if self.kind.is_empty() { PASSWORD } else { &self.kind }
    }

    /// How accounts are called, where the certificates say it.
    pub(crate) fn names(&self) -> Option<&str> {
        self.config.get("common_name_template").map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a kind of server takes it.
    pub(crate) fn is_taken_by(&self, plugin: &Plugin) -> Result<(), Fault> {
        if plugin.credentials.contains(&self.kind()) {
            return Ok(());
        }
        let taken = plugin.credentials.join("`, `");
        let kind = self.kind();
        Err(Fault::invalid(format!("unsupported credential_type: \"{kind}\": this kind of database takes `{taken}`")))
    }

    /// Takes what was sent; what is not sent stays, and so does the key of who signs certificates.
    pub(crate) fn change(
        &mut self,
        sent: CredentialFields,
        authority_key: &mut Option<SecretString>,
    ) -> Result<(), Fault> {
        if let Some(kind) = sent.credential_type.filter(|kind| !kind.is_empty()) {
            if !matches!(kind.as_str(), PASSWORD | RSA_PRIVATE_KEY | CLIENT_CERTIFICATE) {
                return Err(Fault::invalid(format!("invalid credential_type \"{kind}\"")));
            }
            if kind != self.kind() {
                self.config.clear();
                *authority_key = None;
            }
            self.kind = kind;
        }
        let Some(mut config) = sent.credential_config else { return Ok(()) };
        let keys: &[&str] = match self.kind() {
            PASSWORD => &["password_policy"],
            RSA_PRIVATE_KEY => &["key_bits", "format"],
            _ => {
                let sent = config.remove(KEY_FIELD).filter(|key| !key.is_empty());
                *authority_key = sent.map(SecretString::new).or(authority_key.take());
                FIELDS
            }
        };
        if let Some(key) = config.keys().find(|key| !keys.contains(&key.as_str())) {
            return Err(Fault::invalid(format!("credential_config validation failed: unknown key `{key}`")));
        }
        self.config = config;
        Ok(())
    }

    pub(crate) fn show(self) -> CredentialShown {
        let config = self.config.iter().fold(Map::new(), |map, (key, value)| map.with(key, value.as_str()));
        CredentialShown {
            credential_type: self.kind().to_owned(),
            credential_config: (!config.is_empty()).then_some(config),
        }
    }

    /// The policy of the passwords, when it is passwords.
    pub(crate) fn password_policy(&self, of_connection: &str) -> Result<String, Fault> {
        if self.kind() != PASSWORD {
            return Err(Fault::invalid(format!("unsupported credential_type: \"{}\"", self.kind())));
        }
        let own = self.config.get("password_policy").filter(|policy| !policy.is_empty());
        Ok(own.map_or(of_connection, String::as_str).to_owned())
    }
}

/// Which names of a listing are asked for.
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
    /// The name.
    #[input(path)]
    name: String,
    /// The connection.
    db_name: Option<String>,
    /// What makes an account; `{{name}}`, `{{password}}` and `{{expiration}}` are put in.
    creation_statements: Option<StringList>,
    /// What takes it away; without any, the usual.
    revocation_statements: Option<StringList>,
    /// What undoes a creation that failed, where the server does not by itself.
    rollback_statements: Option<StringList>,
    /// What lets it live longer; without any, the usual.
    renew_statements: Option<StringList>,
    /// How long an account lives; zero takes the mount's.
    default_ttl: Option<Seconds>,
    /// How long with all renewals; zero takes the mount's.
    max_ttl: Option<Seconds>,
    /// What accounts are let in by.
    #[input(flatten)]
    credential: CredentialFields,
}

/// What is shown of a role.
#[derive(Output)]
pub(crate) struct Shown {
    /// The connection.
    db_name: String,
    /// What makes an account.
    creation_statements: Vec<String>,
    /// What takes it away.
    revocation_statements: Vec<String>,
    /// What undoes a creation that failed.
    rollback_statements: Vec<String>,
    /// What lets it live longer.
    renew_statements: Vec<String>,
    /// How long an account lives.
    default_ttl: Duration,
    /// How long with all renewals.
    max_ttl: Duration,
    /// What accounts are let in by.
    #[output(flatten)]
    credential: CredentialShown,
}

impl Role {
    /// What makes the certificates that accounts are let in by, where it is those.
    pub(crate) fn certificates(&self) -> Result<Option<Maker>, Fault> {
        let is_those = self.credential.kind() == CLIENT_CERTIFICATE;
        is_those.then(|| Maker::of(&self.credential.config, self.authority_key.as_ref())).transpose().map_err(invalid)
    }

    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(&place(name))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }
}

fn invalid(error: CertificateError) -> Fault {
    Fault::invalid(format!("credential_config validation failed: {error}"))
}

fn place(name: &str) -> String {
    format!("role/{name}")
}

pub(crate) fn exists(_engine: &Database, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    is_there(&mut cx.view, parameters.get("name").map_or("", String::as_str))
}

/// Whether there is a role of this name.
pub(crate) fn is_there(view: &mut View<'_>, name: &str) -> Result<bool, Fault> {
    view.contains(&place(checked_name(name)?))
}

pub(crate) async fn list(_engine: &Database, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names("role/", input.after.as_deref(), input.limit.0)?))
}

pub(crate) async fn read(_engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let found = Role::load(&mut cx.view, checked_name(&input.name)?)?;
    Ok(found.map(|role| {
        Data(Shown {
            db_name: role.db_name,
            creation_statements: role.creation,
            revocation_statements: role.revocation,
            rollback_statements: role.rollback,
            renew_statements: role.renewal,
            default_ttl: role.default_ttl,
            max_ttl: role.max_ttl,
            credential: role.credential.show(),
        })
    }))
}

pub(crate) async fn write(_engine: &Database, mut cx: Cx<'_>, input: Write) -> Result<Nothing, Fault> {
    let name = checked_name(&input.name)?;
    if crate::static_roles::is_there(&mut cx.view, name)? {
        return Err(Fault::invalid("Role and Static Role names must be unique"));
    }
    let known = Role::load(&mut cx.view, name)?;
    let kind = if known.is_some() { "database/role-update" } else { "database/role-create" };
    let mut role = known.unwrap_or_default();
    role.db_name = input.db_name.unwrap_or(role.db_name);
    if role.db_name.is_empty() {
        return Err(Fault::invalid("database name is required"));
    }
    let sent = [
        (&mut role.creation, input.creation_statements),
        (&mut role.revocation, input.revocation_statements),
        (&mut role.rollback, input.rollback_statements),
        (&mut role.renewal, input.renew_statements),
    ];
    for (statements, sent) in sent {
        if let Some(sent) = sent {
            // Those that say nothing mean the usual ones, and are shown as that (TOK-11).
            *statements = if are_blank(&sent.0) { Vec::new() } else { sent.0 };
        }
    }
    role.default_ttl = input.default_ttl.map_or(role.default_ttl, |ttl| ttl.0);
    role.max_ttl = input.max_ttl.map_or(role.max_ttl, |ttl| ttl.0);
    if !role.max_ttl.is_zero() && role.default_ttl > role.max_ttl {
        return Err(Fault::invalid("default_ttl must not be longer than max_ttl"));
    }
    role.credential.change(input.credential, &mut role.authority_key)?;
    if let Some(connection) = Connection::load(&mut cx.view, &role.db_name)? {
        role.credential.is_taken_by(connection.plugin()?)?;
    }
    if let Some(certificates) = role.certificates()? {
        certificates.check(cx.now).map_err(invalid)?;
    }
    if let Some(names) = role.credential.names() {
        Template::parse(names, settings::FIELDS)
            .map_err(|error| Fault::invalid(format!("invalid common_name_template: {error}")))?;
    }
    cx.view.write(&place(name), &role.encode())?;
    cx.view.tell(|| Happened::named(kind, "roles", name));
    Ok(Nothing)
}

pub(crate) async fn delete(_engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    if is_there(&mut cx.view, &input.name)? {
        cx.view.delete(&place(&input.name))?;
        cx.view.tell(|| Happened::named("database/role-delete", "roles", &input.name));
    }
    Ok(Nothing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    #[test]
    fn a_role_of_before_lets_in_by_passwords() {
        let older = RoleV1 {
            db_name: "db".to_owned(),
            creation: vec!["CREATE".to_owned()],
            revocation: Vec::new(),
            rollback: Vec::new(),
            renewal: vec!["RENEW".to_owned()],
            default_ttl: Duration::from_secs(60),
            max_ttl: Duration::ZERO,
            credential: Credential::default(),
        };
        let read = Role::decode(&older.encode()).unwrap();
        assert_eq!((read.db_name.as_str(), read.default_ttl), ("db", Duration::from_secs(60)));
        assert_eq!((read.creation, read.renewal), (vec!["CREATE".to_owned()], vec!["RENEW".to_owned()]));
        assert_eq!(read.credential.kind(), PASSWORD);
        assert!(read.authority_key.is_none());
    }
}
