//! Whether a page of another site may ask through its reader's browser.
//!
//! Deliberately absent: who says which origins may, and how HTTP says so.

/// What is said of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything about origins: the request is like any other, and its browser keeps the answer from the page.
    NotAsked,
    /// It may ask.
    Allowed {
        /// With these headers.
        headers: Vec<String>,
        /// With what the browser keeps for this server.
        with_credentials: bool,
    },
    /// It may not.
    Refused,
}

/// The headers of the API itself.
const OWN_HEADERS: [&str; 10] = [
    "Content-Type",
    "Authorization",
    "X-Vault-Token",
    "X-Vault-MFA",
    "X-Vault-No-Request-Forwarding",
    "X-Vault-Wrap-Format",
    "X-Vault-Wrap-TTL",
    "X-Requested-With",
    "X-Vault-AWS-IAM-Server-ID",
    "X-Vault-Policy-Override",
];

/// Which origins may ask.
#[derive(Clone, Copy, Debug)]
pub struct Origins<'o> {
    /// The origins; `*` alone is every one.
    pub allowed: &'o [String],
    /// Headers that they may send beside those that the API itself has.
    pub headers: &'o [String],
    /// Whether browsers may send along what they keep for this server.
    pub with_credentials: bool,
}

impl Origins<'_> {
    /// What is said of one.
    #[must_use]
    pub fn judge(self, origin: &str) -> Origin {
        if !self.allowed.iter().any(|allowed| allowed == "*" || allowed == origin) {
            return Origin::Refused;
        }
        Origin::Allowed { headers: self.all_headers(), with_credentials: self.with_credentials }
    }

    /// All headers that may be sent.
    #[must_use]
    pub fn all_headers(self) -> Vec<String> {
        OWN_HEADERS.iter().map(|header| (*header).to_owned()).chain(self.headers.iter().cloned()).collect()
    }
}
