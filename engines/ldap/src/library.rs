//! The library: sets of accounts that are lent, one at a time each, and get another password when they come back.
//!
//! An account belongs to one set, or to one static role, and to nobody else. Who borrowed it holds a lease; when that ends,
//! or the borrower says so, or whoever manages the library, the account is back. Deliberately absent: the accounts
//! themselves (`account`), and what borrowing is (`loan`).

use std::time::Duration;

use tresor_engine::outside::Outside;
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View};
use tresor_model::{Fault, Map, map};
use tresor_record::Record;
use tresor_wire::input::{CommaList, Input, PathParameters, Seconds};
use tresor_wire::output::Output;

use crate::account::{Account, Keeper, key};
use crate::config::Config;
use crate::name::{self, is_name};
use crate::{Ldap, rotating};

/// How long a loan is when nobody says.
const TTL: Duration = Duration::from_secs(24 * 3600);
/// How many accounts a set can have.
const ACCOUNTS_MAX: usize = 1000;

/// A set as it is stored.
#[derive(Record)]
#[record(kind = "ldap-library-set", version = 1)]
pub(crate) struct LibrarySet {
    /// The accounts that were taken over.
    pub(crate) users: Vec<String>,
    /// Those that are being taken over.
    pending: Vec<String>,
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) anybody_checks_in: bool,
}

/// A set to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The set.
    #[input(path)]
    name: String,
    /// The accounts that are lent.
    service_account_names: Option<CommaList>,
    /// How long a loan is, unless it is renewed; zero is as long as the mount allows.
    ttl: Option<Seconds>,
    /// How long it is at most.
    max_ttl: Option<Seconds>,
    /// Whether anybody may bring back what somebody else borrowed.
    disable_check_in_enforcement: Option<bool>,
}

/// A set by name.
#[derive(Input)]
pub(crate) struct ByName {
    /// The set.
    #[input(path)]
    pub(crate) name: String,
}

/// What is shown of a set.
#[derive(Output)]
pub(crate) struct Shown {
    /// The accounts that are lent.
    service_account_names: Vec<String>,
    /// How long a loan is.
    ttl: Duration,
    /// How long it is at most.
    max_ttl: Duration,
    /// Whether anybody may bring back what somebody else borrowed.
    disable_check_in_enforcement: bool,
}

fn place(name: &str) -> String {
    format!("library/{name}")
}

/// Whether an account is among these.
pub(crate) fn has(list: &[String], user: &str) -> bool {
    list.iter().any(|other| key(other) == key(user))
}

impl LibrarySet {
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = view.read(&place(name))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    /// The set, where any of its accounts was taken over.
    fn shown(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        Ok(Self::load(view, name)?.filter(|set| !set.users.is_empty()))
    }

    /// The set; a refusal where there is none.
    pub(crate) fn known(view: &mut View<'_>, name: &str) -> Result<Self, Fault> {
        Self::shown(view, name)?.ok_or_else(|| Fault::invalid(format!("{name:?} doesn't exist")))
    }

    fn store(&self, view: &mut View<'_>, name: &str) -> Result<(), Fault> {
        view.write(&place(name), &self.encode())
    }

    /// An account of it has a password that the engine knows; whether it is one of it.
    pub(crate) fn take_in(view: &mut View<'_>, name: &str, user: &str) -> Result<bool, Fault> {
        let Some(mut set) = Self::load(view, name)? else { return Ok(false) };
        let is_pending = set.pending.iter().any(|pending| key(pending) == key(user));
        if is_pending {
            set.pending.retain(|pending| key(pending) != key(user));
            set.users.push(user.to_owned());
            set.store(view, name)?;
        }
        Ok(has(&set.users, user))
    }

    /// An account was not taken over for it; without any, the set was not made.
    pub(crate) fn let_go(view: &mut View<'_>, name: &str, user: &str) -> Result<(), Fault> {
        let Some(mut set) = Self::load(view, name)? else { return Ok(()) };
        set.pending.retain(|pending| key(pending) != key(user));
        if set.users.is_empty() && set.pending.is_empty() { view.delete(&place(name)) } else { set.store(view, name) }
    }

    fn check(&self, users: &[String]) -> Result<(), Fault> {
        if users.is_empty() {
            return Err(Fault::invalid("at least one service account must be configured"));
        }
        if users.iter().any(|user| user.trim().is_empty()) {
            return Err(Fault::invalid("service account name must not be empty"));
        }
        if users.len() > ACCOUNTS_MAX {
            return Err(Fault::invalid(format!("a set has at most {ACCOUNTS_MAX} accounts")));
        }
        if !self.max_ttl.is_zero() && self.max_ttl < self.ttl {
            let (longest, usual) = (self.max_ttl.as_secs(), self.ttl.as_secs());
            return Err(Fault::invalid(format!(
                "max_ttl ({longest} seconds) may not be less than ttl ({usual} seconds)"
            )));
        }
        Ok(())
    }
}

pub(crate) fn exists(_engine: &Ldap, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let name = parameters.get("name").map(String::as_str).unwrap_or_default();
    Ok(LibrarySet::shown(&mut cx.view, name)?.is_some())
}

pub(crate) async fn list(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Keys, Fault> {
    let (folder, mut shown) = (name::folder(&input.name), Vec::new());
    for name in cx.view.names(&place(&folder), None, None)? {
        if name.ends_with('/') || LibrarySet::shown(&mut cx.view, &format!("{folder}{name}"))?.is_some() {
            shown.push(name);
        }
    }
    Ok(Keys(shown))
}

pub(crate) async fn read(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    Ok(LibrarySet::shown(&mut cx.view, &input.name)?.map(|set| {
        Data(Shown {
            service_account_names: set.users,
            ttl: set.ttl,
            max_ttl: set.max_ttl,
            disable_check_in_enforcement: set.anybody_checks_in,
        })
    }))
}

pub(crate) async fn write(_engine: &Ldap, mut cx: Cx<'_>, input: Write) -> Result<Outside<Nothing>, Fault> {
    let config = Config::load(&mut cx.view)?;
    let config = config.ok_or_else(|| Fault::invalid("config must exist to create a library"))?;
    config.manages("a library")?;
    let known = LibrarySet::load(&mut cx.view, &input.name)?;
    let is_new = known.as_ref().is_none_or(|known| known.users.is_empty());
    let kind = if is_new { "ldap/library-create" } else { "ldap/library-update" };
    if known.is_none() {
        name::check(&input.name)?;
    }
    let mut set = known.unwrap_or(LibrarySet {
        users: Vec::new(),
        pending: Vec::new(),
        ttl: TTL,
        max_ttl: TTL,
        anybody_checks_in: false,
    });
    set.ttl = input.ttl.map_or(set.ttl, |sent| sent.0);
    set.max_ttl = input.max_ttl.map_or(set.max_ttl, |sent| sent.0);
    set.anybody_checks_in = input.disable_check_in_enforcement.unwrap_or(set.anybody_checks_in);
    let users = match input.service_account_names {
        Some(sent) => once_each(sent.0),
        None if set.users.is_empty() => return Err(Fault::invalid("'service_account_names' must be provided")),
        None => set.users.clone(),
    };
    set.check(&users)?;
    // Those whose take-over nobody knows the end of make room, or go on.
    for begun in std::mem::take(&mut set.pending).iter().filter(|begun| !has(&users, begun)) {
        Account::forget(&mut cx.view, begun)?;
    }
    for gone in set.users.iter().filter(|user| !has(&users, user)) {
        let account = Account::load(&mut cx.view, &key(gone))?;
        if account.is_some_and(|account| account.borrower.is_some()) {
            return Err(Fault::invalid(format!("{gone:?} can't be deleted because it is currently checked out")));
        }
        Account::forget(&mut cx.view, gone)?;
    }
    let mut taken_over = Vec::new();
    for new in users.iter().filter(|user| !has(&set.users, user)) {
        taken_over.push(Account::taken_over(&mut cx.view, new, "", Keeper::Set(input.name.clone()))?);
        set.pending.push(new.clone());
    }
    set.users.retain(|user| has(&users, user));
    set.store(&mut cx.view, &input.name)?;
    if taken_over.is_empty() {
        cx.view.tell(|| Happened::named(kind, "library", &input.name));
        return Ok(Outside::done(Nothing));
    }
    let name = input.name;
    rotating::plan(&mut cx, &config, taken_over, move |view, _| {
        // In the order in which they were sent.
        if let Some(mut set) = LibrarySet::load(view, &name)? {
            let mut ordered: Vec<String> = users.iter().filter(|user| set.users.contains(user)).cloned().collect();
            ordered.extend(set.users.iter().filter(|user| !users.contains(user)).cloned());
            set.users = ordered;
            set.store(view, &name)?;
            view.tell(|| Happened::named(kind, "library", &name));
        }
        Ok(Nothing)
    })
}

/// Names without those that come again.
pub(crate) fn once_each(names: Vec<String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !once.iter().any(|known| key(known) == key(&name)) {
            once.push(name);
        }
    }
    once
}

pub(crate) async fn delete(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let Some(set) = LibrarySet::load(&mut cx.view, &input.name)? else { return Ok(Nothing) };
    for user in set.users.iter().chain(&set.pending) {
        let account = Account::load(&mut cx.view, &key(user))?;
        if account.is_some_and(|account| account.borrower.is_some()) {
            return Err(Fault::invalid(format!("{user:?} can't be deleted because it is currently checked out")));
        }
        Account::forget(&mut cx.view, user)?;
    }
    cx.view.delete(&place(&input.name))?;
    cx.view.tell(|| Happened::named("ldap/library-delete", "library", &input.name));
    Ok(Nothing)
}

pub(crate) async fn status(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Data<Map>, Fault> {
    let set = LibrarySet::known(&mut cx.view, &input.name)?;
    let mut accounts = Map::new();
    for user in set.users {
        let account = Account::load(&mut cx.view, &key(&user))?;
        let borrower = account.and_then(|account| account.borrower);
        let mut status = map! { "available" => borrower.is_none() };
        if let Some(token) = borrower.and_then(|borrower| borrower.shown()) {
            status = status.with("borrower_client_token", token);
        }
        accounts = accounts.with(user, status);
    }
    Ok(Data(accounts))
}
