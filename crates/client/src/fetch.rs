//! A text from elsewhere than the server: without its token, headers or certificates.
//!
//! Deliberately absent: redirects, and anything that is long.

use std::time::Duration;

use crate::error::ClientError;

/// The longest text that is read.
const BYTES_MAX: usize = 512 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches a text.
///
/// # Errors
/// When the address is no `https://` or `http://` one, when nobody answers, or when the answer is none.
pub async fn fetch_text(address: &str) -> Result<String, ClientError> {
    let failed = |error: reqwest::Error| ClientError::local(error.without_url().to_string());
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
