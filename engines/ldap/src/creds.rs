//! `creds`: an account that is made for whoever asks, under a lease.
//!
//! All that is done to the directory is known before anything is: the changes that make the account, and those that remove
//! it, which the lease keeps. So neither the role nor the configuration has to be there for the account to go. What is not
//! there any more is taken back.

use std::time::Duration;

use tresor_credential::Moment;
use tresor_directory::{Connection, DirectoryError, Outcome};
use tresor_engine::outside::{Failed, Outside, UnderLease};
use tresor_engine::{Cx, Data, Happened, LeaseClaim, Leased};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretBytes;
use tresor_wire::output::Output;
use tresor_wire::time::rfc3339;

use crate::Ldap;
use crate::config::Config;
use crate::directory::{apply, failed_first, failed_later, not_taken_back, unreached, words};
use crate::ldif::{self, Change, Deed};
use crate::role::{ByName, Role};
use crate::secrets::shown;

/// What is handed out, in the words of a lease.
pub(crate) const KIND: &str = "creds";

/// How an account is taken back.
#[derive(Record)]
#[record(kind = "ldap-made", version = 1)]
struct Made {
    role: String,
    /// The configuration that it was made with.
    config: u64,
    deletion: Vec<Change>,
}

/// An account.
#[derive(Output)]
pub(crate) struct Credentials {
    /// Its name.
    username: String,
    /// Its password.
    #[output(secret)]
    password: String,
    /// The entries that were made or changed for it.
    distinguished_names: Vec<String>,
}

pub(crate) async fn make(
    _engine: &Ldap,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Option<Outside<UnderLease<Data<Credentials>>>>, Fault> {
    let Some(role) = Role::load(&mut cx.view, &input.name)? else { return Ok(None) };
    let config = Config::managing(&mut cx.view, "making accounts")?;
    let username = role.username(&cx, &input.name)?;
    let password = config.new_password(&mut cx, "")?;
    let issued = Timestamp::from_seconds(cx.now.seconds());
    let said = |own: Duration, usual: Duration| if own.is_zero() { usual } else { own };
    let max_ttl = said(role.max_ttl, config.max_ttl);
    let ttl = match said(role.default_ttl, config.ttl) {
        // The configuration's does not reach beyond the role's own bound.
        ttl if !max_ttl.is_zero() => ttl.min(max_ttl),
        ttl => ttl,
    };
    let life = said(ttl, cx.mount.default_lease_ttl);
    let ends = issued.plus(life);
    let (issued_text, issued_seconds) = (rfc3339(issued), issued.seconds().to_string());
    let (ends_text, ends_seconds) = (rfc3339(ends), ends.seconds().to_string());
    let values = [
        ("Username", username.as_str()),
        ("Password", password.expose().as_str()),
        ("DisplayName", cx.caller.display_name),
        ("RoleName", input.name.as_str()),
        ("IssueTime", issued_text.as_str()),
        ("IssueTimeSeconds", issued_seconds.as_str()),
        ("ExpirationTime", ends_text.as_str()),
        ("ExpirationTimeSeconds", ends_seconds.as_str()),
    ];
    let moment = Moment { now: cx.now, entropy: cx.entropy };
    let changes = |text: &str, name: &str| {
        ldif::changes(text, &values, moment).map_err(|error| Fault::invalid(format!("invalid {name}: {error}")))
    };
    let creation = changes(&role.creation, "creation_ldif")?;
    let deletion = changes(&role.deletion, "deletion_ldif")?;
    let rollback = if role.rollback.is_empty() { Vec::new() } else { changes(&role.rollback, "rollback_ldif")? };
    let directory = config.directory(cx.net, cx.clock, cx.now)?;
    let asked = config.target();

    let names: Vec<String> = creation.iter().map(|change| change.name.clone()).collect();
    let recipe = Made { role: input.name.clone(), config: config.number, deletion };
    let claim =
        LeaseClaim { kind: KIND, recipe: SecretBytes::new(recipe.encode().to_vec()), ttl, max_ttl, renewable: true };
    let act = async move {
        const CONTEXT: &str = "failed to create user";
        let mut connection = directory.open().await.map_err(|error| failed_first(CONTEXT, &error, &[]))?;
        for (at, change) in creation.iter().enumerate() {
            let Err(error) = apply(&mut connection, change).await else { continue };
            if at == 0 {
                return Err(failed_first(CONTEXT, &error, &[&password]));
            }
            if rollback.is_empty() || !error.is_refusal() {
                return Err(failed_later(CONTEXT, &error, &[&password]));
            }
            let said = words(CONTEXT, &error, &[&password]);
            return Err(match undo(&mut connection, &rollback).await {
                Ok(()) => Failed::nothing_done(Fault::invalid(said)),
                Err(undone) => {
                    let undone = words("failed to roll back user creation", &undone, &[&password]);
                    Failed::partly_done(Fault::invalid(format!("{said}; {undone}")))
                }
            });
        }
        Ok(password)
    };
    let (issued, failing) = (input.name.clone(), input.name);
    let planned = Outside::new(asked, act, move |view, _, password: &tresor_secret::SecretString| {
        view.tell(|| Happened::named("ldap/creds-create", "creds", &issued));
        Ok(Data(Credentials {
            username: username.clone(),
            password: shown(password),
            distinguished_names: names.clone(),
        }))
    });
    let planned = planned.if_failed(move |view, _now, _failed| {
        view.tell(|| Happened::named("ldap/creds-create-fail", "creds", &failing).without_change());
        Ok(())
    });
    Ok(Some(planned.with_lease(claim)))
}

/// Makes all changes, whatever becomes of each; what is not there is gone.
async fn undo(connection: &mut Connection, changes: &[Change]) -> Result<(), DirectoryError> {
    let mut first = None;
    for change in changes {
        match apply(connection, change).await {
            Ok(()) => {}
            Err(error) if is_gone(&error, change) => {}
            // The others are made all the same, as long as somebody answers.
            Err(error) if error.is_refusal() => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    first.map_or(Ok(()), Err)
}

/// Whether what a change takes away is not there any more.
fn is_gone(error: &DirectoryError, change: &Change) -> bool {
    let DirectoryError::Refused(outcome) = error else { return false };
    match change.deed {
        Deed::Delete => outcome.code == Outcome::NO_SUCH_OBJECT,
        Deed::Modify(_) => [Outcome::NO_SUCH_OBJECT, Outcome::NO_SUCH_ATTRIBUTE].contains(&outcome.code),
        Deed::Add(_) => outcome.code == Outcome::ENTRY_ALREADY_EXISTS,
    }
}

fn recipe(lease: &Leased<'_>) -> Result<Made, Fault> {
    Made::decode(lease.recipe.expose()).map_err(Fault::internal)
}

/// Agrees to a longer life, as long as there is the role.
pub(crate) fn renew(mut cx: Cx<'_>, lease: &Leased<'_>) -> Result<(), Fault> {
    let made = recipe(lease)?;
    let gone = || Fault::invalid("unable to renew: role does not exist");
    Role::load(&mut cx.view, &made.role)?.map(drop).ok_or_else(gone)
}

/// Removes the account.
pub(crate) async fn revoke(mut cx: Cx<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let made = recipe(&lease)?;
    let missing = || Fault::invalid("missing LDAP configuration");
    let config = Config::made_with(&mut cx.view, made.config)?.ok_or_else(missing)?;
    let directory = config.directory(cx.net, cx.clock, cx.now)?;
    let mut connection = directory.open().await.map_err(|error| unreached(&error))?;
    undo(&mut connection, &made.deletion).await.map_err(|error| not_taken_back(&error))
}
