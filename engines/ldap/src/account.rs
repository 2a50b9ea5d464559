//! Accounts of a directory that the engine keeps the passwords of, for a static role or for a set of the library.
//!
//! There is one record for each, by its name in one spelling, so no two keepers have the same. A *candidate* is a password that is
//! being given to the account, or perhaps was: it is stored before anybody is asked, and takes the place of the password
//! when one could log in with it. Whoever was never rotated and has a candidate is still being taken over, and is not shown.

use tresor_engine::{Caller, Cx, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::{Part, Record};
use tresor_secret::SecretString;

use crate::config::Config;
use crate::directory::Manager;
use crate::secrets::copy;

/// For whom an account is kept.
#[derive(Part, Clone, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// A static role.
    #[part(tag = 1)]
    Role(String),
    /// A set of the library.
    #[part(tag = 2)]
    Set(String),
}

/// Who has borrowed an account.
#[derive(Part)]
pub(crate) struct Borrower {
    /// What tells their token from all others; empty where nothing does.
    token: String,
    pub(crate) since: Timestamp,
}

impl Borrower {
    pub(crate) fn of(cx: &Cx<'_>) -> Self {
        Self { token: mark_of(&cx.caller), since: cx.now }
    }

    /// Whether it is whoever asks now.
    pub(crate) fn is(&self, caller: &Caller<'_>) -> bool {
        !self.token.is_empty() && self.token == mark_of(caller)
    }

    /// What is shown of them.
    pub(crate) fn shown(&self) -> Option<String> {
        (!self.token.is_empty()).then(|| self.token.clone())
    }
}

/// A digest that says of two requests whether the same token asked.
fn mark_of(caller: &Caller<'_>) -> String {
    let digest = |key: &str| tresor_crypto::hash::to_hex(&tresor_crypto::hash::sha256(key.as_bytes()));
    caller.token_key.map(|key| digest(key).chars().take(40).collect()).unwrap_or_default()
}

/// An account as it is stored.
#[derive(Record)]
#[record(kind = "ldap-account", version = 2, previous = AccountV1)]
pub(crate) struct Account {
    /// Its name, as it was sent.
    pub(crate) user: String,
    /// Its distinguished name; empty is looked for by the name.
    pub(crate) name: String,
    pub(crate) keeper: Keeper,
    pub(crate) password: Option<SecretString>,
    pub(crate) last_password: Option<SecretString>,
    pub(crate) rotated: Option<Timestamp>,
    pub(crate) candidate: Option<SecretString>,
    /// The password that it gets when it is brought back, by whomever: so those who do that at once do the same.
    pub(crate) next: Option<SecretString>,
    pub(crate) borrower: Option<Borrower>,
    /// How often it was lent.
    pub(crate) loans: u64,
    /// The configuration by which it was lent last: that one brings it back. Zero is not known.
    pub(crate) lent_with: u64,
}

/// An account when whichever configuration there was brought it back.
#[derive(Record)]
#[record(kind = "ldap-account", version = 1)]
struct AccountV1 {
    user: String,
    name: String,
    keeper: Keeper,
    password: Option<SecretString>,
    last_password: Option<SecretString>,
    rotated: Option<Timestamp>,
    candidate: Option<SecretString>,
    next: Option<SecretString>,
    borrower: Option<Borrower>,
    loans: u64,
}

impl From<AccountV1> for Account {
    fn from(older: AccountV1) -> Self {
        Self {
            user: older.user,
            name: older.name,
            keeper: older.keeper,
            password: older.password,
            last_password: older.last_password,
            rotated: older.rotated,
            candidate: older.candidate,
            next: older.next,
            borrower: older.borrower,
            loans: older.loans,
            lent_with: 0,
        }
    }
}

/// Where an account is stored: directories do not tell case apart.
pub(crate) fn key(user: &str) -> String {
    format!("account/{}", hex::encode(user.trim().to_lowercase()))
}

impl Account {
    /// One that nothing is known of yet.
    pub(crate) const fn new(user: String, name: String, keeper: Keeper) -> Self {
        Self {
            user,
            name,
            keeper,
            password: None,
            last_password: None,
            rotated: None,
            candidate: None,
            next: None,
            borrower: None,
            loans: 0,
            lent_with: 0,
        }
    }

    pub(crate) fn load(view: &mut View<'_>, key: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(key)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    pub(crate) fn store(&self, view: &mut View<'_>) -> Result<(), Fault> {
        view.write(&key(&self.user), &self.encode())
    }

    /// Forgets an account.
    pub(crate) fn forget(view: &mut View<'_>, user: &str) -> Result<(), Fault> {
        let key = key(user);
        view.no_wake(&key)?;
        view.retry_by(&key, "")?;
        view.delete(&key)
    }

    /// The account for a keeper who is to have it from now on.
    pub(crate) fn taken_over(view: &mut View<'_>, user: &str, name: &str, keeper: Keeper) -> Result<Self, Fault> {
        match Self::load(view, &key(user))? {
            None => Ok(Self::new(user.to_owned(), name.to_owned(), keeper)),
            // A take-over that nobody knows the end of goes on.
            Some(begun) if begun.rotated.is_none() && begun.keeper == keeper && begun.candidate.is_some() => {
                Ok(Self { user: user.to_owned(), name: name.to_owned(), ..begun })
            }
            Some(_) => Err(Fault::invalid(format!("{user:?} is already managed by the secrets engine"))),
        }
    }

    /// The configuration that gives it passwords: while it is lent the one by which it was, which may be a former one by now.
    pub(crate) fn config(&self, view: &mut View<'_>) -> Result<Config, Fault> {
        if self.borrower.is_none() {
            return Config::known(view);
        }
        Config::made_with(view, self.lent_with)?.ok_or_else(|| Fault::invalid("missing LDAP configuration"))
    }

    /// As whom it is let in, and by what: its password, in doubt its candidate, and the last one, which somebody may have said.
    pub(crate) fn itself(&self, is_in_doubt: bool) -> Manager {
        let candidate = self.candidate.as_ref().filter(|_| is_in_doubt);
        let passwords = self.password.iter().chain(candidate).chain(&self.last_password).map(copy).collect();
        Manager { name: self.name.clone(), passwords }
    }

    /// The candidate is the password from now on.
    pub(crate) fn promote(&mut self, now: Timestamp) {
        if let Some(candidate) = self.candidate.take() {
            self.last_password = self.password.replace(candidate);
            self.rotated = Some(now);
            (self.borrower, self.next) = (None, None);
        }
    }
}
