//! InfluxDB 1.x: accounts are users, and statements are InfluxQL.
//!
//! There are no transactions and no connections: each text is one HTTP request, and a creation that fails in the middle is
//! rolled back by statements, too. Deliberately absent: tokens and buckets of InfluxDB 2 and 3.

mod pem;
mod session;
mod settings;
#[cfg(test)]
mod tests;

use tresor_secret::SecretString;
use zeroize::Zeroizing;

use crate::access::{self, Access};
use crate::statements::{Language, are_blank, filled};
use crate::target::{NewAccount, Trouble};
use session::{Session, unchanged};
pub(crate) use settings::PLUGIN;

/// How long a name of a user can be. The server has no bound of its own.
const NAME_BYTES_MAX: usize = 255;
/// What accounts are called when nobody says how.
const USERNAME: &str = "{{ printf \"v_%s_%s_%s_%s\" (.DisplayName | truncate 15) (.RoleName | truncate 15) \
                        (random 20) (unix_time) | truncate 100 | replace \"-\" \"_\" | lowercase }}";

const CREATION: &str = "CREATE USER \"{{username}}\" WITH PASSWORD '{{password}}'";
const REVOCATION: &str = "DROP USER \"{{username}}\"";
const ROTATION: &str = "SET PASSWORD FOR \"{{username}}\" = '{{password}}'";
/// Only administrators may ask, and who is not there is no answer.
const QUESTION: &str = "SHOW GRANTS FOR \"{{username}}\"";

/// What is done as who we are.
#[derive(Clone, Copy)]
enum Work<'w> {
    /// One text after the other.
    Run(&'w [Zeroizing<String>]),
    /// What changes nothing.
    Ask(&'w [Zeroizing<String>]),
}

impl access::Work<Session> for Work<'_> {
    async fn by(self, session: &mut Session) -> Result<(), Trouble> {
        match self {
            Work::Run(texts) => {
                for (before, text) in texts.iter().enumerate() {
                    match session.ask(text).await {
                        Err(Trouble::Refused(why) | Trouble::Forbidden(why) | Trouble::Unreachable(why))
                            if before > 0 =>
                        {
                            return Err(Trouble::Partly(why));
                        }
                        other => other?,
                    }
                }
                Ok(())
            }
            Work::Ask(texts) => {
                for text in texts {
                    session.ask(text).await.map_err(unchanged)?;
                }
                Ok(())
            }
        }
    }
}

/// A server.
pub(crate) struct InfluxDb {
    access: Access<Session>,
    /// As whom we ask.
    user: String,
}

/// Those statements, or the usual one.
fn or_usual(statements: &[String], usual: &str) -> Vec<String> {
    if are_blank(statements) { vec![usual.to_owned()] } else { statements.to_vec() }
}

fn texts(
    statements: &[String],
    username: &str,
    more: &[(&'static str, &str)],
) -> Result<Vec<Zeroizing<String>>, Trouble> {
    // Its way of logging in has a colon behind the name.
    if username.is_empty() || username.contains(':') || username.chars().any(char::is_control) {
        return Err(Trouble::Senseless("a name of a user has no colons or control characters".into()));
    }
    let mut fills = vec![("name", username), ("username", username)];
    fills.extend(more);
    Ok(filled(Language::InfluxQl, statements, &fills)?)
}

impl InfluxDb {
    async fn run(&self, secrets: &[&str], texts: &[Zeroizing<String>]) -> Result<(), Trouble> {
        self.access.run(secrets, Work::Run(texts)).await
    }

    /// Refused when there is no such user.
    async fn is_there(&self, username: &str) -> Result<(), Trouble> {
        let asked = texts(&[QUESTION.to_owned()], username, &[])?;
        self.access.run(&[], Work::Ask(&asked)).await
    }

    pub(crate) async fn verify(&self) -> Result<(), Trouble> {
        self.is_there(&self.user).await
    }

    pub(crate) async fn create(
        &self,
        account: &NewAccount,
        statements: &[String],
        rollback: &[String],
    ) -> Result<(), Trouble> {
        let password = account.needs_password()?;
        let (name, secret) = (account.username.as_str(), password.expose().as_str());
        let more = [("password", secret), ("expiration", account.expiration.as_str())];
        let made = texts(&or_usual(statements, CREATION), name, &more)?;
        let undone = texts(&or_usual(rollback, REVOCATION), name, &[])?;
        match self.run(&[secret], &made).await {
            Err(Trouble::Partly(why)) => match self.run(&[], &undone).await {
                Ok(()) => Err(Trouble::Refused(why)),
                Err(also) => Err(Trouble::Partly(format!("{why}; and it could not be rolled back: {also}"))),
            },
            done => done,
        }
    }

    /// A user ends by nothing that the server knows of, so without statements there is nothing to do.
    pub(crate) async fn renew(&self, username: &str, expiration: &str, statements: &[String]) -> Result<(), Trouble> {
        if are_blank(statements) {
            return Ok(());
        }
        self.run(&[], &texts(statements, username, &[("expiration", expiration)])?).await
    }

    pub(crate) async fn set_password(
        &self,
        username: &str,
        password: &SecretString,
        statements: &[String],
    ) -> Result<(), Trouble> {
        let told = password.expose().as_str();
        let texts = texts(&or_usual(statements, ROTATION), username, &[("password", told)])?;
        self.run(&[told], &texts).await
    }

    pub(crate) async fn log_in(&self, username: &str, password: &SecretString) -> Result<(), Trouble> {
        self.access.session(username, password).await.map(drop)
    }

    /// Takes a user away; what cannot be done to one who is gone need not be done.
    pub(crate) async fn revoke(&self, username: &str, statements: &[String]) -> Result<(), Trouble> {
        let texts = texts(&or_usual(statements, REVOCATION), username, &[])?;
        match self.run(&[], &texts).await {
            Err(Trouble::Refused(why)) => match self.is_there(username).await {
                Ok(()) => Err(Trouble::Refused(why)),
                Err(Trouble::Refused(_)) => Ok(()),
                Err(trouble) => Err(trouble),
            },
            done => done,
        }
    }
}
