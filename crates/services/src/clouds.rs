//! Fakes of the key management services of Alibaba's and Oracle's clouds, over HTTP.
//!
//! Each verifies what signs a request by OpenSSL, as its documentation says that it is made, and refuses what is not signed so, is
//! old, or came before. What it seals is a number, and it remembers what for. They end with the program that started them.
//! Deliberately absent: cryptography of keys.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fake::{self, Asked};
use crate::process::Home;

/// What a fake has sealed: the plaintext, and what it was bound to.
#[derive(Default)]
struct Kept {
    sealed: Vec<(String, Value)>,
    /// What may be used only once.
    seen: Vec<String>,
}

impl Kept {
    fn seal(&mut self, plaintext: &str, bound_to: Value) -> String {
        self.sealed.push((plaintext.to_owned(), bound_to));
        STANDARD.encode(self.sealed.len().to_string())
    }

    fn open(&self, ciphertext: &str, bound_to: &Value) -> Option<&str> {
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
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(input).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Whether a time is one of these minutes, as the program `date` understands it.
fn is_now(text: &str) -> bool {
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

/// A fake of Oracle's service, with one key, and a user who has a key for signing.
pub struct FakeOciKms {
    port: u16,
    home: Arc<Home>,
}

/// The id of the key of [`FakeOciKms`].
pub const OCI_KEY: &str = "ocid1.key.oc1.iad.afnxza26aag4s.abzwkljsbapzb2nrha5nt3s7s7p42ctcrcj72vn3kq5qx";
/// Who may sign, and by which key.
const OCI_SIGNER: &str = "ocid1.tenancy.oc1..t/ocid1.user.oc1..u/20:3b:97:13:55:1c:5b:0d:d3:37:d8:50:4e:c5:3a:34";
/// What has to be signed, in this order.
const OCI_SIGNED: &str = "date (request-target) host content-length content-type x-content-sha256";

impl FakeOciKms {
    /// Starts one.
    ///
    /// # Errors
    /// Text, when it cannot listen or make its user's key.
    pub fn start() -> Result<Self, String> {
        let home = Arc::new(Home::of_ours()?);
        let (key, public) = (home.path().join("key.pem"), home.path().join("public.pem"));
        let (key, public) = (key.display().to_string(), public.display().to_string());
        let made = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &key];
        openssl(&made, b"").ok_or("openssl genpkey")?;
        openssl(&["pkey", "-in", &key, "-pubout", "-out", &public], b"").ok_or("openssl pkey")?;
        let (tenancy_and_user, fingerprint) = OCI_SIGNER.rsplit_once('/').unwrap_or_default();
        let (tenancy, user) = tenancy_and_user.split_once('/').unwrap_or_default();
        let text = format!(
            "[DEFAULT]\nuser={user}\nfingerprint={fingerprint}\nkey_file={key}\ntenancy={tenancy}\nregion=us-ashburn-1\n"
        );
        home.write("config", &text)?;
        let (kept, files) = (Mutex::new(Kept::default()), Arc::clone(&home));
        let port = fake::serve(move |asked| {
            oci(asked, &mut kept.lock().unwrap_or_else(PoisonError::into_inner), files.path())
        })?;
        Ok(Self { port, home })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The file that says who its user is.
    #[must_use]
    pub fn config(&self) -> std::path::PathBuf {
        self.home.path().join("config")
    }

    /// Writes the user's key in the form of older tools.
    ///
    /// # Errors
    /// Text, when that does not work.
    pub fn write_key_as_pkcs1(&self) -> Result<(), String> {
        let key = self.home.path().join("key.pem").display().to_string();
        let pem = openssl(&["rsa", "-in", &key, "-traditional"], b"").ok_or("openssl rsa")?;
        std::fs::write(&key, pem).map_err(|error| error.to_string())
    }
}

fn oci(asked: &Asked, kept: &mut Kept, files: &Path) -> (u16, Value) {
    let refused = |status: u16, code: &str| {
        (status, json!({ "code": code, "message": format!("The request was refused: {code}") }))
    };
    let authorization = asked.header("authorization");
    let part = |name: &str| {
        let after = authorization.split_once(&format!("{name}=\"")).map(|(_, after)| after);
        after.and_then(|after| after.split_once('"')).map_or("", |(value, _)| value)
    };
    let is_fixed = authorization.starts_with("Signature ")
        && [("version", "1"), ("algorithm", "rsa-sha256"), ("keyId", OCI_SIGNER), ("headers", OCI_SIGNED)]
            .into_iter()
            .all(|(name, value)| part(name) == value);
    let lines: Vec<String> = OCI_SIGNED
        .split(' ')
        .map(|name| match name {
            "(request-target)" => format!("{name}: {} {}", asked.method.to_lowercase(), asked.path),
            name => format!("{name}: {}", asked.header(name)),
        })
        .collect();
    let signature = STANDARD.decode(part("signature")).unwrap_or_default();
    let written = std::fs::write(files.join("signature"), signature).is_ok();
    let (public, signature) = (files.join("public.pem"), files.join("signature"));
    let (public, signature) = (public.display().to_string(), signature.display().to_string());
    let verify = ["dgst", "-sha256", "-verify", &public, "-signature", &signature];
    if !is_fixed || !written || openssl(&verify, lines.join("\n").as_bytes()).is_none() {
        return refused(401, "NotAuthenticated");
    }
    let hash = openssl(&["dgst", "-sha256", "-binary"], &asked.body).map(|hash| STANDARD.encode(hash));
    if hash.as_deref() != Some(asked.header("x-content-sha256")) || !is_now(asked.header("date")) {
        return refused(401, "NotAuthenticated");
    }
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let bound_to = body.get("associatedData").cloned().unwrap_or(Value::Null);
    if text("keyId") != OCI_KEY {
        return refused(404, "NotAuthorizedOrNotFound");
    }
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/20180608/encrypt") => {
            let ciphertext = kept.seal(text("plaintext"), bound_to);
            (200, json!({ "ciphertext": ciphertext, "keyId": OCI_KEY, "keyVersionId": "ocid1.keyversion.oc1.iad.v1" }))
        }
        ("POST", "/20180608/decrypt") => match kept.open(text("ciphertext"), &bound_to) {
            Some(plaintext) => (200, json!({ "plaintext": plaintext, "keyId": OCI_KEY })),
            None => refused(400, "InvalidParameter"),
        },
        _ => refused(404, "NotFound"),
    }
}
