//! Where a server is and as whom it is asked: `user:password@tcp(host:port)/database?parameters`, as Go's driver writes it.
//!
//! It is taken apart before names and passwords are put in, so that none of their letters means anything. Deliberately absent:
//! parameters that name files, and those that set variables of the server.

use std::time::Duration;

use tresor_secret::SecretString;
use tresor_wire::duration::parse_go;

/// The port where nobody says one.
const PORT: u16 = 3306;

/// What the URL says of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ssl {
    /// No TLS.
    Off,
    /// TLS where the server has it, whoever it is.
    Preferred,
    /// TLS, whoever it is.
    Unverified,
    /// TLS with who proves to be it.
    Verified,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or address, and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Socket(String),
}

/// Where a server is and as whom it is asked.
pub(super) struct Dsn {
    /// The first that answers is asked.
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    /// One that stands in the text itself.
    pub(super) password: Option<SecretString>,
    pub(super) database: Option<String>,
    pub(super) ssl: Ssl,
    /// How long one host may take to let us in.
    pub(super) connect_max: Option<Duration>,
    /// Whether a server that asks for the password in the clear is told it.
    pub(super) tells_in_the_clear: bool,
}

/// Parameters of Go's driver that mean nothing here: how it reads answers, and how it sends what is not used here.
const IDLE: &[&str] = &[
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "timeTruncate",
    "writeTimeout",
];

impl Dsn {
    /// Reads it; `username` and `password` are put in.
    ///
    /// # Errors
    /// Text that names what is wrong, never a value.
    pub(super) fn parse(text: &str, username: &str, password: Option<&SecretString>) -> Result<Self, String> {
        let placed = |part: &str| placed(part, username, password.map_or("", |password| password.expose()));
        let (left, right) = text.rsplit_once('/').ok_or("connection_url has no `/` before the name of a database")?;
        let (who, place) = left.rsplit_once('@').unwrap_or(("", left));
        let (user, own_password) = who.split_once(':').unwrap_or((who, ""));
        let (database, parameters) = right.split_once('?').unwrap_or((right, ""));
        let user = Some(placed(user)).filter(|user| !user.is_empty()).unwrap_or_else(|| username.to_owned());
        if user.is_empty() {
            return Err("neither connection_url nor username says as whom to connect".into());
        }
        let own_password = SecretString::new(placed(own_password));
        let mut dsn = Self {
            hosts: hosts(place)?,
            user,
            password: Some(own_password).filter(|password| !password.is_empty()),
            database: Some(placed(database)).filter(|database| !database.is_empty()),
            ssl: Ssl::Off,
            connect_max: None,
            tells_in_the_clear: false,
        };
        for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            dsn.take(key, value)?;
        }
        Ok(dsn)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match (key, value.to_ascii_lowercase().as_str()) {
            ("tls", "false" | "0") => self.ssl = Ssl::Off,
            ("tls", "true" | "1") => self.ssl = Ssl::Verified,
            ("tls", "skip-verify") => self.ssl = Ssl::Unverified,
            ("tls", "preferred") => self.ssl = Ssl::Preferred,
            ("tls", _) => return Err("`tls` of connection_url is one of true, false, skip-verify, preferred".into()),
            ("allowCleartextPasswords", value) => self.tells_in_the_clear = matches!(value, "true" | "1"),
            ("timeout", value) => {
                let limit = parse_go(value).ok_or("`timeout` of connection_url is a duration such as 5s")?;
                self.connect_max = Some(limit).filter(|limit| !limit.is_zero());
            }
            ("allowAllFiles" | "serverPubKey", _) => {
                return Err(format!("`{key}` of connection_url would read files of the server"));
            }
            ("allowOldPasswords", "false" | "0") => {}
            (key, _) if IDLE.contains(&key) => {}
            _ => return Err(format!("unknown parameter `{key}` in connection_url")),
        }
        Ok(())
    }
}

/// The places that `protocol(address)` names; several are parted by commas.
fn hosts(place: &str) -> Result<Vec<Host>, String> {
    let (protocol, address) = match place.split_once('(') {
        Some((protocol, rest)) => {
            (protocol, rest.strip_suffix(')').ok_or("connection_url has no `)` after the address")?)
        }
        None => (place, ""),
    };
    match protocol {
        "unix" if address.starts_with('/') => Ok(vec![Host::Socket(address.to_owned())]),
        "unix" => Err("connection_url names no socket in `unix(..)`".into()),
        "" | "tcp" if address.is_empty() => Ok(vec![Host::Tcp("127.0.0.1".to_owned(), PORT)]),
        "tcp" => address.split(',').map(|one| host(one.trim())).collect(),
        _ => Err("connection_url wants `tcp(host:port)` or `unix(/path)` after the user".into()),
    }
}

fn host(address: &str) -> Result<Host, String> {
    let wrong = || "connection_url has an address that is not `host:port`".to_owned();
    let (name, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest.split_once(']').ok_or_else(wrong)?;
            (name, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => match address.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (address, None),
        },
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
    if name.is_empty() { Err(wrong()) } else { Ok(Host::Tcp(name.to_owned(), port)) }
}

/// A part with what belongs in the place of `{{username}}` and `{{password}}`.
fn placed(part: &str, username: &str, password: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(part.len()), part);
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        match after.split_once("}}").map(|(name, after)| (name.trim(), after)) {
            Some(("username" | "name", after)) => {
                out.push_str(username);
                rest = after;
            }
            Some(("password", after)) => {
                out.push_str(password);
                rest = after;
            }
            _ => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str, password: &str) -> Result<Dsn, String> {
        Dsn::parse(text, "us er", Some(&SecretString::new(password.to_owned())))
    }

    #[test]
    fn a_url_says_where_and_as_whom() {
        let tcp = |name: &str, port| Host::Tcp(name.to_owned(), port);
        for (text, hosts, database) in [
            ("{{username}}:{{password}}@tcp(db.example:3307)/", vec![tcp("db.example", 3307)], None),
            ("{{ username }}:{{ password }}@tcp([::1]:3307)/base", vec![tcp("::1", 3307)], Some("base")),
            ("{{username}}:{{password}}@tcp([::1])/", vec![tcp("::1", 3306)], None),
            ("{{username}}:{{password}}@tcp(db)/base?parseTime=true", vec![tcp("db", 3306)], Some("base")),
            ("{{username}}:{{password}}@tcp(one:1,two:2)/", vec![tcp("one", 1), tcp("two", 2)], None),
            ("{{username}}:{{password}}@/", vec![tcp("127.0.0.1", 3306)], None),
            ("{{username}}:{{password}}@unix(/run/my.sock)/b", vec![Host::Socket("/run/my.sock".into())], Some("b")),
        ] {
            let dsn = parsed(text, "p:a@s/s?w)(").unwrap();
            assert_eq!((dsn.user.as_str(), dsn.database.as_deref()), ("us er", database), "{text}");
            assert_eq!(dsn.password.as_ref().map(|password| password.expose().as_str()), Some("p:a@s/s?w)("), "{text}");
            assert_eq!(dsn.hosts, hosts, "{text}");
        }
        let dsn = parsed("tcp(h)/?tls=skip-verify&timeout=3s", "x").unwrap();
        assert_eq!(
            (dsn.user.as_str(), dsn.ssl, dsn.connect_max),
            ("us er", Ssl::Unverified, Some(Duration::from_secs(3)))
        );
        assert!(dsn.password.is_none(), "it is configured beside");
        assert_eq!(parsed("u:own@p@tcp(h)/", "x").unwrap().password.unwrap().expose(), "own@p");
    }

    #[test]
    fn plg_06_dyn_04_files_are_not_read_and_errors_show_no_value() {
        for (text, expected) in [
            ("canary", "connection_url has no `/` before the name of a database"),
            ("u:canary@tcp(h:canary)/", "connection_url has an address that is not `host:port`"),
            ("u:canary@tcp(h/", "connection_url has no `)` after the address"),
            ("u:canary@udp(h)/", "connection_url wants `tcp(host:port)` or `unix(/path)` after the user"),
            ("u:canary@unix(relative)/", "connection_url names no socket in `unix(..)`"),
            ("u@tcp(h)/?allowAllFiles=true", "`allowAllFiles` of connection_url would read files of the server"),
            ("u@tcp(h)/?tls=canary", "`tls` of connection_url is one of true, false, skip-verify, preferred"),
            ("u@tcp(h)/?sql_mode=canary", "unknown parameter `sql_mode` in connection_url"),
        ] {
            assert_eq!(parsed(text, "canary").err().as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            Dsn::parse("tcp(h)/", "", None).err().as_deref(),
            Some("neither connection_url nor username says as whom to connect")
        );
    }

    proptest! {
        #[test]
        fn any_password_comes_through(password in "[^\\x00]{1,30}") {
            let dsn = parsed("u:{{password}}@tcp(h:1)/b", &password).unwrap();
            let found = dsn.password.unwrap();
            prop_assert_eq!(found.expose(), &password);
            prop_assert_eq!(dsn.hosts, [Host::Tcp("h".into(), 1)]);
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[-a-z{}:@()/?&=,\\[\\]0-9.]{0,60}") {
            drop(parsed(&text, "p"));
        }
    }
}
