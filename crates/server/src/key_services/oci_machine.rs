//! A machine of Oracle's cloud as somebody who asks: its metadata gives it a certificate and a key, by which it has a key that it made
//! itself certified by a token, which ends; requests are signed by that key.
//!
//! The key of the session is never stored, nor shown; it and its token are kept until shortly before the token ends. Deliberately
//! absent: principals of containers and functions, and whether the certificate is to be believed, which the cloud knows itself.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tresor_core::ServiceError;
use tresor_crypto::certificate::subject_texts;
use tresor_crypto::hash::sha256;
use tresor_crypto::rsa::RsaKey;
use tresor_env::outgoing::{Ask, OutgoingRequest};
use tresor_env::tasks::run_blocking;
use tresor_model::{Body, map};
use tresor_wire::json::{self, JsonLimits};
use zeroize::Zeroizing;

use super::oci_signed::{Host, Signer, headers};
use super::ocikms::rsa_key;
use super::{Answered, BODY_BYTES_MAX, Reach, TIME_MAX, json_body, refusal, text_at};

/// What the metadata wants to hear, so that nobody asks it by accident.
const ADMISSION: &str = "Bearer Oracle";
/// So many seconds before a token ends there is another one.
const MARGIN_SECONDS: i64 = 300;
/// The longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// What stands before the id of the tenancy in a certificate.
const TENANCY: [&str; 2] = ["opc-tenant:", "opc-identity:"];

/// A machine.
pub(super) struct Machine {
    metadata: String,
    authority: Option<String>,
    kept: Mutex<Option<Arc<Session>>>,
}

/// By whom a machine asks for a while.
pub(super) struct Session {
    /// The token, as services know it.
    pub(super) id: Zeroizing<String>,
    pub(super) key: RsaKey,
    /// When it ends, in seconds.
    ends: i64,
}

fn untold(why: &str) -> ServiceError {
    ServiceError::Unanswered(format!("who tells this machine who it is in Oracle's cloud: {why}"))
}

impl Machine {
    pub(super) const fn new(metadata: String, authority: Option<String>) -> Self {
        Self { metadata, authority, kept: Mutex::new(None) }
    }

    /// The session of now.
    pub(super) async fn session(&self, reach: &Reach) -> Result<Arc<Session>, ServiceError> {
        let now = reach.doors.clock.wall().seconds();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = kept.filter(|session| session.ends.saturating_sub(MARGIN_SECONDS) > now) {
            return Ok(session);
        }
        let session = Arc::new(self.begin(reach).await?);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Ends a session that is believed no more.
    pub(super) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the metadata says.
    async fn told(&self, reach: &Reach, path: &str) -> Result<Zeroizing<String>, ServiceError> {
        let request = OutgoingRequest {
            ask: Ask::Get,
            url: format!("{}/{path}", self.metadata),
            headers: vec![(Cow::Borrowed("authorization"), Zeroizing::new(ADMISSION.to_owned()))],
            time_max: TIME_MAX,
            body_bytes_max: BODY_BYTES_MAX,
        };
        let answer = reach.doors.outgoing.ask(request).await.map_err(|error| untold(&error.to_string()))?;
        if answer.status != 200 {
            return Err(untold(&format!("status {} to {path}", answer.status)));
        }
        let text = std::str::from_utf8(&answer.body).map_err(|_| untold(&format!("{path} is no text")))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Where tokens are given: in the region of the machine.
    async fn authority(&self, reach: &Reach) -> Result<String, ServiceError> {
        if let Some(authority) = &self.authority {
            return Ok(authority.clone());
        }
        let said = self.told(reach, "instance/regionInfo").await?;
        let said = json::decode(said.as_bytes(), &JsonLimits::default()).unwrap_or_default();
        let part = |name| {
            let is_name = |text: &&str| {
                !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            };
            said.text(name).filter(is_name)
        };
        match (part("regionIdentifier"), part("realmDomainComponent")) {
            (Some(region), Some(domain)) => Ok(format!("https://auth.{region}.{domain}")),
            _ => Err(untold("instance/regionInfo names no region")),
        }
    }

    async fn begin(&self, reach: &Reach) -> Result<Session, ServiceError> {
        let authority = self.authority(reach).await?;
        let (leaf, key) = (self.told(reach, "identity/cert.pem").await?, self.told(reach, "identity/key.pem").await?);
        let between = self.told(reach, "identity/intermediate.pem").await?;
        let leaf = CertificateDer::from_pem_slice(leaf.as_bytes());
        let leaf = leaf.map_err(|_| untold("identity/cert.pem is no certificate in PEM"))?;
        let between: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(between.as_bytes()).collect();
        let between = between.map_err(|_| untold("identity/intermediate.pem is no certificate in PEM"))?;
        let key = rsa_key(&key).ok_or_else(|| untold("identity/key.pem is no RSA key in PEM without a passphrase"))?;
        let id = who(&leaf).ok_or_else(|| untold("identity/cert.pem names no tenancy"))?;

        let made = run_blocking(&*reach.doors.workers, RsaKey::generate).await;
        let made = made.map_err(|panicked| ServiceError::Unprepared(panicked.to_string()))?;
        let unmade = |error: tresor_crypto::rsa::NotRsa| ServiceError::Unprepared(error.to_string());
        let session_key = made.map_err(unmade)?;
        let between = between.iter().map(|certificate| Body::from(STANDARD.encode(certificate))).collect();
        let body = json_body(&map! {
            "certificate" => STANDARD.encode(&leaf),
            "publicKey" => STANDARD.encode(session_key.public().map_err(unmade)?),
            "intermediateCertificates" => Body::List(between),
            "fingerprintAlgorithm" => "SHA256",
        });
        let url = format!("{authority}/v1/x509");
        let now = reach.doors.clock.wall();
        let headers = headers(&Signer { id: &id, key: &key }, &url, Host::Unsigned, &body, now)?;
        let Answered { status, body, .. } = reach.ask(Ask::Post(body), url, headers).await?;
        if status != 200 {
            let said = format!(
                "{} {}",
                text_at(&body, &["code"]).unwrap_or_default(),
                text_at(&body, &["message"]).unwrap_or_default()
            );
            return Err(match refusal(status, Some(&said), &[]) {
                ServiceError::Refused(text) => ServiceError::Refused(format!("no token for this machine: {text}")),
                other => other,
            });
        }
        let token = text_at(&body, &["token"]).unwrap_or_default();
        let ends = end(token).ok_or(ServiceError::Unexpected("this machine with something that is no token"))?;
        Ok(Session { id: Zeroizing::new(format!("ST${token}")), key: session_key, ends })
    }
}

/// As whom a machine asks for a token.
fn who(certificate: &[u8]) -> Option<String> {
    let texts = subject_texts(certificate)?;
    let tenancy = TENANCY.into_iter().find_map(|prefix| texts.iter().find_map(|text| text.strip_prefix(prefix)))?;
    // It stands in a header, between quotes and slashes.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let fingerprint: Vec<String> = sha256(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    let is_id = !tenancy.is_empty() && tenancy.bytes().all(is_plain);
    is_id.then(|| format!("{tenancy}/fed-x509-sha256/{}", fingerprint.join(":")))
}

/// When a token ends, in seconds; nothing where it is none.
fn end(token: &str) -> Option<i64> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if token.len() > TOKEN_BYTES_MAX || !token.bytes().all(is_plain) {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    json::decode(&claims, &JsonLimits::default()).ok()?.get("exp").and_then(Body::as_i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
    use serde_json::{Value, json};
    use tresor_core::{KeyService as _, SealedKey};
    use tresor_crypto::public_key::verifies;
    use tresor_env::custody::{SignedHash, Signing};
    use tresor_env::doubles::TestDoors;

    use super::*;
    use crate::config::{OciIdentity, OciKmsConfig};
    use crate::key_services::ocikms::OciKms;

    const HOW: Signing = Signing { hash: SignedHash::Sha256, pss: false };
    const REGION: &str = r#"{"regionIdentifier": "us-ashburn-1", "realmDomainComponent": "oraclecloud.com"}"#;

    /// A fake of a machine's metadata, of who gives tokens, and of the service itself.
    struct Fake {
        certificate: String,
        between: String,
        key: KeyPair,
        /// What is answered instead, by the end of an address.
        instead: Vec<(&'static str, u16, Value)>,
        /// For each token, the public half of the key that it is for.
        given: Vec<Vec<u8>>,
        asked: Vec<String>,
        seconds: i64,
    }

    impl Fake {
        fn new() -> Self {
            let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "ocid1.instance.oc1..i");
            params.distinguished_name.push(DnType::OrganizationalUnitName, "opc-tenant:ocid1.tenancy.oc1..t");
            let certificate = params.self_signed(&key).unwrap().pem();
            let between = CertificateParams::default().self_signed(&key).unwrap().pem();
            let (instead, given, asked) = (Vec::new(), Vec::new(), Vec::new());
            Self { certificate, between, key, instead, given, asked, seconds: 1200 }
        }

        fn answer(&mut self, request: &OutgoingRequest, now: i64) -> (u16, Vec<u8>) {
            let header = |name: &str| {
                let found = request.headers.iter().find(|(known, _)| known == name);
                found.map_or(String::new(), |(_, value)| value.to_string())
            };
            self.asked.push(request.url.clone());
            if let Some((_, status, said)) = self.instead.iter().find(|(end, ..)| request.url.ends_with(end)) {
                let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
                return (*status, said.into_bytes());
            }
            if let Some(path) = request.url.strip_prefix("http://169.254.169.254/opc/v2/") {
                assert_eq!(header("authorization"), "Bearer Oracle");
                let said = match path {
                    "instance/regionInfo" => REGION.to_owned(),
                    "identity/cert.pem" => self.certificate.clone(),
                    "identity/key.pem" => self.key.serialize_pem(),
                    "identity/intermediate.pem" => self.between.clone(),
                    other => panic!("{other}"),
                };
                return (200, said.into_bytes());
            }
            let Ask::Post(body) = &request.ask else { panic!("it is posted") };
            let said: Value = serde_json::from_slice(body).unwrap();
            if request.url == "https://auth.us-ashburn-1.oraclecloud.com/v1/x509" {
                let leaf = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
                let id = format!("keyId=\"{}\"", who(&leaf).unwrap());
                assert!(
                    header("authorization").contains(&id) && id.contains("\"ocid1.tenancy.oc1..t/fed-x509-sha256/")
                );
                let spki = self.key.subject_public_key_info();
                assert!(is_signed(&header, &spki, "/v1/x509", None, body));
                assert_eq!(
                    (&said["certificate"], &said["fingerprintAlgorithm"]),
                    (&json!(STANDARD.encode(&leaf)), &json!("SHA256"))
                );
                assert_eq!(said["intermediateCertificates"].as_array().unwrap().len(), 1);
                self.given.push(STANDARD.decode(said["publicKey"].as_str().unwrap()).unwrap());
                let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": now + self.seconds }).to_string());
                let token = format!("e30.{claims}.canary-{}", self.given.len());
                return (200, json!({ "token": token }).to_string().into_bytes());
            }
            let path = request.url.strip_prefix("https://kms.example").unwrap();
            let newest = format!("canary-{}\"", self.given.len());
            assert!(header("authorization").contains("keyId=\"ST$e30.") && header("authorization").contains(&newest));
            assert!(is_signed(&header, self.given.last().unwrap(), path, Some("kms.example"), body));
            (
                200,
                json!({ "ciphertext": "made", "keyVersionId": "v1", "plaintext": STANDARD.encode([9; 32]) })
                    .to_string()
                    .into_bytes(),
            )
        }
    }

    /// Whether a request is signed as its header says, by that key.
    fn is_signed(header: &impl Fn(&str) -> String, spki: &[u8], path: &str, host: Option<&str>, body: &[u8]) -> bool {
        let authorization = header("authorization");
        let part = |name: &str| {
            let after = authorization.split_once(&format!("{name}=\"")).unwrap().1;
            after.split_once('"').unwrap().0.to_owned()
        };
        assert_eq!(part("headers").contains(" host "), host.is_some());
        assert_eq!(header("x-content-sha256"), STANDARD.encode(sha256(body)));
        let names = part("headers");
        let lines = names.split(' ').map(|name| match name {
            "(request-target)" => format!("{name}: post {path}"),
            "host" => format!("host: {}", host.unwrap()),
            "content-length" => format!("{name}: {}", body.len()),
            name => format!("{name}: {}", header(name)),
        });
        let lines: Vec<String> = lines.collect();
        verifies(spki, HOW, lines.join("\n").as_bytes(), &STANDARD.decode(part("signature")).unwrap())
    }

    fn oracle(doors: &TestDoors, fake: &Arc<Mutex<Fake>>) -> OciKms {
        let (shared, clock) = (Arc::clone(fake), Arc::clone(&doors.doors.clock));
        doors.outgoing.answer(move |request| Ok(shared.lock().unwrap().answer(request, clock.wall().seconds())));
        let metadata = "http://169.254.169.254/opc/v2".to_owned();
        let who = OciIdentity::Machine { metadata, authority: None };
        let (key_id, endpoint) = ("ocid1.key".to_owned(), "https://kms.example".to_owned());
        OciKms::new(OciKmsConfig { key_id, endpoint, who }, doors.doors.clone())
    }

    fn stored() -> SealedKey {
        let [slot, service, key_id, version] = ["s1", "ocikms", "ocid1.key", "v1"].map(str::to_owned);
        SealedKey { slot, service, key_id, version, sealed: b"made".to_vec() }
    }

    #[tokio::test]
    async fn a_machine_asks_by_a_key_of_its_own_as_long_as_the_token_for_it_is_good() {
        let (doors, fake) = (TestDoors::new(1), Arc::new(Mutex::new(Fake::new())));
        let oracle = oracle(&doors, &fake);
        let given = || fake.lock().unwrap().given.len();
        oracle.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
        assert!(oracle.open(&stored()).await.is_ok());
        assert_eq!(given(), 1);
        assert_eq!(fake.lock().unwrap().asked.len(), 7, "what is kept is not asked for again");
        // Another one shortly before it ends, for another key.
        doors.clock.advance(Duration::from_secs(901));
        assert!(oracle.open(&stored()).await.is_ok());
        assert!(oracle.open(&stored()).await.is_ok());
        assert_eq!(given(), 2);
        {
            let fake = fake.lock().unwrap();
            assert_ne!(fake.given[0], fake.given[1]);
        }
        // One that is believed no more is not shown again.
        fake.lock().unwrap().instead = vec![("/decrypt", 401, json!({ "code": "NotAuthenticated" }))];
        assert!(matches!(oracle.open(&stored()).await, Err(ServiceError::Refused(_))));
        fake.lock().unwrap().instead.clear();
        assert!(oracle.open(&stored()).await.is_ok());
        assert_eq!(given(), 3);
        // One that is good for less is good for one request.
        fake.lock().unwrap().seconds = 60;
        doors.clock.advance(Duration::from_secs(1000));
        assert!(oracle.open(&stored()).await.is_ok() && oracle.open(&stored()).await.is_ok());
        assert_eq!(given(), 5);
    }

    #[tokio::test]
    async fn sea_01_a_machine_that_is_no_principal_is_told_why_without_secrets() {
        let (doors, fake) = (TestDoors::new(1), Arc::new(Mutex::new(Fake::new())));
        let oracle = oracle(&doors, &fake);
        let other = CertificateParams::default().self_signed(&fake.lock().unwrap().key).unwrap().pem();
        let refused = json!({ "code": "NotAuthenticated", "message": "no" });
        for (end, status, said, words) in [
            (
                "regionInfo",
                404,
                json!("x"),
                "it does not answer: who tells this machine who it is in Oracle's cloud: status 404 to instance/regionInfo",
            ),
            ("regionInfo", 200, json!("iad"), "instance/regionInfo names no region"),
            ("regionInfo", 200, json!({ "regionIdentifier": "a", "realmDomainComponent": "b/c" }), "names no region"),
            ("cert.pem", 200, json!("canary"), "identity/cert.pem is no certificate in PEM"),
            ("cert.pem", 200, json!(other), "identity/cert.pem names no tenancy"),
            ("key.pem", 200, json!("canary"), "identity/key.pem is no RSA key in PEM"),
            ("intermediate.pem", 500, json!("canary"), "status 500 to identity/intermediate.pem"),
            ("x509", 401, refused, "it refuses: no token for this machine: status 401, NotAuthenticated no"),
            ("x509", 503, json!({}), "it does not answer: status 503"),
            ("x509", 200, json!({}), "it answered this machine with something that is no token"),
            ("x509", 200, json!({ "token": "canary" }), "with something that is no token"),
            ("x509", 200, json!({ "token": "a.e30.canary" }), "with something that is no token"),
            ("x509", 200, json!({ "token": "a.eyJleHAiOjF9.\"canary" }), "with something that is no token"),
        ] {
            fake.lock().unwrap().instead = vec![(end, status, said)];
            let error = oracle.open(&stored()).await.err().unwrap().to_string();
            assert!(error.contains(words) && !error.contains("canary"), "{words}: {error}");
        }
        // What the service repeats of the token is not passed on.
        fake.lock().unwrap().instead.clear();
        oracle.seal(&[9; 32], "s1").await.map_err(|error| error.to_string()).unwrap();
        let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": doors.doors.clock.wall().seconds() + 1200 }).to_string());
        let token = format!("ST$e30.{claims}.canary-1");
        fake.lock().unwrap().instead = vec![("/decrypt", 400, json!({ "message": format!("by {token}") }))];
        assert_eq!(oracle.open(&stored()).await.err().unwrap().to_string(), "it refuses: status 400");
    }
}
