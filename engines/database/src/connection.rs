//! Connections as they are stored, and the servers that they lead to while this engine lives.
//!
//! A connection has an id for the server and account that it reaches. Who writes another URL or user under its name gives it
//! another id; the former one is *retired*: nobody sees it, and it goes when the last account that it made is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tresor_credential::{Rotation, Timing};
use tresor_engine::View;
use tresor_model::{Body, Fault, Map, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretString;

use crate::Doors;
use crate::plugins::Plugin;
use crate::settings;
use crate::target::Target;

/// How many passwords of one account are remembered.
pub(crate) const PASSWORDS_MAX: usize = 4;

/// A connection as it is stored.
#[derive(Record)]
#[record(kind = "database-connection", version = 3, previous = ConnectionV2)]
pub(crate) struct Connection {
    /// What it is called, or was.
    pub(crate) name: String,
    /// For which server and account.
    pub(crate) id: String,
    /// Another number with each change.
    pub(crate) revision: u64,
    /// The kind of server.
    pub(crate) plugin_name: String,
    pub(crate) plugin_version: String,
    pub(crate) allowed_roles: Vec<String>,
    pub(crate) root_rotation_statements: Vec<String>,
    pub(crate) password_policy: String,
    /// What else was sent, without secrets.
    pub(crate) details: Map,
    /// What else was sent and is never shown, such as `private_key`.
    pub(crate) secrets: BTreeMap<String, SecretString>,
    /// By which it is let in: the one that counts, then those that may count (a rotation that nobody knows the end of), then
    /// former ones.
    pub(crate) passwords: Vec<SecretString>,
    /// Whether the end of a rotation is not known.
    pub(crate) is_in_doubt: bool,
    /// When the password is rotated by itself.
    pub(crate) timing: Timing,
    /// Whether it is not, whatever that says.
    pub(crate) is_rotation_disabled: bool,
    /// From when on the time until the next rotation counts: the last one, or when that was configured.
    pub(crate) counts_since: Option<Timestamp>,
}

/// A connection when its password was rotated by order alone.
#[derive(Record)]
#[record(kind = "database-connection", version = 2, previous = ConnectionV1)]
struct ConnectionV2 {
    name: String,
    id: String,
    revision: u64,
    plugin_name: String,
    plugin_version: String,
    allowed_roles: Vec<String>,
    root_rotation_statements: Vec<String>,
    password_policy: String,
    details: Map,
    secrets: BTreeMap<String, SecretString>,
    passwords: Vec<SecretString>,
    is_in_doubt: bool,
}

impl From<ConnectionV2> for Connection {
    fn from(older: ConnectionV2) -> Self {
        Self {
            name: older.name,
            id: older.id,
            revision: older.revision,
            plugin_name: older.plugin_name,
            plugin_version: older.plugin_version,
            allowed_roles: older.allowed_roles,
            root_rotation_statements: older.root_rotation_statements,
            password_policy: older.password_policy,
            details: older.details,
            secrets: older.secrets,
            passwords: older.passwords,
            is_in_doubt: older.is_in_doubt,
            timing: Timing::default(),
            is_rotation_disabled: false,
            counts_since: None,
        }
    }
}

/// A connection when there was one secret beside the passwords.
#[derive(Record)]
#[record(kind = "database-connection", version = 1)]
struct ConnectionV1 {
    name: String,
    id: String,
    revision: u64,
    plugin_name: String,
    plugin_version: String,
    allowed_roles: Vec<String>,
    root_rotation_statements: Vec<String>,
    password_policy: String,
    details: Map,
    private_key: Option<SecretString>,
    passwords: Vec<SecretString>,
    is_in_doubt: bool,
}

impl From<ConnectionV1> for ConnectionV2 {
    fn from(older: ConnectionV1) -> Self {
        Self {
            name: older.name,
            id: older.id,
            revision: older.revision,
            plugin_name: older.plugin_name,
            plugin_version: older.plugin_version,
            allowed_roles: older.allowed_roles,
            root_rotation_statements: older.root_rotation_statements,
            password_policy: older.password_policy,
            details: older.details,
            secrets: older.private_key.into_iter().map(|key| ("private_key".to_owned(), key)).collect(),
            passwords: older.passwords,
            is_in_doubt: older.is_in_doubt,
        }
    }
}

impl Connection {
    /// What is asked of the server waits under this name: that of a connection, and of which server and account, since what a
    /// former one does not answer is to keep nothing waiting of the one that counts.
    pub(crate) fn target(&self) -> String {
        format!("{}#{}", self.name, self.id.get(..8).unwrap_or(&self.id))
    }

    /// One of this name that says nothing.
    pub(crate) fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: String::new(),
            revision: 0,
            plugin_name: String::new(),
            plugin_version: String::new(),
            allowed_roles: Vec::new(),
            root_rotation_statements: Vec::new(),
            password_policy: String::new(),
            details: Map::new(),
            secrets: BTreeMap::new(),
            passwords: Vec::new(),
            is_in_doubt: false,
            timing: Timing::default(),
            is_rotation_disabled: false,
            counts_since: None,
        }
    }

    /// What kind of server it leads to.
    pub(crate) fn plugin(&self) -> Result<&'static Plugin, Fault> {
        Plugin::named(&self.plugin_name).map_err(Fault::invalid)
    }

    /// When its password is rotated by itself; `None` is never.
    pub(crate) fn rotation(&self) -> Result<Option<Rotation>, Fault> {
        let rotation = self.timing.rotation().map_err(Fault::internal)?;
        Ok(rotation.filter(|_| !self.is_rotation_disabled))
    }

    /// The one that has this name.
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        Self::at(view, &format!("config/{name}"))
    }

    /// The one that has this name; there must be one.
    pub(crate) fn named(view: &mut View<'_>, name: &str) -> Result<Self, Fault> {
        let missing = || Fault::invalid(format!("failed to find entry for connection with name: \"{name}\""));
        Self::load(view, name)?.ok_or_else(missing)
    }

    /// The one that made an account, whatever became of its name; with it the passwords of its successor, which may be the
    /// same account at the same server.
    pub(crate) fn of_account(view: &mut View<'_>, name: &str, id: &str) -> Result<Option<(Self, IsRetired)>, Fault> {
        let current = Self::load(view, name)?;
        match current {
            Some(current) if current.id == id => Ok(Some((current, IsRetired::No))),
            current => {
                let Some(mut retired) = Self::at(view, &retired_name(id))? else { return Ok(None) };
                if let Some(current) = current {
                    retired.passwords.extend(current.passwords);
                    // With those of its successor it is opened anew.
                    retired.revision = retired.revision.wrapping_add(current.revision << 32);
                }
                Ok(Some((retired, IsRetired::Yes)))
            }
        }
    }

    /// The one that has the name of this former one now, if it leads to the same server as another user.
    pub(crate) fn successor(&self, view: &mut View<'_>) -> Result<Option<Self>, Fault> {
        Ok(Self::load(view, &self.name)?.filter(|current| self.is_at_server_of(current)))
    }

    /// Whether both lead to the same server, as whomever.
    pub(crate) fn is_at_server_of(&self, other: &Self) -> bool {
        let Ok(plugin) = self.plugin() else { return false };
        self.plugin_name == other.plugin_name
            && plugin.reaches.iter().filter(|key| **key != "username").all(|key| self.says_as(other, key))
    }

    /// Whether both say the same here, but for who is named in a URL.
    fn says_as(&self, other: &Self, key: &str) -> bool {
        let (own, others) = (self.details.get(key), other.details.get(key));
        let place = |body: Option<&Body>| body.and_then(Body::as_str).and_then(settings::without_user);
        own == others || place(own).is_some_and(|own| place(others).is_some_and(|others| own == others))
    }

    fn at(view: &mut View<'_>, place: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(place)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    pub(crate) fn store(&self, view: &mut View<'_>) -> Result<(), Fault> {
        view.write(&format!("config/{}", self.name), &self.encode())
    }

    /// Hides it, if there is an account that needs it; its name is another's, or nobody's, from then on.
    pub(crate) fn retire(&self, view: &mut View<'_>) -> Result<(), Fault> {
        if has_accounts(view, &self.id)? { view.write(&retired_name(&self.id), &self.encode()) } else { Ok(()) }
    }

    /// Whether a role may be used with it.
    pub(crate) fn allows(&self, role: &str) -> Result<(), Fault> {
        let is_allowed = self.allowed_roles.iter().any(|pattern| matches_glob(pattern, role));
        if is_allowed { Ok(()) } else { Err(Fault::invalid(format!("\"{role}\" is not an allowed role"))) }
    }

    /// Puts a password first; whether it was that before.
    pub(crate) fn promote(&mut self, password: &SecretString) -> bool {
        self.is_in_doubt = false;
        self.revision += 1;
        promote(&mut self.passwords, password)
    }
}

/// Puts a password before all others, of which only so many are remembered; whether it was the first before.
pub(crate) fn promote(passwords: &mut Vec<SecretString>, password: &SecretString) -> bool {
    let is_it = |one: &SecretString| one.expose() == password.expose();
    let was_first = passwords.first().is_some_and(is_it);
    passwords.retain(|one| !is_it(one));
    passwords.insert(0, copied(password));
    passwords.truncate(PASSWORDS_MAX);
    was_first
}

/// Puts a password after all others, if it is not known and there is room.
pub(crate) fn remember(passwords: &mut Vec<SecretString>, password: &SecretString) {
    let is_known = passwords.iter().any(|one| one.expose() == password.expose());
    if !is_known && passwords.len() < PASSWORDS_MAX {
        passwords.push(copied(password));
    }
}

/// A copy of a secret.
pub(crate) fn copied(secret: &SecretString) -> SecretString {
    SecretString::new(secret.expose().clone())
}

/// Whether a connection has lost its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsRetired {
    No,
    Yes,
}

fn retired_name(id: &str) -> String {
    format!("retired/{id}")
}

/// Where an account that was made is noted, below its connection.
pub(crate) fn account_name(id: &str, number: &str) -> String {
    format!("live/{id}/{number}")
}

fn has_accounts(view: &mut View<'_>, id: &str) -> Result<bool, Fault> {
    Ok(!view.list(&format!("live/{id}/"), None, 1)?.is_empty())
}

/// Forgets a retired connection once its last account is gone.
pub(crate) fn forget_if_unused(view: &mut View<'_>, id: &str) -> Result<bool, Fault> {
    if has_accounts(view, id)? {
        return Ok(false);
    }
    view.delete(&retired_name(id)).map(|()| true)
}

/// `*` stands for anything, at the front, in the middle or at the end.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The servers that are open, by the ids of their connections. One of an older revision is closed when it is met.
#[derive(Default)]
pub(crate) struct Targets(Mutex<BTreeMap<String, (u64, Arc<Target>)>>);

impl Targets {
    fn open(&self) -> MutexGuard<'_, BTreeMap<String, (u64, Arc<Target>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of a connection.
    pub(crate) fn of(&self, connection: &Connection, doors: Doors) -> Result<Arc<Target>, Fault> {
        let mut open = self.open();
        if let Some((revision, target)) = open.get(&connection.id)
            && *revision == connection.revision
        {
            return Ok(Arc::clone(target));
        }
        let target = (connection.plugin()?.target)(connection, doors).map_err(Fault::invalid)?;
        let target = Arc::new(target);
        open.insert(connection.id.clone(), (connection.revision, Arc::clone(&target)));
        Ok(target)
    }

    /// Closes what is open to a server, once those who use it are done.
    pub(crate) fn close(&self, id: &str) {
        self.open().remove(id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing step ends the test")]
    use super::*;

    #[test]
    fn a_connection_of_before_keeps_its_passwords_and_its_key() {
        let read = |private_key: Option<&str>| {
            let older = ConnectionV1 {
                name: "c".to_owned(),
                id: "i".to_owned(),
                revision: 3,
                plugin_name: "postgresql-database-plugin".to_owned(),
                plugin_version: String::new(),
                allowed_roles: vec!["*".to_owned()],
                root_rotation_statements: Vec::new(),
                password_policy: "p".to_owned(),
                details: Map::new(),
                private_key: private_key.map(|key| SecretString::new(key.to_owned())),
                passwords: vec![SecretString::new("now".to_owned()), SecretString::new("before".to_owned())],
                is_in_doubt: true,
            };
            Connection::decode(&older.encode()).unwrap()
        };
        let read_back = read(Some("key"));
        let passwords: Vec<&str> = read_back.passwords.iter().map(|password| password.expose().as_str()).collect();
        assert_eq!(passwords, ["now", "before"]);
        assert_eq!((read_back.id.as_str(), read_back.revision, read_back.is_in_doubt), ("i", 3, true));
        let secrets: Vec<(&str, &str)> =
            read_back.secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose().as_str())).collect();
        assert_eq!(secrets, [("private_key", "key")]);
        assert!(read(None).secrets.is_empty());
        assert_eq!(read_back.rotation().unwrap(), None);
    }

    #[test]
    fn roles_are_allowed_by_name_or_pattern() {
        for (pattern, name, matches) in [
            ("*", "any", true),
            ("my-*", "my-role", true),
            ("my-*", "your-role", false),
            ("*-role", "my-role", true),
            ("*-role", "my-roles", false),
            ("m*-r*e", "my-role", true),
            ("m*x*e", "my-role", false),
            ("role", "role", true),
            ("role", "roles", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_glob(pattern, name), matches, "{pattern} {name}");
        }
    }
}
