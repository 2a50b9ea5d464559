//! One connection to one host, over the network door.
//!
//! Deliberately absent: which of several hosts is tried for how long, and whoever moves the connection along.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error};
use tresor_env::Net;
use tresor_env::net::Stream;

use crate::dsn::Dsn;
use crate::tls::{Plain, Tls};

/// The way to a server.
pub struct Way {
    /// Where it is, and as whom it is asked.
    pub dsn: Dsn,
    /// How it proves who it is.
    pub tls: Tls,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLetIn {
    /// The password is wrong.
    #[error("{0}")]
    NoEntry(String),
    /// The user or the database is not to be used so.
    #[error("{0}")]
    Forbidden(String),
    /// The server is not reached, or takes nobody now.
    #[error("{0}")]
    Unreachable(String),
}

/// What reads and writes; whoever uses the connection moves it along. It ends when the connection does.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The hosts that a configuration names, with their ports, in order.
pub fn hosts(config: &Config) -> impl Iterator<Item = (&Host, u16)> {
    let ports = config.get_ports();
    let port_of = move |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    config.get_hosts().iter().enumerate().map(move |(place, host)| (host, port_of(place)))
}

/// Connects to one host of a way, as whom `config` says.
///
/// # Errors
/// [`NotLetIn`].
pub async fn reach(
    net: &dyn Net,
    config: &Config,
    tls: &Tls,
    (host, port): (&Host, u16),
) -> Result<(Client, Driver), NotLetIn> {
    let (stream, name) = stream(net, host, port).await?;
    let connected = config.connect_raw(Plain(stream), tls.to(&name)).await;
    let (client, connection) = connected.map_err(|error| not_let_in(&error))?;
    Ok((client, Box::pin(connection)))
}

/// A stream to a host, and the name by which it has to prove itself.
async fn stream(net: &dyn Net, host: &Host, port: u16) -> Result<(Box<dyn Stream>, String), NotLetIn> {
    let unreachable = |error: std::io::Error| NotLetIn::Unreachable(error.to_string());
    match host {
        Host::Unix(directory) => {
            let path = Path::new(directory).join(format!(".s.PGSQL.{port}"));
            Ok((net.connect_local(&path).await.map_err(unreachable)?, String::new()))
        }
        Host::Tcp(name) => {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            let place = if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") };
            let addresses: Vec<SocketAddr> = net.resolve(&place).await.map_err(unreachable)?;
            let mut last = NotLetIn::Unreachable(format!("{bare} has no address"));
            for address in addresses {
                match net.connect(address).await {
                    Ok(stream) => return Ok((stream, bare.to_owned())),
                    Err(error) => last = unreachable(error),
                }
            }
            Err(last)
        }
    }
}

fn not_let_in(error: &Error) -> NotLetIn {
    let forbidden = [
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::INVALID_CATALOG_NAME,
    ];
    match error.as_db_error() {
        Some(refusal) if *refusal.code() == SqlState::INVALID_PASSWORD => NotLetIn::NoEntry(refusal.to_string()),
        Some(refusal) if forbidden.contains(refusal.code()) => NotLetIn::Forbidden(refusal.to_string()),
        Some(refusal) => NotLetIn::Unreachable(refusal.to_string()),
        None => NotLetIn::Unreachable(with_causes(error)),
    }
}

/// Whether the server ends the connection after it said this, so that what was asked may have been done.
#[must_use]
pub fn ends_connection(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_SESSION_TIMEOUT,
        SqlState::CONNECTION_FAILURE,
    ]
    .contains(code)
}

/// An error of the driver with its causes, in one line.
#[must_use]
pub fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}
