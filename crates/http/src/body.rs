//! The body of an answer: whole, or in parts that are made while it leaves.
//!
//! Deliberately absent: a way to tell a client in the middle of a body what went wrong; its connection breaks off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tresor_env::BoxFuture;
use tresor_model::{ByteStream, Fault};

/// The body of an answer.
pub struct ResponseBody(Kind);

enum Kind {
    /// Nothing is left of it.
    Ended,
    Whole(Bytes),
    Parts {
        stream: ByteStream,
        next: Option<BoxFuture<'static, Result<Option<Vec<u8>>, Fault>>>,
    },
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self(if bytes.is_empty() { Kind::Ended } else { Kind::Whole(bytes.into()) })
    }

    pub(crate) const fn parts(stream: ByteStream) -> Self {
        Self(Kind::Parts { stream, next: None })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Ended => return Poll::Ready(None),
            Kind::Whole(_) => {}
            Kind::Parts { stream, next } => {
                let made = ready!(next.get_or_insert_with(|| stream.part()).as_mut().poll(cx));
                *next = None;
                let part = match made {
                    Ok(Some(part)) => return Poll::Ready(Some(Ok(Frame::data(part.into())))),
                    Ok(None) => None,
                    Err(fault) => {
                        crate::encode::log_failure(&fault);
                        Some(Err(io::Error::other("the answer breaks off")))
                    }
                };
                self.0 = Kind::Ended;
                return Poll::Ready(part);
            }
        }
        match std::mem::replace(&mut self.0, Kind::Ended) {
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Kind::Ended | Kind::Parts { .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Ended => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Parts { .. } => SizeHint::default(),
        }
    }
}
