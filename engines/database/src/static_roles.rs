//! `static-roles/NAME`: an account that stays, whose password is rotated; `static-creds/NAME` shows it.
//!
//! A rotation stores its candidate, sets it, logs in with it, and only then shows it. What a crash left in between is done again
//! with the same candidate: at the server it is set by who may set it, so nobody has to know which one counts. Where the
//! connection has nobody who may (`self_managed`), the account sets its own, let in by whichever of its passwords counts.

use std::sync::Arc;
use std::time::Duration;

use tresor_credential::{Rotation, Schedule};
use tresor_engine::outside::{Failed, Left};
use tresor_engine::retries::RetriesShown;
use tresor_engine::{Cx, Data, Happened, Keys, Nothing, Outside, View};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretString;
use tresor_wire::input::{Input, PathParameters, Seconds, StringList};
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use crate::config::ByName;
use crate::connection::{Connection, PASSWORDS_MAX, copied, promote};
use crate::roles::{Credential, CredentialFields, CredentialShown, Page};
use crate::settings::Common;
use crate::target::Trouble;
use crate::{Database, Doors, checked_name, roles};

/// The least time between two rotations.
const PERIOD_MIN: Duration = Duration::from_secs(5);
/// The least window of a schedule.
const WINDOW_MIN: Duration = Duration::from_secs(3600);
/// When a rotation whose end is not known is done again.
const AGAIN_AFTER: Duration = Duration::from_secs(90);

/// A static role as it is stored.
#[derive(Record)]
#[record(kind = "database-static-role", version = 1)]
pub(crate) struct StaticRole {
    db_name: String,
    username: String,
    rotation_statements: Vec<String>,
    credential: Credential,
    /// Zero where there is a schedule.
    rotation_period: Duration,
    rotation_schedule: String,
    rotation_window: Duration,
    /// The one that counts; then one that is being set, and former ones.
    passwords: Vec<SecretString>,
    /// Whether the second of them is being set.
    is_rotating: bool,
    /// When the first one was set; `None` while none was.
    last_rotation: Option<Timestamp>,
}

/// A static role to write; what is not sent stays.
#[derive(Input)]
pub(crate) struct Write {
    /// The name.
    #[input(path)]
    name: String,
    /// The connection.
    db_name: Option<String>,
    /// The account. It cannot be changed.
    username: Option<String>,
    /// What sets a password; without any, the usual.
    rotation_statements: Option<StringList>,
    /// How often it is rotated, at least 5 seconds.
    rotation_period: Option<Seconds>,
    /// When it is rotated: minute, hour, day of the month, month, day of the week, in UTC.
    rotation_schedule: Option<String>,
    /// How long after that it may still begin, at least an hour.
    rotation_window: Option<Seconds>,
    /// The rotation policy by which it is tried again when that fails; an empty one takes it away.
    rotation_policy: Option<String>,
    /// Whether the password stays as it is until the first time it is due; not sent, it is as the connection says.
    skip_import_rotation: Option<bool>,
    /// The password that the account has; it is logged in with.
    #[input(secret)]
    password: Option<SecretString>,
    /// The same, where the connection is `self_managed`: with it the account sets the next one itself.
    #[input(secret)]
    self_managed_password: Option<SecretString>,
    /// What the account is let in by.
    #[input(flatten)]
    credential: CredentialFields,
}

/// When it is rotated.
#[derive(Output)]
pub(crate) struct RotationShown {
    /// How often.
    #[output(optional)]
    rotation_period: Option<Duration>,
    /// Or when.
    #[output(optional)]
    rotation_schedule: Option<String>,
    /// How long after that it may still begin.
    #[output(optional)]
    rotation_window: Option<Duration>,
    /// When it was rotated last.
    #[output(optional)]
    last_vault_rotation: Option<String>,
}

/// What is shown of a static role.
#[derive(Output)]
pub(crate) struct Shown {
    /// The connection.
    db_name: String,
    /// The account.
    username: String,
    /// What sets a password.
    rotation_statements: Vec<String>,
    /// When.
    #[output(flatten)]
    rotation: RotationShown,
    /// How that is tried again.
    #[output(flatten)]
    retries: RetriesShown,
    /// What the account is let in by.
    #[output(flatten)]
    credential: CredentialShown,
}

/// An account and its password.
#[derive(Output)]
pub(crate) struct CredsShown {
    /// The account.
    username: String,
    /// Its password.
    #[output(secret)]
    password: String,
    /// How long it holds still.
    ttl: Duration,
    /// When it is rotated.
    #[output(flatten)]
    rotation: RotationShown,
}

impl StaticRole {
    fn load(view: &mut View<'_>, name: &str) -> Result<Option<Self>, Fault> {
        let Some(bytes) = view.read(&place(name))? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(Fault::internal)
    }

    fn store(&self, view: &mut View<'_>, name: &str) -> Result<(), Fault> {
        view.write(&place(name), &self.encode())
    }

    fn rotation(&self) -> Result<Rotation, Fault> {
        if self.rotation_schedule.is_empty() {
            return Ok(Rotation::Every(self.rotation_period));
        }
        let schedule = Schedule::parse(&self.rotation_schedule);
        let schedule =
            schedule.map_err(|error| Fault::invalid(format!("could not parse rotation_schedule: {error}")))?;
        Ok(Rotation::Scheduled(schedule, (!self.rotation_window.is_zero()).then_some(self.rotation_window)))
    }

    fn show_rotation(&self) -> RotationShown {
        let has_schedule = !self.rotation_schedule.is_empty();
        RotationShown {
            rotation_period: (!has_schedule).then_some(self.rotation_period),
            rotation_schedule: has_schedule.then(|| self.rotation_schedule.clone()),
            rotation_window: (!self.rotation_window.is_zero()).then_some(self.rotation_window),
            last_vault_rotation: self.last_rotation.map(rfc3339),
        }
    }

    /// The candidate counts from now on.
    fn promote(&mut self, candidate: &SecretString, now: Timestamp) {
        promote(&mut self.passwords, candidate);
        self.is_rotating = false;
        self.last_rotation = Some(now);
    }
}

fn place(name: &str) -> String {
    format!("static-role/{name}")
}

fn wake_name(name: &str) -> String {
    format!("static/{name}")
}

/// Whether there is a static role of this name.
pub(crate) fn is_there(view: &mut View<'_>, name: &str) -> Result<bool, Fault> {
    view.contains(&place(checked_name(name)?))
}

pub(crate) fn exists(_engine: &Database, mut cx: Cx<'_>, parameters: &PathParameters) -> Result<bool, Fault> {
    is_there(&mut cx.view, parameters.get("name").map_or("", String::as_str))
}

pub(crate) async fn list(_engine: &Database, mut cx: Cx<'_>, input: Page) -> Result<Keys, Fault> {
    Ok(Keys(cx.view.names("static-role/", input.after.as_deref(), input.limit.0)?))
}

pub(crate) async fn read(_engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Option<Data<Shown>>, Fault> {
    let name = checked_name(&input.name)?;
    let found = StaticRole::load(&mut cx.view, name)?;
    let retries = cx.view.retries(&wake_name(name))?;
    Ok(found.map(|role| {
        Data(Shown {
            retries: retries.into(),
            rotation: role.show_rotation(),
            db_name: role.db_name,
            username: role.username,
            rotation_statements: role.rotation_statements,
            credential: role.credential.show(),
        })
    }))
}

pub(crate) async fn delete(_engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Nothing, Fault> {
    let name = checked_name(&input.name)?;
    if is_there(&mut cx.view, name)? {
        cx.view.delete(&place(name))?;
        cx.view.no_wake(&wake_name(name))?;
        cx.view.retry_by(&wake_name(name), "")?;
        cx.view.tell(|| Happened::named("database/static-role-delete", "static-roles", name));
    }
    Ok(Nothing)
}

pub(crate) async fn creds(_engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Data<CredsShown>, Fault> {
    let name = checked_name(&input.name)?;
    let unknown = || Fault::invalid(format!("unknown role: {name}"));
    let role = StaticRole::load(&mut cx.view, name)?.ok_or_else(unknown)?;
    Connection::named(&mut cx.view, &role.db_name)?.allows(name)?;
    let password = role.passwords.first().ok_or_else(|| Fault::invalid("the account has no password yet"))?;
    let next = role.rotation()?.due(role.last_rotation.unwrap_or(cx.now), cx.now);
    cx.view.tell(|| Happened::named("database/static-creds-create", "static-creds", name).without_change());
    let left = Duration::from_secs(u64::try_from(next.seconds() - cx.now.seconds()).unwrap_or_default());
    Ok(Data(CredsShown {
        password: password.expose().clone(),
        ttl: left,
        rotation: role.show_rotation(),
        username: role.username,
    }))
}

pub(crate) async fn write(engine: &Database, mut cx: Cx<'_>, input: Write) -> Result<Outside<Nothing>, Fault> {
    let name = checked_name(&input.name)?;
    if roles::is_there(&mut cx.view, name)? {
        return Err(Fault::invalid("Role and Static Role names must be unique"));
    }
    let known = StaticRole::load(&mut cx.view, name)?;
    let is_new = known.is_none();
    let mut role = known.unwrap_or_else(|| StaticRole {
        db_name: String::new(),
        username: String::new(),
        rotation_statements: Vec::new(),
        credential: Credential::default(),
        rotation_period: Duration::ZERO,
        rotation_schedule: String::new(),
        rotation_window: Duration::ZERO,
        passwords: Vec::new(),
        is_rotating: false,
        last_rotation: None,
    });
    role.db_name = input.db_name.unwrap_or(role.db_name);
    if role.db_name.is_empty() {
        return Err(Fault::invalid("database name is a required field"));
    }
    let username = input.username.unwrap_or_else(|| role.username.clone());
    if username.is_empty() {
        return Err(Fault::invalid("username is a required field to create a static account"));
    }
    if !is_new && role.username != username {
        return Err(Fault::invalid("cannot update static account username"));
    }
    role.username = username;
    role.rotation_statements = input.rotation_statements.map_or(role.rotation_statements, |list| list.0);
    role.credential.change(input.credential, &mut None)?;
    let policy = input.rotation_policy;
    cx.view.check_rotation_policy(policy.as_deref())?;
    let resumes = cx.view.is_orphaned(&wake_name(name))?;
    let has_new_time = resumes || input.rotation_period.is_some() || input.rotation_schedule.is_some();
    change_times(&mut role, input.rotation_period, input.rotation_schedule, input.rotation_window)?;
    let rotation = role.rotation()?;
    let connection = Connection::named(&mut cx.view, &role.db_name)?;
    connection.allows(name)?;
    role.username = connection.plugin()?.fitting_name(role.username)?;
    role.credential.password_policy(&connection.password_policy)?;
    let is_self_managed = engine.targets.of(&connection, Doors::of(&cx))?.is_self_managed();
    let own = input.self_managed_password.filter(|password| !password.is_empty());
    if own.is_some() && !is_self_managed {
        return Err(Fault::invalid("self_managed_password is for connections that are self_managed"));
    }
    let given = own.or(input.password.filter(|password| !password.is_empty()));
    if let Some(password) = &given {
        promote(&mut role.passwords, password);
        // Whoever says it knows: what was being set is not in doubt any more.
        role.is_rotating = false;
    }
    if is_self_managed && role.passwords.is_empty() {
        return Err(Fault::invalid("a static role of a self_managed connection needs its self_managed_password"));
    }
    let skips_import = Common::of(&connection.details).map_err(Fault::invalid)?.skips_import();
    if is_new && !input.skip_import_rotation.unwrap_or(skips_import) {
        cx.view.retry_anew(&wake_name(name), policy.as_deref())?;
        return rotation_of(engine, cx, name, role, OnFailure::Forget);
    }
    if is_new && role.passwords.is_empty() {
        return Err(Fault::invalid("skip_import_rotation needs the password that the account has"));
    }
    let next =
        (is_new || has_new_time).then(|| rotation.due(*role.last_rotation.get_or_insert(cx.now), cx.now).max(cx.now));
    let (username, before) = (role.username.clone(), cx.view.read(&place(name))?);
    let changed = Changed { name: name.to_owned(), role, next, policy, is_new };
    let Some(password) = given else {
        changed.store(&mut cx.view)?;
        return Ok(Outside::done(Nothing));
    };
    // What is shown from now on has to be right.
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    let target_name = connection.target();
    let act = async move {
        match target.log_in(&username, &password).await {
            // Who may log in elsewhere only was let in by it.
            Ok(()) | Err(Trouble::Forbidden(_)) => Ok(()),
            Err(trouble @ Trouble::NoEntry(_)) => {
                let text = format!("the password is not that of {username:?}: {trouble}");
                Err(Failed::nothing_done(Fault::invalid(text)))
            }
            Err(trouble) => {
                let text = format!("the password of {username:?} could not be verified: {trouble}");
                Err(Failed::nothing_done(Fault::invalid(text)))
            }
        }
    };
    Ok(Outside::new(target_name, act, move |view, _now, (): &()| {
        if view.read(&place(&changed.name))?.as_deref() != before.as_deref() {
            return Err(Fault::invalid("the static role was changed or rotated meanwhile: write it again"));
        }
        changed.store(view).map(|()| Nothing)
    }))
}

/// A role as it is to be stored.
struct Changed {
    name: String,
    role: StaticRole,
    /// When it is rotated, where that changes.
    next: Option<Timestamp>,
    /// By which it is tried again from now on, where that changes.
    policy: Option<String>,
    is_new: bool,
}

impl Changed {
    fn store(&self, view: &mut View<'_>) -> Result<(), Fault> {
        if let Some(next) = self.next {
            view.wake(&wake_name(&self.name), next)?;
        }
        view.retry_anew(&wake_name(&self.name), self.policy.as_deref())?;
        self.role.store(view, &self.name)?;
        let kind = if self.is_new { "database/static-role-create" } else { "database/static-role-update" };
        view.tell(|| Happened::named(kind, "static-roles", &self.name));
        Ok(())
    }
}

fn change_times(
    role: &mut StaticRole,
    period: Option<Seconds>,
    schedule: Option<String>,
    window: Option<Seconds>,
) -> Result<(), Fault> {
    let schedule = schedule.filter(|schedule| !schedule.is_empty());
    if period.is_some() && schedule.is_some() {
        return Err(Fault::invalid(
            "mutually exclusive fields rotation_period and rotation_schedule were both specified",
        ));
    }
    if let Some(period) = period {
        if period.0 < PERIOD_MIN {
            return Err(Fault::invalid(format!("rotation_period must be {} seconds or more", PERIOD_MIN.as_secs())));
        }
        (role.rotation_period, role.rotation_schedule) = (period.0, String::new());
        role.rotation_window = Duration::ZERO;
    }
    if let Some(schedule) = schedule {
        (role.rotation_period, role.rotation_schedule) = (Duration::ZERO, schedule);
    }
    if let Some(window) = window {
        if role.rotation_schedule.is_empty() {
            return Err(Fault::invalid("rotation_window is invalid with use of rotation_period"));
        }
        if window.0 < WINDOW_MIN {
            return Err(Fault::invalid(format!("rotation_window must be {} seconds or more", WINDOW_MIN.as_secs())));
        }
        role.rotation_window = window.0;
    }
    if role.rotation_period.is_zero() && role.rotation_schedule.is_empty() {
        return Err(Fault::invalid(
            "one of rotation_schedule or rotation_period must be provided to create a static account",
        ));
    }
    Ok(())
}

pub(crate) async fn rotate(engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Outside<Nothing>, Fault> {
    let name = checked_name(&input.name)?;
    let role = StaticRole::load(&mut cx.view, name)?;
    let role = role.ok_or_else(|| Fault::invalid("no static role found for role name"))?;
    rotation_of(engine, cx, name, role, OnFailure::Keep)
}

/// Rotates what is due, or says when it comes next, if its window has passed.
pub(crate) fn due(engine: &Database, mut cx: Cx<'_>, name: &str) -> Result<Outside<Nothing>, Fault> {
    let Some(role) = StaticRole::load(&mut cx.view, name)? else { return Ok(Outside::done(Nothing)) };
    let rotation = role.rotation()?;
    let due = rotation.due(role.last_rotation.unwrap_or(Timestamp::EPOCH), cx.now);
    if !role.is_rotating && role.last_rotation.is_some() && !rotation.is_open(due, cx.now) {
        // It is not due yet, or not any more before that.
        cx.view.wake(&wake_name(name), due)?;
        return Ok(Outside::done(Nothing));
    }
    rotation_of(engine, cx, name, role, OnFailure::Keep)
}

/// What becomes of a role whose rotation certainly did nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    /// It was to be made by it.
    Forget,
    /// It goes on with the password that it had.
    Keep,
}

fn rotation_of(
    engine: &Database,
    mut cx: Cx<'_>,
    name: &str,
    mut role: StaticRole,
    on_failure: OnFailure,
) -> Result<Outside<Nothing>, Fault> {
    let connection = Connection::named(&mut cx.view, &role.db_name)?;
    connection.allows(name)?;
    let policy = role.credential.password_policy(&connection.password_policy)?;
    let unfinished = role.passwords.get(1).filter(|_| role.is_rotating).map(copied);
    let candidate = match unfinished {
        Some(candidate) => candidate,
        None => {
            let candidate = cx.password(&policy)?;
            // Where none counts yet, the candidate is what is known.
            role.passwords.insert(role.passwords.len().min(1), copied(&candidate));
            role.passwords.truncate(PASSWORDS_MAX);
            role.is_rotating = role.passwords.len() > 1;
            candidate
        }
    };
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    let target_name = connection.target();
    let own = target.is_self_managed().then(|| role.passwords.iter().map(copied).collect::<Vec<_>>());
    role.store(&mut cx.view, name)?;
    // A crash calls this again; so does a failure, sooner or later.
    cx.view.wake_unless_settled(&wake_name(name), cx.now.plus(AGAIN_AFTER))?;
    let (username, statements) = (role.username, role.rotation_statements);
    let act = async move {
        target.set_password(&username, own.as_deref(), &candidate, &statements).await?;
        match target.log_in(&username, &candidate).await {
            // Who may log in elsewhere only was let in by it, or cannot be asked.
            Ok(()) | Err(Trouble::Forbidden(_)) => Ok(candidate),
            Err(trouble @ Trouble::NoEntry(_)) => Err(Failed::partly_done(trouble.fault())),
            Err(trouble) => Err(Failed::in_doubt(trouble.fault())),
        }
    };
    let (settled, noted) = (Arc::<str>::from(name), Arc::<str>::from(name));
    let planned = Outside::new(target_name, act, move |view, now, candidate: &SecretString| {
        // Deleted meanwhile: nobody is shown it.
        let Some(mut role) = StaticRole::load(view, &settled)? else { return Ok(Nothing) };
        role.promote(candidate, now);
        role.store(view, &settled)?;
        view.rotated(&wake_name(&settled))?;
        view.wake(&wake_name(&settled), role.rotation()?.next(now))?;
        view.tell(|| match on_failure {
            OnFailure::Forget => Happened::named("database/static-role-create", "static-roles", &settled),
            OnFailure::Keep => Happened::named("database/rotate", "rotate-role", &settled),
        });
        Ok(Nothing)
    });
    Ok(planned.if_failed(move |view, now, failed| {
        view.tell(|| Happened::named("database/rotate-fail", "rotate-role", &noted).without_change());
        if failed.left == Left::Nothing && on_failure == OnFailure::Forget {
            view.delete(&place(&noted))?;
            view.retry_by(&wake_name(&noted), "")?;
            return view.no_wake(&wake_name(&noted));
        }
        let Some(role) = StaticRole::load(view, &noted)? else { return Ok(()) };
        view.not_rotated(&wake_name(&noted), now, role.rotation()?.next(now))
    }))
}
