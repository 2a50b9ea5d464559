//! What the library runs on: tasks and channels, and no time at all.
//!
//! It would measure leases, heartbeats and elections with clocks of its own, which a simulation cannot move. So they are
//! ours (`campaign.rs`, `network.rs`), on the clock door, and here a moment is only an order: later ones compare as
//! later, and every span between two is nothing. What it would limit in time, its callers limit. Deliberately absent:
//! a seed, because what is drawn here is only the length of a timer that is off.

use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};

/// A point in the order of events of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

static MOMENTS: AtomicU64 = AtomicU64::new(1);

impl openraft::Instant for Moment {
    fn now() -> Self {
        Self(MOMENTS.fetch_add(1, Ordering::Relaxed))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, _: Duration) -> Self {
        self
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, _: Duration) {}
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, _: Duration) -> Self {
        self
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, _: Duration) {}
}

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, _: Self) -> Duration {
        Duration::ZERO
    }
}

/// The time that never comes: nothing here is ticked, and nothing backs off.
#[derive(Debug)]
pub(crate) struct Never;

impl Future for Never {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Work whose bound is somebody else's.
pub(crate) struct Unbounded<F>(Pin<Box<F>>);

impl<F: Future> Future for Unbounded<F> {
    type Output = Result<F::Output, std::convert::Infallible>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(Ok)
    }
}

/// Tasks and channels of tokio.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Never;
    type Instant = Moment;
    type TimeoutError = std::convert::Infallible;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Unbounded<T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(_: Duration) -> Never {
        Never
    }

    fn sleep_until(_: Moment) -> Never {
        Never
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(_: Duration, future: F) -> Unbounded<F> {
        Unbounded(Box::pin(future))
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(_: Moment, future: F) -> Unbounded<F> {
        Unbounded(Box::pin(future))
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}
