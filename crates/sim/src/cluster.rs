//! A cluster of whole nodes under clients, while its nodes are killed, lose power, stop, are parted, and lead in turn.
//!
//! Clients ask any node, as behind a balancer that knows nothing. What they saw is checked: versions of a secret are in the order
//! of time, whichever node was asked; what was acknowledged is there; a token is good from its creation on and no more after its
//! revocation, at every node; what was handed out is taken back once. Deliberately absent: joining, and disks that fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tresor_env::Tasks;
use tresor_harness::cluster::{STEP, World};
use tresor_harness::{Answer, ROOT, assembly};

use crate::random::Random;
use crate::run::{Failure, Outcome, Report, last_lines, logging};
use crate::versions::{Seen, Versions};

/// How many steps of the clock a life has.
const STEPS: usize = 1600;
/// How many requests run at once at most.
const FLIGHTS_MAX: usize = 6;
const KEYS: usize = 3;
/// How long what is under way at the end may take.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// A fault that is planted to see that the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlantedInCluster {
    /// None: the cluster as it is.
    #[default]
    Nothing,
    /// Some reads are taken to have shown the version before.
    StaleRead,
    /// A write is taken to be acknowledged that never was.
    LostWrite,
    /// Something is taken to be handed out that never was.
    Forgotten,
}

enum Ask {
    Write { key: usize, number: u64 },
    Read { key: usize },
    Secret,
    Create,
    Use { token: usize },
    Revoke { token: usize },
}

/// A request that is under way.
struct Flight {
    node: usize,
    ask: Ask,
    started: u64,
    answer: oneshot::Receiver<Answer>,
    /// Drives it; without it, it ends.
    _driver: Tasks,
}

/// What is known of a token: numbers of events.
struct Token {
    id: String,
    revoking: Option<u64>,
    revoked: Option<u64>,
}

struct Life {
    planted: PlantedInCluster,
    world: World,
    count: usize,
    random: Random,
    flights: Vec<Flight>,
    /// What is asked of the cluster and whose answer says nothing.
    asides: Tasks,
    /// Counted over all starts and ends.
    events: u64,
    written: u64,
    versions: BTreeMap<usize, Versions>,
    tokens: Vec<Token>,
    handed_out: u64,
    is_parted: bool,
    history: Vec<String>,
    report: Report,
}

/// Runs one seed.
///
/// # Errors
/// [`Failure`] when a checker finds something.
pub fn run_cluster(seed: u64, planted: PlantedInCluster) -> Outcome {
    let failed = |problem: String, history: Vec<String>| Failure { seed, problem, history };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| failed(error.to_string(), Vec::new()))?;
    let mut random = Random::new(seed);
    let count = if random.chance(75) { 3 } else { 5 };
    let (lines, mut history): (Arc<Mutex<Vec<u8>>>, Vec<String>) = (Arc::default(), Vec::new());
    let lived = logging(&lines, || {
        runtime.block_on(async {
            let world = World::new(count, seed).await;
            let mut life = Life {
                planted,
                world,
                count,
                random,
                flights: Vec::new(),
                asides: Tasks::new(),
                events: 0,
                written: 0,
                versions: BTreeMap::new(),
                tokens: Vec::new(),
                handed_out: 0,
                is_parted: false,
                history: vec![format!("{count} nodes")],
                report: Report::default(),
            };
            let lived = life.live().await;
            history = std::mem::take(&mut life.history);
            lived.map(|()| life.report)
        })
    });
    match lived {
        Ok(report) => Ok((report, history)),
        Err(problem) => {
            history.extend(last_lines(&lines));
            Err(failed(problem, history))
        }
    }
}

impl Life {
    async fn live(&mut self) -> Result<(), String> {
        self.world.prepare(0, "POST", "sys/mounts/kv", json!({ "type": "kv-v2" })).await;
        self.world.prepare(0, "POST", "sys/mounts/made", json!({ "type": "leasing" })).await;
        for _ in 0..STEPS {
            if self.flights.len() < FLIGHTS_MAX && self.random.chance(20) {
                self.begin();
            }
            if self.random.below(120) == 0 {
                self.happen().await;
            }
            self.world.pass(STEP).await;
            self.land()?;
        }
        self.mend().await;
        let until = self.world.now() + LAST_WAIT;
        while !self.flights.is_empty() {
            if self.world.now() > until {
                return Err(format!("{} requests never end", self.flights.len()));
            }
            self.world.pass(STEP).await;
            self.land()?;
        }
        self.check().await
    }

    fn say(&mut self, what: String) {
        let now = self.world.now().as_millis();
        self.history.push(format!("{now} ms: {what}"));
    }

    /// A client asks any node that runs.
    fn begin(&mut self) {
        let running = self.world.running();
        let Some(node) = self.random.pick(&running).copied() else { return };
        let key = self.random.below(KEYS);
        let token = self.random.below(self.tokens.len());
        let ask = match self.random.below(20) {
            0..7 => Ask::Read { key },
            7..13 => {
                self.written += 1;
                Ask::Write { key, number: self.written }
            }
            13..15 => Ask::Secret,
            15 => Ask::Create,
            16..19 if !self.tokens.is_empty() => Ask::Use { token },
            19 if !self.tokens.is_empty() => Ask::Revoke { token },
            _ => Ask::Create,
        };
        self.events += 1;
        let id = |token: usize| self.tokens.get(token).map(|token| token.id.clone()).unwrap_or_default();
        let (method, path, by, body) = match &ask {
            Ask::Write { key, number } => {
                ("POST", format!("kv/data/k{key}"), ROOT.to_owned(), json!({ "data": { "n": number } }))
            }
            Ask::Read { key } => ("GET", format!("kv/data/k{key}"), ROOT.to_owned(), Value::Null),
            Ask::Secret => ("GET", "made/creds/r?ttl=3s".to_owned(), ROOT.to_owned(), Value::Null),
            Ask::Create => ("POST", "auth/token/create".to_owned(), ROOT.to_owned(), json!({ "ttl": "1h" })),
            Ask::Use { token } => ("GET", "auth/token/lookup-self".to_owned(), id(*token), Value::Null),
            Ask::Revoke { token } => {
                ("POST", "auth/token/revoke".to_owned(), ROOT.to_owned(), json!({ "token": id(*token) }))
            }
        };
        if let Ask::Revoke { token } = &ask
            && let Some(token) = self.tokens.get_mut(*token)
        {
            token.revoking.get_or_insert(self.events);
        }
        self.report.operations += 1;
        let sending = self.world.sending(node, assembly::request(method, &path, &by, &body));
        let ((answered, answer), driver) = (oneshot::channel(), Tasks::new());
        driver.spawn(async move { drop(answered.send(sending.await)) });
        self.flights.push(Flight { node, ask, started: self.events, answer, _driver: driver });
    }

    /// Takes what was answered.
    fn land(&mut self) -> Result<(), String> {
        for mut flight in std::mem::take(&mut self.flights) {
            let answer = match flight.answer.try_recv() {
                Ok(answer) => answer,
                Err(oneshot::error::TryRecvError::Empty) => {
                    self.flights.push(flight);
                    continue;
                }
                Err(oneshot::error::TryRecvError::Closed) => return Err("a request panicked".to_owned()),
            };
            let Flight { node, ask, started, .. } = flight;
            self.events += 1;
            self.learn(node, ask, started, &answer).map_err(|problem| format!("{problem}; n{node}: {answer:?}"))?;
        }
        Ok(())
    }

    fn learn(&mut self, node: usize, ask: Ask, started: u64, answer: &Answer) -> Result<(), String> {
        let (ended, status) = (self.events, answer.status);
        let is_unknown = status >= 500;
        match ask {
            Ask::Write { key, number } => {
                if is_unknown {
                    return Ok(());
                }
                if status != 200 {
                    return Err(format!("write {number} of k{key} was refused"));
                }
                let version = answer.at("/data/version").as_u64().unwrap_or_default();
                self.say(format!("n{node} acknowledged write {number} of k{key} as version {version}"));
                self.versions.entry(key).or_default().note(Seen { started, ended, version, number, is_write: true })
            }
            Ask::Read { key } => {
                let (version, number) = match status {
                    200 => (answer.at("/data/metadata/version").as_u64(), answer.at("/data/data/n").as_u64()),
                    404 => (Some(0), Some(0)),
                    _ if is_unknown => return Ok(()),
                    _ => return Err(format!("a read of k{key} was refused")),
                };
                let mut version = version.unwrap_or_default();
                if self.planted == PlantedInCluster::StaleRead {
                    version = version.saturating_sub(1);
                }
                let number = if self.planted == PlantedInCluster::StaleRead { 0 } else { number.unwrap_or_default() };
                self.say(format!("n{node} showed version {version} of k{key}"));
                self.versions.entry(key).or_default().note(Seen { started, ended, version, number, is_write: false })
            }
            Ask::Secret => {
                self.handed_out += u64::from(status == 200);
                if status == 200 || is_unknown { Ok(()) } else { Err("nothing was handed out".to_owned()) }
            }
            Ask::Create => {
                if status == 200 {
                    let id = answer.text_at("/auth/client_token");
                    self.say(format!("n{node} made token {}", self.tokens.len()));
                    self.tokens.push(Token { id, revoking: None, revoked: None });
                }
                if status == 200 || is_unknown { Ok(()) } else { Err("no token was made".to_owned()) }
            }
            Ask::Use { token } => {
                self.say(format!("n{node} answered {status} to token {token}"));
                let Some(token) = self.tokens.get(token) else { return Ok(()) };
                match status {
                    200 if token.revoked.is_some_and(|revoked| revoked < started) => {
                        Err("a token was good after its revocation".to_owned())
                    }
                    403 if token.revoking.is_none_or(|revoking| revoking > ended) => {
                        Err("a token was not good that was made before".to_owned())
                    }
                    200 | 403 => Ok(()),
                    _ if is_unknown => Ok(()),
                    _ => Err("a token's look-up was refused".to_owned()),
                }
            }
            Ask::Revoke { token } => {
                self.say(format!("n{node} answered {status} to the revocation of token {token}"));
                if let Some(token) = self.tokens.get_mut(token).filter(|_| status < 300) {
                    token.revoked.get_or_insert(ended);
                }
                Ok(())
            }
        }
    }

    /// Something happens to the cluster.
    async fn happen(&mut self) {
        let running = self.world.running();
        let may_fall = running.len() > 1 && !self.is_parted;
        let leader = self.world.leader().filter(|_| self.random.chance(60));
        let victim = leader.or_else(|| self.random.pick(&running).copied());
        let Some(victim) = victim else { return };
        match self.random.below(10) {
            0 | 1 if may_fall => {
                self.forget(victim);
                self.world.kill(victim).await;
                self.report.crashes += 1;
                self.say(format!("n{victim} was killed"));
            }
            2 if may_fall => {
                self.forget(victim);
                self.world.lose_power(victim).await;
                self.report.crashes += 1;
                self.say(format!("n{victim} lost its power"));
            }
            3 if may_fall && running.len() * 2 > self.count + 1 => {
                self.say(format!("n{victim} is told to stop"));
                self.world.stop(victim).await;
            }
            4 | 5 if may_fall && running.len() == self.count => {
                self.world.part(&[victim]);
                self.is_parted = true;
                self.say(format!("n{victim} is parted from the others"));
            }
            6 => {
                let asked = assembly::request("PUT", "sys/step-down", ROOT, &Value::Null);
                let asking = self.world.sending(victim, asked);
                self.asides.spawn(async move { drop(asking.await) });
                self.say(format!("n{victim} is asked to let another lead"));
            }
            _ => self.mend().await,
        }
    }

    /// What a node that ends so was asked has no answer.
    fn forget(&mut self, node: usize) {
        // Dropped, they end.
        self.flights.retain(|flight| flight.node != node);
    }

    /// Everything runs again.
    async fn mend(&mut self) {
        self.world.fabric.heal();
        self.is_parted = false;
        let running = self.world.running();
        let down: Vec<usize> = (0..self.count).filter(|node| !running.contains(node)).collect();
        for node in &down {
            self.world.start(*node).await;
        }
        for node in &down {
            self.world.unseal(*node).await;
        }
        self.say(format!("everything runs again; {down:?} were down"));
    }

    async fn check(&mut self) -> Result<(), String> {
        let mut until = self.world.now() + LAST_WAIT;
        while self.world.active().is_none() && self.world.now() < until {
            self.world.pass(STEP).await;
        }
        // What was handed out ends meanwhile, and is taken back.
        self.world.pass(Duration::from_secs(5)).await;
        if self.planted == PlantedInCluster::LostWrite {
            let (started, ended) = (self.events + 1, self.events + 2);
            self.events = ended;
            let lost = Seen { started, ended, version: 1_000_000, number: 0, is_write: true };
            self.versions.entry(0).or_default().note(lost)?;
        }
        for node in 0..self.count {
            for key in 0..KEYS {
                self.events += 1;
                let started = self.events;
                let path = format!("kv/data/k{key}");
                let answer = self.world.call(node, "GET", &path, ROOT, Value::Null).await;
                self.events += 1;
                self.learn(node, Ask::Read { key }, started, &answer)
                    .map_err(|problem| format!("at the end: {problem}"))?;
                if answer.status >= 500 {
                    return Err(format!("at the end n{node} does not answer: {answer:?}"));
                }
            }
            let stale = self.world.node(node).stale_caches().map_err(|fault| fault.for_operators())?;
            if !stale.is_empty() {
                return Err(format!("caches of n{node} are stale: {stale:?}"));
            }
        }
        until = self.world.now() + LAST_WAIT;
        let handed_out = self.handed_out + u64::from(self.planted == PlantedInCluster::Forgotten) * 1000;
        loop {
            let sums = self.world.call(0, "GET", "made/sums", ROOT, Value::Null).await;
            let (left, revoked, twice) = (sums.at("/data/any_left"), sums.at("/data/revoked"), sums.at("/data/twice"));
            if twice.as_u64() != Some(0) {
                return Err(format!("something was taken back more than once: {sums:?}"));
            }
            if *left == json!(false) && revoked.as_u64().is_some_and(|revoked| revoked >= handed_out) {
                return Ok(());
            }
            if self.world.now() > until {
                return Err(format!("{handed_out} were handed out, and not all were taken back: {sums:?}"));
            }
            self.world.pass(Duration::from_millis(500)).await;
        }
    }
}
