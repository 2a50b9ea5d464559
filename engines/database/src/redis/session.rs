//! One connection to a server: who is let in, and one command after another.
//!
//! Deliberately absent: pipelines and subscriptions; one command is sent, and its answer awaited.

use std::io;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tresor_env::net::Stream;
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use super::resp::{self, ANSWER_BYTES_MAX, Reply};
use crate::target::Trouble;
use crate::{Doors, access};

/// How long it may take until we are let in.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long one command may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a connection that waited may take to answer.
const PING_MAX: Duration = Duration::from_secs(3);
/// How much is read at once.
const READ_BYTES: usize = 4096;

/// The way to a server.
pub(super) struct Way {
    /// A name or an address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// One that stands in the URL.
    pub(super) password: Option<SecretString>,
    /// What TLS has to prove, where there is some.
    pub(super) tls: Option<TlsConnector>,
}

/// A connection.
pub(super) struct Session {
    doors: Doors,
    stream: Box<dyn Stream>,
    /// Whether what was asked last is not answered.
    is_torn: bool,
}

impl access::Session for Session {
    type Way = Way;

    fn user(way: &Way) -> &str {
        &way.user
    }

    async fn open(doors: &Doors, way: &Way, who: Option<(&str, &SecretString)>) -> Result<Self, Trouble> {
        let (user, password) = match (who, &way.password) {
            (Some(who), _) => who,
            (None, Some(password)) => (way.user.as_str(), password),
            (None, None) => return Err(Trouble::Senseless("password cannot be empty".into())),
        };
        let opened = doors.within(CONNECT_MAX, async {
            let stream = reach(doors, way).await.map_err(|error| Trouble::Unreachable(error.to_string()))?;
            let mut session = Self { doors: doors.clone(), stream, is_torn: false };
            session.ask(&["AUTH", user, password.expose()]).await.map_err(not_let_in)?;
            Ok(session)
        });
        opened.await.unwrap_or_else(|| Err(Trouble::Unreachable("it took too long".into())))
    }

    async fn still_there(mut self, _waited: Duration) -> Option<Self> {
        let doors = self.doors.clone();
        match doors.within(PING_MAX, self.ask(&["PING"])).await? {
            // Who may not ask that is there, too.
            Ok(_) | Err(Trouble::Forbidden(_) | Trouble::Refused(_)) => Some(self),
            Err(_) => None,
        }
    }

    fn is_usable(&self) -> bool {
        !self.is_torn
    }
}

async fn reach(doors: &Doors, way: &Way) -> io::Result<Box<dyn Stream>> {
    let (host, port) = (&way.host, way.port);
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut last = io::Error::other("the host has no address");
    for address in doors.net.resolve(&place).await? {
        let stream = match doors.net.connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let Some(connector) = &way.tls else { return Ok(stream) };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        return Ok(Box::new(connector.connect(name, stream).await?));
    }
    Err(last)
}

impl Session {
    /// What is answered to a command, unless it is a refusal.
    pub(super) async fn ask(&mut self, parts: &[&str]) -> Result<Reply, Trouble> {
        self.is_torn = true;
        let doors = self.doors.clone();
        let answered = doors.within(ANSWER_MAX, self.exchange(parts)).await;
        let reply = answered.unwrap_or_else(|| Err(io::Error::other("it took too long")));
        match reply.map_err(|error| Trouble::Broken(error.to_string()))? {
            Reply::Refused(why) => {
                let trouble = said(why);
                self.is_torn = matches!(trouble, Trouble::Unreachable(_));
                Err(trouble)
            }
            reply => {
                self.is_torn = false;
                Ok(reply)
            }
        }
    }

    async fn exchange(&mut self, parts: &[&str]) -> io::Result<Reply> {
        self.stream.write_all(&resp::command(parts)).await?;
        self.stream.flush().await?;
        // It may hold hashes of passwords.
        let mut got = Zeroizing::new(Vec::new());
        loop {
            let mut some = Zeroizing::new([0_u8; READ_BYTES]);
            let length = self.stream.read(&mut *some).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            got.extend_from_slice(some.get(..length).unwrap_or_default());
            match resp::reply(&got) {
                Ok(Some((reply, length))) if length == got.len() => return Ok(reply),
                Ok(None) if got.len() <= ANSWER_BYTES_MAX => {}
                _ => return Err(io::Error::other("it answers something else than Redis does")),
            }
        }
    }
}

/// What a connection that breaks means while nothing was asked for that would change anything.
pub(super) fn unchanged(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Broken(why) => Trouble::Unreachable(why),
        other => other,
    }
}

/// What the server says no by.
fn said(why: String) -> Trouble {
    match why.split(' ').next().unwrap_or_default() {
        "NOPERM" => Trouble::Forbidden(why),
        // It does nothing for anybody now, or forgot who we are.
        "NOAUTH" | "LOADING" | "BUSY" | "MASTERDOWN" | "DENIED" => Trouble::Unreachable(why),
        _ => Trouble::Refused(why),
    }
}

fn not_let_in(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Refused(why) if why.starts_with("WRONGPASS") => Trouble::NoEntry(why),
        Trouble::Refused(why) => Trouble::Unreachable(why),
        other => unchanged(other),
    }
}
