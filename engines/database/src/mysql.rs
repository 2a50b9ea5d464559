//! MySQL and MariaDB: accounts are users, of a name and of the hosts that they may come from.
//!
//! Statements of operators run as they are, by the text protocol. Statements about users commit by themselves there, so a
//! creation that fails in the middle is rolled back by statements, too. Deliberately absent: ending the connections of a user
//! who is dropped; the server lets them go on.

mod dsn;
mod session;
mod settings;
#[cfg(test)]
mod tests;

use tresor_secret::SecretString;
use zeroize::Zeroizing;

use crate::access::{self, Access};
use crate::statements::{Language, are_blank, filled};
use crate::target::{NewAccount, Trouble};
use session::Session;
pub(crate) use settings::{LEGACY, PLUGIN};

/// How long a name of a user can be in MariaDB. Who has less room says so, and cuts nothing.
const NAME_BYTES_MAX: usize = 128;
/// How a time is written, in the layout of Go's templates.
const EXPIRATION: &str = "2006-01-02 15:04:05-0700";
/// What accounts are called when nobody says how: MySQL has room for 32.
const USERNAME: &str = "{{ printf \"v-%s-%s-%s-%s\" (.DisplayName | truncate 10) (.RoleName | truncate 10) \
                        (random 20) (unix_time) | truncate 32 }}";
/// The same where there is room for 16, as before MySQL 5.7.8.
const USERNAME_LEGACY: &str = "{{ printf \"v-%s-%s\" (.RoleName | truncate 4) (random 20) | truncate 16 }}";

/// What is done over a connection of our own.
#[derive(Clone, Copy)]
enum Work<'w> {
    Ping,
    Transact(&'w [Zeroizing<String>]),
    TakeAway(&'w str),
    SetPassword(&'w str, &'w SecretString),
    /// Refused when there is no such user.
    IsThere(&'w str),
}

impl access::Work<Session> for Work<'_> {
    async fn by(self, session: &mut Session) -> Result<(), Trouble> {
        match self {
            Work::Ping => session.ping().await,
            Work::Transact(texts) => session.transact(texts).await,
            Work::TakeAway(username) => take_away(session, username).await,
            Work::SetPassword(username, password) => set_password(session, username, password).await,
            Work::IsThere(username) => match session.hosts(username).await? {
                hosts if hosts.is_empty() => Err(nobody()),
                _ => Ok(()),
            },
        }
    }
}

/// A server.
pub(crate) struct MySql {
    access: Access<Session>,
}

impl MySql {
    pub(crate) async fn verify(&self) -> Result<(), Trouble> {
        self.access.run(&[], Work::Ping).await
    }

    pub(crate) async fn create(
        &self,
        account: &NewAccount,
        statements: &[String],
        rollback: &[String],
    ) -> Result<(), Trouble> {
        let name = account.username.as_str();
        let secret = account.password().map(|password| password.expose().as_str());
        let mut fills = vec![("name", name), ("username", name), ("expiration", account.expiration.as_str())];
        fills.extend(secret.map(|secret| ("password", secret)));
        let texts = filled(Language::MySql, statements, &fills)?;
        match self.access.run(secret.as_slice(), Work::Transact(&texts)).await {
            Err(Trouble::Partly(why)) => match self.roll_back(name, rollback).await {
                Ok(()) => Err(Trouble::Refused(why)),
                Err(also) => Err(Trouble::Partly(format!("{why}; and it could not be rolled back: {also}"))),
            },
            done => done,
        }
    }

    async fn roll_back(&self, username: &str, statements: &[String]) -> Result<(), Trouble> {
        if are_blank(statements) {
            return self.access.run(&[], Work::TakeAway(username)).await;
        }
        self.transact(username, "", statements).await
    }

    async fn transact(&self, username: &str, expiration: &str, statements: &[String]) -> Result<(), Trouble> {
        let fills = [("name", username), ("username", username), ("expiration", expiration)];
        let texts = filled(Language::MySql, statements, &fills)?;
        self.access.run(&[], Work::Transact(&texts)).await
    }

    /// A user ends by nothing that the server knows of, so without statements there is nothing to do.
    pub(crate) async fn renew(&self, username: &str, expiration: &str, statements: &[String]) -> Result<(), Trouble> {
        if are_blank(statements) { Ok(()) } else { self.transact(username, expiration, statements).await }
    }

    pub(crate) async fn set_password(
        &self,
        username: &str,
        password: &SecretString,
        statements: &[String],
    ) -> Result<(), Trouble> {
        let told = password.expose().as_str();
        let secrets = [told];
        if are_blank(statements) {
            return self.access.run(&secrets, Work::SetPassword(username, password)).await;
        }
        let fills = [("name", username), ("username", username), ("password", told)];
        let texts = filled(Language::MySql, statements, &fills)?;
        self.access.run(&secrets, Work::Transact(&texts)).await
    }

    pub(crate) async fn log_in(&self, username: &str, password: &SecretString) -> Result<(), Trouble> {
        let mut session = self.access.session(username, password).await?;
        let answered = session.ping().await;
        session.end().await;
        answered.map_err(|trouble| trouble.without(&[password.expose()]))
    }

    pub(crate) async fn revoke(&self, username: &str, statements: &[String]) -> Result<(), Trouble> {
        if are_blank(statements) {
            return self.access.run(&[], Work::TakeAway(username)).await;
        }
        match self.transact(username, "", statements).await {
            // What they cannot do to a user who is gone need not be done.
            Err(Trouble::Refused(why)) => match self.access.run(&[], Work::IsThere(username)).await {
                Err(gone) if gone == nobody() => Ok(()),
                // There is one, or who asks may not know.
                Ok(()) | Err(Trouble::Refused(_)) => Err(Trouble::Refused(why)),
                Err(trouble) => Err(trouble),
            },
            done => done,
        }
    }
}

fn nobody() -> Trouble {
    Trouble::Refused("there is no such user".into())
}

/// A text, quoted.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Every user of a name, quoted. Who may not ask is told of the one that comes from anywhere.
async fn users(session: &mut Session, username: &str) -> Result<Vec<String>, Trouble> {
    let hosts = match session.hosts(username).await {
        Err(Trouble::Refused(_)) => vec!["%".to_owned()],
        hosts => hosts?,
    };
    Ok(hosts.iter().map(|host| format!("{}@{}", literal(username), literal(host))).collect())
}

/// Does one thing to every user of a name.
async fn to_each(
    session: &mut Session,
    users: &[String],
    text: impl Fn(&str) -> Zeroizing<String>,
) -> Result<(), Trouble> {
    for (done, user) in users.iter().enumerate() {
        match session.statement(&text(user)).await {
            Err(Trouble::Refused(why)) if done > 0 => return Err(Trouble::Partly(why)),
            other => other?,
        }
    }
    Ok(())
}

/// The usual way to take a user away, whatever hosts it was made for; its rights go with it.
async fn take_away(session: &mut Session, username: &str) -> Result<(), Trouble> {
    let users = users(session, username).await?;
    to_each(session, &users, |user| Zeroizing::new(format!("DROP USER {user}"))).await
}

/// The usual way to set a password: for whatever hosts there are.
async fn set_password(session: &mut Session, username: &str, password: &SecretString) -> Result<(), Trouble> {
    let users = users(session, username).await?;
    if users.is_empty() {
        return Err(nobody());
    }
    let password = Zeroizing::new(literal(password.expose()));
    to_each(session, &users, |user| Zeroizing::new(format!("ALTER USER {user} IDENTIFIED BY {}", *password))).await
}
