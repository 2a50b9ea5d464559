//! What clients ask: one act is one request, and its text on the wire is made here and nowhere else.
//!
//! Deliberately absent: what an act should come to (`model.rs`), and which one comes next (`generate.rs`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Names a token that clients know: the number of the operation that made it; 0 is the root token.
pub(crate) type TokenNumber = usize;

/// What can be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Kv1,
    Kv2,
    Userpass,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Kv1 => "kv-v1",
            Self::Kv2 => "kv-v2",
            Self::Userpass => "userpass",
        }
    }
}

/// One rule over one mount, and always the own cubbyhole and the making of children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PolicyText {
    /// Such as `name/`.
    pub(crate) mount: String,
    pub(crate) capabilities: Vec<&'static str>,
    /// Makes the text recognisable.
    pub(crate) comment: String,
}

impl PolicyText {
    pub(crate) fn text(&self) -> String {
        let Self { mount, capabilities, comment } = self;
        format!(
            "# {comment}\npath \"{mount}*\" {{ capabilities = {capabilities:?} }}\n\
             path \"cubbyhole/*\" {{ capabilities = [\"create\", \"read\", \"update\"] }}\n\
             path \"auth/token/create\" {{ capabilities = [\"update\"] }}\n"
        )
    }
}

/// What one request asks for. Mounts end in a slash; auth mounts are named without `auth/`.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Put1 { mount: String, key: String, value: String },
    Get1 { mount: String, key: String },
    Delete1 { mount: String, key: String },
    List { mount: String, kind: Kind },
    Put2 { mount: String, key: String, value: String, cas: Option<u64> },
    Get2 { mount: String, key: String },
    Delete2 { mount: String, key: String },
    Undelete2 { mount: String, key: String, version: u64 },
    Destroy2 { mount: String, key: String, version: u64 },
    Forget2 { mount: String, key: String },
    PutOwn { key: String, value: String },
    GetOwn { key: String },
    CreateToken { policies: Vec<String>, ttl: u64, explicit: u64, uses: u64 },
    Renew { token: TokenNumber, increment: u64 },
    Revoke { token: TokenNumber },
    RevokeOrphaning { token: TokenNumber },
    Lookup { token: TokenNumber },
    WriteUser { mount: String, user: String, password: String, policies: Vec<String>, ttl: u64 },
    DeleteUser { mount: String, user: String },
    Login { mount: String, user: String, password: String },
    WritePolicy { name: String, policy: PolicyText },
    DeletePolicy { name: String },
    ReadPolicy { name: String },
    Mount { path: String, kind: Kind },
    Unmount { path: String, kind: Kind },
    Tune { path: String, kind: Kind, max: u64 },
    Move { from: String, to: String },
    ListMounts,
    EnableDevice { path: String },
    DisableDevice { path: String },
    ListDevices,
    Seal,
}

/// An act, and whose token it comes with.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) by: TokenNumber,
    pub(crate) act: Act,
}

/// An act as it goes out: method, path below `/v1/`, body.
pub(crate) type Wire = (&'static str, String, Value);

fn class(kind: Kind) -> &'static str {
    if kind == Kind::Userpass { "auth" } else { "mounts" }
}

impl Operation {
    /// The token that goes with it; a login goes without.
    pub(crate) fn token<'t>(&self, tokens: &'t BTreeMap<TokenNumber, String>) -> &'t str {
        if matches!(self.act, Act::Login { .. }) { "" } else { tokens.get(&self.by).map_or("", String::as_str) }
    }

    pub(crate) fn wire(&self, tokens: &BTreeMap<TokenNumber, String>) -> Result<Wire, String> {
        let text = |token: &TokenNumber| json!({ "token": tokens.get(token).map_or("", String::as_str) });
        Ok(match &self.act {
            Act::Put1 { mount, key, value } => ("POST", format!("{mount}{key}"), json!({ "v": value })),
            Act::Get1 { mount, key } => ("GET", format!("{mount}{key}"), Value::Null),
            Act::Delete1 { mount, key } => ("DELETE", format!("{mount}{key}"), Value::Null),
            Act::List { mount, kind: Kind::Kv2 } => ("LIST", format!("{mount}metadata/"), Value::Null),
            Act::List { mount, .. } => ("LIST", mount.clone(), Value::Null),
            Act::Put2 { mount, key, value, cas } => {
                let options = cas.map(|cas| json!({ "cas": cas })).unwrap_or_default();
                ("POST", format!("{mount}data/{key}"), json!({ "data": { "v": value }, "options": options }))
            }
            Act::Get2 { mount, key } => ("GET", format!("{mount}data/{key}"), Value::Null),
            Act::Delete2 { mount, key } => ("DELETE", format!("{mount}data/{key}"), Value::Null),
            Act::Undelete2 { mount, key, version } => {
                ("POST", format!("{mount}undelete/{key}"), json!({ "versions": [version] }))
            }
            Act::Destroy2 { mount, key, version } => {
                ("POST", format!("{mount}destroy/{key}"), json!({ "versions": [version] }))
            }
            Act::Forget2 { mount, key } => ("DELETE", format!("{mount}metadata/{key}"), Value::Null),
            Act::PutOwn { key, value } => ("POST", format!("cubbyhole/{key}"), json!({ "v": value })),
            Act::GetOwn { key } => ("GET", format!("cubbyhole/{key}"), Value::Null),
            Act::CreateToken { policies, ttl, explicit, uses } => {
                let wish = json!({
                    "policies": policies, "no_default_policy": true, "ttl": ttl, "explicit_max_ttl": explicit,
                    "num_uses": uses,
                });
                ("POST", "auth/token/create".to_owned(), wish)
            }
            Act::Renew { token, increment } => {
                let mut body = text(token);
                if let Some(body) = body.as_object_mut() {
                    body.insert("increment".to_owned(), json!(increment));
                }
                ("POST", "auth/token/renew".to_owned(), body)
            }
            Act::Revoke { token } => ("POST", "auth/token/revoke".to_owned(), text(token)),
            Act::RevokeOrphaning { token } => ("POST", "auth/token/revoke-orphan".to_owned(), text(token)),
            Act::Lookup { token } => ("POST", "auth/token/lookup".to_owned(), text(token)),
            Act::WriteUser { mount, user, password, policies, ttl } => {
                let hash = crate::password_hash(password)?;
                let body = json!({ "password_hash": hash, "token_policies": policies, "token_ttl": ttl });
                ("POST", format!("auth/{mount}users/{user}"), body)
            }
            Act::DeleteUser { mount, user } => ("DELETE", format!("auth/{mount}users/{user}"), Value::Null),
            Act::Login { mount, user, password } => {
                ("POST", format!("auth/{mount}login/{user}"), json!({ "password": password }))
            }
            Act::WritePolicy { name, policy } => {
                ("POST", format!("sys/policies/acl/{name}"), json!({ "policy": policy.text() }))
            }
            Act::DeletePolicy { name } => ("DELETE", format!("sys/policies/acl/{name}"), Value::Null),
            Act::ReadPolicy { name } => ("GET", format!("sys/policies/acl/{name}"), Value::Null),
            Act::Mount { path, kind } => {
                ("POST", format!("sys/{}/{path}", class(*kind)), json!({ "type": kind.name() }))
            }
            Act::Unmount { path, kind } => ("DELETE", format!("sys/{}/{path}", class(*kind)), Value::Null),
            Act::Tune { path, kind, max } => {
                ("POST", format!("sys/{}/{path}tune", class(*kind)), json!({ "max_lease_ttl": max.to_string() }))
            }
            Act::Move { from, to } => ("POST", "sys/remount".to_owned(), json!({ "from": from, "to": to })),
            Act::ListMounts => ("GET", "sys/mounts".to_owned(), Value::Null),
            Act::EnableDevice { path } => {
                let options = json!({ "file_path": format!("/audit/{path}.log") });
                ("PUT", format!("sys/audit/{path}"), json!({ "type": "file", "options": options }))
            }
            Act::DisableDevice { path } => ("DELETE", format!("sys/audit/{path}"), Value::Null),
            Act::ListDevices => ("GET", "sys/audit".to_owned(), Value::Null),
            Act::Seal => ("POST", "sys/seal".to_owned(), Value::Null),
        })
    }
}
