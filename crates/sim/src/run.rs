//! One run: rounds of operations that overlap, each with its accident, each followed by every checker.
//!
//! Requests go on one poll at a time, in an order chosen by the seed; between them tasks of the server get a turn, the
//! clock moves, the disk fails. A round ends at rest: then the model must explain every answer, every cache must equal
//! its reload, and every answer must have its records. Deliberately absent: what is asked (`generate.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tresor_env::BoxFuture;
use tresor_harness::Answer;

use crate::accidents::{Accident, Odds, jump_clock};
use crate::generate::{Generator, Names};
use crate::linear::{Begun, explained};
use crate::model::{Moment, Span, State};
use crate::operation::{Act, Kind, Operation};
use crate::random::Random;
use crate::records::unrecorded;
use crate::secrets::Secrets;
use crate::shares::Shares;
use crate::world::{StoreKind, World, poll_once};

/// How many operations overlap at most.
const OVERLAP_MAX: usize = 4;
/// What happens to a process, and how often.
const ODDS: Odds = Odds { disk_recovers: 12, clock_jumps: 10, disk_steps: 120 };
/// Rounds of one run.
const ROUNDS: usize = 10;
/// Where the device writes that is enabled throughout.
const DEVICE_FILE: &str = "/audit/first.log";
/// The port of the first operation; each has its own.
const PORT_FIRST: usize = 1_000;
/// How many possible states are followed at most.
const STATES_MAX: usize = 3_000;

/// How many of the server's last log lines a failure shows.
const LOG_LINES: usize = 10;

/// A fault that is planted to see that the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None: the server as it is.
    #[default]
    Nothing,
    /// Secrets are removed behind the clients' backs.
    LostWrite,
    /// The records of an answer are kept from the checker.
    SkippedRecord,
    /// A secret is written to the disk.
    LeakedSecret,
    /// The model takes tokens to end at half their life.
    ImmortalTokens,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Operations begun.
    pub operations: usize,
    /// Ends of a process: killed, or without power.
    pub crashes: usize,
    /// Sealings on demand.
    pub sealings: usize,
    /// Processes that were told to stop.
    pub stops: usize,
    /// Nodes that were parted from others.
    pub partitions: usize,
    /// Nodes that stood still.
    pub pauses: usize,
    /// Disks that were lost whole.
    pub disks_lost: usize,
    /// Nodes that were removed, or lost their vote.
    pub members_changed: usize,
    /// Clocks that were set.
    pub clocks_set: usize,
    /// Reads that were answered without what was written last, as they chose.
    pub stale_reads: usize,
}

impl Report {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            crashes: self.crashes + other.crashes,
            sealings: self.sealings + other.sealings,
            stops: self.stops + other.stops,
            partitions: self.partitions + other.partitions,
            pauses: self.pauses + other.pauses,
            disks_lost: self.disks_lost + other.disks_lost,
            members_changed: self.members_changed + other.members_changed,
            clocks_set: self.clocks_set + other.clocks_set,
            stale_reads: self.stale_reads + other.stale_reads,
        }
    }
}

/// Why a run failed.
#[derive(Debug)]
pub struct Failure {
    /// The seed that does it again.
    pub seed: u64,
    /// What is wrong.
    pub problem: String,
    /// Everything that happened, in order.
    pub history: Vec<String>,
}

/// A run that went well: what it did, and its history.
pub type Outcome = Result<(Report, Vec<String>), Failure>;

/// Runs one seed.
///
/// # Errors
/// [`Failure`] when a checker finds something.
pub fn run(seed: u64, sabotage: Sabotage) -> Outcome {
    let lines: Arc<Mutex<Vec<u8>>> = Arc::default();
    let failed = |problem: String, history: Vec<String>| Failure { seed, problem, history };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| failed(error.to_string(), Vec::new()))?;
    logging(&lines.clone(), || {
        let mut run = Run::new(seed, sabotage, lines);
        match runtime.block_on(run.live()) {
            Ok(()) => Ok((run.report, run.history)),
            Err(problem) => {
                let mut history = std::mem::take(&mut run.history);
                history.extend(last_lines(&run.lines));
                Err(failed(problem, history))
            }
        }
    })
}

/// Does some work, and keeps what the server logs meanwhile.
pub(crate) fn logging<T>(lines: &Arc<Mutex<Vec<u8>>>, work: impl FnOnce() -> T) -> T {
    let written = Lines(Arc::clone(lines));
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || written.clone())
        .with_ansi(false)
        .without_time()
        // The library that clusters agree by says a thousand things per request at this level, about nothing that is secret.
        .with_env_filter(EnvFilter::new("debug,openraft=warn"))
        .finish();
    tracing::subscriber::with_default(subscriber, work)
}

/// The last lines of a log, as a history shows them.
pub(crate) fn last_lines(lines: &Mutex<Vec<u8>>) -> Vec<String> {
    let log = String::from_utf8_lossy(&lines.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    let mut last: Vec<String> = log.lines().rev().take(LOG_LINES).map(|line| format!("log: {line}")).collect();
    last.reverse();
    last
}

/// Where log lines go.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An operation under way.
struct UnderWay {
    index: usize,
    exchange: BoxFuture<'static, Answer>,
}

struct Run {
    sabotage: Sabotage,
    world: World,
    random: Random,
    names: Names,
    secrets: Secrets,
    shares: Shares,
    /// Texts of the tokens that clients know.
    tokens: BTreeMap<usize, String>,
    states: BTreeSet<State>,
    /// What this round is about, when it is about one thing: so operations meet.
    subject: Option<usize>,
    begun: Vec<Begun>,
    number: usize,
    events: usize,
    latest: i64,
    /// Ports of answered requests whose records must be there.
    answered: BTreeSet<u16>,
    /// Of these, those that may not be durable yet.
    undurable: BTreeSet<u16>,
    is_disk_failing: bool,
    lines: Arc<Mutex<Vec<u8>>>,
    history: Vec<String>,
    report: Report,
}

impl Run {
    fn new(seed: u64, sabotage: Sabotage, lines: Arc<Mutex<Vec<u8>>>) -> Self {
        let mut random = Random::new(seed);
        let kind = if random.chance(50) { StoreKind::File } else { StoreKind::Memory };
        let names = Names::new(seed);
        Self {
            sabotage,
            world: World::new(seed, kind),
            random,
            secrets: Secrets::new(&names),
            names,
            shares: Shares { genuine: Vec::new(), threshold: 0 },
            tokens: BTreeMap::new(),
            states: BTreeSet::from([State::initial()]),
            subject: None,
            begun: Vec::new(),
            number: 0,
            events: 0,
            latest: i64::MIN,
            answered: BTreeSet::new(),
            undurable: BTreeSet::new(),
            is_disk_failing: false,
            lines,
            history: Vec::new(),
            report: Report::default(),
        }
    }

    async fn live(&mut self) -> Result<(), String> {
        self.begin().await?;
        for round in 0..ROUNDS {
            self.history.push(format!("round {round}"));
            self.round().await.map_err(|problem| format!("round {round}: {problem}"))?;
            self.check().await.map_err(|problem| format!("after round {round}: {problem}"))?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), String> {
        let (shares, threshold) = self.random.pick(&[(1, 1), (3, 2), (5, 3)]).copied().unwrap_or((1, 1));
        self.world.start()?;
        let wish = json!({ "secret_shares": shares, "secret_threshold": threshold });
        let init = self.world.call("POST", "sys/init", "", &wish).await?;
        let keys = init.at("/keys").as_array().cloned().unwrap_or_default();
        let genuine = keys.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        self.shares = Shares { genuine, threshold };
        let root = init.at("/root_token").as_str().ok_or(format!("no root token: {init:?}"))?.to_owned();
        self.secrets.watch("the root token", &root);
        for share in &self.shares.genuine {
            self.secrets.watch("an unseal share", share);
        }
        self.tokens.insert(0, root.clone());
        self.unseal().await?;
        let device = json!({ "type": "file", "options": { "file_path": DEVICE_FILE } });
        let enabled = self.world.call("PUT", "sys/audit/first", &root, &device).await?;
        if enabled.status != 204 {
            return Err(format!("no audit device: {enabled:?}"));
        }
        let mut state = State::initial();
        state.devices.insert("first".to_owned());
        self.states = BTreeSet::from([state]);
        Ok(())
    }

    async fn unseal(&mut self) -> Result<(), String> {
        self.shares.unseal(&self.world, &mut self.random, &mut self.history, self.is_disk_failing).await
    }

    fn now(&mut self) -> i64 {
        let now = self.world.now().nanos();
        self.latest = self.latest.max(now);
        now
    }

    /// Operations that overlap, until they are answered or an accident ends them.
    async fn round(&mut self) -> Result<(), String> {
        let planned = 3 + self.random.below(6);
        self.subject = self.random.chance(50).then(|| self.random.below(100));
        let accident = Accident::draw(&mut self.random, &ODDS);
        accident.begin(&self.world, &mut self.random, &ODDS, &mut self.history);
        self.is_disk_failing |= accident.fails_disk();
        self.overlap(planned, accident.fails_disk()).await?;
        let random = &mut self.random;
        let style = if accident == Accident::PowerLost { random.below(4) } else { 0 };
        let keep = |length: usize| match style {
            0 => 0,
            1 => length,
            _ if random.chance(50) => length,
            _ => random.below(length + 1),
        };
        accident.crash(&mut self.world, keep, &mut self.history).await;
        if accident == Accident::PowerLost {
            self.answered.retain(|port| !self.undurable.contains(port));
        }
        if accident == Accident::ClockJumps {
            self.jump_clock();
        }
        if accident.is_crash() {
            self.undurable.clear();
            self.is_disk_failing = false;
            self.report.crashes += 1;
            if self.random.chance(20) {
                self.jump_clock();
            }
            self.world.start()?;
        }
        self.unseal().await?;
        self.now();
        Ok(())
    }

    fn jump_clock(&mut self) {
        jump_clock(&self.world, &mut self.random, 4_000, 1_000, &mut self.history);
        self.now();
    }

    fn start_operation(&mut self, act: Option<Operation>) -> Result<UnderWay, String> {
        self.number += 1;
        self.report.operations += 1;
        let number = self.number;
        let operation = match act {
            Some(operation) => operation,
            None if self.random.chance(4) => Operation { by: 0, act: Act::Seal },
            None => {
                let initial = State::initial();
                let likely = self.states.first().unwrap_or(&initial);
                Generator { random: &mut self.random, names: &self.names, known: &self.tokens, likely, number }
                    .operation(self.subject)
            }
        };
        for (label, secret) in secrets_of(&operation.act) {
            self.secrets.watch(label, secret);
        }
        let (method, path, body) = operation.wire(&self.tokens)?;
        let port = self.port(number);
        self.history.push(format!("#{number} by {} {:?}", operation.by, operation.act));
        let exchange = self.world.exchange(port, method, &path, operation.token(&self.tokens), &body)?;
        let from = self.now();
        self.events += 1;
        let moment = Moment { span: Span { from, to: from }, latest: self.latest };
        let (started, index) = (self.events, self.begun.len());
        self.begun.push(Begun { number, operation, moment, started, ended: None, answer: None });
        Ok(UnderWay { index, exchange })
    }

    fn port(&self, number: usize) -> u16 {
        u16::try_from(PORT_FIRST + number).unwrap_or(u16::MAX)
    }

    async fn overlap(&mut self, planned: usize, is_cut_short: bool) -> Result<(), String> {
        let mut under_way: Vec<UnderWay> = Vec::new();
        let mut left = planned;
        let mut idle = 0_usize;
        while left > 0 || !under_way.is_empty() {
            if left > 0 && under_way.len() < OVERLAP_MAX && self.random.chance(30) {
                left -= 1;
                let begun = self.start_operation(None)?;
                under_way.push(begun);
            }
            if !under_way.is_empty() {
                let at = self.random.below(under_way.len());
                if let Some(chosen) = under_way.get_mut(at)
                    && let Some(answer) = poll_once(&mut chosen.exchange)
                {
                    let index = under_way.swap_remove(at).index;
                    let was_sealed = self.finish(index, answer)?;
                    idle = 0;
                    if was_sealed && self.random.chance(50) {
                        // Requests from before the sealing are still under way.
                        self.unseal().await?;
                    }
                }
            }
            for _ in 0..self.random.below(4) {
                tokio::task::yield_now().await;
            }
            if self.random.chance(2) {
                let nanos = self.random.next() % 3_000_000_000;
                self.advance(Duration::from_nanos(nanos));
            }
            idle += 1;
            if idle > 3_000 {
                if is_cut_short {
                    return Ok(());
                }
                self.advance(Duration::from_secs(1));
            }
            if idle > 100_000 {
                return Err("a request is never answered".to_owned());
            }
            if is_cut_short && self.world.doors.disk.is_failing() && self.random.chance(8) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn advance(&mut self, duration: Duration) {
        self.now();
        self.world.doors.clock.advance(duration);
        self.history.push(format!("{} ms pass", duration.as_millis()));
        self.now();
    }

    /// Takes an answer; whether it was to a sealing that succeeded.
    fn finish(&mut self, index: usize, answer: Answer) -> Result<bool, String> {
        let (now, latest) = (self.now(), self.latest);
        self.events += 1;
        let Some(begun) = self.begun.get_mut(index) else { return Ok(false) };
        self.history.push(format!("#{} {answer:?}", begun.number));
        begun.moment = Moment { span: Span { from: begun.moment.span.from.min(now), to: now }, latest };
        begun.ended = Some(self.events);
        let number = begun.number;
        let is_sealing = matches!(begun.operation.act, Act::Seal) && answer.status == 204;
        if answer.status >= 500 {
            if answer.status != 503 && !self.is_disk_failing {
                return Err(format!("#{number} failed without a reason: {answer:?}"));
            }
            return Ok(false);
        }
        let port = u16::try_from(PORT_FIRST + number).unwrap_or(u16::MAX);
        self.answered.insert(port);
        self.undurable.insert(port);
        if let Some(token) = answer.at("/auth/client_token").as_str()
            && matches!(begun.operation.act, Act::CreateToken { .. } | Act::Login { .. })
        {
            self.secrets.watch("a token", token);
            self.tokens.insert(number, token.to_owned());
        }
        begun.answer = Some(Arc::new(answer));
        self.report.sealings += usize::from(is_sealing);
        Ok(is_sealing)
    }

    /// Lets everything come to rest, and asks every checker.
    async fn check(&mut self) -> Result<(), String> {
        self.world.settle().await;
        self.explain()?;
        self.survey().await?;
        self.explain()?;
        let stale = self.world.node().map(|node| node.stale_caches());
        match stale {
            Some(Ok(stale)) if stale.is_empty() => {}
            other => return Err(format!("caches differ from what is stored: {other:?}")),
        }
        self.check_records().await?;
        self.sabotage().await?;
        let log = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.secrets.check(&self.world.stored_bytes(), &log)
    }

    fn explain(&mut self) -> Result<(), String> {
        let begun = std::mem::take(&mut self.begun);
        let after = explained(&self.states, &begun);
        if after.is_empty() {
            let asked: Vec<String> = begun
                .iter()
                .map(|one| format!("#{} {}..{:?} {:?}", one.number, one.started, one.ended, one.moment.span))
                .collect();
            let state = self.states.first();
            return Err(format!("no order explains the answers of {}; before: {state:?}", asked.join(", ")));
        }
        if after.len() > STATES_MAX {
            return Err(format!("{} states are possible: the run asks too little", after.len()));
        }
        self.states = after;
        if self.sabotage == Sabotage::ImmortalTokens {
            self.states = std::mem::take(&mut self.states).into_iter().map(halved).collect();
        }
        Ok(())
    }

    /// Asks for everything that there can be, one after the other.
    async fn survey(&mut self) -> Result<(), String> {
        let mut acts = vec![Act::ListMounts, Act::ListDevices];
        for mount in self.names.plain.clone() {
            acts.extend(self.names.keys.iter().map(|key| Act::Get1 { mount: mount.clone(), key: key.clone() }));
            acts.push(Act::List { mount, kind: Kind::Kv1 });
        }
        for mount in self.names.versioned.clone() {
            acts.extend(self.names.keys.iter().map(|key| Act::Get2 { mount: mount.clone(), key: key.clone() }));
            acts.push(Act::List { mount, kind: Kind::Kv2 });
        }
        acts.extend(self.names.policies.iter().map(|name| Act::ReadPolicy { name: name.clone() }));
        acts.extend(self.tokens.keys().filter(|number| **number != 0).map(|token| Act::Lookup { token: *token }));
        for act in acts {
            let mut under_way = self.start_operation(Some(Operation { by: 0, act }))?;
            for turn in 0..200_000 {
                if let Some(answer) = poll_once(&mut under_way.exchange) {
                    self.finish(under_way.index, answer)?;
                    break;
                }
                if turn % 1_000 == 999 {
                    self.advance(Duration::from_secs(1));
                }
                tokio::task::yield_now().await;
            }
            self.explain()?;
        }
        Ok(())
    }

    /// Every answer has its records, at the latest when the device has tried again.
    async fn check_records(&mut self) -> Result<(), String> {
        for patience in [2, 2, 31, 31] {
            self.advance(Duration::from_secs(patience));
            self.world.settle().await;
            let files = self.world.doors.disk.dump();
            let file = files.get(Path::new(DEVICE_FILE)).cloned().unwrap_or_default();
            let mut wanted = self.answered.clone();
            if self.sabotage == Sabotage::SkippedRecord {
                wanted.insert(u16::MAX);
            }
            let missing = unrecorded(&file, &wanted);
            if missing.is_empty() {
                self.answered.clear();
                self.undurable.clear();
                return Ok(());
            }
            if patience == 31 {
                let numbers: Vec<usize> =
                    missing.iter().map(|port| usize::from(*port).saturating_sub(PORT_FIRST)).collect();
                self.history.push(format!("without records so far: {numbers:?}"));
            }
        }
        Err("answers have no audit records".to_owned())
    }

    /// Does what no server may do.
    async fn sabotage(&mut self) -> Result<(), String> {
        let Some(root) = self.tokens.get(&0).cloned() else { return Ok(()) };
        match self.sabotage {
            Sabotage::LostWrite => {
                for mount in self.names.plain.clone() {
                    for key in self.names.keys.clone() {
                        self.world.call("DELETE", &format!("{mount}{key}"), &root, &Value::Null).await?;
                    }
                }
            }
            Sabotage::LeakedSecret => {
                let file = self.world.doors.doors.disk.open(Path::new("/data/leak"), tresor_env::disk::Open::OrCreate);
                let written = file.and_then(|file| file.write_all_at(0, root.as_bytes()));
                written.map_err(|error| error.to_string())?;
            }
            Sabotage::Nothing | Sabotage::SkippedRecord | Sabotage::ImmortalTokens => {}
        }
        Ok(())
    }
}

/// The state in which no token lives longer than half of what it was promised.
fn halved(mut state: State) -> State {
    for token in state.tokens.values_mut() {
        if let Some(end) = &mut token.end {
            let half = |end: i64, from: i64| from.saturating_add(end.saturating_sub(from) / 2);
            *end = Span { from: half(end.from, token.created.from), to: half(end.to, token.created.to) };
        }
    }
    state
}

/// What must never be seen of an act.
fn secrets_of(act: &Act) -> Vec<(&'static str, &str)> {
    match act {
        Act::Put1 { value, .. } | Act::Put2 { value, .. } | Act::PutOwn { value, .. } => vec![("a value", value)],
        Act::WritePolicy { policy, .. } => vec![("the text of a policy", &policy.comment)],
        _ => Vec::new(),
    }
}
