//! What a configuration says of its server, and the target that it makes.
//!
//! Deliberately absent: passwords, which are kept apart from everything that is shown.

use std::time::Duration;

use tresor_credential::{Moment, Template};
use tresor_model::Map;
use tresor_wire::input::{Fields, Input, PathParameters, Seconds};

use crate::Doors;
use crate::connection::{Connection, copied};
use crate::pool::Limits;
use crate::postgresql::{self, Dsn, Placed, PostgreSql, Ssl, Telling, Tls};
use crate::target::Target;

/// How many connections there can be.
const OPEN_DEFAULT: i64 = 4;
/// And at most, whatever is configured.
const OPEN_MAX: i64 = 1000;

/// The kinds of server that there are, by the names that configurations say.
pub(crate) const PLUGINS: &[&str] = &["postgresql-database-plugin"];

/// What is sent for a server.
#[derive(Input)]
pub(crate) struct Settings {
    /// Where the server is; `{{username}}` and `{{password}}` are put in.
    pub(crate) connection_url: Option<String>,
    /// As whom it is asked.
    pub(crate) username: Option<String>,
    /// How many connections are open at most.
    max_open_connections: Option<i64>,
    /// How many of them wait for work at most; none says as many, a negative number none.
    max_idle_connections: Option<i64>,
    /// How long a connection is used at most.
    max_connection_lifetime: Option<Seconds>,
    /// Puts user and password into the URL as they are.
    disable_escaping: Option<bool>,
    /// How accounts are called.
    username_template: Option<String>,
    /// `password` or `scram-sha-256`: how the server is told passwords.
    password_authentication: Option<String>,
    /// Who vouches for the server, in PEM.
    tls_ca: Option<String>,
    /// What this server shows, in PEM.
    tls_certificate: Option<String>,
}

/// The fields that a name can be made of.
const FIELDS: &[&str] = &["DisplayName", "RoleName"];

impl Settings {
    /// Reads what was sent; also the names that say nothing here.
    pub(crate) fn of(details: &Map) -> Result<(Self, Vec<String>), String> {
        let fields = Fields { path: PathParameters::new(), body: details.duplicate(), from_query: Vec::new() };
        Self::decode(fields).map_err(|error| error.to_string())
    }

    /// How accounts are called.
    pub(crate) fn usernames(&self) -> Result<Template, String> {
        let text = self.username_template.as_deref().filter(|text| !text.is_empty());
        let template = Template::parse(text.unwrap_or(postgresql::USERNAME), FIELDS);
        template.map_err(|error| format!("unable to initialize username template: {error}"))
    }

    /// Whether a name comes of the template at all.
    pub(crate) fn try_out(&self, moment: Moment<'_>) -> Result<(), String> {
        let tried = self.usernames()?.render(&[("DisplayName", "name"), ("RoleName", "role")], moment);
        tried.map(drop).map_err(|error| format!("invalid username template: {error}"))
    }

    fn limits(&self) -> Limits {
        let open = match self.max_open_connections.unwrap_or_default() {
            0 => OPEN_DEFAULT,
            given => given.clamp(1, OPEN_MAX),
        };
        let idle = match self.max_idle_connections.unwrap_or_default() {
            0 => open,
            given => given.clamp(0, open),
        };
        let count = |number: i64| usize::try_from(number).unwrap_or_default();
        let lifetime_max = self.max_connection_lifetime.as_ref().map_or(Duration::ZERO, |seconds| seconds.0);
        Limits { open_max: count(open), idle_max: count(idle), lifetime_max }
    }

    fn dsn(&self, connection: &Connection) -> Result<Dsn, String> {
        let url = self.connection_url.as_deref().filter(|url| !url.is_empty());
        let placed = Placed {
            username: self.username.as_deref().unwrap_or_default(),
            password: connection.passwords.first(),
            is_raw: self.disable_escaping.unwrap_or_default(),
        };
        Dsn::parse(url.ok_or("connection_url cannot be empty")?, &placed)
    }
}

/// The server that a connection leads to.
pub(crate) fn target(connection: &Connection, doors: Doors) -> Result<Target, String> {
    if !PLUGINS.contains(&connection.plugin_name.as_str()) {
        return Err(format!("plugin not found in the catalog: {}", connection.plugin_name));
    }
    let (settings, _) = Settings::of(&connection.details)?;
    let telling = match settings.password_authentication.as_deref() {
        None | Some("" | "password") => Telling::Plain,
        Some("scram-sha-256") => Telling::Scram,
        Some(_) => return Err("password_authentication is `password` or `scram-sha-256`".into()),
    };
    let dsn = settings.dsn(connection)?;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (authority, certificate) = (given(&settings.tls_ca), given(&settings.tls_certificate));
    let tls = Tls::new(dsn.ssl, authority.as_deref(), certificate.as_deref(), connection.private_key.as_ref())?;
    let passwords = connection.passwords.iter().map(copied).collect();
    Ok(Target::PostgreSql(PostgreSql::new(doors, dsn, tls, passwords, telling, settings.limits())))
}

/// What whoever configures it should know.
pub(crate) fn warnings(connection: &Connection) -> Vec<String> {
    let Ok((settings, unknown)) = Settings::of(&connection.details) else { return Vec::new() };
    let mut warnings = Vec::new();
    if !unknown.is_empty() {
        warnings.push(format!("Endpoint ignored these unrecognized parameters: [{}]", unknown.join(" ")));
    }
    let url = settings.connection_url.as_deref().unwrap_or_default();
    if redacted(url) != url {
        warnings.push(
            "Password found in connection_url, use a templated url to enable root rotation and prevent read access to \
             password information."
                .into(),
        );
    }
    let verifies = settings.tls_ca.is_some();
    if let Ok(dsn) = settings.dsn(connection)
        && matches!(dsn.ssl, Ssl::Required)
        && !verifies
    {
        warnings.push("sslmode=require does not verify the server: send tls_ca and say sslmode=verify-full".into());
    }
    warnings
}

/// A URL without a password that stands in it.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return without_pair(url) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let Some((who, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    match who.split_once(':') {
        Some((user, password)) if !password.is_empty() && !is_placeholder(password) => {
            format!("{scheme}://{user}:xxxxx@{host}{after}")
        }
        _ => url.to_owned(),
    }
}

fn is_placeholder(text: &str) -> bool {
    let inner = text.strip_prefix("{{").and_then(|inner| inner.strip_suffix("}}"));
    inner.is_some_and(|inner| matches!(inner.trim(), "password" | "username"))
}

/// The same of pairs: what stands behind `password=`, to the end, unless it is a placeholder.
fn without_pair(text: &str) -> String {
    let Some(at) = text.find("password") else { return text.to_owned() };
    let (before, pair) = text.split_at(at);
    let value = pair.trim_start_matches("password").trim_start().trim_start_matches('=').trim_start();
    let first = value.trim_start_matches('\'').split("}}").next().unwrap_or_default();
    if is_placeholder(&format!("{first}}}}}")) { text.to_owned() } else { format!("{before}password=xxxxx") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dyn_06_a_password_in_the_url_is_not_shown() {
        for (url, shown) in [
            ("postgresql://{{username}}:{{password}}@h/b", "postgresql://{{username}}:{{password}}@h/b"),
            ("postgresql://u:secret@h:1/b?x=@:", "postgresql://u:xxxxx@h:1/b?x=@:"),
            ("postgresql://u:p@ss@h", "postgresql://u:xxxxx@h"),
            ("postgresql://u@h", "postgresql://u@h"),
            ("host=h user=u password=secret dbname=b", "host=h user=u password=xxxxx"),
            ("host=h password='{{password}}' user=u", "host=h password='{{password}}' user=u"),
            ("host=h password={{ password }}", "host=h password={{ password }}"),
            ("host=h user=u", "host=h user=u"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
