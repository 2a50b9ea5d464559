//! The password of the connection's own account, which only this server knows: rotated by order (`rotate-root/NAME`), or by
//! itself when its time has come.
//!
//! The candidate is stored before it is set, logged in with before it counts, and the former ones are kept. Whoever connects
//! tries all of them, so a crash at any step leaves a connection that works; the time that was set then finds out which one.
//! One time per connection does for both, as what is in doubt is found out before anything is rotated.

use std::sync::Arc;
use std::time::Duration;

use tresor_engine::outside::{Failed, Left};
use tresor_engine::{Cx, Happened, Nothing, Outside, View};
use tresor_model::{Fault, Timestamp};
use tresor_secret::SecretString;

use crate::config::ByName;
use crate::connection::{Connection, PASSWORDS_MAX, copied};
use crate::settings::Common;
use crate::target::Trouble;
use crate::{Database, Doors, checked_name};

/// The least time between two rotations.
pub(crate) const PERIOD_MIN: Duration = Duration::from_secs(10);
/// When it is found out which password counts, after a rotation that did not end; and when one that could not begin is tried
/// again.
const AGAIN_AFTER: Duration = Duration::from_secs(90);

pub(crate) fn wake_name(name: &str) -> String {
    format!("root/{name}")
}

/// Whose password it is.
///
/// # Errors
/// Where there is nobody, or no password to begin with.
pub(crate) fn account_of(connection: &Connection) -> Result<String, Fault> {
    let settings = Common::of(&connection.details).map_err(Fault::invalid)?;
    let username = settings.username.filter(|username| !username.is_empty());
    let missing = |what: &str| Fault::invalid(format!("unable to rotate root credentials: no {what} in configuration"));
    let username = username.ok_or_else(|| missing("username"))?;
    if connection.passwords.is_empty() { Err(missing("password")) } else { Ok(username) }
}

/// Sets when a connection is looked at next; what is in doubt has its time already.
pub(crate) fn plan_next(view: &mut View<'_>, connection: &Connection, now: Timestamp) -> Result<(), Fault> {
    if connection.is_in_doubt {
        return Ok(());
    }
    let name = wake_name(&connection.name);
    match connection.rotation()? {
        Some(rotation) => view.wake(&name, rotation.due(connection.counts_since.unwrap_or(now), now).max(now)),
        None => view.no_wake(&name),
    }
}

pub(crate) async fn rotate(engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Outside<Nothing>, Fault> {
    let connection = Connection::named(&mut cx.view, checked_name(&input.name)?)?;
    rotation_of(engine, cx, connection)
}

/// Does what is due: finds out which password counts, or rotates it, or says when it comes next.
pub(crate) fn due(engine: &Database, mut cx: Cx<'_>, name: &str) -> Result<Outside<Nothing>, Fault> {
    let Some(connection) = Connection::load(&mut cx.view, name)? else { return Ok(Outside::done(Nothing)) };
    if connection.is_in_doubt {
        return find_out(engine, &cx, connection);
    }
    let Some(rotation) = connection.rotation()? else { return Ok(Outside::done(Nothing)) };
    let due = rotation.due(connection.counts_since.unwrap_or(Timestamp::EPOCH), cx.now);
    if !rotation.is_open(due, cx.now) {
        // Not due yet, or not any more before that.
        cx.view.wake(&wake_name(name), due)?;
        return Ok(Outside::done(Nothing));
    }
    rotation_of(engine, cx, connection)
}

fn rotation_of(engine: &Database, mut cx: Cx<'_>, mut connection: Connection) -> Result<Outside<Nothing>, Fault> {
    let username = account_of(&connection)?;
    let candidate = cx.password(&connection.password_policy)?;
    // By what counts now; those who connect from now on try the candidate, too.
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    let target_name = connection.target();
    connection.passwords.insert(1, copied(&candidate));
    connection.passwords.truncate(PASSWORDS_MAX);
    connection.is_in_doubt = true;
    connection.revision += 1;
    connection.store(&mut cx.view)?;
    cx.view.wake_unless_settled(&wake_name(&connection.name), cx.now.plus(AGAIN_AFTER))?;
    let statements = connection.root_rotation_statements.clone();
    let act = async move {
        target.set_password(&username, None, &candidate, &statements).await?;
        // It was set, or the statements set something else.
        match target.log_in(&username, &candidate).await {
            Ok(()) => Ok(candidate),
            Err(trouble @ Trouble::NoEntry(_)) => Err(Failed::partly_done(trouble.fault())),
            Err(trouble) => Err(Failed::in_doubt(trouble.fault())),
        }
    };
    let begun = Arc::new((connection.name.clone(), connection.id));
    let settled = Arc::clone(&begun);
    let planned = Outside::new(target_name, act, move |view, now, candidate: &SecretString| {
        settle(view, &settled, Some(candidate), now)?;
        view.tell(|| Happened::named("database/root-rotate", "rotate-root", &settled.0));
        Ok(Nothing)
    });
    Ok(planned.if_failed(move |view, now, failed| {
        view.tell(|| Happened::named("database/root-rotate-fail", "rotate-root", &begun.0).without_change());
        if failed.left != Left::Nothing {
            let rotation = Connection::load(view, &begun.0)?.map(|connection| connection.rotation()).transpose()?;
            let Some(rotation) = rotation.flatten() else { return Ok(()) };
            return view.not_rotated(&wake_name(&begun.0), now, rotation.next(now));
        }
        let Some(connection) = settle(view, &begun, None, now)? else { return Ok(()) };
        let Some(rotation) = connection.rotation()? else { return Ok(()) };
        // By order it may have been tried before its time, which stays; what was due waits a little.
        let due = rotation.due(connection.counts_since.unwrap_or(now), now);
        if due > now {
            return Ok(());
        }
        view.wake(&wake_name(&begun.0), rotation.again(due, now, AGAIN_AFTER))?;
        view.not_rotated(&wake_name(&begun.0), now, rotation.next(now))
    }))
}

/// Notes which password counts: the one that let us in, or, where nothing was done, the one that did before.
fn settle(
    view: &mut View<'_>,
    begun: &(String, String),
    counts: Option<&SecretString>,
    now: Timestamp,
) -> Result<Option<Connection>, Fault> {
    let (name, id) = begun;
    // Written anew meanwhile, by whoever says what counts.
    let Some(mut connection) = Connection::load(view, name)?.filter(|connection| connection.id == *id) else {
        return Ok(None);
    };
    let first = connection.passwords.first().map(copied);
    if let Some(counts) = counts.or(first.as_ref()) {
        if !connection.promote(counts) {
            connection.counts_since = Some(now);
            view.rotated(&wake_name(name))?;
        }
        connection.store(view)?;
        plan_next(view, &connection, now)?;
    }
    Ok(Some(connection))
}

/// Finds out which password counts, by logging in.
fn find_out(engine: &Database, cx: &Cx<'_>, connection: Connection) -> Result<Outside<Nothing>, Fault> {
    let settings = Common::of(&connection.details).map_err(Fault::invalid)?;
    let username = settings.username.unwrap_or_default();
    let target = engine.targets.of(&connection, Doors::of(cx))?;
    let target_name = connection.target();
    let passwords: Vec<SecretString> = connection.passwords.iter().map(copied).collect();
    let act = async move {
        let mut refused = Fault::invalid("there is no password");
        for password in passwords {
            match target.log_in(&username, &password).await {
                Ok(()) => return Ok(password),
                Err(trouble @ Trouble::NoEntry(_)) => refused = trouble.fault(),
                Err(trouble) => return Err(Failed::nothing_done(trouble.fault())),
            }
        }
        Err(Failed::nothing_done(refused))
    };
    let begun = (connection.name.clone(), connection.id);
    Ok(Outside::new(target_name, act, move |view, now: Timestamp, password: &SecretString| {
        settle(view, &begun, Some(password), now)?;
        Ok(Nothing)
    }))
}
