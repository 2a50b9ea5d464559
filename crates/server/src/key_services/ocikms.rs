//! `seal "ocikms"`: the key management service of Oracle's cloud keeps the key.
//!
//! The slot's id goes along as associated data, so what is moved to another slot does not open. Who asks signs each request by an RSA
//! key: a user, of whom the file of Oracle's own tools says who that is, which is read each time; or the machine
//! ([`oci_machine`](super::oci_machine)). Deliberately absent: keys with a passphrase.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tresor_core::{KeyService, Sealed, SealedKey, ServiceError};
use tresor_crypto::rsa::RsaKey;
use tresor_env::outgoing::Ask;
use tresor_env::{BoxFuture, Doors};
use tresor_model::{Map, map};
use tresor_secret::DataKey;
use zeroize::Zeroizing;

use super::oci_machine::Machine;
use super::oci_signed::{Host, Signer, headers};
use super::{Answered, BOUND_TO, Reach, ciphertext, json_body, key_at, refusal, text_at};
use crate::config::{KeyPlace, OciIdentity, OciKmsConfig};

/// The version of the API.
const API: &str = "20180608";

/// The key management service of Oracle's cloud.
pub(super) struct OciKms {
    key_id: String,
    endpoint: String,
    who: Who,
    reach: Reach,
}

/// Who asks.
enum Who {
    User { file: PathBuf, profile: String, home: PathBuf },
    Machine(Machine),
}

/// The RSA key that a text is in PEM; nothing where it is none, or wants a passphrase.
pub(super) fn rsa_key(pem: &str) -> Option<RsaKey> {
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKey::from_pkcs8(der.secret_pkcs8_der()).ok(),
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKey::from_pkcs1(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// Who asks: the part of the file that counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Profile {
    user: String,
    tenancy: String,
    fingerprint: String,
    key_file: PathBuf,
}

impl Profile {
    fn parse(text: &str, name: &str) -> Result<Self, &'static str> {
        let (mut is_in, mut is_there, mut profile) = (false, false, Self::default());
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(section) = line.strip_prefix('[') {
                is_in = section.split(']').next().unwrap_or_default().trim() == name;
                is_there |= is_in;
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| is_in) else { continue };
            let value = value.trim();
            match key.trim() {
                "user" => value.clone_into(&mut profile.user),
                "tenancy" => value.clone_into(&mut profile.tenancy),
                "fingerprint" => value.clone_into(&mut profile.fingerprint),
                "key_file" => profile.key_file = PathBuf::from(value),
                "pass_phrase" => return Err("a key with a passphrase is not available"),
                _ => {}
            }
        }
        // They stand in a header, between quotes and slashes.
        let is_plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        };
        if !is_there {
            return Err("there is no such profile");
        }
        if [&profile.user, &profile.tenancy, &profile.fingerprint].into_iter().all(is_plain)
            && !profile.key_file.as_os_str().is_empty()
        {
            return Ok(profile);
        }
        Err("it lacks one of user, tenancy, fingerprint and key_file, or one of them is none")
    }
}

impl OciKms {
    pub(super) fn new(config: OciKmsConfig, doors: Doors) -> Self {
        let reach = Reach::to(&config.endpoint, doors);
        let who = match config.who {
            OciIdentity::User { file, profile, home } => Who::User { file, profile, home },
            OciIdentity::Machine { metadata, authority } => Who::Machine(Machine::new(metadata, authority)),
        };
        Self { key_id: config.key_id, endpoint: config.endpoint, who, reach }
    }

    /// A user, and by which key it signs.
    async fn user(&self, file: &Path, profile: &str, home: &Path) -> Result<(String, RsaKey), ServiceError> {
        let text = self.reach.secret(&KeyPlace::File(file.to_owned())).await?;
        let about =
            |why: &str| ServiceError::Unprepared(format!("the profile `{profile}` of `{}`: {why}", file.display()));
        let found = Profile::parse(&text, profile).map_err(about)?;
        // As Oracle's own tools have it: below who runs them.
        let key_file = match found.key_file.strip_prefix("~") {
            Ok(below) => home.join(below),
            Err(_) => found.key_file.clone(),
        };
        let pem = self.reach.secret(&KeyPlace::File(key_file.clone())).await?;
        let unusable = || about(&format!("`{}` is no RSA key in PEM without a passphrase", key_file.display()));
        let key = rsa_key(&pem).ok_or_else(unusable)?;
        Ok((format!("{}/{}/{}", found.tenancy, found.user, found.fingerprint), key))
    }

    async fn ask(&self, doing: &str, body: &Map, withheld: &[&str]) -> Result<Map, ServiceError> {
        match &self.who {
            Who::User { file, profile, home } => {
                let (id, key) = self.user(file, profile, home).await?;
                let Answered { status, body, .. } = self.ask_as(&Signer { id: &id, key: &key }, doing, body).await?;
                answered(status, body, withheld)
            }
            Who::Machine(machine) => {
                let session = machine.session(&self.reach).await?;
                let signer = Signer { id: &session.id, key: &session.key };
                let Answered { status, body, .. } = self.ask_as(&signer, doing, body).await?;
                if status == 401 {
                    machine.forget();
                }
                answered(status, body, &[withheld, &[session.id.as_str()]].concat())
            }
        }
    }

    async fn ask_as(&self, signer: &Signer<'_>, doing: &str, body: &Map) -> Result<Answered, ServiceError> {
        let (body, url) = (json_body(body), format!("{}/{API}/{doing}", self.endpoint));
        let now = self.reach.doors.clock.wall();
        let headers = headers(signer, &url, Host::Signed(&self.reach.host), &body, now)?;
        self.reach.ask(Ask::Post(body), url, headers).await
    }
}

fn answered(status: u16, body: Map, withheld: &[&str]) -> Result<Map, ServiceError> {
    if status == 200 {
        return Ok(body);
    }
    let said = format!("{} {}", body.text("code").unwrap_or_default(), body.text("message").unwrap_or_default());
    Err(refusal(status, Some(&said), withheld))
}

impl KeyService for OciKms {
    fn kind(&self) -> &'static str {
        "ocikms"
    }

    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn seal<'k>(&'k self, key: &'k [u8; 32], name: &'k str) -> BoxFuture<'k, Result<Sealed, ServiceError>> {
        Box::pin(async move {
            let plaintext = Zeroizing::new(STANDARD.encode(key));
            let body = map! {
                "keyId" => self.key_id.as_str(),
                "plaintext" => plaintext.as_str(),
                "associatedData" => map! { BOUND_TO => name },
            };
            let answer = self.ask("encrypt", &body, &[&plaintext]).await?;
            let sealed = ciphertext(text_at(&answer, &["ciphertext"]).unwrap_or_default().as_bytes().to_vec());
            let version = text_at(&answer, &["keyVersionId"]).unwrap_or_default();
            match sealed.filter(|_| version.len() <= 512) {
                Some(sealed) => Ok(Sealed { version: version.to_owned(), sealed }),
                None => Err(ServiceError::Unexpected("without a ciphertext")),
            }
        })
    }

    fn open<'k>(&'k self, sealed: &'k SealedKey) -> BoxFuture<'k, Result<DataKey, ServiceError>> {
        Box::pin(async move {
            let ciphertext = std::str::from_utf8(&sealed.sealed);
            let ciphertext = ciphertext.map_err(|_| ServiceError::Unprepared("the key slot is damaged".to_owned()))?;
            // By the key that sealed it, whichever is configured by then.
            let body = map! {
                "keyId" => sealed.key_id.as_str(),
                "ciphertext" => ciphertext,
                "associatedData" => map! { BOUND_TO => sealed.slot.as_str() },
            };
            let answer = self.ask("decrypt", &body, &[]).await?;
            key_at(&answer, &["plaintext"])
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use serde_json::{Value, json};
    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::OutgoingError;

    use super::*;

    const PROFILE: &str = "[OTHER]\nuser=x\n\n[DEFAULT]\n# a comment\nuser = ocid1.user.oc1..u\nfingerprint=20:3b\ntenancy=ocid1.t\n\
                           region=us-ashburn-1\nkey_file=";

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A user with a key, in a folder.
    fn oracle(doors: &TestDoors, folder: &Path) -> OciKms {
        let (file, key) = (folder.join("config"), folder.join("key.pem"));
        write(&key, &rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem());
        write(&file, &format!("{PROFILE}{}\n", key.display()));
        let config = OciKmsConfig {
            key_id: "ocid1.key".to_owned(),
            endpoint: "https://kms.example".to_owned(),
            who: OciIdentity::User { file, profile: "DEFAULT".to_owned(), home: folder.to_owned() },
        };
        OciKms::new(config, doors.doors.clone())
    }

    fn stored(sealed: &[u8]) -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "ocikms", "ocid1.before", "v"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: sealed.to_vec() }
    }

    /// A fake of Oracle's servers, which answers as it is told; signatures are verified by the one of the binary's tests.
    fn fake_oracle(doors: &TestDoors, answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
        doors.outgoing.answer(move |request| {
            let Ask::Post(body) = &request.ask else { return Err(OutgoingError::Unsendable) };
            let (_, authorization) = request.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
            let expected = "Signature version=\"1\",keyId=\"ocid1.t/ocid1.user.oc1..u/20:3b\",algorithm=\"rsa-sha256\",headers=\"date (request-target) host content-length content-type x-content-sha256\",";
            assert!(authorization.starts_with(expected), "{}", authorization.as_str());
            let doing = request.url.strip_prefix("https://kms.example/20180608/").unwrap();
            let body: Value = serde_json::from_slice(body).unwrap();
            let (status, said) = answer(doing, &body);
            Ok((status, said.to_string().into_bytes()))
        });
    }

    #[tokio::test]
    async fn a_key_is_sealed_and_opened_by_oracle_as_a_user() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        fake_oracle(&doors, |doing, body| {
            assert_eq!(body["associatedData"], json!({ BOUND_TO: "s1" }));
            if doing == "encrypt" {
                assert_eq!(
                    (&body["keyId"], &body["plaintext"]),
                    (&json!("ocid1.key"), &json!(STANDARD.encode([9; 32])))
                );
                (200, json!({ "ciphertext": "made", "keyVersionId": "v1" }))
            } else {
                assert_eq!(
                    (doing, &body["keyId"], &body["ciphertext"]),
                    ("decrypt", &json!("ocid1.before"), &json!("made"))
                );
                (200, json!({ "plaintext": STANDARD.encode([9; 32]) }))
            }
        });
        let oracle = oracle(&doors, folder.path());
        let made = oracle.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
        assert_eq!((made.version.as_str(), made.sealed.as_slice()), ("v1", b"made".as_slice()));
        let opened = oracle.open(&stored(&made.sealed)).await.map_err(|error| error.to_string()).unwrap();
        assert!(opened.is_same(&DataKey::new([9; 32])));
    }

    #[tokio::test]
    async fn sea_01_what_oracle_refuses_or_answers_amiss_is_an_error_that_shows_no_secret() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let oracle = oracle(&doors, folder.path());
        let plaintext = STANDARD.encode([9; 32]);
        for (status, said, words) in [
            (
                401,
                json!({ "code": "NotAuthenticated", "message": "no" }),
                "it refuses: status 401, NotAuthenticated no",
            ),
            (429, json!({ "code": "TooManyRequests" }), "it does not answer: status 429, TooManyRequests"),
            (500, json!("nonsense"), "it does not answer: status 500"),
            (400, json!({ "message": format!("no {plaintext}") }), "it refuses: status 400"),
            (200, json!({}), "it answered without a ciphertext"),
            (200, json!({ "ciphertext": "" }), "it answered without a ciphertext"),
        ] {
            fake_oracle(&doors, move |_, _| (status, said.clone()));
            assert_eq!(oracle.seal(&[9; 32], "s1").await.err().unwrap().to_string(), words);
        }
        for said in [json!({}), json!({ "plaintext": "!" }), json!({ "plaintext": "AAAA" })] {
            fake_oracle(&doors, move |_, _| (200, said.clone()));
            let error = oracle.open(&stored(b"made")).await.err().unwrap().to_string();
            assert_eq!(error, "it answered with something that is no key");
        }
    }

    #[tokio::test]
    async fn a_file_that_says_not_who_asks_is_told_by_name() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let oracle = oracle(&doors, folder.path());
        let (file, key) = (folder.path().join("config"), folder.path().join("key.pem"));
        let good = format!("{PROFILE}{}\n", key.display());
        for (text, words) in [
            (good.replace("[DEFAULT]", "[ELSE]"), "there is no such profile"),
            (good.replace("tenancy", "tenant"), "it lacks one of user, tenancy"),
            (good.replace("ocid1.t\n", "a\"b\n"), "it lacks one of user, tenancy"),
            (format!("{good}pass_phrase=canary\n"), "a key with a passphrase is not available"),
            (good.replace("key.pem", "nowhere.pem"), "nowhere.pem cannot be read"),
            (good.replace("key.pem", "config"), "is no RSA key in PEM"),
        ] {
            write(&file, &text);
            let error = oracle.seal(&[9; 32], "s1").await.err().unwrap().to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{words}: {error}");
        }
        write(&file, &good.replace(&key.display().to_string(), "~/key.pem"));
        fake_oracle(&doors, |_, _| (200, json!({ "ciphertext": "made", "keyVersionId": "v1" })));
        assert!(oracle.seal(&[9; 32], "s1").await.is_ok());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = oracle.seal(&[9; 32], "s1").await.err().unwrap().to_string();
        assert!(error.contains("has the mode 0644"), "{error}");
    }
}
