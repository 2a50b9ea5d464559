//! Accounts that were made: renewed and taken away by what their lease keeps, whatever became of role and connection.

use std::time::Duration;

use tresor_engine::{Cx, Leased, View};
use tresor_model::Fault;
use tresor_record::Record;

use crate::connection::{Connection, IsRetired, account_name, forget_if_unused};
use crate::creds::expiration;
use crate::{Database, Doors};

/// What leases of this engine are called.
pub(crate) const KIND: &str = "creds";

/// What it takes to take an account away.
#[derive(Record)]
#[record(kind = "database-account", version = 1)]
pub(crate) struct Account {
    /// What the connection was called.
    pub(crate) connection: String,
    /// Its id.
    pub(crate) id: String,
    /// Under which number the account is noted there.
    pub(crate) number: String,
    pub(crate) username: String,
    pub(crate) revocation: Vec<String>,
    pub(crate) renewal: Vec<String>,
}

impl Account {
    fn of(lease: Leased<'_>) -> Result<Self, Fault> {
        Self::decode(lease.recipe.expose()).map_err(Fault::internal)
    }

    /// Its connection need not stay for its sake.
    fn let_go(&self, engine: &Database, view: &mut View<'_>, is_retired: IsRetired) -> Result<(), Fault> {
        view.delete(&account_name(&self.id, &self.number))?;
        if is_retired == IsRetired::Yes && forget_if_unused(view, &self.id)? {
            engine.targets.close(&self.id);
        }
        Ok(())
    }

    fn connection(&self, cx: &mut Cx<'_>) -> Result<(Connection, IsRetired), Fault> {
        let found = Connection::of_account(&mut cx.view, &self.connection, &self.id)?;
        found.ok_or_else(|| Fault::invalid("the connection that made the account is not known any more"))
    }
}

pub(crate) async fn renew(
    engine: &Database,
    mut cx: Cx<'_>,
    lease: Leased<'_>,
    ttl: Option<Duration>,
) -> Result<(), Fault> {
    let account = Account::of(lease)?;
    let (connection, _) = account.connection(&mut cx)?;
    let Some(ttl) = ttl else { return Ok(()) };
    let until = expiration(connection.plugin()?, cx.now, ttl)?;
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    target.renew(&account.username, &until, &account.renewal).await.map_err(|trouble| trouble.fault())
}

pub(crate) async fn revoke(engine: &Database, mut cx: Cx<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let account = Account::of(lease)?;
    let (connection, is_retired) = account.connection(&mut cx)?;
    let target = engine.targets.of(&connection, Doors::of(&cx))?;
    let gone = target.revoke(&account.username, &account.revocation).await;
    gone.map_err(crate::target::Trouble::of_lease)?;
    account.let_go(engine, &mut cx.view, is_retired)
}

/// Nobody takes the account away any more; it may stay where it is.
pub(crate) fn abandon(engine: &Database, view: &mut View<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let account = Account::of(lease)?;
    match Connection::of_account(view, &account.connection, &account.id)? {
        Some((_, is_retired)) => account.let_go(engine, view, is_retired),
        None => Ok(()),
    }
}
