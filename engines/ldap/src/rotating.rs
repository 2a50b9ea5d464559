//! Giving accounts new passwords, in two phases: the candidate is stored, set, logged in with, and then it is the password.
//!
//! Whatever happens in between, one of the two that are stored is right, and what nobody knows the end of is finished by
//! [`awake`]: who logs in with the candidate has it, and otherwise it is set. Deliberately absent: what keepers do with it.

use std::time::Duration;

use tresor_engine::outside::{Failed, Left, Outside};
use tresor_engine::{Answer, Cx, Happened, Nothing, View};
use tresor_model::{Fault, Timestamp};
use tresor_secret::SecretString;

use crate::account::{Account, Keeper, key};
use crate::config::Config;
use crate::directory::{Directory, failed_first, failed_later};
use crate::library::LibrarySet;
use crate::secrets::{copy, is_same};
use crate::static_role::StaticRole;

/// After how long a rotation that nobody knows the end of is finished.
pub(crate) const FINISHED_AFTER: Duration = Duration::from_secs(90);
/// After how long a rotation that did not succeed is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// One account that gets a password.
struct Job {
    key: String,
    user: String,
    name: String,
    password: SecretString,
    /// Whether it perhaps has it.
    is_in_doubt: bool,
}

/// Plans to give accounts new passwords, and to answer then. Accounts are stored by this.
pub(crate) fn plan<A: Answer + 'static>(
    cx: &mut Cx<'_>,
    config: &Config,
    accounts: Vec<Account>,
    then: impl Fn(&mut View<'_>, Timestamp) -> Result<A, Fault> + Send + Sync + 'static,
) -> Result<Outside<A>, Fault> {
    let mut directory = config.directory(cx.net, cx.clock, cx.now)?;
    let mut jobs = Vec::with_capacity(accounts.len());
    for mut account in accounts {
        let is_in_doubt = account.candidate.is_some() || account.next.is_some();
        let candidate = match account.candidate.take().or_else(|| account.next.take()) {
            Some(begun) => begun,
            None => {
                let policy = match &account.keeper {
                    Keeper::Role(role) => StaticRole::policy(&mut cx.view, role)?,
                    Keeper::Set(_) => String::new(),
                };
                config.new_password(cx, &policy)?
            }
        };
        let password = copy(&candidate);
        account.candidate = Some(candidate);
        if config.is_self_managed {
            if account.name.is_empty() {
                return Err(Fault::invalid("the account has no dn, and nobody is configured who could look for it"));
            }
            (directory.manager, directory.acts_as_itself) = (account.itself(is_in_doubt), true);
        }
        account.store(&mut cx.view)?;
        let key = key(&account.user);
        cx.view.wake_unless_settled(&key, cx.now.plus(FINISHED_AFTER))?;
        jobs.push(Job { key, user: account.user, name: account.name, password, is_in_doubt });
    }
    let begun: Vec<(String, bool)> = jobs.iter().map(|job| (job.key.clone(), job.is_in_doubt)).collect();
    let act = act(directory, jobs);
    let settle = move |view: &mut View<'_>, now: Timestamp, jobs: &Vec<Job>| {
        for job in jobs {
            settle(view, now, job)?;
        }
        then(view, now)
    };
    let note = move |view: &mut View<'_>, now: Timestamp, failed: &Failed| {
        begun.iter().try_for_each(|(key, was_in_doubt)| note(view, now, key, *was_in_doubt, failed.left))
    };
    Ok(Outside::new("", act, settle).if_failed(note))
}

async fn act(directory: Directory, jobs: Vec<Job>) -> Result<Vec<Job>, Failed> {
    const CONTEXT: &str = "unable to rotate the password";
    let opened = directory.open_by().await;
    let (mut connection, by) = opened.map_err(|error| failed_first(CONTEXT, &error, &[]))?;
    let own = directory.acts_as_itself.then_some(by);
    // All are there, or nothing is changed.
    let mut entries = Vec::with_capacity(jobs.len());
    for job in &jobs {
        if own.is_some() {
            // It may not be allowed to look at itself.
            entries.push(job.name.clone());
            continue;
        }
        let found = directory.find(&mut connection, &job.name, &job.user).await;
        let context = format!("{CONTEXT} of {:?}", job.user);
        entries.push(found.map_err(|error| failed_first(&context, &error, &[&job.password]))?);
    }
    for (at, (job, entry)) in jobs.iter().zip(&entries).enumerate() {
        let context = format!("{CONTEXT} of {:?}", job.user);
        let failed = if at == 0 { failed_first } else { failed_later };
        let rotated = directory.rotate(&mut connection, entry, &job.password, own, job.is_in_doubt).await;
        rotated.map_err(|error| failed(&context, &error, &[&job.password]))?;
    }
    Ok(jobs)
}

/// The candidate is the password, unless somebody meanwhile made it another account's or another candidate.
fn settle(view: &mut View<'_>, now: Timestamp, job: &Job) -> Result<(), Fault> {
    let Some(mut account) = Account::load(view, &job.key)? else { return Ok(()) };
    if !account.candidate.as_ref().is_some_and(|candidate| is_same(candidate, &job.password)) {
        return Ok(());
    }
    account.promote(now);
    account.store(view)?;
    view.rotated(&job.key)?;
    let has_keeper = match &account.keeper {
        Keeper::Role(role) => {
            let was_settled = StaticRole::is_settled(view, role)?;
            let is_there = StaticRole::taken_over(view, role, &account, now)?;
            if is_there {
                view.tell(|| match was_settled {
                    true => Happened::named("ldap/rotate", "rotate-role", role),
                    false => Happened::named("ldap/static-role-create", "static-role", role),
                });
            }
            is_there
        }
        Keeper::Set(set) => {
            view.no_wake(&job.key)?;
            LibrarySet::take_in(view, set, &account.user)?
        }
    };
    if has_keeper { Ok(()) } else { Account::forget(view, &account.user) }
}

/// It failed: what was certainly not done is forgotten, what is in doubt is finished later.
fn note(view: &mut View<'_>, now: Timestamp, key: &str, was_in_doubt: bool, left: Left) -> Result<(), Fault> {
    let Some(mut account) = Account::load(view, key)? else { return view.no_wake(key) };
    if let Keeper::Role(role) = &account.keeper {
        view.tell(|| Happened::named("ldap/rotate-fail", "rotate-role", role).without_change());
    }
    match left {
        // It is still lent, and comes back another time.
        Left::Nothing if account.borrower.is_some() => account.next = account.candidate.take(),
        Left::Nothing if !was_in_doubt => account.candidate = None,
        _ => {}
    }
    // It was to be taken over, and was not.
    match &account.keeper {
        _ if account.candidate.is_some() => {}
        Keeper::Role(role) if !StaticRole::is_settled(view, role)? => {
            StaticRole::forget(view, role)?;
            return Account::forget(view, &account.user);
        }
        Keeper::Set(set) if account.password.is_none() => {
            LibrarySet::let_go(view, set, &account.user)?;
            return Account::forget(view, &account.user);
        }
        Keeper::Role(_) | Keeper::Set(_) => {}
    }
    account.store(view)?;
    let rotation = match &account.keeper {
        Keeper::Role(role) => StaticRole::load(view, role)?.map(|role| role.timing.rotation()).transpose(),
        Keeper::Set(_) => Ok(None),
    };
    let rotation = rotation.map_err(Fault::internal)?.flatten();
    match &rotation {
        _ if account.candidate.is_some() => view.wake(key, now.plus(FINISHED_AFTER))?,
        Some(rotation) => view.wake(key, rotation.again(now, now, PAUSE))?,
        None => view.no_wake(key)?,
    }
    rotation.map_or(Ok(()), |rotation| view.not_rotated(key, now, rotation.next(now)))
}

/// Does what is due for an account: finishes what was begun, rotates what is to be rotated now.
pub(crate) fn awake(cx: &mut Cx<'_>, key: &str) -> Result<Outside<Nothing>, Fault> {
    let Some(account) = Account::load(&mut cx.view, key)? else { return Ok(Outside::done(Nothing)) };
    if account.candidate.is_none() {
        let Keeper::Role(name) = &account.keeper else { return Ok(Outside::done(Nothing)) };
        let Some(role) = StaticRole::load(&mut cx.view, name)? else { return Ok(Outside::done(Nothing)) };
        let Some(rotation) = role.timing.rotation().map_err(Fault::internal)? else {
            return Ok(Outside::done(Nothing));
        };
        let due = rotation.due(account.rotated.unwrap_or(role.made), cx.now);
        if !rotation.is_open(due, cx.now) {
            cx.view.wake(key, due)?;
            return Ok(Outside::done(Nothing));
        }
    }
    let config = account.config(&mut cx.view)?;
    plan(cx, &config, vec![account], |_, _| Ok(Nothing))
}
