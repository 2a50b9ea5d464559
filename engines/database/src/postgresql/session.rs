//! One connection to a server. It has no task of its own: whoever uses it moves it along.
//!
//! Deliberately absent: prepared statements, which poolers in between do not keep.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use tresor_env::net::Stream;
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use super::dsn::Dsn;
use super::tls::{Plain, Tls};
use crate::Doors;
use crate::access;
use crate::target::Trouble;

/// How long one address may take to let us in, where the configuration does not say.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that waited for longer is asked whether it still works.
const ASKED_AFTER: Duration = Duration::from_secs(5);
/// How long it may take to answer that.
const PING_MAX: Duration = Duration::from_secs(3);

/// A connection.
pub(super) struct Session {
    doors: Doors,
    client: Client,
    /// What reads and writes; gone once it ended.
    driver: Option<Driver>,
    /// Whether a transaction may be open.
    is_torn: bool,
}

type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The way to a server.
pub(super) struct Way {
    pub(super) dsn: Dsn,
    pub(super) tls: Tls,
}

impl access::Session for Session {
    type Way = Way;

    fn user(way: &Way) -> &str {
        way.dsn.user()
    }

    /// Connects to the first host that lets us in and takes writes.
    async fn open(doors: &Doors, way: &Way, who: Option<(&str, &SecretString)>) -> Result<Self, Trouble> {
        let Way { dsn, tls } = way;
        let mut config = dsn.config.clone();
        if let Some((username, password)) = who {
            config.user(username).password(password.expose());
        }
        let (hosts, ports) = (config.get_hosts(), config.get_ports());
        let needs_writes = hosts.len() > 1 || config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
        let connect_max = config.get_connect_timeout().copied().filter(|limit| !limit.is_zero()).unwrap_or(CONNECT_MAX);
        let mut last = Trouble::Unreachable("no host".into());
        for (place, host) in hosts.iter().enumerate() {
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            let attempt = async {
                let (stream, name) = reach(doors, host, port).await?;
                let connected = config.connect_raw(Plain(stream), tls.to(&name)).await;
                let (client, connection) = connected.map_err(|error| not_let_in(&error))?;
                let driver: Driver = Box::pin(connection);
                let mut session = Self { doors: doors.clone(), client, driver: Some(driver), is_torn: false };
                if needs_writes && session.column("SHOW transaction_read_only").await? == ["on"] {
                    return Err(Trouble::Unreachable("the server takes no writes".into()));
                }
                Ok(session)
            };
            match doors.within(connect_max, attempt).await {
                Some(Ok(session)) => return Ok(session),
                // Another host has the same accounts.
                Some(Err(trouble @ (Trouble::NoEntry(_) | Trouble::Forbidden(_)))) => return Err(trouble),
                Some(Err(trouble)) => last = trouble,
                None => last = Trouble::Unreachable("it took too long".into()),
            }
        }
        Err(last)
    }

    fn is_usable(&self) -> bool {
        self.driver.is_some() && !self.is_torn
    }

    async fn still_there(mut self, waited: Duration) -> Option<Self> {
        if waited >= ASKED_AFTER {
            let doors = self.doors.clone();
            doors.within(PING_MAX, self.ping()).await?.ok()?;
        } else {
            self.look();
        }
        self.is_usable().then_some(self)
    }
}

impl Session {
    /// Whether it answers.
    pub(super) async fn ping(&mut self) -> Result<(), Trouble> {
        self.statement("").await.map_err(before_anything)
    }

    /// One statement, which is done or not.
    pub(super) async fn statement(&mut self, text: &str) -> Result<(), Trouble> {
        drive(&mut self.driver, self.client.batch_execute(text)).await
    }

    /// The first column of what a question gives.
    pub(super) async fn column(&mut self, question: &str) -> Result<Vec<String>, Trouble> {
        let rows = drive(&mut self.driver, self.client.simple_query(question)).await?;
        let first = rows.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(first.collect())
    }

    /// All of these statements or none.
    pub(super) async fn transact(&mut self, texts: &[Zeroizing<String>]) -> Result<(), Trouble> {
        self.is_torn = true;
        self.statement("BEGIN").await.map_err(before_anything)?;
        for text in texts {
            match self.statement(text).await {
                Err(refused @ Trouble::Refused(_)) => {
                    self.statement("ROLLBACK").await?;
                    self.is_torn = false;
                    return Err(refused);
                }
                done => done?,
            }
        }
        self.statement("COMMIT").await?;
        self.is_torn = false;
        Ok(())
    }

    /// Sees whether the other side has closed it.
    fn look(&mut self) {
        if let Some(driver) = &mut self.driver {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if driver.as_mut().poll(&mut context).is_ready() {
                self.driver = None;
            }
        }
    }
}

/// Lets something be asked, and moves the connection along until it is answered.
async fn drive<T>(
    slot: &mut Option<Driver>,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Trouble> {
    let Some(driver) = slot else { return Err(Trouble::Broken("it is closed".into())) };
    let mut work = pin!(work);
    let mut end = None;
    let done = poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done.map_err(Some));
        }
        if end.is_none()
            && let Poll::Ready(ended) = driver.as_mut().poll(context)
        {
            end = Some(ended);
            // What was answered before the end counts.
            return match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(done.map_err(Some)),
                Poll::Pending => Poll::Ready(Err(None)),
            };
        }
        Poll::Pending
    })
    .await;
    if end.is_some() {
        *slot = None;
    }
    done.map_err(|error| match end.and_then(Result::err).or(error) {
        Some(error) => said(&error),
        None => Trouble::Broken("the server closed it".into()),
    })
}

/// A stream to a host, and the name by which it has to prove itself.
async fn reach(doors: &Doors, host: &Host, port: u16) -> Result<(Box<dyn Stream>, String), Trouble> {
    let unreachable = |error: std::io::Error| Trouble::Unreachable(error.to_string());
    match host {
        Host::Unix(directory) => {
            let path = Path::new(directory).join(format!(".s.PGSQL.{port}"));
            Ok((doors.net.connect_local(&path).await.map_err(unreachable)?, String::new()))
        }
        Host::Tcp(name) => {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            let place = if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") };
            let addresses: Vec<SocketAddr> = doors.net.resolve(&place).await.map_err(unreachable)?;
            let mut last = Trouble::Unreachable(format!("{bare} has no address"));
            for address in addresses {
                match doors.net.connect(address).await {
                    Ok(stream) => return Ok((stream, bare.to_owned())),
                    Err(error) => last = unreachable(error),
                }
            }
            Err(last)
        }
    }
}

/// What a connection that breaks means while nothing was asked for that would change anything.
pub(super) fn before_anything(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Broken(why) => Trouble::Unreachable(why),
        other => other,
    }
}

/// What the server says, or why it says nothing.
fn said(error: &Error) -> Trouble {
    match error.as_db_error() {
        // It ends the connection, and what was asked may have been done.
        Some(refusal) if ends_connection(refusal.code()) => Trouble::Broken(refusal.to_string()),
        Some(refusal) => Trouble::Refused(refusal.to_string()),
        None => Trouble::Broken(with_causes(error)),
    }
}

fn not_let_in(error: &Error) -> Trouble {
    let forbidden = [
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::INVALID_CATALOG_NAME,
    ];
    match error.as_db_error() {
        Some(refusal) if *refusal.code() == SqlState::INVALID_PASSWORD => Trouble::NoEntry(refusal.to_string()),
        Some(refusal) if forbidden.contains(refusal.code()) => Trouble::Forbidden(refusal.to_string()),
        Some(refusal) => Trouble::Unreachable(refusal.to_string()),
        None => Trouble::Unreachable(with_causes(error)),
    }
}

fn ends_connection(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_SESSION_TIMEOUT,
        SqlState::CONNECTION_FAILURE,
    ]
    .contains(code)
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}
