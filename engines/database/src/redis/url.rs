//! `connection_url`: `redis://user:password@host:port`, and the same with `rediss`, `valkey` and `valkeys`.
//!
//! It is taken apart before names and passwords are put in. Deliberately absent: the number of a database, which may stand
//! there and means nothing for users; sockets, several hosts.

use tresor_secret::SecretString;

/// The port where nobody says one.
const PORT: u16 = 6379;

/// Where a server is and as whom it is asked.
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    /// Empty: the connection says it.
    pub(super) user: String,
    /// One that stands in the text itself.
    pub(super) password: Option<SecretString>,
    pub(super) has_tls: bool,
}

impl Place {
    /// Reads one.
    ///
    /// # Errors
    /// Text that says what is wrong, never a value.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("connection_url has no scheme such as `redis://`")?;
        let has_tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err("the scheme of connection_url is redis, rediss, valkey or valkeys".into()),
        };
        if rest.contains(['?', '#']) {
            return Err("connection_url takes no parameters".into());
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let (who, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let wrong = || "connection_url has an address that is not `host:port`".to_owned();
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                (host, after.strip_prefix(':').or_else(|| after.is_empty().then_some("")).ok_or_else(wrong)?)
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let port = if port.is_empty() { PORT } else { port.parse().map_err(|_| wrong())? };
        if host.is_empty() {
            return Err(wrong());
        }
        let decoded = |text: &str| match text {
            // What the connection says beside it.
            text if text.starts_with("{{") => Some(String::new()),
            text => unescaped(text),
        };
        let bad = || "connection_url has a `%` that is followed by no byte".to_owned();
        let password = SecretString::new(decoded(password).ok_or_else(bad)?);
        Ok(Self {
            host: host.to_owned(),
            port,
            user: decoded(user).ok_or_else(bad)?,
            password: Some(password).filter(|password| !password.is_empty()),
            has_tls,
        })
    }
}

/// A part of an address without the escapes of its bytes.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, after) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(byte, 16).ok().filter(|_| !byte.starts_with('+'))?);
        bytes.extend_from_slice(after.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_says_where_and_as_whom() {
        for (url, host, port, user, password, has_tls) in [
            ("redis://u:p@h:1", "h", 1, "u", "p", false),
            ("rediss://u:p%40%2f@h/0", "h", PORT, "u", "p@/", true),
            ("valkey://{{username}}:{{ password }}@[::1]:7", "::1", 7, "", "", false),
            ("valkeys://[::1]", "::1", PORT, "", "", true),
            ("redis://u@h", "h", PORT, "u", "", false),
        ] {
            let place = Place::parse(url).unwrap();
            let found = place.password.as_ref().map_or("", |password| password.expose());
            let seen = (place.host.as_str(), place.port, place.user.as_str(), found, place.has_tls);
            assert_eq!(seen, (host, port, user, password, has_tls), "{url}");
        }
        for wrong in
            ["h:1", "http://h", "redis://", "redis://h:x", "redis://h?db=1", "redis://u:%4@h", "redis://u:%+4@h"]
        {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!Place::parse("redis://u:canary%@h").err().unwrap().contains("canary"));
    }
}
