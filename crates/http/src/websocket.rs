//! WebSockets (RFC 6455): a request that offers to go on as one, and what is told over it afterwards.
//!
//! Only the server speaks: of a client it takes that it is there, and that it leaves. The frames are a library's. Deliberately
//! absent: HTTP/2, whose own way to begin hardly any client knows; sub-protocols and extensions.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tresor_env::{BoxFuture, Clock};
use tresor_model::{Ending, Message, MessageStream, Messages};

use crate::body::ResponseBody;

/// How often a client is asked whether it is there; who said nothing since the last time is gone.
const BEAT: Duration = Duration::from_secs(30);
/// How long the end of a connection may take.
const ENDING_BOUND: Duration = Duration::from_secs(1);
/// How long it may take for whoever lags: what is on its way comes before the word that there is no more.
const LAGGING_BOUND: Duration = Duration::from_secs(60);
/// What a client has to say is short: that it leaves, or is there.
const HEARD_BYTES_MAX: usize = 4096;
/// What is read at once, and what waits to be written.
const BUFFER_BYTES: usize = 8 * 1024;

/// A request that offers to go on as a WebSocket.
pub(crate) struct Offer {
    accept: String,
    upgrade: OnUpgrade,
}

/// The offer of a request, if it makes one.
pub(crate) fn offered(head: &mut Parts) -> Option<Offer> {
    let names = |header: HeaderName, wanted: &str| {
        let values = head.headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let is_offer = head.method == Method::GET
        && head.version == Version::HTTP_11
        && names(CONNECTION, "upgrade")
        && names(UPGRADE, "websocket")
        && names(SEC_WEBSOCKET_VERSION, "13");
    let key = head.headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_offer)?.to_str().ok()?.trim();
    STANDARD.decode(key).ok().filter(|key| key.len() == 16)?;
    let accept = tresor_crypto::websocket::accept(key);
    let upgrade = head.extensions.remove::<OnUpgrade>()?;
    Some(Offer { accept, upgrade })
}

impl Offer {
    /// Takes it: the answer says so, and what is told goes with it to whoever holds the connection.
    pub(crate) fn take(self, messages: MessageStream, response: &mut http::Response<ResponseBody>) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        let talk = Talk { upgrade: self.upgrade, messages: messages.into_inner() };
        response.extensions_mut().insert(Agreed(Arc::new(Mutex::new(Some(talk)))));
    }
}

/// In the extensions of an answer: what is said over the connection afterwards. It can be taken once.
#[derive(Clone)]
pub struct Agreed(Arc<Mutex<Option<Talk>>>);

impl Agreed {
    /// Takes it out.
    #[must_use]
    pub fn take(&self) -> Option<Talk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is said over a connection once its request was answered.
pub struct Talk {
    upgrade: OnUpgrade,
    messages: Box<dyn Messages>,
}

/// What happens next.
enum Next {
    Tell(Message),
    Heard(Option<Result<Frame, tungstenite::Error>>),
    Beat,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl Talk {
    /// Tells until there is no more, the client leaves, or `stop` completes. To be awaited when the connection was handed
    /// over.
    pub async fn run(self, clock: &dyn Clock, stop: impl Future<Output = ()>) {
        let Self { upgrade, mut messages } = self;
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(HEARD_BYTES_MAX))
            .max_frame_size(Some(HEARD_BYTES_MAX));
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let mut stop = pin!(stop);
        let mut beat = clock.sleep(BEAT);
        let mut was_heard = true;
        let ending = loop {
            let next = tokio::select! {
                biased;
                () = stop.as_mut() => Next::Tell(Message::End(Ending::GoesAway)),
                heard = socket.next() => Next::Heard(heard),
                message = messages.next() => Next::Tell(message),
                () = &mut beat => Next::Beat,
            };
            let frame = match next {
                Next::Tell(Message::End(ending)) => break ending,
                Next::Tell(Message::Text(text)) => Frame::text(text),
                Next::Tell(Message::Bytes(bytes)) => Frame::binary(bytes),
                Next::Heard(Some(Ok(Frame::Text(_) | Frame::Binary(_)))) => {
                    let said = said(&mut socket, CloseCode::Policy, "nothing is expected from clients");
                    return within(clock, ENDING_BOUND, said).await;
                }
                Next::Heard(Some(Ok(Frame::Close(_)))) => {
                    return within(clock, ENDING_BOUND, flushed(&mut socket)).await;
                }
                Next::Heard(Some(Ok(_))) => {
                    was_heard = true;
                    // The answer to a ping waits to leave.
                    Frame::Pong(Bytes::new())
                }
                Next::Heard(None | Some(Err(_))) => return,
                Next::Beat if !was_heard => return,
                Next::Beat => {
                    (was_heard, beat) = (false, clock.sleep(BEAT));
                    Frame::Ping(Bytes::new())
                }
            };
            let sent = async {
                match frame {
                    Frame::Pong(_) => socket.flush().await,
                    frame => socket.send(frame).await,
                }
            };
            // Whoever does not read is cut off when too much waits, or the node stops.
            tokio::select! {
                biased;
                sent = sent => match sent {
                    Ok(()) => {}
                    Err(_) => return,
                },
                () = stop.as_mut() => break Ending::GoesAway,
                ending = messages.cut() => break ending,
            }
        };
        let said = said(&mut socket, code(ending), ending.reason());
        if ending != Ending::TooSlow {
            return within(clock, ENDING_BOUND, said).await;
        }
        let said_or_stopped = async {
            tokio::select! {
                biased;
                () = said => {}
                () = stop => {}
            }
        };
        within(clock, LAGGING_BOUND, said_or_stopped).await;
    }
}

const fn code(ending: Ending) -> CloseCode {
    match ending {
        Ending::TooSlow => CloseCode::Again,
        Ending::GoesAway => CloseCode::Away,
        Ending::NotAllowed => CloseCode::Policy,
        Ending::Failed => CloseCode::Error,
    }
}

/// Says why there is no more, and waits for the client to have heard it.
async fn said(socket: &mut Socket, code: CloseCode, reason: &'static str) {
    if socket.close(Some(CloseFrame { code, reason: reason.into() })).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

async fn flushed(socket: &mut Socket) {
    // The library has put its own end behind the client's.
    drop(socket.flush().await);
}

async fn within(clock: &dyn Clock, bound: Duration, work: impl Future<Output = ()>) {
    let bound: BoxFuture<'static, ()> = clock.sleep(bound);
    tokio::select! {
        biased;
        () = work => {}
        () = bound => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_lacks_anything_of_an_offer_is_none() {
        let complete = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let offers = |method: Method, left_out: Option<usize>, changed: Option<(&str, &str)>| {
            let mut request = http::Request::builder().method(method).uri("/v1/x");
            for (_, (name, value)) in complete.iter().enumerate().filter(|(at, _)| Some(*at) != left_out) {
                let value = changed.filter(|(changed, _)| changed == name).map_or(*value, |(_, value)| value);
                request = request.header(*name, value);
            }
            let mut request = request.body(()).unwrap();
            // What the protocol below leaves with a request that can be handed over; here nothing ever is.
            let on_upgrade = hyper::upgrade::on(&mut request);
            request.extensions_mut().insert(on_upgrade);
            offered(&mut request.into_parts().0).is_some()
        };
        assert!(offers(Method::GET, None, None));
        assert!(!offers(Method::POST, None, None) && !offers(Method::HEAD, None, None));
        for (at, (name, _)) in complete.iter().enumerate() {
            assert!(!offers(Method::GET, Some(at), None), "without {name}");
        }
        for (name, value) in [
            ("connection", "close"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25j"),
            ("sec-websocket-key", "not base64"),
        ] {
            assert!(!offers(Method::GET, None, Some((name, value))), "{name}: {value}");
        }
    }
}
