//! A database server as the engine sees it: what it can be asked for, and why it did not do it.
//!
//! Deliberately absent: what is stored; a target is made of a configuration and lives as long as that one counts.

use tresor_engine::outside::Failed;
use tresor_model::Fault;
use tresor_secret::SecretString;

use crate::certificate::Issued;
use crate::influxdb::InfluxDb;
use crate::mysql::MySql;
use crate::postgresql::{PostgreSql, Salt};
use crate::redis::Redis;
use crate::statements::Unfit;

/// Why a target did not do what it was asked for. The texts are the target's own, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// What it was to be asked makes no sense; it was not asked.
    #[error("{0}")]
    Senseless(String),
    /// Nobody answers there, or lets us in: it was not asked.
    #[error("error connecting to the database: {0}")]
    Unreachable(String),
    /// It lets nobody in by the passwords that we know.
    #[error("the database refuses the login: {0}")]
    NoEntry(String),
    /// It knows us, and lets us do nothing where we want to.
    #[error("the database lets the account do nothing here: {0}")]
    Forbidden(String),
    /// It said no, and nothing is changed.
    #[error("failed to execute query: {0}")]
    Refused(String),
    /// It said no after a part was done.
    #[error("could not perform all statements: {0}")]
    Partly(String),
    /// The connection broke while it was asked: nobody knows.
    #[error("the connection to the database broke: {0}")]
    Broken(String),
}

impl From<Unfit> for Trouble {
    fn from(unfit: Unfit) -> Self {
        Self::Senseless(unfit.to_string())
    }
}

impl Trouble {
    /// What whoever asked is told: all of it is the target's or its configuration's to mend.
    pub(crate) fn fault(&self) -> Fault {
        Fault::invalid(self.to_string())
    }

    /// The same without what the target may have repeated of what it was told.
    pub(crate) fn without(self, secrets: &[&str]) -> Self {
        // The longest first, since of one that begins with another the rest would be left; and what stands for them is written
        // last, since one may be in that, too.
        let mut secrets: Vec<&str> = secrets.iter().copied().filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let hide = |mut text: String| {
            for secret in &secrets {
                if text.contains(secret) {
                    text = text.replace(secret, "\0");
                }
            }
            text.replace('\0', "[password]")
        };
        match self {
            Self::Senseless(text) => Self::Senseless(hide(text)),
            Self::Unreachable(text) => Self::Unreachable(hide(text)),
            Self::NoEntry(text) => Self::NoEntry(hide(text)),
            Self::Forbidden(text) => Self::Forbidden(hide(text)),
            Self::Refused(text) => Self::Refused(hide(text)),
            Self::Partly(text) => Self::Partly(hide(text)),
            Self::Broken(text) => Self::Broken(hide(text)),
        }
    }

    /// What is told to whoever asked for an account: that it is the target which does not answer, so that clients try again.
    pub(crate) fn of_creation(self) -> Failed {
        let away = matches!(self, Self::Unreachable(_) | Self::Broken(_)).then(|| Fault::upstream(self.to_string()));
        let failed = Failed::from(self);
        Failed { fault: away.unwrap_or(failed.fault), ..failed }
    }

    /// What the server is told whom a lease waits for: whether the target is away, or says no to this one.
    pub(crate) fn of_lease(self) -> Fault {
        match self {
            Self::Unreachable(_) | Self::NoEntry(_) | Self::Forbidden(_) | Self::Broken(_) => {
                Fault::upstream(self.to_string())
            }
            Self::Senseless(_) | Self::Refused(_) | Self::Partly(_) => self.fault(),
        }
    }
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        let fault = trouble.fault();
        match trouble {
            Trouble::Senseless(_)
            | Trouble::Unreachable(_)
            | Trouble::NoEntry(_)
            | Trouble::Forbidden(_)
            | Trouble::Refused(_) => Self::nothing_done(fault),
            Trouble::Partly(_) => Self::partly_done(fault),
            Trouble::Broken(_) => Self::in_doubt(fault),
        }
    }
}

/// An account that is to be made.
pub(crate) struct NewAccount {
    /// Its name.
    pub(crate) username: String,
    /// By what it is let in.
    pub(crate) proof: Proof,
    /// What the server is told in place of its password, where that takes a while to compute and was computed before.
    pub(crate) told: Option<SecretString>,
    /// When the server itself is to let nobody in by it any more, as the server wants it written.
    pub(crate) expiration: String,
}

/// By what an account is let in.
pub(crate) enum Proof {
    /// A password.
    Password(SecretString),
    /// A certificate that names it; the server is told nothing of that.
    Certificate(Issued),
}

impl NewAccount {
    /// Its password, where it is let in by one.
    pub(crate) fn password(&self) -> Option<&SecretString> {
        match &self.proof {
            Proof::Password(password) => Some(password),
            Proof::Certificate(_) => None,
        }
    }

    /// Its password, at a server that takes nothing else.
    pub(crate) fn needs_password(&self) -> Result<&SecretString, Trouble> {
        self.password().ok_or_else(|| Trouble::Senseless("this kind of database takes passwords alone".into()))
    }
}

/// A database server.
pub(crate) enum Target {
    /// PostgreSQL.
    PostgreSql(PostgreSql),
    /// MySQL and MariaDB.
    MySql(MySql),
    /// Redis and Valkey.
    Redis(Redis),
    /// InfluxDB.
    InfluxDb(InfluxDb),
}

macro_rules! each {
    ($target:expr, $inner:ident => $does:expr) => {
        match $target {
            Target::PostgreSql($inner) => $does,
            Target::MySql($inner) => $does,
            Target::Redis($inner) => $does,
            Target::InfluxDb($inner) => $does,
        }
    };
}

impl Target {
    /// How the server is told the password of an account; `None`: as it is.
    pub(crate) fn salt(&self) -> Option<Salt> {
        match self {
            Self::PostgreSql(inner) => inner.salt(),
            Self::MySql(_) | Self::Redis(_) | Self::InfluxDb(_) => None,
        }
    }

    /// Whether somebody is let in.
    pub(crate) async fn verify(&self) -> Result<(), Trouble> {
        each!(self, inner => inner.verify().await)
    }

    /// Makes an account; all of it or nothing, where the server or the statements that roll it back can do that.
    pub(crate) async fn create(
        &self,
        account: &NewAccount,
        statements: &[String],
        rollback: &[String],
    ) -> Result<(), Trouble> {
        match self {
            // It has transactions, and needs to be told no way back.
            Self::PostgreSql(inner) => inner.create(account, statements).await,
            Self::MySql(inner) => inner.create(account, statements, rollback).await,
            Self::Redis(inner) => inner.create(account, statements).await,
            Self::InfluxDb(inner) => inner.create(account, statements, rollback).await,
        }
    }

    /// Lets an account live longer.
    pub(crate) async fn renew(&self, username: &str, expiration: &str, statements: &[String]) -> Result<(), Trouble> {
        each!(self, inner => inner.renew(username, expiration, statements).await)
    }

    /// Takes an account away; one that is gone is taken away.
    pub(crate) async fn revoke(&self, username: &str, statements: &[String]) -> Result<(), Trouble> {
        each!(self, inner => inner.revoke(username, statements).await)
    }

    /// Gives an account another password; as itself, where passwords are given of which it has one.
    pub(crate) async fn set_password(
        &self,
        username: &str,
        own: Option<&[SecretString]>,
        password: &SecretString,
        statements: &[String],
    ) -> Result<(), Trouble> {
        match self {
            Self::PostgreSql(inner) => inner.set_password(username, own, password, statements).await,
            Self::MySql(_) | Self::Redis(_) | Self::InfluxDb(_) if own.is_some() => {
                Err(Trouble::Senseless("accounts of this kind of database are not rotated as themselves".into()))
            }
            Self::MySql(inner) => inner.set_password(username, password, statements).await,
            Self::Redis(inner) => inner.set_password(username, password, statements).await,
            Self::InfluxDb(inner) => inner.set_password(username, password, statements).await,
        }
    }

    /// Whether nobody is configured who could act for others: each account acts for itself.
    pub(crate) const fn is_self_managed(&self) -> bool {
        match self {
            Self::PostgreSql(inner) => inner.is_self_managed(),
            Self::MySql(_) | Self::Redis(_) | Self::InfluxDb(_) => false,
        }
    }

    /// Whether an account is let in by a password.
    pub(crate) async fn log_in(&self, username: &str, password: &SecretString) -> Result<(), Trouble> {
        each!(self, inner => inner.log_in(username, password).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_password_that_begins_with_another_nothing_is_left() {
        let said = Trouble::Refused("near \"pass-and-more\" or \"pass\"".to_owned());
        let shown = said.without(&["pass", "", "pass-and-more"]).to_string();
        assert!(shown.contains("near \"[password]\" or \"[password]\""), "{shown}");
    }
}
