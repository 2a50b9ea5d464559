//! Frames from and to a stream: what is read is taken in as it comes, what is small is written together.
//!
//! Deliberately absent: which frames may come when.

use std::io;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tresor_env::Clock;

use crate::frame::{self, Frame, FrameError};
use crate::lane::Lane;
use crate::peers::LINGER;
use crate::pulse::Pulse;
use crate::trouble::{Parting, Trouble};

/// What is read at once; memory for a long frame grows with what has come of it.
const READ_BYTES: usize = 16 * 1024;
/// What is written at once, as long as there is more.
const WRITE_BYTES: usize = 64 * 1024;
/// A body longer than this is written from where it lies.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// What is thrown away of who was refused, before its end is closed on it.
const DISCARDED_BYTES_MAX: usize = 256 * 1024;

/// Reads frames.
pub(crate) struct Reading<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    async fn fill(&mut self, more: usize, pulse: &Pulse) -> Result<(), Trouble> {
        self.buffer.reserve(more.min(READ_BYTES));
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Trouble::Broken(io::ErrorKind::UnexpectedEof)),
            Ok(_) => {
                pulse.hear();
                Ok(())
            }
            Err(error) => Err(Trouble::of_io(&error)),
        }
    }

    /// How long the next frame is; it is not taken in yet.
    pub(crate) async fn measure(&mut self, lane: Option<Lane>, pulse: &Pulse) -> Result<usize, Unread> {
        loop {
            if let Some(length) = frame::measure(&self.buffer, lane)? {
                return Ok(length);
            }
            self.fill(READ_BYTES, pulse).await?;
        }
    }

    /// The next frame, whose length was measured.
    pub(crate) async fn take(&mut self, length: usize, pulse: &Pulse) -> Result<Frame, Unread> {
        while let Some(missing) = length.checked_sub(self.buffer.len()).filter(|missing| *missing > 0) {
            self.fill(missing.max(READ_BYTES), pulse).await?;
        }
        Ok(frame::read(self.buffer.split_to(length).freeze())?)
    }

    /// The next frame.
    pub(crate) async fn next(&mut self, lane: Option<Lane>, pulse: &Pulse) -> Result<Frame, Unread> {
        let length = self.measure(lane, pulse).await?;
        self.take(length, pulse).await
    }

    #[cfg(test)]
    pub(crate) fn into_inner(self) -> R {
        self.stream
    }

    /// Lets the other end read what was said last: closing on unread bytes would take it back.
    pub(crate) async fn linger(&mut self, clock: &dyn Clock) {
        linger(&mut self.stream, clock).await;
    }
}

/// Reads and throws away, for a while and not much, until the other end closes.
pub(crate) async fn linger(stream: &mut (impl AsyncRead + Unpin), clock: &dyn Clock) {
    let mut discarded = [0; 4096];
    let mut left = DISCARDED_BYTES_MAX;
    let until_closed = async {
        while let Ok(read @ 1..) = stream.read(&mut discarded).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    tokio::select! {
        biased;
        () = until_closed => {}
        () = clock.sleep(LINGER) => {}
    }
}

/// Why there is no next frame.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The connection's end.
    Ended(Trouble),
    /// The other end does not speak as agreed.
    Misread(Parting),
}

impl From<Trouble> for Unread {
    fn from(trouble: Trouble) -> Self {
        Self::Ended(trouble)
    }
}

impl From<FrameError> for Unread {
    fn from(error: FrameError) -> Self {
        Self::Misread(if matches!(error, FrameError::TooLong { .. }) { Parting::TooLong } else { Parting::Misread })
    }
}

/// Writes frames.
pub(crate) struct Writing<W> {
    stream: W,
    ready: BytesMut,
    /// A write was begun and not seen through, so no frame can follow.
    pub(crate) torn: bool,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self { stream, ready: BytesMut::new(), torn: false }
    }

    /// Adds a frame to what is to be written; tells whether more may be added before it is.
    pub(crate) async fn put(&mut self, frame: &Frame) -> io::Result<bool> {
        match frame.write_head(&mut self.ready) {
            Some(body) if body.len() > COPIED_BYTES_MAX => {
                self.write_ready().await?;
                self.torn = true;
                self.stream.write_all(&body).await?;
                self.torn = false;
                return Ok(false);
            }
            Some(body) => self.ready.put_slice(&body),
            None => {}
        }
        Ok(self.ready.len() < WRITE_BYTES)
    }

    async fn write_ready(&mut self) -> io::Result<()> {
        if !self.ready.is_empty() {
            self.torn = true;
            self.stream.write_all(&self.ready).await?;
            self.ready.clear();
            self.torn = false;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn put_raw(&mut self, bytes: &[u8]) {
        self.ready.put_slice(bytes);
    }

    #[cfg(test)]
    pub(crate) fn into_inner(self) -> W {
        self.stream
    }

    /// Writes what was put.
    pub(crate) async fn send(&mut self, pulse: &Pulse) -> io::Result<()> {
        self.write_ready().await?;
        pulse.say();
        self.stream.flush().await
    }

    /// Says that nothing more will come.
    pub(crate) async fn shut(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
