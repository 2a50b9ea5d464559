//! `rotate-root`: the engine's own password, which nobody knows afterwards.
//!
//! As any rotation it has two phases, and in between both passwords are tried; the one before is tried for ten minutes
//! more, since a directory of several servers may take its time.

use tresor_engine::outside::{Failed, Left, Outside};
use tresor_engine::{Cx, Happened, Nothing, View};
use tresor_model::{Fault, Timestamp};
use tresor_secret::SecretString;
use tresor_wire::input::EmptyInput;

use crate::Ldap;
use crate::config::Config;
use crate::directory::failed_first;
use crate::rotating::FINISHED_AFTER;
use crate::secrets::{copy, is_same};

/// For what the engine is called when this is due.
pub(crate) const WAKE: &str = "root";

/// Sets when the engine is called for it next.
pub(crate) fn plan_next(view: &mut View<'_>, config: &Config, now: Timestamp) -> Result<(), Fault> {
    if config.candidate.is_some() {
        return view.wake(WAKE, now.plus(FINISHED_AFTER));
    }
    match config.next_rotation(config.rotated.unwrap_or(now), now)? {
        Some(next) => view.wake(WAKE, next),
        None => view.no_wake(WAKE),
    }
}

pub(crate) async fn rotate(_engine: &Ldap, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Outside<Nothing>, Fault> {
    let config = Config::managing(&mut cx.view, "rotate-root")?;
    plan(&mut cx, config)
}

/// Does what is due.
pub(crate) fn awake(cx: &mut Cx<'_>) -> Result<Outside<Nothing>, Fault> {
    let Some(config) = Config::load(&mut cx.view)? else { return Ok(Outside::done(Nothing)) };
    if config.candidate.is_none() {
        let Some(rotation) =
            config.timing.rotation().map_err(Fault::internal)?.filter(|_| !config.is_rotation_disabled)
        else {
            return Ok(Outside::done(Nothing));
        };
        let due = config.rotated.map_or(cx.now, |rotated| rotation.due(rotated, cx.now));
        if !rotation.is_open(due, cx.now) {
            cx.view.wake(WAKE, due)?;
            return Ok(Outside::done(Nothing));
        }
    }
    plan(cx, config)
}

fn plan(cx: &mut Cx<'_>, mut config: Config) -> Result<Outside<Nothing>, Fault> {
    let was_in_doubt = config.candidate.is_some();
    let candidate = match config.candidate.take() {
        Some(begun) => begun,
        None => config.new_password(cx, "")?,
    };
    let password = copy(&candidate);
    config.candidate = Some(candidate);
    // Made with the candidate among the passwords: it is what the account has, perhaps.
    let directory = config.directory(cx.net, cx.clock, cx.now)?;
    config.store(&mut cx.view)?;
    cx.view.wake_unless_settled(WAKE, cx.now.plus(FINISHED_AFTER))?;
    let number = config.number;
    let act = async move {
        const CONTEXT: &str = "unable to rotate the password of binddn";
        let failed = |error| failed_first(CONTEXT, &error, &[]);
        let mut connection = directory.open().await.map_err(failed)?;
        let entry = directory.find_manager(&mut connection).await.map_err(failed)?;
        let rotated = directory.rotate(&mut connection, &entry, &password, None, was_in_doubt).await;
        rotated.map_err(|error| failed_first(CONTEXT, &error, &[&password]))?;
        Ok(password)
    };
    let settle = move |view: &mut View<'_>, now: Timestamp, password: &SecretString| {
        if let Some(mut config) = begun(view, number)?
            && config.candidate.as_ref().is_some_and(|candidate| is_same(candidate, password))
            && let Some(candidate) = config.candidate.take()
        {
            config.last_password = Some(std::mem::replace(&mut config.password, candidate));
            config.rotated = Some(now);
            config.store(view)?;
            view.rotated(WAKE)?;
            plan_next(view, &config, now)?;
            view.tell(|| Happened::new("ldap/root-rotate", "rotate-root"));
        }
        Ok(Nothing)
    };
    let note = move |view: &mut View<'_>, now: Timestamp, failed: &Failed| {
        view.tell(|| Happened::new("ldap/root-rotate-fail", "rotate-root").without_change());
        let Some(mut config) = begun(view, number)? else { return Ok(()) };
        if failed.left == Left::Nothing && !was_in_doubt {
            config.candidate = None;
            config.store(view)?;
        }
        match config.next_rotation(now, now)? {
            Some(next) => {
                view.wake(WAKE, now.plus(FINISHED_AFTER))?;
                view.not_rotated(WAKE, now, next)
            }
            None => plan_next(view, &config, now),
        }
    };
    Ok(Outside::new("", act, settle).if_failed(note))
}

/// The configuration that a rotation began for, if it is still that.
fn begun(view: &mut View<'_>, number: u64) -> Result<Option<Config>, Fault> {
    Ok(Config::load(view)?.filter(|config| config.number == number))
}
