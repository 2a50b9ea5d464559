//! One connection to a server. It has no task of its own: whoever uses it moves it along.
//!
//! Deliberately absent: prepared statements, which poolers in between do not keep.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use tresor_env::tasks::breathe;
use tresor_postgresql::{Driver, NotLetIn, Way, ends_connection, hosts, reach, with_causes};
use tresor_secret::SecretString;
use zeroize::Zeroizing;

use crate::Doors;
use crate::access;
use crate::statements::in_one_transaction;
use crate::target::Trouble;

/// How long one address may take to let us in, where the configuration does not say.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that waited for longer is asked whether it still works.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// How long it may take to answer that.
const PING_MAX: Duration = Duration::from_secs(3);
/// How long one message may take to be answered. Who takes longer stands still, as far as we know, and what it was asked for may
/// come true later.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection.
pub(super) struct Session {
    doors: Doors,
    client: Client,
    /// What reads and writes; gone once it ended.
    driver: Option<Driver>,
    /// Whether a transaction may be open.
    is_torn: bool,
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
        let needs_writes =
            config.get_hosts().len() > 1 || config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
        let connect_max = config.get_connect_timeout().copied().filter(|limit| !limit.is_zero()).unwrap_or(CONNECT_MAX);
        let mut last = Trouble::Unreachable("no host".into());
        for host in hosts(&config) {
            let attempt = async {
                let (client, driver) = reach(&*doors.net, &config, tls, host).await.map_err(not_let_in)?;
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
            // What came meanwhile is heard of first: it may be that the server closed it.
            breathe().await;
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
        drive(&self.doors, &mut self.driver, self.client.batch_execute(text)).await
    }

    /// Statements that are done or not, each for itself and in no order, sent together.
    pub(super) async fn each(&mut self, texts: &[String]) -> Vec<Result<(), Trouble>> {
        let client = &self.client;
        let asked = join_all(texts.iter().map(|text| client.batch_execute(text)));
        let answered = drive(&self.doors, &mut self.driver, async { Ok(asked.await) }).await;
        match answered {
            Ok(answered) => answered.into_iter().map(|done| done.map_err(|error| said(&error))).collect(),
            Err(trouble) => vec![Err(trouble)],
        }
    }

    /// The first column of what a question gives.
    pub(super) async fn column(&mut self, question: &str) -> Result<Vec<String>, Trouble> {
        Ok(self.columns(question).await?.into_iter().flatten().collect())
    }

    /// The first column of what each of several questions gives, which are asked together.
    pub(super) async fn columns(&mut self, questions: &str) -> Result<Vec<Vec<String>>, Trouble> {
        let messages = drive(&self.doors, &mut self.driver, self.client.simple_query(questions)).await?;
        let mut columns = Vec::new();
        for message in messages {
            match (message, columns.last_mut()) {
                (SimpleQueryMessage::RowDescription(_), _) => columns.push(Vec::new()),
                (SimpleQueryMessage::Row(row), Some(column)) => column.extend(row.get(0).map(str::to_owned)),
                _ => {}
            }
        }
        Ok(columns)
    }

    /// All of these statements or none: one message, where none of them can reach into the next.
    pub(super) async fn transact(&mut self, texts: &[Zeroizing<String>]) -> Result<(), Trouble> {
        self.is_torn = true;
        let done = match in_one_transaction(texts) {
            Some(whole) => self.statement(&whole).await,
            None => self.one_by_one(texts).await,
        };
        if matches!(done, Err(Trouble::Refused(_))) {
            self.statement("ROLLBACK").await?;
        }
        self.is_torn = !matches!(done, Ok(()) | Err(Trouble::Refused(_)));
        done
    }

    async fn one_by_one(&mut self, texts: &[Zeroizing<String>]) -> Result<(), Trouble> {
        self.statement("BEGIN").await.map_err(before_anything)?;
        for text in texts {
            self.statement(text).await?;
        }
        self.statement("COMMIT").await
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

/// Lets something be asked, and moves the connection along until it is answered; one that takes too long is closed.
async fn drive<T>(
    doors: &Doors,
    slot: &mut Option<Driver>,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Trouble> {
    match doors.within(ANSWER_MAX, driven(slot, work)).await {
        Some(done) => done,
        None => {
            *slot = None;
            Err(Trouble::Broken("it took too long".into()))
        }
    }
}

async fn driven<T>(
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

fn not_let_in(why: NotLetIn) -> Trouble {
    match why {
        NotLetIn::NoEntry(why) => Trouble::NoEntry(why),
        NotLetIn::Forbidden(why) => Trouble::Forbidden(why),
        NotLetIn::Unreachable(why) => Trouble::Unreachable(why),
    }
}
