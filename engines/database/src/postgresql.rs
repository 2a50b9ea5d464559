//! PostgreSQL: accounts are roles.
//!
//! Statements of operators run as they are, by the simple protocol, one transaction for all of them. What the server says is
//! shown without the passwords that it was told. Deliberately absent: taking connections apart when a role is dropped.

mod scram;
mod session;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use tresor_crypto::hash::HmacKey;
use tresor_postgresql::{Dsn, Files, Names, Placed, Ssl, Tls, Way};
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use crate::Doors;
use crate::access::{self, Access};
use crate::connection::copied;
use crate::pool::Limits;
use crate::statements::{Language, are_blank, filled, identifier, literal, may_end_its_transaction, put_in};
use crate::target::{NewAccount, Trouble};
pub(crate) use scram::Salt;
use session::{Session, before_anything};
pub(crate) use settings::PLUGIN;

/// How long a name of a role can be.
const NAME_BYTES_MAX: usize = 63;
/// How a timestamp is written for `VALID UNTIL`, in the layout of Go's templates.
const EXPIRATION: &str = "2006-01-02 15:04:05-0700";
/// What accounts are called when nobody says how.
const USERNAME: &str = "{{ printf \"v-%s-%s-%s-%s\" (.DisplayName | truncate 8) (.RoleName | truncate 8) \
                                   (random 20) (unix_time) | truncate 63 }}";

const RENEWAL: &str = "ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}'";
const ROTATION: &str = "ALTER ROLE \"{{username}}\" WITH PASSWORD '{{password}}'";

/// What the parts of TLS are called in a configuration.
const NAMES: Names = Names { authority: "tls_ca", certificate: "tls_certificate", key: "private_key" };

/// How passwords are told to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// As they are; the server hashes them.
    Plain,
    /// As what the server stores of them.
    Scram,
}

/// What is done over a connection of our own.
#[derive(Clone, Copy)]
enum Work<'w> {
    Ping,
    Transact(&'w [Zeroizing<String>]),
    TakeAway(&'w str),
    /// Refused when there is no such role.
    IsThere(&'w str),
}

impl access::Work<Session> for Work<'_> {
    async fn by(self, session: &mut Session) -> Result<(), Trouble> {
        match self {
            Work::Ping => session.ping().await,
            Work::Transact(texts) => session.transact(texts).await,
            Work::TakeAway(username) => take_away(session, username).await,
            Work::IsThere(username) => is_there(session, username).await,
        }
    }
}

/// A PostgreSQL server.
pub(crate) struct PostgreSql {
    access: Access<Session>,
    telling: Telling,
    /// Whether nobody is configured, and each account acts for itself.
    is_self_managed: bool,
    salts: Box<HmacKey>,
    /// How many salts were made.
    salted: AtomicU64,
}

impl PostgreSql {
    fn new(doors: Doors, way: Way, passwords: Vec<SecretString>, telling: Telling, limits: Limits) -> Self {
        let salts = Box::new(HmacKey::new(&doors.seed));
        Self {
            access: Access::new(doors, way, passwords, limits),
            telling,
            is_self_managed: false,
            salts,
            salted: AtomicU64::new(0),
        }
    }

    /// The same where nobody is configured.
    fn self_managed(self) -> Self {
        Self { is_self_managed: true, ..self }
    }

    pub(crate) const fn is_self_managed(&self) -> bool {
        self.is_self_managed
    }

    pub(crate) async fn verify(&self) -> Result<(), Trouble> {
        self.access.run(&[], Work::Ping).await
    }

    pub(crate) async fn create(&self, account: &NewAccount, statements: &[String]) -> Result<(), Trouble> {
        let name = account.username.as_str();
        let told = match (&account.told, account.password()) {
            (Some(told), _) => Some(copied(told)),
            (None, password) => password.map(|password| self.told(password)),
        };
        let mut fills = vec![("name", name), ("username", name), ("expiration", account.expiration.as_str())];
        let mut secrets = Vec::new();
        if let (Some(password), Some(told)) = (account.password(), &told) {
            let told = told.expose().as_str();
            fills.push(("password", told));
            secrets.extend([password.expose().as_str(), told]);
        }
        let texts = filled(Language::PostgreSql, statements, &fills)?;
        let may_end = texts.iter().any(|text| may_end_its_transaction(text));
        match self.access.run(&secrets, Work::Transact(&texts)).await {
            // Then not all of it was undone, perhaps.
            Err(Trouble::Refused(why)) if may_end => Err(Trouble::Partly(why)),
            // Or all of it.
            Ok(()) if may_end && ["name", "username"].iter().any(|put| put_in(statements, put)) => {
                self.was_made(name).await
            }
            done => done,
        }
    }

    /// Whether statements that end their transaction themselves left the role that they were to make.
    async fn was_made(&self, username: &str) -> Result<(), Trouble> {
        match self.access.run(&[], Work::IsThere(username)).await {
            Ok(()) => Ok(()),
            Err(Trouble::Refused(_)) => {
                let text = "they end their transaction themselves, and there is no such role afterwards";
                Err(Trouble::Partly(text.into()))
            }
            // It may well be there.
            Err(other) => Err(Trouble::Broken(other.to_string())),
        }
    }

    pub(crate) async fn renew(&self, username: &str, expiration: &str, statements: &[String]) -> Result<(), Trouble> {
        let usual = [RENEWAL.to_owned()];
        let statements = if are_blank(statements) { &usual } else { statements };
        let texts = filled(
            Language::PostgreSql,
            statements,
            &[("name", username), ("username", username), ("expiration", expiration)],
        )?;
        self.access.run(&[], Work::Transact(&texts)).await
    }

    /// Sets a password, as the account itself where passwords of it are given.
    pub(crate) async fn set_password(
        &self,
        username: &str,
        own: Option<&[SecretString]>,
        password: &SecretString,
        statements: &[String],
    ) -> Result<(), Trouble> {
        let told = self.told(password);
        let told = told.expose().as_str();
        let usual = [ROTATION.to_owned()];
        let statements = if are_blank(statements) { &usual } else { statements };
        let texts = filled(
            Language::PostgreSql,
            statements,
            &[("name", username), ("username", username), ("password", told)],
        )?;
        let (secrets, work) = ([password.expose().as_str(), told], Work::Transact(&texts));
        match own {
            None => self.access.run(&secrets, work).await,
            Some(own) => self.access.run_as(username, own, &secrets, work).await,
        }
    }

    pub(crate) async fn log_in(&self, username: &str, password: &SecretString) -> Result<(), Trouble> {
        let mut session = self.access.session(username, password).await?;
        session.ping().await.map_err(|trouble| trouble.without(&[password.expose()]))
    }

    pub(crate) async fn revoke(&self, username: &str, statements: &[String]) -> Result<(), Trouble> {
        if !are_blank(statements) {
            let texts = filled(Language::PostgreSql, statements, &[("name", username), ("username", username)])?;
            return match self.access.run(&[], Work::Transact(&texts)).await {
                // What they cannot do to a role that is gone need not be done.
                Err(refused @ Trouble::Refused(_)) if self.access.run(&[], Work::IsThere(username)).await.is_ok() => {
                    Err(refused)
                }
                Err(Trouble::Refused(_)) => self.verify().await,
                done => done,
            };
        }
        self.access.run(&[], Work::TakeAway(username)).await
    }

    /// A password as the server is told it.
    fn told(&self, password: &SecretString) -> SecretString {
        self.salt().map_or_else(|| copied(password), |salt| salt.hash(password))
    }

    /// By what a password is hashed before the server is told it; `None`: it is told the password. Another one each
    /// time, and nobody can tell it who does not know this process's seed.
    pub(crate) fn salt(&self) -> Option<Salt> {
        if self.telling == Telling::Plain {
            return None;
        }
        let mut salt = Salt([0; 16]);
        let code = self.salts.sign(&self.salted.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        salt.0.iter_mut().zip(code).for_each(|(byte, from)| *byte = from);
        Some(salt)
    }
}

/// The question whether there is a role: it is the answer, or nothing is.
fn whether_there_is(username: &str) -> String {
    format!("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = {}", literal(username))
}

/// Whether there is a role, by not being refused.
async fn is_there(session: &mut Session, username: &str) -> Result<(), Trouble> {
    match session.column(&whether_there_is(username)).await.map_err(before_anything)? {
        found if found.is_empty() => Err(Trouble::Refused("there is no such role".into())),
        _ => Ok(()),
    }
}

/// The usual way to take a role away. One that was given no rights goes by one message; of another one the server says that
/// something depends on it. Then its rights go first, as much as there is, and itself, in one transaction, and what of that is
/// refused keeps nobody from doing the rest one by one. Names of schemas come from the server, where anybody may have made
/// them.
async fn take_away(session: &mut Session, username: &str) -> Result<(), Trouble> {
    let (role, text) = (identifier(username), literal(username));
    let itself = format!("DROP ROLE IF EXISTS {role}");
    // A second time it does nothing, so it may be asked again over another connection.
    match session.statement(&itself).await.map_err(before_anything) {
        Err(Trouble::Refused(_)) => {}
        done => return done,
    }
    let granted = "SELECT DISTINCT table_schema FROM information_schema.role_column_grants WHERE grantee = ";
    let questions = [whether_there_is(username), format!("{granted}{text}"), "SELECT current_database()".to_owned()];
    let mut answers = session.columns(&questions.join(";")).await.map_err(before_anything)?.into_iter();
    if answers.next().is_none_or(|found| found.is_empty()) {
        return Ok(());
    }
    let mut schemas = answers.next().unwrap_or_default();
    if !schemas.iter().any(|schema| schema == "public") {
        schemas.push("public".to_owned());
    }
    let mut statements = Vec::new();
    for schema in schemas.iter().map(|schema| identifier(schema)) {
        statements.push(format!("REVOKE ALL PRIVILEGES ON ALL TABLES IN SCHEMA {schema} FROM {role}"));
        statements.push(format!("REVOKE ALL PRIVILEGES ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}"));
        statements.push(format!("REVOKE USAGE ON SCHEMA {schema} FROM {role}"));
    }
    for database in answers.flatten() {
        statements.push(format!("REVOKE CONNECT ON DATABASE {} FROM {role}", identifier(&database)));
    }
    match session.statement(&format!("{};\n{itself}", statements.join(";\n"))).await {
        Err(Trouble::Refused(_)) => {}
        done => return done,
    }
    let mut refused = None;
    for done in session.each(&statements).await {
        match done {
            // A schema that is not there has given nothing.
            Err(Trouble::Refused(why)) => refused = Some(why),
            done => done?,
        }
    }
    match session.statement(&itself).await {
        Err(Trouble::Refused(why)) => Err(Trouble::Partly(match refused {
            Some(before) => format!("{before}; {why}"),
            None => why,
        })),
        done => done,
    }
}
