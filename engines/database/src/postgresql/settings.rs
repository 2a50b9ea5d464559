//! What a configuration says of a PostgreSQL server, and the target that it makes.

use tresor_wire::input::Input;

use super::{Dsn, EXPIRATION, Files, NAME_BYTES_MAX, NAMES, Placed, PostgreSql, Ssl, Telling, Tls, USERNAME, Way};
use crate::Doors;
use crate::connection::{Connection, copied};
use crate::plugins::{Creation, Plugin};
use crate::roles::{CLIENT_CERTIFICATE, PASSWORD};
use crate::settings::{Common, Pooled, parsed, unrecognized};
use crate::target::Target;

/// PostgreSQL.
pub(crate) const PLUGIN: Plugin = Plugin {
    names: &["postgresql-database-plugin"],
    username: USERNAME,
    name_bytes_max: NAME_BYTES_MAX,
    expiration: EXPIRATION,
    creation: Creation::Said,
    credentials: &[PASSWORD, CLIENT_CERTIFICATE],
    reaches: &["connection_url", "username"],
    secrets: &["private_key"],
    target,
    warnings,
};

/// Who stands where each account acts for itself: everybody says who they are.
const NOBODY: &str = "nobody";

/// What is sent for it.
#[derive(Input)]
struct Settings {
    /// What any server has.
    #[input(flatten)]
    common: Common,
    /// Where it is.
    #[input(flatten)]
    pooled: Pooled,
    /// `password` or `scram-sha-256`: how the server is told passwords.
    password_authentication: Option<String>,
    /// Who vouches for the server, in PEM.
    tls_ca: Option<String>,
    /// What this server shows, in PEM.
    tls_certificate: Option<String>,
    /// Whether accounts of static roles rotate their passwords as themselves, and nobody else is configured.
    self_managed: Option<bool>,
}

impl Settings {
    fn is_self_managed(&self) -> bool {
        self.self_managed.unwrap_or_default()
    }

    fn dsn(&self, connection: &Connection) -> Result<Dsn, String> {
        let username = self.common.username.as_deref().unwrap_or_default();
        if self.is_self_managed() && !username.is_empty() {
            return Err("a self_managed connection has no username".into());
        }
        let placed = Placed {
            username: if self.is_self_managed() { NOBODY } else { username },
            password: connection.passwords.first().filter(|_| !self.is_self_managed()),
            is_raw: self.pooled.is_raw(),
            files: Files::Refused,
        };
        Dsn::parse(self.pooled.url()?, &placed)
    }
}

fn target(connection: &Connection, doors: Doors) -> Result<Target, String> {
    let (settings, _) = parsed::<Settings>(&connection.details)?;
    let telling = match settings.password_authentication.as_deref() {
        None | Some("" | "password") => Telling::Plain,
        Some("scram-sha-256") => Telling::Scram,
        Some(_) => return Err("password_authentication is `password` or `scram-sha-256`".into()),
    };
    let dsn = settings.dsn(connection)?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (authority, certificate) = (given(&settings.tls_ca), given(&settings.tls_certificate));
    let key = connection.secrets.get("private_key");
    let tls = Tls::new(dsn.ssl, NAMES, authority.as_deref(), certificate.as_deref(), key)?;
    let passwords = connection.passwords.iter().map(copied).collect();
    let server = PostgreSql::new(doors, Way { dsn, tls }, passwords, telling, settings.pooled.limits());
    Ok(Target::PostgreSql(if settings.is_self_managed() { server.self_managed() } else { server }))
}

fn warnings(connection: &Connection) -> Vec<String> {
    let Ok((settings, unknown)) = parsed::<Settings>(&connection.details) else { return Vec::new() };
    let mut warnings: Vec<String> = unrecognized(&unknown).into_iter().chain(settings.pooled.warning()).collect();
    let verifies = settings.tls_ca.is_some();
    if let Ok(dsn) = settings.dsn(connection)
        && matches!(dsn.ssl, Ssl::Required)
        && !verifies
    {
        warnings.push("sslmode=require does not verify the server: send tls_ca and say sslmode=verify-full".into());
    }
    warnings
}
