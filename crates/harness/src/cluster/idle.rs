//! When nothing can happen any more until time passes.
//!
//! A runtime that is made here says so: its thread is about to park. On any other one everything is let run a number of
//! times, which is slower, and as good as long as the chains of what wakes what are shorter. Deliberately absent: time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Poll, Waker};

/// How often everything that can run is let run where nobody says when it is idle.
const ROUNDS: usize = 60;

thread_local! {
    /// Whether the runtime of this thread says when it is idle.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    /// Who waits for that.
    static WAITING: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static IS_IDLE: Cell<bool> = const { Cell::new(false) };
}

/// Drives a future on a runtime of its own, on which a world moves as fast as it can.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let say_so = || {
        if let Some(waker) = WAITING.take() {
            IS_IDLE.set(true);
            waker.wake();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().on_thread_park(say_so).build().unwrap();
    IS_WATCHED.set(true);
    let done = runtime.block_on(future);
    IS_WATCHED.set(false);
    done
}

/// Lets a future and everything else run until it has ended, or nothing can run any more: then there is nothing.
pub(super) async fn until_idle<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    if !IS_WATCHED.get() {
        for _ in 0..ROUNDS {
            let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
            if let Poll::Ready(done) = polled {
                return Some(done);
            }
            tokio::task::yield_now().await;
        }
        return None;
    }
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = future.as_mut().poll(context) {
            WAITING.set(None);
            IS_IDLE.set(false);
            return Poll::Ready(Some(done));
        }
        if IS_IDLE.take() {
            return Poll::Ready(None);
        }
        WAITING.set(Some(context.waker().clone()));
        Poll::Pending
    })
    .await
}
