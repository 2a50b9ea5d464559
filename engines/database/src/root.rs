//! `rotate-root/NAME`: a password for the connection's own account that only this server knows.
//!
//! The candidate is stored before it is set, logged in with before it counts, and the former ones are kept. Whoever connects
//! tries all of them, so a crash at any step leaves a connection that works; the time that was set then finds out which one.

use std::sync::Arc;
use std::time::Duration;

use tresor_engine::outside::{Failed, Left};
use tresor_engine::{Cx, Nothing, Outside, View};
use tresor_model::{Fault, Timestamp};
use tresor_secret::SecretString;

use crate::config::ByName;
use crate::connection::{Connection, PASSWORDS_MAX, copied};
use crate::settings::Common;
use crate::target::Trouble;
use crate::{Database, Doors, checked_name};

/// When it is found out which password counts, after a rotation that did not end.
const FIND_OUT_AFTER: Duration = Duration::from_secs(90);

fn wake_name(name: &str) -> String {
    format!("root/{name}")
}

pub(crate) async fn rotate(engine: &Database, mut cx: Cx<'_>, input: ByName) -> Result<Outside<Nothing>, Fault> {
    let name = checked_name(&input.name)?;
    let mut connection = Connection::named(&mut cx.view, name)?;
    let settings = Common::of(&connection.details).map_err(Fault::invalid)?;
    let username = settings.username.filter(|username| !username.is_empty());
    let missing = |what: &str| Fault::invalid(format!("unable to rotate root credentials: no {what} in configuration"));
    let username = username.ok_or_else(|| missing("username"))?;
    if connection.passwords.is_empty() {
        return Err(missing("password"));
    }
    let candidate = cx.password(&connection.password_policy)?;
    // By what counts now; those who connect from now on try the candidate, too.
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    connection.passwords.insert(1, copied(&candidate));
    connection.passwords.truncate(PASSWORDS_MAX);
    connection.is_in_doubt = true;
    connection.revision += 1;
    connection.store(&mut cx.view)?;
    cx.view.wake(&wake_name(name), cx.now.plus(FIND_OUT_AFTER))?;
    let statements = connection.root_rotation_statements.clone();
    let act = async move {
        target.set_password(&username, &candidate, &statements).await?;
        // It was set, or the statements set something else.
        match target.log_in(&username, &candidate).await {
            Ok(()) => Ok(candidate),
            Err(trouble @ Trouble::NoEntry(_)) => Err(Failed::partly_done(trouble.fault())),
            Err(trouble) => Err(Failed::in_doubt(trouble.fault())),
        }
    };
    let (promoted, undone) = (Arc::<str>::from(name), Arc::<str>::from(name));
    let id = connection.id.clone();
    let planned = Outside::new(connection.name, act, move |view, _now, candidate: &SecretString| {
        settle(view, &promoted, &id, Some(candidate))?;
        Ok(Nothing)
    });
    let id = connection.id;
    Ok(planned.if_failed(
        move |view, _now, failed| {
            if failed.left == Left::Nothing { settle(view, &undone, &id, None) } else { Ok(()) }
        },
    ))
}

/// Notes which password counts: the one that let us in, or, where nothing was done, the one that did before.
fn settle(view: &mut View<'_>, name: &str, id: &str, counts: Option<&SecretString>) -> Result<(), Fault> {
    view.no_wake(&wake_name(name))?;
    // Written anew meanwhile, by whoever says what counts.
    let Some(mut connection) = Connection::load(view, name)?.filter(|connection| connection.id == id) else {
        return Ok(());
    };
    let first = connection.passwords.first().map(copied);
    if let Some(counts) = counts.or(first.as_ref()) {
        connection.promote(counts);
        connection.store(view)?;
    }
    Ok(())
}

/// Finds out which password counts, by logging in.
pub(crate) fn find_out(engine: &Database, mut cx: Cx<'_>, name: &str) -> Result<Outside<Nothing>, Fault> {
    let found = Connection::load(&mut cx.view, name)?.filter(|connection| connection.is_in_doubt);
    let Some(connection) = found else { return Ok(Outside::done(Nothing)) };
    let settings = Common::of(&connection.details).map_err(Fault::invalid)?;
    let username = settings.username.unwrap_or_default();
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
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
    let (settled, id) = (Arc::<str>::from(name), connection.id);
    Ok(Outside::new(connection.name, act, move |view, _now: Timestamp, password: &SecretString| {
        settle(view, &settled, &id, Some(password))?;
        Ok(Nothing)
    }))
}
