//! What a configuration says of an InfluxDB server, and the target that it makes.

use std::sync::Arc;
use std::time::Duration;

use tresor_env::outgoing::{Base, Trust};
use tresor_wire::input::{Input, Seconds};

use super::session::Way;
use super::{InfluxDb, NAME_BYTES_MAX, USERNAME, pem};
use crate::Doors;
use crate::access::Access;
use crate::connection::{Connection, copied};
use crate::plugins::{Creation, Plugin};
use crate::pool::Limits;
use crate::roles::PASSWORD;
use crate::settings::{Common, in_the_clear, parsed, unrecognized};
use crate::target::Target;

/// InfluxDB 1.x.
pub(crate) const PLUGIN: Plugin = Plugin {
    names: &["influxdb-database-plugin"],
    username: USERNAME,
    name_bytes_max: NAME_BYTES_MAX,
    expiration: "2006-01-02 15:04:05-0700",
    creation: Creation::Usual,
    credentials: &[PASSWORD],
    reaches: &["host", "port", "username"],
    secrets: &["pem_bundle", "pem_json"],
    target,
    warnings,
};

/// How many questions there can be at a time.
const LIMITS: Limits = Limits { open_max: 4, idle_max: 4, lifetime_max: Duration::ZERO };
/// The port where nobody says one.
const PORT: u16 = 8086;
/// How long one question may take where nobody says it.
const TIME_MAX: Duration = Duration::from_secs(10);

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
    /// Whether TLS is spoken.
    tls: Option<bool>,
    /// Whether anybody may pose as the server.
    insecure_tls: Option<bool>,
    /// How long one question may take, connecting included.
    connect_timeout: Option<Seconds>,
}

impl Settings {
    fn is_anybody(&self) -> bool {
        self.insecure_tls.unwrap_or_default()
    }

    fn host(&self) -> Result<&str, String> {
        let host = self.host.as_deref().map(str::trim).unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("host cannot be empty".into());
        }
        Ok(host)
    }

    fn has_tls(&self, connection: &Connection) -> bool {
        self.tls.unwrap_or_default() || self.is_anybody() || !connection.secrets.is_empty()
    }

    fn url(&self, has_tls: bool) -> Result<String, String> {
        let (host, port) = (self.host()?, self.port.filter(|port| *port != 0).unwrap_or(PORT));
        let scheme = if has_tls { "https" } else { "http" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let base = format!("{scheme}://{host}:{port}");
        let is_base = Base::parse(&base).is_some_and(|base| base.authority() == format!("{host}:{port}"));
        if is_base { Ok(format!("{base}/query")) } else { Err("host is a name or an address".into()) }
    }

    fn trust(&self, connection: &Connection) -> Result<Option<Trust>, String> {
        let found = match (connection.secrets.get("pem_json"), connection.secrets.get("pem_bundle")) {
            (Some(json), _) => Some(pem::of_json(json)?),
            (None, Some(bundle)) => Some(pem::of_bundle(bundle)?),
            (None, None) => self.is_anybody().then(Trust::default),
        };
        Ok(found.map(|trust| Trust { anybody: self.is_anybody(), ..trust }))
    }
}

fn target(connection: &Connection, doors: Doors) -> Result<Target, String> {
    let (settings, _) = parsed::<Settings>(&connection.details)?;
    let url = settings.url(settings.has_tls(connection))?;
    let user = settings.common.username.clone().unwrap_or_default();
    if user.is_empty() {
        return Err("username cannot be empty".into());
    }
    if connection.passwords.is_empty() {
        return Err("password cannot be empty".into());
    }
    let outgoing = match settings.trust(connection)? {
        None => Arc::clone(&doors.outgoing),
        Some(trust) => {
            let trusting = doors.outgoing.trusting(&trust);
            trusting.map_err(|_| "pem_bundle or pem_json holds no certificate, or a key that goes with none")?
        }
    };
    let limit = settings.connect_timeout.as_ref().map(|limit| limit.0).filter(|limit| !limit.is_zero());
    let way = Way { outgoing, url, user: user.clone(), time_max: limit.unwrap_or(TIME_MAX) };
    let passwords = connection.passwords.iter().map(copied).collect();
    Ok(Target::InfluxDb(InfluxDb { access: Access::new(doors, way, passwords, LIMITS), user }))
}

fn warnings(connection: &Connection) -> Vec<String> {
    let Ok((settings, unknown)) = parsed::<Settings>(&connection.details) else { return Vec::new() };
    let mut warnings: Vec<String> = unrecognized(&unknown).into_iter().collect();
    if !settings.has_tls(connection) {
        warnings.extend(settings.host().ok().and_then(in_the_clear));
    } else if settings.is_anybody() {
        warnings.push("TLS does not verify the server: send pem_bundle, without insecure_tls".into());
    }
    warnings
}
