//! `creds/NAME`: an account, made now, under a lease.

use std::sync::Arc;
use std::time::Duration;

use tresor_credential::{Moment, layout};
use tresor_crypto::token_text::random_base62;
use tresor_engine::outside::{Left, UnderLease};
use tresor_engine::{Cx, Data, LeaseClaim, MountFacts, Outside};
use tresor_model::{Fault, Timestamp};
use tresor_record::Record;
use tresor_secret::SecretBytes;
use tresor_wire::output::Output;

use crate::account::{Account, KIND};
use crate::config::{ByName, ID_LENGTH};
use crate::connection::{Connection, account_name};
use crate::plugins::{Creation, Plugin};
use crate::roles::Role;
use crate::settings::Common;
use crate::statements::are_blank;
use crate::target::{NewAccount, Proof};
use crate::{Database, Doors, checked_name};

/// An account is let in for so much longer than its lease lasts, so that clocks may differ.
const GRACE: Duration = Duration::from_secs(5);

/// An account.
#[derive(Output)]
pub(crate) struct Made {
    /// Its name.
    username: String,
    /// Its password.
    #[output(secret)]
    password: String,
}

/// When an account that is to live so long ends by itself at its server.
pub(crate) fn expiration(plugin: &Plugin, now: Timestamp, ttl: Duration) -> Result<String, Fault> {
    let text = layout::print(now.plus(ttl).plus(GRACE), plugin.expiration);
    text.ok_or_else(|| Fault::internal("a time that cannot be written"))
}

/// How long an account lives at first.
fn life(role: &Role, mount: &MountFacts) -> Duration {
    let or = |given: Duration, usual| if given.is_zero() { usual } else { given };
    let max = or(role.max_ttl, mount.max_lease_ttl).min(mount.max_lease_ttl);
    or(role.default_ttl, mount.default_lease_ttl).min(max)
}

pub(crate) async fn make(
    engine: &Database,
    mut cx: Cx<'_>,
    input: ByName,
) -> Result<Outside<UnderLease<Data<Made>>>, Fault> {
    let name = checked_name(&input.name)?;
    let role = Role::load(&mut cx.view, name)?;
    let role = role.ok_or_else(|| Fault::invalid(format!("unknown role: {name}")))?;
    let connection = Connection::named(&mut cx.view, &role.db_name)?;
    connection.allows(name)?;
    let plugin = connection.plugin()?;
    if plugin.creation == Creation::Said && are_blank(&role.creation) {
        return Err(Fault::invalid("empty creation statements"));
    }
    let policy = role.credential.password_policy(&connection.password_policy)?;
    let settings = Common::of(&connection.details).map_err(Fault::invalid)?;
    let fields = [("DisplayName", cx.caller.display_name), ("RoleName", name)];
    let moment = Moment { now: cx.now, entropy: cx.entropy };
    let username = settings.usernames(plugin).map_err(Fault::invalid)?.render(&fields, moment);
    let username = plugin.fitting_name(username.map_err(|error| Fault::invalid(error.to_string()))?.to_string())?;
    let password = cx.password(&policy)?;
    let account = NewAccount {
        expiration: expiration(plugin, cx.now, life(&role, cx.mount))?,
        username: username.clone(),
        proof: Proof::Password(password),
    };
    let number = random_base62(ID_LENGTH, cx.entropy).to_string();
    let noted = account_name(&connection.id, &number);
    let recipe = Account {
        connection: connection.name.clone(),
        id: connection.id.clone(),
        number,
        username,
        revocation: role.revocation,
        renewal: role.renewal,
    };
    let claim = LeaseClaim {
        kind: KIND,
        recipe: SecretBytes::new(recipe.encode().to_vec()),
        ttl: role.default_ttl,
        max_ttl: role.max_ttl,
        renewable: true,
    };
    cx.view.write(&noted, &[])?;
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    let (creation, rollback) = (role.creation, role.rollback);
    let act = async move {
        target.create(&account, &creation, &rollback).await?;
        Ok(account)
    };
    let planned = Outside::new(connection.name, act, |_view, _now, account: &NewAccount| {
        let Proof::Password(password) = &account.proof;
        Ok(Data(Made { username: account.username.clone(), password: password.expose().clone() }))
    });
    let forgotten = Arc::<str>::from(noted);
    Ok(planned
        .if_failed(move |view, _now, failed| {
            // Otherwise the recipe takes away what there may be, and the note with it.
            if failed.left == Left::Nothing { view.delete(&forgotten) } else { Ok(()) }
        })
        .with_lease(claim))
}
