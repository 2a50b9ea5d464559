//! From settings to a connection: addresses, tried one after the other, with TLS where it is asked for.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tresor_env::net::Stream;
use tresor_env::{Clock, Net};

use crate::connection::{Connection, within};
use crate::error::DirectoryError;
use crate::tls::Tls;

/// Where a directory answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether TLS comes before everything else.
    pub is_secure: bool,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Reads addresses such as `ldap://ldap.example.com,ldaps://10.0.0.1:6360`.
///
/// # Errors
/// [`DirectoryError::Settings`] when one of them makes no sense, or there is none.
pub fn addresses(text: &str) -> Result<Vec<Address>, DirectoryError> {
    let wrong =
        || DirectoryError::Settings("url must be ldap://HOST or ldaps://HOST, with a :PORT or without".to_owned());
    let read = |url: &str| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("ldap", url));
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ldap" => false,
            "ldaps" => true,
            _ => return Err(wrong()),
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (host, port) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") if is_secure => 636,
            None | Some("") => 389,
            Some(port) => port.parse().map_err(|_| wrong())?,
        };
        let is_plain = !host.is_empty() && !host.contains(|c: char| c.is_control() || " @?#%".contains(c));
        if is_plain { Ok(Address { is_secure, host: host.to_ascii_lowercase(), port }) } else { Err(wrong()) }
    };
    let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
    let read: Vec<Address> = urls.map(read).collect::<Result<_, _>>()?;
    if read.is_empty() {
        Err(DirectoryError::Settings("at least one url must be provided".to_owned()))
    } else {
        Ok(read)
    }
}

/// How to connect to a directory.
#[derive(Clone)]
pub struct Dialer {
    /// The network.
    pub net: Arc<dyn Net>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The addresses, in the order in which they are tried.
    pub addresses: Vec<Address>,
    /// How TLS is spoken, if it is.
    pub tls: Option<Tls>,
    /// Whether a connection that begins in the clear is to become TLS before anything is said.
    pub start_tls: bool,
    /// How long connecting to one address may take.
    pub connection_timeout: Duration,
    /// How long one answer may take.
    pub request_timeout: Duration,
}

impl Dialer {
    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// [`DirectoryError::Unreachable`] when none did, with what each said.
    pub async fn connect(&self) -> Result<Connection, DirectoryError> {
        let mut failures = Vec::new();
        for address in &self.addresses {
            let attempt = self.connect_to(address);
            match within(self.clock.as_ref(), self.connection_timeout, attempt).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failures.push(format!("{}:{}: {error}", address.host, address.port)),
            }
        }
        Err(DirectoryError::Unreachable(failures.join("; ")))
    }

    async fn connect_to(&self, address: &Address) -> Result<Connection, DirectoryError> {
        let plain = self.open(address).await?;
        if address.is_secure {
            return Ok(self.connection(self.secured(address, plain).await?));
        }
        if !self.start_tls {
            return Ok(self.connection(plain));
        }
        let mut connection = self.connection(plain);
        connection.start_tls().await?;
        Ok(self.connection(self.secured(address, connection.into_stream()?).await?))
    }

    fn connection(&self, stream: Box<dyn Stream>) -> Connection {
        Connection::new(stream, Arc::clone(&self.clock), self.request_timeout)
    }

    async fn open(&self, address: &Address) -> Result<Box<dyn Stream>, DirectoryError> {
        let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
        let broken = |error: std::io::Error| DirectoryError::Unreachable(error.kind().to_string());
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for place in self.net.resolve(&format!("{host}:{}", address.port)).await.map_err(broken)? {
            match self.net.connect(place).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(broken(last))
    }

    async fn secured(&self, address: &Address, plain: Box<dyn Stream>) -> Result<Box<dyn Stream>, DirectoryError> {
        let name = ServerName::try_from(address.host.clone());
        let name = name.map_err(|_| DirectoryError::Settings("the url's host has no name to verify".to_owned()))?;
        let tls = self.tls.as_ref().ok_or_else(|| DirectoryError::Settings("TLS is not prepared".to_owned()))?;
        let secured = TlsConnector::from(Arc::clone(&tls.0)).connect(name, plain).await;
        Ok(Box::new(secured.map_err(|error| DirectoryError::Unreachable(format!("TLS: {error}")))?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_as_operators_write_them() {
        let read = |text: &str| {
            let shown = |a: Address| format!("{}{}|{}", if a.is_secure { "s:" } else { "" }, a.host, a.port);
            addresses(text).unwrap().into_iter().map(shown).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read("ldap://127.0.0.1"), "127.0.0.1|389");
        assert_eq!(read("LDAPS://Dc1.Example.com, ldap://dc2:3890/"), "s:dc1.example.com|636 dc2|3890");
        assert_eq!(read("ldaps://[::1]:6360,ldap://[fe80::1]"), "s:::1|6360 fe80::1|389");
        for wrong in ["", ",", "http://x", "ldap://", "ldap://a@b", "ldap://x:y", "ldap://[::1]x", "ldapi:///run/x"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }
}
