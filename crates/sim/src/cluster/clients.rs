//! What clients ask, and what is learnt from what they are answered.
//!
//! Deliberately absent: what happens to the nodes meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tresor_env::Tasks;
use tresor_harness::{Answer, ROOT, assembly};

use super::records::Answered;
use super::tokens::{Moment, Token};
use super::{Life, PlantedInCluster, vault};
use crate::versions::Seen;

/// How many secrets there are; the last of them lies in a namespace with a seal of its own.
pub(super) const KEYS: usize = 4;
const IN_VAULT: usize = KEYS - 1;
/// How many names come and go.
const NAMES: usize = 8;
/// The longest life of a token that ends while the world lasts, in seconds.
const LIFE_MAX: u64 = 14;
/// The port of the first request; each has its own.
const PORT_FIRST: u64 = 1_000;
/// The longest that a request is under way.
const PATIENCE: Duration = Duration::from_secs(100);

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Write {
        key: usize,
        number: u64,
    },
    /// A write that is to follow a version.
    Follow {
        key: usize,
        number: u64,
        version: u64,
    },
    /// Perhaps without what was written last.
    Read {
        key: usize,
        is_stale: bool,
    },
    Put {
        name: usize,
    },
    Delete {
        name: usize,
    },
    List,
    Secret,
    Create {
        life: Option<u64>,
        uses: Option<u64>,
    },
    Use {
        token: usize,
    },
    /// For the longest life there is, so that none is shortened.
    Renew {
        token: usize,
    },
    Revoke {
        token: usize,
    },
    /// Of the namespace.
    Seal,
    /// Enters one of its shares.
    Unseal {
        share: usize,
    },
}

/// Where a secret is.
fn place(key: usize) -> String {
    if key == IN_VAULT { format!("{}/kv/data/k{key}", vault::NAME) } else { format!("kv/data/k{key}") }
}

/// A request that is under way.
pub(super) struct Flight {
    pub(super) node: usize,
    ask: Ask,
    started: Moment,
    port: u16,
    answer: oneshot::Receiver<Answer>,
    /// Drives it; without it, it ends.
    _driver: Tasks,
}

impl Life {
    /// A client asks any node that runs.
    pub(super) fn begin(&mut self) {
        let running = self.world.running();
        let Some(node) = self.random.pick(&running).copied() else { return };
        let ask = self.choose();
        let flight = self.send(node, ask);
        self.flights.push(flight);
    }

    fn choose(&mut self) -> Ask {
        let (key, name) = (self.random.below(KEYS), self.random.below(NAMES));
        let token = self.random.below(self.tokens.len());
        let has_tokens = !self.tokens.is_empty();
        let mut number = || {
            self.written += 1;
            self.written
        };
        match self.random.below(44) {
            // More often than it is sealed: whoever holds shares notices soon.
            40..43 => Ask::Unseal { share: self.random.below(vault::SHARES) },
            43 if self.random.chance(30) => Ask::Seal,
            0..11 => Ask::Read { key, is_stale: self.random.chance(40) },
            11..18 => Ask::Write { key, number: number() },
            18..21 => {
                let number = number();
                Ask::Follow { key, number, version: self.versions.entry(key).or_default().latest() }
            }
            21 | 22 => Ask::Put { name },
            23 => Ask::Delete { name },
            24 | 25 => Ask::List,
            26..29 => Ask::Secret,
            29..36 if has_tokens => Ask::Use { token },
            36 if has_tokens => Ask::Renew { token },
            37 if has_tokens => Ask::Revoke { token },
            _ => {
                let life = self.random.chance(60).then(|| 2 + self.random.next() % (LIFE_MAX - 1));
                let uses = self.random.chance(30).then(|| 1 + self.random.next() % 3);
                Ask::Create { life, uses }
            }
        }
    }

    fn now(&self) -> Moment {
        Moment { event: self.events, time: self.world.now(), led: self.led }
    }

    /// Begins a request.
    fn send(&mut self, node: usize, ask: Ask) -> Flight {
        self.events += 1;
        self.report.operations += 1;
        let started = self.now();
        let port = u16::try_from(PORT_FIRST + self.events).unwrap_or_default();
        let (method, path, by, body) = self.request(&ask, started);
        let mut request = assembly::request(method, &path, &by, &body);
        // Who may do what never depends on it.
        let chooses = match ask {
            Ask::Read { is_stale, .. } => is_stale,
            Ask::Use { .. } => self.random.chance(30),
            _ => false,
        };
        if let (true, Ok(choice)) = (chooses, "allow-stale".parse()) {
            request.headers_mut().insert("X-Vault-Inconsistent", choice);
        }
        let sending = self.world.sending_from(node, port, request);
        let ((answered, answer), driver) = (oneshot::channel(), Tasks::new());
        driver.spawn(async move { drop(answered.send(sending.await)) });
        Flight { node, ask, started, port, answer, _driver: driver }
    }

    /// Method, path, token and body.
    fn request(&mut self, ask: &Ask, started: Moment) -> (&'static str, String, String, Value) {
        let mut by = ROOT.to_owned();
        let mut touch = |token: usize, begin: &dyn Fn(&mut Token)| {
            let token = self.tokens.get_mut(token)?;
            begin(token);
            Some(token.id.clone())
        };
        let (method, path, body) = match *ask {
            Ask::Write { key, number } => ("POST", place(key), json!({ "data": { "n": number } })),
            Ask::Follow { key, number, version } => {
                let body = json!({ "data": { "n": number }, "options": { "cas": version } });
                ("POST", place(key), body)
            }
            Ask::Read { key, .. } => ("GET", place(key), Value::Null),
            Ask::Put { name } => {
                self.names.begin(name, started.event, true);
                ("PUT", format!("flat/m{name}"), json!({ "x": name }))
            }
            Ask::Delete { name } => {
                self.names.begin(name, started.event, false);
                ("DELETE", format!("flat/m{name}"), Value::Null)
            }
            Ask::List => ("LIST", "flat".to_owned(), Value::Null),
            Ask::Secret => ("GET", "made/creds/r?ttl=3s".to_owned(), Value::Null),
            Ask::Create { life, uses } => {
                let ttl = life.map_or("1h".to_owned(), |life| format!("{life}s"));
                let body = json!({ "ttl": ttl, "num_uses": uses.unwrap_or(0) });
                ("POST", "auth/token/create".to_owned(), body)
            }
            Ask::Use { token } => {
                by = touch(token, &Token::begin_to_use).unwrap_or_default();
                ("GET", "auth/token/lookup-self".to_owned(), Value::Null)
            }
            Ask::Renew { token } => {
                let life = Duration::from_secs(LIFE_MAX);
                let id = touch(token, &|token| token.may_live_on(life, started, PATIENCE));
                let body = json!({ "token": id.unwrap_or_default(), "increment": format!("{LIFE_MAX}s") });
                ("POST", "auth/token/renew".to_owned(), body)
            }
            Ask::Revoke { token } => {
                let id = touch(token, &|token| token.begin_to_revoke(started.event)).unwrap_or_default();
                ("POST", "auth/token/revoke".to_owned(), json!({ "token": id }))
            }
            Ask::Seal => ("PUT", format!("sys/namespaces/{}/seal", vault::NAME), json!({})),
            Ask::Unseal { share } => {
                self.vault.begin_to_enter(share, started.event);
                let key = self.vault.shares.get(share).cloned().unwrap_or_default();
                ("PUT", format!("sys/namespaces/{}/unseal", vault::NAME), json!({ "key": key }))
            }
        };
        (method, path, by, body)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, node: usize, ask: Ask) -> Result<Answer, String> {
        let flight = self.send(node, ask);
        let answer = self.world.drive(flight.answer).await.map_err(|_| "a request panicked")?;
        self.events += 1;
        self.learn(node, flight.ask, flight.started, flight.port, &answer)
            .map_err(|problem| format!("{problem}; n{node}: {answer:?}"))?;
        Ok(answer)
    }

    /// Takes what was answered.
    pub(super) fn land(&mut self) -> Result<(), String> {
        for mut flight in std::mem::take(&mut self.flights) {
            let answer = match flight.answer.try_recv() {
                Ok(answer) => answer,
                Err(oneshot::error::TryRecvError::Empty) => {
                    self.flights.push(flight);
                    continue;
                }
                Err(oneshot::error::TryRecvError::Closed) => return Err("a request panicked".to_owned()),
            };
            let Flight { node, ask, started, port, .. } = flight;
            self.events += 1;
            self.learn(node, ask, started, port, &answer)
                .map_err(|problem| format!("{problem}; n{node}: {answer:?}"))?;
        }
        Ok(())
    }

    /// What a node that ends so was asked has no answer.
    pub(super) fn forget(&mut self, node: usize) {
        // Dropped, they end.
        self.flights.retain(|flight| flight.node != node);
    }

    fn learn(&mut self, node: usize, ask: Ask, started: Moment, port: u16, answer: &Answer) -> Result<(), String> {
        let (ended, status) = (self.now(), answer.status);
        // What cannot be served says nothing, and a node that belongs to nothing refuses everything.
        if status >= 500 || (status >= 400 && self.is_stranger(node)) {
            return Ok(());
        }
        self.records.answered(port, Answered { asked: started.time, at: ended.time, node });
        if let Ask::Write { key: IN_VAULT, .. } | Ask::Follow { key: IN_VAULT, .. } | Ask::Read { key: IN_VAULT, .. } =
            ask
        {
            self.vault.served(started.event, ended.event, self.planted)?;
        }
        let success = |is_so: bool| if is_so { Ok(()) } else { Err(format!("{ask:?} was refused")) };
        match ask {
            Ask::Write { key, number } => {
                success(status == 200)?;
                self.wrote(node, key, number, started, answer)
            }
            Ask::Follow { key, number, version } => {
                let is_planted = self.planted == PlantedInCluster::RefusedForNothing;
                if status == 400 || is_planted {
                    self.say(format!(
                        "n{node} refused write {number} of k{key}, which was to follow version {version}"
                    ));
                    self.versions.entry(key).or_default().refused(ended.event, version + u64::from(is_planted));
                }
                if status == 400 && self.planted == PlantedInCluster::WrittenTwice {
                    let (started, ended) = (started.event, ended.event);
                    let twice = Seen { started, ended, version: version + 1, number, is_write: true };
                    return self.versions.entry(key).or_default().note(twice);
                }
                success(status == 200 || status == 400)?;
                if status == 400 { Ok(()) } else { self.wrote(node, key, number, started, answer) }
            }
            Ask::Read { key, is_stale } => {
                let (version, number) = match status {
                    200 => (answer.at("/data/metadata/version").as_u64(), answer.at("/data/data/n").as_u64()),
                    404 => (Some(0), Some(0)),
                    _ => return Err(format!("a read of k{key} was refused")),
                };
                let is_planted = self.planted == PlantedInCluster::StaleRead;
                let version = version.unwrap_or_default().saturating_sub(u64::from(is_planted));
                let number = if is_planted { 0 } else { number.unwrap_or_default() };
                self.say(format!("n{node} showed version {version} of k{key}"));
                let (started, ended) = (started.event, ended.event);
                let mut read = Seen { started, ended, version, number, is_write: false };
                if !is_stale {
                    return self.versions.entry(key).or_default().note(read);
                }
                let behind =
                    answer.headers.get("x-tresor-behind").and_then(|behind| behind.to_str().ok()?.parse().ok());
                self.report.stale_reads += usize::from(behind > Some(0_u64));
                if self.planted == PlantedInCluster::TooStaleRead {
                    (read.version, read.number) = (0, 0);
                }
                let since = self.indispensable.iter().filter(|(_, ended)| *ended < started);
                let since = since.map(|(began, _)| *began).max().unwrap_or_default();
                self.versions.entry(key).or_default().note_stale(read, since)
            }
            Ask::Put { name } | Ask::Delete { name } => {
                success(status == 204 || status == 200)?;
                let is_write = matches!(ask, Ask::Put { .. });
                self.say(format!("n{node} has {} m{name}", if is_write { "written" } else { "removed" }));
                self.names.end(name, started.event, ended.event);
                Ok(())
            }
            Ask::List => {
                success(status == 200 || status == 404)?;
                let keys = answer.at("/data/keys").as_array().cloned().unwrap_or_default();
                let number = |key: &Value| key.as_str()?.strip_prefix('m')?.parse().ok();
                let mut shown: BTreeSet<usize> = keys.iter().filter_map(number).collect();
                self.say(format!("n{node} listed {shown:?}"));
                if self.planted == PlantedInCluster::HiddenName {
                    shown.clear();
                }
                self.names.listed(started.event, &shown)
            }
            Ask::Secret => {
                self.handed_out += u64::from(status == 200);
                self.indispensable.push((started.event, ended.event));
                success(status == 200)
            }
            Ask::Create { life, uses } => {
                success(status == 200)?;
                let id = answer.text_at("/auth/client_token");
                self.say(format!("n{node} made token {}: {ask:?}", self.tokens.len()));
                self.indispensable.push((started.event, ended.event));
                let life = life.map(Duration::from_secs);
                let mut token = Token::new(id, life, uses, started, ended);
                match self.planted {
                    PlantedInCluster::ImmortalTokens => token.ends_at_once(),
                    PlantedInCluster::OverusedTokens => token.is_spent(),
                    _ => {}
                }
                self.tokens.push(token);
                Ok(())
            }
            Ask::Use { token } => {
                self.say(format!("n{node} answered {status} to token {token}"));
                success(status == 200 || status == 403)?;
                let Some(token) = self.tokens.get_mut(token) else { return Ok(()) };
                token.was_used(started, ended, status == 200)
            }
            Ask::Renew { token } => {
                self.say(format!("n{node} answered {status} to the renewal of token {token}"));
                if let Some(token) = self.tokens.get_mut(token).filter(|_| status == 200) {
                    token.lives_on(Duration::from_secs(LIFE_MAX), started, ended);
                }
                Ok(())
            }
            Ask::Revoke { token } => {
                self.say(format!("n{node} answered {status} to the revocation of token {token}"));
                if let Some(token) = self.tokens.get_mut(token).filter(|_| status < 300) {
                    token.was_revoked(ended.event);
                }
                Ok(())
            }
            Ask::Seal => {
                success(status == 204)?;
                self.say(format!("n{node} has sealed the namespace"));
                self.vault.was_sealed(started.event, ended.event);
                Ok(())
            }
            Ask::Unseal { share } => {
                // Shares that were entered before it was sealed are void.
                success(status == 200 || status == 400)?;
                self.say(format!("n{node} answered {status} to share {share}"));
                self.vault.has_entered(share, started.event, ended.event);
                Ok(())
            }
        }
    }

    fn wrote(&mut self, node: usize, key: usize, number: u64, started: Moment, answer: &Answer) -> Result<(), String> {
        let version = answer.at("/data/version").as_u64().unwrap_or_default();
        self.say(format!("n{node} acknowledged write {number} of k{key} as version {version}"));
        let (started, ended) = (started.event, self.events);
        self.versions.entry(key).or_default().note(Seen { started, ended, version, number, is_write: true })
    }
}
