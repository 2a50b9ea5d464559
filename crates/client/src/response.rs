//! A server's answer, kept as bytes until somebody asks what is in it.

use serde_json::Value;
use tresor_secret::SecretBytes;

/// An answer that is not a refusal.
///
/// Also a 404 that carries data or warnings counts: that is how a deleted version of a secret is described.
pub struct ApiResponse {
    status: u16,
    body: SecretBytes,
}

impl ApiResponse {
    pub(crate) fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, body: SecretBytes::new(body) }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.expose()
    }

    /// The body as JSON with numbers as they were sent; `None` when it is empty.
    ///
    /// # Errors
    /// When it is something other than JSON.
    pub fn json(&self) -> Result<Option<Value>, serde_json::Error> {
        if self.body().iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        serde_json::from_slice(self.body()).map(Some)
    }
}

/// Whether a 404 body describes something after all.
pub(crate) fn describes_something(body: &[u8]) -> bool {
    let Ok(Value::Object(envelope)) = serde_json::from_slice::<Value>(body) else { return false };
    let filled = |name: &str| match envelope.get(name) {
        Some(Value::Array(entries)) => !entries.is_empty(),
        Some(Value::Object(entries)) => !entries.is_empty(),
        _ => false,
    };
    filled("data") || filled("warnings")
}
