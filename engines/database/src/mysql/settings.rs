//! What a configuration says of a MySQL or MariaDB server, and the target that it makes.

use mysql_async::{ClientIdentity, SslOpts};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tresor_secret::SecretString;
use tresor_wire::input::Input;

use super::dsn::{Dsn, Ssl};
use super::session::Way;
use super::{EXPIRATION, MySql, NAME_BYTES_MAX, USERNAME, USERNAME_LEGACY};
use crate::Doors;
use crate::access::Access;
use crate::connection::{Connection, copied};
use crate::plugins::{Creation, Plugin};
use crate::roles::{CLIENT_CERTIFICATE, PASSWORD};
use crate::settings::{Common, Pooled, parsed, unrecognized};
use crate::target::Target;

/// MySQL and MariaDB.
pub(crate) const PLUGIN: Plugin = Plugin {
    names: &["mysql-database-plugin"],
    username: USERNAME,
    name_bytes_max: NAME_BYTES_MAX,
    expiration: EXPIRATION,
    creation: Creation::Said,
    credentials: &[PASSWORD, CLIENT_CERTIFICATE],
    reaches: &["connection_url", "username"],
    secrets: &["tls_certificate_key"],
    target,
    warnings,
};

/// The same where names of users are short.
pub(crate) const LEGACY: Plugin = Plugin {
    names: &["mysql-aurora-database-plugin", "mysql-rds-database-plugin", "mysql-legacy-database-plugin"],
    username: USERNAME_LEGACY,
    ..PLUGIN
};

/// What is sent for it.
#[derive(Input)]
struct Settings {
    /// What any server has.
    #[input(flatten)]
    common: Common,
    /// Where it is.
    #[input(flatten)]
    pooled: Pooled,
    /// Who vouches for the server, in PEM.
    tls_ca: Option<String>,
    /// The name that the server's certificate is for, if it is not the host's.
    tls_server_name: Option<String>,
    /// Whether anybody may pose as the server.
    tls_skip_verify: Option<bool>,
}

impl Settings {
    fn dsn(&self, connection: &Connection) -> Result<Dsn, String> {
        let username = self.common.username.as_deref().unwrap_or_default();
        let mut dsn = Dsn::parse(self.pooled.url()?, username, connection.passwords.first())?;
        if self.authority().is_some() || connection.secrets.contains_key("tls_certificate_key") {
            let anybody = self.tls_skip_verify.unwrap_or_default();
            dsn.ssl = if anybody { Ssl::Unverified } else { Ssl::Verified };
        }
        Ok(dsn)
    }

    fn authority(&self) -> Option<&str> {
        self.tls_ca.as_deref().filter(|text| !text.is_empty())
    }

    fn tls(&self, ssl: Ssl, identity: Option<&SecretString>) -> Result<Option<SslOpts>, String> {
        let options = SslOpts::default();
        let mut options = match (ssl, self.authority()) {
            (Ssl::Off, _) => return Ok(None),
            // Nobody is asked to vouch.
            (Ssl::Preferred | Ssl::Unverified, _) => options.with_danger_accept_invalid_certs(true),
            (Ssl::Verified, None) => return Err("TLS that verifies the server needs tls_ca".into()),
            (Ssl::Verified, Some(authority)) => {
                certificates("tls_ca", authority)?;
                options.with_disable_built_in_roots(true).with_root_certs(vec![authority.as_bytes().to_vec().into()])
            }
        };
        if let Some(name) = self.tls_server_name.clone().filter(|name| !name.is_empty()) {
            options = options.with_danger_tls_hostname_override(Some(name));
        }
        if let Some(pem) = identity.map(|pem| pem.expose()) {
            certificates("tls_certificate_key", pem)?;
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
            key.map_err(|_| "tls_certificate_key holds no private key in PEM")?;
            let bytes = || pem.as_bytes().to_vec().into();
            options = options.with_client_identity(Some(ClientIdentity::new(bytes(), bytes())));
        }
        Ok(Some(options))
    }
}

/// Whether there are certificates in PEM.
fn certificates(field: &str, text: &str) -> Result<(), String> {
    let every: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let none = || format!("{field} holds no certificate in PEM");
    every.ok().filter(|every| !every.is_empty()).map(drop).ok_or_else(none)
}

fn target(connection: &Connection, doors: Doors) -> Result<Target, String> {
    let (settings, _) = parsed::<Settings>(&connection.details)?;
    let dsn = settings.dsn(connection)?;
    let tls = settings.tls(dsn.ssl, connection.secrets.get("tls_certificate_key"))?;
    let passwords = connection.passwords.iter().map(copied).collect();
    let access = Access::new(doors, Way { dsn, tls }, passwords, settings.pooled.limits());
    Ok(Target::MySql(MySql { access }))
}

fn warnings(connection: &Connection) -> Vec<String> {
    let Ok((settings, unknown)) = parsed::<Settings>(&connection.details) else { return Vec::new() };
    let mut warnings: Vec<String> = unrecognized(&unknown).into_iter().chain(settings.pooled.warning()).collect();
    if settings.dsn(connection).is_ok_and(|dsn| matches!(dsn.ssl, Ssl::Unverified | Ssl::Preferred)) {
        warnings.push("TLS does not verify the server: send tls_ca, without tls_skip_verify".into());
    }
    warnings
}
