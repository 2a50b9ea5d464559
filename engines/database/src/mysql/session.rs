//! One connection to a server.
//!
//! `mysql_async` opens its sockets itself, so of the network door only the names of hosts come into this. What it is told of
//! passwords it keeps in memory that it does not wipe. Deliberately absent: its pool, and its URLs; and `LOAD DATA LOCAL`,
//! by which a server would read files of ours.

use std::net::SocketAddr;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, ServerError, SslOpts};
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use super::dsn::{Dsn, Host, Ssl};
use crate::target::Trouble;
use crate::{Doors, access};

/// How long one host may take to let us in, where the configuration does not say.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a connection that waited may take to answer.
const PING_MAX: Duration = Duration::from_secs(3);
/// How long one text may take to be answered. Who takes longer stands still, as far as we know, and what it was asked for may
/// come true later.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The largest packet that is sent.
const PACKET_BYTES_MAX: usize = 4 << 20;
/// How long a server keeps a connection that waits, unless it says; only the driver's own pool would look at it.
const WAIT_SECONDS: usize = 28_800;
/// Quotes and backslashes mean what `statements` takes them for, whatever the server's own mode.
const MODE: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'";

/// The way to a server.
pub(super) struct Way {
    pub(super) dsn: Dsn,
    /// What TLS has to prove, where there is some.
    pub(super) tls: Option<SslOpts>,
}

/// A connection.
pub(super) struct Session {
    doors: Doors,
    connection: Conn,
    /// Whether a transaction may be open, or what was asked last is not answered.
    is_torn: bool,
}

impl access::Session for Session {
    type Way = Way;

    fn user(way: &Way) -> &str {
        &way.dsn.user
    }

    /// Connects to the first host that lets us in and takes writes.
    async fn open(doors: &Doors, way: &Way, who: Option<(&str, &SecretString)>) -> Result<Self, Trouble> {
        let limit = way.dsn.connect_max.unwrap_or(CONNECT_MAX);
        let mut last = Trouble::Unreachable("no host".into());
        for host in &way.dsn.hosts {
            match doors.within(limit, Self::open_at(doors, way, host, who)).await {
                Some(Ok(session)) => return Ok(session),
                // Another host has the same accounts.
                Some(Err(trouble @ (Trouble::NoEntry(_) | Trouble::Forbidden(_)))) => return Err(trouble),
                Some(Err(trouble)) => last = trouble,
                None => last = Trouble::Unreachable("it took too long".into()),
            }
        }
        Err(last)
    }

    async fn still_there(mut self, _waited: Duration) -> Option<Self> {
        let doors = self.doors.clone();
        doors.within(PING_MAX, self.ping()).await?.ok()?;
        Some(self)
    }

    fn is_usable(&self) -> bool {
        !self.is_torn
    }
}

impl Session {
    async fn open_at(
        doors: &Doors,
        way: &Way,
        host: &Host,
        who: Option<(&str, &SecretString)>,
    ) -> Result<Self, Trouble> {
        let dsn = &way.dsn;
        let (user, password) = match who {
            Some((user, password)) => (user, Some(password)),
            None => (dsn.user.as_str(), dsn.password.as_ref()),
        };
        let options = OptsBuilder::default()
            .user(Some(user))
            .pass(password.map(|password| password.expose().clone()))
            .db_name(dsn.database.clone())
            .prefer_socket(false)
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .wait_timeout(Some(WAIT_SECONDS))
            .enable_cleartext_plugin(dsn.tells_in_the_clear && way.tls.is_some())
            .init(vec![MODE.to_owned()]);
        let options = match host {
            Host::Socket(path) => options.socket(Some(path)),
            Host::Tcp(name, port) => {
                let place = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
                let found = doors.net.resolve(&place).await;
                let found = found.map_err(|error| Trouble::Unreachable(error.to_string()))?;
                let addresses: Vec<_> = found.iter().map(SocketAddr::ip).collect();
                options.ip_or_hostname(name).tcp_port(*port).resolved_ips(Some(addresses)).ssl_opts(way.tls.clone())
            }
        };
        let connection = match Conn::new(Opts::from(options.clone())).await {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if dsn.ssl == Ssl::Preferred => {
                Conn::new(Opts::from(options.ssl_opts(None))).await
            }
            opened => opened,
        };
        let connection = connection.map_err(|error| not_let_in(&error))?;
        let mut session = Self { doors: doors.clone(), connection, is_torn: false };
        if dsn.hosts.len() > 1 && session.takes_no_writes().await? {
            return Err(Trouble::Unreachable("the server takes no writes".into()));
        }
        Ok(session)
    }

    async fn takes_no_writes(&mut self) -> Result<bool, Trouble> {
        let said: Option<String> = self
            .connection
            .query_first("SELECT CAST(@@GLOBAL.read_only AS CHAR)")
            .await
            .map_err(|error| before_anything(&error))?;
        Ok(said.is_some_and(|said| said != "0" && said != "OFF"))
    }

    /// Whether it answers.
    pub(super) async fn ping(&mut self) -> Result<(), Trouble> {
        self.is_torn = true;
        self.connection.ping().await.map_err(|error| before_anything(&error))?;
        self.is_torn = false;
        Ok(())
    }

    /// Says good-bye.
    pub(super) async fn end(self) {
        drop(self.doors.within(PING_MAX, self.connection.disconnect()).await);
    }

    /// One text, of one statement or several, which is done or not.
    pub(super) async fn statement(&mut self, text: &str) -> Result<(), Trouble> {
        self.is_torn = true;
        let asked = async {
            match self.connection.query_iter(text).await {
                Ok(result) => match result.drop_result().await.map_err(|error| said(&error)) {
                    // The first of them was done.
                    Err(Trouble::Refused(why)) => Err(Trouble::Partly(why)),
                    done => done,
                },
                Err(error) => Err(said(&error)),
            }
        };
        let done = self.doors.within(ANSWER_MAX, asked).await.unwrap_or_else(too_long);
        self.is_torn = matches!(done, Err(Trouble::Broken(_)));
        done
    }

    /// The hosts that a user of this name may come from: one user for each.
    pub(super) async fn hosts(&mut self, username: &str) -> Result<Vec<String>, Trouble> {
        self.is_torn = true;
        let asked = "SELECT Host FROM mysql.user WHERE User = ?";
        let found = async { self.connection.exec(asked, (username,)).await.map_err(|error| said(&error)) };
        let hosts = self.doors.within(ANSWER_MAX, found).await.unwrap_or_else(too_long);
        self.is_torn = matches!(hosts, Err(Trouble::Broken(_)));
        hosts.map_err(|trouble| match trouble {
            Trouble::Broken(why) => Trouble::Unreachable(why),
            other => other,
        })
    }

    /// All of these texts, in a transaction as far as the server has it. [`Trouble::Partly`]: some of it may have stayed.
    pub(super) async fn transact(&mut self, texts: &[Zeroizing<String>]) -> Result<(), Trouble> {
        self.statement("START TRANSACTION").await.map_err(unchanged)?;
        for (before, text) in texts.iter().enumerate() {
            if let Err(trouble) = self.statement(text).await {
                if !self.is_torn {
                    self.statement("ROLLBACK").await?;
                }
                return Err(match trouble {
                    Trouble::Refused(why) if before > 0 => Trouble::Partly(why),
                    other => other,
                });
            }
        }
        self.statement("COMMIT").await
    }
}

fn too_long<T>() -> Result<T, Trouble> {
    Err(Trouble::Broken("it took too long".into()))
}

/// What a connection that breaks means while nothing was asked for that would change anything.
fn unchanged(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Broken(why) => Trouble::Unreachable(why),
        other => other,
    }
}

fn before_anything(error: &Error) -> Trouble {
    unchanged(said(error))
}

/// What the server says, or why it says nothing.
fn said(error: &Error) -> Trouble {
    match error {
        // It ends the connection, and what was asked may have been done: shutdown, killed, interrupted.
        Error::Server(refusal) if matches!(refusal.code, 1053 | 1077 | 1079 | 1317 | 1927 | 3169) => {
            Trouble::Broken(shown(refusal))
        }
        Error::Server(refusal) => Trouble::Refused(shown(refusal)),
        other => Trouble::Broken(without_contents(other)),
    }
}

fn not_let_in(error: &Error) -> Trouble {
    match error {
        Error::Server(refusal) => match refusal.code {
            // Access denied; the same without a password.
            1045 | 1698 => Trouble::NoEntry(shown(refusal)),
            // No right to the database, no such database, a host that nobody may come from, an account that is locked, a
            // password that has to be changed.
            1044 | 1049 | 1130 | 1820 | 1862 | 3118 | 4151 => Trouble::Forbidden(shown(refusal)),
            _ => Trouble::Unreachable(shown(refusal)),
        },
        other => Trouble::Unreachable(without_contents(other)),
    }
}

fn shown(refusal: &ServerError) -> String {
    format!("Error {} ({}): {}", refusal.code, refusal.state, refusal.message)
}

/// What the driver says; packets and values that it would show stay out.
fn without_contents(error: &Error) -> String {
    match error {
        Error::Driver(DriverError::FromRow { .. } | DriverError::FromValue { .. }) => {
            "an answer of another form".into()
        }
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(deeper) = cause {
                let said = deeper.to_string();
                if !text.contains(&said) {
                    text = format!("{text}: {said}");
                }
                cause = deeper.source();
            }
            text
        }
    }
}
