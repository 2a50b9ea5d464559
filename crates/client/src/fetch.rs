//! A text from elsewhere than the server: without its token, headers or certificates.
//!
//! Deliberately absent: redirects, and anything that is long.

use std::time::Duration;

use crate::connection::describe;
use crate::error::ClientError;

/// The longest text that is read.
const BYTES_MAX: usize = 512 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches a text.
///
/// # Errors
/// When the address is no `https://` or `http://` one, when nobody answers, or when the answer is none.
pub async fn fetch_text(address: &str) -> Result<String, ClientError> {
    let failed = |error: reqwest::Error| ClientError::local(told(&error.without_url()));
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
    let client = builder.user_agent(concat!("tresor/", env!("CARGO_PKG_VERSION"))).build().map_err(failed)?;
    let mut response = client.get(address).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(ClientError::local(format!("it answered {}", response.status())));
    }
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&part);
        if bytes.len() > BYTES_MAX {
            return Err(ClientError::local("the answer is too long"));
        }
    }
    String::from_utf8(bytes).map_err(|_| ClientError::local("the answer is no text"))
}

/// What went wrong, and why: the outermost says but that something did.
fn told(error: &reqwest::Error) -> String {
    let (what, why) = (error.to_string(), describe(error));
    match (error.is_timeout(), what == why) {
        (true, _) => format!("nobody answered within {} seconds", TIMEOUT.as_secs()),
        (false, true) => what,
        (false, false) => format!("{what}: {why}"),
    }
}
