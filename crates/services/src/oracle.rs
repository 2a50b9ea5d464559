//! A fake of the key management service of Oracle's cloud, over HTTP; with what tells a machine there who it is, and gives it tokens.
//!
//! It verifies what signs a request by OpenSSL, as the documentation says that it is made, and refuses what is not signed so or is
//! old. What it seals is a number, and it remembers what for. It ends with the program that started it. Deliberately absent:
//! cryptography of keys, and whom certificates are of.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::clouds::{Kept, is_now, openssl};
use crate::fake::{self, Asked};
use crate::process::Home;

/// A fake of Oracle's service, with one key, a user who has a key for signing, and a machine that has one with a certificate.
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
/// The same of who asks for a token.
const OCI_SIGNED_BY_MACHINES: &str = "date (request-target) content-length content-type x-content-sha256";
/// What is below the metadata of a machine.
const OF_MACHINE: &str = "/opc/v2/";
/// The subject of a machine's certificate, whose tenancy is that of the user.
const MACHINE: &str = "/OU=opc-certtype:instance/CN=ocid1.instance.oc1.iad.i/OU=opc-tenant:ocid1.tenancy.oc1..t";

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
        make_machine(home.path())?;
        let (kept, files) = (Mutex::new(Oracle::default()), Arc::clone(&home));
        let port = fake::serve(move |asked| {
            oci(asked, &mut kept.lock().unwrap_or_else(PoisonError::into_inner), files.path())
        })?;
        Ok(Self { port, home })
    }

    /// Where the machine is told who it is.
    #[must_use]
    pub fn metadata(&self) -> String {
        format!("{}{}", self.address(), OF_MACHINE.trim_end_matches('/'))
    }

    /// The machine's private key.
    ///
    /// # Errors
    /// Text, when it cannot be read.
    pub fn machine_key(&self) -> Result<String, String> {
        std::fs::read_to_string(self.home.path().join("machine.key")).map_err(|error| error.to_string())
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

/// What the fake remembers.
#[derive(Default)]
struct Oracle {
    kept: Kept,
    /// The token that it gave last.
    token: Option<String>,
}

/// Makes the key and the certificate of a machine, the key in the form that the cloud gives it in.
fn make_machine(files: &Path) -> Result<(), String> {
    let at = |name: &str| files.join(name).display().to_string();
    let (key, certificate, public) = (at("machine.key"), at("machine.pem"), at("machine-public.pem"));
    let made =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &certificate, "-subj", MACHINE];
    openssl(&made, b"").ok_or("openssl req")?;
    openssl(&["pkey", "-in", &key, "-pubout", "-out", &public], b"").ok_or("openssl pkey")?;
    let pem = openssl(&["rsa", "-in", &key, "-traditional"], b"").ok_or("openssl rsa")?;
    std::fs::write(&key, pem).map_err(|error| error.to_string())
}

/// What the machine's metadata says.
fn metadata(asked: &Asked, path: &str, files: &Path) -> (u16, Value) {
    if asked.method != "GET" || asked.header("authorization") != "Bearer Oracle" {
        return (403, json!("forbidden"));
    }
    let file = match path {
        "instance/regionInfo" => {
            let said = json!({ "regionIdentifier": "us-ashburn-1", "realmDomainComponent": "oraclecloud.com" });
            return (200, said);
        }
        "identity/cert.pem" | "identity/intermediate.pem" => "machine.pem",
        "identity/key.pem" => "machine.key",
        _ => return (404, json!("not found")),
    };
    match std::fs::read_to_string(files.join(file)) {
        Ok(text) => (200, json!(text)),
        Err(error) => (500, json!(error.to_string())),
    }
}

/// The base64 of a certificate, and its fingerprint as requests name it.
fn certificate(files: &Path) -> Option<(String, String)> {
    let path = files.join("machine.pem").display().to_string();
    let der = openssl(&["x509", "-in", &path, "-outform", "DER"], b"")?;
    let hash = openssl(&["dgst", "-sha256", "-binary"], &der)?;
    let hash: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Some((STANDARD.encode(der), hash.join(":")))
}

/// Gives the machine a token for a key of its own.
fn token(asked: &Asked, oracle: &mut Oracle, files: &Path) -> (u16, Value) {
    let refused = (401, json!({ "code": "NotAuthenticated", "message": "The machine is not known" }));
    let Some((der, fingerprint)) = certificate(files) else { return refused };
    let signer = format!("ocid1.tenancy.oc1..t/fed-x509-sha256/{fingerprint}");
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or(Value::Null);
    let is_asked_so = body["certificate"] == json!(der)
        && body["intermediateCertificates"] == json!([der])
        && body["fingerprintAlgorithm"] == json!("SHA256");
    if !is_asked_so || !is_signed(asked, &signer, OCI_SIGNED_BY_MACHINES, "machine-public.pem", files) {
        return refused;
    }
    let key = STANDARD.decode(body["publicKey"].as_str().unwrap_or_default()).unwrap_or_default();
    let public = files.join("session-public.pem").display().to_string();
    if openssl(&["pkey", "-pubin", "-inform", "DER", "-pubout", "-out", &public], &key).is_none() {
        return refused;
    }
    let hash = openssl(&["dgst", "-sha256", "-binary"], &key).unwrap_or_default();
    let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": 4_000_000_000_i64 }).to_string());
    let made = format!("e30.{claims}.{}", URL_SAFE_NO_PAD.encode(hash));
    oracle.token = Some(made.clone());
    (200, json!({ "token": made }))
}

/// Whether a request is signed now by who has the key in a file, and says so.
fn is_signed(asked: &Asked, signer: &str, signed: &str, public: &str, files: &Path) -> bool {
    let authorization = asked.header("authorization");
    let part = |name: &str| {
        let after = authorization.split_once(&format!("{name}=\"")).map(|(_, after)| after);
        after.and_then(|after| after.split_once('"')).map_or("", |(value, _)| value)
    };
    let is_fixed = authorization.starts_with("Signature ")
        && [("version", "1"), ("algorithm", "rsa-sha256"), ("keyId", signer), ("headers", signed)]
            .into_iter()
            .all(|(name, value)| part(name) == value);
    let lines: Vec<String> = signed
        .split(' ')
        .map(|name| match name {
            "(request-target)" => format!("{name}: {} {}", asked.method.to_lowercase(), asked.path),
            name => format!("{name}: {}", asked.header(name)),
        })
        .collect();
    let signature = STANDARD.decode(part("signature")).unwrap_or_default();
    let written = std::fs::write(files.join("signature"), signature).is_ok();
    let (public, signature) = (files.join(public), files.join("signature"));
    let (public, signature) = (public.display().to_string(), signature.display().to_string());
    let verify = ["dgst", "-sha256", "-verify", &public, "-signature", &signature];
    let hash = openssl(&["dgst", "-sha256", "-binary"], &asked.body).map(|hash| STANDARD.encode(hash));
    is_fixed
        && written
        && openssl(&verify, lines.join("\n").as_bytes()).is_some()
        && hash.as_deref() == Some(asked.header("x-content-sha256"))
        && is_now(asked.header("date"))
}

fn oci(asked: &Asked, oracle: &mut Oracle, files: &Path) -> (u16, Value) {
    if let Some(path) = asked.path.strip_prefix(OF_MACHINE) {
        return metadata(asked, path, files);
    }
    if asked.path == "/v1/x509" {
        return token(asked, oracle, files);
    }
    let refused = |status: u16, code: &str| {
        (status, json!({ "code": code, "message": format!("The request was refused: {code}") }))
    };
    let machine = oracle.token.as_ref().map(|token| format!("ST${token}"));
    let is_user = is_signed(asked, OCI_SIGNER, OCI_SIGNED, "public.pem", files);
    let is_machine = || machine.is_some_and(|id| is_signed(asked, &id, OCI_SIGNED, "session-public.pem", files));
    if !is_user && !is_machine() {
        return refused(401, "NotAuthenticated");
    }
    let kept = &mut oracle.kept;
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
