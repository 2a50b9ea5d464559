//! What a configuration says of a Redis or Valkey server, and the target that it makes.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsConnector;
use tresor_secret::SecretString;
use tresor_verified::{Verified, begin, end};
use tresor_wire::input::Input;

use super::session::Way;
use super::url::Place;
use super::{Keeping, NAME_BYTES_MAX, Redis, USERNAME, rules};
use crate::Doors;
use crate::access::Access;
use crate::connection::{Connection, copied};
use crate::plugins::{Creation, Plugin};
use crate::pool::Limits;
use crate::roles::PASSWORD;
use crate::settings::{Common, in_the_clear, of_the_url, parsed, unrecognized};
use crate::target::Target;

/// Redis and Valkey.
pub(crate) const PLUGIN: Plugin = Plugin {
    names: &["redis-database-plugin", "valkey-database-plugin"],
    username: USERNAME,
    name_bytes_max: NAME_BYTES_MAX,
    // A user ends by nothing that the server knows of.
    expiration: "2006-01-02 15:04:05-0700",
    creation: Creation::Usual,
    credentials: &[PASSWORD],
    reaches: &["connection_url", "host", "port", "username"],
    secrets: &["tls_key"],
    target,
    warnings,
};

/// How many connections there can be.
const LIMITS: Limits = Limits { open_max: 4, idle_max: 4, lifetime_max: Duration::ZERO };

/// What is sent for it.
#[derive(Input)]
struct Settings {
    /// What any server has.
    #[input(flatten)]
    common: Common,
    /// Where it is: a name or an address.
    host: Option<String>,
    /// At which port.
    port: Option<u16>,
    /// Both in one, in the place of host and port.
    connection_url: Option<String>,
    /// Whether TLS is spoken.
    tls: Option<bool>,
    /// Whether anybody may pose as the server.
    insecure_tls: Option<bool>,
    /// Who vouches for the server, in PEM.
    ca_cert: Option<String>,
    /// What this server shows, in PEM.
    tls_cert: Option<String>,
    /// Where the server writes its users down: `ACLFILE`, `CONFIG`, or nowhere.
    persistence_mode: Option<String>,
}

impl Settings {
    fn keeping(&self) -> Result<Keeping, String> {
        match self.persistence_mode.as_deref().unwrap_or_default().to_ascii_uppercase().as_str() {
            "" | "NONE" => Ok(Keeping::Nowhere),
            "ACLFILE" => Ok(Keeping::InAclFile),
            "CONFIG" | "REWRITE" => Ok(Keeping::InConfig),
            _ => Err("persistence_mode is NONE, ACLFILE or CONFIG".into()),
        }
    }

    fn place(&self) -> Result<Place, String> {
        let host = self.host.as_deref().map(str::trim).filter(|host| !host.is_empty());
        let Some(url) = self.connection_url.as_deref().filter(|url| !url.is_empty()) else {
            let host = host.ok_or("host cannot be empty")?;
            let port = self.port.filter(|port| *port != 0).ok_or("port cannot be empty")?;
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            return Ok(Place { host, port, user: String::new(), password: None, has_tls: false });
        };
        if host.is_some() || self.port.is_some() {
            return Err("connection_url stands in the place of host and port".into());
        }
        Place::parse(url)
    }

    fn is_verified(&self) -> bool {
        !self.insecure_tls.unwrap_or_default()
    }

    fn connector(&self, key: Option<&SecretString>) -> Result<TlsConnector, String> {
        let authority = self.ca_cert.as_deref().filter(|text| !text.is_empty());
        let builder = begin(&match (self.is_verified(), authority) {
            (true, Some(authority)) => Verified::Fully("ca_cert", authority),
            (true, None) => return Err("ca_cert cannot be empty".into()),
            (false, _) => Verified::Not,
        })?;
        let certificate = self.tls_cert.as_deref().filter(|text| !text.is_empty());
        let config = end(builder, ("tls_cert", certificate), ("tls_key", key.map(|key| key.expose().as_str())))?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn has_tls(&self, place: &Place) -> bool {
        place.has_tls || self.tls.unwrap_or_default()
    }

    fn way(&self, key: Option<&SecretString>) -> Result<Way, String> {
        let place = self.place()?;
        let tls = if self.has_tls(&place) { Some(self.connector(key)?) } else { None };
        let own = self.common.username.clone().filter(|username| !username.is_empty());
        let user = own.unwrap_or(place.user);
        if user.is_empty() {
            return Err("username cannot be empty".into());
        }
        Ok(Way { host: place.host, port: place.port, user, password: place.password, tls })
    }
}

fn target(connection: &Connection, doors: Doors) -> Result<Target, String> {
    let (settings, _) = parsed::<Settings>(&connection.details)?;
    let (keeping, way) = (settings.keeping()?, settings.way(connection.secrets.get("tls_key"))?);
    if connection.passwords.is_empty() && way.password.is_none() {
        return Err("password cannot be empty".into());
    }
    let user = way.user.clone();
    rules::name(&user, keeping).map_err(|trouble| trouble.to_string())?;
    let passwords = connection.passwords.iter().map(copied).collect();
    Ok(Target::Redis(Redis { access: Access::new(doors, way, passwords, LIMITS), user, keeping }))
}

fn warnings(connection: &Connection) -> Vec<String> {
    let Ok((settings, unknown)) = parsed::<Settings>(&connection.details) else { return Vec::new() };
    let mut warnings: Vec<String> = unrecognized(&unknown).into_iter().collect();
    warnings.extend(of_the_url(settings.connection_url.as_deref().unwrap_or_default()));
    if let Ok(place) = settings.place() {
        match settings.has_tls(&place) {
            false => warnings.extend(in_the_clear(&place.host)),
            true if settings.is_verified() => {}
            true => warnings.push("TLS does not verify the server: send ca_cert, without insecure_tls".into()),
        }
    }
    warnings
}
