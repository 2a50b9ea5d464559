//! What configurations of several kinds of server have in common.
//!
//! Deliberately absent: passwords and keys, which are kept apart from everything that is shown.

use std::time::Duration;

use tresor_credential::{Moment, Template};
use tresor_env::outgoing::Base;
use tresor_model::Map;
use tresor_wire::input::{Fields, Input, PathParameters, Seconds};

use crate::plugins::Plugin;
use crate::pool::Limits;

/// How many connections there can be.
const OPEN_DEFAULT: i64 = 4;
/// And at most, whatever is configured.
const OPEN_MAX: i64 = 1000;

/// What is sent for any server.
#[derive(Input)]
pub(crate) struct Common {
    /// As whom it is asked.
    pub(crate) username: Option<String>,
    /// How accounts are called.
    username_template: Option<String>,
    /// Whether static roles take over accounts without giving them another password, where they do not say it themselves.
    skip_static_role_import_rotation: Option<bool>,
}

/// What that is called.
pub(crate) const SKIP_IMPORT: &str = "skip_static_role_import_rotation";

/// What is sent for a server that is reached by a URL, over connections that are kept.
#[derive(Input)]
pub(crate) struct Pooled {
    /// Where the server is; `{{username}}` and `{{password}}` are put in.
    connection_url: Option<String>,
    /// How many connections are open at most.
    max_open_connections: Option<i64>,
    /// How many of them wait for work at most; none says as many, a negative number none.
    max_idle_connections: Option<i64>,
    /// How long a connection is used at most.
    max_connection_lifetime: Option<Seconds>,
    /// Puts user and password into the URL as they are.
    disable_escaping: Option<bool>,
}

/// The fields that a name can be made of.
pub(crate) const FIELDS: &[&str] = &["DisplayName", "RoleName"];

/// Reads what was sent; also the names that say nothing there.
pub(crate) fn parsed<S: Input>(details: &Map) -> Result<(S, Vec<String>), String> {
    let fields = Fields { path: PathParameters::new(), body: details.duplicate(), from_query: Vec::new() };
    S::decode(fields).map_err(|error| error.to_string())
}

/// What is said of names that say nothing.
pub(crate) fn unrecognized(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("Endpoint ignored these unrecognized parameters: [{}]", names.join(" ")))
}

impl Common {
    pub(crate) fn of(details: &Map) -> Result<Self, String> {
        parsed(details).map(|(common, _)| common)
    }

    /// Whether static roles take over accounts as they are, unless they say otherwise.
    pub(crate) fn skips_import(&self) -> bool {
        self.skip_static_role_import_rotation.unwrap_or_default()
    }

    /// How accounts are called.
    pub(crate) fn usernames(&self, plugin: &Plugin) -> Result<Template, String> {
        let text = self.username_template.as_deref().filter(|text| !text.is_empty());
        let template = Template::parse(text.unwrap_or(plugin.username), FIELDS);
        template.map_err(|error| format!("unable to initialize username template: {error}"))
    }

    /// Whether a name comes of the template at all.
    pub(crate) fn try_out(&self, plugin: &Plugin, moment: Moment<'_>) -> Result<(), String> {
        let tried = self.usernames(plugin)?.render(&[("DisplayName", "name"), ("RoleName", "role")], moment);
        tried.map(drop).map_err(|error| format!("invalid username template: {error}"))
    }
}

impl Pooled {
    pub(crate) fn url(&self) -> Result<&str, String> {
        let url = self.connection_url.as_deref().filter(|url| !url.is_empty());
        url.ok_or_else(|| "connection_url cannot be empty".into())
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.disable_escaping.unwrap_or_default()
    }

    pub(crate) fn limits(&self) -> Limits {
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

    /// What is said of a password that stands in the URL.
    pub(crate) fn warning(&self) -> Option<String> {
        of_the_url(self.connection_url.as_deref().unwrap_or_default())
    }
}

/// What is said of a password that stands in a URL.
pub(crate) fn of_the_url(url: &str) -> Option<String> {
    (redacted(url) != url).then(|| {
        "Password found in connection_url, use a templated url to enable root rotation and prevent read access to \
         password information."
            .into()
    })
}

/// What is said of a host that is told passwords without TLS.
pub(crate) fn in_the_clear(host: &str) -> Option<String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let is_private = Base::parse(&format!("http://{host}")).is_some_and(Base::is_private);
    (!is_private).then(|| "passwords go to this server in the clear: send tls=true".into())
}

/// A URL without a password that stands in it.
pub(crate) fn redacted(url: &str) -> String {
    if let Some((user, password, behind)) = of_go(url) {
        let is_shown = password.is_empty() || is_placeholder(password);
        return if is_shown { url.to_owned() } else { format!("{user}:xxxxx{behind}") };
    }
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

/// A URL without who stands in it, where it says how a server is reached.
pub(crate) fn without_user(url: &str) -> Option<String> {
    if let Some((_, _, behind)) = of_go(url) {
        let place = behind.trim_start_matches('@');
        return (place.starts_with("tcp(") || place.starts_with("unix(")).then(|| place.to_owned());
    }
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(format!("{scheme}://{host}{after}"))
}

/// What Go's driver for MySQL takes, `user:password@tcp(host)/`, taken apart: what stands before the password, the password, and
/// what stands behind.
fn of_go(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.get(..text.rfind('/')?)?.rfind('@')?;
    let (who, behind) = text.split_at(at);
    let protocol = behind.trim_start_matches('@').split(['(', '/']).next()?;
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    // A URL may name no host, too.
    let is_url = password.starts_with("//") && user.chars().all(|letter| letter.is_ascii_alphabetic());
    let is_of_go = matches!(protocol, "tcp" | "unix") || (protocol.is_empty() && !is_url);
    is_of_go.then_some((user, password, behind))
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
    fn of_a_url_the_server_stays_without_who_stands_in_it() {
        for (url, other, is_same) in [
            ("postgresql://a:b@h:1/d?x=y", "postgresql://{{username}}:{{password}}@h:1/d?x=y", true),
            ("postgresql://a:b@h:1/d", "postgresql://a:b@h:2/d", false),
            ("postgresql://a:b@h/d", "postgresql://a:b@h/e", false),
            ("a:b@tcp(h:1)/d", "c@tcp(h:1)/d", true),
            ("a:b@tcp(h:1)/d", "a:b@tcp(i:1)/d", false),
            // Where it does not say it clearly, nothing is the same.
            ("a:b@tcp(h)/d?x=@/", "a:b@tcp(i)/d?x=@/", false),
            ("host=h user=a", "host=h user=b", false),
        ] {
            let place = without_user(url);
            assert_eq!(place.is_some() && place == without_user(other), is_same, "{url} {other}");
        }
    }

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
            ("{{username}}:{{ password }}@tcp(h:1)/b", "{{username}}:{{ password }}@tcp(h:1)/b"),
            ("u:secret@tcp(h:1)/b?tls=true", "u:xxxxx@tcp(h:1)/b?tls=true"),
            ("u:a@b://c:d@unix(/run/s)/b", "u:xxxxx@unix(/run/s)/b"),
            ("u:secret@/b", "u:xxxxx@/b"),
            ("postgresql://{{username}}:{{password}}@/b?host=h", "postgresql://{{username}}:{{password}}@/b?host=h"),
            ("postgresql://u:secret@/b?host=h", "postgresql://u:xxxxx@/b?host=h"),
            ("u@tcp(h)/b", "u@tcp(h)/b"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
