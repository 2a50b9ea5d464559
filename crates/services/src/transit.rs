//! A fake of another server's transit engine, with a key `unseal` at `transit/`, over HTTP.
//!
//! What it seals is a number, and it remembers what for, with the data that it was bound to. It ends with the program that
//! started it. Deliberately absent: cryptography.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

/// The fake.
pub struct FakeTransit {
    port: u16,
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
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let fake = Arc::new(Self {
            port: listener.local_addr().map_err(|error| error.to_string())?.port(),
            token: token.to_owned(),
            is_sealed: AtomicBool::new(false),
            version: AtomicU32::new(1),
            renewals: AtomicU32::new(0),
            kept: Mutex::default(),
        });
        let serving = Arc::clone(&fake);
        drop(thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = Arc::clone(&serving);
                drop(thread::spawn(move || serving.serve(BufReader::new(stream))));
            }
        }));
        Ok(fake)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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

    fn serve(&self, mut reader: BufReader<TcpStream>) {
        loop {
            let (mut first, mut token, mut length) = (String::new(), String::new(), 0);
            if reader.read_line(&mut first).is_err() || first.is_empty() {
                return;
            }
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.trim_end().is_empty() {
                    break;
                }
                match line.trim_end().split_once(": ") {
                    Some(("x-vault-token", value)) => value.clone_into(&mut token),
                    Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (status, answer) = if self.is_sealed.load(Ordering::SeqCst) {
                (503, json!({ "errors": ["Vault is sealed"] }))
            } else if token == self.token {
                self.answer(first.split(' ').nth(1).unwrap_or_default(), &body)
            } else {
                (403, json!({ "errors": ["permission denied"] }))
            };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
            if reader.get_mut().write_all(format!("{head}{answer}").as_bytes()).is_err() {
                return;
            }
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
