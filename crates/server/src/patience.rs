//! A stream whose reader must go on reading: without progress for long enough, writing fails.
//!
//! A client that asks for much and reads nothing would otherwise hold its connection, and the answer in memory, for
//! ever. Deliberately absent: a bound on reading, which the protocol above knows better.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tresor_env::net::Stream;
use tresor_env::{BoxFuture, Clock};

/// A stream with a bound on how long a write may stand still.
pub(crate) struct Patient<S> {
    stream: S,
    clock: Arc<dyn Clock>,
    bound: Duration,
    /// Runs while a write stands still.
    patience: Option<BoxFuture<'static, ()>>,
}

impl<S: Stream> Patient<S> {
    pub(crate) fn new(stream: S, clock: Arc<dyn Clock>, bound: Duration) -> Self {
        Self { stream, clock, bound, patience: None }
    }

    /// Progress ends the wait; without it the wait goes on, and ends in an error.
    fn within_bound<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.patience = None;
            return poll;
        }
        let patience = self.patience.get_or_insert_with(|| self.clock.sleep(self.bound));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within_bound(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within_bound(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.within_bound(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.within_bound(context, poll)
    }
}
