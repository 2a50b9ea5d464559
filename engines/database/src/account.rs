//! Accounts that were made: renewed and taken away by what their lease keeps, whatever became of role and connection.
//!
//! Where another user was written for the same server under the connection's name, that one is asked first: the user that
//! made the account may be gone, and is asked where the other may not do it.

use std::sync::Arc;
use std::time::Duration;

use tresor_engine::{Cx, Leased, View};
use tresor_model::Fault;
use tresor_record::Record;

use crate::connection::{Connection, IsRetired, account_name, forget_if_unused};
use crate::creds::expiration;
use crate::target::{Target, Trouble};
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

    /// By whom it is renewed or taken away, in this order: who counts now for the same server, and who made it.
    fn keepers(&self, engine: &Database, cx: &mut Cx<'_>) -> Result<(Vec<Arc<Target>>, IsRetired), Fault> {
        let (connection, is_retired) = self.connection(cx)?;
        let successor = match is_retired {
            IsRetired::Yes => connection.successor(&mut cx.view)?,
            IsRetired::No => None,
        };
        // One that makes no sense is no reason not to ask the maker.
        let successor = successor.and_then(|successor| engine.targets.of(&successor, Doors::of(cx)).ok());
        let maker = engine.targets.of(&connection, Doors::of(cx))?;
        Ok((successor.into_iter().filter(|target| !target.is_self_managed()).chain([maker]).collect(), is_retired))
    }
}

/// What is told of troubles with several that were asked: of one who is let in no more nothing is learned.
fn telling(before: Option<Trouble>, trouble: Trouble) -> Trouble {
    match (before, trouble) {
        (Some(before), Trouble::Unreachable(_) | Trouble::NoEntry(_) | Trouble::Forbidden(_)) => before,
        (_, trouble) => trouble,
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
    let (keepers, _) = account.keepers(engine, &mut cx)?;
    let mut trouble = None;
    for keeper in keepers {
        match keeper.renew(&account.username, &until, &account.renewal).await {
            Ok(()) => return Ok(()),
            Err(another) => trouble = Some(telling(trouble, another)),
        }
    }
    trouble.map_or(Ok(()), |trouble| Err(trouble.fault()))
}

pub(crate) async fn revoke(engine: &Database, mut cx: Cx<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let account = Account::of(lease)?;
    let (keepers, is_retired) = account.keepers(engine, &mut cx)?;
    let mut trouble = None;
    for keeper in keepers {
        match keeper.revoke(&account.username, &account.revocation).await {
            Ok(()) => return account.let_go(engine, &mut cx.view, is_retired),
            Err(another) => trouble = Some(telling(trouble, another)),
        }
    }
    trouble.map_or(Ok(()), |trouble| Err(trouble.of_lease()))
}

/// Nobody takes the account away any more; it may stay where it is.
pub(crate) fn abandon(engine: &Database, view: &mut View<'_>, lease: Leased<'_>) -> Result<(), Fault> {
    let account = Account::of(lease)?;
    match Connection::of_account(view, &account.connection, &account.id)? {
        Some((_, is_retired)) => account.let_go(engine, view, is_retired),
        None => Ok(()),
    }
}
