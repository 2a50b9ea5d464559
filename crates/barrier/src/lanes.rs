//! Whose turn it is: the transactions of requests, and those of what runs in the background, on their way into batches.
//!
//! A batch is closed for requests as if there were nothing else. What the background brings then rides along behind them,
//! within a bound: it costs them no wait for the disk, and where both change the same, it is the one that conflicts. A
//! batch of its own is what the next request would wait for, so it gets one only when no request came for a while, which
//! grows with what a batch takes. Deliberately absent: what a transaction does, and how it is committed.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tresor_env::Clock;

use crate::barrier::{CommitError, Committed};
use crate::txn::Changes;

/// How many transactions may wait in each lane.
const QUEUE_MAX: usize = 1024;
/// How many transactions of requests go into one batch at most.
const BATCH_MAX: usize = 512;
/// How many bytes of values go into one batch at most, beyond the first transaction.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a batch lets the others run once before it closes.
const COMPANY_ROUNDS_MAX: usize = 16;
/// How many places the background may change in the batch of requests, beyond its first transaction.
const RIDE_PLACES_MAX: usize = 128;
/// The background has a batch of its own after so many times the length of one without a request: a request that comes
/// then seldom meets it.
const ALONE_AFTER_BATCHES: u32 = 16;
/// A disk that hangs for a while does not keep it waiting for longer than this.
const ALONE_AFTER_MAX: Duration = Duration::from_millis(200);

/// Who wants a transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer.
    Requests,
    /// Nobody does: it delays no request, and is done within a bound.
    Background,
}

/// A transaction to commit, and who waits for it.
pub(crate) struct Job {
    pub(crate) changes: Changes,
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
}

/// What the lane of requests brings.
enum Message {
    /// To commit.
    Commit(Box<Job>),
    /// To say when everything that came before is done.
    Drain(oneshot::Sender<()>),
}

/// The committer is gone.
pub(crate) struct Gone;

/// Where transactions are handed in.
pub(crate) struct Queues {
    requests: mpsc::Sender<Message>,
    background: mpsc::Sender<Job>,
}

/// Where they come out.
pub(crate) struct Lanes {
    requests: mpsc::Receiver<Message>,
    background: Background,
    /// Whether more than one came together last: who is alone waits for nobody.
    is_accompanied: bool,
}

/// What the next batch is made of, in order, and who is told afterwards that everything before is done.
pub(crate) struct Next {
    pub(crate) jobs: Vec<Job>,
    pub(crate) drained: Option<oneshot::Sender<()>>,
}

impl Queues {
    pub(crate) async fn send(&self, lane: Lane, job: Job) -> Result<(), Gone> {
        match lane {
            Lane::Requests => self.requests.send(Message::Commit(Box::new(job))).await.map_err(|_| Gone),
            Lane::Background => self.background.send(job).await.map_err(|_| Gone),
        }
    }

    pub(crate) async fn drain(&self, drained: oneshot::Sender<()>) -> Result<(), Gone> {
        self.requests.send(Message::Drain(drained)).await.map_err(|_| Gone)
    }
}

impl Lanes {
    pub(crate) fn new() -> (Queues, Self) {
        let (requests, of_requests) = mpsc::channel(QUEUE_MAX);
        let (background, of_background) = mpsc::channel(QUEUE_MAX);
        let waiting = Background { inbox: of_background, first: None, alone_after: Duration::ZERO };
        (Queues { requests, background }, Self { requests: of_requests, background: waiting, is_accompanied: false })
    }

    /// The next batch; `None` when every sender is gone.
    pub(crate) async fn next(&mut self, clock: &dyn Clock) -> Option<Next> {
        let first = tokio::select! {
            biased;
            first = self.requests.recv() => Some(first?),
            () = self.background.is_alone(clock) => None,
        };
        let mut next = Next { jobs: Vec::new(), drained: None };
        if let Some(first) = first {
            if self.is_accompanied || !self.requests.is_empty() {
                company(&self.requests).await;
            }
            self.gather(first, &mut next);
            self.is_accompanied = next.jobs.len() > 1;
        }
        self.background.ride(&mut next.jobs);
        Some(next)
    }

    /// A batch took so long.
    pub(crate) fn took(&mut self, took: Duration) {
        self.background.alone_after = took.saturating_mul(ALONE_AFTER_BATCHES).min(ALONE_AFTER_MAX);
    }

    /// Everything of requests that waits, as far as it fits into one batch; somebody who waits for the end of it ends it.
    fn gather(&mut self, first: Message, batch: &mut Next) {
        let (mut bytes, mut next) = (0, Some(first));
        while let Some(message) = next {
            match message {
                Message::Drain(drained) => {
                    batch.drained = Some(drained);
                    return;
                }
                Message::Commit(job) => {
                    bytes += job.changes.bytes();
                    batch.jobs.push(*job);
                }
            }
            let has_room = batch.jobs.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX;
            next = if has_room { self.requests.try_recv().ok() } else { None };
        }
    }
}

/// Lets the requests that can run come as far as here, while each round of them brings more: a sync costs the same for
/// one transaction as for all of them, and on a busy machine they would otherwise come in twos and threes.
async fn company(inbox: &mpsc::Receiver<Message>) {
    let mut waiting = inbox.len();
    for _ in 0..COMPANY_ROUNDS_MAX {
        tokio::task::yield_now().await;
        let now = inbox.len();
        if now <= waiting || now >= BATCH_MAX {
            return;
        }
        waiting = now;
    }
}

/// The lane of the background.
struct Background {
    inbox: mpsc::Receiver<Job>,
    /// The first that waits, taken out to know that there is one.
    first: Option<Job>,
    /// How long it waits for a request to ride with.
    alone_after: Duration,
}

impl Background {
    /// Completes when something waits and no request came for so long that it gets a batch of its own.
    async fn is_alone(&mut self, clock: &dyn Clock) {
        if self.first.is_none() {
            self.first = self.inbox.recv().await;
        }
        if self.first.is_none() {
            // Every sender is gone, and so are those of requests.
            return std::future::pending().await;
        }
        if !self.alone_after.is_zero() {
            clock.sleep(self.alone_after).await;
        }
    }

    /// Lets what waits go with a batch, as far as it may.
    fn ride(&mut self, batch: &mut Vec<Job>) {
        let mut places = 0;
        while places < RIDE_PLACES_MAX
            && let Some(job) = self.first.take().or_else(|| self.inbox.try_recv().ok())
        {
            places += job.changes.places();
            batch.push(job);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;
    use tresor_env::doubles::TestDoors;
    use tresor_storage::RawKey;

    use super::*;

    /// A transaction that changes so many places.
    fn job(places: usize) -> Job {
        let mut changes = Changes::default();
        changes.points.extend((0..places).map(|at| (RawKey::new(&at.to_be_bytes()).unwrap(), None)));
        Job { changes, answer: oneshot::channel().0 }
    }

    fn sizes(next: Option<Option<Next>>) -> Option<Vec<usize>> {
        next.map(|next| next.unwrap().jobs.iter().map(|job| job.changes.places()).collect())
    }

    #[tokio::test]
    async fn the_background_rides_behind_requests_within_a_bound() {
        let (doors, (queues, mut lanes)) = (TestDoors::new(1), Lanes::new());
        for (lane, places) in [(Lane::Background, 100), (Lane::Background, 40), (Lane::Background, 9)] {
            assert!(queues.send(lane, job(places)).await.is_ok());
        }
        for places in [1, 2] {
            assert!(queues.send(Lane::Requests, job(places)).await.is_ok());
        }
        assert_eq!(sizes(Some(lanes.next(&*doors.clock).await)), Some(vec![1, 2, 100, 40]));
        assert_eq!(
            sizes(lanes.next(&*doors.clock).now_or_never()),
            Some(vec![9]),
            "nothing says that a batch takes long"
        );
    }

    #[tokio::test]
    async fn the_background_has_a_batch_of_its_own_when_no_request_came_for_many_batches() {
        let (doors, (queues, mut lanes)) = (TestDoors::new(1), Lanes::new());
        lanes.took(Duration::from_millis(2));
        assert!(queues.send(Lane::Background, job(7)).await.is_ok());
        let mut waiting = Box::pin(lanes.next(&*doors.clock));
        assert!(waiting.as_mut().now_or_never().is_none());
        doors.clock.advance(Duration::from_millis(31));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        // A request takes along what waited, whoever was told of it before.
        assert!(queues.send(Lane::Requests, job(1)).await.is_ok());
        assert_eq!(sizes(Some(lanes.next(&*doors.clock).await)), Some(vec![1, 7]));
        assert!(queues.send(Lane::Background, job(8)).await.is_ok());
        let mut waiting = Box::pin(lanes.next(&*doors.clock));
        assert!(waiting.as_mut().now_or_never().is_none());
        doors.clock.advance(Duration::from_millis(32));
        assert_eq!(sizes(waiting.as_mut().now_or_never()), Some(vec![8]));
        drop(waiting);
        drop(queues);
        assert!(lanes.next(&*doors.clock).await.is_none());
    }
}
