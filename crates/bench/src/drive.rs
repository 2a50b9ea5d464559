//! Driving a load: so many clients, each with a connection of its own, each asking again as soon as it has its answer,
//! or at its turn of a fixed pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::histogram::Histogram;
use crate::loads::Prepared;

/// How long a load runs before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// What the clients saw.
pub(crate) struct Seen {
    /// How long each answer took.
    pub(crate) latencies: Histogram,
    /// How many answers were no success.
    pub(crate) failures: u64,
    /// What the first of these said.
    pub(crate) first_failure: Option<String>,
    /// From the first counted request to the last.
    pub(crate) took: Duration,
}

/// Runs the load for its warm-up and then for `duration`; `counting` is called in between.
pub(crate) async fn drive(
    connections: Vec<Connection>,
    prepared: Prepared,
    duration: Duration,
    pace: Option<u64>,
    counting: impl FnOnce() -> Result<(), String>,
) -> Result<Seen, String> {
    let prepared = Arc::new(prepared);
    let begin = Instant::now() + WARM_UP;
    let clients = connections.len() as u64;
    let running: Vec<_> = (1..)
        .zip(connections)
        .map(|(number, connection)| {
            let mut client = Client::new(connection, Arc::clone(&prepared), number, begin);
            client.every = pace.map(|pace| Duration::from_nanos(1_000_000_000 * clients / pace));
            client.next = begin + client.every.unwrap_or_default().mul_f64(fraction(number, clients));
            tokio::spawn(client.run(begin + duration))
        })
        .collect();
    // The clients' core never sleeps: waking it is not the server's work, and on a virtual machine it costs the one who
    // wakes more than the answer did.
    let awake = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    tokio::time::sleep_until(begin.into()).await;
    counting()?;
    let mut seen = Seen { latencies: Histogram::new(), failures: 0, first_failure: None, took: Duration::ZERO };
    for client in running {
        let one = client.await.map_err(|error| error.to_string())??;
        seen.latencies.merge(&one.latencies);
        seen.failures += one.failures;
        seen.first_failure = seen.first_failure.or(one.first_failure);
    }
    seen.took = begin.elapsed();
    awake.abort();
    Ok(seen)
}

#[expect(clippy::cast_precision_loss, reason = "spreads the clients over one interval")]
fn fraction(number: u64, of: u64) -> f64 {
    number as f64 / of as f64
}

struct Client {
    connection: Connection,
    prepared: Arc<Prepared>,
    random: u64,
    begin: Instant,
    every: Option<Duration>,
    next: Instant,
    seen: Seen,
}

impl Client {
    fn new(connection: Connection, prepared: Arc<Prepared>, number: u64, begin: Instant) -> Self {
        let seen = Seen { latencies: Histogram::new(), failures: 0, first_failure: None, took: Duration::ZERO };
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { connection, prepared, random, begin, every: None, next: begin, seen }
    }

    async fn run(mut self, end: Instant) -> Result<Seen, String> {
        loop {
            let started = self.wait_for_turn().await;
            if started >= end {
                return Ok(self.seen);
            }
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let mut answer = self.connection.exchange(self.prepared.pick(self.random)).await?;
            let is_success = (200..=299).contains(&answer.status);
            if is_success && let Some(next) = self.prepared.next(|| self.connection.body(&answer))? {
                answer = self.connection.exchange(&next).await?;
            }
            if !(200..=299).contains(&answer.status) {
                self.seen.failures += 1;
                let body = self.connection.body(&answer);
                let text = || format!("{} {}", answer.status, String::from_utf8_lossy(&body));
                self.seen.first_failure.get_or_insert_with(text);
            } else if started >= self.begin {
                self.seen.latencies.note(started.elapsed());
            }
        }
    }

    /// When the next request is due: at once, or at its turn. A late turn is not forgotten: its latency counts from
    /// when it was due.
    async fn wait_for_turn(&mut self) -> Instant {
        let Some(every) = self.every else { return Instant::now() };
        let due = self.next;
        self.next += every;
        // A timer would be late by up to a millisecond, and that would count as the server's.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        due
    }
}
