//! Why a request gave no answer, in the words that scripts around the reference's command line match.

use std::fmt;

use serde_json::Value;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent, or no answer came: the configuration, a file or the connection is at fault.
    #[error("{message}")]
    Local {
        /// What went wrong, with the method and the URL when there was one.
        message: String,
    },
    /// The server refused.
    #[error("{}", ServerText { status: *status, errors, raw: raw.as_deref(), url, method })]
    Server {
        /// The HTTP status.
        status: u16,
        /// The server's `errors` list.
        errors: Vec<String>,
        /// The server's `warnings` list, if the refusal carried one.
        warnings: Vec<String>,
        /// The URL, without credentials.
        url: Box<str>,
        /// The HTTP method.
        method: &'static str,
        /// The request's id, by which the server's audit records know it.
        request_id: Option<Box<str>>,
        /// The body, when it was not the JSON object that a server should send.
        raw: Option<Box<str>>,
    },
}

impl ClientError {
    /// A failure on this side.
    #[must_use]
    pub fn local(message: impl Into<String>) -> Self {
        Self::Local { message: message.into() }
    }

    /// The HTTP status, if the server answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Local { .. } => None,
            Self::Server { status, .. } => Some(*status),
        }
    }

    /// Reads a refusal from an HTTP answer.
    pub(crate) fn refused(status: u16, body: &[u8], url: String, method: &'static str, id: Option<String>) -> Self {
        let parsed = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
        let list = |name: &str| -> Vec<String> {
            let entries = parsed.as_ref().and_then(|object| object.get(name)).and_then(Value::as_array);
            entries
                .into_iter()
                .flatten()
                .map(|entry| entry.as_str().map_or_else(|| entry.to_string(), str::to_owned))
                .collect()
        };
        let raw = match &parsed {
            Some(object) if object.get("errors").is_some() => None,
            _ => Some(String::from_utf8_lossy(body).into()),
        };
        Self::Server {
            status,
            errors: list("errors"),
            warnings: list("warnings"),
            url: url.into(),
            method,
            request_id: id.map(String::into_boxed_str),
            raw,
        }
    }
}

struct ServerText<'a> {
    status: u16,
    errors: &'a [String],
    raw: Option<&'a str>,
    url: &'a str,
    method: &'a str,
}

impl fmt::Display for ServerText<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Error making API request.\n\nURL: {} {}\nCode: {}. ", self.method, self.url, self.status)?;
        match self.raw {
            Some(raw) => write!(out, "Raw Message:\n\n{raw}"),
            None => {
                write!(out, "Errors:\n\n")?;
                for (index, error) in self.errors.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(out, "{separator}* {error}")?;
                }
                Ok(())
            }
        }
    }
}
