//! A life of leases: secrets are handed out, renewed, revoked, and end, while the process is killed, the power goes,
//! the disk fails, the clock jumps and the engine refuses.
//!
//! After each round the promises are checked: no lease is forgotten, none is taken back before its time, none twice,
//! none lives on after its token; and of accounts outside the server, whatever became of the request that made them, none is
//! left without a lease. Deliberately absent: everything else that a server does (`run.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tresor_env::BoxFuture;
use tresor_harness::Answer;
use tresor_harness::lending::{Does, Service, service_anew};

use crate::accidents::{Accident, Odds, jump_clock};
use crate::ledger::{Lease, Ledger, Sure, Token, promised};
use crate::random::Random;
use crate::run::{Failure, Outcome, Report, last_lines, logging};
use crate::shares::Shares;
use crate::world::{StoreKind, World, poll_once};

const ROUNDS: usize = 8;
const OVERLAP_MAX: usize = 4;
const ODDS: Odds = Odds { disk_recovers: 10, clock_jumps: 5, disk_steps: 200 };
/// Lives of tokens and leases, in seconds.
const LIVES: [i64; 5] = [2, 30, 400, 3600, 90_000];
/// How the engine fails for a round.
const FAILURES: [&str; 8] = ["", "", "", "", "refuse", "fail", "panic", "hang"];
/// What the service outside does for a round.
const DOES: [Does; 10] = [
    Does::Everything,
    Does::Everything,
    Does::Everything,
    Does::Everything,
    Does::Refuses,
    Does::IsDown,
    Does::BreaksOff,
    Does::Half,
    Does::Hangs,
    Does::Hangs,
];
/// Longer than an engine that fails is left alone between two tries.
const PATIENCE: u64 = 700;

/// A fault that is planted to see that the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// None: the server as it is.
    #[default]
    Nothing,
    /// Leases are taken to be promised for ten times as long.
    LongPromise,
    /// What was taken back is counted once more.
    CountedTwice,
    /// A lease is taken to have been handed out that never was.
    Forgotten,
    /// A token is taken to be revoked that is not.
    LivesOn,
    /// There is an account outside that no lease stands for.
    Orphan,
}

/// What one request is about.
enum Ask {
    Token {
        parent: Option<usize>,
    },
    Secret {
        owner: usize,
    },
    /// An account outside the server.
    Account {
        owner: usize,
    },
    Renew {
        lease: usize,
        increment: i64,
    },
    Revoke {
        lease: usize,
    },
    RevokeToken {
        token: usize,
    },
}

struct UnderWay {
    ask: Ask,
    asked: i64,
    exchange: BoxFuture<'static, Answer>,
}

/// Threads that live lives.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Lives that overlap have a service each, also those of one seed. It is called the same in each life of a thread: what
    /// it is called decides where records lie, and so how often the disk is written to.
    static SERVICE_NAME: String = format!("life {:016x}", THREADS.fetch_add(1, Ordering::Relaxed));
}

struct Life {
    planted: Planted,
    world: World,
    random: Random,
    ledger: Ledger,
    /// What was handed out of accounts outside, and the service that they are at.
    lent: Vec<Lease>,
    service: Arc<Service>,
    service_name: String,
    shares: Shares,
    root: String,
    /// How the engine fails now.
    failure: &'static str,
    is_disk_failing: bool,
    latest: i64,
    history: Vec<String>,
    report: Report,
}

/// Runs one seed.
///
/// # Errors
/// [`Failure`] when a checker finds something.
pub fn run_leases(seed: u64, planted: Planted) -> Outcome {
    let failed = |problem: String, history: Vec<String>| Failure { seed, problem, history };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| failed(error.to_string(), Vec::new()))?;
    let mut random = Random::new(seed);
    let kind = if random.chance(50) { StoreKind::File } else { StoreKind::Memory };
    let service_name = SERVICE_NAME.with(Clone::clone);
    let mut life = Life {
        planted,
        world: World::new(seed, kind),
        random,
        ledger: Ledger::default(),
        lent: Vec::new(),
        service: service_anew(&service_name),
        service_name,
        shares: Shares { genuine: Vec::new(), threshold: 1 },
        root: String::new(),
        failure: "",
        is_disk_failing: false,
        latest: i64::MIN,
        history: Vec::new(),
        report: Report::default(),
    };
    let lines: Arc<Mutex<Vec<u8>>> = Arc::default();
    match logging(&lines, || runtime.block_on(life.live())) {
        Ok(()) => Ok((life.report, life.history)),
        Err(problem) => {
            life.history.extend(last_lines(&lines));
            Err(failed(problem, life.history))
        }
    }
}

impl Life {
    async fn live(&mut self) -> Result<(), String> {
        self.world.start()?;
        let wish = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let init = self.world.call("POST", "sys/init", "", &wish).await?;
        self.shares.genuine =
            init.at("/keys").as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        self.root = init.at("/root_token").as_str().unwrap_or_default().to_owned();
        self.unseal().await?;
        self.must("POST", "sys/mounts/made", &json!({ "type": "leasing" })).await?;
        self.must("POST", "sys/mounts/lent", &json!({ "type": "lending" })).await?;
        let service = json!({ "service": self.service_name });
        self.must("POST", "lent/config", &service).await?;
        let live_before = self.live_count().await?;
        for round in 0..ROUNDS {
            self.history.push(format!("round {round}"));
            self.round().await.map_err(|problem| format!("round {round}: {problem}"))?;
            self.check().await.map_err(|problem| format!("after round {round}: {problem}"))?;
        }
        self.end_of_everything(live_before).await.map_err(|problem| format!("at the end: {problem}"))
    }

    async fn unseal(&mut self) -> Result<(), String> {
        self.shares.unseal(&self.world, &mut self.random, &mut self.history, self.is_disk_failing).await
    }

    fn now(&mut self) -> i64 {
        let now = self.world.now().nanos();
        self.latest = self.latest.max(now);
        now
    }

    /// A call by root, while nothing fails.
    async fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let root = self.root.clone();
        let answer = self.world.call(method, path, &root, body).await?;
        self.now();
        Ok(answer)
    }

    async fn must(&mut self, method: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let answer = self.call(method, path, body).await?;
        if answer.status < 300 { Ok(answer) } else { Err(format!("{method} {path}: {answer:?}")) }
    }

    async fn live_count(&mut self) -> Result<u64, String> {
        let answer = self.must("GET", "sys/leases/count?type=live", &Value::Null).await?;
        Ok(answer.at("/data/lease_count").as_u64().unwrap_or(u64::MAX))
    }

    async fn engine_fails(&mut self, how: &'static str) -> Result<(), String> {
        if self.failure != how {
            self.history.push(format!("the engine: {how:?}"));
            self.must("POST", "made/config", &json!({ "failure": how })).await?;
            self.failure = how;
        }
        Ok(())
    }

    async fn pass(&mut self, duration: Duration) {
        self.now();
        self.world.advance(duration).await;
        self.history.push(format!("{} ms pass", duration.as_millis()));
        self.now();
    }

    async fn round(&mut self) -> Result<(), String> {
        let failure = self.random.pick(&FAILURES).copied().unwrap_or("");
        self.engine_fails(failure).await?;
        let does = self.random.pick(&DOES).copied().unwrap_or_default();
        self.history.push(format!("the service: {does:?}"));
        self.service.is_told(does);
        let accident = Accident::draw(&mut self.random, &ODDS);
        accident.begin(&self.world, &mut self.random, &ODDS, &mut self.history);
        self.is_disk_failing |= accident.fails_disk();
        let planned = 4 + self.random.below(10);
        self.overlap(planned).await?;
        let random = &mut self.random;
        let keeps_all = accident == Accident::PowerLost && random.chance(50);
        let keep = |length: usize| if keeps_all { length } else { random.below(length + 1) };
        accident.crash(&mut self.world, keep, &mut self.history).await;
        if accident == Accident::ClockJumps {
            self.jump_clock();
        }
        if accident.is_crash() {
            self.is_disk_failing = false;
            self.report.crashes += 1;
            if self.random.chance(20) {
                self.jump_clock();
            }
            self.world.start()?;
            self.unseal().await?;
        }
        self.now();
        Ok(())
    }

    fn jump_clock(&mut self) {
        jump_clock(&self.world, &mut self.random, 600, 200, &mut self.history);
        self.now();
    }

    /// Requests that overlap, until they are answered or nothing goes on any more.
    async fn overlap(&mut self, planned: usize) -> Result<(), String> {
        let mut under_way: Vec<UnderWay> = Vec::new();
        let (mut left, mut idle) = (planned, 0_usize);
        while left > 0 || !under_way.is_empty() {
            if left > 0 && under_way.len() < OVERLAP_MAX && self.random.chance(30) {
                left -= 1;
                under_way.extend(self.begin()?);
            }
            let at = self.random.below(under_way.len());
            if let Some(chosen) = under_way.get_mut(at)
                && let Some(answer) = poll_once(&mut chosen.exchange)
            {
                let one = under_way.swap_remove(at);
                self.finish(&one.ask, one.asked, Some(&answer))?;
                idle = 0;
            }
            for _ in 0..self.random.below(4) {
                tokio::task::yield_now().await;
            }
            if self.random.chance(2) {
                let nanos = self.random.next() % 5_000_000_000;
                self.pass(Duration::from_nanos(nanos)).await;
            }
            idle += 1;
            if idle > 2_000 {
                self.pass(Duration::from_secs(1)).await;
            }
            if idle > 2_200 && !self.is_disk_failing {
                return Err("a request is never answered".to_owned());
            }
            let is_cut = self.world.doors.disk.is_failing() && (self.random.chance(8) || idle > 2_200);
            if is_cut {
                break;
            }
        }
        for one in under_way {
            self.finish(&one.ask, one.asked, None)?;
        }
        Ok(())
    }

    fn life(&mut self) -> i64 {
        self.random.pick(&LIVES).copied().unwrap_or(30)
    }

    /// Begins a request; nothing when there is nothing to ask about.
    fn begin(&mut self) -> Result<Option<UnderWay>, String> {
        self.report.operations += 1;
        let ttl = self.life();
        let token = (!self.ledger.tokens.is_empty()).then(|| self.random.below(self.ledger.tokens.len()));
        let idle: Vec<usize> = (0..self.ledger.leases.len())
            .filter(|at| {
                self.ledger.leases.get(*at).is_some_and(|lease| !lease.is_busy && lease.is_revoked == Sure::No)
            })
            .collect();
        let lease = self.random.pick(&idle).copied();
        let ask = match (self.random.below(20), token, lease) {
            (0..4, parent, _) => Ask::Token { parent: parent.filter(|_| self.random.chance(60)) },
            (4..8, Some(owner), _) => Ask::Secret { owner },
            (8..12, Some(owner), _) => Ask::Account { owner },
            (12..16, _, Some(lease)) => Ask::Renew { lease, increment: ttl },
            (16..18, _, Some(lease)) => Ask::Revoke { lease },
            (18..20, Some(token), _) => Ask::RevokeToken { token },
            (_, None, _) => Ask::Token { parent: None },
            (_, Some(owner), None) => Ask::Secret { owner },
            (_, Some(owner), Some(_)) => Ask::Secret { owner },
        };
        let text = |token: usize| self.ledger.tokens.get(token).map_or("", |token| token.text.as_str());
        let id = |lease: usize| self.ledger.leases.get(lease).map_or("", |lease| lease.id.as_str());
        let is_sync = self.random.chance(40);
        let (method, path, by, body) = match &ask {
            Ask::Token { parent } => {
                let by = parent.map_or(self.root.as_str(), text);
                ("POST", "auth/token/create".to_owned(), by, json!({ "ttl": ttl, "policies": ["root"] }))
            }
            Ask::Secret { owner } => ("GET", format!("made/creds/role?ttl={ttl}s"), text(*owner), Value::Null),
            Ask::Account { owner } => ("GET", format!("lent/creds/role?ttl={ttl}s"), text(*owner), Value::Null),
            Ask::Renew { lease, increment } => {
                let body = json!({ "lease_id": id(*lease), "increment": increment });
                ("POST", "sys/leases/renew".to_owned(), self.root.as_str(), body)
            }
            Ask::Revoke { lease } => {
                let body = json!({ "lease_id": id(*lease), "sync": is_sync });
                ("POST", "sys/leases/revoke".to_owned(), self.root.as_str(), body)
            }
            Ask::RevokeToken { token } => {
                ("POST", "auth/token/revoke".to_owned(), self.root.as_str(), json!({ "token": text(*token) }))
            }
        };
        let exchange = self.world.exchange(2, method, &path, by, &body)?;
        self.history.push(format!("{method} {path} {body}"));
        match &ask {
            Ask::Renew { lease, .. } | Ask::Revoke { lease } => {
                if let Some(lease) = self.ledger.leases.get_mut(*lease) {
                    lease.is_busy = true;
                }
            }
            // From now on it may be.
            Ask::RevokeToken { token } => {
                if let Some(token) = self.ledger.tokens.get_mut(*token) {
                    token.is_revoked = token.is_revoked.max(Sure::Maybe);
                }
            }
            Ask::Token { .. } | Ask::Secret { .. } | Ask::Account { .. } => {}
        }
        let asked = self.now();
        Ok(Some(UnderWay { ask, asked, exchange }))
    }

    /// Takes an answer, or that there will be none.
    fn finish(&mut self, ask: &Ask, asked: i64, answer: Option<&Answer>) -> Result<(), String> {
        let now = self.now();
        if let Some(answer) = answer {
            self.history.push(format!("  -> {answer:?}"));
        }
        let status = answer.map(|answer| answer.status).filter(|status| *status < 500);
        let seconds = |pointer: &str| answer.and_then(|answer| answer.at(pointer).as_i64()).unwrap_or(0);
        let text = |pointer: &str| answer.and_then(|answer| answer.at(pointer).as_str()).unwrap_or("").to_owned();
        if matches!(ask, Ask::Account { .. }) {
            // What hangs comes true, whether or not somebody still waits for it, or never.
            if self.random.chance(50) {
                self.service.comes_true();
            } else if status != Some(200) {
                self.service.forgets();
            }
        }
        let stretch = if self.planted == Planted::LongPromise { 10 } else { 1 };
        match (ask, status) {
            (Ask::Token { parent }, Some(200)) => {
                let (end_min, end_max) = promised(asked, now, seconds("/auth/lease_duration"));
                let (text, parent) = (text("/auth/client_token"), *parent);
                self.ledger.tokens.push(Token { text, parent, end_min, end_max, is_revoked: Sure::No });
            }
            (Ask::Secret { owner }, Some(200)) => {
                let (end_min, end_max) = promised(asked, now, seconds("/lease_duration") * stretch);
                let (id, user, owner) = (text("/lease_id"), text("/data/user"), *owner);
                self.ledger.leases.push(Lease {
                    id,
                    user,
                    owner,
                    end_min,
                    end_max,
                    is_revoked: Sure::No,
                    is_busy: false,
                });
            }
            (Ask::Account { owner }, Some(200)) => {
                let (end_min, end_max) = promised(asked, now, seconds("/lease_duration"));
                let (id, user, owner) = (text("/lease_id"), text("/data/username"), *owner);
                let is_revoked = Sure::No;
                self.lent.push(Lease { id, user, owner, end_min, end_max, is_revoked, is_busy: false });
            }
            (Ask::Token { parent: Some(owner) } | Ask::Secret { owner }, Some(403))
                if !self.ledger.token_may_be_over(*owner, self.latest) =>
            {
                return Err("a token that is alive was refused".to_owned());
            }
            (Ask::RevokeToken { token }, status) => {
                let Some(token) = self.ledger.tokens.get_mut(*token) else { return Ok(()) };
                if status == Some(204) {
                    token.is_revoked = Sure::Yes;
                }
            }
            (Ask::Renew { lease: at, increment }, status) => {
                let Some(lease) = self.ledger.leases.get_mut(*at) else { return Ok(()) };
                lease.is_busy = false;
                match status {
                    Some(200) => (lease.end_min, lease.end_max) = promised(asked, now, seconds("/lease_duration")),
                    // Nobody knows whether it was renewed.
                    None => {
                        let (end_min, end_max) = promised(asked, now, *increment);
                        (lease.end_min, lease.end_max) = (lease.end_min.min(end_min), lease.end_max.max(end_max));
                    }
                    Some(status) => {
                        let lease = self.ledger.leases.get(*at).filter(|_| self.failure.is_empty());
                        if lease.is_some_and(|lease| !self.ledger.may_be_over(lease, self.latest)) {
                            return Err(format!("a lease in use was not renewed: {status}"));
                        }
                    }
                }
            }
            (Ask::Revoke { lease }, status) => {
                let Some(lease) = self.ledger.leases.get_mut(*lease) else { return Ok(()) };
                lease.is_busy = false;
                // An engine that refused to take it back at once leaves it as it was; another answer may be lost.
                match status {
                    Some(204) => lease.is_revoked = Sure::Yes,
                    Some(_) => {}
                    None => lease.is_revoked = lease.is_revoked.max(Sure::Maybe),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is handed out, and what was taken back and how often.
    async fn engine_says(&mut self) -> Result<(BTreeSet<String>, BTreeMap<String, u64>), String> {
        let made = self.call("LIST", "made/made", &Value::Null).await?;
        let made = made.at("/data/keys").as_array().into_iter().flatten();
        let made = made.filter_map(Value::as_str).map(str::to_owned).collect();
        let revoked = self.must("GET", "made/revoked", &Value::Null).await?;
        let once_more = u64::from(self.planted == Planted::CountedTwice);
        let revoked = revoked.at("/data").as_object().into_iter().flatten();
        let revoked = revoked.map(|(user, times)| (user.clone(), times.as_u64().unwrap_or(0) + once_more)).collect();
        Ok((made, revoked))
    }

    /// At rest, every promise is kept.
    async fn check(&mut self) -> Result<(), String> {
        self.world.settle().await;
        self.plant();
        let (made, revoked) = self.engine_says().await?;
        if let Some((user, times)) = revoked.iter().find(|(_, times)| **times > 1) {
            return Err(format!("{user} was taken back {times} times"));
        }
        for lease in &self.ledger.leases {
            let (is_made, is_revoked) = (made.contains(&lease.user), revoked.contains_key(&lease.user));
            if is_made == is_revoked {
                return Err(format!("{} is handed out: {is_made}, and taken back: {is_revoked}", lease.user));
            }
            if is_revoked && !self.ledger.may_be_over(lease, self.latest) {
                return Err(format!("{} was taken back before its time", lease.user));
            }
        }
        for at in 0..self.ledger.leases.len() {
            self.look_up(at).await?;
        }
        let accounts = self.service.accounts();
        let gone = |lease: &&Lease| !accounts.contains(&lease.user);
        let gone = self.lent.iter().filter(gone).find(|lease| !self.ledger.may_be_over(lease, self.latest));
        gone.map_or(Ok(()), |lease| Err(format!("the account {} was taken back before its time", lease.user)))
    }

    async fn look_up(&mut self, at: usize) -> Result<(), String> {
        let Some(lease) = self.ledger.leases.get(at) else { return Ok(()) };
        let body = json!({ "lease_id": lease.id });
        let before = self.now();
        let answer = self.call("POST", "sys/leases/lookup", &body).await?;
        let Some(lease) = self.ledger.leases.get(at) else { return Ok(()) };
        let is_irrevocable = answer.at("/data/revoke_error").is_string();
        match answer.status {
            200 if is_irrevocable => Ok(()),
            200 if self.ledger.must_be_over(lease, before) => {
                let line = self.ledger.told(lease);
                Err(format!("{} lives on at {before}: {line}; {answer:?}", lease.id))
            }
            400 if !self.ledger.may_be_over(lease, self.latest) => Err(format!("{} is not there any more", lease.id)),
            200 | 400 => Ok(()),
            _ => Err(format!("{}: {answer:?}", lease.id)),
        }
    }

    /// Believes what no server did.
    fn plant(&mut self) {
        match self.planted {
            Planted::Forgotten => {
                let (id, user) = ("made/creds/role/none".to_owned(), "none".to_owned());
                let (end_min, end_max) = (i64::MAX, i64::MAX);
                self.ledger.leases.push(Lease {
                    id,
                    user,
                    owner: usize::MAX,
                    end_min,
                    end_max,
                    is_revoked: Sure::No,
                    is_busy: false,
                });
            }
            Planted::Orphan => self.service.has("nobody's"),
            Planted::LivesOn => self.ledger.tokens.iter_mut().for_each(|token| token.is_revoked = Sure::Yes),
            Planted::Nothing | Planted::LongPromise | Planted::CountedTwice => {}
        }
    }

    /// When everything has ended and nothing fails any more, nothing is left, and each was taken back once.
    async fn end_of_everything(&mut self, live_before: u64) -> Result<(), String> {
        self.engine_fails("").await?;
        self.service.is_told(Does::Everything);
        self.pass(Duration::from_secs(200_000)).await;
        for _ in 0..3 {
            for _ in 0..8 {
                self.pass(Duration::from_secs(PATIENCE / 6)).await;
            }
            self.revoke_irrevocable().await?;
        }
        let (made, revoked) = self.engine_says().await?;
        if !made.is_empty() {
            return Err(format!("{} secrets are forgotten: {made:?}", made.len()));
        }
        for lease in &self.ledger.leases {
            if revoked.get(&lease.user) != Some(&1) {
                return Err(format!("{} was taken back {:?} times", lease.user, revoked.get(&lease.user)));
            }
        }
        let orphans = self.service.accounts();
        if !orphans.is_empty() {
            return Err(format!("{} accounts are forgotten: {orphans:?}", orphans.len()));
        }
        let listed = self.call("LIST", "sys/leases/lookup", &Value::Null).await?;
        let live = self.live_count().await?;
        if listed.status != 404 || live != live_before {
            return Err(format!("{live} alive, {live_before} before; listed: {listed:?}"));
        }
        let stale = self.world.node().map(|node| node.stale_caches());
        match stale {
            Some(Ok(stale)) if stale.is_empty() => Ok(()),
            other => Err(format!("caches differ from what is stored: {other:?}")),
        }
    }

    /// What an operator does who has mended the engine.
    async fn revoke_irrevocable(&mut self) -> Result<(), String> {
        let listed = self.must("GET", "sys/leases?type=irrevocable", &Value::Null).await?;
        let ids: Vec<Value> =
            listed.at("/data/leases").as_array().into_iter().flatten().map(|lease| lease["lease_id"].clone()).collect();
        for id in ids {
            self.must("POST", "sys/leases/revoke", &json!({ "lease_id": id })).await?;
        }
        Ok(())
    }
}
