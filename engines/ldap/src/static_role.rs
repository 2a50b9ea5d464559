//! Static roles: accounts that are there, whose passwords the engine rotates and shows.
//!
//! Names have folders. Whose account it is never changes; when it is rotated may. A role is shown once its account was taken
//! over. Deliberately absent: the password itself, which its account has.

use std::time::Duration;

use tresor_credential::Timing;
use tresor_credential::timing::Sent;
use tresor_engine::outside::Outside;
use tresor_engine::retries::RetriesShown;
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretString;
use tresor_wire::input::{Input, PathParameters, Seconds};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use crate::Ldap;
use crate::account::{Account, Keeper, key};
use crate::config::{Config, timing};
use crate::name::{self, is_name};
use crate::secrets::{copy, shown};
use crate::{rotating, verifying};

/// The least time between two rotations.
const PERIOD_MIN: Duration = Duration::from_secs(5);

/// A role as it is stored.
#[derive(Record)]
#[record(kind = "ldap-static-role", version = 2, previous = StaticRoleV1)]
pub(crate) struct StaticRole {
    user: String,
    /// The distinguished name; empty is looked for by the name.
    name: String,
    pub(crate) timing: Timing,
    pub(crate) made: Timestamp,
    /// Whether its account was taken over.
    is_settled: bool,
    /// The policy by which its passwords are made; empty: the configuration's.
    password_policy: String,
}

/// A role when all of them had the configuration's policy.
#[derive(Record)]
#[record(kind = "ldap-static-role", version = 1)]
struct StaticRoleV1 {
    user: String,
    name: String,
    timing: Timing,
    made: Timestamp,
    is_settled: bool,
}

impl From<StaticRoleV1> for StaticRole {
    fn from(older: StaticRoleV1) -> Self {
        Self {
            user: older.user,
            name: older.name,
            timing: older.timing,
            made: older.made,
            is_settled: older.is_settled,
            password_policy: String::new(),
        }
    }
}

/// A role to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The role.
    #[input(path)]
    name: String,
    /// The account's name.
    username: Option<String>,
    /// The account's distinguished name; without it, the account is looked for by its name.
    dn: Option<String>,
    /// How often the password is rotated.
    rotation_period: Option<Seconds>,
    /// When it is, as a schedule (five fields, UTC).
    rotation_schedule: Option<String>,
    /// How late after its schedule it may begin.
    rotation_window: Option<Seconds>,
    /// The rotation policy by which it is tried again when that fails; an empty one takes it away.
    rotation_policy: Option<String>,
    /// Whether the account is taken over as it is, without another password.
    skip_import_rotation: Option<bool>,
    /// The password that the account has: what is shown until it is rotated, and what it is let in by where it is rotated as
    /// itself.
    #[input(secret)]
    password: Option<SecretString>,
    /// The policy by which its passwords are made, instead of the configuration's.
    password_policy: Option<String>,
}

/// A role by name; in a listing, a folder.
#[derive(Input)]
pub(crate) struct ByName {
    /// The role.
    #[input(path)]
    name: String,
}

/// What is shown of a role.
#[derive(Output)]
pub(crate) struct Shown {
    /// The account's name.
    username: String,
    /// The account's distinguished name.
    dn: String,
    /// How often the password is rotated.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// When it is.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How late that may begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// When it was rotated last.
    #[output(optional)]
    last_vault_rotation: Option<String>,
    /// The policy by which its passwords are made, where it has one of its own.
    #[output(optional)]
    password_policy: Option<String>,
    /// How a rotation that fails is tried again.
    #[output(flatten)]
    retries: RetriesShown,
}

/// The password of a role.
#[derive(Output)]
pub(crate) struct Credentials {
    /// The account's name.
    username: String,
    /// The account's distinguished name.
    dn: String,
    /// The password.
    #[output(secret)]
    password: String,
    /// The one before.
    #[output(secret)]
    last_password: String,
    /// When it was rotated last; nothing before it was.
    last_vault_rotation: Option<String>,
    /// How often it is rotated.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// When it is.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How late that may begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// How long it holds.
    ttl: Duration,
}

fn place(name: &str) -> String {
    format!("static/{name}")
}

impl StaticRole {
    pub(crate) fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = view.read(&place(name))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    fn shown(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        Ok(Self::load(view, name)?.filter(|role| role.is_settled))
    }

    fn store(&self, view: &mut View<'_>, name: &str) -> Result<(), Fault> {
        view.write(&place(name), &self.encode())
    }

    /// The policy by which passwords of a role are made; empty: the configuration's.
    pub(crate) fn policy(view: &mut View<'_>, name: &str) -> Result<String, Fault> {
        Ok(Self::load(view, name)?.map(|role| role.password_policy).unwrap_or_default())
    }

    pub(crate) fn is_settled(view: &mut View<'_>, name: &str) -> Result<bool, Fault> {
        Ok(Self::load(view, name)?.is_some_and(|role| role.is_settled))
    }

    pub(crate) fn forget(view: &mut View<'_>, name: &str) -> Result<(), Fault> {
        view.delete(&place(name))
    }

    /// Its account has a password that the engine knows; whether there is such a role.
    pub(crate) fn taken_over(
        view: &mut View<'_>,
        name: &str,
        account: &Account,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let role = Self::load(view, name)?.filter(|role| key(&role.user) == key(&account.user));
        let Some(mut role) = role else { return Ok(false) };
        if !role.is_settled {
            role.is_settled = true;
            role.store(view, name)?;
        }
        role.wake_next(view, account, now)?;
        Ok(true)
    }

    /// It was written anew: by which policy it is tried again, and when it is rotated next.
    fn go_on(&self, view: &mut View<'_>, account: &Account, policy: Option<&str>, now: Timestamp) -> Result<(), Fault> {
        let key = key(&account.user);
        let was_orphaned = view.is_orphaned(&key)?;
        view.retry_anew(&key, policy)?;
        match &account.candidate {
            None => self.wake_next(view, account, now),
            // What nobody knows the end of is finished first.
            Some(_) if was_orphaned => view.wake(&key, now),
            Some(_) => Ok(()),
        }
    }

    /// Sets when it is rotated next.
    fn wake_next(&self, view: &mut View<'_>, account: &Account, now: Timestamp) -> Result<(), Fault> {
        let last = account.rotated.unwrap_or(self.made);
        match self.timing.rotation().map_err(Fault::internal)? {
            Some(rotation) => view.wake(&key(&account.user), rotation.due(last, now)),
            None => view.no_wake(&key(&account.user)),
        }
    }
}

fn change_timing(timing: &mut Timing, sent: Sent) -> Result<(), Fault> {
    timing.change(sent, PERIOD_MIN).map_err(|error| Fault::invalid(error.to_string()))
}

pub(crate) fn exists(_engine: &Ldap, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    let name = parameters.get("name").map(String::as_str).unwrap_or_default();
    Ok(StaticRole::shown(&mut cx.view, name)?.is_some())
}

pub(crate) async fn list(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Keys, Fault> {
    let folder = name::folder(&input.name);
    let names = cx.view.names(&place(&folder), None, None)?;
    let mut shown = Vec::with_capacity(names.len());
    for name in names {
        // One that is being taken over is not there yet.
        if name.ends_with('/') || StaticRole::is_settled(&mut cx.view, &format!("{folder}{name}"))? {
            shown.push(name);
        }
    }
    Ok(Keys(shown))
}

pub(crate) async fn read(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let Some(role) = StaticRole::shown(&mut cx.view, &input.name)? else { return Ok(None) };
    let account = Account::load(&mut cx.view, &key(&role.user))?;
    Ok(Some(Data(Shown {
        retries: cx.view.retries(&key(&role.user))?.into(),
        rotation_period: role.timing.shown_period(),
        rotation_schedule: role.timing.shown_schedule(),
        rotation_window: role.timing.shown_window(),
        last_vault_rotation: account.and_then(|account| account.rotated).map(rfc3339),
        username: role.user,
        dn: role.name,
        password_policy: (!role.password_policy.is_empty()).then_some(role.password_policy),
    })))
}

/// A policy that was sent, if there is one.
fn known_policy(cx: &mut Cx<'_>, sent: Option<String>, before: String) -> Result<String, Fault> {
    let Some(sent) = sent else { return Ok(before) };
    if !sent.is_empty() {
        cx.password(&sent)?;
    }
    Ok(sent)
}

pub(crate) async fn write(_engine: &Ldap, mut cx: Cx<'_>, input: Write) -> Result<Outside<Nothing>, Fault> {
    name::check(&input.name)?;
    match StaticRole::shown(&mut cx.view, &input.name)? {
        Some(role) => change(&mut cx, role, input),
        None => create(&mut cx, input),
    }
}

fn change(cx: &mut Cx<'_>, mut role: StaticRole, sent: Write) -> Result<Outside<Nothing>, Fault> {
    if sent.username.as_ref().is_some_and(|user| *user != role.user) {
        return Err(Fault::invalid("cannot update static account username"));
    }
    if sent.dn.as_ref().is_some_and(|name| !name.is_empty() && *name != role.name) {
        return Err(Fault::invalid("cannot update static account distinguished name (dn)"));
    }
    if sent.skip_import_rotation.is_some() {
        return Err(Fault::invalid("skip_import_rotation has no effect on updates"));
    }
    change_timing(&mut role.timing, timing(sent.rotation_period, sent.rotation_schedule, sent.rotation_window))?;
    if role.timing.is_never() {
        return Err(Fault::invalid("rotation_period must be 5 seconds or more"));
    }
    role.password_policy = known_policy(cx, sent.password_policy, role.password_policy)?;
    let policy = sent.rotation_policy;
    cx.view.check_rotation_policy(policy.as_deref())?;
    let is_self_managed = Config::known(&mut cx.view).is_ok_and(|config| config.is_self_managed);
    if let Some(mut account) = Account::load(&mut cx.view, &key(&role.user))? {
        if let Some(name) = sent.dn.filter(|name| !is_self_managed || !name.is_empty()) {
            (account.name, role.name) = (name.clone(), name);
        }
        match sent.password.filter(|password| !password.is_empty()) {
            // It may be an old one, and nobody else could give the account another: both are tried by the next rotation.
            Some(password) if account.rotated.is_some() && is_self_managed => account.last_password = Some(password),
            Some(password) => {
                // What is shown from now on has to be right.
                let config = Config::known(&mut cx.view)?;
                let told = copy(&password);
                account.last_password = account.password.replace(password);
                let written = Written { name: sent.name, role, account, policy, is_new: false };
                let (user, dn) = (&written.account.user, &written.account.name);
                let asked = Account::new(user.clone(), dn.clone(), written.account.keeper.clone());
                return verifying::plan(cx, &config, &asked, &told, move |view, now| written.store(view, now));
            }
            None => {}
        }
        account.store(&mut cx.view)?;
        role.go_on(&mut cx.view, &account, policy.as_deref(), cx.now)?;
    }
    role.store(&mut cx.view, &sent.name)?;
    cx.view.tell(|| Happened::named("ldap/static-role-update", "static-role", &sent.name));
    Ok(Outside::done(Nothing))
}

/// A role and its account, as they are to be stored once the password was tried.
struct Written {
    name: String,
    role: StaticRole,
    account: Account,
    /// By which it is tried again from now on, where that changes.
    policy: Option<String>,
    is_new: bool,
}

impl Written {
    fn store(&self, view: &mut View<'_>, now: Timestamp) -> Result<(), Fault> {
        self.role.store(view, &self.name)?;
        self.account.store(view)?;
        let kind = if self.is_new { "ldap/static-role-create" } else { "ldap/static-role-update" };
        view.tell(|| Happened::named(kind, "static-role", &self.name));
        self.role.go_on(view, &self.account, self.policy.as_deref(), now)
    }
}

fn create(cx: &mut Cx<'_>, sent: Write) -> Result<Outside<Nothing>, Fault> {
    let user =
        sent.username.ok_or_else(|| Fault::invalid("username is a required field to manage a static account"))?;
    if user.trim().is_empty() {
        return Err(Fault::invalid("username must not be empty"));
    }
    let mut times = Timing::default();
    change_timing(&mut times, timing(sent.rotation_period, sent.rotation_schedule, sent.rotation_window))?;
    if times.is_never() {
        return Err(Fault::invalid("rotation_period is required to create static accounts"));
    }
    let config = Config::known(&mut cx.view)?;
    let name = sent.dn.unwrap_or_default();
    let password = sent.password.filter(|password| !password.is_empty());
    if config.is_self_managed && (name.is_empty() || password.is_none()) {
        return Err(Fault::invalid("dn and password are required: the configuration is self_managed"));
    }
    let password_policy = known_policy(cx, sent.password_policy, String::new())?;
    // One whose take-over nobody knows the end of makes room.
    if let Some(begun) = StaticRole::load(&mut cx.view, &sent.name)?.filter(|begun| key(&begun.user) != key(&user)) {
        Account::forget(&mut cx.view, &begun.user)?;
    }
    let keeper = Keeper::Role(sent.name.clone());
    let mut account = Account::taken_over(&mut cx.view, &user, &name, keeper)?;
    account.password = password.or(account.password);
    let policy = sent.rotation_policy;
    cx.view.check_rotation_policy(policy.as_deref())?;
    let is_skipped = sent.skip_import_rotation.unwrap_or(config.skip_import);
    let role = StaticRole { user, name, timing: times, made: cx.now, is_settled: is_skipped, password_policy };
    if is_skipped {
        let account = Account { candidate: None, ..account };
        let Some(told) = account.password.as_ref().map(copy) else {
            Written { name: sent.name, role, account, policy, is_new: true }.store(&mut cx.view, cx.now)?;
            return Ok(Outside::done(Nothing));
        };
        let asked = Account::new(account.user.clone(), account.name.clone(), account.keeper.clone());
        let written = Written { name: sent.name, role, account, policy, is_new: true };
        return verifying::plan(cx, &config, &asked, &told, move |view, now| written.store(view, now));
    }
    cx.view.retry_anew(&key(&account.user), policy.as_deref())?;
    role.store(&mut cx.view, &sent.name)?;
    rotating::plan(cx, &config, vec![account], |_, _| Ok(Nothing))
}

pub(crate) async fn delete(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    if let Some(role) = StaticRole::load(&mut cx.view, &input.name)? {
        Account::forget(&mut cx.view, &role.user)?;
        StaticRole::forget(&mut cx.view, &input.name)?;
        cx.view.tell(|| Happened::named("ldap/static-role-delete", "static-role", &input.name));
    }
    Ok(Nothing)
}

pub(crate) async fn credentials(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Data<Credentials>, Fault> {
    let unknown = || Fault::invalid(format!("unknown role: {}", input.name));
    let role = StaticRole::shown(&mut cx.view, &input.name)?.ok_or_else(unknown)?;
    let account = Account::load(&mut cx.view, &key(&role.user))?.ok_or_else(unknown)?;
    let text = |secret: &Option<SecretString>| secret.as_ref().map(shown).unwrap_or_default();
    let rotation = role.timing.rotation().map_err(Fault::internal)?;
    let due = rotation.map(|rotation| rotation.due(account.rotated.unwrap_or(role.made), cx.now));
    Ok(Data(Credentials {
        password: text(&account.password),
        last_password: text(&account.last_password),
        last_vault_rotation: account.rotated.map(rfc3339),
        rotation_period: role.timing.shown_period(),
        rotation_schedule: role.timing.shown_schedule(),
        rotation_window: role.timing.shown_window(),
        ttl: due.map_or(Duration::ZERO, |due| due.since(cx.now)),
        username: role.user,
        dn: role.name,
    }))
}

pub(crate) async fn rotate(_engine: &Ldap, mut cx: Cx<'_>, input: ByName) -> Result<Outside<Nothing>, Fault> {
    let unknown = || Fault::invalid(format!("role doesn't exist: {}", input.name));
    let role = StaticRole::shown(&mut cx.view, &input.name)?.ok_or_else(unknown)?;
    let account = Account::load(&mut cx.view, &key(&role.user))?.ok_or_else(unknown)?;
    let config = Config::known(&mut cx.view)?;
    rotating::plan(&mut cx, &config, vec![account], |_, _| Ok(Nothing))
}
