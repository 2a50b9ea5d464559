//! Certificates that listeners get for themselves: which there are, when they are due, and what happens when they are not to be had.
//!
//! One task looks after those of all listeners, one after the other. A certificate is renewed when a third of its life is left; what
//! goes wrong is said and tried again, less and less often, and the listener serves what it has. What another server put into the same
//! directory is taken from there. Deliberately absent: names that are not configured.

mod authority;
mod cache;
mod errors;
mod showing;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tresor_env::net::Stream;
use tresor_env::{BoxFuture, Doors, Timestamp};
use zeroize::Zeroizing;

use crate::config::{AcmeConfig, AcmeName};
use crate::validity;
use authority::{Authority, Way};
use cache::Cache;
use errors::AcmeError;
use showing::{Doorstep, Shown};

/// How long it is waited after the first failure, and at most.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// How long nobody looks at most: wall clocks are set.
const LOOK_MAX: Duration = Duration::from_secs(3600);

/// A certificate that is held, and its life.
struct Held {
    key: Arc<CertifiedKey>,
    from: Timestamp,
    until: Timestamp,
}

impl Held {
    /// How long it is good before another is to be got: until a third of its life is left.
    fn rest(&self, now: Timestamp) -> Duration {
        self.until.less(self.until.since(self.from) / 3).since(now)
    }
}

/// The certificates of one listener.
pub(crate) struct Keeper {
    config: AcmeConfig,
    /// Where the listener listens.
    ip: IpAddr,
    provider: Arc<CryptoProvider>,
    doors: Doors,
    cache: Cache,
    shown: Shown,
    held: ArcSwap<BTreeMap<AcmeName, Arc<Held>>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl Keeper {
    /// Holds what is kept already. Blocking.
    pub(crate) fn new(config: &AcmeConfig, ip: IpAddr, provider: &Arc<CryptoProvider>, doors: &Doors) -> Self {
        let cache = Cache::new(&config.cache, doors);
        let keeper = Self {
            ip,
            provider: Arc::clone(provider),
            doors: doors.clone(),
            shown: Shown::new(config, &cache, doors),
            cache,
            config: config.clone(),
            held: ArcSwap::default(),
        };
        for name in &keeper.config.names {
            match keeper.cache.read_now(&keeper.file(name)) {
                Ok(Some(bytes)) => keeper.take(name, &bytes),
                Ok(None) => {}
                Err(error) => tracing::error!(name = name.text(), %error, "a certificate that is kept cannot be read"),
            }
        }
        keeper
    }

    fn file(&self, name: &AcmeName) -> PathBuf {
        self.cache.certificate(&self.config.directory, name)
    }

    /// Shows this from now on, if it makes sense; handshakes that run go on with what they have.
    fn take(&self, name: &AcmeName, pem: &[u8]) {
        match read(pem, &self.provider) {
            Ok(held) => {
                let mut all = BTreeMap::clone(&self.held.load());
                all.insert(name.clone(), Arc::new(held));
                self.held.store(Arc::new(all));
            }
            Err(error) => tracing::error!(name = name.text(), %error, "a certificate that is kept makes no sense"),
        }
    }

    /// How long a name needs no other certificate; nothing where it needs one now.
    fn rest(&self, name: &AcmeName) -> Option<Duration> {
        let held = self.held.load().get(name).map(|held| held.rest(self.doors.clock.wall()))?;
        (!held.is_zero()).then_some(held)
    }

    /// Shakes hands; nothing is left to serve when that showed a proof.
    pub(crate) async fn shake_hands(
        &self,
        stream: Box<dyn Stream>,
        config: &Arc<ServerConfig>,
    ) -> std::io::Result<Option<tokio_rustls::server::TlsStream<Box<dyn Stream>>>> {
        self.shown.shake_hands(stream, Arc::clone(config)).await
    }

    /// Sees to it that a name has a certificate; how long that will do.
    async fn renew(&self, name: &AcmeName, failures: u32) -> Result<Duration, AcmeError> {
        // Another server may have been here.
        if let Some(bytes) = self.cache.read(self.file(name)).await? {
            self.take(name, &bytes);
            if let Some(rest) = self.rest(name) {
                return Ok(rest);
            }
        }
        if let Some(directory) = self.config.test_directory.as_deref().filter(|_| failures > 0) {
            // What goes wrong once more goes wrong where it costs nothing.
            match self.order(directory, name).await {
                Ok(_) => {}
                Err(error) if error.holds_elsewhere() => return Err(error),
                Err(error) => {
                    tracing::warn!(name = name.text(), %error, "the authority for tests is of no use, and is passed over");
                }
            }
        }
        let pem = self.order(&self.config.directory, name).await?;
        let held = read(pem.as_bytes(), &self.provider)?;
        let rest = held.rest(self.doors.clock.wall());
        if rest.is_zero() {
            return Err(AcmeError::Unusable("it ends as soon as it is made".to_owned()));
        }
        let shown = tresor_wire::time::rfc3339(held.until);
        self.take(name, pem.as_bytes());
        let bytes = Zeroizing::new(pem.as_bytes().to_vec());
        if let Err(error) = self.cache.write(self.file(name), bytes).await {
            tracing::error!(name = name.text(), %error, "a certificate cannot be kept, and is lost with this process");
        }
        tracing::info!(name = name.text(), until = shown, "a certificate was got from the authority");
        Ok(rest)
    }

    /// Orders one, by whichever proof convinces.
    async fn order(&self, directory: &str, name: &AcmeName) -> Result<Zeroizing<String>, AcmeError> {
        let authority = Authority { config: &self.config, directory, cache: &self.cache, doors: &self.doors };
        let ways = [(Way::Tls, self.config.by_tls), (Way::Http, self.config.by_http)];
        let mut why = AcmeError::NoWay;
        for (way, _) in ways.into_iter().filter(|(_, is_allowed)| *is_allowed) {
            let doorstep = Doorstep::open(way, self.ip, &self.shown).await;
            let shown = async {
                match doorstep {
                    Some(doorstep) => doorstep.serve().await,
                    None => std::future::pending().await,
                }
            };
            let ordered = tokio::select! {
                ordered = authority.order(name, way) => ordered,
                () = shown => Err(AcmeError::Own("the port that authorities ask is closed".to_owned())),
            };
            why = match ordered {
                Ok(pem) => return Ok(pem),
                Err(AcmeError::Unconvinced(said)) => AcmeError::Unconvinced(match why {
                    AcmeError::Unconvinced(before) => format!("{before}; {way}: {said}"),
                    _ => format!("{way}: {said}"),
                }),
                // What the authority said of the other proof says more.
                Err(AcmeError::NoWay) => why,
                Err(error) => return Err(error),
            };
        }
        Err(why)
    }
}

impl ResolvesServerCert for Keeper {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let held = self.held.load();
        let found = match hello.server_name() {
            Some(name) => held.get(&AcmeName::Dns(name.to_ascii_lowercase())),
            // Who names an address says nothing: of those that there are, one for an address fits best.
            None => held.iter().next_back().map(|(_, held)| held),
        };
        found.map(|held| Arc::clone(&held.key))
    }
}

/// A chain and its key.
fn read(pem: &[u8], provider: &CryptoProvider) -> Result<Held, AcmeError> {
    let unusable = |error: &dyn std::fmt::Display| AcmeError::Unusable(error.to_string());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| unusable(&error))?;
    let first = chain.first().ok_or_else(|| unusable(&"there is none"))?;
    let (from, until) = validity::of(first).ok_or_else(|| unusable(&"its dates cannot be read"))?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| unusable(&error))?;
    let signer = provider.key_provider.load_private_key(key).map_err(|error| unusable(&error))?;
    let key = CertifiedKey::new(chain, signer);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(unusable(&"it is for another key")),
    }
    Ok(Held { key: Arc::new(key), from, until })
}

/// The keepers of all listeners.
#[derive(Default)]
pub(crate) struct Keepers {
    all: Vec<Arc<Keeper>>,
    again: Notify,
}

impl std::fmt::Debug for Keepers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keepers({})", self.all.len())
    }
}

/// What became of a name so far.
#[derive(Clone, Copy, Default)]
struct Course {
    failures: u32,
    /// When it is tried again, by the monotonic clock.
    next: Duration,
}

impl Course {
    /// How long it is waited after one more failure.
    fn fail(&mut self, now: Duration) -> Duration {
        let wait = RETRY.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures += 1;
        self.next = now.saturating_add(wait);
        wait
    }
}

impl Keepers {
    pub(crate) fn add(&mut self, keeper: Arc<Keeper>) {
        self.all.push(keeper);
    }

    /// Whether there is nothing to look after.
    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether any of them shows proofs over plain HTTP.
    pub(crate) fn is_by_http(&self) -> bool {
        self.all.iter().any(|keeper| keeper.shown.is_by_http())
    }

    /// Tries again now what went wrong.
    pub(crate) fn try_again(&self) {
        self.again.notify_one();
    }

    /// Looks after all of them for as long as it is polled.
    pub(crate) async fn keep(&self) {
        let mut courses = BTreeMap::new();
        loop {
            let mut rest = LOOK_MAX;
            for (number, keeper) in self.all.iter().enumerate() {
                for name in &keeper.config.names {
                    let course: &mut Course = courses.entry((number, name)).or_default();
                    rest = rest.min(look(keeper, name, course).await);
                }
            }
            let Some(first) = self.all.first() else { return };
            tokio::select! {
                () = first.doors.clock.sleep(rest) => {}
                () = self.again.notified() => courses.values_mut().for_each(|course| course.next = Duration::ZERO),
            }
        }
    }
}

/// Does for one name what is due; for how long that will do.
async fn look(keeper: &Keeper, name: &AcmeName, course: &mut Course) -> Duration {
    if let Some(rest) = keeper.rest(name) {
        *course = Course::default();
        return rest;
    }
    let clock = &keeper.doors.clock;
    let waiting = course.next.saturating_sub(clock.monotonic());
    if !waiting.is_zero() {
        return waiting;
    }
    match keeper.renew(name, course.failures).await {
        Ok(rest) => {
            *course = Course::default();
            rest
        }
        Err(error) => {
            let wait = course.fail(clock.monotonic());
            let (name, seconds) = (name.text(), wait.as_secs());
            if keeper.held.load().keys().any(|held| held.text() == name) {
                tracing::error!(name, %error, retry_seconds = seconds, "a certificate cannot be renewed; the old one stays");
            } else {
                tracing::error!(name, %error, retry_seconds = seconds, "no certificate is to be had: the name is not served");
            }
            wait
        }
    }
}

impl tresor_http::Proofs for Keepers {
    fn proof<'a>(&'a self, host: &'a str, token: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            for keeper in &self.all {
                if let Some(proof) = tresor_http::Proofs::proof(&keeper.shown, host, token).await {
                    return Some(proof);
                }
            }
            None
        })
    }
}

/// The files that are kept of a configuration, by name, for whoever looks whether all is well.
pub(crate) fn kept(config: &AcmeConfig, doors: &Doors) -> Vec<(String, PathBuf)> {
    let cache = Cache::new(&config.cache, doors);
    config.names.iter().map(|name| (name.text(), cache.certificate(&config.directory, name))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap().pem();
        let held = read(format!("{certificate}\n{}", key.serialize_pem()).as_bytes(), &provider).unwrap();
        let day = |number: u64| held.from.plus(Duration::from_secs(number * 86_400));
        assert_eq!(held.rest(day(0)), Duration::from_secs(60 * 86_400));
        assert_eq!(held.rest(day(59)), Duration::from_secs(86_400));
        assert_eq!(held.rest(day(60)), Duration::ZERO);
        assert_eq!(held.rest(day(1000)), Duration::ZERO);
        let other = rcgen::KeyPair::generate().unwrap();
        for wrong in [
            String::new(),
            certificate.clone(),
            key.serialize_pem(),
            format!("{certificate}\n{}", other.serialize_pem()),
        ] {
            assert!(matches!(read(wrong.as_bytes(), &provider), Err(AcmeError::Unusable(_))));
        }
    }

    #[test]
    fn what_goes_wrong_is_tried_less_and_less_often() {
        let mut course = Course::default();
        let waits: Vec<u64> = (0..12).map(|_| course.fail(Duration::ZERO).as_secs() / 60).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
        course.failures = u32::MAX - 1;
        assert_eq!(course.fail(Duration::from_secs(5)), RETRY_MAX);
        assert_eq!(course.next, RETRY_MAX + Duration::from_secs(5));
    }

    /// An authority where every account is refused by this; its directory.
    async fn refusing(problem: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let urls = ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange"].map(|name| (name, &base));
        let directory = serde_json::to_string(&BTreeMap::from(urls)).unwrap();
        let refused = serde_json::json!({ "type": format!("urn:ietf:params:acme:error:{problem}") }).to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let length = stream.read(&mut asked).await.unwrap();
                let (status, body) = match &asked[..length] {
                    asked if asked.starts_with(b"GET ") => ("200 OK", directory.as_str()),
                    asked if asked.starts_with(b"HEAD ") => ("200 OK", ""),
                    _ => ("403 Forbidden", refused.as_str()),
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nReplay-Nonce: bm9uY2U\r\nConnection: close\r\n");
                let answer = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        base
    }

    #[tokio::test]
    async fn only_what_a_test_authority_says_of_the_name_keeps_it_from_the_other_one() {
        let doors = tresor_env::doubles::TestDoors::new(1);
        let name = AcmeName::Dns("a.example.com".to_owned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let directory = refusing("unauthorized").await;
        for (test, failures, refused_as) in [
            (refusing("rejectedIdentifier").await, 0, "unauthorized"),
            (refusing("rejectedIdentifier").await, 1, "rejectedIdentifier"),
            (refusing("serverInternal").await, 1, "unauthorized"),
            (refusing("rateLimited").await, 1, "unauthorized"),
            // Nobody listens at the discard port.
            ("http://127.0.0.1:9".to_owned(), 1, "unauthorized"),
        ] {
            let config = AcmeConfig {
                directory: directory.clone(),
                test_directory: Some(test),
                cache: "/acme".into(),
                authorities: None,
                external: None,
                email: None,
                names: vec![name.clone()],
                key: crate::config::AcmeKey::P256,
                by_http: false,
                by_tls: true,
            };
            let keeper = Keeper::new(&config, IpAddr::from([127, 0, 0, 1]), &provider, &doors.doors);
            let error = keeper.renew(&name, failures).await.unwrap_err();
            assert!(error.to_string().contains(refused_as), "{refused_as}: {error}");
        }
    }
}
