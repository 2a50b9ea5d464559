//! Where a server is and as whom it is asked, as a URL or as pairs of `key=value`.
//!
//! Deliberately absent: names of files (`sslrootcert` and its kin). Whoever configures a mount must not make the server read
//! its own files; certificates are sent.

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tresor_secret::SecretString;
use zeroize::Zeroizing;

/// What TLS has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ssl {
    /// No TLS.
    Off,
    /// TLS where the server has it, whoever it is.
    Preferred,
    /// TLS, whoever it is.
    Required,
    /// TLS with a certificate by the authority that was given.
    Authority,
    /// The same, for the name that is asked.
    Full,
}

impl Ssl {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "disable" => Some(Self::Off),
            "allow" | "prefer" => Some(Self::Preferred),
            "require" => Some(Self::Required),
            "verify-ca" => Some(Self::Authority),
            "verify-full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// Where a server is and as whom it is asked.
pub(crate) struct Dsn {
    /// For the driver, without a password that was configured beside.
    pub(crate) config: Config,
    /// What TLS has to prove.
    pub(crate) ssl: Ssl,
}

/// Keys whose value is the name of a file.
const FILES: &[&str] =
    &["sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "passfile", "servicefile", "service"];

/// What is put into the text.
pub(crate) struct Placed<'p> {
    /// In the place of `{{username}}`.
    pub(crate) username: &'p str,
    /// In the place of `{{password}}`.
    pub(crate) password: Option<&'p SecretString>,
    /// As it is, without the escapes that its place wants.
    pub(crate) is_raw: bool,
}

impl Dsn {
    /// Reads it.
    ///
    /// # Errors
    /// Text that names keys, never values.
    pub(crate) fn parse(text: &str, placed: &Placed<'_>) -> Result<Self, String> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let password = placed.password.map_or("", |password| password.expose());
        let filled = place(text, placed, password, is_url);
        let (rest, ssl) = if is_url { without_ssl_of_url(&filled)? } else { without_ssl_of_pairs(&filled)? };
        let mut config: Config = rest.parse().map_err(|error: tokio_postgres::Error| error.to_string())?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("connection_url names no host".into());
        }
        if config.get_user().is_none() && !placed.username.is_empty() {
            config.user(placed.username);
        }
        if config.get_user().is_none() {
            return Err("neither connection_url nor username says as whom to connect".into());
        }
        let ssl = ssl.unwrap_or(Ssl::Preferred);
        config.ssl_mode(match ssl {
            Ssl::Off => SslMode::Disable,
            Ssl::Preferred => SslMode::Prefer,
            Ssl::Required | Ssl::Authority | Ssl::Full => SslMode::Require,
        });
        Ok(Self { config, ssl })
    }

    /// As whom it is asked.
    pub(crate) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }
}

fn place(text: &str, placed: &Placed<'_>, password: &str, is_url: bool) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 3 * (password.len() + placed.username.len())));
    let mut rest = text;
    while !rest.is_empty() {
        let marked = [("username", placed.username), ("password", password)].into_iter().find_map(|(name, value)| {
            let inner = rest.strip_prefix("{{")?.trim_start().strip_prefix(name)?;
            Some((value, inner.trim_start().strip_prefix("}}")?))
        });
        if let Some((value, after)) = marked {
            if placed.is_raw {
                out.push_str(value);
            } else if is_url {
                percent_encode(value, &mut out);
            } else {
                quote(value, out.ends_with('\''), &mut out);
            }
            rest = after;
            continue;
        }
        let next = rest.char_indices().nth(1).map_or(rest.len(), |(next, _)| next);
        out.push_str(rest.get(..next).unwrap_or_default());
        rest = rest.get(next..).unwrap_or_default();
    }
    out
}

fn percent_encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

fn quote(value: &str, is_quoted: bool, out: &mut String) {
    if !is_quoted {
        out.push('\'');
    }
    for letter in value.chars() {
        if matches!(letter, '\'' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    if !is_quoted {
        out.push('\'');
    }
}

/// What one pair says about TLS; `None`: it is the driver's.
fn about_ssl(key: &str, value: &str) -> Result<Option<Ssl>, String> {
    if FILES.contains(&key) {
        return Err(format!("`{key}` names a file of the server: send `tls_ca`, `tls_certificate` and `private_key`"));
    }
    if key != "sslmode" {
        return Ok(None);
    }
    let ssl = Ssl::parse(value);
    ssl.map(Some).ok_or_else(|| "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full".into())
}

type Parted = (Zeroizing<String>, Option<Ssl>);

fn without_ssl_of_url(url: &str) -> Result<Parted, String> {
    let Some((begin, query)) = url.split_once('?') else { return Ok((Zeroizing::new(url.to_owned()), None)) };
    let (mut rest, mut ssl) = (Zeroizing::new(begin.to_owned()), None);
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match about_ssl(key, value)? {
            Some(mode) => ssl = Some(mode),
            None => {
                let between = if rest.contains('?') { '&' } else { '?' };
                rest.push(between);
                rest.push_str(pair);
            }
        }
    }
    Ok((rest, ssl))
}

fn without_ssl_of_pairs(text: &str) -> Result<Parted, String> {
    let (mut kept, mut ssl) = (Zeroizing::new(String::with_capacity(text.len())), None);
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_whitespace()) {
            key.push(letter);
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        if key.is_empty() && letters.peek().is_none() {
            return Ok((kept, ssl));
        }
        if letters.next() != Some('=') {
            return Err("connection_url is neither a URL (postgresql://..) nor pairs of key=value".into());
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let is_quoted = letters.next_if_eq(&'\'').is_some();
        let mut value = Zeroizing::new(String::new());
        loop {
            match letters.next() {
                Some('\'') if is_quoted => break,
                None if is_quoted => return Err(format!("the value of `{key}` is not closed")),
                None => break,
                Some(letter) if !is_quoted && letter.is_whitespace() => break,
                Some('\\') => value.extend(letters.next()),
                Some(letter) => value.push(letter),
            }
        }
        match about_ssl(&key, &value)? {
            Some(mode) => ssl = Some(mode),
            None => {
                kept.push_str(&key);
                kept.push('=');
                quote(&value, false, &mut kept);
                kept.push(' ');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use tokio_postgres::config::Host;

    use super::*;

    fn parsed(text: &str, password: &str) -> Result<Dsn, String> {
        let password = SecretString::new(password.to_owned());
        Dsn::parse(text, &Placed { username: "us er", password: Some(&password), is_raw: false })
    }

    fn hosts(dsn: &Dsn) -> Vec<String> {
        let names = dsn.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.to_string_lossy().into_owned(),
        });
        names.collect()
    }

    #[test]
    fn urls_and_pairs_say_the_same() {
        for text in [
            "postgresql://{{username}}:{{password}}@one:5433,two:5434/base?sslmode=verify-full&connect_timeout=3",
            "host=one,two port=5433,5434 user={{username}} password={{password}} dbname=base sslmode=verify-full connect_timeout=3",
            "host = 'one,two' port='5433,5434' user='{{ username }}' password='{{password}}' sslmode = 'verify-full' dbname=base connect_timeout=3",
        ] {
            let dsn = parsed(text, "p@s' s\\/%").unwrap();
            assert_eq!((dsn.user(), dsn.ssl), ("us er", Ssl::Full), "{text}");
            assert_eq!(dsn.config.get_password(), Some(b"p@s' s\\/%".as_slice()), "{text}");
            assert_eq!(hosts(&dsn), ["one", "two"], "{text}");
            assert_eq!(dsn.config.get_ports(), [5433, 5434], "{text}");
            assert_eq!(dsn.config.get_dbname(), Some("base"), "{text}");
        }
        let dsn = parsed("postgres://host", "").unwrap();
        assert_eq!((dsn.user(), dsn.ssl), ("us er", Ssl::Preferred));
        assert_eq!(hosts(&parsed("host=/run/postgresql user=a sslmode=disable", "").unwrap()), ["/run/postgresql"]);
    }

    #[test]
    fn plg_06_dyn_04_files_are_not_read_and_errors_show_no_value() {
        for (text, expected) in [
            (
                "postgresql://h/?sslrootcert=/etc/passwd",
                "`sslrootcert` names a file of the server: send `tls_ca`, `tls_certificate` and `private_key`",
            ),
            (
                "host=h passfile=/etc/shadow",
                "`passfile` names a file of the server: send `tls_ca`, `tls_certificate` and `private_key`",
            ),
            ("host=h sslmode=maybe", "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full"),
            ("canary", "connection_url is neither a URL (postgresql://..) nor pairs of key=value"),
            ("host=h password='canary", "the value of `password` is not closed"),
            ("dbname=x", "connection_url names no host"),
        ] {
            assert_eq!(parsed(text, "canary").err().as_deref(), Some(expected));
        }
        let wrong =
            ["postgresql://u:canary@h:canary/", "host=h port=canary", "host=h canary=1", "postgresql://u:canary@"];
        for text in wrong {
            let error = parsed(text, "canary").err().unwrap_or_default();
            assert!(!error.is_empty() && !error.replace("option `canary`", "").contains("canary"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_password_comes_through(password in "[^\\x00]{0,30}") {
            for text in ["postgresql://u:{{password}}@h/b", "host=h user=u password={{password}}", "host=h password='{{password}}'"] {
                let dsn = parsed(text, &password).unwrap();
                prop_assert_eq!(dsn.config.get_password().unwrap_or_default(), password.as_bytes());
                prop_assert_eq!(hosts(&dsn), ["h"]);
            }
        }
    }
}
