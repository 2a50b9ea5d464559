//! Where the connections live: a runtime of the store's own, which whoever calls the store waits for.
//!
//! Calls of a store block, also on threads of the server's runtime; what they wait for must not need those threads.
//! Deliberately absent: any bound of a wait, which what is waited for has.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tresor_env::{Doors, Signal, Tasks};

/// The runtime, and the doors that are used in it.
pub(crate) struct Lane {
    runtime: Option<Runtime>,
    handle: Handle,
    /// What drives connections, and looks after the store.
    pub(crate) tasks: Tasks,
    pub(crate) doors: Doors,
    /// The process is about to end: what is waited for has little time left.
    hurried: Signal<bool>,
}

/// How much time that is.
const HURRIED_MAX: Duration = Duration::from_secs(1);

impl Lane {
    pub(crate) fn start(doors: &Doors) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("postgresql").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self {
            runtime: Some(runtime),
            handle,
            tasks: Tasks::new(),
            doors: doors.clone(),
            hurried: Signal::new(false),
        })
    }

    /// Starts something that lives at most as long as the lane.
    pub(crate) fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        let _within = self.handle.enter();
        self.tasks.spawn(work);
    }

    /// Waits for something that is done in the lane; nothing when it panicked.
    pub(crate) fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = sync_channel(1);
        drop(self.handle.spawn(async move {
            // Whoever asked waits, or is gone with the process.
            drop(sender.send(work.await));
        }));
        blocking(|| receiver.recv()).ok()
    }

    /// The same for whoever may not block.
    pub(crate) fn ask<T: Send + 'static, W: Future<Output = T> + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + Send + use<T, W> {
        let done = self.handle.spawn(work);
        async move { done.await.ok() }
    }

    /// What comes of something within a time; nothing when it takes longer.
    pub(crate) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let hurried = async {
            self.hurried.wait_for(|hurried| hurried.then_some(())).await;
            self.doors.clock.sleep(HURRIED_MAX).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.doors.clock.sleep(limit) => None,
            () = hurried => None,
        }
    }

    /// From now on nothing is waited for long, and nothing is tried again.
    pub(crate) fn hurry(&self) {
        self.hurried.update(|hurried| *hurried = true);
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.hurried.read(|hurried| *hurried)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Not waited for: it may be dropped where nobody may wait. The connections end with it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for another thread. A thread of a runtime gives its tasks to another one first.
pub(crate) fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        #[expect(
            clippy::disallowed_methods,
            reason = "a store is read where requests run, and this one may wait for a network: the threads that answer \
                      everything else must not run out"
        )]
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}
