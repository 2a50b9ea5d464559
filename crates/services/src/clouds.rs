//! A fake of the key management service of Alibaba's cloud, over HTTP; and what it has in common with [that of Oracle's](crate::oracle).
//!
//! Each verifies what signs a request by OpenSSL, as its documentation says that it is made, and refuses what is not signed so, is
//! old, or came before. What it seals is a number, and it remembers what for. They end with the program that started them.
//! Deliberately absent: cryptography of keys.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fake::{self, Asked};

/// What a fake has sealed: the plaintext, and what it was bound to.
#[derive(Default)]
pub(crate) struct Kept {
    sealed: Vec<(String, Value)>,
    /// What may be used only once.
    seen: Vec<String>,
}

impl Kept {
    pub(crate) fn seal(&mut self, plaintext: &str, bound_to: Value) -> String {
        self.sealed.push((plaintext.to_owned(), bound_to));
        STANDARD.encode(self.sealed.len().to_string())
    }

    pub(crate) fn open(&self, ciphertext: &str, bound_to: &Value) -> Option<&str> {
        let number: usize = String::from_utf8(STANDARD.decode(ciphertext).ok()?).ok()?.parse().ok()?;
        let (plaintext, bound) = self.sealed.get(number.checked_sub(1)?)?;
        (bound == bound_to).then_some(plaintext.as_str())
    }

    /// Whether it was not seen before.
    fn is_new(&mut self, text: &str) -> bool {
        let is_new = !text.is_empty() && !self.seen.iter().any(|seen| seen == text);
        self.seen.push(text.to_owned());
        is_new
    }
}

/// What OpenSSL makes of something.
pub(crate) fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(input).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Whether a time is one of these minutes, as the program `date` understands it.
pub(crate) fn is_now(text: &str) -> bool {
    let seconds = |arguments: &[&str]| -> Option<i64> {
        let output = Command::new("date").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    match (seconds(&["-d", text, "+%s"]), seconds(&["+%s"])) {
        (Some(then), Some(now)) => (then - now).abs() < 300,
        _ => false,
    }
}

/// A fake of Alibaba's service, with one key.
pub struct FakeAliCloudKms {
    port: u16,
}

/// The id of the key of [`FakeAliCloudKms`].
pub const ALICLOUD_KEY: &str = "08c33a6f-4e0a-4a1b-a3fa-7ddfa1d4fb73";

impl FakeAliCloudKms {
    /// Starts one that lets in whoever has this key.
    ///
    /// # Errors
    /// Text, when it cannot listen.
    pub fn start(access_key: &str, secret_key: &str) -> Result<Self, String> {
        let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
        let kept = Mutex::new(Kept::default());
        let port = fake::serve(move |asked| {
            let kept = &mut *kept.lock().unwrap_or_else(PoisonError::into_inner);
            alicloud(asked, kept, &access_key, &secret_key)
        })?;
        Ok(Self { port })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// What a percent sign and two digits stand for.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As the documentation of the signature spells it: everything but letters, digits and `-_.~`.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn alicloud(asked: &Asked, kept: &mut Kept, access_key: &str, secret_key: &str) -> (u16, Value) {
    let refused = |status: u16, code: &str, message: &str| (status, json!({ "Code": code, "Message": message }));
    let form = String::from_utf8_lossy(&asked.body);
    let mut given: BTreeMap<String, String> =
        form.split('&').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (unescaped(a), unescaped(b))).collect();
    let signature = given.remove("Signature").unwrap_or_default();
    let is_fixed = [("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0"), ("Version", "2016-01-20")]
        .into_iter()
        .all(|(name, value)| given.get(name).is_some_and(|given| given == value));
    let text = |name: &str| given.get(name).cloned().unwrap_or_default();
    if !is_fixed || text("Format") != "JSON" || asked.path != "/" {
        return refused(400, "InvalidParameter", "The specified parameter is not valid.");
    }
    if text("AccessKeyId") != access_key {
        return refused(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.");
    }
    let pairs: Vec<String> =
        given.iter().map(|(name, value)| format!("{}={}", percent(name), percent(value))).collect();
    let to_sign = format!("{}&{}&{}", asked.method, percent("/"), percent(&pairs.join("&")));
    let hmac =
        format!("hexkey:{}", format!("{secret_key}&").bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    let expected = openssl(&["dgst", "-sha1", "-mac", "HMAC", "-macopt", &hmac, "-binary"], to_sign.as_bytes());
    if expected.map(|expected| STANDARD.encode(expected)) != Some(signature) {
        return refused(400, "SignatureDoesNotMatch", "Specified signature does not match our calculation.");
    }
    if !is_now(&text("Timestamp")) || !kept.is_new(&text("SignatureNonce")) {
        return refused(400, "SignatureNonceUsed", "Specified signature nonce was used already.");
    }
    let context = serde_json::from_str(&text("EncryptionContext")).unwrap_or(Value::Null);
    let named = json!({ "KeyId": ALICLOUD_KEY, "KeyVersionId": "v-1", "RequestId": "r" });
    let with = |name: &str, value: &str| {
        let mut answer = named.clone();
        if let Some(answer) = answer.as_object_mut() {
            drop(answer.insert(name.to_owned(), json!(value)));
        }
        (200, answer)
    };
    match text("Action").as_str() {
        "Encrypt" if text("KeyId") == ALICLOUD_KEY || text("KeyId") == "alias/unseal" => {
            with("CiphertextBlob", &kept.seal(&text("Plaintext"), context))
        }
        "Encrypt" => refused(404, "Forbidden.KeyNotFound", "The specified Key is not found."),
        "Decrypt" => match kept.open(&text("CiphertextBlob"), &context) {
            Some(plaintext) => with("Plaintext", plaintext),
            None => refused(400, "Forbidden.Ciphertext", "The specified ciphertext is not valid."),
        },
        _ => refused(400, "InvalidAction.NotFound", "Specified api is not found."),
    }
}
