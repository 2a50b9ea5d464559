//! Messages that a server tells over a WebSocket, for as long as it does.
//!
//! Deliberately absent: connecting again, which whoever listens decides.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use reqwest::StatusCode;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::connection::{Client, Method, Sent, describe, request_id};
use crate::error::ClientError;

/// The longest message that is taken, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

impl Client {
    /// Has what a path tells, and hands each text on, until the server ends it. `nonce` is unpredictable.
    ///
    /// # Errors
    /// As [`Client::request`]; also what `take` says, when the connection breaks off, and when the server ends it for
    /// another reason than that all is told.
    pub async fn listen(
        &self,
        path: &str,
        query: &[(&str, &str)],
        nonce: [u8; 16],
        take: &mut dyn FnMut(&str) -> Result<(), String>,
    ) -> Result<(), ClientError> {
        let key = STANDARD.encode(nonce);
        let (target, shown) = self.located(Method::Get, path, query)?;
        let response = self.open(Method::Get, &target, &shown, Sent::Upgrade(&key)).await?;
        let local = |text: &str| ClientError::local(format!("GET {shown}: {text}"));
        let (status, id) = (response.status(), request_id(&response));
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let bytes = response.bytes().await.map_err(|error| local(&describe(&error)))?;
            if status.is_success() {
                return Err(local("the server answered, and opened no WebSocket"));
            }
            return Err(ClientError::refused(status.as_u16(), &bytes, shown, "GET", id));
        }
        let accepted = response.headers().get("sec-websocket-accept").and_then(|value| value.to_str().ok());
        if accepted != Some(tresor_crypto::websocket::accept(&key).as_str()) {
            return Err(local("the server does not know WebSockets"));
        }
        let upgraded = response.upgrade().await.map_err(|error| local(&describe(&error)))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        while let Some(message) = socket.next().await {
            match message.map_err(|error| local(&error.to_string()))? {
                Message::Text(text) => take(&text).map_err(ClientError::local)?,
                Message::Close(Some(frame)) if frame.code != CloseCode::Normal => {
                    let reason: String = frame.reason.chars().filter(|character| !character.is_control()).collect();
                    return Err(local(&format!("the server ended the stream ({}): {reason}", u16::from(frame.code))));
                }
                Message::Close(_) => return Ok(()),
                // Pings are answered by the library.
                _ => {}
            }
        }
        Err(local("the connection broke off"))
    }
}
