//! A request's body that is no JSON: handed on part by part while the request is served, never all in memory.
//!
//! What is not taken yet is not read from the connection, so a slow disk slows its client down. Deliberately absent: a
//! bound on the whole, which the route knows; each part has a bound of time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use bytes::Buf;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::mpsc;
use tresor_env::Clock;
use tresor_model::{ByteStream, Fault, Refusal, Upload};

/// A part, `None` at the end.
type Part = Result<Option<Vec<u8>>, Refusal>;

/// Where the parts go.
pub(crate) struct Feed(mpsc::Sender<Part>);

/// An upload, and where its parts go.
pub(crate) fn channel() -> (Feed, Upload) {
    // One waits while another is taken.
    let (sender, receiver) = mpsc::channel(1);
    let receiver = Arc::new(Mutex::new(receiver));
    let stream = ByteStream::new(move || {
        let receiver = Arc::clone(&receiver);
        Box::pin(async move {
            let broke_off = || Err(Refusal::Invalid("the request's body broke off".into()));
            // Locked for each look, and not between them.
            let look = |cx: &mut Context<'_>| receiver.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx);
            poll_fn(look).await.unwrap_or_else(broke_off).map_err(Fault::from)
        })
    });
    (Feed(sender), Upload::of(stream))
}

impl Feed {
    /// Hands the body on to its end, or until nobody wants more; tells whether that was its end.
    pub(crate) async fn hand_on<B>(self, mut body: Pin<&mut B>, timeout: Duration, clock: &dyn Clock) -> bool
    where
        B: Body,
        B::Data: Buf,
    {
        loop {
            let mut unread = body.as_mut();
            let next = pin!(unread.frame());
            let part = match futures_util::future::select(next, clock.sleep(timeout)).await {
                futures_util::future::Either::Left((None, _)) => Ok(None),
                futures_util::future::Either::Left((Some(Err(_)), _)) => return true,
                futures_util::future::Either::Left((Some(Ok(frame)), _)) => match frame.into_data() {
                    Ok(mut data) => Ok(Some(data.copy_to_bytes(data.remaining()).to_vec())),
                    Err(_) => continue,
                },
                futures_util::future::Either::Right(_) => Err(Refusal::TooSlow),
            };
            let is_last = !matches!(part, Ok(Some(_)));
            if self.0.send(part).await.is_err() {
                return is_last;
            }
            if is_last {
                return true;
            }
        }
    }
}
