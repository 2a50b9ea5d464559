//! Redis and Valkey: accounts are users of the server's ACL, and statements are its rules.
//!
//! The server is told the hash that it keeps of a password, and ends the connections of a user that is deleted. What it does
//! of this it forgets when it starts again, unless it is told to write it down (`persistence_mode`); that is a part of every
//! change, and fails with it. Deliberately absent: a cluster's or a replica's other servers, which have users of their own.

mod resp;
mod rules;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod url;

use tresor_crypto::hash::sha256;
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use crate::access::{self, Access};
use crate::target::{NewAccount, Trouble};
use resp::Reply;
use session::{Session, unchanged};
pub(crate) use settings::PLUGIN;

/// How long a name of a user can be. The server has no bound of its own.
const NAME_BYTES_MAX: usize = 255;
/// What accounts are called when nobody says how.
const USERNAME: &str = "{{ printf \"V_%s_%s_%s_%s\" (.DisplayName | replace \" \" \"_\" | truncate 30) \
                        (.RoleName | truncate 30) (random 20) (unix_time) | uppercase }}";

/// How a server says that it has no file of users.
const NO_ACL_FILE: &str = "not configured to use an ACL file";

/// Where the server writes its users down when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// It is not told to.
    Nowhere,
    /// Into its file of users.
    InAclFile,
    /// Into its configuration.
    InConfig,
}

/// A server.
pub(crate) struct Redis {
    access: Access<Session>,
    /// As whom we ask.
    user: String,
    keeping: Keeping,
}

/// What is done over a connection of our own.
#[derive(Clone, Copy)]
enum Work<'w> {
    /// Whether we may look at users, and write them down.
    Verify(&'w str),
    Make(&'w str, &'w str, &'w [String]),
    TakeAway(&'w str),
    SetPassword(&'w str, &'w str),
}

/// Some work, and where it is written down.
#[derive(Clone, Copy)]
struct Kept<'w>(Work<'w>, Keeping);

impl access::Work<Session> for Kept<'_> {
    async fn by(self, session: &mut Session) -> Result<(), Trouble> {
        let Self(work, keeping) = self;
        match work {
            Work::Verify(user) => {
                is_there(session, user).await?;
                keep(session, keeping).await.map_err(unchanged)
            }
            Work::Make(name, hash, rules) => make(session, keeping, name, hash, rules).await,
            Work::TakeAway(name) => {
                session.ask(&["ACL", "DELUSER", name]).await?;
                keep(session, keeping).await.map_err(partly)
            }
            Work::SetPassword(name, hash) => {
                if !is_there(session, name).await? {
                    return Err(Trouble::Refused("there is no such user".into()));
                }
                session.ask(&["ACL", "SETUSER", name, "resetpass", hash]).await?;
                keep(session, keeping).await.map_err(partly)
            }
        }
    }
}

impl Redis {
    async fn run(&self, secrets: &[&str], work: Work<'_>) -> Result<(), Trouble> {
        self.access.run(secrets, Kept(work, self.keeping)).await
    }

    pub(crate) async fn verify(&self) -> Result<(), Trouble> {
        self.run(&[], Work::Verify(&self.user)).await
    }

    pub(crate) async fn create(&self, account: &NewAccount, statements: &[String]) -> Result<(), Trouble> {
        let name = rules::name(&account.username, self.keeping)?;
        let rules = rules::rules(statements, self.keeping)?;
        let password = account.needs_password()?;
        let hash = hash(password);
        self.run(&[&hash], Work::Make(name, &hash, &rules)).await
    }

    /// A user ends by nothing that the server knows of.
    pub(crate) async fn renew(&self, _username: &str, _until: &str, _statements: &[String]) -> Result<(), Trouble> {
        Ok(())
    }

    /// Existing connections of that user go on.
    pub(crate) async fn set_password(
        &self,
        username: &str,
        password: &SecretString,
        _statements: &[String],
    ) -> Result<(), Trouble> {
        let name = rules::name(username, self.keeping)?;
        let hash = hash(password);
        self.run(&[&hash], Work::SetPassword(name, &hash)).await
    }

    pub(crate) async fn log_in(&self, username: &str, password: &SecretString) -> Result<(), Trouble> {
        // What else somebody may do is not asked.
        self.access.session(username, password).await.map(drop)
    }

    /// Takes a user away; the server ends its connections.
    pub(crate) async fn revoke(&self, username: &str, _statements: &[String]) -> Result<(), Trouble> {
        self.run(&[], Work::TakeAway(username)).await
    }
}

/// What the server keeps of a password, as its rules spell it.
fn hash(password: &SecretString) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(65));
    text.push('#');
    for byte in sha256(password.expose().as_bytes()) {
        for half in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(half.into(), 16).unwrap_or_default());
        }
    }
    text
}

async fn is_there(session: &mut Session, name: &str) -> Result<bool, Trouble> {
    let found = session.ask(&["ACL", "GETUSER", name]).await.map_err(unchanged)?;
    Ok(found != Reply::Nothing)
}

/// Lets the server write down what it knows of users.
async fn keep(session: &mut Session, keeping: Keeping) -> Result<(), Trouble> {
    if keeping == Keeping::Nowhere {
        return Ok(());
    }
    match session.ask(&["ACL", "SAVE"]).await {
        // A server with a file of users leaves users out of its configuration, so it is asked for that first.
        Err(Trouble::Refused(why)) if keeping == Keeping::InConfig && why.contains(NO_ACL_FILE) => {
            session.ask(&["CONFIG", "REWRITE"]).await.map(drop)
        }
        done => done.map(drop),
    }
}

/// What a failure means after a part was done.
fn partly(trouble: Trouble) -> Trouble {
    match trouble {
        broken @ Trouble::Broken(_) => broken,
        other => Trouble::Partly(format!("it is not written down: {other}")),
    }
}

/// Makes a user that nobody has: one that is there already would be changed, and taken away later.
async fn make(
    session: &mut Session,
    keeping: Keeping,
    name: &str,
    hash: &str,
    rules: &[String],
) -> Result<(), Trouble> {
    if is_there(session, name).await? {
        return Err(Trouble::Refused("there is a user of this name already".into()));
    }
    let mut parts = vec!["ACL", "SETUSER", name, "on", hash];
    parts.extend(rules.iter().map(String::as_str));
    session.ask(&parts).await?;
    match keep(session, keeping).await.map_err(partly) {
        Err(Trouble::Partly(why)) => match session.ask(&["ACL", "DELUSER", name]).await {
            Ok(_) => Err(Trouble::Refused(why)),
            Err(broken @ Trouble::Broken(_)) => Err(broken),
            Err(also) => Err(Trouble::Partly(format!("{why}; and the user could not be deleted: {also}"))),
        },
        other => other,
    }
}
