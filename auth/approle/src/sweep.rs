//! Taking away what ended by itself, and what roles that were deleted left behind: a few with each secret id that is
//! made, many by tidying.
//!
//! Who makes one takes away more than one, one time in sixteen, so what has ended is never much more than what is made
//! meanwhile. Deliberately absent: a task, and any memory of what waits.

use tresor_engine::answer::Accepted;
use tresor_engine::{Cx, View, Warned, is_damage};
use tresor_model::{Fault, Timestamp};
use tresor_wire::input::EmptyInput;

use crate::AppRole;
use crate::secret_id::{SECRET_IDS, SecretId};

/// What ends, in order of time: a name says when, and what.
const ENDS: &str = "ends/";
/// The numbers of deleted roles whose secret ids are still there.
const ABANDONED: &str = "abandoned/";
/// How many go with a secret id that is made.
const FEW: usize = 32;
/// How many go by tidying, in one transaction.
const MANY: usize = 4096;

/// Where the end of a secret id stands.
fn end_of(known: &SecretId) -> Option<String> {
    known.ends.map(|ends| format!("{ENDS}{:020}.{}.{}", ends.nanos().max(0), known.role, known.accessor))
}

/// Enters the end of a secret id.
pub(crate) fn enter(view: &mut View<'_>, known: &SecretId) -> Result<(), Fault> {
    end_of(known).map_or(Ok(()), |name| view.write(&name, &[]))
}

/// Takes it out again.
pub(crate) fn leave(view: &mut View<'_>, known: &SecretId) -> Result<(), Fault> {
    end_of(known).map_or(Ok(()), |name| view.delete(&name))
}

/// Leaves the secret ids of a deleted role to be taken away: nothing leads to them any more.
pub(crate) fn abandon(view: &mut View<'_>, role: &str) -> Result<(), Fault> {
    view.write(&format!("{ABANDONED}{role}"), &[])?;
    let mut budget = FEW;
    sweep_role(view, role, &mut budget)
}

/// Takes away the secret ids of a deleted role, as far as the budget goes.
fn sweep_role(view: &mut View<'_>, role: &str, budget: &mut usize) -> Result<(), Fault> {
    let directory = format!("{SECRET_IDS}{role}/");
    for accessor in view.list(&directory, None, *budget)? {
        take_away(view, &format!("{role}/{accessor}"))?;
        *budget -= 1;
    }
    if *budget > 0 { view.delete(&format!("{ABANDONED}{role}")) } else { Ok(()) }
}

/// Takes away one; what cannot be read goes without what would have led to it.
fn take_away(view: &mut View<'_>, name: &str) -> Result<(), Fault> {
    match SecretId::load(view, name) {
        Ok(Some(known)) => known.remove(view),
        Ok(None) => Ok(()),
        Err(damage) if is_damage(&damage) => view.delete(&format!("{SECRET_IDS}{name}")),
        Err(failure) => Err(failure),
    }
}

/// Takes away what has ended, as far as the budget goes; true when nothing is left.
fn sweep(view: &mut View<'_>, now: Timestamp, mut budget: usize) -> Result<bool, Fault> {
    for name in view.list(ENDS, None, budget)? {
        let mut parts = name.splitn(3, '.');
        let (ends, role, accessor) = (parts.next(), parts.next(), parts.next());
        let ends = ends.and_then(|ends| ends.parse().ok()).map(Timestamp::from_nanos);
        if ends.is_some_and(|ends| ends > now) {
            break;
        }
        if let (Some(role), Some(accessor)) = (role, accessor) {
            take_away(view, &format!("{role}/{accessor}"))?;
        }
        view.delete(&format!("{ENDS}{name}"))?;
        budget -= 1;
    }
    for role in view.list(ABANDONED, None, budget)? {
        if budget > 0 {
            sweep_role(view, &role, &mut budget)?;
        }
    }
    Ok(budget > 0)
}

/// Takes away a few now and then.
pub(crate) fn now_and_then(cx: &mut Cx<'_>) -> Result<(), Fault> {
    let mut die = [0_u8; 1];
    cx.entropy.fill(&mut die);
    if die[0] % 16 == 0 { sweep(&mut cx.view, cx.now, FEW).map(drop) } else { Ok(()) }
}

pub(crate) async fn tidy(_method: &AppRole, mut cx: Cx<'_>, _input: EmptyInput) -> Result<Warned<Accepted>, Fault> {
    let is_done = sweep(&mut cx.view, cx.now, MANY)?;
    let said = if is_done {
        "Tidied: nothing is left of secret ids that ended."
    } else {
        "Tidied, but more is left: call again, or leave it to those who make new ones."
    };
    Ok(Warned(Accepted, vec![said.to_owned()]))
}
