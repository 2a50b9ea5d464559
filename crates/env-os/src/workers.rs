//! Blocking work on threads, in two lanes, and tidying up beside it.
//!
//! What waits for the disk gets a thread at once (`pool.rs`). What keeps a core busy goes to the runtime's pool, at most one
//! thread per core, in order, from a queue of bounded length: a flood of logins costs those who log in, and delays neither
//! commits nor audit records. Deliberately absent: priorities among computations.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tresor_env::tasks::{NotComputed, WorkerPanicked};
use tresor_env::{BoxFuture, Workers};

use crate::pool::Pool;

/// How many computations may wait for each core: the last of them waits some seconds, as people who log in will.
const WAITING_PER_CORE_MAX: usize = 128;
/// How much tidying up lets others go first: on a full core it has a tenth of what a request's thread has, which is enough for
/// what two thousand writes in a second leave behind; who writes more waits for it, and leaves the core to it meanwhile.
const TIDY_NICENESS: i32 = 10;

/// Runs blocking work on threads.
pub struct ThreadWorkers {
    /// Those that wait for the disk.
    pool: Pool,
    /// Those that tidy up.
    tidy: Pool,
    /// One for each computation that runs.
    cores: Arc<Semaphore>,
    /// One for each computation that runs or waits.
    places: Arc<Semaphore>,
}

impl ThreadWorkers {
    /// Workers that compute on every core there is.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(cores, cores * WAITING_PER_CORE_MAX)
    }

    fn with(cores: usize, waiting_max: usize) -> Self {
        Self {
            pool: Pool::new("disk", 0),
            tidy: Pool::new("tidy", TIDY_NICENESS),
            cores: Arc::new(Semaphore::new(cores)),
            places: Arc::new(Semaphore::new(cores + waiting_max)),
        }
    }
}

impl Default for ThreadWorkers {
    fn default() -> Self {
        Self::new()
    }
}

impl Workers for ThreadWorkers {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), WorkerPanicked>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let (sender, ended) = oneshot::channel();
            let runtime = Handle::try_current().ok();
            pool.begin(Box::new(move || {
                // What is done there may start tasks.
                let _known = runtime.as_ref().map(Handle::enter);
                work();
                // Who does not wait any more need not know.
                let _ = sender.send(());
            }));
            ended.await.map_err(|_| WorkerPanicked)
        })
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, Result<(), NotComputed>> {
        let (cores, places) = (Arc::clone(&self.cores), Arc::clone(&self.places));
        Box::pin(async move {
            let place = places.try_acquire_owned().map_err(|_| NotComputed::Busy)?;
            let core = cores.acquire_owned().await.map_err(|_| NotComputed::Busy)?;
            let turn = move || {
                // Kept until the work is done, whether or not anybody still waits for it.
                let _held = (place, core);
                work();
            };
            tokio::task::spawn_blocking(turn).await.map_err(|_| NotComputed::Panicked)
        })
    }

    fn tidy_up(&self, work: Box<dyn FnOnce() + Send>) {
        self.tidy.begin(work);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use tresor_env::tasks::{run_blocking, run_computing};

    use super::*;

    fn in_a_runtime<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(test)
    }

    #[test]
    fn computations_beyond_the_queue_are_refused_and_the_disk_never_waits_for_any() {
        in_a_runtime(async {
            let workers = Arc::new(ThreadWorkers::with(1, 1));
            let (started, has_started) = mpsc::sync_channel(1);
            let (release, released) = mpsc::sync_channel::<()>(1);
            let slow = Arc::clone(&workers);
            let running = tokio::spawn(async move {
                run_computing(&*slow, move || {
                    started.send(()).unwrap();
                    released.recv().unwrap();
                    1
                })
                .await
            });
            run_blocking(&*workers, move || has_started.recv().unwrap()).await.unwrap();
            let mut waiting = Box::pin(run_computing(&*workers, || 2));
            std::future::poll_fn(|cx| {
                assert!(waiting.as_mut().poll(cx).is_pending(), "there is one core, and it is busy");
                std::task::Poll::Ready(())
            })
            .await;
            assert_eq!(run_computing(&*workers, || 3).await, Err(NotComputed::Busy));
            assert_eq!(run_blocking(&*workers, || 4).await, Ok(4));
            release.send(()).unwrap();
            assert_eq!(running.await.unwrap(), Ok(1));
            assert_eq!(waiting.await, Ok(2));
            assert_eq!(run_computing(&*workers, || 5).await, Ok(5));
        });
    }

    #[test]
    fn who_leaves_the_queue_leaves_its_place_and_a_panic_gives_its_core_back() {
        in_a_runtime(async {
            let workers = ThreadWorkers::with(1, 0);
            drop(run_computing(&workers, || ()));
            assert_eq!(run_computing(&workers, || panic!("on purpose")).await, Err(NotComputed::Panicked));
            assert_eq!(run_computing(&workers, || 1).await, Ok(1));
        });
    }
}
