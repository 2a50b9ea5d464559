//! A fake of another server's transit engine, with a key `unseal` at `transit/`, over HTTP.
//!
//! What it seals is a number, and it remembers what for, with the data that it was bound to. It ends with the program that
//! started it. Deliberately absent: cryptography.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::fake::{self, Asked};

/// The fake.
pub struct FakeTransit {
    port: AtomicU16,
    token: String,
    is_sealed: AtomicBool,
    version: AtomicU32,
    renewals: AtomicU32,
    /// Plaintext and associated data of what it sealed.
    kept: Mutex<Vec<(String, String)>>,
}

impl FakeTransit {
    /// Starts one that takes this token.
    ///
    /// # Errors
    /// Text, when it cannot listen.
    pub fn start(token: &str) -> Result<Arc<Self>, String> {
        let fake = Arc::new(Self {
            port: AtomicU16::new(0),
            token: token.to_owned(),
            is_sealed: AtomicBool::new(false),
            version: AtomicU32::new(1),
            renewals: AtomicU32::new(0),
            kept: Mutex::default(),
        });
        let serving = Arc::clone(&fake);
        fake.port.store(fake::serve(move |asked| serving.serve(asked))?, Ordering::SeqCst);
        Ok(fake)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.load(Ordering::SeqCst))
    }

    /// Whether it answers from now on only that it is sealed.
    pub fn seal(&self, is_sealed: bool) {
        self.is_sealed.store(is_sealed, Ordering::SeqCst);
    }

    /// Another version of its key seals from now on.
    pub fn rotate(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// How often its token was renewed.
    #[must_use]
    pub fn renewals(&self) -> u32 {
        self.renewals.load(Ordering::SeqCst)
    }

    /// What it sealed, in base64.
    #[must_use]
    pub fn plaintexts(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|(plaintext, _)| plaintext.clone()).collect()
    }

    fn serve(&self, asked: &Asked) -> (u16, Value) {
        let body = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
        if self.is_sealed.load(Ordering::SeqCst) {
            (503, json!({ "errors": ["Vault is sealed"] }))
        } else if asked.header("x-vault-token") == self.token {
            self.answer(&asked.path, &body)
        } else {
            (403, json!({ "errors": ["permission denied"] }))
        }
    }

    fn answer(&self, path: &str, body: &Value) -> (u16, Value) {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match path {
            "/v1/transit/encrypt/unseal" => {
                kept.push((text("plaintext"), text("associated_data")));
                let version = self.version.load(Ordering::SeqCst);
                (200, json!({ "data": { "ciphertext": format!("vault:v{version}:{}", kept.len()) } }))
            }
            "/v1/transit/decrypt/unseal" => {
                let ciphertext = text("ciphertext");
                let number = ciphertext.rsplit(':').next().and_then(|number| number.parse::<usize>().ok());
                let found = number.and_then(|number| kept.get(number.checked_sub(1)?));
                match found.filter(|(_, bound)| *bound == text("associated_data")) {
                    Some((plaintext, _)) => (200, json!({ "data": { "plaintext": plaintext } })),
                    None => (400, json!({ "errors": ["cipher: message authentication failed"] })),
                }
            }
            "/v1/auth/token/renew-self" => {
                self.renewals.fetch_add(1, Ordering::SeqCst);
                (200, json!({ "auth": { "lease_duration": 3600, "renewable": true } }))
            }
            _ => (404, json!({ "errors": [] })),
        }
    }
}
