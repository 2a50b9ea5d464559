//! One connection, with what it was prepared for. Many may ask over it at once.
//!
//! Deliberately absent: connecting again, which its owner decides.

use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use tresor_postgresql::{hosts, reach};

use crate::lane::Lane;
use crate::settings::{CONNECT_MAX, Settings};
use crate::trouble::Trouble;

/// What each session begins with. Everything is found by its key, also while nobody has counted the rows yet; and the server
/// finds out in seconds, not hours, that this machine is gone, which lets go of the lock.
const BEGIN: &str = "SET enable_seqscan = off; SET client_min_messages = warning; SET bytea_output = hex; \
                     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// A connection.
pub(crate) struct Link {
    client: Client,
    /// Lets the connection end when this is dropped, whatever it waits for.
    _cut: oneshot::Sender<()>,
}

impl Link {
    /// Connects to the first host that lets us in and takes writes. In the lane.
    pub(crate) async fn open(lane: &Lane, settings: &Settings) -> Result<Self, Trouble> {
        let mut config = settings.way.dsn.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("tresor");
        }
        let limit = config.get_connect_timeout().copied().filter(|limit| !limit.is_zero()).unwrap_or(CONNECT_MAX);
        let mut last = Trouble::Unreachable("the URL names no host".to_owned());
        for host in hosts(&config) {
            let attempt = async {
                let (client, driver) = reach(&*lane.doors.net, &config, &settings.way.tls, host).await?;
                let (cut, is_cut) = oneshot::channel();
                lane.tasks.spawn(async move {
                    tokio::select! {
                        // What it ends with is told to whoever waits for an answer.
                        _ = driver => {}
                        _ = is_cut => {}
                    }
                });
                let link = Self { client, _cut: cut };
                link.client.batch_execute(BEGIN).await.map_err(|error| Trouble::of(&error))?;
                if link.text("SHOW transaction_read_only").await? == "on" {
                    return Err(Trouble::Unreachable("the server takes no writes".to_owned()));
                }
                Ok(link)
            };
            match lane.within(limit, attempt).await {
                Some(Ok(link)) => return Ok(link),
                Some(Err(trouble)) => last = trouble,
                None => last = Trouble::Unreachable("it took too long".to_owned()),
            }
        }
        Err(match last {
            Trouble::Broken(why) => Trouble::Unreachable(why),
            other => other,
        })
    }

    /// Whether it is known to be of no use any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(crate) async fn prepare(&self, text: &str) -> Result<Statement, Trouble> {
        self.client.prepare(text).await.map_err(|error| Trouble::of(&error))
    }

    pub(crate) async fn rows(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        self.client.query(statement, values).await.map_err(|error| Trouble::of(&error))
    }

    /// Does something; how many rows it changed.
    pub(crate) async fn change(&self, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Trouble> {
        self.client.execute(statement, values).await.map_err(|error| Trouble::of(&error))
    }

    /// Statements without values.
    pub(crate) async fn run(&self, text: &str) -> Result<(), Trouble> {
        self.client.batch_execute(text).await.map_err(|error| Trouble::of(&error))
    }

    /// The one value that a question without values gives.
    pub(crate) async fn text(&self, question: &str) -> Result<String, Trouble> {
        let rows = self.client.simple_query(question).await.map_err(|error| Trouble::of(&error))?;
        let value = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(value.unwrap_or_default())
    }
}
