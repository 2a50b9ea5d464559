//! The only place that starts background work: every task has an owner, a bound on its end and a cancellation.
//!
//! Deliberately absent: detached tasks. Dropping a [`Tasks`] aborts what it owns.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::BoxFuture;

/// Where blocking work runs: threads in the real world, inline in the simulator (so that a seed fixes it). There are
/// three lanes, so that what strangers make the server compute never delays what it owes the disk, and tidying up
/// delays neither.
pub trait Workers: Send + Sync {
    /// Runs `work`, which waits for the disk, to its end and completes then; a panic in `work` completes with `Err`.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>>;

    /// Runs `work`, which keeps a core busy (hashing a password), in its turn. The queue is short: beyond it the work
    /// is refused, and not done.
    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>>;

    /// Starts `work`, which tidies up on the disk and which nobody waits for; needs no runtime. Who starts it sees to it
    /// that there is one at a time, and that it ends.
    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>);
}

/// The work panicked; the worker survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerPanicked;

impl std::fmt::Display for WorkerPanicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("blocking work panicked")
    }
}

impl std::error::Error for WorkerPanicked {}

/// Why there is no result of a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotComputed {
    /// Too many are waiting already; trying again later is right.
    Busy,
    /// It panicked.
    Panicked,
}

impl std::fmt::Display for NotComputed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Busy => "too many computations are waiting",
            Self::Panicked => "a computation panicked",
        })
    }
}

impl std::error::Error for NotComputed {}

/// Runs `work`, which keeps a core busy, on the workers and gives back what it returned.
///
/// # Errors
/// [`NotComputed`] when it was refused or panicked.
pub async fn run_computing<T, F>(workers: &dyn Workers, work: F) -> Result<T, NotComputed>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    workers
        .compute(Box::new(move || {
            // The receiver may have gone with a cancelled request.
            drop(sender.send(work()));
        }))
        .await?;
    receiver.await.map_err(|_| NotComputed::Panicked)
}

/// Runs `work`, which waits for the disk, on the workers and gives back what it returned.
///
/// # Errors
/// [`WorkerPanicked`] when it panicked.
pub async fn run_blocking<T, F>(workers: &dyn Workers, work: F) -> Result<T, WorkerPanicked>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    workers
        .run(Box::new(move || {
            // The receiver may have gone with a cancelled request; the work was done all the same.
            drop(sender.send(work()));
        }))
        .await?;
    receiver.await.map_err(|_| WorkerPanicked)
}

/// Lets others have their turn, in the middle of something long that never waits.
pub async fn breathe() {
    tokio::task::yield_now().await;
}

/// Work that is done to its end, by whoever waits for it or, when nobody does any more, by itself.
pub struct SeenThrough<'t, T: 'static> {
    work: Option<BoxFuture<'static, T>>,
    tasks: &'t Tasks,
}

impl<T> Future for SeenThrough<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Asked again after its end, which nobody does, it would wait for ever.
        let Some(work) = &mut self.work else { return Poll::Pending };
        let ended = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(ended)
    }
}

impl<T> Drop for SeenThrough<'_, T> {
    fn drop(&mut self) {
        // Without a runtime there is nothing left that could go on.
        if let Some(work) = self.work.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.tasks.spawn(async move { drop(work.await) });
        }
    }
}

/// A set of background tasks with one owner.
#[derive(Default)]
pub struct Tasks {
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that lives at most as long as this set; must be called within a runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(task);
    }

    /// Runs `work` in the caller's own task, and to its end whatever becomes of the caller: when the caller goes away in
    /// the middle, the rest becomes a task of this set.
    pub fn see_through<T>(&self, work: BoxFuture<'static, T>) -> SeenThrough<'_, T> {
        SeenThrough { work: Some(work), tasks: self }
    }

    /// How many tasks have not ended yet.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.len()
    }

    /// Waits until every task has ended, at most `bound` (as told by `sleep`), then aborts the rest.
    pub async fn finish(&self, sleep: BoxFuture<'static, ()>) {
        let mut running = {
            let mut guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *guard)
        };
        tokio::select! {
            biased;
            () = sleep => running.abort_all(),
            () = async { while running.join_next().await.is_some() {} } => {}
        }
        while running.join_next().await.is_some() {}
    }
}

/// The longest that a shutdown waits for its background tasks.
pub const FINISH_BOUND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::oneshot;

    use super::*;

    /// Work that waits to be let go, and then says that it came to its end.
    fn work() -> (BoxFuture<'static, u8>, oneshot::Sender<()>, oneshot::Receiver<()>) {
        let ((go, going), (end, ended)) = (oneshot::channel(), oneshot::channel());
        let work = async move {
            going.await.unwrap();
            end.send(()).unwrap();
            7
        };
        (Box::pin(work), go, ended)
    }

    #[tokio::test]
    async fn work_whose_caller_left_is_seen_through() {
        let tasks = Tasks::new();
        let (work, go, ended) = work();
        let mut begun = tasks.see_through(work);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut begun).poll(&mut context).is_pending());
        assert_eq!(tasks.count(), 0);
        drop(begun);
        assert_eq!(tasks.count(), 1);
        go.send(()).unwrap();
        ended.await.unwrap();
        tasks.finish(Box::pin(std::future::pending())).await;
        assert_eq!(tasks.count(), 0);
    }

    #[tokio::test]
    async fn work_that_is_waited_for_needs_no_task() {
        let tasks = Tasks::new();
        let (work, go, ended) = work();
        go.send(()).unwrap();
        assert_eq!(tasks.see_through(work).await, 7);
        ended.await.unwrap();
        assert_eq!(tasks.count(), 0);
    }
}
