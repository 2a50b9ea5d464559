//! Where a server is and as whom it is asked, as a URL or as pairs of `key=value`.
//!
//! Names of files (`sslrootcert` and its kin) are refused or given back, as the caller wants it: whoever configures a mount must
//! not make the server read its own files, and whoever configures the server may. Deliberately absent: reading them.

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tresor_secret::SecretString;
use zeroize::Zeroizing;

/// What TLS has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ssl {
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
pub struct Dsn {
    /// For the driver, without a password that was configured beside.
    pub config: Config,
    /// What TLS has to prove.
    pub ssl: Ssl,
    /// The files that it names; none unless they may be named.
    pub files: TlsFiles,
}

/// The files that TLS is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `sslrootcert`: the authorities.
    pub authority: Option<String>,
    /// `sslcert`: our certificate.
    pub certificate: Option<String>,
    /// `sslkey`: its key.
    pub key: Option<String>,
}

/// Keys whose value is the name of a file.
const FILES: &[&str] =
    &["sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "passfile", "servicefile", "service"];

/// What is put into the text.
pub struct Placed<'p> {
    /// In the place of `{{username}}`.
    pub username: &'p str,
    /// In the place of `{{password}}`.
    pub password: Option<&'p SecretString>,
    /// As it is, without the escapes that its place wants.
    pub is_raw: bool,
    /// Whether files of this machine may be named.
    pub files: Files,
}

/// Whether files of this machine may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// They are refused: who writes the text does not own the machine.
    Refused,
    /// Those of TLS may.
    OfTls,
}

impl Dsn {
    /// Reads it.
    ///
    /// # Errors
    /// Text that names keys, never values.
    pub fn parse(text: &str, placed: &Placed<'_>) -> Result<Self, String> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let password = placed.password.map_or("", |password| password.expose());
        let filled = place(text, placed, password, is_url);
        let mut about = AboutSsl { ssl: None, files: TlsFiles::default(), may_name_files: placed.files };
        let rest = if is_url { about.without_it_url(&filled)? } else { about.without_it_pairs(&filled)? };
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
        let AboutSsl { ssl, files, .. } = about;
        let ssl = ssl.unwrap_or(Ssl::Preferred);
        config.ssl_mode(match ssl {
            Ssl::Off => SslMode::Disable,
            Ssl::Preferred => SslMode::Prefer,
            Ssl::Required | Ssl::Authority | Ssl::Full => SslMode::Require,
        });
        Ok(Self { config, ssl, files })
    }

    /// Whether every host is this machine: what is sent does not leave it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&name.as_str()),
        })
    }

    /// As whom it is asked.
    #[must_use]
    pub fn user(&self) -> &str {
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

/// What the text says about TLS.
struct AboutSsl {
    ssl: Option<Ssl>,
    files: TlsFiles,
    may_name_files: Files,
}

impl AboutSsl {
    /// Whether a pair is about TLS, and not the driver's.
    fn takes(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let named = || (!value.is_empty()).then(|| value.to_owned());
        match (key, self.may_name_files) {
            ("sslmode", _) => {
                let modes = "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full";
                self.ssl = Some(Ssl::parse(value).ok_or(modes)?);
            }
            ("sslrootcert", Files::OfTls) => self.files.authority = named(),
            ("sslcert", Files::OfTls) => self.files.certificate = named(),
            ("sslkey", Files::OfTls) => self.files.key = named(),
            (_, Files::OfTls) if FILES.contains(&key) => return Err(format!("`{key}` is not available")),
            (_, Files::Refused) if FILES.contains(&key) => {
                let instead = "send `tls_ca`, `tls_certificate` and `private_key`";
                return Err(format!("`{key}` names a file of the server: {instead}"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn without_it_url(&mut self, url: &str) -> Result<Zeroizing<String>, String> {
        let Some((begin, query)) = url.split_once('?') else { return Ok(Zeroizing::new(url.to_owned())) };
        let mut rest = Zeroizing::new(begin.to_owned());
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A name of a file has its slashes and spaces escaped, or not.
            let value = percent_decoded(value);
            if !self.takes(key, &value)? {
                let between = if rest.contains('?') { '&' } else { '?' };
                rest.push(between);
                rest.push_str(pair);
            }
        }
        Ok(rest)
    }

    fn without_it_pairs(&mut self, text: &str) -> Result<Zeroizing<String>, String> {
        let mut kept = Zeroizing::new(String::with_capacity(text.len()));
        let mut letters = text.chars().peekable();
        loop {
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
            let mut key = String::new();
            while let Some(letter) = letters.next_if(|letter| *letter != '=' && !letter.is_whitespace()) {
                key.push(letter);
            }
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
            if key.is_empty() && letters.peek().is_none() {
                return Ok(kept);
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
            if !self.takes(&key, &value)? {
                kept.push_str(&key);
                kept.push('=');
                quote(&value, false, &mut kept);
                kept.push(' ');
            }
        }
    }
}

fn percent_decoded(text: &str) -> Zeroizing<String> {
    let (mut bytes, mut rest) = (Zeroizing::new(Vec::with_capacity(text.len())), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str, password: &str) -> Result<Dsn, String> {
        let password = SecretString::new(password.to_owned());
        Dsn::parse(text, &Placed { username: "us er", password: Some(&password), is_raw: false, files: Files::Refused })
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

    #[test]
    fn whoever_owns_the_machine_names_files_of_tls_and_no_others() {
        for text in [
            "postgresql://u@h/?sslmode=verify-full&sslrootcert=/a%20b/ca.pem&sslcert=c.pem&sslkey=k.pem&application_name=x",
            "host=h user=u sslmode=verify-full sslrootcert='/a b/ca.pem' sslcert=c.pem sslkey=k.pem application_name=x",
        ] {
            let placed = Placed { username: "", password: None, is_raw: false, files: Files::OfTls };
            let dsn = Dsn::parse(text, &placed).unwrap();
            let files = TlsFiles {
                authority: Some("/a b/ca.pem".into()),
                certificate: Some("c.pem".into()),
                key: Some("k.pem".into()),
            };
            assert_eq!((dsn.files, dsn.ssl), (files, Ssl::Full), "{text}");
            assert_eq!(dsn.config.get_application_name(), Some("x"), "{text}");
            let other = Dsn::parse(&text.replace("sslkey", "passfile"), &placed).err();
            assert_eq!(other.as_deref(), Some("`passfile` is not available"), "{text}");
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
