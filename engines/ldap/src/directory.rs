//! What the engine asks a directory: whose entry it is, that it gets a password, and whether one can log in with that.
//!
//! Deliberately absent: what is stored, and any password in an error.

use tresor_directory::{Connection, Dialer, DirectoryError, Filter, Modification, Scope, Verb};
use tresor_engine::outside::Failed;
use tresor_model::Fault;
use tresor_secret::{SecretString, Wiped};

use crate::config::Schema;
use crate::ldif::{Change, Deed};

/// Whom the engine is at the directory.
pub(crate) struct Manager {
    /// The name that it binds as.
    pub(crate) name: String,
    /// Its password, and those that it may have instead.
    pub(crate) passwords: Vec<SecretString>,
}

/// A directory, as it is configured.
pub(crate) struct Directory {
    pub(crate) dialer: Dialer,
    pub(crate) manager: Manager,
    /// Whether that is the very account whose password is changed.
    pub(crate) acts_as_itself: bool,
    /// Below which entry accounts are looked for.
    pub(crate) base: String,
    /// The attribute that names an account.
    pub(crate) user_attribute: String,
    pub(crate) upn_domain: String,
    pub(crate) schema: Schema,
}

/// What Active Directory says of who has the right password, and may not log in for another reason: not here, not now, the
/// password has expired or is to be changed, the account is disabled or has expired.
const RIGHT_PASSWORD: &[&str] = &["data 530", "data 531", "data 532", "data 533", "data 701", "data 773"];

impl Directory {
    /// A connection on which the engine may act.
    pub(crate) async fn open(&self) -> Result<Connection, DirectoryError> {
        self.open_by().await.map(|(connection, _)| connection)
    }

    /// The same, and by which password.
    pub(crate) async fn open_by(&self) -> Result<(Connection, &SecretString), DirectoryError> {
        let mut connection = self.dialer.connect().await?;
        let mut last = DirectoryError::NoPassword;
        for password in &self.manager.passwords {
            match connection.bind(&self.manager.name, password).await {
                Ok(()) => return Ok((connection, password)),
                Err(error) if error.is_wrong_password() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The entry of an account: by its distinguished name, or by the attribute that names it.
    pub(crate) async fn find(
        &self,
        connection: &mut Connection,
        name: &str,
        user: &str,
    ) -> Result<String, DirectoryError> {
        let (base, scope, filter) = if name.is_empty() {
            (self.base.as_str(), Scope::Subtree, Filter::Equal(self.user_attribute.clone(), self.value_of(user)))
        } else {
            (name, Scope::Base, Filter::any())
        };
        let mut found = connection.search(base, scope, &filter, &[]).await?;
        match (found.pop(), found.len()) {
            (Some(entry), 0) => Ok(entry.name),
            (entry, more) => {
                let count = more + usize::from(entry.is_some());
                Err(DirectoryError::Settings(format!("expected one matching entry, but received {count}")))
            }
        }
    }

    /// The engine's own entry.
    pub(crate) async fn find_manager(&self, connection: &mut Connection) -> Result<String, DirectoryError> {
        if self.manager.name.contains('=') {
            return self.find(connection, &self.manager.name, "").await;
        }
        let attribute =
            if self.manager.name.contains('@') { "userPrincipalName" } else { self.user_attribute.as_str() };
        let filter = Filter::Equal(attribute.to_owned(), self.manager.name.clone());
        let mut found = connection.search(&self.base, Scope::Subtree, &filter, &[]).await?;
        match (found.pop(), found.is_empty()) {
            (Some(entry), true) => Ok(entry.name),
            _ => Err(DirectoryError::Settings("the entry of binddn is not found below userdn".to_owned())),
        }
    }

    /// What the naming attribute has of an account.
    fn value_of(&self, user: &str) -> String {
        let is_principal = self.user_attribute.eq_ignore_ascii_case("userPrincipalName");
        if is_principal && !self.upn_domain.is_empty() && !user.contains('@') {
            format!("{user}@{}", self.upn_domain)
        } else {
            user.to_owned()
        }
    }

    /// Gives an entry another password; where it does so itself, in the place of the one that let it in.
    async fn set_password(
        &self,
        connection: &mut Connection,
        entry: &str,
        password: &SecretString,
        own: Option<&SecretString>,
    ) -> Result<(), DirectoryError> {
        let change =
            |verb, attribute: &str, value| Modification { verb, attribute: attribute.to_owned(), values: vec![value] };
        let replace = |attribute: &str, value: Wiped<Vec<u8>>| change(Verb::Replace, attribute, value);
        let quoted = |password: &SecretString| quoted_utf16(password.expose());
        let plain = || Wiped::new(password.expose().as_bytes().to_vec());
        let no_expiry = || replace("racfAttributes", Wiped::new(b"noexpired".to_vec()));
        let changes = match self.schema {
            Schema::OpenLdap => vec![replace("userPassword", plain())],
            // Replacing is a right over others; who knows the password takes it away and adds another.
            Schema::ActiveDirectory => match own {
                Some(own) => vec![
                    change(Verb::Delete, "unicodePwd", quoted(own)),
                    change(Verb::Add, "unicodePwd", quoted(password)),
                ],
                None => vec![replace("unicodePwd", quoted(password))],
            },
            Schema::RacfPassword => vec![replace("racfPassword", plain()), no_expiry()],
            Schema::RacfPhrase => vec![replace("racfPassPhrase", plain()), no_expiry()],
        };
        connection.modify(entry, &changes).await
    }

    /// Whether an entry's password is this one. A directory that refuses the account for another reason than its password has
    /// nothing against that.
    pub(crate) async fn is_password(&self, entry: &str, password: &SecretString) -> Result<bool, DirectoryError> {
        match self.dialer.connect().await?.bind(entry, password).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_wrong_password() => {
                let text = error.to_string();
                Ok(RIGHT_PASSWORD.iter().any(|code| text.contains(code)))
            }
            Err(error) if error.is_refusal() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Gives an entry a password and logs in with it. In doubt whether it has it already, a refusal may be because of that: a
    /// directory can want passwords that were not used before.
    pub(crate) async fn rotate(
        &self,
        connection: &mut Connection,
        entry: &str,
        password: &SecretString,
        own: Option<&SecretString>,
        is_in_doubt: bool,
    ) -> Result<(), DirectoryError> {
        if let Err(error) = self.set_password(connection, entry, password, own).await {
            let has_it = is_in_doubt && error.is_refusal() && self.is_password(entry, password).await.unwrap_or(false);
            return if has_it { Ok(()) } else { Err(error) };
        }
        // From here on it has it, so nothing that goes wrong is as if nothing had been done.
        match self.is_password(entry, password).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(DirectoryError::Nonsense("it took a new password and does not accept it")),
            Err(_) => Err(DirectoryError::Nonsense("it took a new password and could not be asked for it")),
        }
    }
}

/// A password as Active Directory takes it.
fn quoted_utf16(password: &str) -> Wiped<Vec<u8>> {
    let mut bytes = Wiped::new(Vec::with_capacity(password.len() * 2 + 4));
    let mut units = [0_u16; 2];
    for letter in std::iter::once('"').chain(password.chars()).chain(std::iter::once('"')) {
        for unit in letter.encode_utf16(&mut units) {
            bytes.extend_from_slice(&unit.to_le_bytes());
        }
    }
    bytes
}

/// Makes one change.
pub(crate) async fn apply(connection: &mut Connection, change: &Change) -> Result<(), DirectoryError> {
    match &change.deed {
        Deed::Add(attributes) => {
            let pairs: Vec<_> = attributes.iter().map(crate::ldif::Attribute::pair).collect();
            connection.add(&change.name, &pairs).await
        }
        Deed::Modify(steps) => {
            let changes: Vec<_> = steps.iter().map(crate::ldif::Step::modification).collect();
            connection.modify(&change.name, &changes).await
        }
        Deed::Delete => connection.delete(&change.name).await,
    }
}

/// The directory's own words, without any of these secrets.
pub(crate) fn words(context: &str, error: &DirectoryError, secrets: &[&SecretString]) -> String {
    let mut text = error.to_string();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.expose().as_str(), "[password]");
    }
    format!("{context}: {text}")
}

/// What whoever asked is told: that it is the directory which does not answer, so that clients try again, or what it said.
pub(crate) fn told(context: &str, error: &DirectoryError, secrets: &[&SecretString]) -> Fault {
    let text = words(context, error, secrets);
    match error {
        DirectoryError::Unreachable(_)
        | DirectoryError::TooSlow
        | DirectoryError::Broken(_)
        | DirectoryError::Nonsense(_) => Fault::upstream(text),
        DirectoryError::Settings(_) | DirectoryError::Refused(_) | DirectoryError::NoPassword => Fault::invalid(text),
    }
}

/// Why an act failed, when nothing had been changed before.
pub(crate) fn failed_first(context: &str, error: &DirectoryError, secrets: &[&SecretString]) -> Failed {
    let fault = told(context, error, secrets);
    if error.is_in_doubt() { Failed::in_doubt(fault) } else { Failed::nothing_done(fault) }
}

/// Why an act failed in the middle.
pub(crate) fn failed_later(context: &str, error: &DirectoryError, secrets: &[&SecretString]) -> Failed {
    let fault = told(context, error, secrets);
    if error.is_in_doubt() { Failed::in_doubt(fault) } else { Failed::partly_done(fault) }
}

/// What the server is told when the directory lets the engine in no more, or does not answer: it is not any one lease's.
pub(crate) fn unreached(error: &DirectoryError) -> Fault {
    Fault::upstream(error.to_string())
}

/// What the server is told when something cannot be taken back: whether the directory says no to this, or does not answer.
pub(crate) fn not_taken_back(error: &DirectoryError) -> Fault {
    match error {
        DirectoryError::Refused(_) | DirectoryError::Settings(_) => Fault::invalid(error.to_string()),
        other => unreached(other),
    }
}
